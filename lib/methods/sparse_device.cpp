// Sparse methods on a device: it lists what is kept and sums the errors of every element; what is kept, the
// few that travel, is packed here by the processor's own packers.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/sparse.hpp"
#include "lib/core/device.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/methods/sparse.hpp"
#include "lib/methods/sparse_block.hpp"

namespace jsq {
void SparseScheme::list_on_device(std::span<const PoolBlock> blocks) {
  cuda::Selection selection;
  selection.random = plan_.positions != Positions::magnitude;
  selection.largest = cut_;
  selection.subset = subset_cut_;
  selection.seed = plan_.positions == Positions::shared_random ? context_.seed : context_.stream;
  std::vector<cuda::KeptElements> found =
      on_device([&] { return cuda::list_kept(*pool_.device(), selection, blocks, k_); });
  for (size_t b = 0; b < blocks.size(); ++b) {
    KeptList& list = *list_of(blocks[b].tensor, blocks[b].first);
    list.indices = std::move(found[b].indices);
    list.values = std::move(found[b].values);
    list.known = true;
  }
  on_device_ = true;
}

RandomSubset::Lister SparseScheme::words_on_device(uint64_t seed) const {
  return [this, seed](std::span<const SubsetStretch> stretches, uint32_t limit, double expected) {
    cuda::Selection selection;
    selection.random = true;
    selection.subset = {limit, UINT32_MAX, UINT64_MAX};
    selection.seed = seed;
    const std::vector<PoolBlock> ranges = pool_blocks(pool_, 16);
    const auto most = uint64_t(expected + 16 * std::sqrt(expected) + 1024);
    std::vector<cuda::KeptElements> found =
        on_device([&] { return cuda::list_kept(*pool_.device(), selection, ranges, most); });
    std::vector<std::vector<uint32_t>> lists(stretches.size());
    for (size_t s = 0; s < lists.size(); ++s) lists[s] = std::move(found[s].indices);
    return lists;
  };
}

/// Groups of blocks: coded by the processor from lists, their errors summed by the device.
class SparseDeviceBlocks final : public DeviceBlocks {
 public:
  SparseDeviceBlocks(const SparseScheme& scheme, const TensorPool& pool)
      : scheme_(scheme), pool_(pool), blocks_(pool_blocks(pool, scheme.block_log2())) {}

  void next(std::string& out, BlockSums& sums) override {
    if (taken_ == end_) code_group();
    const Coded& block = group_[taken_++ - begin_];
    out.append(block.bytes);
    sums = block.sums;
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 26;

  struct Coded {
    std::string bytes;
    BlockSums sums;
    std::vector<uint32_t> kept;
    std::vector<float> decoded, coded;  ///< rounded to the stored type, and before where that differs
    SparseScheme::Moments moments;
  };

  void code_group() {
    begin_ = end_;
    for (uint64_t elements = 0; end_ < blocks_.size() && elements < group_elements; ++end_)
      elements += blocks_[end_].count;
    group_.assign(end_ - begin_, {});
    tbb::parallel_for(size_t(0), group_.size(), [&](size_t b) { code(blocks_[begin_ + b], group_[b]); });
    std::vector<cuda::SparseDecoded> decoded;
    for (const Coded& block : group_) decoded.push_back({block.kept, block.decoded, block.coded});
    cuda::SparseExpectation expectation;
    const SparsePlan& plan = scheme_.plan_;
    if (plan.positions != Positions::magnitude) expectation.format = stored_format(plan.values);
    expectation.gain = double(scheme_.gain());
    expectation.share = scheme_.share_kept();
    const auto ranges = std::span(blocks_).subspan(begin_, group_.size());
    const std::vector<cuda::SparseSums> sums =
        on_device([&] { return cuda::sum_sparse_errors(*pool_.device(), ranges, decoded, expectation); });
    for (size_t b = 0; b < group_.size(); ++b) add(sums[b], group_[b]);
  }

  void code(const PoolBlock& place, Coded& coded) const {
    SparseScheme::Block& block = SparseScheme::Block::of_thread();
    scheme_.list_kept(place.tensor, place.first, place.count, {}, block);
    scheme_.code_values(place.tensor, scheme_.place_of(place), place.count, block, true);
    scheme_.pack(scheme_.place_of(place), place.count, block, coded.bytes, coded.sums);
    coded.moments = block.moments;
    if (coded.bytes.empty()) return;
    coded.kept = block.kept;
    coded.decoded = block.decoded;
    const DType dtype = pool_.tensors()[place.tensor].info->dtype;
    if (dtype == DType::f32) return;
    coded.coded = block.decoded;
    round_to_stored(dtype, coded.decoded);
  }

  /// What the device summed, in the places where SizedEncoder puts it.
  void add(const cuda::SparseSums& found, Coded& coded) const {
    BlockSums& sums = coded.sums;
    sums.expected_error +=
        scheme_.deterministic()
            ? found.coded_squared_error
            : scheme_.expected_error({found.energy, found.random_sent_error}, coded.moments);
    sums.squared_error += found.squared_error;
    sums.dot += found.dot;
    sums.decoded_energy += found.decoded_energy;
    sums.error_sum += found.error_sum;
    sums.max_error = std::max(sums.max_error, found.max_error);
  }

  const SparseScheme& scheme_;
  const TensorPool& pool_;
  std::vector<PoolBlock> blocks_;
  std::vector<Coded> group_;
  size_t taken_ = 0, begin_ = 0, end_ = 0;
};

std::unique_ptr<DeviceBlocks> SparseScheme::encode_on_device(const TensorPool& pool) const {
  if (!on_device_) return nullptr;
  return std::make_unique<SparseDeviceBlocks>(*this, pool);
}

}  // namespace jsq
