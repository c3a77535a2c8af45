// Compress dumps into a frame, and measure what that lost.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/allocation.hpp"
#include "jsq/backend.hpp"
#include "jsq/export.hpp"
#include "jsq/gradients.hpp"
#include "jsq/method.hpp"
#include "jsq/target.hpp"

namespace jsq {

class State;

/// One dump to put into an archive. `path` is what decompress writes it as: relative, '/'-separated.
struct InputDump {
  std::string path;
  std::shared_ptr<const GradientSource> source;
  std::vector<size_t> tensors;  ///< which of its tensors, ascending; empty with `all` set means all
  bool all = true;
  /// By tensor of the source: shapes, in C order, of the layers that a flat tensor joins, for methods that
  /// use rows and columns. Their elements, one after the other, are the tensor's.
  std::map<size_t, std::vector<std::vector<uint64_t>>> layers;
};

enum class NonFinitePolicy : uint8_t { error = 0, zero = 1, keep = 2 };
enum class Scope : uint8_t {
  archive,  ///< one budget and one multiplier for all tensors
  tensor,   ///< the same target for each tensor on its own, as JointSQ's paper does
};
enum class Rounding : uint8_t { automatic, nearest, stochastic };

struct CompressOptions {
  MethodSpec method;
  Target target;
  RatioKind ratio_kind = RatioKind::file;
  Scope scope = Scope::archive;
  Rounding rounding = Rounding::automatic;  ///< automatic: what the method's quantizer is defined with
  NonFinitePolicy nonfinite = NonFinitePolicy::error;
  uint64_t seed = 0;
  unsigned threads = 0;            ///< 0: all cores. The bytes do not depend on it.
  Backend backend = Backend::cpu;  ///< who codes. The bytes do not depend on it.
  /// Whether the report says what was lost. To measure it takes fast methods as long as to code; without, the
  /// report's errors and entropies are NaN, and sizes alone are told. The bytes do not depend on it.
  bool measure = true;
  std::vector<std::pair<std::string, std::string>> metadata;  ///< stored in the frame
  /// A step of a sequence: codes with feedback from this state and leaves it for the next step (unchanged
  /// when compress throws). Arrays of the size of the gradient are held in memory. Reported errors are those
  /// of what was coded.
  State* state = nullptr;
  std::optional<Feedback> feedback;  ///< with a state; empty: what the method's paper prescribes
  std::optional<double> momentum;    ///< with a state; empty: the method's option
  uint32_t worker = 0;               ///< gives workers random numbers of their own
  /// Called from one thread with done and total work in elements; may throw to stop.
  std::function<void(uint64_t done, uint64_t total)> progress;
};

/// Sets `feedback` and `momentum` from "auto" (what the method's paper prescribes), "none", "plain",
/// "momentum" or "momentum:M" (momentum correction and masking, with M of [0, 1)).  \throws Error usage.
JSQ_API void set_feedback(CompressOptions& options, std::string_view text);

/// Measured error of decoded values, sums over the elements.
struct Distortion {
  uint64_t elements = 0;
  double energy = 0;          ///< sum g^2
  double squared_error = 0;   ///< sum (g^ - g)^2
  double dot = 0;             ///< sum g g^
  double decoded_energy = 0;  ///< sum g^^2
  double error_sum = 0;       ///< sum (g^ - g)
  double max_error = 0;

  /// squared_error / energy; 0 when both are 0, infinity when only the energy is. NaN of what was not
  /// measured.
  JSQ_API double nmse() const noexcept;
  /// dot / sqrt(energy decoded_energy); 1 when both are zero vectors. NaN of what was not measured.
  JSQ_API double cosine() const noexcept;
  JSQ_API void add(const Distortion& other) noexcept;
};
/// Error of `decoded` against `original`, both f32. \pre equal sizes. O(n), defined order.
JSQ_API Distortion distortion(std::span<const float> original, std::span<const float> decoded);

/// What coding one pool of tensors (the archive, or one tensor with Scope::tensor) came to.
struct PoolReport {
  std::vector<uint32_t> widths;   ///< of the classes
  std::vector<uint64_t> members;  ///< elements of each class
  NoiseReport noise;              ///< model noise; NaN for methods without width classes
  uint64_t payload_bits =
      0;  ///< nominal: what the method's paper counts (class methods: the sum of the widths)
  double expected_squared_error =
      std::numeric_limits<double>::quiet_NaN();  ///< over the rounding; NaN where it has no closed form
  double entropy_bits = 0;                       ///< ideal code lengths of everything in the blocks
  uint64_t map_bytes = 0, value_bytes = 0;  ///< split of the blocks, estimated from the ideal code lengths
  std::vector<ReallocationStep> reallocation;
  std::string map_packer;      ///< raw, bitmap, rice, entropy
  uint64_t dense_tensors = 0;  ///< tensors that a low-rank method stored whole: no matrix, or too small a one
};

struct TensorReport {
  std::string name;
  std::vector<uint64_t> shape;
  DType dtype = DType::f32;
  uint64_t input_bytes = 0;
  uint64_t block_bytes = 0;  ///< stored blocks with their checksums
  uint64_t code_bytes = 0;   ///< stored blocks without them
  uint64_t nonfinite = 0;
  uint32_t pool = 0;      ///< index into CompressReport::pools
  Distortion distortion;  ///< of the values as they will be written back, rounded to the stored dtype
};

struct CompressReport {
  uint64_t elements = 0;
  uint64_t input_bytes = 0;
  uint64_t file_bytes = 0;
  uint64_t budget_bytes = 0;  ///< what the target allowed; 0 for an error or payload target
  uint64_t frame_bytes =
      0;  ///< header, checksums, directory, footer: everything but blocks and parameter sets
  uint64_t parameter_bytes = 0;
  Distortion distortion;
  std::vector<PoolReport> pools;
  std::vector<TensorReport> tensors;
  double seconds = 0;

  JSQ_API double file_ratio() const noexcept;
  JSQ_API double payload_ratio() const noexcept;  ///< 32 x elements (or 16, 64 by dtype) / payload bits
  JSQ_API double bits_per_element() const noexcept;
  JSQ_API double hprime() const noexcept;  ///< energy-weighted over the pools
};

/// Receives the frame's bytes in order.
class JSQ_API ByteSink {
 public:
  virtual ~ByteSink() = default;
  /// \throws Error write_failed.
  virtual void write(std::span<const std::byte> bytes) = 0;
};
/// Appends to a string.
class JSQ_API MemorySink final : public ByteSink {
 public:
  void write(std::span<const std::byte> bytes) override;
  std::string bytes;
};
/// Writes to an open file descriptor, which it does not close; `name` is for messages.
class JSQ_API FileSink final : public ByteSink {
 public:
  FileSink(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  void write(std::span<const std::byte> bytes) override;

 private:
  int descriptor_;
  std::string name_;
};

/// Writes all of `inputs` as one frame (SPEC.md). The frame is never larger than a size target allows, and
/// uses it to 99 % or more where the method allows. The same bytes for any thread count. Reads the inputs a
/// few times; memory is a few blocks per thread plus the compressed blocks up to 64 MiB (beyond that they are
/// spooled to a temporary file). \throws Error unreachable_target (names the nearest reachable), non_finite,
/// read_failed, write_failed, usage, backend_unavailable.
JSQ_API CompressReport compress(const std::vector<InputDump>& inputs, const CompressOptions& options,
                                ByteSink& out);

/// A source over one tensor in memory (for library users, bench and tests). `values` must outlive it.
JSQ_API std::shared_ptr<const GradientSource> source_of(TensorInfo info, std::span<const float> values);

}  // namespace jsq
