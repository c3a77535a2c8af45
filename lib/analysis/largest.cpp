// Selection by counting: 128 bins an octave first, then every float of the bins that matter.
#include "jsq/largest.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <span>

#include "kernels/element/largest.hpp"

namespace jsq {

namespace {

using element::keys_of_bin;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr uint64_t fewest_in_tail = 10;
constexpr uint64_t shares[element::largest_cuts] = {1000, 100, 10};  ///< of each cut

uint64_t one_in(uint64_t n, uint64_t divisor) {
  return (n + divisor - 1) / divisor;
}

float magnitude_of(uint32_t bin, uint64_t low_bits) {
  return std::bit_cast<float>(bin << element::summary_bin_shift | uint32_t(low_bits));
}

/// Calls use(magnitude, members) for the largest `left` elements of a bin, falling.
template <class Use>
void for_largest(uint32_t bin, std::span<const uint64_t> members, uint64_t left, Use use) {
  for (uint64_t low = members.size(); low-- > 0 && left > 0;) {
    const uint64_t taken = std::min(left, members[low]);
    if (taken > 0) use(magnitude_of(bin, low), taken);
    left -= taken;
  }
}

}  // namespace

LargestElements::LargestElements(const Statistics& first_pass)
    : finite_(first_pass.summary().elements - first_pass.summary().nonfinite()),
      energy_(first_pass.summary().energy),
      tail_(one_in(finite_, shares[element::logarithm_cut])),
      cuts_(std::make_unique<element::LargestCuts>()),
      sums_(std::make_unique<element::LargestSums>()) {
  for (uint32_t& key : cuts_->from_key) key = element::first_nonfinite_key;
  uint64_t above = 0;
  for (uint32_t bin = summary_bins; finite_ > 0 && bin-- > 0;) {
    const uint64_t to = above + first_pass.summary().histogram[bin];
    const auto holds = [&](uint64_t rank) { return rank > above && rank <= to; };
    bool counted = holds(tail_ + 1);
    for (size_t cut = 0; cut < std::size(shares); ++cut) {
      if (!holds(one_in(finite_, shares[cut]))) continue;
      cuts_->from_key[cut] = (bin + 1) << element::summary_bin_shift;
      counted = true;
    }
    if (counted) {
      cuts_->bins[cuts_->bin_count++] = bin;
      above_.push_back(above);
    }
    above = to;
  }
  counts_.resize(keys_of_bin * size_t(cuts_->bin_count));
}

LargestElements::~LargestElements() = default;
LargestElements::LargestElements(LargestElements&&) noexcept = default;
LargestElements& LargestElements::operator=(LargestElements&&) noexcept = default;

void LargestElements::add_chunk(const element::LargestSums& sums) {
  for (size_t k = 0; k < std::size(sums.of); ++k) sums_->of[k] += sums.of[k];
}

/// Which of the counted bins has the element of this rank, counted from 1.
uint64_t LargestElements::bin_of(uint64_t rank) const {
  uint64_t found = 0;
  for (uint64_t b = 0; b < above_.size(); ++b)
    if (rank > above_[b]) found = b;
  return found;
}

float LargestElements::magnitude_at(uint64_t rank) const {
  const uint64_t b = bin_of(rank);
  float magnitude = 0;
  for_largest(cuts_->bins[b], std::span(counts_).subspan(keys_of_bin * b, keys_of_bin), rank - above_[b],
              [&](float smaller, uint64_t) { magnitude = smaller; });
  return magnitude;
}

double LargestElements::energy_of_largest(uint64_t count, size_t cut) const {
  const uint64_t b = bin_of(count);
  double energy = sums_->of[cut];
  for_largest(cuts_->bins[b], std::span(counts_).subspan(keys_of_bin * b, keys_of_bin), count - above_[b],
              [&](float magnitude, uint64_t members) {
                energy += double(members) * double(magnitude) * double(magnitude);
              });
  return energy;
}

LargestFigures LargestElements::figures() const {
  LargestFigures figures{not_a_number, not_a_number, not_a_number, not_a_number};
  if (finite_ == 0 || !(energy_ > 0)) return figures;
  double* of_cut[] = {&figures.energy_top_1_in_1000, &figures.energy_top_1_in_100,
                      &figures.energy_top_1_in_10};
  for (size_t cut = 0; cut < std::size(shares); ++cut)
    *of_cut[cut] = energy_of_largest(one_in(finite_, shares[cut]), cut) / energy_;
  if (tail_ < fewest_in_tail) return figures;
  const double next = double(magnitude_at(tail_ + 1));
  double logs = sums_->of[element::largest_cuts];
  const uint64_t b = bin_of(tail_);
  for_largest(cuts_->bins[b], std::span(counts_).subspan(keys_of_bin * b, keys_of_bin), tail_ - above_[b],
              [&](float magnitude, uint64_t members) {
                logs += double(members) * element::natural_logarithm(magnitude);
              });
  const double excess = next > 0 ? logs - double(tail_) * std::log(next) : 0;
  // Ties leave nothing but rounding.
  if (excess > 1e-9 * double(tail_)) figures.tail_index = double(tail_) / excess;
  return figures;
}

}  // namespace jsq
