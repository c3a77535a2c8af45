// The device's passes that only look, against those of the processor: every figure to the bit, for every
// length and kind of data, whether a pool fits on the device or comes batch by batch.
#include <bit>
#include <cmath>
#include <limits>

#include "jsq/compress.hpp"
#include "kernels/cpu/summary.hpp"
#include "lib/core/pool.hpp"
#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

class SummaryOnDevice : public test::OnDevice {};

uint64_t bits(double value) {
  return std::bit_cast<uint64_t>(value);
}

void expect_same_chunks(const std::vector<std::vector<float>>& tensors, uint64_t most_resident) {
  const auto device = test::pool_values(tensors, most_resident);
  std::vector<uint64_t> histogram(element::summary_bins);
  const std::vector<element::ChunkSums> found = device->summarise(histogram);
  std::vector<uint64_t> expected_histogram(element::summary_bins);
  size_t next = 0;
  for (const std::vector<float>& values : tensors)
    for (size_t at = 0; at < values.size(); at += element::sum_chunk) {
      std::vector<uint32_t> counts(cpu::counted_bins);
      const element::ChunkSums expected = cpu::summarise_chunk(
          std::span(values).subspan(at, std::min(element::sum_chunk, values.size() - at)), counts);
      for (size_t b = 0; b < expected_histogram.size(); ++b) expected_histogram[b] += counts[b];
      ASSERT_LT(next, found.size());
      const element::ChunkSums& chunk = found[next++];
      EXPECT_EQ(bits(chunk.sum), bits(expected.sum));
      EXPECT_EQ(bits(chunk.sum_abs), bits(expected.sum_abs));
      EXPECT_EQ(bits(chunk.energy), bits(expected.energy));
      EXPECT_EQ(chunk.zeros, expected.zeros);
      EXPECT_EQ(chunk.nan, expected.nan);
      EXPECT_EQ(chunk.positive_infinite, expected.positive_infinite);
      EXPECT_EQ(chunk.negative_infinite, expected.negative_infinite);
      EXPECT_EQ(chunk.first_nonfinite, expected.first_nonfinite);
      EXPECT_EQ(chunk.max_key, expected.max_key);
    }
  EXPECT_EQ(next, found.size());
  EXPECT_EQ(histogram, expected_histogram);
}

TEST_F(SummaryOnDevice, IsTheProcessorsForEveryLengthAndKindOfData) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {0, 1, 31, 32, 33, 1000, 65535, 65536, 65537}) {
      SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
      expect_same_chunks({make_data(kind, n)}, 0);
    }
}

TEST_F(SummaryOnDevice, FindsTheFirstNonFiniteElementAndLeavesAllOfThemOut) {
  std::vector<float> values = make_data(Kind::heavy, 70000);
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  for (size_t i : {69, 70, 1000, 65536}) values[i] = nan;
  for (size_t i : {101, 69999}) values[i] = infinity;
  values[66000] = -infinity;
  expect_same_chunks({values}, 0);
}

TEST_F(SummaryOnDevice, IsTheSameWhenThePoolComesInBatches) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, (1u << 20) + 70001),
                                                   {},
                                                   make_data(Kind::gauss, 17),
                                                   make_data(Kind::sparse, 200000)};
  expect_same_chunks(tensors, 1);  // a batch takes a mebielement at least
}

TEST_F(SummaryOnDevice, IsTheSameWhenAPoolThatStaysComesInBatches) {
  const std::vector<float> part = make_data(Kind::heavy, 1u << 20);
  std::vector<float> large;  // of three batches
  for (int i = 0; i < 9; ++i) large.insert(large.end(), part.begin(), part.end());
  expect_same_chunks({make_data(Kind::gauss, 17), large, {}, make_data(Kind::sparse, 200000)}, 0);
}

TEST_F(SummaryOnDevice, IsTheSameWhereMagnitudesOfNeighboursAreFarApart) {
  std::vector<std::vector<float>> tensors;
  for (int i = 0; i < 20; ++i) {
    tensors.push_back(make_data(Kind::heavy, 65536 + 1000 * i));
    for (float& value : tensors.back()) value = std::ldexp(value, 20 * (i % 5) - 60);
  }
  expect_same_chunks(tensors, 0);
}

/// A pool of tensors in memory, on the processor or the device.
struct Pool {
  explicit Pool(const std::vector<std::vector<float>>& tensors, bool on_device) {
    infos.resize(tensors.size());
    std::vector<PoolTensor> members;
    for (size_t t = 0; t < tensors.size(); ++t) {
      infos[t].name = "t" + std::to_string(t);
      infos[t].shape = {tensors[t].size()};
      sources.push_back(source_of(infos[t], tensors[t]));
      members.push_back({.source = sources.back().get(), .info = &infos[t], .number = uint32_t(t)});
    }
    pool = std::make_unique<TensorPool>(std::move(members), HistogramPass::with_summary, on_device);
  }
  std::vector<TensorInfo> infos;
  std::vector<std::shared_ptr<const GradientSource>> sources;
  std::unique_ptr<TensorPool> pool;
};

TEST_F(SummaryOnDevice, AnswersWhatAllocatorsAskAsTheProcessorDoes) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 150001), make_data(Kind::ternary, 3000), make_data(Kind::f16_grid, 65536)};
  const Pool cpu(tensors, false), device(tensors, true);
  const Summary &expected = cpu.pool->summary(), &found = device.pool->summary();
  EXPECT_EQ(found.elements, expected.elements);
  EXPECT_EQ(found.histogram, expected.histogram);
  EXPECT_EQ(bits(found.energy), bits(expected.energy));
  EXPECT_EQ(found.max_key, expected.max_key);

  std::vector<cpu::KeyRange> ranges;
  for (uint32_t bin = 0; bin < summary_bins; ++bin)
    if (expected.histogram[bin] > 500)
      ranges.push_back({bin << element::summary_bin_shift, element::summary_bin_shift - 8});
  std::reverse(ranges.begin(), ranges.end());  // as an index of descending magnitudes asks
  ASSERT_GT(ranges.size(), 3u);
  EXPECT_EQ(device.pool->refine(ranges), cpu.pool->refine(ranges));

  const uint32_t tie = std::bit_cast<uint32_t>(0.25f);
  for (uint64_t quota : {1, 2, 1500})
    EXPECT_EQ(device.pool->index_after_tie(tie, quota), cpu.pool->index_after_tie(tie, quota));

  const auto found_keys = device.pool->key_counts(), expected_keys = cpu.pool->key_counts();
  ASSERT_EQ(found_keys.size(), expected_keys.size());
  for (size_t i = 0; i < found_keys.size(); ++i) {
    ASSERT_EQ(found_keys[i].key, expected_keys[i].key);
    ASSERT_EQ(found_keys[i].count, expected_keys[i].count);
  }
}

}  // namespace
}  // namespace jsq
