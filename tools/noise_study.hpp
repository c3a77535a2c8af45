// What a mixed-precision method is predicted to lose, beside what it does lose. The three allocators (exact,
// literal, sampled) are compared at one cost: the payload bits c that the method itself spends when it meets
// the target. Each is then encoded and decoded for real at that target, where class map and scales are paid
// for too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "jsq/allocation.hpp"
#include "round_trip.hpp"

namespace jsq::tools {

/// Model noise of one allocator at c payload bits, on the whole dump or on one tensor of it.
struct ModelNoise {
  uint64_t payload_bits = 0;  ///< spent; at most c
  NoiseReport noise;  ///< of one tensor: no Eq. 3 (its co-compressor has the budget of the whole dump)
};

/// A real encode and decode with that allocator at the target.
struct CodedNoise {
  double file_ratio = 0;
  uint64_t payload_bits = 0;
  double hprime = 0;      ///< h' per element of the allocation that was coded
  Distortion distortion;  ///< measured
  std::vector<Distortion> tensors;

  /// True where the measured error is more than twice what the model says.
  bool exceeds_model() const noexcept { return distortion.nmse() > 2 * hprime; }
};

struct AllocatorStudy {
  std::string allocator;  ///< exact, literal, sampled
  ModelNoise model;
  std::vector<ModelNoise> tensors;  ///< the same allocation seen tensor by tensor
  std::optional<CodedNoise> coded;
  std::string problem;  ///< why there is none: the target is not reachable with this allocator
};

struct NoiseStudy {
  std::string target;
  uint64_t elements = 0;
  uint64_t payload_bits = 0;  ///< c
  std::vector<AllocatorStudy> allocators;
};

/// Studies one dump: its tensors share the budget (Scope::archive). `options.method` needs an option `alloc`.
/// Memory: five bytes an element; `memory_limit_bytes` (0: none) bounds that.
/// \throws Error usage (a method without allocators), limit, non_finite, unreachable_target (by the method as
/// given).
NoiseStudy study_noise(const InputDump& input, const CompressOptions& options, uint64_t memory_limit_bytes);

}  // namespace jsq::tools
