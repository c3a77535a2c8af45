// What the rest of jsq asks of a CUDA device. Nothing here needs CUDA's own headers, and a build without nvcc
// has all of it (absent.cpp), so that callers need no conditions.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/element/class_layout.hpp"
#include "kernels/element/class_plan.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/rans.hpp"
#include "kernels/element/summary.hpp"

namespace jsq::cuda {

/// A call to the device failed; the message has the runtime's reason.
class DeviceError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct DeviceProbe {
  bool found = false;
  std::string detail;  ///< the device's name and capability, or the reason there is none
};
/// Asks the CUDA runtime once; never throws.
DeviceProbe probe_device();

/// A block of a pool: `count` elements of pool tensor `tensor` from element `first` on.
struct BlockRange {
  size_t tensor = 0;
  uint64_t first = 0;
  size_t count = 0;
};

/// The same composition as ClassCoder (lib/packers/class_block.hpp), in plain data.
struct ClassComposition {
  element::ClassPlan plan;
  element::MapPacker map = element::MapPacker::entropy;
  uint32_t lanes = 8;
  uint32_t buckets = 0;
  bool map_coded = false;
  uint32_t magnitudes_coded = 0;        ///< bit j - 1: magnitudes of class j are entropy-coded
  uint32_t magnitudes_by_activity = 0;  ///< bit j - 1: with one table for each activity
};

/// Sums over a coded block. Those in double have the order of the processors' kernels: 16 lanes folded by
/// halving.
struct ClassSums {
  uint64_t members[element::max_classes] = {};  ///< kept elements of each class
  double class_energy[element::max_classes] = {};
  double squared_error = 0, dot = 0, decoded_energy = 0, error_sum = 0, max_error = 0;  ///< of kept elements
  double dropped_sum = 0, dropped_energy = 0;  ///< stretches between tie cutoffs apart, left to right
  double expected_error = 0;                   ///< of kept elements, where rounding is stochastic
  float dropped_max = 0;
};

/// Counts of blocks, as ClassTally has them.
struct ClassCounts {
  uint64_t members[element::max_classes] = {};
  uint64_t activity[element::max_activity_buckets][element::rans_max_symbols] = {};
  uint64_t classes[element::max_activity_buckets][element::rans_max_symbols] = {};
  uint64_t magnitude[element::max_classes][element::max_activity_buckets][element::rans_max_symbols] = {};
  uint64_t rice_bits = 0;
};

/// Coded blocks, handed out one after the other while the device works on the next ones.
class CodedBlocks {
 public:
  virtual ~CodedBlocks() = default;
  /// The next block of those that were asked for: its bytes (valid until the next call) and sums.  \throws
  /// DeviceError.
  virtual std::string_view next(ClassSums& sums) = 0;
};

/// The values of a pool of tensors as the device sees them: resident where they fit, else brought over batch
/// by batch in every pass. Not thread-safe: one pass at a time.
class PoolValues {
 public:
  /// Elements [first, first + count) of pool tensor t, in `scratch` where they need room. Finite or not.
  using Read = std::function<std::span<const float>(size_t t, uint64_t first, size_t count,
                                                    std::vector<float>& scratch)>;
  struct Tensor {
    uint64_t elements = 0;
    uint32_t number = 0;  ///< in the archive: the tensor number of random streams
    element::StoredFloat stored = element::StoredFloat::whole;
  };
  virtual ~PoolValues() = default;

  /// Sums of every chunk of sum_chunk elements (no chunk crosses a tensor's border), in pool order; adds
  /// finite elements to `histogram` (summary_bins counters).
  virtual std::vector<element::ChunkSums> summarise(std::span<uint64_t> histogram) = 0;
  /// Adds 1 to counts[256 r + cell] for every element whose key lies in range r.
  virtual void refine(std::span<const element::KeyRange> ranges, std::span<uint64_t> counts) = 0;
  /// Elements with this key, by chunk as in summarise().
  virtual std::vector<uint32_t> count_key(uint32_t key) = 0;
  /// Sums of (g - centres[t])^2 over elements of tensor t, by chunk as in summarise().
  virtual std::vector<double> squares_about(std::span<const double> centres) = 0;
  /// All keys and how often each occurs, ascending.
  struct KeyCounts {
    std::vector<uint32_t> keys, counts;
  };
  virtual KeyCounts sorted_keys() = 0;

  /// Counts `blocks`; those with in_full[i] also their magnitudes, map and sums[i], the others only classes
  /// and activities, which go to `counted`.
  virtual void tally(const ClassComposition& composition, std::span<const BlockRange> blocks,
                     std::span<const uint8_t> in_full, ClassCounts& tallied, ClassCounts& counted,
                     std::span<ClassSums> sums) = 0;
  /// Codes `blocks`, in order, with the tables of `symbols` (coding_tables x rans_max_symbols).
  virtual std::unique_ptr<CodedBlocks> encode(const ClassComposition& composition,
                                              std::span<const element::RansSymbol> symbols,
                                              std::span<const BlockRange> blocks) = 0;
};

/// \throws DeviceError without a usable device.  `most_resident` elements stay on the device; 0: as many as
/// fit well.
std::unique_ptr<PoolValues> make_pool_values(std::vector<PoolValues::Tensor> tensors, PoolValues::Read read,
                                             uint64_t most_resident = 0);

/// Decodes class blocks of one composition.
class ClassDecoder {
 public:
  struct Block {
    uint64_t offset = 0;  ///< in the bytes
    uint64_t bytes = 0;   ///< 0: all zeros
    uint64_t first = 0;   ///< of its values
    size_t count = 0;
  };
  virtual ~ClassDecoder() = default;
  /// values of `blocks`; the entry of ok tells whether the block is sound: otherwise its values are not to be
  /// used. Not thread-safe.
  virtual void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                      std::span<uint8_t> ok) = 0;
};

/// `frequencies`: coding_tables x rans_max_symbols, all 0 in tables that the model lacks; `points`: the
/// decoded value of code word c of class j is points[256 j + sign x 2^(width - 1) + magnitude].
std::unique_ptr<ClassDecoder> make_class_decoder(const ClassComposition& composition,
                                                 std::span<const uint32_t> frequencies,
                                                 std::span<const float> points);

}  // namespace jsq::cuda
