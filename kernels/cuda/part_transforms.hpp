// Undoes transforms of parts between places in device memory. For files of this folder only.
#pragma once

#include <memory>
#include <span>

#include "kernels/cuda/context.hpp"
#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

class TransformRun {
 public:
  explicit TransformRun(const PartTransforms& transforms);
  ~TransformRun();
  /// Elements of `pieces` in 1/256 step become values, in place. `values` are on the device.
  void launch(std::span<const UnitPiece> pieces, float* values, const Stream& stream);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace jsq::cuda
