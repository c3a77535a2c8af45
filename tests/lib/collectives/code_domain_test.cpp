// Sums in the code domain: the mean that comes back is the mean of what the workers' messages decode to,
// worked vectors, and no overflow where published code has one.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "jsq/aggregate.hpp"
#include "jsq/error.hpp"
#include "lib/collectives/endpoint.hpp"
#include "lib/collectives/packed_levels.hpp"
#include "lib/core/seeds.hpp"
#include "lib/methods/method.hpp"

namespace jsq {
namespace {

using Values = std::vector<float>;

TensorInfo flat(uint64_t elements) {
  TensorInfo info;
  info.name = "w";
  info.shape = {elements};
  return info;
}

/// Workers that share a mean and have noise of their own.
std::vector<Values> noisy_workers(size_t workers, size_t elements, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Values common(elements);
  for (float& value : common) value = normal(random);
  std::vector<Values> gradients(workers, common);
  for (Values& gradient : gradients)
    for (float& value : gradient) value += 0.5f * normal(random);
  return gradients;
}

struct Outcome {
  Values mean;
  Values mean_of_own;  ///< in double, rounded
  uint64_t saturated = 0;
};

/// Plays all rounds of a collective in one process.
Outcome exchange(const std::string& method, const std::vector<Values>& workers, const TensorInfo& info,
                 uint64_t seed = 1, Rounding rounding = Rounding::automatic) {
  const MethodSpec spec = parse_method(method);
  const auto n = uint32_t(workers.size());
  std::vector<std::unique_ptr<Endpoint>> endpoints;
  for (uint32_t w = 0; w < n; ++w)
    endpoints.push_back(method_row(spec.name).make_endpoint(
        spec, {&info, 0, w, n, seed, stream_seed(seed, w), rounding}, workers[w]));
  Outcome outcome;
  for (uint32_t round = 0; round < endpoints[0]->rounds(); ++round) {
    std::vector<std::string> messages;
    for (auto& endpoint : endpoints) messages.push_back(endpoint->message(round));
    uint32_t edge = 0;
    for (const TreeEdge& e : reduction_tree(n))
      outcome.saturated += endpoints[e.into]->add(round, messages[e.into], messages[e.from], edge++);
    for (auto& endpoint : endpoints) endpoint->receive(round, messages[0]);
  }
  const size_t d = workers[0].size();
  outcome.mean.resize(d);
  endpoints[0]->mean(outcome.mean);
  for (auto& endpoint : endpoints) {
    Values other(d);
    endpoint->mean(other);
    EXPECT_EQ(other, outcome.mean) << "every worker must get the same mean";
  }
  std::vector<double> sum(d, 0.0);
  Values own(d);
  for (auto& endpoint : endpoints) {
    endpoint->own(own);
    for (size_t i = 0; i < d; ++i) sum[i] += own[i];
  }
  for (double s : sum) outcome.mean_of_own.push_back(float(s / n));
  return outcome;
}

Values true_mean(const std::vector<Values>& workers) {
  Values mean;
  for (size_t i = 0; i < workers[0].size(); ++i) {
    double sum = 0;
    for (const Values& worker : workers) sum += worker[i];
    mean.push_back(float(sum / double(workers.size())));
  }
  return mean;
}

double largest(const Values& values) {
  double most = 0;
  for (float value : values) most = std::max(most, std::abs(double(value)));
  return most;
}

/// Rows that add without rounding on the way.
class LinearSums : public testing::TestWithParam<const char*> {};

TEST_P(LinearSums, are_the_mean_of_the_decoded_messages) {
  for (size_t n : {1, 2, 3, 4, 7, 8, 16}) {
    const std::vector<Values> workers = noisy_workers(n, 3001, uint32_t(n));
    const Outcome outcome = exchange(GetParam(), workers, flat(3001));
    EXPECT_EQ(outcome.saturated, 0u);
    const double unit = largest(outcome.mean_of_own) * 4e-7 * double(n);
    for (size_t i = 0; i < outcome.mean.size(); ++i)
      ASSERT_NEAR(outcome.mean[i], outcome.mean_of_own[i], unit) << n << " " << i;
  }
}

TEST_P(LinearSums, of_zeros_are_zeros) {
  const Outcome outcome = exchange(GetParam(), std::vector<Values>(3, Values(17, 0.0f)), flat(17));
  for (float value : outcome.mean) EXPECT_EQ(value, 0.0f);
}

INSTANTIATE_TEST_SUITE_P(methods, LinearSums,
                         testing::Values("fp32", "gqsgd-std", "gqsgd-std:bits=12,bucket=100", "terngrad",
                                         "terngrad:clip=0", "randk:density=0.1", "thc",
                                         "thc:table=uniform,block=64"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name)
                             if (!std::isalnum(uint8_t(c))) c = '_';
                           return name;
                         });

TEST(code_domain, global_qsgd_gives_the_worked_levels) {
  // check_vectors.py 3: n = 2, G = 4, s = 63. To nearest, q_A = [8, -16, 4, 32] (7.875, -15.75, 3.9375, 31.5
  // away from zero) and q_B = [-8, 12, 63, 16].
  const std::vector<Values> workers = {{.5f, -1, .25f, 2}, {-.5f, .75f, 4, 1}};
  const Outcome outcome = exchange("gqsgd-std", workers, flat(4), 1, Rounding::nearest);
  const Values expected = {0, -4 * 4 / 126.0f, 67 * 4 / 126.0f, 48 * 4 / 126.0f};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(outcome.mean[i], expected[i], 1e-6) << i;
}

TEST(code_domain, levels_leave_room_where_the_published_grid_wraps) {
  // All workers at +G: the published code rounds 127/n up, and n ceil(127/n) = 128 for every power of two up
  // to 128.
  for (uint32_t n : {2u, 3u, 4u, 8u, 16u, 32u, 64u, 127u}) {
    const std::vector<Values> workers(n, Values(64, 1.0f));
    const Outcome safe = exchange("gqsgd-std", workers, flat(64));
    EXPECT_EQ(safe.saturated, 0u) << n;
    for (float value : safe.mean) EXPECT_NEAR(value, 1.0f, 1e-6) << n;
  }
  // The published grid rounds to nearest 31.75 -> 32 at n = 4: sums of 128 are cut and counted, where int8
  // wraps to -128.
  const Outcome published = exchange("gqsgd-std:variant=code", std::vector<Values>(4, Values(64, 1.0f)),
                                     flat(64), 1, Rounding::nearest);
  EXPECT_EQ(published.saturated, 64u);
  for (float value : published.mean) EXPECT_NEAR(value, 1.0f, 0.01f);
}

TEST(code_domain, more_workers_than_an_accumulator_holds_are_refused) {
  EXPECT_THROW(exchange("gqsgd-std", std::vector<Values>(128, Values(4, 1.0f)), flat(4)), Error);
  EXPECT_NO_THROW(exchange("gqsgd-std:bits=9", std::vector<Values>(128, Values(4, 1.0f)), flat(4)));
}

/// Mean and variance of a method's mean over seeds against the true mean.
void expect_unbiased(const std::string& method, size_t n, double variance_bound) {
  constexpr size_t d = 24, rounds = 3000;
  const std::vector<Values> workers = noisy_workers(n, d, 5);
  const Values truth = true_mean(workers);
  std::vector<double> sum(d, 0.0), squares(d, 0.0);
  for (uint64_t seed = 0; seed < rounds; ++seed) {
    const Outcome outcome = exchange(method, workers, flat(d), 1000 + seed);
    for (size_t i = 0; i < d; ++i) {
      const double error = double(outcome.mean[i]) - truth[i];
      sum[i] += error;
      squares[i] += error * error;
    }
  }
  double error = 0, energy = 0;
  for (size_t i = 0; i < d; ++i) {
    const double deviation = std::sqrt(squares[i] / rounds);
    EXPECT_LT(std::abs(sum[i] / rounds), 5 * deviation / std::sqrt(double(rounds)) + 1e-7)
        << method << " n " << n << " i " << i;
    error += squares[i] / rounds;
    for (const Values& worker : workers) energy += double(worker[i]) * worker[i] / double(n);
  }
  EXPECT_LT(error, variance_bound * energy) << method << " n " << n;
}

TEST(code_domain, sums_are_unbiased) {
  for (size_t n : {2, 3, 4}) expect_unbiased("gqsgd-std", n, 0.01);
  // Powers of two only keep every partial sum in range; each rounding multiplies the second moment by at most
  // 9/8, over the encoding and log2 n additions, and sums of n workers stand against their mean: n^2 / n = n
  // times the energy.
  for (size_t n : {2, 4, 8}) expect_unbiased("gqsgd-exp", n, std::pow(1.125, 1 + std::log2(double(n))) - 1);
  expect_unbiased("terngrad:clip=0", 4, 2);
}

TensorInfo matrix(uint64_t rows, uint64_t columns, bool fortran = false) {
  TensorInfo info;
  info.name = "m";
  info.shape = {rows, columns};
  info.fortran_order = fortran;
  return info;
}

double nmse(const Values& found, const Values& truth) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    error += (double(found[i]) - truth[i]) * (double(found[i]) - truth[i]);
    energy += double(truth[i]) * truth[i];
  }
  return energy > 0 ? error / energy : error;
}

TEST(code_domain, factors_add_up_to_the_mean_of_the_decoded_messages) {
  for (const char* method : {"powersgd:rank=3", "acpsgd:rank=3"})
    for (size_t n : {1, 3, 4})
      for (bool fortran : {false, true}) {
        const Outcome outcome =
            exchange(method, noisy_workers(n, 20 * 31, uint32_t(n)), matrix(20, 31, fortran));
        EXPECT_LT(nmse(outcome.mean, outcome.mean_of_own), 1e-11) << method << " " << n << fortran;
      }
}

TEST(code_domain, factors_of_full_rank_give_the_mean_itself) {
  const std::vector<Values> workers = noisy_workers(5, 12 * 40, 9);
  for (const char* method : {"powersgd:rank=12", "powersgd:rank=12,iters=2"})
    EXPECT_LT(nmse(exchange(method, workers, matrix(12, 40)).mean, true_mean(workers)), 1e-10) << method;
  // ACP-SGD's step 0 projects on r random directions of the row space: whole only with as many as columns.
  EXPECT_LT(nmse(exchange("acpsgd:rank=12", workers, matrix(40, 12)).mean, true_mean(workers)), 1e-10);
}

TEST(code_domain, low_rank_of_the_mean_is_found_by_workers_that_never_see_it) {
  // Every worker has noise, the mean has rank 1: u v^T.
  const size_t rows = 16, columns = 24;
  std::vector<Values> workers(2, Values(rows * columns));
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) {
      const float noise = normal(random);
      workers[0][i * columns + j] = float(i + 1) * (float(j % 5) - 2) + noise;
      workers[1][i * columns + j] = float(i + 1) * (float(j % 5) - 2) - noise;
    }
  EXPECT_LT(nmse(exchange("powersgd:rank=1", workers, matrix(rows, columns)).mean, true_mean(workers)),
            1e-10);
}

TEST(code_domain, zero_and_huge_matrices_stay_finite) {
  for (const char* method : {"powersgd:rank=2", "acpsgd:rank=2", "powersgd", "thc", "gqsgd-exp", "terngrad"})
    for (float value : {0.0f, 1e-38f, 3e38f}) {
      const Outcome outcome = exchange(method, std::vector<Values>(4, Values(6 * 5, value)), matrix(6, 5));
      for (float decoded : outcome.mean) {
        EXPECT_TRUE(std::isfinite(decoded)) << method << " " << value;
        EXPECT_TRUE(value != 0 || decoded == 0.0f) << method;
      }
    }
}

TEST(code_domain, random_positions_are_shared_and_unbiased) {
  expect_unbiased("randk:density=0.25", 3, 4);
  const Outcome outcome = exchange("randk:k=10", noisy_workers(4, 100, 1), flat(100));
  EXPECT_EQ(std::count_if(outcome.mean.begin(), outcome.mean.end(), [](float value) { return value != 0; }),
            10);
}

TEST(code_domain, rotated_sums_come_close_to_the_mean) {
  const std::vector<Values> workers = noisy_workers(4, 4096, 2);
  EXPECT_LT(nmse(exchange("thc", workers, flat(4096)).mean, true_mean(workers)), 0.02);
  EXPECT_LT(nmse(exchange("thc:bits=8", workers, flat(4096)).mean, true_mean(workers)), 0.01);
}

TEST(code_domain, votes_follow_the_majority) {
  // check_vectors.py 14.
  const std::vector<Values> workers = {{.5f, -1, .2f}, {-.1f, -2, .3f}, {.4f, .7f, -.9f}};
  EXPECT_EQ(exchange("signsgd", workers, flat(3)).mean, (Values{1, -1, 1}));
  const std::vector<Values> even = {{1, -1, 0}, {-1, -1, 2}};
  EXPECT_EQ(exchange("signsgd", even, flat(3)).mean, (Values{0, -1, 1}));
  EXPECT_EQ(exchange("signsgd:tie=plus", even, flat(3)).mean, (Values{1, -1, 1}));
  EXPECT_EQ(exchange("signsgd:scale=mean", even, flat(3)).mean[1], -1.0f);  // mean of 2/3 and 4/3
}

TEST(code_domain, random_ties_go_both_ways) {
  const std::vector<Values> even = {Values(1000, 1.0f), Values(1000, -1.0f)};
  double sum = 0;
  for (float value : exchange("signsgd:tie=random", even, flat(1000)).mean) {
    EXPECT_EQ(std::abs(value), 1.0f);
    sum += value;
  }
  EXPECT_LT(std::abs(sum), 4 * std::sqrt(1000.0));
}

TEST(code_domain, messages_of_another_size_are_refused) {
  const TensorInfo info = flat(100);
  const Values values(100, 1.0f);
  for (const char* method : {"fp32", "gqsgd-std", "gqsgd-exp", "terngrad", "signsgd"}) {
    const MethodSpec spec = parse_method(method);
    const auto endpoint =
        method_row(spec.name).make_endpoint(spec, {&info, 0, 0, 2, 1, 1, Rounding::automatic}, values);
    std::string message = endpoint->message(0);
    EXPECT_THROW(endpoint->add(0, message, std::string_view(message).substr(1), 0), Error) << method;
    EXPECT_THROW(endpoint->receive(0, message + "x"), Error) << method;
  }
}

}  // namespace
}  // namespace jsq
