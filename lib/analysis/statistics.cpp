// Chunks' sums, moments and neighbours put together, and what follows from them.
#include "jsq/statistics.hpp"

#include <bit>
#include <cmath>
#include <iterator>
#include <limits>

#include "kernels/element/moments.hpp"
#include "lib/allocators/population.hpp"

namespace jsq {

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
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

void Statistics::add_chunk(uint64_t elements, const element::ChunkSums& sums,
                           const element::ChunkMoments& moments) {
  const uint64_t nonfinite = sums.nan + sums.positive_infinite + sums.negative_infinite;
  append_chunk(summary_, elements, sums);

  using namespace element;
  const ChunkCentres centres = centres_of(sums, elements);
  const double finite = double(elements - nonfinite);
  const auto& of = moments.of;
  moments_.merge({finite, centres.value, of[second_moment], of[third_moment], of[fourth_moment]});

  Neighbours chunk{centres.magnitude,     finite,
                   of[magnitude_sum],     of[magnitude_squares],
                   double(moments.pairs), of[neighbour_products],
                   of[neighbour_firsts],  of[neighbour_seconds]};
  if (has_last_ && std::isfinite(moments.first)) {  // the pair across the border
    const double before = last_magnitude_ - chunk.base, behind = std::abs(double(moments.first)) - chunk.base;
    chunk.pairs += 1;
    chunk.products += before * behind;
    chunk.firsts += before;
    chunk.seconds += behind;
  }
  neighbours_.merge(chunk);
  last_magnitude_ = std::abs(double(moments.last));
  has_last_ = std::isfinite(moments.last);
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

void Statistics::Neighbours::merge(Neighbours next) noexcept {
  if (count == 0) base = next.base;
  next.rebase(base);
  count += next.count;
  sum += next.sum;
  squares += next.squares;
  pairs += next.pairs;
  products += next.products;
  firsts += next.firsts;
  seconds += next.seconds;
}

double Statistics::Neighbours::autocorrelation() const noexcept {
  if (pairs == 0) return not_a_number;
  const double mean = sum / count, variance = squares - count * mean * mean;
  // What rounding leaves of equal magnitudes is no variance.
  if (!(variance > 1e-12 * (squares + count * base * base))) return not_a_number;
  return (products - mean * (firsts + seconds) + pairs * mean * mean) / variance;
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
  neighbours_.merge(next.neighbours_);
  has_last_ = false;
  for (size_t i = 0; i < std::size(spreads_); ++i) {
    spreads_[i].squares += next.spreads_[i].squares;
    spreads_[i].elements += next.spreads_[i].elements;
  }
  summary_.append(next.summary_);
  moments_.merge(next.moments_);
}

StatisticsFigures Statistics::figures() const {
  const double finite = double(summary_.elements - summary_.nonfinite());
  StatisticsFigures figures;
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

}  // namespace jsq
