// Rand-k and the random subsets behind it: the k smallest random words, any k alike likely, values scaled by
// d / k.
#include "lib/methods/random_subset.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/element/philox.hpp"
#include "lib/collectives/endpoint.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::Kind;
using test::make_data;
using test::v8;

/// The k elements with the smallest random words, by sorting.
std::vector<std::vector<bool>> subset(const std::vector<std::vector<float>>& tensors, uint64_t seed,
                                      size_t k) {
  std::vector<std::tuple<uint32_t, size_t, size_t>> order;
  std::vector<std::vector<bool>> kept;
  for (size_t t = 0; t < tensors.size(); ++t) {
    kept.emplace_back(tensors[t].size());
    for (size_t i = 0; i < tensors[t].size(); ++i)
      order.emplace_back(element::random_word(seed, i, uint32_t(t), element::RandomPurpose::positions), t, i);
  }
  std::sort(order.begin(), order.end());
  for (size_t n = 0; n < k; ++n) kept[std::get<1>(order[n])][std::get<2>(order[n])] = true;
  return kept;
}

TEST(Randk, SendsTheElementsWithTheSmallestRandomWordsTimesElementsByKept) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::gauss, 3000, 1), make_data(Kind::gauss, 1, 2), make_data(Kind::gauss, 70000, 3)};
  for (size_t k : {1, 2, 100, 5000, 73000, 73001})
    for (const char* scale : {"on", "off"}) {
      const CodedPool coded(tensors, "randk:k=" + std::to_string(k) + ",scale=" + scale, 77 + k);
      const CodedPool::Result result = coded.code();
      const auto kept = subset(tensors, 77 + k, k);
      const float gain = scale == std::string("on") ? float(73001.0 / double(k)) : 1.0f;
      for (size_t t = 0; t < tensors.size(); ++t)
        for (size_t i = 0; i < tensors[t].size(); ++i)
          ASSERT_EQ(result.values[t][i], kept[t][i] ? tensors[t][i] * gain : 0.0f)
              << k << ' ' << t << ' ' << i;
      EXPECT_EQ(result.sums.nominal_bits, 32 * k);
    }
}

TEST(Randk, ExpectsTheErrorsOfTheWorkedVector) {
  const CodedPool scaled({v8}, "randk:k=3"), unscaled({v8}, "randk:k=3,scale=off");
  EXPECT_NEAR(scaled.code().sums.expected_error, 5.0 / 3 * 30.328125, 1e-5);
  EXPECT_NEAR(unscaled.code().sums.expected_error, 5.0 / 8 * 30.328125, 1e-12);
}

TEST(Randk, HasThatErrorAndNoBiasOverTheSeeds) {
  constexpr int seeds = 4000;
  std::vector<double> mean(8);
  double error = 0;
  for (uint64_t seed = 0; seed < seeds; ++seed) {
    const CodedPool coded({v8}, "randk:k=3", seed);
    const CodedPool::Result result = coded.code();
    for (size_t i = 0; i < 8; ++i) mean[i] += double(result.values[0][i]) / seeds;
    error += coded.squared_error(result) / seeds;
  }
  EXPECT_NEAR(error, 5.0 / 3 * 30.328125, 1.5);
  for (size_t i = 0; i < 8; ++i)  // five standard deviations of the mean
    EXPECT_NEAR(mean[i], double(v8[i]), 5 * std::abs(double(v8[i])) * std::sqrt(5.0 / 3 / seeds) + 1e-12)
        << i;
}

TEST(Randk, IsTheSameSubsetForEveryWorker) {
  const std::vector<float> a = make_data(Kind::gauss, 5000, 1), b = make_data(Kind::gauss, 5000, 2);
  const auto first = CodedPool({a}, "randk:k=700", 5).code(),
             second = CodedPool({b}, "randk:k=700", 5).code();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(first.values[0][i] == 0, second.values[0][i] == 0);
}

TEST(Randk, StaysFiniteWhereScalingOverflows) {
  const std::vector<float> values(100, 3e38f);
  for (float value : CodedPool({values}, "randk:k=1").decoded()) EXPECT_TRUE(std::isfinite(value));
}

TEST(Randk, ScalesByItselfOnlyWithoutFeedback) {
  const auto row = CodedPool({v8}, "randk:k=3").code(), on = CodedPool({v8}, "randk:k=3,scale=on").code();
  EXPECT_EQ(row.values, on.values);
}

// Workers send values at the same positions, which are added: the mean of what the messages decode to,
// scaled.
TEST(Randk, AddsMessagesInTheCodeDomain) {
  const std::vector<float> a = make_data(Kind::gauss, 70000, 1), b = make_data(Kind::gauss, 70000, 2);
  const MethodSpec spec = parse_method("randk:k=700");
  TensorInfo info;
  info.shape = {a.size()};
  const auto first = method_row("randk").make_endpoint(spec, {&info, 0, 0, 2, 5, 8}, a);
  const auto second = method_row("randk").make_endpoint(spec, {&info, 0, 1, 2, 5, 9}, b);
  std::string sum = first->message(0);
  EXPECT_EQ(sum.size(), 2800u);
  EXPECT_EQ(first->add(0, sum, second->message(0), 0), 0u);
  first->receive(0, sum);
  std::vector<float> mean(a.size()), own(a.size());
  first->mean(mean);
  first->own(own);
  const auto kept = subset({a}, 5, 700);
  for (size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(mean[i], kept[0][i] ? (a[i] / 2 + b[i] / 2) * 100.0f : 0.0f) << i;
    ASSERT_EQ(own[i], kept[0][i] ? a[i] * 100.0f : 0.0f) << i;
  }
}

// Words that tie are told apart by tensor and element.
TEST(RandomSubset, ListsWholeStretchesAsDrawingTheirWordsAgainDoes) {
  const std::vector<SubsetStretch> stretches = {{0, 0, 4096}, {0, 4096, 1000}, {2, 0, 4096}, {2, 4096, 4096}};
  RandomSubset subset(5, stretches);
  std::vector<uint32_t> expected, kept = {7};
  EXPECT_FALSE(subset.list(0, 0, 4096, kept));
  for (uint64_t k : {1, 77, 5000, 13287, 13288}) {
    const SubsetCut cut = subset.cut(k);
    uint64_t total = 0;
    for (const SubsetStretch& stretch : stretches) {
      list_subset(cut, 5, stretch.tensor, stretch.first, stretch.count, expected);
      ASSERT_TRUE(subset.list(stretch.tensor, stretch.first, stretch.count, kept));
      ASSERT_EQ(kept, expected) << k;
      total += kept.size();
    }
    EXPECT_EQ(total, k);
    list_subset(cut, 5, 2, 0, 8192, expected);
    ASSERT_TRUE(subset.list(2, 0, 8192, kept));
    EXPECT_EQ(kept, expected) << k;
    EXPECT_FALSE(subset.list(2, 0, 8000, kept));
    EXPECT_FALSE(subset.list(1, 0, 4096, kept));
    EXPECT_EQ(kept, expected) << "a refusal leaves the list";
  }
}

TEST(RandomSubset, CutsBetweenEqualWordsByTensorAndElement) {
  const uint32_t word = element::random_word(9, 40, 2, element::RandomPurpose::positions);
  std::vector<uint32_t> kept;
  const auto has = [&](SubsetCut cut) {
    list_subset(cut, 9, 2, 32, 16, kept);
    return std::find(kept.begin(), kept.end(), 8u) != kept.end();
  };
  EXPECT_TRUE(has({word, 2, 41}));
  EXPECT_FALSE(has({word, 2, 40}));
  EXPECT_TRUE(has({word, 3, 0}));
  EXPECT_FALSE(has({word, 1, 1000}));
  EXPECT_TRUE(has({word + 1, 0, 0}));
  EXPECT_FALSE(has({word - 1, 9, 1000}));
}

}  // namespace
}  // namespace jsq
