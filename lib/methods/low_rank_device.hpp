// Low-rank methods on a device: it multiplies, sums errors and restores; the processor makes factors
// orthonormal, which are thin, and writes them.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/cpu/thin_products.hpp"
#include "lib/methods/low_rank_factors.hpp"

namespace jsq {

/// As the processor's products along the runs, in panels of `panel` elements, and across them, in groups of
/// `group` runs.  \pre the pool is on a device  \throws Error backend_unavailable
void runs_times_on_device(const TensorPool& pool, size_t t, const MatrixView& view, uint64_t panel,
                          cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> out);
void across_runs_on_device(const TensorPool& pool, size_t t, const MatrixView& view, uint64_t group,
                           cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> out);

/// A tensor of the pool as it goes: dense, or as factors.
struct LowRankTensor {
  const MatrixView* view = nullptr;  ///< null: dense
  const StoredFactors* stored = nullptr;
};
/// All blocks of the pool. `pack` appends a block of factors and adds to its sums what needs no values;
/// nothing appended means zeros.
std::unique_ptr<DeviceBlocks> low_rank_blocks_on_device(
    const TensorPool& pool, std::vector<LowRankTensor> tensors,
    std::function<void(const PoolBlock& block, std::string& out, BlockSums& sums)> pack);

/// `stored` and `inner_of` (the inner factor of a tensor, null where it does not fit it) outlive the result.
using InnerOf = std::function<std::shared_ptr<const std::vector<float>>(const BlockPlace& place)>;
std::unique_ptr<DeviceBlockDecoder> make_low_rank_device_decoder(const StoredFactors& stored,
                                                                 InnerOf inner_of);

}  // namespace jsq
