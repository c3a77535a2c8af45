// Sparse methods on the device: it lists the elements that are kept and sums the errors of all of them; the
// host packs what is listed, which is little more than what it writes. Beside device.hpp, so that only sparse
// methods see it.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/levels.hpp"
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

/// Magnitude keys of elements phase, phase + stride, ... of the pool, in this order. Reads these alone.
/// \pre as above
std::vector<uint32_t> strided_keys(PoolValues& pool, uint64_t stride, uint64_t phase);
/// Elements with at least this key, by chunk of sum_chunk elements (no chunk crosses a tensor's border), in
/// pool order. O(elements).  \pre as above
std::vector<uint32_t> counts_from(PoolValues& pool, uint32_t key);

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

/// How kept elements of a frame are stored.
struct SparseFormat {
  bool random = false;  ///< positions by `subset`; otherwise a class block has them with the signs
  element::SubsetCut subset;
  uint32_t steps = 0;  ///< levels of a uniform grid; 0: exact values
  // of exact values
  element::StoredFloat format = element::StoredFloat::whole;
  uint32_t shift = 0, base = 0, bits = 0;
  float gain = 1;
};

/// Decodes blocks of one sparse format.
class SparseDecoder {
 public:
  /// A block whose head is read: where its parts lie, in bytes from the beginning of all.
  struct Block {
    uint64_t offset = 0;  ///< of its first byte
    uint64_t bytes = 0;   ///< 0: all zeros
    size_t first = 0;     ///< of its values
    size_t count = 0;
    bool sound = true;                     ///< otherwise it is passed by
    uint32_t map_at = 0, map_bytes = 0;    ///< of the class block, from the first byte
    uint32_t plane_at = 0;                 ///< of exact values, from the first byte
    LevelDecoder::Block levels;            ///< of levels, but for its values' place and number
    uint64_t seed = 0, first_element = 0;  ///< of random positions
    uint32_t tensor = 0;                   ///< number in the archive
  };
  virtual ~SparseDecoder() = default;
  /// sound[i]: whether the values of block i may be used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> sound) = 0;
};
/// Of positions that are stored, `composition`, `frequencies` and `points` as make_class_decoder has them:
/// two classes, whose points are 1 and -1.
std::unique_ptr<SparseDecoder> make_sparse_decoder(const SparseFormat& format,
                                                   const ClassComposition& composition,
                                                   std::span<const uint32_t> frequencies,
                                                   std::span<const float> points);

/// Sums of `blocks`, which decode to `decoded`. O(elements): reads every value once.  \throws DeviceError
std::vector<SparseSums> sum_sparse_errors(PoolValues& pool, std::span<const BlockRange> blocks,
                                          std::span<const SparseDecoded> decoded,
                                          const SparseExpectation& expectation);

}  // namespace jsq::cuda
