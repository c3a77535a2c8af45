// What the parts of the coder of class blocks share: how a thread block divides a class block, and its room
// in shared memory.
#pragma once

#include "kernels/cuda/class_block.cuh"
#include "kernels/cuda/rans_warp.cuh"

namespace jsq::cuda::class_coding {

using element::ClassQuantizer;
using element::MapPacker;
using element::max_activity_buckets;
using element::max_classes;
using element::RansSymbol;
using element::run_length;

constexpr uint32_t warps = block_warps, threads = block_threads;
constexpr uint32_t runs_each = 4;  // runs of a warp in a tile
constexpr uint32_t tile = warps * runs_each * run_length;
constexpr uint32_t table_symbols = element::coding_tables * element::rans_max_symbols;
constexpr uint32_t chunk_runs = 128;     // whose tokens are coded between two barriers
constexpr uint32_t chunk_entries = 512;  // the same of entries whose magnitudes are
constexpr uint32_t under_way = 4;        // chunks at most
constexpr uint32_t ring = under_way * chunk_entries;
constexpr uint32_t most_lanes = 8;  // interleaved states; a run's tokens end with a whole step
constexpr uint32_t held_symbols = table_symbols + 1;
constexpr uint16_t no_symbol = uint16_t(table_symbols);  // number of no_rans_symbol

/// Values of a tile on their way from the warps that classify to those that sum.
struct Tile {
  float dropped[tile];              ///< by index; 0 where kept
  float kept[tile], decoded[tile];  ///< by rank in the tile
  uint8_t kept_class[tile];
};

struct Shared {
  union {
    Tile tiles[2];
    struct {
      uint16_t tokens[2][chunk_runs * (run_length + most_lanes)];  ///< numbers of symbols, a step of the
                                                                   ///< coder after the other
      uint16_t magnitudes[ring];                                   ///< of coded elements by their number
      uint8_t run_classes[warps][run_length];
    };
  };
  PartSums<under_way> part_sums;
  double class_energy[max_classes][element::sum_lanes];
  uint32_t warp_kept[2][warps];
  uint32_t members[max_classes];  ///< of all elements
  uint32_t borders[max_classes];  ///< where stretches between tie cutoffs begin, ascending
  uint32_t border_count;
  uint32_t dropped_max;
  unsigned long long map_bits;
  uint32_t states[16];
  uint32_t words;                  ///< of the entropy coder
  uint32_t plane_at[max_classes];  ///< first bit of each class's plane
  uint64_t offset;
};

}  // namespace jsq::cuda::class_coding
