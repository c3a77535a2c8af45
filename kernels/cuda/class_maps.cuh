// Maps of class blocks that are not entropy-coded, read into a list of kept elements.
#pragma once

#include "kernels/cuda/class_decoding.cuh"
#include "kernels/element/bit_length.hpp"

namespace jsq::cuda::class_decoding {

/// Appends the run's elements that are kept; `j` is the class of the lane's element. A warp runs it.
__device__ inline void list_run(Shared& s, const Spilling<uint32_t>& list, uint32_t& kept, uint32_t index,
                                bool inside, uint32_t j, bool keeps_all) {
  const bool is_kept = inside && (keeps_all || j > 0);
  const uint32_t mask = __ballot_sync(all_lanes, is_kept);
  if (is_kept) {
    list.set(kept + __popc(mask & lanes_below()), make_kept(index, 0, j));
    atomicAdd(&s.members[j], 1u);
  }
  kept += __popc(mask);
}

/// Decodes a map that is not entropy-coded; returns the bytes it took, or sets `bad`. Warp 0 runs it, lists
/// of variable length on one lane.
__device__ inline uint32_t read_map(const ClassComposition& c, const Bytes& block, uint32_t n, Shared& s,
                                    const Spilling<uint32_t>& list, uint8_t* buckets, uint32_t& kept,
                                    bool& bad) {
  const uint32_t lane = lane_of(), runs = (n + run_length - 1) / run_length, classes = c.plan.classes;
  const bool keeps_all = c.plan.width[0] > 0;
  uint32_t position = 0;
  const auto read_class = [&] {
    uint32_t j = 1;
    while (j + 1 < classes && position < 8 * block.size && block.bits(position++, 1)) ++j;
    return j;
  };
  if (c.map == MapPacker::raw) {
    const uint32_t each = element::raw_map_bits(classes);
    for (uint32_t r = 0; r < runs; ++r) {
      const uint32_t i = r * run_length + lane;
      const uint32_t j = i < n ? block.bits(i * each, each) : 0;
      bad |= j >= classes;
      list_run(s, list, kept, i, i < n, j < classes ? j : 0, keeps_all);
      const uint32_t activity = __reduce_add_sync(all_lanes, j < classes ? j : 0);
      if (lane == 0) buckets[r] = uint8_t(element::bit_length(activity));
    }
    position = n * each;
  } else {
    for (uint32_t r = lane; r < runs; r += warp_size) buckets[r] = 0;
    __syncwarp();
    uint32_t listed = 0;
    if (lane == 0) {
      uint32_t expected = 0, run = 0, activity = 0;
      const auto take = [&](uint32_t index) {
        const uint32_t j = read_class();
        if (index / run_length != run) activity = 0;
        run = index / run_length;
        activity += j;
        buckets[run] = uint8_t(element::bit_length(activity));
        list.set(listed++, make_kept(index, 0, j));
        s.members[j] += 1;
        expected = index + 1;
      };
      if (c.map == MapPacker::bitmap) {
        position = 8 * bytes_of(n);
        bad |= !block.padded(n);
        for (uint32_t i = 0; i < n && !bad; ++i)
          if (block.bits(i, 1)) take(i);
      } else if (c.map == MapPacker::rice) {
        const uint32_t parameter = block.bits(0, 8), count = block.bits(8, 32);
        position = 40;
        bad |= parameter > 31 || count > n;
        for (uint32_t k = 0; k < count && !bad; ++k) {
          uint32_t ones = 0;
          while (!bad && block.bits(position++, 1))
            bad |= ++ones > n >> parameter || position >= 8 * block.size;
          const uint64_t gap = uint64_t(ones) << parameter | block.bits(position, parameter);
          position += parameter;
          bad |= gap >= n - expected || position > 8 * block.size;
          if (!bad) take(expected + uint32_t(gap));
        }
      } else {
        const uint32_t each = c.map == MapPacker::packed ? element::packed_index_bits(n) : 32;
        const uint32_t count = block.bits(0, 32);
        position = 32;
        bad |= count > n;
        for (uint32_t k = 0; k < count && !bad; ++k) {
          const uint32_t index = block.bits(position, each);
          position += each;
          bad |= index < expected || index >= n || position > 8 * block.size;
          if (!bad) take(index);
        }
      }
    }
    __syncwarp();
    kept = __shfl_sync(all_lanes, listed, 0);
    position = __shfl_sync(all_lanes, position, 0);
  }
  bad |= position > 8 * block.size || !block.padded(position);
  bad = __any_sync(all_lanes, bad);
  return bytes_of(position);
}

}  // namespace jsq::cuda::class_decoding
