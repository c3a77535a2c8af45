#include "lib/methods/jointsq_tally.hpp"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "lib/core/device.hpp"
#include "lib/core/scattered.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/packers/class_device.hpp"

namespace jsq {
namespace {

constexpr uint64_t plenty = uint64_t(1) << 21;  ///< elements that are tallied

/// Ranges that are counted of a large pool, whatever its blocks are: short, so that those of which the
/// magnitudes are tallied, or even the classes are counted, come from every layer.
constexpr uint8_t range_log2 = 13, spread_log2 = 12;
/// Of so many ranges one is counted: at most of twenty, so that two counts and two whole passes, which is
/// what coding takes, read the values less than 2.2 times; at least four fifths of a Mi elements.
uint32_t spread_of(uint64_t elements) {
  constexpr uint64_t most = 20, enough = 8 * plenty / most;
  return uint32_t(std::clamp<uint64_t>(elements / enough, 1, most));
}

/// One range of each spread, not in step with the rows of a matrix.
std::vector<cuda::BlockRange> spread_ranges(const TensorPool& pool, uint32_t spread) {
  constexpr uint64_t length = uint64_t(1) << spread_log2;
  std::vector<cuda::BlockRange> ranges;
  uint32_t number = 0;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const uint64_t elements = pool.tensors()[t].info->elements();
    for (uint64_t first = 0; first < elements; first += length, ++number)
      if (number % spread == scattered_place(number / spread, spread))
        ranges.push_back({t, first, size_t(std::min(length, elements - first))});
  }
  return ranges;
}

template <class Counts>
uint64_t sum_of(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t(0));
}

struct Tallies {
  ClassTally counted, tallied;
};

/// Counts blocks on the device, every stride-th in full.
Tallies tally_on_device(cuda::PoolValues& values, const ClassCoder& coder,
                        const std::vector<cuda::BlockRange>& blocks, size_t stride,
                        std::vector<BlockSums>& sums) {
  std::vector<uint8_t> in_full(blocks.size());
  for (size_t i = 0; i < blocks.size(); i += stride) in_full[i] = 1;
  cuda::ClassCounts tallied_counts, counted_counts;
  std::vector<cuda::ClassSums> found(blocks.size());
  on_device([&] {
    values.tally(device_composition(coder), blocks, in_full, tallied_counts, counted_counts, found);
  });
  for (size_t i = 0; i < blocks.size(); i += stride) sums[i] = block_sums(coder.plan, found[i], false);
  return {class_tally(counted_counts), class_tally(tallied_counts)};
}

/// Inside a block the runs on both sides of a range's end follow each other, which no range has counted:
/// every activity that occurs may follow every other.
void join_ranges(PoolTally& tally) {
  std::array<bool, element::max_activity_buckets> occurs{};
  for (const SymbolCounts& following : tally.counts->entropy.activity)
    for (uint32_t b = 0; b < element::max_activity_buckets; ++b) occurs[b] |= following[b] > 0;
  for (uint32_t b = 0; b < element::max_activity_buckets; ++b)
    for (uint32_t next = 0; next < element::max_activity_buckets; ++next) {
      tally.chances->activity[b][next] = occurs[b] && occurs[next];
      tally.counts->entropy.activity[b][next] += tally.chances->activity[b][next];
    }
}

/// Counts of `ranges` ranges become those of the pool, of which the allocation knows how many elements are
/// in every class.
void extrapolate_classes(PoolTally& tally, const Allocation& allocation, uint32_t classes,
                         uint64_t pool_elements, size_t ranges) {
  ClassTally& counts = *tally.counts;
  const double elements = double(pool_elements);
  const double scale = elements / double(std::max<uint64_t>(1, sum_of(counts.members)));
  const double kept_of_ranges = scale * double(sum_of(counts.members) - counts.members[0]);
  for (uint32_t j = 0; j < classes; ++j) counts.members[j] = allocation.members(j) + 1;
  const double kept = double(sum_of(counts.members) - counts.members[0]);
  if (kept_of_ranges > 0) tally.growth_of_kept = kept / kept_of_ranges;

  const uint32_t buckets = element::activity_bucket(element::run_length * (classes - 1)) + 1;
  const auto extend = [](uint64_t& count, double by) { count = uint64_t(double(count) * by) + 1; };
  // Blocks, of which there are few, begin as if a quiet run came before. So do ranges, but in a block their
  // first runs follow others as all runs do.
  SymbolCounts follows{};
  for (const SymbolCounts& row : counts.entropy.activity)
    for (uint32_t b = 0; b < buckets; ++b) follows[b] += row[b];
  const double first = double(ranges) / double(std::max<uint64_t>(1, sum_of(follows)));
  for (uint32_t b = 0; b < buckets; ++b) {
    uint64_t& count = counts.entropy.activity[0][b];
    count -= std::min(count, uint64_t(first * double(follows[b])));
  }
  for (uint32_t b = 0; b < buckets; ++b) {
    for (uint32_t next = 0; next < buckets; ++next)
      extend(counts.entropy.activity[b][next], scale / (1 - first));
    for (uint32_t j = 0; j < classes; ++j) extend(counts.entropy.classes[b][j], scale);
  }
}

/// Magnitudes of `known` blocks become those of the pool.
void extrapolate_magnitudes(PoolTally& tally, const element::ClassPlan& plan, uint64_t pool_elements,
                            const ClassTally& known) {
  uint64_t known_elements = 0;
  for (uint64_t members : known.members) known_elements += members;
  tally.counts->rice_bits = uint64_t(double(known.rice_bits) * double(pool_elements) /
                                     double(std::max<uint64_t>(1, known_elements)));
  for (uint32_t j = 0; j < plan.classes; ++j) {
    if (tally.counts->members[j] == 0) continue;
    const uint32_t symbols = 1u << element::coded_magnitude_bits(plan.width[j]);
    const double scale = known.members[j] ? double(tally.counts->members[j]) / double(known.members[j]) : 0.0;
    for (uint32_t b = 0; b < element::max_activity_buckets; ++b)
      for (uint32_t s = 0; s < symbols; ++s) {
        tally.counts->entropy.magnitude[j][b][s] =
            uint64_t(double(known.entropy.magnitude[j][b][s]) * scale) + 1;
        tally.chances->magnitude[j][b][s] = 1;
      }
  }
}

}  // namespace

double growth_of_map(const PoolTally& tally, const EntropyModel& model, double elements) {
  if (tally.growth_of_kept == 1) return 1;
  const EntropyCounts& counts = tally.counts->entropy;
  double kept_bits = 0, kept_squared = 0, all_kept = 0, all_bits = 0;
  for (uint32_t b = 0; b < model.buckets; ++b) {
    double runs = 0, kept = 0;
    EntropyCounts of_bucket;
    for (uint32_t previous = 0; previous < model.buckets; ++previous) {
      of_bucket.activity[previous][b] = counts.activity[previous][b];
      runs += double(counts.activity[previous][b]);
    }
    of_bucket.classes[b] = counts.classes[b];
    for (uint32_t j = 1; b > 0 && j < model.classes; ++j) kept += double(counts.classes[b][j]);
    const double bits = double(model.cost(of_bucket).map_q16) / 65536;
    kept_bits += kept * bits / std::max(runs, 1.0);
    kept_squared += kept * kept / std::max(runs, 1.0);
    all_kept += kept;
    all_bits += bits;
  }
  if (kept_squared == 0 || all_bits == 0) return 1;
  const double p = all_kept / elements;
  const double by_runs = kept_bits / kept_squared * all_kept / all_bits;
  const double alone =
      p < 0.5 ? p * std::log2(1 / p - 1) / (p * std::log2(1 / p) + (1 - p) * std::log2(1 / (1 - p))) : 0;
  return std::pow(tally.growth_of_kept, std::min(by_runs, alone));
}

PoolTally tally_pool(const TensorPool& pool, const ClassCoder& coder, const Allocation& allocation,
                     uint8_t block_log2, Tallied which) {
  PoolTally tally;
  const bool in_full = which != Tallied::part;
  // Of a dozen large blocks a third would say little about the rest: ranges are counted in their place.
  // Only where all are counted is it known which symbols occur.
  const uint64_t elements = pool.summary().elements, tallied_elements = std::min(plenty, elements / 4);
  const uint32_t spread = in_full ? 1 : spread_of(elements);
  const bool sampled = spread > 1;
  const std::vector<cuda::BlockRange> blocks =
      sampled ? spread_ranges(pool, spread) : pool_blocks(pool, in_full ? block_log2 : range_log2);
  const size_t stride = in_full ? 1 : size_t(std::max<uint64_t>(1, elements / spread / tallied_elements));
  std::vector<BlockSums> sums(blocks.size());
  ClassTally tallied;
  if (pool.device() != nullptr) {
    Tallies found = tally_on_device(*pool.device(), coder, blocks, stride, sums);
    tallied = found.tallied;
    tally.counts->merge(found.counted);
  } else {
    tbb::enumerable_thread_specific<Tallies> tallies;
    tbb::parallel_for(size_t(0), blocks.size(), [&](size_t i) {
      static thread_local std::vector<float> scratch;
      const cuda::BlockRange& block = blocks[i];
      const PoolTensor& tensor = pool.tensors()[block.tensor];
      const std::span<const float> values = pool.read(block.tensor, block.first, block.count, scratch);
      Tallies& local = tallies.local();
      if (which == Tallied::all_with_errors)
        coder.tally(values, tensor.first + block.first, block.first, tensor.number, tensor.info->dtype,
                    local.tallied, sums[i]);
      else if (i % stride == 0)
        coder.tally_symbols(values, tensor.first + block.first, block.first, tensor.number, local.tallied);
      else
        coder.count(values, tensor.first + block.first, local.counted);
    });
    for (const Tallies& local : tallies) {
      tallied.merge(local.tallied);
      tally.counts->merge(local.counted);
    }
  }
  for (const BlockSums& block : sums) tally.sums.add(block);
  tally.counts->merge(tallied);
  if (!in_full) tally.chances = std::make_unique<EntropyCounts>();
  if (sampled)
    extrapolate_classes(tally, allocation, coder.plan.classes, elements, blocks.size());
  else if (!in_full && block_log2 > range_log2)
    join_ranges(tally);
  if (sampled || stride > 1) extrapolate_magnitudes(tally, coder.plan, elements, tallied);
  return tally;
}

}  // namespace jsq
