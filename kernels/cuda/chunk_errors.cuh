// Errors of chunks beside what they decode to: warps that load leave that in tiles of its own, three others
// add the sums in the contract's order.
#pragma once

#include "kernels/cuda/staged_chunks.cuh"

namespace jsq::cuda {

constexpr uint32_t error_warps = 3;  ///< errors; products; errors before the stored type rounds

/// What a tile's elements decode to, and before the stored type rounds.
struct DecodedTile {
  StagedTile decoded, coded;
};
constexpr uint32_t decoded_tiles = 2;  ///< one that is left, one that is added
constexpr size_t error_tiles_bytes = sizeof(StagedTile[staged_tiles]) + sizeof(DecodedTile[decoded_tiles]);

/// Of a warp that adds: calls use(g, other) for the elements of a lane in order; `other` chooses a tile.
template <class Choose, class Use>
__device__ void add_beside(uint32_t steps, const StagedTile* tiles, Choose other, Use use) {
  for (uint32_t step = 0, turn = 0; step < steps; ++step) {
    staged_barrier(blockDim.x);
    const StagedTile* const both[] = {tiles + turn, other(step % 2)};
    for_rows(both, [&](const float* g) { use(double(g[0]), double(g[1])); });
    turn = turn + 1 < staged_tiles ? turn + 1 : 0;
  }
}

/// Of the error_warps, `which` from 0: sums of both chunks; `sums` are those of a lane's own. Zeros behind a
/// chunk's end add nothing. `beside(g)` is called of the elements of a lane by the last of these warps.
template <class Sums, class Beside>
__device__ void add_errors(uint32_t which, const Pair& pair, const StagedTile* tiles,
                           const DecodedTile* decoded, Sums& sums, Beside beside) {
  const bool writes = pair.there && lane_of() % element::sum_lanes == 0;
  if (which == 0) {
    double squared_error = 0, error_sum = 0, max_error = 0;
    add_beside(
        pair.steps, tiles, [&](uint32_t turn) { return &decoded[turn].decoded; },
        [&](double g, double value) {
          const double error = value - g, magnitude = fabs(error);
          squared_error += error * error;
          error_sum += error;
          max_error = magnitude > max_error ? magnitude : max_error;
        });
    squared_error = fold_lanes(squared_error);
    error_sum = fold_lanes(error_sum);
    max_error = max_of_lanes(max_error);
    if (writes) sums.squared_error = squared_error, sums.error_sum = error_sum, sums.max_error = max_error;
  } else if (which == 1) {
    double dot = 0, decoded_energy = 0;
    add_beside(
        pair.steps, tiles, [&](uint32_t turn) { return &decoded[turn].decoded; },
        [&](double g, double value) {
          dot += g * value;
          decoded_energy += value * value;
        });
    dot = fold_lanes(dot);
    decoded_energy = fold_lanes(decoded_energy);
    if (writes) sums.dot = dot, sums.decoded_energy = decoded_energy;
  } else {
    double coded_squared_error = 0;
    add_beside(
        pair.steps, tiles, [&](uint32_t turn) { return &decoded[turn].coded; },
        [&](double g, double value) {
          const double error = value - g;
          coded_squared_error += error * error;
          beside(g);
        });
    coded_squared_error = fold_lanes(coded_squared_error);
    if (writes) sums.coded_squared_error = coded_squared_error;
  }
}

}  // namespace jsq::cuda
