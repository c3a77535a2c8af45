// Systematic samples on the device: a warp takes a piece of a block, whose running sum of magnitudes is one
// chain of additions in the contract's order. Every lane adds the whole chain and keeps the sum in front of
// its own four elements.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/warp.cuh"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 4, threads = warps * warp_size;
constexpr uint32_t each = 4;  ///< neighbouring elements of a lane, whose magnitudes are added apart
constexpr uint32_t turn = each * warp_size;
constexpr uint32_t variance_lanes = 8;

/// Samples below the position of a sum.
__device__ double samples_below(double sum, double rate, double offset) {
  const double below = ceil(sum * rate - offset);
  return below > 0 ? below : 0.0;
}

/// What a warp's turn leaves for the sums.
struct alignas(16) Turn {
  float g[turn], decoded[turn], coded[turn];
  double variance[turn];
};

/// Sums of a piece: lane l of 16 adds elements l, l + 16, ...; those of the upper half are other sums of the
/// same elements.
struct PieceLanes {
  double first = 0, second = 0, third = 0,
         variance = 0;  ///< squared, dot, coded squared; decoded, error, none
  double max_error = 0;

  __device__ void add(const Turn& values) {
    const uint32_t lane = lane_of() % element::sum_lanes;
    const bool upper = lane_of() >= element::sum_lanes;
#pragma unroll
    for (uint32_t i = 0; i < turn; i += element::sum_lanes) {
      const double g = values.g[i + lane], decoded = values.decoded[i + lane], error = decoded - g,
                   coded_error = double(values.coded[i + lane]) - g, magnitude = error < 0 ? -error : error;
      first += upper ? decoded * decoded : error * error;
      second += upper ? error : g * decoded;
      third += coded_error * coded_error;
      max_error = magnitude > max_error ? magnitude : max_error;
    }
#pragma unroll
    for (uint32_t i = 0; i < turn; i += variance_lanes)
      variance += values.variance[i + lane % variance_lanes];
  }
  __device__ void finish(LevelSums& sums) {
    first = fold_lanes(first);
    second = fold_lanes(second);
    third = fold_lanes(third);
    max_error = max_of_lanes(max_error);
    for (uint32_t half = variance_lanes / 2; half > 0; half /= 2)
      variance += __shfl_down_sync(all_lanes, variance, half, int(variance_lanes));
    const double decoded_energy = __shfl_sync(all_lanes, first, int(element::sum_lanes)),
                 error_sum = __shfl_sync(all_lanes, second, int(element::sum_lanes));
    if (lane_of() != 0) return;
    sums.squared_error = first;
    sums.dot = second;
    sums.decoded_energy = decoded_energy;
    sums.error_sum = error_sum;
    sums.max_error = max_error;
    sums.expected_error = variance;
    sums.other_error = third;
  }
};

__global__ void __launch_bounds__(threads)
    sample_pieces(const PieceView* pieces, uint32_t count, const __grid_constant__ SampleRate rate,
                  PieceSums* sums) {
  __shared__ Turn turns[warps];
  const uint32_t p = blockIdx.x * warps + warp_of();
  if (p >= count) return;
  const PieceView piece = pieces[p];
  Turn& mine = turns[warp_of()];
  PieceLanes lanes;
  double sum = piece.start;
  uint32_t nonzeros = 0, last = 0, first = 0;
  unsigned long long gap_bits = 0;
  for (uint32_t at = 0; at < piece.count; at += turn) {
    const uint32_t i = at + each * lane_of();
    float g[each];
    double size[each];
    load_four(piece.values, i, piece.count, g);
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) size[k] = magnitude(g[k]);
    const double two = size[0] + size[1];
    const double before = add_chain(two + (size[2] + size[3]), sum);
    const double sums_here[each] = {before + size[0], before + two, before + (two + size[2]),
                                    before + (two + (size[2] + size[3]))};
    double below = samples_below(before, rate.rate, rate.offset);
    short level[each];
    float decoded[each], coded[each];
    double variance[each];
    uint32_t zeros = 0, reached = 0;
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      const bool inside = i + k < piece.count;
      const double next = samples_below(sums_here[k], rate.rate, rate.offset);
      const auto taken = int32_t(next - below);
      below = next;
      const double share = size[k] * rate.rate, fraction = share - floor(share);
      const int32_t chosen = !inside ? 0 : element::bits_as<int32_t>(g[k]) < 0 ? -taken : taken;
      coded[k] = inside ? element::grid_value(piece.tensor.rule, chosen, piece.tensor.scale) : 0.0f;
      decoded[k] = element::round_to_stored(piece.stored, coded[k]);
      variance[k] = fraction * (1.0 - fraction);
      level[k] = short(chosen);
      zeros += inside && chosen == 0;
      if (chosen == 0) continue;
      atomicAdd(&piece.counts[uint32_t(chosen - piece.tensor.low)], 1u);
      ++nonzeros;
      reached = piece.first + i + k + 1;
    }
    const uint32_t place = each * lane_of();
    *reinterpret_cast<float4*>(mine.g + place) = {g[0], g[1], g[2], g[3]};
    *reinterpret_cast<float4*>(mine.coded + place) = {coded[0], coded[1], coded[2], coded[3]};
    *reinterpret_cast<float4*>(mine.decoded + place) = {decoded[0], decoded[1], decoded[2], decoded[3]};
    *reinterpret_cast<double2*>(mine.variance + place) = {variance[0], variance[1]};
    *reinterpret_cast<double2*>(mine.variance + place + 2) = {variance[2], variance[3]};
    if (i < piece.count)
      *reinterpret_cast<short4*>(piece.levels + i) = {level[0], level[1], level[2], level[3]};
    zeros = __reduce_add_sync(all_lanes, zeros);
    if (lane_of() == 0 && zeros != 0) atomicAdd(&piece.counts[uint32_t(-piece.tensor.low)], zeros);
    // Gaps between levels that are not 0: the last one before this lane's, of this turn or the turns before.
    uint32_t latest = reached;
    uint32_t previous = largest_before(latest);
    if (previous == 0) previous = last;
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      if (level[k] == 0) continue;
      const uint32_t place = piece.first + i + k + 1;
      if (previous != 0)
        gap_bits += element::omega_code(place - previous).length;
      else
        first = place;
      previous = place;
    }
    const uint32_t warp_last = __shfl_sync(all_lanes, latest, int(warp_size - 1));
    if (warp_last != 0) last = warp_last;
    __syncwarp();
    lanes.add(mine);
    __syncwarp();
  }
  PieceSums result;
  lanes.finish(result.sums);
  result.sums.nonzeros = __reduce_add_sync(all_lanes, nonzeros);
  result.first = __reduce_max_sync(all_lanes, first);
  result.last = last;
  for (uint32_t half = warp_size / 2; half > 0; half /= 2)
    gap_bits += __shfl_down_sync(all_lanes, gap_bits, half);
  result.sums.gap_bits = gap_bits;
  if (lane_of() == 0) sums[p] = result;
}

}  // namespace

void launch_sample(const PieceView* pieces, uint32_t count, const SampleRate& rate, PieceSums* sums,
                   const Stream& stream) {
  if (count == 0) return;
  sample_pieces<<<(count + warps - 1) / warps, threads, 0, stream>>>(pieces, count, rate, sums);
  check_launch("counting samples");
}

}  // namespace jsq::cuda
