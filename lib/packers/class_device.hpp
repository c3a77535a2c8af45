// Class blocks on a device: what the device is told of a coder, and what its answers mean. The kernels and
// their order of sums are those of class_block.hpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "lib/core/pool.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq {

/// A coder in plain data.
cuda::ClassComposition device_composition(const ClassCoder& coder);

/// The sums of a block that was coded, or only tallied, on the device: those of ClassCoder, bit for bit.
BlockSums block_sums(const element::ClassPlan& plan, const cuda::ClassSums& found, bool coded);

/// Counts as ClassTally has them.
ClassTally class_tally(const cuda::ClassCounts& counts);

/// What a decoder on a device is told of a coder beside its composition, as make_class_decoder has it.
struct ClassTables {
  std::vector<uint32_t> frequencies;
  std::vector<float> points;
};
ClassTables device_tables(const ClassCoder& coder);

/// Decodes blocks of `coder` on the device.  \throws Error backend_unavailable.
std::unique_ptr<cuda::ClassDecoder> make_device_decoder(const ClassCoder& coder);

}  // namespace jsq
