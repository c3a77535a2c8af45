// Thin products on the device: what low-rank methods ask of a matrix, in the order of the processors' sums,
// and the sums of outer products that their factors stand for. Beside device.hpp, so that only they see it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"

namespace jsq::cuda {

/// A tensor of a pool as `count` stored runs of `width` elements.
struct StoredRuns {
  size_t tensor = 0;
  uint64_t width = 0, count = 0;
  uint64_t first = 0;  ///< element at which they begin
};

/// f32 columns: number (i, k) is numbers[k * stride + i].
struct ThinColumns {
  const float* numbers = nullptr;
  size_t stride = 0;
  size_t columns = 0;  ///< 1 to 8
};

/// Dot products of the panels of all runs, `panel` elements each but for the last of a run, with the rows of
/// `factor` that they face: [k][run][panel]. Lane l of 8 adds elements l, l + 8, ...; lanes are folded by
/// halving. O(elements columns).  \pre panel <= 65536  \throws DeviceError
std::vector<double> panel_products(PoolValues& pool, const StoredRuns& runs, uint64_t panel,
                                   const ThinColumns& factor);

/// Weighted sums of the runs: [k][i]. Groups of `group` consecutive runs are summed in order, and added in
/// order. O(elements columns).  \throws DeviceError
std::vector<double> weighted_runs(PoolValues& pool, const StoredRuns& runs, uint64_t group,
                                  const ThinColumns& weights);

/// Values as sums of `rank` outer products times 2^exponent.
struct OuterProduct {
  uint64_t width = 0;  ///< elements of a run
  size_t rank = 0;
  int32_t exponent = 0;
  std::span<const float> inner;  ///< [k][width]
};

/// Sums over a block, in the order of cpu::error_sums.
struct OuterSums {
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0, max_error = 0;
  double coded_squared_error = 0;  ///< before the stored type rounds
};
/// Errors of all blocks of a tensor of `runs`, which decode to the product with `outer` ([k][run]); where
/// zero[b] is set, block b decodes to zeros. Blocks have at most sum_chunk elements.  \throws DeviceError
std::vector<OuterSums> sum_outer_errors(PoolValues& pool, const OuterProduct& product,
                                        std::span<const float> outer, uint64_t runs,
                                        std::span<const BlockRange> blocks, std::span<const uint8_t> zero);

/// Decodes blocks from rows of the outer factor.
class OuterDecoder {
 public:
  struct Block {
    uint64_t first_element = 0;  ///< in the tensor
    size_t first = 0;            ///< of its values
    size_t count = 0;            ///< 0: nothing to do
    size_t numbers = 0;          ///< its rows, row by row, from this number on
    bool zero = false;           ///< decodes to zeros
  };
  virtual ~OuterDecoder() = default;
  /// Values of blocks of one tensor. Not thread-safe.
  virtual void decode(const OuterProduct& product, std::span<const float> numbers,
                      std::span<const Block> blocks, std::span<float> values) = 0;
};
std::unique_ptr<OuterDecoder> make_outer_decoder();

}  // namespace jsq::cuda
