// Schedules: budgets against the equations that define them, solved elsewhere.
#include "jsq/schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace jsq {
namespace {

constexpr StepSize step{.input_bytes = 4'000'000'000, .elements = 1'000'000'000};
constexpr Target ratio_100{TargetKind::ratio, 100};

std::vector<uint64_t> budgets(const std::string& schedule, uint64_t steps, Target target = ratio_100) {
  return scheduled_bytes(parse_schedule(schedule), target, step, steps);
}
uint64_t sum(const std::vector<uint64_t>& bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), uint64_t(0));
}
double ratio(uint64_t bytes) {
  return double(step.input_bytes) / double(bytes);
}

TEST(RampRatio, EndsWhereTheHarmonicMeanOfItsRatiosIsTheTargets) {
  // Solved with sympy: sum over t of 1 / (50 + (r - 50) t / (T - 1)) = T / 100.
  EXPECT_NEAR(ratio(budgets("ramp-ratio:50", 5).back()), 205.03, 0.01);
  EXPECT_NEAR(ratio(budgets("ramp-ratio:50", 100).back()), 176.49, 0.01);
  // Two steps: 1 / 50 + 1 / r = 2 / 100 has no solution; 1 / 80 + 1 / r = 1 / 50 gives 133.33.
  EXPECT_NEAR(ratio(budgets("ramp-ratio:80", 2).back()), 400.0 / 3, 1e-4);
}

TEST(RampRatio, IsLinearInTheRatio) {
  const std::vector<uint64_t> bytes = budgets("ramp-ratio:60", 11);
  const double first = ratio(bytes.front()), last = ratio(bytes.back());
  EXPECT_NEAR(first, 60, 1e-5);
  for (size_t t = 0; t < bytes.size(); ++t)
    EXPECT_NEAR(ratio(bytes[t]), first + (last - first) * double(t) / 10, 1e-3) << t;
}

TEST(RampBits, IsLinearInTheBytesAroundTheirMean) {
  const std::vector<uint64_t> bytes = budgets("ramp-bits:80", 5);
  EXPECT_EQ(bytes, (std::vector<uint64_t>{50'000'000, 45'000'000, 40'000'000, 35'000'000, 30'000'000}));
}

TEST(Ramps, TakeTheBytesOfTheConstantScheduleInAll) {
  for (const char* schedule :
       {"ramp-ratio:51.3", "ramp-ratio:300", "ramp-bits:77", "ramp-bits:3000", "constant"})
    for (uint64_t steps : {2, 3, 7, 100})
      EXPECT_EQ(sum(budgets(schedule, steps, {TargetKind::bytes, 40123457})), 40123457 * steps)
          << schedule << steps;
}

TEST(Ramps, OfOneStepAreConstant) {
  EXPECT_EQ(budgets("ramp-ratio:50", 1), budgets("constant", 1));
  EXPECT_EQ(budgets("ramp-bits:60", 1), budgets("constant", 1));
}

TEST(Ramps, RefuseAStartThatNoEndMakesUpFor) {
  EXPECT_THROW(budgets("ramp-bits:50", 4), Error);
  EXPECT_NO_THROW(budgets("ramp-bits:51", 4));
  // Of 4 steps one at a ratio of 25 takes all bytes.
  EXPECT_THROW(budgets("ramp-ratio:25", 4), Error);
  EXPECT_NO_THROW(budgets("ramp-ratio:26", 4));
}

TEST(Warmup, KeepsPowersOfTheDensity) {
  // DGC: rho = 0.001, E = 5: .316, .1, .0316, .01, .00316, .001.
  const std::vector<uint64_t> bytes = budgets("warmup:5", 7, {TargetKind::ratio, 1000});
  const double expected[] = {0.31622777, 0.1, 0.031622777, 0.01, 0.0031622777, 0.001, 0.001};
  for (size_t t = 0; t < bytes.size(); ++t) EXPECT_NEAR(1 / ratio(bytes[t]), expected[t], 1e-8) << t;
}

TEST(Schedule, ReadsWhatItWrites) {
  for (const char* text : {"constant", "ramp-ratio:50", "ramp-bits:12.5", "warmup:5"})
    EXPECT_EQ(to_string(parse_schedule(text)), text);
  for (const char* text : {"", "ramp", "ramp-ratio", "ramp-ratio:", "ramp-ratio:-3", "ramp-ratio:0",
                           "ramp-bits:1e400", "ramp-bits:5x", "warmup:2.5", "constant:3", "linear:50"})
    EXPECT_THROW(parse_schedule(text), Error) << text;
}

}  // namespace
}  // namespace jsq
