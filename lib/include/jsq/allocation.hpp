// Bit allocation: which width each element gets. JointSQ (Xie et al., CVPR 2024, section 3.3) poses it as a
// multiple-choice knapsack; its answer is a threshold for each width, so an Allocation is O(1) in size.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// A subset of the widths 0..8 bits, ascending. JointSQ's own is {0, 2, 4, 8}.
class JSQ_API WidthSet {
 public:
  WidthSet() : WidthSet({0, 2, 4, 8}) {}
  /// \throws Error usage when empty, not ascending, or beyond 8.
  WidthSet(std::initializer_list<uint32_t> widths) : WidthSet(std::vector<uint32_t>(widths)) {}
  explicit WidthSet(std::vector<uint32_t> widths);

  uint32_t size() const noexcept { return uint32_t(widths_.size()); }
  uint32_t operator[](uint32_t index) const noexcept { return widths_[index]; }
  const std::vector<uint32_t>& widths() const noexcept { return widths_; }
  uint32_t widest() const noexcept { return widths_.back(); }
  /// Bits that class j costs more than class j - 1 (j >= 1).
  uint32_t increment_bits(uint32_t j) const noexcept { return widths_[j] - widths_[j - 1]; }
  /// Fall of the model noise 4^-b from class j - 1 to class j, in units of g^2 (Eq. 11).
  double increment_profit(uint32_t j) const noexcept;

 private:
  std::vector<uint32_t> widths_;
};

/// An allocator's answer. Class j holds the elements whose magnitude key is above `threshold_key[j]`, or
/// equal to it with an index below `cutoff_index[j]`, and that are in no higher class.
struct Allocation {
  WidthSet widths;
  std::vector<uint64_t> at_least;       ///< [j]: elements of class j or above; [0] is the number of elements
  std::vector<uint32_t> threshold_key;  ///< [j]: bits of the class's smallest magnitude; [0] unused
  std::vector<uint64_t>
      cutoff_index;  ///< [j]: ties at the threshold are in the class below this index; [0] unused
  std::vector<uint32_t> low_key,
      high_key;               ///< [j]: smallest and largest magnitude of the class (empty class: 0)
  uint64_t payload_bits = 0;  ///< sum of the widths over all elements

  uint64_t members(uint32_t j) const noexcept {
    return at_least[j] - (j + 1 < at_least.size() ? at_least[j + 1] : 0);
  }
  /// JointSQ's k: elements whose width is above 0.
  uint64_t kept() const noexcept {
    return widths[0] == 0 ? (at_least.size() > 1 ? at_least[1] : 0) : at_least[0];
  }
};

enum class AllocatorKind : uint8_t { exact = 0, literal = 1, sampled = 2 };
enum class ReallocationKind : uint8_t { none = 0, paper = 1, hill = 2 };

JSQ_API std::string_view allocator_name(AllocatorKind kind) noexcept;
JSQ_API std::string_view reallocation_name(ReallocationKind kind) noexcept;

struct AllocationOptions {
  AllocatorKind allocator = AllocatorKind::exact;
  ReallocationKind reallocation = ReallocationKind::none;
  uint32_t rounds = 10;         ///< T: rounds of reallocation at most
  double first_extra_bits = 0;  ///< q: map bits charged to an element's first width (index-aware densities)
  double sample_ratio = 0.01;   ///< share of the elements that `sampled` looks at
  uint64_t seed = 0;
};

/// One round of reallocation, as JointSQ's adaptive parameter R sees it (Eqs. 15 and 16).
struct ReallocationStep {
  double r = 0;      ///< R = 8 k / c
  double noise = 0;  ///< h' per element after the round
  uint64_t kept = 0;
};

/// Allocates at most `payload_bits` bits to `values`. The same answer for any thread count; O(n) for each
/// pass, a handful of passes. `log`, when given, receives the rounds of reallocation. \throws Error
/// unreachable_target when the narrowest width alone costs more.
JSQ_API Allocation allocate(std::span<const float> values, const WidthSet& widths, uint64_t payload_bits,
                            const AllocationOptions& options = {},
                            std::vector<ReallocationStep>* log = nullptr);

/// The class of every element under an allocation (for tests and analysis). O(n).
JSQ_API std::vector<uint8_t> class_map(std::span<const float> values, const Allocation& allocation);

/// JointSQ's noise models for an allocation of `values`, each in units of |g|^2.
struct NoiseReport {
  double per_element = 0;  ///< h' = sum 4^-b_i g_i^2 / |g|^2 (Eqs. 8, 11): the headline
  double eq6 = 0;          ///< h' of Eq. 6, literally: every class's share times its size
  double eq6_nonzero = 0;  ///< Eq. 6 with the size of the 0-bit class taken as 1
  double uniform = 0;  ///< h of Eq. 3, k / 4^b, for the best uniform co-compressor of the same payload bits
  uint32_t uniform_bits = 0;  ///< that co-compressor's b
};
/// O(n).
JSQ_API NoiseReport analyze_noise(std::span<const float> values, const Allocation& allocation);
/// The same from class sizes and class energies. O(1).
JSQ_API NoiseReport noise_of_classes(const WidthSet& widths, const std::vector<uint64_t>& members,
                                     const std::vector<double>& class_energy);

/// Eq. 9 for the step from one allocation to another, with the factor 4^-b of both sides kept, so that the
/// elements need not start at one width: h' falls exactly when the gain is above the loss. Both in units of
/// |g|^2.
struct ExchangeReport {
  double gain = 0;  ///< sum of (4^-b - 4^-b') g^2 over the elements whose width rises from b to b'
  double loss = 0;  ///< sum of (4^-b' - 4^-b) g^2 over those whose width falls
  bool improves() const noexcept { return gain > loss; }
};
/// O(n).
JSQ_API ExchangeReport exchange_between(std::span<const float> values, const Allocation& from,
                                        const Allocation& to);

}  // namespace jsq
