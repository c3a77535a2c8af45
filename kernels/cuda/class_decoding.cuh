// What the parts of the decoder of class blocks share: how a thread block divides a class block, and its room
// in shared memory.
#pragma once

#include "kernels/cuda/class_block.cuh"
#include "kernels/cuda/rans_warp.cuh"

namespace jsq::cuda::class_decoding {

using element::ClassQuantizer;
using element::MapPacker;
using element::max_activity_buckets;
using element::max_classes;
using element::run_length;

constexpr uint32_t warps = block_warps, threads = block_threads;
constexpr uint32_t most_lanes = 8;       // interleaved states that a warp decodes run by run
constexpr uint32_t chunk_runs = 128;     // whose tokens are decoded between two barriers
constexpr uint32_t chunk_entries = 512;  // the same of entries whose magnitudes are
constexpr uint32_t parts = 8;            // chunks of entries that are under way, or more
constexpr uint32_t ring = parts * chunk_entries;
constexpr uint32_t point_count = max_classes * 256;

using Chain = RansChain<WordsInPlace>;

struct Shared {
  SearchRow<> rows[element::coding_tables];
  float points[point_count];
  union {
    float runs[warps][run_length];
    uint8_t tokens[3][chunk_runs][run_length];  ///< of chunks in turn
    uint8_t magnitudes[ring];  ///< of coded elements by their number: first their tables, then their symbols
  };
  PartSums<parts> part_sums;
  uint32_t before[warps][max_classes];  ///< members of classes in the entries of a warp
  uint32_t members[max_classes + 7];    ///< of listed elements; a damaged token's class fits too
  uint32_t kept, at, bad;
};

}  // namespace jsq::cuda::class_decoding
