// The exact allocator against exhaustive search, the LP bound, every uniform co-compressor and its siblings.
#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <new>

#include "jsq/allocation.hpp"
#include "jsq/error.hpp"
#include "lib/allocators/allocator.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/allocators/reference.hpp"

// The largest allocation asked for, so that a test can hold the allocator to memory that does not grow with
// the budget.
namespace {
size_t largest_request = 0;
}
[[gnu::noinline]] void* operator new(size_t size) {
  if (size > largest_request) largest_request = size;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, const std::nothrow_t&) noexcept {  // std::stable_sort's
  if (size > largest_request) largest_request = size;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace jsq {
namespace {

using test::Assignment;
using test::assignment_of;
using test::Kind;
using test::make_data;
using test::Random;

const std::vector<float> g8 = {0.04f, -0.08f, 0.16f, -0.3f, 0.6f, -1.2f, 2.5f, -5.0f};

TEST(ExactAllocator, GivesTheWorkedVector) {
  struct Row {
    uint64_t budget;
    std::vector<uint32_t> widths;
    double noise;
  };
  const Row rows[] = {{8, {0, 0, 0, 0, 0, 2, 2, 4}, 0.0320098286},
                      {12, {0, 0, 0, 0, 2, 2, 4, 4}, 0.0107968479},
                      {16, {0, 0, 0, 2, 2, 4, 4, 4}, 0.00570997156},
                      {20, {0, 0, 0, 2, 2, 4, 4, 8}, 0.00277767659},
                      {26, {0, 2, 2, 2, 4, 4, 4, 8}, 0.00123748349}};
  for (const Row& row : rows) {
    const Allocation allocation = allocate(g8, {}, row.budget);
    const Assignment found = assignment_of(g8, allocation);
    EXPECT_EQ(found.widths, row.widths) << row.budget;
    EXPECT_NEAR(found.noise, row.noise,
                1e-7 * row.noise);  // the table is of decimal numbers, the test of f32
    EXPECT_EQ(found.bits, row.budget);
    EXPECT_EQ(allocation.payload_bits, row.budget);
    EXPECT_NEAR(analyze_noise(g8, allocation).per_element, row.noise, 1e-7 * row.noise);
  }
}

TEST(NoiseReport, GivesEquation6AndTheBestUniformCoCompressorOfTheWorkedVector) {
  EXPECT_NEAR(analyze_noise(g8, allocate(g8, {}, 20)).eq6, 0.00655671, 5e-9);
  EXPECT_NEAR(analyze_noise(g8, allocate(g8, {}, 16)).eq6, 0.0162821, 5e-8);
  // c = 16: two elements of 8 bits, h = 2 / 4^8 = 3.05e-5.
  const NoiseReport report = analyze_noise(g8, allocate(g8, {}, 16));
  EXPECT_EQ(report.uniform_bits, 8u);
  EXPECT_DOUBLE_EQ(report.uniform, 2.0 / 65536);
  // Eq. 6 with k_0 := 1, by hand at c = 8: dropped once, 2-bit class twice, 4-bit class once.
  const double energy = 33.1736, dropped = 0.0016 + 0.0064 + 0.0256 + 0.09 + 0.36;
  EXPECT_NEAR(analyze_noise(g8, allocate(g8, {}, 8)).eq6_nonzero,
              (dropped + 2 * (1.44 + 6.25) / 16 + 25.0 / 256) / energy, 1e-8);
  EXPECT_NEAR(analyze_noise(g8, allocate(g8, {}, 8)).eq6,
              (5 * dropped + 2 * (1.44 + 6.25) / 16 + 25.0 / 256) / energy, 1e-8);
}

std::vector<float> small_case(Random& random, size_t d) {
  std::vector<float> values(d);
  const uint64_t kind = random.below(7);
  for (float& g : values) {
    switch (kind) {
      case 0:
        g = float(std::exp(2 * random.normal()));
        break;
      case 1:
        g = float(random.uniform());
        break;
      case 2:
        g = float(1 + random.below(3));
        break;  // ties
      case 3:
        g = random.below(2) ? 0.0f : float(random.normal());
        break;  // zeros
      case 4:
        g = float(std::exp(4 * random.normal()));
        break;  // a heavy tail
      case 5:
        g = float(int(random.below(3)) - 1);
        break;  // ternary
      default:
        g = random.laplace();
        break;
    }
    if (random.below(2)) g = -g;
  }
  return values;
}

void expect_optimal(const std::vector<float>& values, const WidthSet& widths) {
  const uint64_t d = values.size(), least = d * widths[0], most = d * widths.widest();
  const std::vector<double> best = test::least_noise(values, widths.widths(), most + 3);
  uint64_t nonzero = 0;
  for (float g : values) nonzero += g != 0;
  uint32_t smallest_step = 8;
  for (uint32_t j = 1; j < widths.size(); ++j)
    smallest_step = std::min(smallest_step, widths.increment_bits(j));
  for (uint64_t budget = least; budget <= most + 3; ++budget) {
    const Allocation allocation = allocate(values, widths, budget);
    ASSERT_EQ(test::inconsistency(values, allocation), "") << budget;
    const Assignment found = assignment_of(values, allocation);
    ASSERT_LE(found.bits, budget);
    ASSERT_NEAR(found.noise, best[budget], 1e-12 * best[budget] + 1e-300) << "budget " << budget;
    // Bits are left only where no element that is not zero can use them.
    bool can_use_more = false;
    for (uint32_t j = 1; j < widths.size(); ++j)
      can_use_more |= allocation.at_least[j] < std::min(nonzero, allocation.at_least[j - 1]) &&
                      widths.increment_bits(j) <= budget - found.bits;
    ASSERT_FALSE(can_use_more) << "budget " << budget << " uses " << found.bits;
  }
}

class ExactAllocatorWithWidths : public testing::TestWithParam<std::vector<uint32_t>> {};

TEST_P(ExactAllocatorWithWidths, EqualsExhaustiveSearchForUpToEightElementsAndEveryBudget) {
  const WidthSet widths(GetParam());
  const bool paper = GetParam() == std::vector<uint32_t>{0, 2, 4, 8};
  Random random(1);
  for (int round = 0; round < (paper ? 1500 : 250); ++round) {
    const std::vector<float> values = small_case(random, 1 + random.below(8));
    expect_optimal(values, widths);
    if (HasFatalFailure()) {
      for (float g : values) std::printf("%.9g ", double(g));
      std::printf("\n");
      return;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Sets, ExactAllocatorWithWidths,
                         testing::Values(std::vector<uint32_t>{0, 2, 4, 8},
                                         std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8},
                                         std::vector<uint32_t>{0, 1, 3}, std::vector<uint32_t>{0, 4, 8},
                                         std::vector<uint32_t>{2, 4, 8}, std::vector<uint32_t>{0, 8},
                                         std::vector<uint32_t>{0, 1, 8}, std::vector<uint32_t>{3, 4},
                                         std::vector<uint32_t>{0, 3, 8}, std::vector<uint32_t>{5},
                                         std::vector<uint32_t>{0}),
                         [](const auto& set) {
                           std::string name;
                           for (uint32_t w : set.param) name += char('0' + w);
                           return name;
                         });

TEST(ExactAllocator, EqualsExhaustiveSearchForHundredsOfElementsToo) {
  Random random(2);
  for (int round = 0; round < 30; ++round) {
    const std::vector<float> values = small_case(random, 100 + random.below(200));
    for (const WidthSet& widths :
         {WidthSet(), WidthSet({0, 1, 3}), WidthSet({0, 3, 8}), WidthSet({0, 1, 2, 3, 4, 5, 6, 7, 8})}) {
      const std::vector<double> best = test::least_noise(values, widths.widths(), 8 * values.size());
      for (int trial = 0; trial < 8; ++trial) {
        const uint64_t budget = random.below(widths.widest() * values.size() + 1);
        const Allocation allocation = allocate(values, widths, budget);
        ASSERT_EQ(test::inconsistency(values, allocation), "");
        ASSERT_NEAR(assignment_of(values, allocation).noise, best[budget], 1e-12 * best[budget]) << budget;
      }
    }
  }
}

TEST(ExactAllocator, SpendsItsBudgetEvenWhereEnergiesDifferBeyondDoublePrecision) {
  const std::vector<float> values = {1e10f, 1e-10f, 1.1e-10f, 1e-20f};
  for (uint64_t budget = 0; budget <= 32; budget += 2) {
    const Allocation allocation = allocate(values, {}, budget);
    EXPECT_EQ(test::inconsistency(values, allocation), "");
    const uint64_t left = budget - allocation.payload_bits;
    const bool only_eights_missing = allocation.at_least[2] == 4;
    EXPECT_LT(left, only_eights_missing ? 4u : 2u) << budget;
  }
}

TEST(ExactAllocator, IsNeverWorseThanAnyUniformCoCompressorOrTheOtherAllocators) {
  Random random(3);
  for (size_t d : {9u, 50u, 1000u, 20000u, 100000u})
    for (double spread : {0.2, 1.0, 2.5}) {
      std::vector<float> values(d);
      for (float& g : values) g = random.heavy(spread);
      std::vector<double> energies;
      for (float g : values) energies.push_back(double(g) * double(g));
      std::sort(energies.begin(), energies.end(), std::greater<>());
      std::vector<double> prefix(d + 1, 0.0);
      for (size_t i = 0; i < d; ++i) prefix[i + 1] = prefix[i] + energies[i];
      for (double bits_an_element : {0.05, 0.4, 1.0, 1.6, 4.0, 7.0}) {
        const auto budget = uint64_t(bits_an_element * double(d));
        const Allocation exact = allocate(values, {}, budget);
        const double noise = assignment_of(values, exact).noise;
        ASSERT_LE(exact.payload_bits, budget);
        ASSERT_GE(exact.payload_bits + 3, budget);
        for (uint32_t b : {2u, 4u, 8u}) {
          const uint64_t k = std::min<uint64_t>(d, budget / b);
          const double uniform = (prefix[d] - prefix[k] + std::ldexp(prefix[k], -2 * int(b))) / prefix[d];
          ASSERT_LE(noise, uniform * (1 + 1e-9)) << b << " bits on " << k << " of " << d;
        }
        for (AllocatorKind kind : {AllocatorKind::literal, AllocatorKind::sampled})
          ASSERT_LE(noise, assignment_of(values, allocate(values, {}, budget, {.allocator = kind})).noise *
                               (1 + 1e-9));
      }
    }
}

TEST(ExactAllocator, LeavesNothingForReallocationToImprove) {
  Random random(4);
  for (int round = 0; round < 40; ++round) {
    std::vector<float> values(20 + random.below(3000));
    for (float& g : values) g = random.heavy();
    std::vector<double> e;
    for (float g : values) e.push_back(double(g) * double(g));
    std::sort(e.begin(), e.end(), std::greater<>());
    const Allocation a = allocate(values, {}, random.below(8 * values.size()));
    const int64_t d = int64_t(values.size());
    const int64_t moves[4][3] = {{1, 1, -1}, {1, -1, 0}, {-1, -1, 1}, {-1, 1, 0}};
    const double profit[3] = {15.0 / 16, 15.0 / 256, 255.0 / 65536};
    for (const auto& move : moves) {
      int64_t n[3];
      double gain = 0;
      for (int j = 0; j < 3; ++j) {
        const auto old = int64_t(a.at_least[size_t(j) + 1]);
        n[j] = old + move[j];
        if (n[j] < 0 || n[j] > d) continue;
        if (move[j] > 0) gain += profit[j] * e[size_t(old)];
        if (move[j] < 0) gain -= profit[j] * e[size_t(old) - 1];
      }
      if (n[2] < 0 || n[1] < n[2] || n[0] < n[1] || n[0] > d) continue;
      ASSERT_LE(gain, 1e-12 * e[0]);
    }
  }
}

TEST(ExactAllocator, UsesTheBudgetExactlyOnHeavilyTiedData) {
  for (Kind kind : {Kind::ternary, Kind::f16_grid, Kind::constant}) {
    const std::vector<float> values = make_data(kind, 30001);
    uint64_t nonzero = 0;
    for (float g : values) nonzero += g != 0;
    for (double share : {0.01, 0.1, 0.33, 0.7, 0.95}) {
      const uint64_t budget = uint64_t(share * double(8 * nonzero)) & ~uint64_t(1);
      const Allocation allocation = allocate(values, {}, budget);
      ASSERT_EQ(test::inconsistency(values, allocation), "") << test::kind_name(kind);
      // Where all have 4 bits, the steps are of 4 bits.
      const uint64_t step = allocation.at_least[2] == nonzero ? 4 : 2;
      ASSERT_LT(budget - allocation.payload_bits, step) << test::kind_name(kind) << share;
      ASSERT_NEAR(assignment_of(values, allocation).noise,
                  test::noise_of_sizes(values, {0, 2, 4, 8}, test::sorted_optimum(values, budget)), 1e-12);
    }
  }
}

TEST(ExactAllocator, GivesTiedElementsOfLowerIndexMore) {
  const std::vector<float> values(10, -0.5f);
  EXPECT_EQ(assignment_of(values, allocate(values, {}, 6)).widths,
            (std::vector<uint32_t>{2, 2, 2, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(assignment_of(values, allocate(values, {}, 26)).widths,
            (std::vector<uint32_t>{4, 4, 4, 2, 2, 2, 2, 2, 2, 2}));
}

TEST(ExactAllocator, TakesEmptyZeroAndSaturatedInputs) {
  EXPECT_EQ(allocate({}, {}, 100).payload_bits, 0u);
  const std::vector<float> zeros = make_data(Kind::signed_zeros, 100);
  const Allocation one = allocate(zeros, {}, 500);
  EXPECT_EQ(one.kept(), 1u);
  EXPECT_EQ(one.payload_bits, 8u);
  EXPECT_EQ(allocate(std::vector<float>(100, 0.0f), {}, 500).payload_bits, 0u);
  for (Kind kind : {Kind::near_max, Kind::subnormal, Kind::heavy}) {
    const std::vector<float> values = make_data(kind, 100);
    EXPECT_EQ(allocate(values, {}, 1u << 20).payload_bits, 800u);
    EXPECT_EQ(allocate(values, {}, 0).payload_bits, 0u);
    EXPECT_EQ(test::inconsistency(values, allocate(values, {}, 123)), "");
  }
}

TEST(ExactAllocator, NeedsNoMemoryForABudgetThatZerosCannotUse) {
  for (Kind kind : {Kind::zeros, Kind::one_nonzero}) {
    const std::vector<float> values = make_data(kind, 400000);
    largest_request = 0;
    const Allocation allocation = allocate(values, {}, 3000000);
    EXPECT_LE(allocation.payload_bits, 8u);
    EXPECT_LE(largest_request, 8 * values.size());
  }
}

TEST(Allocate, RefusesNonFiniteValuesAndBudgetsBelowTheNarrowestWidth) {
  std::vector<float> values = make_data(Kind::gauss, 50);
  try {
    allocate(values, WidthSet({2, 4}), 99);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unreachable_target);
    EXPECT_NE(std::string(error.what()).find("100"), std::string::npos) << error.what();
  }
  values[7] = NAN;
  try {
    allocate(values, {}, 100);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::non_finite);
    EXPECT_NE(std::string(error.what()).find("7"), std::string::npos);
  }
}

TEST(WidthSet, RefusesWhatIsNotAscendingWithin0To8) {
  EXPECT_THROW(WidthSet(std::vector<uint32_t>{}), Error);
  EXPECT_THROW(WidthSet({0, 9}), Error);
  EXPECT_THROW(WidthSet({2, 2}), Error);
  EXPECT_THROW(WidthSet({4, 2}), Error);
  const WidthSet paper;
  EXPECT_DOUBLE_EQ(paper.increment_profit(1) / paper.increment_bits(1), 0.46875);
  EXPECT_DOUBLE_EQ(paper.increment_profit(2) / paper.increment_bits(2), 0.029296875);
  EXPECT_DOUBLE_EQ(paper.increment_profit(3) / paper.increment_bits(3), 0.000972747802734375);
}

// More than 2^19 elements: the histogram is refined where the threshold may be, not sorted.
TEST(ExactAllocator, OfALargePopulationEqualsTheReferenceThatSorts) {
  constexpr size_t d = (1u << 19) + 12345;
  for (Kind kind : {Kind::heavy, Kind::gauss, Kind::f16_grid, Kind::ternary, Kind::sparse, Kind::near_max,
                    Kind::one_outlier}) {
    SCOPED_TRACE(test::kind_name(kind));
    const std::vector<float> values = make_data(kind, d);
    for (double bits : {0.001, 0.0321, 1.0, 3.99}) {
      const auto budget = uint64_t(bits * double(d));
      const Allocation allocation = allocate(values, {}, budget);
      const std::vector<uint64_t> expected = test::sorted_optimum(values, budget);
      ASSERT_EQ(allocation.at_least, expected) << bits;
      ASSERT_LE(allocation.payload_bits, budget);
      const std::vector<uint8_t> map = class_map(values, allocation);
      std::vector<uint64_t> members(4);
      for (uint8_t c : map) ++members[c];
      for (uint32_t j = 0; j < 4; ++j) ASSERT_EQ(members[j], allocation.members(j));
    }
  }
}

TEST(ExactAllocator, OfALargePopulationIsConsistentWithItself) {
  const std::vector<float> values = make_data(Kind::f16_grid, (1u << 19) + 1000);
  EXPECT_EQ(test::inconsistency(values, allocate(values, {}, 700001)), "");
  EXPECT_EQ(test::inconsistency(values, allocate(values, WidthSet({0, 1, 3, 6}), 700001)), "");
}

}  // namespace
}  // namespace jsq
