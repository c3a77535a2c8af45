// The passes behind statistics (moments, largest elements, sums along axes) against plain lanes of the test,
// bit by bit, on every SIMD level; the logarithm against the library's in extended precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/axis_sums.hpp"
#include "kernels/cpu/largest.hpp"
#include "kernels/cpu/moments.hpp"
#include "kernels/cpu/summary.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

constexpr size_t lengths[] = {1, 2, 15, 16, 17, 31, 33, 1000, 65535, 65536};

/// Terms added by 16 lanes, folded by halving.
template <class Term>
double lane_sum(size_t count, Term term) {
  double lanes[16] = {};
  for (size_t i = 0; i < count; ++i) lanes[i % 16] += term(i);
  for (size_t half = 8; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  return lanes[0];
}

uint64_t bits(double value) {
  return std::bit_cast<uint64_t>(value);
}

std::vector<float> with_nonfinite(std::vector<float> values) {
  if (values.size() < 1000) return values;
  for (size_t i : {size_t(0), size_t(500), size_t(501), values.size() - 1})
    values[i] = std::numeric_limits<float>::infinity();
  values[700] = std::numeric_limits<float>::quiet_NaN();
  return values;
}

void expect_moments(const std::vector<float>& g) {
  std::vector<uint32_t> histogram(cpu::counted_bins);
  const element::ChunkSums sums = cpu::summarise_chunk(g, histogram);
  const element::ChunkMoments found = cpu::moments_of_chunk(g, sums);
  const auto finite = double(std::count_if(g.begin(), g.end(), [](float x) { return std::isfinite(x); }));
  const double mean = finite > 0 ? sums.sum / finite : 0, size = finite > 0 ? sums.sum_abs / finite : 0;
  const auto power = [&](int exponent) {
    return lane_sum(g.size(), [&](size_t i) {
      const double off = std::isfinite(g[i]) ? double(g[i]) - mean : 0, square = off * off;
      return exponent == 2 ? square : exponent == 3 ? square * off : square * square;
    });
  };
  EXPECT_EQ(bits(found.of[element::second_moment]), bits(power(2)));
  EXPECT_EQ(bits(found.of[element::third_moment]), bits(power(3)));
  EXPECT_EQ(bits(found.of[element::fourth_moment]), bits(power(4)));
  const auto off = [&](size_t i) { return std::abs(double(g[i])) - size; };
  const auto over_elements = [&](auto term) {
    return lane_sum(g.size(), [&](size_t i) { return std::isfinite(g[i]) ? term(off(i)) : 0; });
  };
  uint32_t pairs = 0;
  const auto over_pairs = [&](auto term) {
    pairs = 0;
    return lane_sum(g.size(), [&](size_t i) {
      if (i == 0 || !std::isfinite(g[i]) || !std::isfinite(g[i - 1])) return 0.0;
      ++pairs;
      return double(term(off(i - 1), off(i)));
    });
  };
  EXPECT_EQ(bits(found.of[element::magnitude_sum]), bits(over_elements([](double x) { return x; })));
  EXPECT_EQ(bits(found.of[element::magnitude_squares]), bits(over_elements([](double x) { return x * x; })));
  EXPECT_EQ(bits(found.of[element::neighbour_products]),
            bits(over_pairs([](double a, double b) { return a * b; })));
  EXPECT_EQ(bits(found.of[element::neighbour_firsts]), bits(over_pairs([](double a, double) { return a; })));
  EXPECT_EQ(bits(found.of[element::neighbour_seconds]), bits(over_pairs([](double, double b) { return b; })));
  EXPECT_EQ(found.pairs, pairs);
}

TEST(Moments, HaveTheDefinedOrderOnEverySimdLevel) {
  test::for_each_simd_level([] {
    for (Kind kind : test::all_kinds)
      for (size_t n : lengths) {
        SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
        expect_moments(make_data(kind, n));
      }
    expect_moments(with_nonfinite(make_data(Kind::heavy, 5003)));
    expect_moments(std::vector<float>(40, std::numeric_limits<float>::quiet_NaN()));
  });
}

TEST(LargestElements, AreSummedInTheDefinedOrderAndCounted) {
  const std::vector<float> g = with_nonfinite(make_data(Kind::heavy, 60001));
  element::LargestCuts cuts;
  for (size_t k = 0; k < 3; ++k) cuts.bins[cuts.bin_count++] = 0x3d80u - 0x40u * uint32_t(k);
  for (size_t k = 0; k < 3; ++k) cuts.from_key[k] = (cuts.bins[k] + 1) << 16;
  std::vector<uint64_t> counts(3u << 16), expected_counts(counts.size());
  const element::LargestSums found = cpu::largest_of_chunk(g, cuts, counts);
  const auto above = [&](size_t k, size_t i) {
    return std::isfinite(g[i]) && std::bit_cast<uint32_t>(std::abs(g[i])) >= cuts.from_key[k];
  };
  for (size_t k = 0; k < 3; ++k) {
    const double energy =
        lane_sum(g.size(), [&](size_t i) { return above(k, i) ? double(g[i]) * double(g[i]) : 0; });
    EXPECT_GT(energy, 0);
    EXPECT_EQ(bits(found.of[k]), bits(energy)) << k;
  }
  EXPECT_EQ(bits(found.of[3]), bits(lane_sum(g.size(), [&](size_t i) {
              return above(1, i) ? element::natural_logarithm(std::abs(g[i])) : 0;
            })));
  for (float x : g)
    for (size_t b = 0; b < 3; ++b)
      if (std::bit_cast<uint32_t>(std::abs(x)) >> 16 == cuts.bins[b])
        ++expected_counts[b << 16 | (std::bit_cast<uint32_t>(x) & 0xffff)];
  EXPECT_EQ(counts, expected_counts);
}

TEST(NaturalLogarithm, IsTheLibrarysToFewUnits) {
  test::Random random(4);
  for (int i = 0; i < 200000; ++i) {
    const float x = std::abs(random.any_finite());
    if (x == 0) continue;
    const long double expected = std::log(static_cast<long double>(x));
    const long double tolerance = 0x1p-51L * std::max(1.0L, std::abs(expected));
    ASSERT_LE(std::abs(element::natural_logarithm(x) - expected), tolerance) << x;
  }
  for (float x = 0.5f; x < 2; x *= 1.0000037f)  // where a logarithm is small, and its series longest
    ASSERT_LE(std::abs(element::natural_logarithm(x) - std::log(static_cast<long double>(x))), 0x1p-51L) << x;
  EXPECT_EQ(element::natural_logarithm(1.0f), 0.0);
}

TEST(Summary, MayLeaveOutBinsBelowAKeyAndNothingElse) {
  test::for_each_simd_level([&] {
    for (const Kind kind : {Kind::heavy, Kind::zeros, Kind::ternary})
      for (const size_t n : lengths)
        for (const uint32_t least : {1u, 0x10000u, 0x3f000000u, 0x7f7f0000u}) {
          for (const std::vector<float>& g : {make_data(kind, n), with_nonfinite(make_data(kind, n))}) {
            std::vector<uint32_t> all(cpu::counted_bins), largest(cpu::counted_bins);
            const element::ChunkSums expected = cpu::summarise_chunk(g, all),
                                     found = cpu::summarise_chunk(g, largest, least);
            EXPECT_TRUE(
                std::equal(all.begin() + (least >> 16) + 1, all.end(), largest.begin() + (least >> 16) + 1));
            EXPECT_TRUE(least % 0x10000 != 0 || all[least >> 16] == largest[least >> 16]);
            EXPECT_EQ(bits(found.sum), bits(expected.sum));
            EXPECT_EQ(bits(found.sum_abs), bits(expected.sum_abs));
            EXPECT_EQ(bits(found.energy), bits(expected.energy));
            EXPECT_EQ(found.zeros, expected.zeros);
            EXPECT_EQ(found.max_key, expected.max_key);
          }
        }
  });
}

/// The sums of an axis from what it means: each element's index, its parts folded one by one.
std::vector<double> sums_by_index(const element::Axis& axis, const std::vector<float>& g) {
  std::vector<double> sums(axis.indices);
  const auto index_of = [&](size_t i) { return std::min(i % axis.period / axis.length, axis.indices - 1); };
  for (size_t i = 0; i < g.size();) {
    size_t end = i + 1;
    while (end < g.size() && end % 65536 != 0 && end % axis.period != 0 && index_of(end) == index_of(i))
      ++end;
    sums[index_of(i)] +=
        lane_sum(end - i, [&](size_t k) { return std::isfinite(g[i + k]) ? std::abs(double(g[i + k])) : 0; });
    i = end;
  }
  return sums;
}

TEST(AxisSums, AreThoseOfPartsInStorageOrderOnEverySimdLevel) {
  const std::vector<float> g = with_nonfinite(make_data(Kind::heavy, 150 * 1001));
  const element::Axis axes[] = {{150, 1001, 150 * 1001}, {1001, 1, 1001},        {91, 11, 1001},
                                {13, 77, 1001},          {586, 256, 150 * 1001}, {1, 150150, 150150},
                                {2, 75075, 150150},      {150150, 1, 150150}};
  test::for_each_simd_level([&] {
    for (const element::Axis& axis : axes) {
      std::vector<double> found(axis.indices);
      for (size_t at = 0; at < g.size(); at += 65536)
        cpu::add_to_axis(axis, at, std::span(g).subspan(at, std::min<size_t>(65536, g.size() - at)), found);
      const std::vector<double> expected = sums_by_index(axis, g);
      for (size_t i = 0; i < found.size(); ++i)
        ASSERT_EQ(bits(found[i]), bits(expected[i])) << axis.indices << " of " << axis.length << ": " << i;
    }
  });
}

}  // namespace
}  // namespace jsq
