// What coding a dump to a target really loses, and for a mixed-precision method what its models say. The
// allocators (exact, literal, sampled, and the paper's greedy with reallocation) are compared at one cost:
// the payload bits c that the method itself spends when it meets the target. Each is then encoded and decoded
// for real at that target, where class map and scales are paid for too.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "jsq/allocator_models.hpp"
#include "round_trip.hpp"
#include "trials.hpp"

namespace jsq::tools {

/// What a real encode and decode did to one tensor of the dump.
struct CodedTensor {
  uint64_t elements = 0, input_bytes = 0;
  uint64_t block_bytes =
      0;  ///< its blocks in the frame with their checksums; what tensors share is not in it
  Distortion distortion;
  std::optional<Trials> trials;
};

/// A real encode and decode at the target.
struct CodedNoise {
  uint64_t file_bytes = 0;
  double file_ratio = 0, bits_per_element = 0;
  uint64_t payload_bits = 0;
  double hprime = 0;                 ///< h' per element of the allocation that was coded; NaN without classes
  double expected_nmse = 0;          ///< exact expectation over the rounding; NaN where it has no closed form
  Distortion distortion;             ///< measured
  std::vector<CodedTensor> tensors;  ///< in the dump's order
  std::optional<Trials> trials;

  /// True where the measured error is more than twice what the model says, or less than half.
  bool far_from_model() const noexcept {
    return distortion.nmse() > 2 * hprime || distortion.nmse() < 0.5 * hprime;
  }
};

struct AllocatorStudy {
  std::string allocator;  ///< exact, literal, sampled, reallocated; "as given" without models
  std::optional<ModelNoise> model;
  std::vector<ModelNoise> tensors;  ///< the same allocation seen tensor by tensor
  std::optional<CodedNoise> coded;
  std::vector<double> thresholds;  ///< smallest magnitude of each class; [0] is 0
  std::string problem;             ///< why there is none: the target is not reachable with this allocator
};

struct NoiseStudy {
  std::string target;
  uint64_t elements = 0;
  uint64_t payload_bits = 0;     ///< c
  std::vector<uint32_t> widths;  ///< of the classes
  std::vector<AllocatorStudy> allocators;
};

struct StudyOptions {
  bool models = false;              ///< study the allocators; otherwise the method is coded as it is given
  unsigned trials = 0;              ///< 0: none
  uint64_t memory_limit_bytes = 0;  ///< 0: none
};

/// Studies one dump: its tensors share the budget (Scope::archive). Models need a method with an option
/// `alloc`, and five bytes an element; trials eight.
/// \throws Error usage (models of a method without allocators), limit, non_finite, unreachable_target (by the
/// method as given).
NoiseStudy study_noise(const InputDump& input, const CompressOptions& options, const StudyOptions& study);

}  // namespace jsq::tools
