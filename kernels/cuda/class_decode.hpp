// The decoder of class blocks between places in device memory. For files of this folder only.
#pragma once

#include <memory>
#include <span>

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

class ClassDecodeRun {
 public:
  /// As make_class_decoder has them.
  ClassDecodeRun(const ClassComposition& composition, std::span<const uint32_t> frequencies,
                 std::span<const float> points);
  ~ClassDecodeRun();
  /// Whether the composition can be decoded here; launch() asks for that.
  bool supported() const { return supported_; }
  /// `values` and `ok` (one a block) as ClassDecoder::decode leaves them. All pointers on the device; `bytes`
  /// has whole words.
  void launch(const uint32_t* bytes, std::span<const ClassDecoder::Block> blocks, float* values, uint8_t* ok,
              const Stream& stream);

 private:
  struct State;
  bool supported_ = false;
  std::unique_ptr<State> state_;
};

}  // namespace jsq::cuda
