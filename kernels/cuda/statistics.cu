// Statistics of one tensor of a pool. A warp takes a chunk, or an index of an axis, and its lower half adds
// up in the order of the contract; an index whose parts are short is a thread's.
#include "kernels/cuda/statistics.hpp"

#include "kernels/cuda/resident_values.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {
namespace {

using element::Axis;
using element::ChunkMoments;
using element::ChunkSums;
using element::LargestCuts;
using element::LargestSums;

constexpr uint32_t warps = 4, threads = warps * warp_size;
constexpr uint32_t unroll = 8;  // loads of a warp that are under way together
constexpr uint32_t nan_bits = 0x7fc00000u;
constexpr uint32_t most_blocks = 1u << 20;

/// Adds the terms of two elements to the sum of a lane of the lower half: its own, then that of 16 lanes
/// above.
__device__ void add_both(double term, double& sum) {
  const double late = __shfl_down_sync(all_lanes, term, int(element::sum_lanes));
  sum += term;
  sum += late;
}

/// Calls use(value) for 32 elements at a time, lane by lane; what lies behind the end is no number.
template <class Use>
__device__ void for_values(const float* values, uint64_t count, Use use) {
  for (uint64_t at = 0; at < count; at += unroll * warp_size) {
    float g[unroll];
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k) {
      const uint64_t i = at + k * warp_size + lane_of();
      g[k] = i < count ? values[i] : element::bits_as<float>(nan_bits);
    }
#pragma unroll
    for (uint32_t k = 0; k < unroll; ++k)
      if (at + k * warp_size < count) use(g[k]);
  }
}

__global__ void __launch_bounds__(threads)
    moments_of_chunks(const ChunkView* chunks, uint32_t count, const ChunkSums* sums, ChunkMoments* found) {
  const uint32_t c = blockIdx.x * warps + warp_of();
  if (c >= count) return;
  const ChunkView chunk = chunks[c];
  const element::ChunkCentres centres = element::centres_of(sums[c], chunk.count);
  double of[element::moment_count] = {};
  uint32_t pairs = 0;
  float last = element::bits_as<float>(nan_bits);  // of the 32 elements before
  for_values(chunk.values, chunk.count, [&](float g) {
    const float neighbour = __shfl_up_sync(all_lanes, g, 1);
    const element::MomentTerms terms = element::moment_terms(g, lane_of() == 0 ? last : neighbour, centres);
    last = __shfl_sync(all_lanes, g, int(warp_size - 1));
#pragma unroll
    for (uint32_t m = 0; m < element::moment_count; ++m) add_both(terms.of[m], of[m]);
    pairs += terms.paired;
  });
  pairs = __reduce_add_sync(all_lanes, pairs);
#pragma unroll
  for (uint32_t m = 0; m < element::moment_count; ++m) of[m] = fold_lanes(of[m]);
  if (lane_of() != 0) return;
#pragma unroll
  for (uint32_t m = 0; m < element::moment_count; ++m) found[c].of[m] = of[m];
  found[c].pairs = pairs;
  found[c].first = chunk.values[0];
  found[c].last = chunk.values[chunk.count - 1];
}

__global__ void __launch_bounds__(threads)
    largest_of_chunks(const ChunkView* chunks, uint32_t count, const LargestCuts cuts, LargestSums* found,
                      unsigned long long* counts) {
  const uint32_t c = blockIdx.x * warps + warp_of();
  if (c >= count) return;
  double of[element::largest_sums] = {};
  for_values(chunks[c].values, chunks[c].count, [&](float g) {
    const LargestSums terms = element::largest_terms(g, cuts);
#pragma unroll
    for (uint32_t k = 0; k < element::largest_sums; ++k) add_both(terms.of[k], of[k]);
    const uint32_t key = element::magnitude_key(g);
#pragma unroll
    for (uint32_t b = 0; b < element::most_counted_bins; ++b)
      if (b < cuts.bin_count && key >> element::summary_bin_shift == cuts.bins[b])
        atomicAdd(&counts[element::keys_of_bin * b + key % element::keys_of_bin], 1ull);
  });
#pragma unroll
  for (uint32_t k = 0; k < element::largest_sums; ++k) of[k] = fold_lanes(of[k]);
  if (lane_of() != 0) return;
#pragma unroll
  for (uint32_t k = 0; k < element::largest_sums; ++k) found[c].of[k] = of[k];
}

/// Neighbouring elements of a tensor on the device, from element `first` on.
struct Stretch {
  const float* values = nullptr;
  uint64_t first = 0, count = 0;

  __device__ uint64_t end() const { return first + count; }
};

/// Calls use(values, count) for the parts of an index that lie in the stretch, in order.
template <class Use>
__device__ void for_parts(const Stretch& stretch, const Axis& axis, uint64_t index, Use use) {
  const uint64_t from = index * axis.length, length = axis.length_of(index);
  for (uint64_t round = stretch.first / axis.period; round * axis.period < stretch.end(); ++round) {
    const uint64_t begin = round * axis.period + from, end = begin + length;
    uint64_t at = begin > stretch.first ? begin : stretch.first;
    const uint64_t stop = end < stretch.end() ? end : stretch.end();
    while (at < stop) {
      const uint64_t border = (at / element::sum_chunk + 1) * element::sum_chunk,
                     part_end = border < stop ? border : stop;
      use(stretch.values + (at - stretch.first), part_end - at);
      at = part_end;
    }
  }
}

__global__ void __launch_bounds__(threads)
    add_long_parts(const Stretch stretch, const Axis axis, double* sums) {
  const uint64_t step = uint64_t(gridDim.x) * warps;
  for (uint64_t index = uint64_t(blockIdx.x) * warps + warp_of(); index < axis.indices; index += step) {
    double total = sums[index];
    for_parts(stretch, axis, index, [&](const float* values, uint64_t count) {
      double sum = 0;
      for_values(values, count, [&](float g) { add_both(element::finite_magnitude(g), sum); });
      total += fold_lanes(sum);
    });
    if (lane_of() == 0) sums[index] = total;
  }
}

/// Of parts of at most sum_lanes elements, so that each has its own lane.
__global__ void __launch_bounds__(threads)
    add_short_parts(const Stretch stretch, const Axis axis, double* sums) {
  constexpr uint32_t lanes = element::sum_lanes;
  const uint64_t step = uint64_t(gridDim.x) * threads;
  for (uint64_t index = uint64_t(blockIdx.x) * threads + threadIdx.x; index < axis.indices; index += step) {
    double total = sums[index];
    for_parts(stretch, axis, index, [&](const float* values, uint64_t count) {
      double sum[lanes];
#pragma unroll
      for (uint32_t l = 0; l < lanes; ++l) sum[l] = l < count ? element::finite_magnitude(values[l]) : 0.0;
#pragma unroll
      for (uint32_t fold = 2; fold <= lanes; fold *= 2)
#pragma unroll
        for (uint32_t l = 0; l < lanes / 2; ++l)
          if (l < lanes / fold) sum[l] += sum[l + lanes / fold];
      total += sum[0];
    });
    sums[index] = total;
  }
}

/// Of single elements.
__global__ void __launch_bounds__(threads) add_singles(const Stretch stretch, const Axis axis, double* sums) {
  const uint64_t step = uint64_t(gridDim.x) * threads;
  for (uint64_t index = uint64_t(blockIdx.x) * threads + threadIdx.x; index < axis.indices; index += step) {
    double total = sums[index];
    const uint64_t skipped =
        stretch.first > index ? (stretch.first - index + axis.period - 1) / axis.period : 0;
    for (uint64_t at = index + skipped * axis.period; at < stretch.end(); at += axis.period)
      total += element::finite_magnitude(stretch.values[at - stretch.first]);
    sums[index] = total;
  }
}

uint32_t blocks_for(uint64_t work, uint32_t each) {
  return uint32_t(std::min<uint64_t>((work + each - 1) / each, most_blocks));
}

void launch_axis(const Stretch& stretch, const Axis& axis, double* sums, const Stream& stream) {
  if (axis.indices == 0) return;
  if (axis.length == 1 && axis.period == axis.indices)
    add_singles<<<blocks_for(axis.indices, threads), threads, 0, stream>>>(stretch, axis, sums);
  else if (axis.length_of(axis.indices - 1) <= element::sum_lanes && axis.length <= element::sum_lanes)
    add_short_parts<<<blocks_for(axis.indices, threads), threads, 0, stream>>>(stretch, axis, sums);
  else
    add_long_parts<<<blocks_for(axis.indices, warps), threads, 0, stream>>>(stretch, axis, sums);
  check_launch("adding along an axis");
}

}  // namespace

/// One tensor of a pool, stretch by stretch.
class TensorPass {
 public:
  TensorPass(ResidentValues& pool, size_t tensor) : pool_(pool), tensor_(tensor) {}

  TensorSums sums(std::span<const Axis> axes, std::span<uint64_t> histogram) {
    TensorSums result;
    DeviceBuffer<unsigned long long> bins(element::summary_bins);
    clear(bins.data(), bins.size(), pool_.compute_);
    std::vector<DeviceBuffer<double>> axis_sums;
    for (const Axis& axis : axes) {
      axis_sums.emplace_back(axis.indices);
      clear(axis_sums.back().data(), axis.indices, pool_.compute_);
    }
    DeviceBuffer<ChunkSums> device_sums;
    DeviceBuffer<ChunkMoments> device_moments;
    for_batches([&](const Batch& batch) {
      const uint32_t count = pool_.put_chunks(batch);
      device_sums.reserve(count);
      device_moments.reserve(count);
      launch_summary(pool_.chunks_.data(), count, device_sums.data(), bins.data(), pool_.compute_);
      moments_of_chunks<<<blocks_for(count, warps), threads, 0, pool_.compute_>>>(
          pool_.chunks_.data(), count, device_sums.data(), device_moments.data());
      check_launch("moments");
      for (size_t a = 0; a < axes.size(); ++a)
        launch_axis(stretch_of(batch), axes[a], axis_sums[a].data(), pool_.compute_);
      append(result.sums, device_sums, count);
      append(result.moments, device_moments, count);
    });
    std::vector<unsigned long long> counted;
    append(counted, bins, bins.size());
    for (size_t b = 0; b < counted.size(); ++b) histogram[b] += counted[b];
    for (size_t a = 0; a < axes.size(); ++a)
      append(result.axes.emplace_back(), axis_sums[a], axes[a].indices);
    return result;
  }

  std::vector<LargestSums> largest(const LargestCuts& cuts, std::span<uint64_t> counts) {
    std::vector<LargestSums> result;
    DeviceBuffer<unsigned long long> device_counts(element::keys_of_bin * size_t(cuts.bin_count));
    clear(device_counts.data(), device_counts.size(), pool_.compute_);
    DeviceBuffer<LargestSums> found;
    for_batches([&](const Batch& batch) {
      const uint32_t count = pool_.put_chunks(batch);
      found.reserve(count);
      largest_of_chunks<<<blocks_for(count, warps), threads, 0, pool_.compute_>>>(
          pool_.chunks_.data(), count, cuts, found.data(), device_counts.data());
      check_launch("largest elements");
      append(result, found, count);
    });
    std::vector<unsigned long long> counted;
    append(counted, device_counts, device_counts.size());
    for (size_t i = 0; i < counted.size(); ++i) counts[i] += counted[i];
    return result;
  }

 private:
  /// Calls use(batch) with the tensor's pieces of every batch that has some, when they are on the device.
  template <class Use>
  void for_batches(Use use) {
    for (size_t b = 0; b < pool_.batches_.size(); ++b) {
      Batch own;
      for (const Piece& piece : pool_.batches_[b].pieces)
        if (piece.tensor == tensor_) own.pieces.push_back(piece);
      if (own.pieces.empty()) continue;
      pool_.bring(b);
      use(own);
    }
  }

  /// The pieces of a tensor in a batch lie side by side.
  Stretch stretch_of(const Batch& batch) const {
    const Piece &first = batch.pieces.front(), &last = batch.pieces.back();
    return {pool_.values_of(first), first.first, last.first + last.count - first.first};
  }

  template <class T>
  void append(std::vector<T>& all, const DeviceBuffer<T>& found, size_t count) {
    const size_t before = all.size();
    all.resize(before + count);
    copy_to_host(all.data() + before, found.data(), count, pool_.compute_);
    pool_.compute_.synchronize();
  }

  ResidentValues& pool_;
  size_t tensor_;
};

TensorSums tensor_sums(PoolValues& pool, size_t tensor, std::span<const Axis> axes,
                       std::span<uint64_t> histogram) {
  return TensorPass(static_cast<ResidentValues&>(pool), tensor).sums(axes, histogram);
}

std::vector<LargestSums> largest_sums(PoolValues& pool, size_t tensor, const LargestCuts& cuts,
                                      std::span<uint64_t> counts) {
  return TensorPass(static_cast<ResidentValues&>(pool), tensor).largest(cuts, counts);
}

}  // namespace jsq::cuda
