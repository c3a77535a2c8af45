#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/systematic.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/systematic.hpp"
#include "kernels/element/float_bits.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t batch = 256, lanes = 8;

HWY_INLINE double magnitude(float g) {
  return double(element::magnitude_of_key(element::magnitude_key(g)));
}

/// The sum of up to three elements that no whole group has.
HWY_INLINE double sum_last(const float* values, size_t n) {
  const auto at = [&](size_t i) { return i < n ? magnitude(values[i]) : 0.0; };
  return (at(0) + at(1)) + at(2);
}

#if HWY_CAP_GE256

using Doubles = hn::CappedTag<double, lanes>;

HWY_INLINE hn::Vec<Doubles> magnitudes_of(const float* values) {
  return hn::PromoteTo(Doubles(), hn::Abs(hn::LoadU(hn::Rebind<float, Doubles>(), values)));
}

/// The sums of neighbours in two vectors, in order.
HWY_INLINE hn::Vec<Doubles> sum_neighbours(hn::Vec<Doubles> low, hn::Vec<Doubles> high) {
  return hn::Add(hn::ConcatEven(Doubles(), high, low), hn::ConcatOdd(Doubles(), high, low));
}

/// Adds the whole groups from the front to `sum`; returns how many elements they have.
size_t add_groups(const float* values, size_t n, double& sum) {
  constexpr size_t v = hn::MaxLanes(Doubles());
  size_t i = 0;
  for (; i + 4 * v <= n; i += 4 * v) {
    const float* from = values + i;
    HWY_ALIGN double groups[v];
    const auto low = sum_neighbours(magnitudes_of(from), magnitudes_of(from + v));
    const auto high = sum_neighbours(magnitudes_of(from + 2 * v), magnitudes_of(from + 3 * v));
    hn::Store(sum_neighbours(low, high), Doubles(), groups);
    for (double group : groups) sum += group;
  }
  return i;
}

#else

size_t add_groups(const float*, size_t, double&) {
  return 0;
}

#endif

double sum_fours(const float* values, size_t n) {
  double sum = 0;
  size_t i = add_groups(values, n, sum);
  for (; i + 4 <= n; i += 4)
    sum += (magnitude(values[i]) + magnitude(values[i + 1])) +
           (magnitude(values[i + 2]) + magnitude(values[i + 3]));
  return i < n ? sum + sum_last(values + i, n - i) : sum;
}

/// Samples below the positions, as doubles without a fraction.
HWY_INLINE void samples_below(const double* sums, double rate, double offset, double* below) {
  const hn::CappedTag<double, lanes> d;
  for (size_t i = 0; i < batch; i += hn::Lanes(d)) {
    const auto position = hn::Sub(hn::Mul(hn::LoadU(d, sums + i), hn::Set(d, rate)), hn::Set(d, offset));
    hn::StoreU(hn::Max(hn::Ceil(position), hn::Zero(d)), d, below + i);
  }
}

double count(const float* values, size_t n, double start, double rate, double offset, int32_t* counts) {
  double variance[lanes] = {}, magnitudes[batch], sums[batch], below[batch + 1];
  // As samples_below has it, for the one sum in front.
  double first[batch] = {start};
  samples_below(first, rate, offset, below + 1);
  below[0] = below[1];
  for (size_t at = 0; at < n; at += batch) {
    const size_t here = n - at < batch ? n - at : batch;
    for (size_t i = 0; i < here; ++i) magnitudes[i] = magnitude(values[at + i]);
    for (size_t i = here; i < batch; ++i) magnitudes[i] = 0;
    for (size_t i = 0; i < batch; i += 4) {
      const double two = magnitudes[i] + magnitudes[i + 1];
      sums[i] = start + magnitudes[i];
      sums[i + 1] = start + two;
      sums[i + 2] = start + (two + magnitudes[i + 2]);
      start += two + (magnitudes[i + 2] + magnitudes[i + 3]);
      sums[i + 3] = start;
    }
    samples_below(sums, rate, offset, below + 1);
    const hn::CappedTag<double, lanes> d;
    const hn::Rebind<int32_t, decltype(d)> di;
    int32_t taken[batch];
    for (size_t i = 0; i < batch; i += hn::Lanes(d)) {
      const auto difference = hn::Sub(hn::LoadU(d, below + i + 1), hn::LoadU(d, below + i));
      hn::StoreU(hn::DemoteTo(di, difference), di, taken + i);
      const auto share = hn::Mul(hn::LoadU(d, magnitudes + i), hn::Set(d, rate));
      const auto fraction = hn::Sub(share, hn::Floor(share));
      const size_t lane = i % lanes;
      const auto sum =
          hn::Add(hn::LoadU(d, variance + lane), hn::Mul(fraction, hn::Sub(hn::Set(d, 1.0), fraction)));
      hn::StoreU(sum, d, variance + lane);
    }
    for (size_t i = 0; i < here; ++i)
      counts[at + i] = element::bits_as<int32_t>(values[at + i]) < 0 ? -taken[i] : taken[i];
    below[0] = below[batch];
  }
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) variance[l] += variance[l + half];
  return variance[0];
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(sum_fours);
HWY_EXPORT(count);

double sum_in_fours(std::span<const float> values) {
  return HWY_DYNAMIC_DISPATCH(sum_fours)(values.data(), values.size());
}

double count_samples(std::span<const float> values, double start, double rate, double offset,
                     std::span<int32_t> counts) {
  return HWY_DYNAMIC_DISPATCH(count)(values.data(), values.size(), start, rate, offset, counts.data());
}

}  // namespace jsq::cpu
#endif
