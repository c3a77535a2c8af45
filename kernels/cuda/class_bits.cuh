// What of a class block is not entropy-coded: maps that list elements, signs and raw bits, planes of code
// words; packed bits, most significant first.
#pragma once

#include "kernels/cuda/class_coding.cuh"

namespace jsq::cuda::class_coding {

/// Bits of kept element k in a map that lists kept elements.
__device__ inline uint32_t listed_bits(const ClassComposition& c, const Spilling<uint32_t>& list, uint32_t k,
                                       uint32_t parameter, uint32_t n) {
  const uint32_t entry = list.get(k), code = element::class_code(kept_class(entry), c.plan.classes).length;
  switch (c.map) {
    case MapPacker::bitmap:
      return code;
    case MapPacker::rice: {
      const uint32_t gap = kept_index(entry) - (k > 0 ? kept_index(list.get(k - 1)) + 1 : 0);
      return (gap >> parameter) + 1 + parameter + code;
    }
    case MapPacker::index32:
      return 32 + code;
    case MapPacker::packed:
      return element::packed_index_bits(n) + code;
    default:
      return 0;
  }
}

/// A map that lists kept elements, or the raw one; by one warp.
__device__ inline void put_map(uint32_t* bits, const ClassComposition& c, const Spilling<uint32_t>& list,
                               uint32_t kept, uint32_t n) {
  const uint32_t lane = lane_of(), parameter = element::rice_parameter(n, kept);
  if (c.map == MapPacker::raw || c.map == MapPacker::bitmap) {
    const uint32_t each = c.map == MapPacker::raw ? element::raw_map_bits(c.plan.classes) : 1;
    for (uint32_t k = lane; k < kept; k += warp_size) {
      const uint32_t entry = list.get(k);
      put_bits(bits, kept_index(entry) * each, c.map == MapPacker::raw ? kept_class(entry) : 1, each);
    }
    if (c.map == MapPacker::raw) return;
  }
  uint32_t at = 0;
  if (c.map == MapPacker::bitmap) {
    at = 8 * bytes_of(n);
  } else {
    if (lane == 0 && c.map == MapPacker::rice) put_bits(bits, 0, parameter, 8);
    at = c.map == MapPacker::rice ? 8 : 0;
    if (lane == 0) put_bits(bits, at, kept, 32);
    at += 32;
  }
  for (uint32_t from = 0; from < kept; from += warp_size) {
    const uint32_t k = from + lane;
    const uint32_t length = k < kept ? listed_bits(c, list, k, parameter, n) : 0;
    uint32_t total = 0;
    uint32_t position = at + sum_before(length, total);
    at += total;
    if (k >= kept) continue;
    const uint32_t entry = list.get(k), index = kept_index(entry);
    if (c.map == MapPacker::rice) {
      const uint32_t gap = index - (k > 0 ? kept_index(list.get(k - 1)) + 1 : 0);
      put_ones(bits, position, gap >> parameter);
      position += (gap >> parameter) + 1;
      put_bits(bits, position, gap & ((1u << parameter) - 1), parameter);
      position += parameter;
    } else if (c.map != MapPacker::bitmap) {
      const uint32_t each = c.map == MapPacker::packed ? element::packed_index_bits(n) : 32;
      put_bits(bits, position, index, each);
      position += each;
    }
    const element::ShortCode code = element::class_code(kept_class(entry), c.plan.classes);
    put_bits(bits, position, code.bits, code.length);
  }
}

/// Sign and raw magnitude bits of entropy-coded classes; all threads, each warp for its share of the list.
template <ClassQuantizer Q>
__device__ void put_signs(uint32_t* bits, uint32_t at, const ClassComposition& c, Shared& s,
                          const Spilling<uint32_t>& list, uint32_t kept) {
  const auto bits_of = [&](bool inside, uint32_t entry) {
    const uint32_t j = kept_class(entry);
    return inside && magnitude_coded(c, j) ? 1 + element::raw_magnitude_bits(c.plan.width[j]) : 0;
  };
  const Share share((kept + warp_size - 1) / warp_size, warps, warp_of());
  const uint32_t first = share.first * warp_size,
                 end = share.end * warp_size < kept ? share.end * warp_size : kept;
  uint32_t mine = 0;
  for (uint32_t k = first + lane_of(); k < end; k += warp_size) mine += bits_of(true, list.get(k));
  mine = __reduce_add_sync(all_lanes, mine);
  s.part_sums.put(0, mine);
  __syncthreads();
  for (uint32_t w = 0; w < warp_of(); ++w) at += s.part_sums.of[0][w];
  for (uint32_t from = first; from < end; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < end ? list.get(k) : 0;
    const uint32_t count = bits_of(k < end, entry);
    uint32_t total = 0;
    const uint32_t position = at + sum_before(count, total);
    at += total;
    if (count == 0) continue;
    const uint32_t code = kept_code(entry), width = c.plan.width[kept_class(entry)], raw = count - 1;
    const uint32_t magnitude = element::magnitude_of_code(Q, width, code) & ((1u << raw) - 1);
    put_bits(bits, position, element::sign_of_code(Q, width, code) << raw | magnitude, count);
  }
}

/// The code words of class j, side by side; by one warp.
__device__ inline void put_plane(uint32_t* bits, uint32_t at, uint32_t j, uint32_t width,
                                 const Spilling<uint32_t>& list, uint32_t kept) {
  for (uint32_t from = 0; from < kept; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < kept ? list.get(k) : 0;
    const bool member = k < kept && kept_class(entry) == j;
    const uint32_t mask = __ballot_sync(all_lanes, member);
    if (member) put_bits(bits, at + width * __popc(mask & lanes_below()), kept_code(entry), width);
    at += width * __popc(mask);
  }
}

}  // namespace jsq::cuda::class_coding
