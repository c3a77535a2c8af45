// Rate-distortion curves of known mixtures: every part at one slope, their Lagrangians added. Any slope gives
// a bound on the error at a rate, (L - R) / slope; queries look for the slope where it is tight.
#include "jsq/rate_distortion.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <numbers>

#include "lib/analysis/blahut_arimoto.hpp"
#include "lib/core/threads.hpp"

namespace jsq {

double MagnitudeHistogram::elements() const noexcept {
  double sum = zeros;
  for (const Bin& bin : bins) sum += bin.members;
  return sum;
}

double MagnitudeHistogram::energy() const noexcept {
  double sum = 0;
  for (const Bin& bin : bins) sum += bin.energy;
  return sum;
}

double magnitude_bin_edge(uint32_t index) noexcept {
  return double(std::bit_cast<float>(index << 19));
}

std::string_view source_model_name(SourceModel model) noexcept {
  switch (model) {
    case SourceModel::pooled:
      return "pooled";
    case SourceModel::tensors:
      return "tensors";
    case SourceModel::scales:
      return "scales";
  }
  return "?";
}

struct RateDistortion::Curve {
  Curve(std::vector<MagnitudeHistogram> histograms, unsigned thread_count);

  const Lagrangian& at(double log_slope);
  /// What is wanted of the slope: 0 at the best one, and falling with the slope.
  using Excess = std::function<double(double log_slope, const Lagrangian&)>;
  /// Evaluates near the slope where `excess` is 0.
  void approach(const Excess& excess);

  std::vector<MagnitudeHistogram> parts;
  unsigned threads;
  double elements = 0, energy = 0;
  double nonzero_share = 0;  ///< of the elements
  double nonzero_entropy =
      0;  ///< differential entropy of the non-zero elements in their parts, nats, times their share
  std::mutex mutex;
  std::map<double, Lagrangian> known;  ///< by ln slope; slopes in units of 1 / mean square
  double largest_gap = 0;
};

RateDistortion::Curve::Curve(std::vector<MagnitudeHistogram> histograms, unsigned thread_count)
    : parts(std::move(histograms)), threads(thread_count) {
  std::erase_if(parts, [](const MagnitudeHistogram& part) { return !(part.elements() > 0); });
  for (const MagnitudeHistogram& part : parts) {
    const double nonzero = part.elements() - part.zeros;
    elements += part.elements();
    energy += part.energy();
    nonzero_share += nonzero;
    for (const MagnitudeHistogram::Bin& bin : part.bins) {
      const double width = magnitude_bin_edge(bin.index + 1) - magnitude_bin_edge(bin.index);
      nonzero_entropy += bin.members * std::log(2 * width * nonzero / bin.members);
    }
  }
  if (!(elements > 0)) return;
  nonzero_share /= elements;
  nonzero_entropy /= elements;
}

const Lagrangian& RateDistortion::Curve::at(double log_slope) {
  const auto found = known.find(log_slope);
  if (found != known.end()) return found->second;
  const double slope = std::exp(log_slope) * elements / energy;
  std::vector<Lagrangian> of_part(parts.size());
  on_threads(threads, [&] {
    tbb::parallel_for(size_t(0), parts.size(),
                      [&](size_t p) { of_part[p] = least_lagrangian(parts[p], slope); });
  });
  Lagrangian sum;
  for (size_t p = 0; p < parts.size(); ++p) {
    const double share = parts[p].elements() / elements;
    sum.lower += share * of_part[p].lower;
    sum.upper += share * of_part[p].upper;
    sum.distortion += share * of_part[p].distortion;
  }
  sum.distortion *= elements / energy;
  return known.emplace(log_slope, sum).first->second;
}

/// L between two known slopes: the cubic in u = ln slope that has their values and derivatives dL / du =
/// slope D.
Lagrangian between(double u, double u0, const Lagrangian& l0, double u1, const Lagrangian& l1) {
  const double h = u1 - u0, t = (u - u0) / h;
  const double d0 = h * std::exp(u0) * l0.distortion, d1 = h * std::exp(u1) * l1.distortion;
  const double rise = l1.upper - l0.upper;
  const double a = d0 + d1 - 2 * rise, b = 3 * rise - 2 * d0 - d1;
  Lagrangian result;
  result.upper = l0.upper + t * (d0 + t * (b + t * a));
  result.lower = result.upper;
  result.distortion = (d0 + t * (2 * b + t * 3 * a)) / h / std::exp(u);
  return result;
}

void RateDistortion::Curve::approach(const Excess& excess) {
  // A fixed grid of slopes two octaves apart, so that queries share what they evaluate; 80 bits lie between
  // the ends.
  constexpr double step = 2 * std::numbers::ln2, lowest = -20 * step, highest = 60 * step;
  double low = 0, high = 0;
  while (excess(low, at(low)) < 0 && low > lowest) {
    high = low;
    low -= step;
  }
  while (excess(high, at(high)) > 0 && high < highest) {
    low = high;
    high += step;
  }
  // What lies between is taken from the nearest known slopes; the bound is flat about its best slope, so that
  // one or two more of them do.
  for (int i = 0; i < 3 && low < high; ++i) {
    const auto right = known.upper_bound(low);
    if (right != known.end() && right->first < high) {
      (excess(right->first, right->second) > 0 ? low : high) = right->first;
      --i;
      continue;
    }
    const Lagrangian l0 = at(low), l1 = at(high);
    double a = low, b = high;
    for (int halving = 0; halving < 40; ++halving) {
      const double middle = 0.5 * (a + b);
      (excess(middle, between(middle, low, l0, high, l1)) > 0 ? a : b) = middle;
    }
    const double value = excess(a, at(a));
    if (std::abs(value) < 0.01) return;
    (value > 0 ? low : high) = a;
  }
}

RateDistortion::RateDistortion(std::vector<MagnitudeHistogram> parts, unsigned threads)
    : curve_(std::make_shared<Curve>(std::move(parts), threads)) {}
RateDistortion::~RateDistortion() = default;
RateDistortion::RateDistortion(const RateDistortion&) = default;
RateDistortion& RateDistortion::operator=(const RateDistortion&) = default;

double RateDistortion::elements() const noexcept {
  return curve_->elements;
}
double RateDistortion::energy() const noexcept {
  return curve_->energy;
}
size_t RateDistortion::parts() const noexcept {
  return curve_->parts.size();
}

double RateDistortion::nmse_at(double bits_per_element) const {
  Curve& curve = *curve_;
  if (!(curve.energy > 0)) return 0;
  if (!(bits_per_element > 0)) return 1;
  const double rate = bits_per_element * std::numbers::ln2;
  const std::lock_guard lock(curve.mutex);
  curve.approach([&](double log_slope, const Lagrangian& l) {
    return std::log(rate) - std::log(std::max(l.upper - std::exp(log_slope) * l.distortion, 1e-300));
  });
  double best = 0, gap = 0;
  for (const auto& [log_slope, l] : curve.known) {
    const double slope = std::exp(log_slope), error = (l.lower - rate) / slope;
    if (error <= best) continue;
    best = error;
    gap = (l.upper - l.lower) / (slope * error);
  }
  curve.largest_gap = std::max(curve.largest_gap, gap);
  return std::clamp(best, shannon_nmse_at(bits_per_element), 1.0);
}

double RateDistortion::bits_at(double nmse) const {
  Curve& curve = *curve_;
  if (!(curve.energy > 0) || nmse >= 1) return 0;
  if (!(nmse > 0)) return std::numeric_limits<double>::infinity();
  const std::lock_guard lock(curve.mutex);
  curve.approach([&](double, const Lagrangian& l) { return std::log(l.distortion / nmse); });
  double best = 0, gap = 0;
  for (const auto& [log_slope, l] : curve.known) {
    const double slope = std::exp(log_slope), rate = l.lower - slope * nmse;
    if (rate <= best) continue;
    best = rate;
    gap = (l.upper - l.lower) / (slope * nmse);
  }
  curve.largest_gap = std::max(curve.largest_gap, gap);
  return std::max(best / std::numbers::ln2, shannon_bits_at(nmse));
}

double RateDistortion::shannon_nmse_at(double bits_per_element) const {
  const Curve& curve = *curve_;
  if (!(curve.energy > 0)) return 0;
  const double share = curve.nonzero_share,
               spare = curve.nonzero_entropy - bits_per_element * std::numbers::ln2;
  const double error = share * std::exp(2 * spare / share) / (2 * std::numbers::pi * std::numbers::e);
  return std::min(1.0, error * curve.elements / curve.energy);
}

double RateDistortion::shannon_bits_at(double nmse) const {
  const Curve& curve = *curve_;
  if (!(curve.energy > 0) || nmse >= 1) return 0;
  if (!(nmse > 0)) return std::numeric_limits<double>::infinity();
  const double share = curve.nonzero_share, error = nmse * curve.energy / curve.elements;
  const double noise = 0.5 * share * std::log(2 * std::numbers::pi * std::numbers::e * error / share);
  return std::max(0.0, curve.nonzero_entropy - noise) / std::numbers::ln2;
}

double RateDistortion::error_of_answers() const noexcept {
  const std::lock_guard lock(curve_->mutex);
  return curve_->largest_gap;
}

}  // namespace jsq
