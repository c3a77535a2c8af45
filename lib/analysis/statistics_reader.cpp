// The passes that statistics need, by the processor chunk by chunk or on the device tensor by tensor.
#include <algorithm>
#include <utility>

#include "jsq/largest.hpp"
#include "jsq/statistics.hpp"
#include "kernels/cpu/largest.hpp"
#include "kernels/cpu/moments.hpp"
#include "kernels/cpu/summary.hpp"
#include "kernels/cuda/statistics.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "lib/core/device.hpp"
#include "lib/core/device_source.hpp"

namespace jsq {

namespace {

using element::sum_chunk;

constexpr uint64_t most_counted = uint64_t(1) << 31;  ///< elements that counters of 32 bits have room for

size_t chunk_at(uint64_t first, uint64_t elements) {
  return size_t(std::min<uint64_t>(sum_chunk, elements - first));
}

/// Calls use(values) for the chunks of a tensor.
template <class Use>
void for_chunks(const GradientSource& source, size_t tensor, Use use) {
  std::vector<float> scratch;
  const uint64_t elements = source.tensors()[tensor].elements();
  for (uint64_t first = 0; first < elements; first += sum_chunk)
    use(source.read(tensor, first, chunk_at(first, elements), scratch));
}

/// All tensors of a dump on the device, those that are there already where they lie.
std::unique_ptr<cuda::PoolValues> values_on_device(const GradientSource& source) {
  std::vector<cuda::PoolValues::Tensor> tensors;
  for (const TensorInfo& info : source.tensors()) tensors.push_back({.elements = info.elements()});
  auto values = cuda::make_pool_values(
      std::move(tensors), [&source](size_t t, uint64_t first, size_t count, std::vector<float>& scratch) {
        return source.read(t, first, count, scratch);
      });
  if (const auto* there = dynamic_cast<const DeviceSource*>(&source))
    for (size_t t = 0; t < source.tensors().size(); ++t)
      if (source.tensors()[t].elements() > 0) cuda::use_in_place(*values, t, there->values(t));
  return values;
}

}  // namespace

struct StatisticsReader::Device {
  std::unique_ptr<cuda::PoolValues> values;
};

StatisticsReader::StatisticsReader(const GradientSource& source, Backend backend) : source_(&source) {
  uint64_t elements = 0;
  for (const TensorInfo& info : source.tensors()) elements += info.elements();
  if (codes_on_device(backend, "statistics", "cpu, cuda", elements))
    device_ = on_device([&] { return std::make_unique<Device>(Device{values_on_device(source)}); });
}

StatisticsReader::~StatisticsReader() = default;
StatisticsReader::StatisticsReader(StatisticsReader&&) noexcept = default;
StatisticsReader& StatisticsReader::operator=(StatisticsReader&&) noexcept = default;

Statistics StatisticsReader::statistics(size_t tensor) {
  Statistics statistics;
  const TensorInfo& info = source_->tensors()[tensor];
  const uint64_t elements = info.elements();
  ScaleSums scales(info);
  if (device_ && elements > 0) {
    const std::vector<element::Axis> axes = scales.axes();
    cuda::TensorSums found = on_device(
        [&] { return cuda::tensor_sums(*device_->values, tensor, axes, statistics.summary_.histogram); });
    for (size_t c = 0; c < found.sums.size(); ++c) {
      statistics.add_chunk(chunk_at(c * sum_chunk, elements), found.sums[c], found.moments[c]);
      scales.total_ += found.sums[c].sum_abs;
    }
    std::move(found.axes.begin(), found.axes.end(), std::begin(scales.sums_));
  } else {
    std::vector<uint32_t> counts(cpu::counted_bins);
    const auto take_counts = [&] {
      for (size_t b = 0; b < summary_bins; ++b)
        statistics.summary_.histogram[b] += std::exchange(counts[b], 0);
    };
    uint64_t counted = 0;
    for_chunks(*source_, tensor, [&](std::span<const float> values) {
      const element::ChunkSums sums = cpu::summarise_chunk(values, counts);
      statistics.add_chunk(values.size(), sums, cpu::moments_of_chunk(values, sums));
      scales.add(values);
      if ((counted += values.size()) % most_counted == 0) take_counts();
    });
    take_counts();
  }
  statistics.add_scales(elements, scales.means());
  return statistics;
}

void StatisticsReader::add_to(LargestElements& population, size_t tensor) {
  if (device_ && source_->tensors()[tensor].elements() > 0) {
    const auto found = on_device(
        [&] { return cuda::largest_sums(*device_->values, tensor, *population.cuts_, population.counts_); });
    for (const element::LargestSums& sums : found) population.add_chunk(sums);
    return;
  }
  for_chunks(*source_, tensor, [&](std::span<const float> values) {
    population.add_chunk(cpu::largest_of_chunk(values, *population.cuts_, population.counts_));
  });
}

}  // namespace jsq
