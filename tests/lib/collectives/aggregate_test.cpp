// The mean of workers: tree order, dense messages, gathered frames.
#include "jsq/aggregate.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "jsq/compress.hpp"
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

TEST(mean_of_frames, refuses_messages_that_are_not_as_long_as_the_mean) {
  const Values values(10, 1.0f);
  CompressOptions options;
  options.method = parse_method("fp32");
  options.target = default_target(options.method);
  MemorySink frame;
  compress({{"g", source_of(flat(10), values), {}, true}}, options, frame);
  for (const size_t elements : {9, 10, 11}) {
    Values mean(elements);
    try {
      mean_of_frames({frame.bytes, frame.bytes}, mean, 1);
      EXPECT_EQ(elements, 10u);
      EXPECT_EQ(mean, values);
    } catch (const Error& error) {
      EXPECT_NE(elements, 10u);
      EXPECT_EQ(error.code(), Errc::damaged) << error.what();
    }
  }
}

TEST(aggregate, refuses_workers_that_do_not_fit_together) {
  Values a(10, 1.0f), b(9, 1.0f), mean(10);
  AggregateOptions options;
  options.method = parse_method("fp32");
  EXPECT_THROW(aggregate(flat(10), {a, b}, options, mean), Error);
  EXPECT_THROW(aggregate(flat(10), {}, options, mean), Error);
  EXPECT_THROW(aggregate(flat(10), {a}, options, std::span(mean).first(9)), Error);
  a[3] = NAN;
  EXPECT_THROW(aggregate(flat(10), {a}, options, mean), Error);
}

// ---- Many tensors, and one worker at a time ----------------------------------------------------------

std::vector<TensorInfo> two_tensors() {
  TensorInfo matrix, vector;
  matrix.name = "conv";
  matrix.shape = {20, 40};
  vector.name = "bias";
  vector.shape = {200};
  return {matrix, vector};
}

std::vector<GradientView> views_of(const std::vector<TensorInfo>& tensors, const Values& values) {
  return {{&tensors[0], std::span(values).first(800)}, {&tensors[1], std::span(values).subspan(800)}};
}

/// Every worker by itself; `exchange` turns a round's messages into their sum.
template <class Exchange>
Values mean_by(const std::string& method, const std::vector<Values>& gradients, const Exchange& exchange) {
  const std::vector<TensorInfo> tensors = two_tensors();
  AggregateOptions options;
  options.method = parse_method(method);
  options.target = default_target(options.method);
  std::vector<AggregateWorker> workers;
  for (size_t w = 0; w < gradients.size(); ++w)
    workers.emplace_back(views_of(tensors, gradients[w]), options, uint32_t(w), uint32_t(gradients.size()));
  for (uint32_t round = 0; round < workers[0].rounds(); ++round) {
    std::vector<std::string> messages;
    for (AggregateWorker& worker : workers) messages.push_back(worker.message(round));
    const std::string sum = exchange(workers, round, messages);
    for (AggregateWorker& worker : workers) worker.receive(round, sum);
  }
  Values mean(1000);
  workers.back().mean(mean);
  return mean;
}

Values mean_of_all(const std::string& method, const std::vector<Values>& gradients) {
  AggregateOptions options;
  options.method = parse_method(method);
  options.target = default_target(options.method);
  Values mean(1000);
  aggregate(two_tensors(), {gradients.begin(), gradients.end()}, options, mean);
  return mean;
}

TEST(AggregateWorker, MakesTheMeanOfAllWorkersByTheTree) {
  const std::vector<Values> gradients = gaussian_workers(7, 1000);
  for (const char* method : {"fp16", "gqsgd-std", "gqsgd-exp", "thc", "terngrad", "signsgd:scale=mean",
                             "randk", "powersgd:rank=2"})
    EXPECT_EQ(mean_by(method, gradients,
                      [](auto& workers, uint32_t round, std::vector<std::string> messages) {
                        const std::vector<TreeEdge> tree = reduction_tree(7);
                        for (uint32_t e = 0; e < tree.size(); ++e)
                          workers[tree[e].into].add(round, messages[tree[e].into], messages[tree[e].from], e);
                        return messages[0];
                      }),
              mean_of_all(method, gradients))
        << method;
}

TEST(AggregateWorker, RoundsOfAnyOrderAddUpToTheSameBytesFromEitherEnd) {
  const std::vector<Values> gradients = gaussian_workers(5, 1000);
  for (const char* method : {"gqsgd-std", "thc", "terngrad", "signsgd"}) {
    const Values mean = mean_by(method, gradients, [&](auto& workers, uint32_t round, auto messages) {
      EXPECT_TRUE(workers[0].any_order(round)) << method;
      std::string sum = messages.back();
      for (size_t w = messages.size() - 1; w-- > 0;)
        EXPECT_EQ(workers[w].add(round, sum, messages[w], 0), 0u);
      std::string other = messages[0];
      for (size_t w = 1; w < messages.size(); ++w) workers[w].add(round, other, messages[w], 9);
      EXPECT_EQ(sum, other) << method;
      return sum;
    });
    EXPECT_EQ(mean, mean_of_all(method, gradients)) << method;
  }
}

TEST(AggregateWorker, ValuesAndSumsThatHalvesCannotHoldAreCounted) {
  const Values large(1000, 2e5f), fits(1000, 65504.0f * 2);
  const std::vector<TensorInfo> tensors = two_tensors();
  AggregateOptions options;
  options.method = parse_method("fp16");
  Values mean(1000);
  AggregateReport report = aggregate(tensors, {large, large}, options, mean);
  EXPECT_EQ(report.overflowed, 2000u);
  EXPECT_EQ(report.saturated, 1000u);
  EXPECT_EQ(mean[0], 65504.0f);
  report = aggregate(tensors, {fits, fits}, options, mean);
  EXPECT_EQ(report.overflowed, 0u);
  EXPECT_EQ(report.saturated, 1000u);
}

TEST(AggregateWorker, RefusesAMessageOfAnotherSize) {
  const std::vector<Values> gradients = gaussian_workers(2, 1000);
  const std::vector<TensorInfo> tensors = two_tensors();
  AggregateOptions options;
  options.method = parse_method("fp16");
  AggregateWorker worker(views_of(tensors, gradients[0]), options, 0, 2);
  std::string message = worker.message(0);
  const std::string longer = message + "x", shorter = message.substr(1);
  EXPECT_THROW(worker.add(0, message, longer, 0), Error);
  EXPECT_THROW(worker.add(0, message, shorter, 0), Error);
  EXPECT_THROW(worker.receive(0, shorter), Error);
}

TEST(aggregate, allreduce_is_refused_where_messages_do_not_add_and_allgather_works_everywhere) {
  const std::vector<Values> gradients = gaussian_workers(3, 1000);
  const std::vector<std::span<const float>> spans(gradients.begin(), gradients.end());
  AggregateOptions options;
  options.method = parse_method("topk:k=10");
  options.collective = Collective::allreduce;
  Values mean(1000);
  EXPECT_THROW(aggregate(two_tensors(), spans, options, mean), Error);
  options.method = parse_method("fp32");
  options.collective = Collective::allgather;
  EXPECT_FALSE(aggregate(two_tensors(), spans, options, mean).code_domain);
  Values truth(1000);
  true_mean(spans, truth);
  EXPECT_EQ(mean, truth);
}

}  // namespace
}  // namespace jsq
