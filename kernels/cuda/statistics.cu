// Statistics of one tensor of a pool. A thread block takes two chunks and adds up in the order of the
// contract, as the summary's does. A warp takes an index of an axis, and its lower half adds; an index whose
// parts are short is a thread's.
#include "kernels/cuda/statistics.hpp"

#include "kernels/cuda/block_sums.cuh"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/cuda/staged_chunks.cuh"

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

/// What stands behind a chunk's end is no number, and adds nothing.
__device__ float no_number() {
  return element::bits_as<float>(nan_bits);
}

/// Of a warp that adds: the sums of some moments of both chunks, from `Begin` on.
template <uint32_t Begin, uint32_t End, bool Neighbours>
__device__ void add_moments(const Pair& pair, const StagedTile* tiles, const element::ChunkCentres& centres,
                            ChunkMoments& found) {
  double of[End - Begin] = {};
  uint32_t pairs = 0;
  float last = no_number();  // of the row before
  add_tiles(pair.steps, tiles, [&](float g) {
    float before = no_number();
    if constexpr (Neighbours) {
      const float neighbour = __shfl_up_sync(all_lanes, g, 1, int(element::sum_lanes));
      before = lane_of() % element::sum_lanes == 0 ? last : neighbour;
      last = __shfl_sync(all_lanes, g, int(element::sum_lanes - 1), int(element::sum_lanes));
    }
    const element::MomentTerms terms = element::moment_terms(g, before, centres);
#pragma unroll
    for (uint32_t m = Begin; m < End; ++m) of[m - Begin] += terms.of[m];
    pairs += terms.paired;
  });
#pragma unroll
  for (uint32_t m = 0; m < End - Begin; ++m) of[m] = fold_lanes(of[m]);
  for (uint32_t half = element::sum_lanes / 2; half > 0; half /= 2)
    pairs += __shfl_down_sync(all_lanes, pairs, half, int(element::sum_lanes));
  if (!pair.there || lane_of() % element::sum_lanes != 0) return;
#pragma unroll
  for (uint32_t m = Begin; m < End; ++m) found.of[m] = of[m - Begin];
  if (Neighbours) found.pairs = pairs;
}

constexpr uint32_t moments_threads = loading_threads + 3 * warp_size;

__global__ void __launch_bounds__(moments_threads, 1)
    moments_of_chunks(const ChunkView* chunks, uint32_t count, const ChunkSums* sums, ChunkMoments* found) {
  extern __shared__ StagedTile tiles[];
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    const uint32_t own = pair.there ? first + own_chunk() : first;
    if (loads_chunks()) {
      bring_first(pair.own, tiles, no_number());
      stage_tiles(
          pair.own, pair.steps, tiles, [](uint32_t, StagedTile&) {}, no_number());
      if (pair.there && threadIdx.x % threads_of_chunk == 0) {
        found[own].first = pair.own.values[0];
        found[own].last = pair.own.values[pair.own.count - 1];
      }
    } else {
      const element::ChunkCentres centres = element::centres_of(sums[own], chunks[own].count);
      const uint32_t which = warp_of() - loading_warps;
      if (which == 0)
        add_moments<element::second_moment, element::magnitude_sum, false>(pair, tiles, centres, found[own]);
      else if (which == 1)
        add_moments<element::magnitude_sum, element::neighbour_products, false>(pair, tiles, centres,
                                                                                found[own]);
      else
        add_moments<element::neighbour_products, element::moment_count, true>(pair, tiles, centres,
                                                                              found[own]);
    }
    __syncthreads();
  }
}

/// Logarithms of the magnitudes of a tile's elements, or 0; rows as those of the elements.
struct LogarithmTile {
  double2 twos[staged_rows * warp_size / 2];
};
constexpr uint32_t largest_threads = loading_threads + 2 * warp_size;
constexpr size_t largest_bytes = sizeof(StagedTile[staged_tiles]) + sizeof(LogarithmTile[2]);

__global__ void __launch_bounds__(largest_threads)
    largest_of_chunks(const ChunkView* chunks, uint32_t count, const __grid_constant__ LargestCuts cuts,
                      LargestSums* found, unsigned long long* counts) {
  extern __shared__ StagedTile tiles[];
  auto* logarithms = reinterpret_cast<LogarithmTile*>(tiles + staged_tiles);
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    LargestSums& sums = found[pair.there ? first + own_chunk() : first];
    const bool writes = pair.there && lane_of() % element::sum_lanes == 0;
    if (loads_chunks()) {
      bring_first(pair.own, tiles, no_number());
      stage_tiles(
          pair.own, pair.steps, tiles,
          [&](uint32_t step, StagedTile& tile) {
            float g[staged_each];
            look_at(tile, g);
#pragma unroll
            for (uint32_t q = 0; q < staged_each / 4; ++q) {
              double four[4];
#pragma unroll
              for (uint32_t k = 0; k < 4; ++k) {
                four[k] = element::largest_terms(g[4 * q + k], cuts).of[element::largest_cuts];
                const uint32_t key = element::magnitude_key(g[4 * q + k]);
#pragma unroll
                for (uint32_t b = 0; b < element::most_counted_bins; ++b)
                  if (b < cuts.bin_count && key >> element::summary_bin_shift == cuts.bins[b])
                    atomicAdd(&counts[element::keys_of_bin * b + key % element::keys_of_bin], 1ull);
              }
              store_four(&logarithms[step % 2].twos[own_place(q) / 2].x, four);
            }
          },
          no_number());
    } else if (warp_of() == loading_warps) {
      double of[element::largest_cuts] = {};
      add_tiles(pair.steps, tiles, [&](float g) {
        const LargestSums terms = element::largest_terms(g, cuts);
#pragma unroll
        for (uint32_t k = 0; k < element::largest_cuts; ++k) of[k] += terms.of[k];
      });
#pragma unroll
      for (uint32_t k = 0; k < element::largest_cuts; ++k) {
        of[k] = fold_lanes(of[k]);
        if (writes) sums.of[k] = of[k];
      }
    } else {
      double sum = 0;
      for (uint32_t step = 0; step < pair.steps; ++step) {
        staged_barrier(largest_threads);
        const double* words = &logarithms[step % 2].twos[0].x;
#pragma unroll 8
        for (uint32_t row = 0; row < staged_rows; ++row)
          sum += words[row * warp_size + (lane_of() ^ row % 2 * element::sum_lanes)];
      }
      sum = fold_lanes(sum);
      if (writes) sums.of[element::largest_cuts] = sum;
    }
    __syncthreads();
  }
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

/// Of single elements: a chain of additions a thread, many loads ahead of them; small blocks, so that few
/// indices busy all processors.
constexpr uint32_t single_threads = warp_size;
__global__ void __launch_bounds__(single_threads)
    add_singles(const Stretch stretch, const Axis axis, double* sums) {
  constexpr uint32_t ahead = 32;
  const uint64_t step = uint64_t(gridDim.x) * single_threads;
  for (uint64_t index = uint64_t(blockIdx.x) * single_threads + threadIdx.x; index < axis.indices;
       index += step) {
    double total = sums[index];
    const uint64_t skipped =
        stretch.first > index ? (stretch.first - index + axis.period - 1) / axis.period : 0;
    uint64_t at = index + skipped * axis.period;
    const float* values = stretch.values - stretch.first;
    for (; at + (ahead - 1) * axis.period < stretch.end(); at += ahead * axis.period) {
      float g[ahead];
#pragma unroll
      for (uint32_t k = 0; k < ahead; ++k) g[k] = values[at + k * axis.period];
#pragma unroll
      for (uint32_t k = 0; k < ahead; ++k) total += element::finite_magnitude(g[k]);
    }
    for (; at < stretch.end(); at += axis.period) total += element::finite_magnitude(values[at]);
    sums[index] = total;
  }
}

uint32_t blocks_for(uint64_t work, uint32_t each) {
  return uint32_t(std::min<uint64_t>((work + each - 1) / each, most_blocks));
}

void launch_axis(const Stretch& stretch, const Axis& axis, double* sums, const Stream& stream) {
  if (axis.indices == 0) return;
  if (axis.length == 1 && axis.period == axis.indices)
    add_singles<<<blocks_for(axis.indices, single_threads), single_threads, 0, stream>>>(stretch, axis, sums);
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
    const auto launch = [&](const Batch& batch) {
      const auto [chunks, count] = chunks_of(batch);
      device_sums.reserve(count);
      device_moments.reserve(count);
      clear(device_sums.data(), count, pool_.compute_);
      clear(device_moments.data(), count, pool_.compute_);
      launch_summary(chunks, count, device_sums.data(), bins.data(), pool_.compute_);
      launch_on_pairs("moments", moments_of_chunks, moments_threads, chunks, count, pool_.compute_,
                      device_sums.data(), device_moments.data());
      for (size_t a = 0; a < axes.size(); ++a)
        launch_axis(stretch_of(batch), axes[a], axis_sums[a].data(), pool_.compute_);
    };
    for_batches(launch, [&](const Batch& batch) {
      const uint32_t count = chunks_of(batch).count;
      pool_.append(result.sums, device_sums, count);
      pool_.append(result.moments, device_moments, count);
    });
    std::vector<unsigned long long> counted;
    pool_.append(counted, bins, bins.size());
    for (size_t b = 0; b < counted.size(); ++b) histogram[b] += counted[b];
    for (size_t a = 0; a < axes.size(); ++a)
      pool_.append(result.axes.emplace_back(), axis_sums[a], axes[a].indices);
    return result;
  }

  std::vector<LargestSums> largest(const LargestCuts& cuts, std::span<uint64_t> counts) {
    std::vector<LargestSums> result;
    DeviceBuffer<unsigned long long> device_counts(element::keys_of_bin * size_t(cuts.bin_count));
    clear(device_counts.data(), device_counts.size(), pool_.compute_);
    DeviceBuffer<LargestSums> found;
    const auto launch = [&](const Batch& batch) {
      const auto [chunks, count] = chunks_of(batch);
      found.reserve(count);
      clear(found.data(), count, pool_.compute_);
      largest_of_chunks<<<blocks_for_pairs(largest_of_chunks, largest_threads, largest_bytes, count),
                          largest_threads, largest_bytes, pool_.compute_>>>(chunks, count, cuts, found.data(),
                                                                            device_counts.data());
      check_launch("largest elements");
    };
    for_batches(launch, [&](const Batch& batch) { pool_.append(result, found, chunks_of(batch).count); });
    std::vector<unsigned long long> counted;
    pool_.append(counted, device_counts, device_counts.size());
    for (size_t i = 0; i < counted.size(); ++i) counts[i] += counted[i];
    return result;
  }

 private:
  /// Of all batches that hold some of the tensor.
  template <class Launch, class Collect>
  void for_batches(Launch launch, Collect collect) {
    pool_.for_batches_with([&](const Batch& batch) { return !pieces_of(batch).empty(); }, launch, collect);
  }

  /// The pieces of a tensor in a batch lie side by side.
  std::span<const Piece> pieces_of(const Batch& batch) const {
    const auto [first, end] =
        std::equal_range(batch.pieces.begin(), batch.pieces.end(), Piece{.tensor = tensor_},
                         [](const Piece& a, const Piece& b) { return a.tensor < b.tensor; });
    return {first, end};
  }
  Stretch stretch_of(const Batch& batch) const {
    const std::span<const Piece> pieces = pieces_of(batch);
    return {pool_.values_of(pieces.front()), pieces.front().first,
            pieces.back().first + pieces.back().count - pieces.front().first};
  }
  struct Chunks {
    const ChunkView* first = nullptr;
    uint32_t count = 0;
  };
  Chunks chunks_of(const Batch& batch) const {
    const std::span<const Piece> own = pieces_of(batch);
    const auto count = [](std::span<const Piece> pieces) {
      uint64_t chunks = 0;
      for (const Piece& piece : pieces) chunks += (piece.count + element::sum_chunk - 1) / element::sum_chunk;
      return uint32_t(chunks);
    };
    if (own.empty()) return {};
    const std::span<const Piece> before(batch.pieces.data(), own.data());
    return {pool_.chunks_of(batch) + count(before), count(own)};
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
