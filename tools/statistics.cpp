// Moments, histogram sums and what follows from them.
#include "statistics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace jsq::tools {

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr uint32_t magnitude_mask = 0x7fffffff;

}  // namespace

void Statistics::Moments::merge(const Moments& next) noexcept {
  if (next.count == 0) return;
  const double na = count, nb = next.count, n = na + nb;
  const double delta = next.mean - mean, d2 = delta * delta;
  const double merged_m4 = m4 + next.m4 + d2 * d2 * na * nb * (na * na - na * nb + nb * nb) / (n * n * n) +
                           6 * d2 * (na * na * next.m2 + nb * nb * m2) / (n * n) +
                           4 * delta * (na * next.m3 - nb * m3) / n;
  const double merged_m3 =
      m3 + next.m3 + d2 * delta * na * nb * (na - nb) / (n * n) + 3 * delta * (na * next.m2 - nb * m2) / n;
  m2 += next.m2 + d2 * na * nb / n;
  mean += delta * nb / n;
  m3 = merged_m3;
  m4 = merged_m4;
  count = n;
}

void Statistics::add(std::span<const float> values) {
  for (size_t first = 0; first < values.size(); first += statistics_block)
    add_block(values.subspan(first, std::min(statistics_block, values.size() - first)));
}

void Statistics::add_block(std::span<const float> values) {
  summary_.append(summarise(values));
  Moments block;
  double sum = 0;
  for (float value : values) {
    const uint32_t bin = (std::bit_cast<uint32_t>(value) & magnitude_mask) >> 16;
    if (bin >= summary_bins) continue;
    bin_energy_[bin] += double(value) * double(value);
    sum += double(value);
    block.count += 1;
  }
  if (block.count == 0) return;
  block.mean = sum / block.count;
  for (float value : values) {
    if (!std::isfinite(value)) continue;
    const double d = double(value) - block.mean, d2 = d * d;
    block.m2 += d2;
    block.m3 += d2 * d;
    block.m4 += d2 * d2;
  }
  moments_.merge(block);
}

void Statistics::append(const Statistics& next) {
  summary_.append(next.summary_);
  moments_.merge(next.moments_);
  for (size_t bin = 0; bin < bin_energy_.size(); ++bin) bin_energy_[bin] += next.bin_energy_[bin];
}

Figures Statistics::figures() const {
  const double finite = double(summary_.elements - summary_.nonfinite());
  Figures figures;
  figures.elements = summary_.elements;
  figures.zeros = summary_.zeros;
  figures.nonfinite = summary_.nonfinite();
  figures.l2_norm = std::sqrt(summary_.energy);
  figures.max_magnitude = double(std::bit_cast<float>(summary_.max_key));
  figures.mean = finite == 0 ? not_a_number : summary_.sum / finite;
  figures.zero_share =
      summary_.elements == 0 ? not_a_number : double(summary_.zeros) / double(summary_.elements);
  figures.kurtosis =
      moments_.m2 > 0 ? moments_.count * moments_.m4 / (moments_.m2 * moments_.m2) : not_a_number;
  figures.energy_top_1_in_1000 = energy_share_of_largest(1e-3);
  figures.energy_top_1_in_100 = energy_share_of_largest(1e-2);
  figures.energy_top_1_in_10 = energy_share_of_largest(1e-1);
  return figures;
}

double Statistics::energy_share_of_largest(double share) const noexcept {
  if (!(summary_.energy > 0)) return not_a_number;
  double left = std::ceil(share * double(summary_.elements - summary_.nonfinite()));
  double held = 0, total = 0;
  for (size_t bin = summary_bins; bin-- > 0;) {
    total += bin_energy_[bin];
    const double members = double(summary_.histogram[bin]);
    if (left <= 0 || members == 0) continue;
    held += members <= left ? bin_energy_[bin] : bin_energy_[bin] * (left / members);
    left -= members;
  }
  return held / total;
}

Statistics statistics_of(const GradientSource& source, size_t tensor) {
  Statistics statistics;
  std::vector<float> scratch;
  const uint64_t elements = source.tensors()[tensor].elements();
  for (uint64_t first = 0; first < elements; first += statistics_block) {
    const size_t count = size_t(std::min<uint64_t>(statistics_block, elements - first));
    statistics.add(source.read(tensor, first, count, scratch));
  }
  return statistics;
}

}  // namespace jsq::tools
