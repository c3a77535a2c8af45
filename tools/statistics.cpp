// Moments, histogram sums, neighbours and what follows from them.
#include "statistics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>

namespace jsq::tools {

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr uint32_t magnitude_mask = 0x7fffffff;
constexpr size_t bins_per_exponent = 128;

/// Bits an element of the class of its magnitude: exact zeros are one class, every exponent is one.
double class_entropy(const Summary& summary) {
  const double finite = double(summary.elements - summary.nonfinite());
  if (finite == 0) return not_a_number;
  double entropy = 0;
  const auto add = [&](uint64_t members) {
    if (members > 0) entropy -= double(members) / finite * std::log2(double(members) / finite);
  };
  add(summary.zeros);
  for (size_t first = 0; first < summary_bins; first += bins_per_exponent) {
    uint64_t members = 0;
    for (size_t bin = first; bin < first + bins_per_exponent; ++bin) members += summary.histogram[bin];
    add(first == 0 ? members - summary.zeros : members);
  }
  return entropy;
}

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
  add_neighbours(values);
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

void Statistics::Neighbours::rebase(double new_base) noexcept {
  const double d = base - new_base;
  products += d * (firsts + seconds) + pairs * d * d;
  firsts += pairs * d;
  seconds += pairs * d;
  squares += 2 * d * sum + count * d * d;
  sum += count * d;
  base = new_base;
}

double Statistics::Neighbours::autocorrelation() const noexcept {
  if (pairs == 0) return not_a_number;
  const double mean = sum / count, variance = squares - count * mean * mean;
  // What rounding leaves of equal magnitudes is no variance.
  if (!(variance > 1e-12 * (squares + count * base * base))) return not_a_number;
  return (products - mean * (firsts + seconds) + pairs * mean * mean) / variance;
}

void Statistics::add_neighbours(std::span<const float> values) {
  for (float value : values) {
    if (!std::isfinite(value)) {
      neighbours_.has_last = false;
      continue;
    }
    if (neighbours_.count == 0) neighbours_.base = std::abs(double(value));
    const double magnitude = std::abs(double(value)) - neighbours_.base;
    neighbours_.count += 1;
    neighbours_.sum += magnitude;
    neighbours_.squares += magnitude * magnitude;
    if (neighbours_.has_last) {
      neighbours_.pairs += 1;
      neighbours_.products += neighbours_.last * magnitude;
      neighbours_.firsts += neighbours_.last;
      neighbours_.seconds += magnitude;
    }
    neighbours_.last = magnitude;
    neighbours_.has_last = true;
  }
}

void Statistics::Spread::add(double count, double spread) noexcept {
  if (std::isnan(spread)) return;
  squares += count * spread * spread;
  elements += count;
}

double Statistics::Spread::figure() const noexcept {
  return elements > 0 ? std::sqrt(squares / elements) : not_a_number;
}

void Statistics::add_scales(uint64_t elements, const ScaleMeans& means) {
  spreads_[0].add(double(elements), scale_spread(means.rows));
  spreads_[1].add(double(elements), scale_spread(means.columns));
  spreads_[2].add(double(elements), scale_spread(means.runs));
}

void Statistics::append(const Statistics& next) {
  Neighbours theirs = next.neighbours_;
  if (neighbours_.count == 0) neighbours_.base = theirs.base;
  theirs.rebase(neighbours_.base);
  neighbours_.count += theirs.count;
  neighbours_.sum += theirs.sum;
  neighbours_.squares += theirs.squares;
  neighbours_.pairs += theirs.pairs;
  neighbours_.products += theirs.products;
  neighbours_.firsts += theirs.firsts;
  neighbours_.seconds += theirs.seconds;
  neighbours_.has_last = false;
  for (size_t i = 0; i < std::size(spreads_); ++i) {
    spreads_[i].squares += next.spreads_[i].squares;
    spreads_[i].elements += next.spreads_[i].elements;
  }
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
  figures.l1_norm = summary_.sum_abs;
  figures.class_entropy = class_entropy(summary_);
  figures.autocorrelation = neighbours_.autocorrelation();
  figures.row_spread = spreads_[0].figure();
  figures.column_spread = spreads_[1].figure();
  figures.run_spread = spreads_[2].figure();
  return figures;
}

Statistics statistics_of(const GradientSource& source, size_t tensor) {
  Statistics statistics;
  ScaleSums scales(source.tensors()[tensor]);
  std::vector<float> scratch;
  const uint64_t elements = source.tensors()[tensor].elements();
  for (uint64_t first = 0; first < elements; first += statistics_block) {
    const size_t count = size_t(std::min<uint64_t>(statistics_block, elements - first));
    const std::span<const float> values = source.read(tensor, first, count, scratch);
    statistics.add(values);
    scales.add(values);
  }
  statistics.add_scales(elements, scales.means());
  return statistics;
}

}  // namespace jsq::tools
