// Selection by counting: 128 bins an octave first, then every float of the bins that matter.
#include "largest.hpp"

#include <bit>
#include <cmath>
#include <limits>

namespace jsq::tools {

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr uint32_t magnitude_mask = 0x7fffffff;
constexpr uint64_t fewest_in_tail = 10;

uint64_t one_in(uint64_t n, uint64_t divisor) {
  return (n + divisor - 1) / divisor;
}

float magnitude_of(size_t bin, size_t low_bits) {
  return std::bit_cast<float>(uint32_t(bin << 16) | uint32_t(low_bits));
}

}  // namespace

LargestElements::LargestElements(const Statistics& first_pass)
    : first_pass_(first_pass),
      finite_(first_pass.summary().elements - first_pass.summary().nonfinite()),
      tail_(one_in(finite_, 100)) {
  if (finite_ == 0) return;
  uint64_t above = 0;
  for (size_t bin = summary_bins; bin-- > 0;) {
    const uint64_t to = above + first_pass.summary().histogram[bin];
    const auto holds = [&](uint64_t rank) { return rank > above && rank <= to; };
    if (holds(one_in(finite_, 1000)) || holds(tail_) || holds(tail_ + 1) || holds(one_in(finite_, 10))) {
      if (holds(tail_)) tail_bin_ = bin;
      bins_.push_back({bin, above});
      slot_[bin] = uint8_t(bins_.size());
    }
    above = to;
  }
}

void LargestElements::add(std::span<const float> values) {
  for (float value : values) {
    const uint32_t key = std::bit_cast<uint32_t>(value) & magnitude_mask;
    const size_t bin = key >> 16;
    if (bin >= summary_bins) continue;
    if (slot_[bin] != 0) ++bins_[slot_[bin] - 1].members[key & 0xffff];
    if (bin > tail_bin_) tail_log_sum_ += std::log(std::abs(double(value)));
  }
}

const LargestElements::Bin& LargestElements::bin_of(uint64_t rank) const {
  const Bin* found = &bins_.front();
  for (const Bin& bin : bins_)
    if (rank > bin.above) found = &bin;
  return *found;
}

float LargestElements::magnitude_at(uint64_t rank) const {
  const Bin& bin = bin_of(rank);
  uint64_t at = bin.above;
  for (size_t low = bin.members.size(); low-- > 0;) {
    at += bin.members[low];
    if (at >= rank) return magnitude_of(bin.index, low);
  }
  return 0;
}

double LargestElements::energy_of_largest(uint64_t count) const {
  const Bin& bin = bin_of(count);
  double energy = 0;
  for (size_t b = summary_bins; --b > bin.index;) energy += first_pass_.bin_energy(b);
  uint64_t left = count - bin.above;
  for (size_t low = bin.members.size(); low-- > 0 && left > 0;) {
    const uint64_t taken = std::min(left, bin.members[low]);
    const double magnitude = double(magnitude_of(bin.index, low));
    energy += double(taken) * magnitude * magnitude;
    left -= taken;
  }
  return energy;
}

LargestFigures LargestElements::figures() const {
  LargestFigures figures{not_a_number, not_a_number, not_a_number, not_a_number};
  const double energy = first_pass_.summary().energy;
  if (finite_ == 0 || !(energy > 0)) return figures;
  figures.energy_top_1_in_1000 = energy_of_largest(one_in(finite_, 1000)) / energy;
  figures.energy_top_1_in_100 = energy_of_largest(one_in(finite_, 100)) / energy;
  figures.energy_top_1_in_10 = energy_of_largest(one_in(finite_, 10)) / energy;
  if (tail_ < fewest_in_tail) return figures;
  const double next = double(magnitude_at(tail_ + 1));
  double logs = tail_log_sum_;
  const Bin& bin = bin_of(tail_);
  uint64_t left = tail_ - bin.above;
  for (size_t low = bin.members.size(); low-- > 0 && left > 0;) {
    const uint64_t taken = std::min(left, bin.members[low]);
    if (taken > 0) logs += double(taken) * std::log(double(magnitude_of(bin.index, low)));
    left -= taken;
  }
  const double excess = next > 0 ? logs - double(tail_) * std::log(next) : 0;
  // Ties leave nothing but rounding.
  if (excess > 1e-9 * double(tail_)) figures.tail_index = double(tail_) / excess;
  return figures;
}

}  // namespace jsq::tools
