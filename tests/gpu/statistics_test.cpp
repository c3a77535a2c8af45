// Statistics on the device against those of the processor: every figure to the bit, for every length, shape
// and order of storage, whether a tensor fits on the device, comes batch by batch, or lies there already.
#include "jsq/statistics.hpp"

#include <bit>
#include <cstring>
#include <limits>

#include "jsq/device.hpp"
#include "jsq/largest.hpp"
#include "kernels/cpu/axis_sums.hpp"
#include "kernels/cpu/largest.hpp"
#include "kernels/cpu/moments.hpp"
#include "kernels/cpu/summary.hpp"
#include "kernels/cuda/statistics.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/core/memory_source.hpp"
#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

class StatisticsOnDevice : public test::OnDevice {};

/// Every member is a double or an integer of 64 bits.
template <class Figures>
std::vector<uint64_t> words_of(const Figures& figures) {
  std::vector<uint64_t> words(sizeof figures / sizeof(uint64_t));
  std::memcpy(words.data(), &figures, sizeof figures);
  return words;
}

void expect_same_sums(const std::vector<float>& values, cuda::PoolValues& pool, size_t tensor,
                      const std::vector<element::Axis>& axes) {
  std::vector<uint64_t> histogram(element::summary_bins);
  const cuda::TensorSums found = cuda::tensor_sums(pool, tensor, axes, histogram);
  std::vector<uint32_t> expected_histogram(cpu::counted_bins);
  std::vector<std::vector<double>> sums;
  for (const element::Axis& axis : axes) sums.emplace_back(axis.indices);
  size_t c = 0;
  for (size_t at = 0; at < values.size(); at += element::sum_chunk, ++c) {
    const auto chunk = std::span(values).subspan(at, std::min(element::sum_chunk, values.size() - at));
    const element::ChunkSums expected = cpu::summarise_chunk(chunk, expected_histogram);
    const element::ChunkMoments moments = cpu::moments_of_chunk(chunk, expected);
    ASSERT_LT(c, found.sums.size());
    EXPECT_EQ(std::bit_cast<uint64_t>(found.sums[c].energy), std::bit_cast<uint64_t>(expected.energy));
    for (size_t m = 0; m < element::moment_count; ++m)
      EXPECT_EQ(std::bit_cast<uint64_t>(found.moments[c].of[m]), std::bit_cast<uint64_t>(moments.of[m])) << m;
    EXPECT_EQ(found.moments[c].pairs, moments.pairs);
    EXPECT_EQ(std::bit_cast<uint32_t>(found.moments[c].first), std::bit_cast<uint32_t>(moments.first));
    EXPECT_EQ(std::bit_cast<uint32_t>(found.moments[c].last), std::bit_cast<uint32_t>(moments.last));
    for (size_t a = 0; a < axes.size(); ++a)
      if (axes[a].indices > 0) cpu::add_to_axis(axes[a], at, chunk, sums[a]);
  }
  EXPECT_EQ(c, found.sums.size());
  EXPECT_TRUE(std::equal(histogram.begin(), histogram.end(), expected_histogram.begin()));
  for (size_t a = 0; a < axes.size(); ++a)
    for (size_t i = 0; i < sums[a].size(); ++i)
      ASSERT_EQ(std::bit_cast<uint64_t>(found.axes[a][i]), std::bit_cast<uint64_t>(sums[a][i]))
          << axes[a].indices << " of " << axes[a].length << ": " << i;
}

TEST_F(StatisticsOnDevice, HaveTheProcessorsSumsForEveryLengthAndKindOfData) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {1, 31, 32, 33, 257, 1000, 65535, 65536, 65537}) {
      SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
      const std::vector<std::vector<float>> tensors = {make_data(kind, n)};
      expect_same_sums(tensors[0], *test::pool_values(tensors), 0,
                       {{(n + 255) / 256, 256, n}, {n, 1, n}, {1, n, n}});
    }
}

TEST_F(StatisticsOnDevice, OfSeveralTensorsInBatchesAreTheProcessors) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 3001),
                                                   {},
                                                   make_data(Kind::gauss, (1u << 20) + 70005),
                                                   make_data(Kind::sparse, 200000)};
  const size_t n = tensors[2].size(), columns = 1101;          // of which the length is no multiple
  for (uint64_t most_resident : {uint64_t(0), uint64_t(1)}) {  // a batch takes a mebielement at least
    const auto pool = test::pool_values(tensors, most_resident);
    expect_same_sums(tensors[3], *pool, 3, {{200, 1000, 200000}, {1000, 1, 1000}, {125, 8, 1000}, {}});
    expect_same_sums(tensors[2], *pool, 2,
                     {{columns, 1, columns}, {3, 367, columns}, {367, 3, columns}, {2, n / 2, n}});
    expect_same_sums(tensors[0], *pool, 0, {{11, 256, 3001}});
  }
}

TensorInfo info_of(std::vector<uint64_t> shape, bool fortran_order) {
  TensorInfo info;
  info.shape = std::move(shape);
  info.fortran_order = fortran_order;
  return info;
}

/// Figures of every tensor, of its largest elements, and of all of them together.
std::vector<std::vector<uint64_t>> figures_of(const GradientSource& source, Backend backend) {
  StatisticsReader reader(source, backend);
  Statistics whole;
  std::vector<std::vector<uint64_t>> figures;
  for (size_t t = 0; t < source.tensors().size(); ++t) {
    const Statistics of_tensor = reader.statistics(t);
    LargestElements largest(of_tensor);
    reader.add_to(largest, t);
    figures.push_back(words_of(of_tensor.figures()));
    figures.push_back(words_of(largest.figures()));
    whole.append(of_tensor);
  }
  LargestElements largest(whole);
  for (size_t t = 0; t < source.tensors().size(); ++t) reader.add_to(largest, t);
  figures.push_back(words_of(whole.figures()));
  figures.push_back(words_of(largest.figures()));
  return figures;
}

TEST_F(StatisticsOnDevice, GiveTheProcessorsFiguresForEveryShapeAndNonFiniteElements) {
  const std::vector<TensorInfo> infos = {info_of({}, false),
                                         info_of({0}, false),
                                         info_of({33}, false),
                                         info_of({70003}, false),
                                         info_of({300, 401}, false),
                                         info_of({300, 401}, true),
                                         info_of({32, 17, 3, 3}, false),
                                         info_of({32, 17, 3, 3}, true),
                                         info_of({5, 7, 2000}, false),
                                         info_of({70000, 16}, false),
                                         info_of({16, 70000}, true)};
  std::vector<std::vector<float>> values;
  std::vector<GradientView> views;
  for (size_t t = 0; t < infos.size(); ++t) {
    values.push_back(make_data(t % 3 == 2 ? Kind::sparse : Kind::heavy, infos[t].elements(), t));
    if (t % 4 == 3)
      for (size_t i = 1; i < values[t].size(); i = i * 3 + 1) {
        values[t][i] = std::numeric_limits<float>::quiet_NaN();
        values[t][i / 2] = -std::numeric_limits<float>::infinity();
      }
  }
  for (size_t t = 0; t < infos.size(); ++t) views.push_back({&infos[t], values[t]});
  const auto source = source_of(views);
  EXPECT_EQ(figures_of(*source, Backend::cuda), figures_of(*source, Backend::cpu));
}

TEST_F(StatisticsOnDevice, ReadTensorsWhereTheyLie) {
  const std::vector<float> values = make_data(Kind::heavy, 100 * 1003);
  const TensorInfo info = info_of({100, 1003}, false);
  const std::shared_ptr<void> memory = cuda::allocate_for_user(values.size() * sizeof(float));
  cuda::copy_to_user(memory.get(), values.data(), values.size() * sizeof(float), nullptr);
  const auto there = device_source({{info, memory.get()}}, nullptr);
  const auto here = source_of({{&info, values}});
  EXPECT_EQ(figures_of(*there, Backend::cuda), figures_of(*here, Backend::cpu));
}

}  // namespace
}  // namespace jsq
