// Launches of the kernels that count and code class blocks. For files of this folder only.
#pragma once

#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {

/// A block of values in device memory.
struct BlockView {
  const float* values = nullptr;
  uint32_t count = 0;  ///< 1 to 2^20
  uint32_t tensor = 0;
  uint64_t first_pool_index = 0;
  uint64_t first_element = 0;
  element::StoredFloat stored = element::StoredFloat::whole;
  bool in_full = true;  ///< of a tally: quantize too
};

/// Where a coded block lies in the output, and its sums.
struct BlockResult {
  uint64_t offset = 0;  ///< a multiple of output_alignment
  uint64_t bytes = 0;
  ClassSums sums;
};
constexpr uint64_t output_alignment = 32;

/// Scratch memory that launches of one stream share; it grows to the largest block met.
class ClassWorkspace {
 public:
  /// For blocks of up to `elements` elements.
  void prepare(const ClassComposition& composition, uint32_t elements, uint32_t blocks);

  struct Layout {
    uint32_t grid = 1;
    uint32_t shared_bytes = 0;
    uint32_t kept_reach = 0, words_reach = 0, bits_reach = 0, buckets = 0;  ///< entries in shared memory
    uint64_t kept_far = 0, words_far = 0, bits_far = 0;  ///< entries in global memory, of each block
  };
  const Layout& layout() const { return layout_; }
  uint32_t* kept() const { return kept_.data(); }
  uint16_t* words() const { return words_.data(); }
  uint32_t* bits() const { return bits_.data(); }

 private:
  Layout layout_;
  DeviceBuffer<uint32_t> kept_, bits_;
  DeviceBuffer<uint16_t> words_;
};

/// Counts blocks: adds to `tallied` and `counted` on the device, writes results[i].sums of blocks that are in
/// full.
void launch_tally(const ClassComposition& composition, const BlockView* blocks, uint32_t count,
                  ClassCounts* tallied, ClassCounts* counted, BlockResult* results, ClassWorkspace& workspace,
                  const Stream& stream);
/// Codes blocks into out[0, capacity); `used` (zero before) ends as the bytes that all blocks need. Blocks
/// that do not fit are not written, so that the caller can come again with more room. All pointers on the
/// device.
void launch_encode(const ClassComposition& composition, const element::RansSymbol* symbols,
                   const BlockView* blocks, uint32_t count, uint32_t* out, uint64_t capacity,
                   unsigned long long* used, BlockResult* results, ClassWorkspace& workspace,
                   const Stream& stream);

}  // namespace jsq::cuda
