// The mean of workers: tree order, dense messages, gathered frames.
#include "jsq/aggregate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "jsq/error.hpp"

namespace jsq {
namespace {

using Values = std::vector<float>;

TensorInfo flat(uint64_t elements) {
  TensorInfo info;
  info.shape = {elements};
  return info;
}

std::vector<Values> gaussian_workers(size_t workers, size_t elements) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<Values> gradients(workers, Values(elements));
  for (Values& gradient : gradients)
    for (float& g : gradient) g = normal(random);
  return gradients;
}

AggregateReport run(const std::string& method, const std::vector<Values>& workers, Values& mean,
                    unsigned threads = 1) {
  AggregateOptions options;
  options.method = parse_method(method);
  options.threads = threads;
  options.target = default_target(options.method);
  mean.assign(workers[0].size(), 0);
  std::vector<std::span<const float>> spans(workers.begin(), workers.end());
  return aggregate(flat(workers[0].size()), spans, options, mean);
}

TEST(reduction_tree, joins_every_worker_once_at_doubling_strides) {
  const auto pairs = [](uint32_t n) {
    std::string text;
    for (const TreeEdge& edge : reduction_tree(n))
      text += std::to_string(edge.into) + "<" + std::to_string(edge.from) + " ";
    return text;
  };
  EXPECT_EQ(pairs(1), "");
  EXPECT_EQ(pairs(4), "0<1 2<3 0<2 ");
  EXPECT_EQ(pairs(7), "0<1 2<3 4<5 0<2 4<6 0<4 ");
}

TEST(aggregate, dense_messages_add_up_to_the_mean) {
  for (size_t n : {1, 2, 3, 5, 8}) {
    const std::vector<Values> workers = gaussian_workers(n, 1000);
    Values mean;
    const AggregateReport report = run("fp32", workers, mean);
    EXPECT_TRUE(report.code_domain);
    EXPECT_EQ(report.message_bytes, 4000u);
    EXPECT_LT(report.distortion.nmse(), 1e-12) << n;
    EXPECT_LT(run("fp16", workers, mean).distortion.nmse(), 1e-5) << n;
    EXPECT_LT(run("bf16", workers, mean).distortion.nmse(), 1e-3) << n;
  }
}

TEST(aggregate, half_precision_sums_do_not_overflow_where_the_mean_fits) {
  const std::vector<Values> workers(8, Values(10, 60000.0f));
  Values mean;
  run("fp16", workers, mean);
  for (float value : mean) EXPECT_EQ(value, 60000.0f);
}

TEST(aggregate, gathered_frames_are_decoded_and_averaged) {
  const std::vector<Values> workers = gaussian_workers(4, 5000);
  Values mean, again;
  const AggregateReport report = run("qsgd:bits=8", workers, mean);
  EXPECT_FALSE(report.code_domain);
  EXPECT_GT(report.reduced_bytes, 2 * report.message_bytes);
  EXPECT_LT(report.distortion.nmse(), 1e-3);
  run("qsgd:bits=8", workers, again, 3);
  EXPECT_EQ(mean, again);
}

TEST(aggregate, errors_of_independent_workers_average_out) {
  // The mean of n unbiased messages has 1/n of one message's variance: four times the workers, a quarter of
  // the error.
  const Values gradient = gaussian_workers(1, 20000)[0];
  Values mean;
  const double one = run("qsgd:bits=4", std::vector<Values>(1, gradient), mean).distortion.squared_error;
  const double sixteen = run("qsgd:bits=4", std::vector<Values>(16, gradient), mean).distortion.squared_error;
  EXPECT_NEAR(one / sixteen, 16, 1.5);
}

TEST(aggregate, refuses_workers_that_do_not_fit_together) {
  Values a(10, 1.0f), b(9, 1.0f), mean(10);
  AggregateOptions options;
  options.method = parse_method("fp32");
  EXPECT_THROW(aggregate(flat(10), {a, b}, options, mean), Error);
  EXPECT_THROW(aggregate(flat(10), {}, options, mean), Error);
  a[3] = NAN;
  EXPECT_THROW(aggregate(flat(10), {a}, options, mean), Error);
}

}  // namespace
}  // namespace jsq
