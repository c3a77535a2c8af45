// Pools: tensors that share a budget are one population, whatever their number, sizes and element types.
#include "lib/core/pool.hpp"

#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include <cmath>
#include <mutex>

#include "lib/allocators/allocator.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

/// Tensors of the given lengths, one after the other over `values`.
struct Tensors {
  std::vector<std::shared_ptr<const GradientSource>> sources;
  std::vector<PoolTensor> tensors;
  Tensors(std::span<const float> values, const std::vector<size_t>& lengths, bool drop_nonfinite = false) {
    size_t at = 0;
    for (size_t n : lengths) {
      TensorInfo info;
      info.name = "t" + std::to_string(sources.size());
      info.shape = {n};
      sources.push_back(source_of(info, values.subspan(at, n)));
      PoolTensor tensor;
      tensor.source = sources.back().get();
      tensor.info = &sources.back()->tensors()[0];
      tensor.number = uint32_t(tensors.size());
      tensor.drop_nonfinite = drop_nonfinite;
      tensors.push_back(tensor);
      at += n;
    }
  }
};

TEST(TensorPool, HasTheSummaryOfTheConcatenation) {
  for (test::Kind kind : test::all_kinds) {
    const std::vector<size_t> lengths = {0, 1, 70000, 0, 65536, 5, 131072, 3};
    const std::vector<float> values = test::make_data(kind, 70000 + 65536 + 131072 + 9);
    const Tensors parts(values, lengths);
    const TensorPool pool(parts.tensors);
    const Summary whole = summarise(values);
    ASSERT_EQ(pool.summary().elements, values.size());
    ASSERT_EQ(pool.summary().zeros, whole.zeros);
    ASSERT_EQ(pool.summary().max_key, whole.max_key);
    ASSERT_EQ(pool.summary().histogram, whole.histogram);
    const TensorPool later(parts.tensors, HistogramPass::when_asked);
    ASSERT_EQ(later.summary().energy, pool.summary().energy);
    ASSERT_EQ(later.histogram(), whole.histogram);
    ASSERT_EQ(&later.histogram(), &later.histogram()) << "counted once";
    ASSERT_NEAR(pool.summary().energy, whole.energy, 1e-13 * whole.energy);
    ASSERT_NEAR(pool.summary().sum_abs, whole.sum_abs, 1e-13 * whole.sum_abs);
    double energy = 0;
    uint64_t first = 0;
    for (size_t t = 0; t < lengths.size(); ++t) {
      ASSERT_EQ(pool.tensors()[t].first, first);
      ASSERT_EQ(pool.statistics(t).energy, summarise(std::span(values).subspan(first, lengths[t])).energy);
      energy += pool.statistics(t).energy;
      first += lengths[t];
    }
    ASSERT_NEAR(energy, whole.energy, 1e-13 * whole.energy);
  }
}

TEST(TensorPool, GivesTheSameSummaryAndAllocationForAnyThreadCount) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 1500000);
  const Tensors parts(values, {1000000, 3, 499997});
  std::vector<double> energies;
  std::vector<Allocation> allocations;
  for (int threads : {1, 2, 3, 7})
    tbb::task_arena(threads).execute([&] {
      const TensorPool pool(parts.tensors);
      MagnitudeIndex index(pool);
      energies.push_back(pool.summary().energy);
      allocations.push_back(allocate(index, {}, 1700001, {}));
    });
  for (size_t i = 1; i < energies.size(); ++i) {
    EXPECT_EQ(energies[i], energies[0]);
    EXPECT_EQ(allocations[i].at_least, allocations[0].at_least);
    EXPECT_EQ(allocations[i].threshold_key, allocations[0].threshold_key);
    EXPECT_EQ(allocations[i].cutoff_index, allocations[0].cutoff_index);
  }
}

TEST(TensorPool, IsAllocatedAsTheConcatenationIs) {
  for (test::Kind kind : {test::Kind::heavy, test::Kind::ternary, test::Kind::f16_grid})
    for (size_t last : {1000u, 700000u}) {
      const std::vector<float> values = test::make_data(kind, 70005 + last);
      const Tensors parts(values, {5, 0, 70000, last});
      const TensorPool pool(parts.tensors);
      MagnitudeIndex index(pool);
      for (AllocatorKind allocator : {AllocatorKind::exact, AllocatorKind::literal, AllocatorKind::sampled}) {
        const AllocationOptions options{.allocator = allocator, .seed = 1};
        const Allocation pooled = allocate(index, {}, values.size() + 1, options),
                         whole = allocate(values, {}, values.size() + 1, options);
        ASSERT_EQ(pooled.at_least, whole.at_least)
            << test::kind_name(kind) << last << allocator_name(allocator);
        ASSERT_EQ(pooled.threshold_key, whole.threshold_key);
        ASSERT_EQ(pooled.cutoff_index, whole.cutoff_index);
      }
    }
}

TEST(TensorPool, VisitsEveryElementOnceInStretchesThatDoNotCrossBorders) {
  const std::vector<float> values = test::make_data(test::Kind::gauss, 300000);
  const std::vector<size_t> lengths = {1, 65535, 65536, 65537, 0, 103391};
  const Tensors parts(values, lengths);
  const TensorPool pool(parts.tensors);
  std::vector<uint8_t> seen(values.size());
  std::mutex mutex;
  pool.visit([&](uint64_t first, std::span<const float> stretch) {
    const std::lock_guard lock(mutex);
    uint64_t begin = 0;
    for (size_t n : lengths) {
      if (first >= begin && first < begin + n) {
        EXPECT_EQ((first - begin) % 65536, 0u);
        EXPECT_LE(first + stretch.size(), begin + n);
      }
      begin += n;
    }
    EXPECT_LE(stretch.size(), 65536u);
    for (size_t i = 0; i < stretch.size(); ++i) {
      ++seen[first + i];
      EXPECT_EQ(stretch[i], values[first + i]);
    }
  });
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), int64_t(values.size()));
}

TEST(TensorPool, CountsNonFiniteElementsAndReadsThemAsZeroOnRequest) {
  std::vector<float> values = test::make_data(test::Kind::gauss, 100000);
  values[70001] = NAN;
  values[70002] = -HUGE_VALF;
  values[99999] = HUGE_VALF;
  const Tensors kept(values, {70000, 30000});
  const TensorPool pool(kept.tensors);
  EXPECT_EQ(pool.statistics(0).nonfinite(), 0u);
  EXPECT_EQ(pool.statistics(0).first_nonfinite, UINT64_MAX);
  EXPECT_EQ(pool.statistics(1).nan, 1u);
  EXPECT_EQ(pool.statistics(1).negative_infinite, 1u);
  EXPECT_EQ(pool.statistics(1).positive_infinite, 1u);
  EXPECT_EQ(pool.statistics(1).first_nonfinite, 1u);
  EXPECT_EQ(pool.summary().first_nonfinite, 70001u);

  const Tensors dropped(values, {70000, 30000}, true);
  const TensorPool clean(dropped.tensors);
  EXPECT_EQ(clean.summary().nonfinite(), 0u);
  std::vector<float> scratch;
  const auto read = clean.read(1, 0, 4, scratch);
  EXPECT_EQ(read[0], values[70000]);
  EXPECT_EQ(read[1], 0.0f);
  EXPECT_EQ(read[2], 0.0f);
  EXPECT_EQ(read[3], values[70003]);
}

TEST(SamplePool, IsThePoolItselfWhenSmallAndEvenlySpacedStretchesWhenLarge) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 1 << 20);
  const Tensors parts(values, {1000, (1 << 20) - 1000});
  const TensorPool pool(parts.tensors);
  const PoolSample all = sample_pool(pool, 1 << 20);
  EXPECT_EQ(all.values, values);
  EXPECT_EQ(all.scale, 1.0);
  const PoolSample some = sample_pool(pool, 1 << 17);
  EXPECT_NEAR(double(some.values.size()), double(1 << 17), 8192.0);
  EXPECT_DOUBLE_EQ(some.scale * double(some.values.size()), double(1 << 20));
  // The sample's energy stands for the whole.
  const double scaled = some.scale * summarise(some.values).energy, whole = summarise(values).energy;
  EXPECT_NEAR(scaled, whole, 0.5 * whole);
  EXPECT_EQ(sample_pool(pool, 1 << 17).values, some.values);
}

TEST(TensorPool, ASampleOfALargePoolStandsForIt) {
  constexpr size_t large = (size_t(1) << 23) + 70000, small = 3000;
  const std::vector<float> values = test::make_data(test::Kind::heavy, large + 100 * small);
  std::vector<size_t> lengths(100, small);
  lengths.push_back(large);
  const Tensors parts(values, lengths);
  const TensorPool whole(parts.tensors), sampled(parts.tensors, HistogramPass::of_a_sample);
  EXPECT_EQ(sampled.summary().elements, whole.summary().elements);
  EXPECT_NEAR(sampled.summary().sum_abs, whole.summary().sum_abs, 0.01 * whole.summary().sum_abs);
  for (size_t t = 0; t < 100; ++t)  // none of which is too small to be met
    EXPECT_EQ(sampled.statistics(t).energy, whole.statistics(t).energy) << t;
  uint64_t all = 0, off = 0;
  for (size_t bin = 0; bin < whole.histogram().size(); ++bin) {
    const uint64_t a = whole.histogram()[bin], b = sampled.histogram()[bin];
    all += b;
    off += a > b ? a - b : b - a;
  }
  EXPECT_EQ(all, whole.summary().elements);
  EXPECT_LT(double(off), 0.1 * double(all));
  const TensorPool again(parts.tensors, HistogramPass::of_a_sample);
  EXPECT_EQ(again.histogram(), sampled.histogram());
}

TEST(TensorPool, LargeOnesMayCountTheirLargestElementsAlone) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, (size_t(1) << 24) + 77777);
  const Tensors parts(values, {70000, values.size() - 70000});
  const TensorPool whole(parts.tensors);
  EXPECT_EQ(whole.least_counted_key(), 0u);
  for (const double share : {0.3, 0.01}) {
    const TensorPool pool(parts.tensors, HistogramPass::with_summary, false, share);
    const uint32_t first = pool.least_counted_key() >> cpu::summary_bin_shift;
    ASSERT_GT(first, 0u);
    EXPECT_EQ(pool.least_counted_key() % (1u << cpu::summary_bin_shift), 0u);
    const std::vector<uint64_t>& all = whole.histogram();
    uint64_t counted = 0;
    for (size_t bin = first; bin < all.size(); ++bin) {
      ASSERT_EQ(pool.histogram_of_largest()[bin], all[bin]) << bin;
      counted += all[bin];
    }
    EXPECT_NEAR(double(counted) / double(values.size()), share, 0.3 * share);
    EXPECT_EQ(pool.histogram(), all) << "whole where it is asked for";
    EXPECT_EQ(pool.summary().energy, whole.summary().energy);
    EXPECT_EQ(pool.summary().max_key, whole.summary().max_key);
  }
}

TEST(TensorPool, MayBeEmpty) {
  const TensorPool none({});
  EXPECT_EQ(none.summary().elements, 0u);
  EXPECT_TRUE(sample_pool(none, 100).values.empty());
  const Tensors empty(std::span<const float>(), {0, 0});
  EXPECT_EQ(TensorPool(empty.tensors).summary().elements, 0u);
}

}  // namespace
}  // namespace jsq
