// Sparse methods on the device: it lists the elements that are kept and sums the errors of all of them; the
// host packs what is listed, which is little more than what it writes. Beside device.hpp, so that only sparse
// methods see it.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/device.hpp"
#include "kernels/element/sparse.hpp"

namespace jsq::cuda {

/// Which elements are kept.
struct Selection {
  bool random = false;
  element::MagnitudeCut largest;
  element::SubsetCut subset;
  uint64_t seed = 0;  ///< of the subset's random words
};

/// The kept elements of a block, by index.
struct KeptElements {
  std::vector<uint32_t> indices;
  std::vector<float> values;
};

/// Lists the kept elements of `blocks`, of which there are at most `most`. O(elements): reads every value
/// once.  \pre the pool was made by make_pool_values.  \throws DeviceError
std::vector<KeptElements> list_kept(PoolValues& pool, const Selection& selection,
                                    std::span<const BlockRange> blocks, uint64_t most);

/// What a block decodes to: the elements that are not zero, by index.
struct SparseDecoded {
  std::span<const uint32_t> indices;
  std::span<const float> decoded;  ///< as the dump stores them
  std::span<const float> coded;    ///< before the dump's type rounds; empty: the same
};

/// The errors to be summed beside those of decoded values.
struct SparseExpectation {
  element::StoredFloat format =
      element::StoredFloat::whole;  ///< other: random_sent_error is wanted of values in it
  double gain = 1, share = 0;
};

/// Sums over a block, in the order of cpu::error_sums.
struct SparseSums {
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0, max_error = 0;
  double coded_squared_error = 0;  ///< before the stored type rounds
  double energy = 0;               ///< of the values
  double random_sent_error = 0;    ///< of values sent at random in the expectation's format
};

/// Sums of `blocks`, which decode to `decoded`. O(elements): reads every value once.  \throws DeviceError
std::vector<SparseSums> sum_sparse_errors(PoolValues& pool, std::span<const BlockRange> blocks,
                                          std::span<const SparseDecoded> decoded,
                                          const SparseExpectation& expectation);

}  // namespace jsq::cuda
