#include "lib/core/pool.hpp"

#include <tbb/enumerable_thread_specific.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <functional>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/summary.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/device.hpp"
#include "lib/core/device_source.hpp"
#include "lib/core/stored_values.hpp"

namespace jsq {
namespace {

struct Stretch {
  size_t tensor;
  uint64_t first;
  size_t count;
};

std::vector<Stretch> stretches_of(const std::vector<PoolTensor>& tensors, uint64_t length) {
  std::vector<Stretch> stretches;
  for (size_t t = 0; t < tensors.size(); ++t) {
    const uint64_t elements = tensors[t].info->elements();
    for (uint64_t first = 0; first < elements; first += length)
      stretches.push_back({t, first, size_t(std::min(length, elements - first))});
  }
  return stretches;
}

/// 32-bit counters for the hot loop, flushed before they can overflow.
struct LocalHistogram {
  std::vector<uint32_t> counts = std::vector<uint32_t>(cpu::counted_bins);
  std::vector<uint64_t> total;  // of what was flushed; few pools need it
  uint64_t held = 0;
  void make_room(uint64_t elements) {
    if (held + elements > UINT32_MAX) flush();
    held += elements;
  }
  void add_to(std::vector<uint64_t>& sum) const {
    for (uint32_t b = 0; b < summary_bins; ++b) sum[b] += counts[b];
    for (uint32_t b = 0; b < total.size(); ++b) sum[b] += total[b];
  }
  void flush() {
    total.resize(summary_bins);
    for (uint32_t b = 0; b < summary_bins; ++b) total[b] += counts[b];
    std::fill(counts.begin(), counts.end(), 0u);
    held = 0;
  }
};

constexpr uint64_t task_length = 16 * cpu::sum_chunk;
constexpr uint64_t least_sample = uint64_t(1) << 21;
constexpr uint64_t least_listed = uint64_t(1) << 24;  ///< elements of pools of which few are counted

/// Chunks of which one is looked at: a power of two up to the chunks of a task.
uint64_t sampled_chunks(const std::vector<Stretch>& tasks) {
  uint64_t elements = 0, every = 1;
  for (const Stretch& task : tasks) elements += task.count;
  while (every < task_length / cpu::sum_chunk && elements / (2 * every) >= least_sample) every *= 2;
  return every;
}

}  // namespace

/// The first key of the bin from which on a share of the elements lies, the largest, as stretches at even
/// distances have it.
uint32_t TensorPool::key_of_share(double share) const {
  constexpr uint64_t length = 512, wanted = 128;
  uint64_t elements = 0;
  for (const PoolTensor& tensor : tensors_) elements += tensor.info->elements();
  std::vector<uint32_t> keys;
  keys.reserve(wanted * length);
  std::vector<float> scratch;
  size_t t = 0;
  uint64_t before = 0;  // in the tensors before t
  for (uint64_t k = 0; k < wanted; ++k) {
    const uint64_t at = elements / wanted * k;
    while (at - before >= tensors_[t].info->elements()) before += tensors_[t++].info->elements();
    const uint64_t first = at - before, count = std::min(length, tensors_[t].info->elements() - first);
    for (const float g : read(t, first, size_t(count), scratch)) keys.push_back(element::magnitude_key(g));
  }
  const auto at = keys.begin() + std::ptrdiff_t(share * double(keys.size() - 1));
  std::nth_element(keys.begin(), at, keys.end(), std::greater<>());
  return *at >> cpu::summary_bin_shift << cpu::summary_bin_shift;
}

/// The chunks' sums of every task; the histogram goes to the summary where the pass takes it.
TensorPool::TaskSums TensorPool::summarise_tasks(HistogramPass pass) {
  const std::vector<Stretch> tasks = stretches_of(tensors_, task_length);
  const uint64_t every = pass == HistogramPass::of_a_sample ? sampled_chunks(tasks) : 1;
  TaskSums sums(tasks.size());
  tbb::enumerable_thread_specific<LocalHistogram> histograms, sampled;
  tbb::parallel_for(size_t(0), tasks.size(), [&](size_t i) {
    static thread_local std::vector<float> scratch;
    const Stretch& task = tasks[i];
    const auto summarise = [&](size_t begin, size_t end, size_t stands_for) {
      const std::span<const float> values = read(task.tensor, task.first + begin, end - begin, scratch);
      std::span<uint32_t> counts;
      if (pass != HistogramPass::when_asked) {
        LocalHistogram& local = stands_for == 1 ? histograms.local() : sampled.local();
        local.make_room(values.size());
        counts = local.counts;
      }
      for (size_t at = 0; at < values.size(); at += cpu::sum_chunk)
        sums[i].insert(sums[i].end(), stands_for,
                       cpu::summarise_chunk(values.subspan(at, std::min(cpu::sum_chunk, values.size() - at)),
                                            counts, least_counted_key_));
    };
    // Of whole groups of chunks one stands for all, not in step with the rows of a matrix.
    const size_t group = size_t(every) * cpu::sum_chunk, whole = every == 1 ? 0 : task.count / group * group;
    for (size_t at = 0; at < whole; at += group) {
      const size_t begin = at + 5 * (i + at / group) % every * cpu::sum_chunk;
      summarise(begin, begin + cpu::sum_chunk, every);
    }
    if (whole < task.count) summarise(whole, task.count, 1);
  });
  std::vector<uint64_t>& histogram = least_counted_key_ > 0 ? histogram_of_largest_ : summary_.histogram;
  if (pass != HistogramPass::when_asked) histogram.resize(summary_bins);
  for (const LocalHistogram& local : sampled) local.add_to(histogram);
  for (uint64_t& count : histogram) count *= every;
  for (const LocalHistogram& local : histograms) local.add_to(histogram);
  return sums;
}

TensorPool::TaskSums TensorPool::summarise_tasks_on_device(const TensorPool* whole, size_t of_whole) {
  return on_device([&] {
    std::vector<cuda::PoolValues::Tensor> tensors;
    for (const PoolTensor& tensor : tensors_)
      tensors.push_back({tensor.info->elements(), tensor.number, stored_float(tensor.info->dtype)});
    device_number_ = cuda::device_of_thread();
    device_ = cuda::make_pool_values(
        std::move(tensors), [this](size_t t, uint64_t first, size_t count, std::vector<float>& scratch) {
          return read(t, first, count, scratch);
        });
    for (size_t t = 0; t < tensors_.size(); ++t) {
      const auto* there = dynamic_cast<const DeviceSource*>(tensors_[t].source);
      if (there != nullptr && !tensors_[t].drop_nonfinite && tensors_[t].info->elements() > 0)
        cuda::use_in_place(*device_, t, there->values(tensors_[t].tensor));
    }
    if (whole != nullptr && tensors_[0].info->elements() > 0)
      if (const float* place = cuda::place_of(*whole->device_, of_whole))
        cuda::use_in_place(*device_, 0, place);
    summary_.histogram.resize(summary_bins);
    const std::vector<element::ChunkSums> chunks = device_->summarise(summary_.histogram);
    TaskSums sums;
    auto next = chunks.begin();
    for (const Stretch& task : stretches_of(tensors_, task_length)) {
      const auto count = std::ptrdiff_t((task.count + cpu::sum_chunk - 1) / cpu::sum_chunk);
      sums.emplace_back(next, next + count);
      next += count;
    }
    return sums;
  });
}

cuda::DeviceOfThread TensorPool::go_to_device() const {
  return on_device([&] { return cuda::DeviceOfThread(device_number_); });
}

std::vector<uint64_t> TensorPool::refine(std::span<const cpu::KeyRange> ranges) const {
  if (!device_) return Population::refine(ranges);
  std::vector<uint64_t> counts(cpu::cells_of_range * ranges.size());
  on_device([&] { device_->refine(ranges, counts); });
  return counts;
}

std::vector<Population::KeyCount> TensorPool::key_counts() const {
  if (!device_) return Population::key_counts();
  const cuda::PoolValues::KeyCounts found = on_device([&] { return device_->sorted_keys(); });
  std::vector<KeyCount> counts;
  for (size_t i = 0; i < found.keys.size(); ++i) counts.push_back({found.keys[i], found.counts[i]});
  return counts;
}

std::map<uint64_t, uint64_t> TensorPool::stretches_with(uint32_t key) const {
  if (!device_) return Population::stretches_with(key);
  const std::vector<uint32_t> equal = on_device([&] { return device_->count_key(key); });
  std::map<uint64_t, uint64_t> stretches;
  size_t next = 0;
  for (const Stretch& stretch : stretches_of(tensors_, cpu::sum_chunk))
    if (const uint32_t count = equal[next++])
      stretches[tensors_[stretch.tensor].first + stretch.first] = count;
  return stretches;
}

std::vector<double> TensorPool::squares_about(std::span<const double> centres) const {
  const std::vector<Stretch> stretches = stretches_of(tensors_, cpu::sum_chunk);
  std::vector<double> squares(stretches.size());
  if (device_) {
    squares = on_device([&] { return device_->squares_about(centres); });
  } else {
    tbb::parallel_for(size_t(0), stretches.size(), [&](size_t i) {
      static thread_local std::vector<float> scratch;
      const auto& [t, first, count] = stretches[i];
      squares[i] = cpu::squares_about(read(t, first, count, scratch), centres[t]);
    });
  }
  std::vector<double> totals(tensors_.size());
  for (size_t i = 0; i < stretches.size(); ++i) totals[stretches[i].tensor] += squares[i];
  return totals;
}

TensorPool::TensorPool(std::vector<PoolTensor> tensors, HistogramPass pass, bool on_device_wanted,
                       double ranked_share)
    : tensors_(std::move(tensors)) {
  uint64_t elements = 0;
  for (const PoolTensor& tensor : tensors_) elements += tensor.info->elements();
  // Counting by lists takes longer where they are long.
  const bool pays = elements >= least_listed && ranked_share < 0.5;
  if (pays && pass == HistogramPass::with_summary && !on_device_wanted)
    least_counted_key_ = key_of_share(ranked_share);
  summarise(pass, on_device_wanted, nullptr, 0);
}

TensorPool::TensorPool(const TensorPool& whole, size_t t, HistogramPass pass)
    : tensors_({whole.tensors_[t]}) {
  const bool there = whole.device_ != nullptr;
  summarise(pass, there, there ? &whole : nullptr, t);
}

void TensorPool::summarise(HistogramPass pass, bool on_device_wanted, const TensorPool* whole,
                           size_t of_whole) {
  uint64_t first = 0;
  for (PoolTensor& tensor : tensors_) {
    tensor.first = first;
    first += tensor.info->elements();
  }
  // Histograms are integers and may be merged in any order; sums are kept by chunk and added in order below.
  const std::vector<Stretch> tasks = stretches_of(tensors_, task_length);
  const TaskSums sums = on_device_wanted ? summarise_tasks_on_device(whole, of_whole) : summarise_tasks(pass);
  statistics_.resize(tensors_.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    TensorStatistics& statistics = statistics_[tasks[i].tensor];
    uint64_t at = tasks[i].first;
    for (const element::ChunkSums& chunk : sums[i]) {
      if (statistics.first_nonfinite == UINT64_MAX && chunk.first_nonfinite != UINT64_MAX)
        statistics.first_nonfinite = at + chunk.first_nonfinite;
      statistics.nan += chunk.nan;
      statistics.positive_infinite += chunk.positive_infinite;
      statistics.negative_infinite += chunk.negative_infinite;
      statistics.energy += chunk.energy;
      statistics.sum += chunk.sum;
      statistics.sum_abs += chunk.sum_abs;
      statistics.max_key = std::max(statistics.max_key, chunk.max_key);
      summary_.zeros += chunk.zeros;
      summary_.max_key = std::max(summary_.max_key, chunk.max_key);
      summary_.sum += chunk.sum;
      summary_.sum_abs += chunk.sum_abs;
      summary_.energy += chunk.energy;
      at += cpu::sum_chunk;
    }
  }
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const TensorStatistics& statistics = statistics_[t];
    if (summary_.first_nonfinite == UINT64_MAX && statistics.first_nonfinite != UINT64_MAX)
      summary_.first_nonfinite = tensors_[t].first + statistics.first_nonfinite;
    summary_.nan += statistics.nan;
    summary_.positive_infinite += statistics.positive_infinite;
    summary_.negative_infinite += statistics.negative_infinite;
  }
  summary_.elements = first;
}

TensorPool::TensorPool(const TensorInfo& info, std::span<const float> values)
    : TensorPool(source_of(info, values), info) {}

TensorPool::TensorPool(std::shared_ptr<const GradientSource> source, const TensorInfo& info)
    : TensorPool({PoolTensor{.source = source.get(), .info = &info}}) {
  owned_ = std::move(source);
}

const std::vector<uint64_t>& TensorPool::histogram() const {
  if (!summary_.histogram.empty()) return summary_.histogram;
  std::call_once(counted_, [&] {
    tbb::enumerable_thread_specific<LocalHistogram> histograms;
    visit([&](uint64_t, std::span<const float> values) {
      LocalHistogram& local = histograms.local();
      local.make_room(values.size());
      cpu::count_magnitudes(values, local.counts);
    });
    histogram_.assign(summary_bins, 0);
    for (const LocalHistogram& local : histograms) local.add_to(histogram_);
  });
  return histogram_;
}

std::span<const float> TensorPool::read(size_t t, uint64_t first, size_t count,
                                        std::vector<float>& scratch) const {
  const PoolTensor& tensor = tensors_[t];
  const std::span<const float> values = tensor.source->read(tensor.tensor, first, count, scratch);
  if (!tensor.drop_nonfinite) return values;
  const auto nonfinite = [](float g) { return element::magnitude_key(g) >= element::first_nonfinite_key; };
  if (std::none_of(values.begin(), values.end(), nonfinite)) return values;
  if (values.data() != scratch.data()) scratch.assign(values.begin(), values.end());
  scratch.resize(count);
  for (float& g : scratch)
    if (nonfinite(g)) g = 0;
  return scratch;
}

bool TensorPool::lies_in_memory(size_t t) const {
  std::vector<float> scratch;
  return tensors_[t].source->read(tensors_[t].tensor, 0, 1, scratch).data() != scratch.data();
}

void TensorPool::visit(const std::function<void(uint64_t, std::span<const float>)>& visitor) const {
  const std::vector<Stretch> stretches = stretches_of(tensors_, cpu::sum_chunk);
  tbb::parallel_for(size_t(0), stretches.size(), [&](size_t i) {
    static thread_local std::vector<float> scratch;
    const Stretch& stretch = stretches[i];
    visitor(tensors_[stretch.tensor].first + stretch.first,
            read(stretch.tensor, stretch.first, stretch.count, scratch));
  });
}

PoolSample sample_pool(const TensorPool& pool, size_t elements) {
  constexpr uint64_t length = 2048;
  PoolSample sample;
  const uint64_t total = pool.summary().elements;
  const std::vector<Stretch> stretches = stretches_of(pool.tensors(), length);
  // Take stretch i when the running quota passes a whole number: even distances, small tensors included.
  const double wanted = double(elements) / double(std::max<uint64_t>(total, 1));
  double quota = 0;
  std::vector<float> scratch;
  for (const Stretch& stretch : stretches) {
    quota += wanted * double(stretch.count);
    if (total > elements && quota < double(stretch.count)) continue;
    quota -= double(stretch.count);
    const std::span<const float> values = pool.read(stretch.tensor, stretch.first, stretch.count, scratch);
    sample.values.insert(sample.values.end(), values.begin(), values.end());
  }
  if (!sample.values.empty()) sample.scale = double(total) / double(sample.values.size());
  return sample;
}

}  // namespace jsq
