// Blocks of levels coded on the device, for any method whose blocks are levels: the method says what a
// block's layout is by what was counted of it.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cuda/levels.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq {

class LevelDeviceBlocks final : public DeviceBlocks {
 public:
  /// The layout of a block, and its sums but for what depends on its bytes.
  using Choose = std::function<cuda::LevelLayout(const PoolBlock& block, const cuda::LevelSums& found,
                                                 std::span<const uint32_t> counts, BlockSums& sums)>;
  /// Adds to the sums of a block with bytes what depends on them.
  using Finish = std::function<void(const PoolBlock& block, size_t bytes, BlockSums& sums)>;

  /// All blocks of the pool, which outlives this.  \throws Error backend_unavailable.
  LevelDeviceBlocks(const TensorPool& pool, uint8_t block_log2, cuda::LevelPlan plan, Choose choose,
                    Finish finish = {})
      : blocks_(pool_blocks(pool, block_log2)), choose_(std::move(choose)), finish_(std::move(finish)) {
    const auto layout = [this](size_t block, const cuda::LevelSums& found, std::span<const uint32_t> counts) {
      return choose_(blocks_[block], found, counts, waiting_.emplace_back());
    };
    coded_ = on_device([&] { return cuda::encode_levels(*pool.device(), std::move(plan), blocks_, layout); });
  }

  void next(std::string& out, BlockSums& sums) override {
    const std::string_view bytes = on_device([&] { return coded_->next(); });
    sums = waiting_.front();
    waiting_.pop_front();
    const PoolBlock& block = blocks_[taken_++];
    if (finish_ && !bytes.empty()) finish_(block, bytes.size(), sums);
    out.append(bytes);
  }

 private:
  std::vector<PoolBlock> blocks_;
  Choose choose_;
  Finish finish_;
  std::deque<BlockSums> waiting_;  ///< of blocks whose layout is chosen
  size_t taken_ = 0;
  std::unique_ptr<cuda::LevelBlocks> coded_;
};

}  // namespace jsq
