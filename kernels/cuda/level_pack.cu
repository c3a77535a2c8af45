// One thread block packs the levels of one level block. The entropy coder, one chain of steps, runs first, in
// one warp; then everything is one stream of bits: each round the threads' bits are counted, placed side by
// side in shared memory, and stored as whole words.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/rans_warp.cuh"

namespace jsq::cuda {
namespace {

using element::LevelPacker;

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t each = 8;  ///< neighbouring levels of a thread in a round
constexpr uint32_t round_levels = threads * each;
constexpr uint32_t trits = 5;  ///< in a byte of base243
/// No packer takes more than 32 bits a level of a round, whatever is before it: an omega code of a level has
/// 24, and gaps within a round little more than one a level.
constexpr uint32_t room_words = round_levels + 64;

constexpr uint32_t sector_words = 8;
constexpr uint32_t kept_words = 128;  ///< of the entropy coder, before they are stored
constexpr uint32_t stored_words = 2 * warp_size;

struct Shared {
  uint32_t room[room_words];
  uint16_t kept[kept_words];
  uint32_t warp_total[warps], warp_last[warps];
  uint32_t states[warp_size];
  uint32_t words;
};

/// Keeps words in shared memory until a line of them is stored, where decoders meet them first to last: word
/// i at data[most - 1 - i]. A warp uses it.  \pre data + most is the beginning of a line
struct WordsFromTheBack {
  uint16_t* data;
  uint32_t most;
  uint16_t* kept;
  __device__ void set(uint32_t i, uint16_t word) const { kept[i % kept_words] = word; }
  /// Stores the lines that are complete of `words`, all but the first `done`; then all that is left.
  __device__ void store_lines(uint32_t words, uint32_t& done) const {
    __syncwarp();
    for (; words - done >= stored_words; done += stored_words) {
      const uint32_t i = done + 2 * lane_of();
      if (i + 1 < most)
        *reinterpret_cast<uint32_t*>(data + (most - 2 - i)) =
            uint32_t(kept[i % kept_words]) << 16 | kept[(i + 1) % kept_words];
    }
    __syncwarp();
  }
  __device__ void store_rest(uint32_t words, uint32_t done) const {
    for (uint32_t i = done + lane_of(); i < words; i += warp_size)
      if (i < most) data[most - 1 - i] = kept[i % kept_words];
  }
};

__device__ uint32_t bytes_reversed(uint32_t word) {
  return __byte_perm(word, 0, 0x0123);
}
__device__ uint32_t magnitude_of(int32_t level) {
  return uint32_t(level < 0 ? -level : level);
}

/// Counts bits.
struct BitCount {
  uint32_t bits = 0;
  __device__ void operator()(uint32_t, uint32_t count) { bits += count; }
};
/// Puts bits side by side from `position` on.
struct BitPut {
  uint32_t* words;
  uint32_t position;
  uint64_t window = 0;
  uint32_t filled = 0;
  __device__ void operator()(uint32_t value, uint32_t count) {
    window = window << count | value;
    filled += count;
    if (filled < 32) return;
    put_bits(words, position, uint32_t(window >> (filled - 32)), 32);
    position += 32;
    filled -= 32;
  }
  __device__ void finish() { put_bits(words, position, uint32_t(window & ((1ull << filled) - 1)), filled); }
};

template <class Put>
__device__ __forceinline__ void put_omega(Put& put, uint32_t value) {
  const element::OmegaCode code = element::omega_code(value);
  if (code.length > 16) put(uint32_t(code.bits >> 16), code.length - 16);
  const uint32_t low = code.length < 16 ? code.length : 16;
  put(uint32_t(code.bits & ((1u << low) - 1)), low);
}

/// The bits of one level; `gap` is the distance from the last one that is not 0.
template <class Put>
__device__ __forceinline__ void put_level(const PackView& view, int32_t level, uint32_t gap, Put& put) {
  const uint32_t magnitude = magnitude_of(level), sign = level < 0;
  switch (view.packer) {
    case LevelPacker::fixed:
      return put(uint32_t(level - view.low), view.width);
    case LevelPacker::elias_sparse:
      if (level == 0) return;
      put_omega(put, gap);
      put(sign, 1);
      return put_omega(put, magnitude);
    case LevelPacker::elias_dense:
      put_omega(put, magnitude + 1);
      if (level != 0) put(sign, 1);
      return;
    case LevelPacker::entropy: {
      if (level == 0) return;
      const uint32_t low = view.scheme.raw_bits(view.scheme.token(magnitude));
      const uint32_t signs = view.signs ? 1 : 0;
      return put((sign & signs) << low | (magnitude & ((1u << low) - 1)), low + signs);
    }
    case LevelPacker::base243:
      return;
  }
}

/// The stream of bits of a block; every member is called by all threads.
struct BitStream {
  Shared& s;
  uint32_t* out;
  uint32_t most_words;
  uint32_t position = 0, stored = 0;  ///< bits; words

  /// code(put) of every thread, in order of the threads; it is called twice, with the same result.
  template <class Code>
  __device__ void round(Code code) {
    BitCount count;
    code(count);
    uint32_t warp_total = 0, before = sum_before(count.bits, warp_total), total = 0;
    if (lane_of() == 0) s.warp_total[warp_of()] = warp_total;
    __syncthreads();
    for (uint32_t w = 0; w < warps; ++w) {
      if (w < warp_of()) before += s.warp_total[w];
      total += s.warp_total[w];
    }
    BitPut put{s.room, position - 32 * stored + before};
    code(put);
    put.finish();
    position += total;
    __syncthreads();
    // Whole sectors are stored; up to one stays, with the bits that fill no word yet.
    const uint32_t used = position / 32 - stored, full = used / sector_words * sector_words,
                   rest = threadIdx.x < sector_words ? s.room[full + threadIdx.x] : 0;
    __syncthreads();
    for (uint32_t w = threadIdx.x; w <= used; w += threads) {
      if (w < full && stored + w < most_words) out[stored + w] = bytes_reversed(s.room[w]);
      s.room[w] = w < sector_words ? rest : 0;
    }
    stored += full;
    __syncthreads();
  }
  /// The last bits, with zeros behind them. Returns all bytes.
  __device__ uint32_t finish() {
    const uint32_t w = threadIdx.x;
    if (32 * (stored + w) < position && stored + w < most_words) out[stored + w] = bytes_reversed(s.room[w]);
    return (position + 7) / 8;
  }
};

/// Tokens of all levels, last to first. Warp 0 runs it.
__device__ void code_tokens(const PackView& view, Shared& s) {
  const uint32_t lane = lane_of(), n = view.count;
  const element::RansSymbol held = view.symbols[lane % element::rans_max_symbols];
  WordsFromTheBack words{view.words, view.most_words, s.kept};
  RansCoder coder{view.lanes};
  uint32_t stored = 0;
  const auto token_at = [&](uint32_t i) {
    return i < n ? view.scheme.token(magnitude_of(view.levels[i])) : 0u;
  };
  uint32_t chunk = (n - 1) / warp_size, token = token_at(chunk * warp_size + lane);
  for (;; --chunk) {
    const uint32_t next = chunk > 0 ? token_at((chunk - 1) * warp_size + lane) : 0;
    for (uint32_t at = warp_size; at > 0;) {
      at -= view.lanes;
      const uint32_t mine = __shfl_sync(all_lanes, token, int((at + lane) % warp_size));
      const bool active = lane < view.lanes && chunk * warp_size + at + lane < n;
      // Every lane holds the entry of its number: none waits for another's bank.
      const uint32_t interval =
          __shfl_sync(all_lanes, uint32_t(held.start) | uint32_t(held.frequency) << 16, int(mine));
      const uint32_t reciprocal = __shfl_sync(all_lanes, held.reciprocal, int(mine));
      coder.push(words, active ? element::RansSymbol{uint16_t(interval), uint16_t(interval >> 16), reciprocal}
                               : no_rans_symbol);
    }
    token = next;
    words.store_lines(coder.words, stored);
    if (chunk == 0) break;
  }
  words.store_rest(coder.words, stored);
  if (lane < view.lanes) s.states[lane] = coder.state;
  if (lane == 0) s.words = coder.words;
}

/// The stream of tokens: how many words, the states, the words.
__device__ void put_tokens(const PackView& view, Shared& s, BitStream& bits) {
  const uint32_t words = s.words;
  bits.round([&](auto& put) {
    if (threadIdx.x == 0) {
      uint32_t rest = words;
      for (; rest >= 128; rest >>= 7) put((rest & 127) | 128, 8);
      put(rest, 8);
    }
    if (threadIdx.x < view.lanes) put(bytes_reversed(s.states[threadIdx.x]), 32);
  });
  // Single words up to a place from which eight can be read together.
  const uint16_t* first = view.words + (view.most_words - words);
  const uint32_t odd = uint32_t(0 - reinterpret_cast<uint64_t>(first) / sizeof(uint16_t)) % each,
                 single = odd < words ? odd : words;
  bits.round([&](auto& put) {
    if (threadIdx.x < single) put(bytes_reversed(first[threadIdx.x]) >> 16, 16);
  });
  for (uint32_t at = single; at < words; at += round_levels) {
    const uint32_t i = at + each * threadIdx.x;
    const uint32_t left = i < words ? words - i : 0;
    uint4 eight{};
    if (left >= each)
      eight = *reinterpret_cast<const uint4*>(first + i);
    else
      for (uint32_t k = 0; k < left; ++k) {
        const uint32_t word = uint32_t(first[i + k]) << (16 * (k % 2));
        (k < 2 ? eight.x : k < 4 ? eight.y : k < 6 ? eight.z : eight.w) |= word;
      }
    bits.round([&](auto& put) {
      // Two words of two bytes each are four bytes in their order.
      const uint32_t pairs[each / 2] = {bytes_reversed(eight.x), bytes_reversed(eight.y),
                                        bytes_reversed(eight.z), bytes_reversed(eight.w)};
#pragma unroll
      for (uint32_t k = 0; k < each; k += 2) {
        if (k + 2 <= left)
          put(pairs[k / 2], 32);
        else if (k < left)
          put(pairs[k / 2] >> 16, 16);
      }
    });
  }
}

__device__ void put_trits(const PackView& view, BitStream& bits) {
  for (uint32_t at = 0; at < view.count; at += threads * trits)
    bits.round([&](auto& put) {
      const uint32_t first = at + trits * threadIdx.x;
      if (first >= view.count) return;
      uint32_t byte = 0;
      for (uint32_t k = 0; k < trits; ++k)
        byte = 3 * byte + (first + k < view.count ? uint32_t(view.levels[first + k] - view.low) : 0);
      put(byte, 8);
    });
}

/// The last level of a thread before this one that is not 0, as 1 + its index; 0 for none. `carried` is that
/// of the rounds before and becomes that of this round too.
__device__ uint32_t last_before(Shared& s, uint32_t mine, uint32_t& carried) {
  uint32_t reached = mine, before = largest_before(reached);
  if (lane_of() == warp_size - 1) s.warp_last[warp_of()] = reached;
  __syncthreads();
  uint32_t all = carried;
  if (before == 0) before = carried;
  for (uint32_t w = 0; w < warps; ++w) {
    if (w < warp_of() && s.warp_last[w] > before) before = s.warp_last[w];
    if (s.warp_last[w] > all) all = s.warp_last[w];
  }
  carried = all;
  return before;
}

/// Eight neighbouring levels, handed out one after the other.
struct alignas(16) Eight {
  uint64_t low = 0, high = 0;
  __device__ int32_t next() {
    const auto level = int32_t(int16_t(low));
    low = low >> 16 | high << 48;
    high >>= 16;
    return level;
  }
  __device__ void put_first(int16_t level) {
    high = high << 16 | low >> 48;
    low = low << 16 | uint16_t(level);
  }
};

__device__ void put_levels(const PackView& view, Shared& s, BitStream& bits) {
  uint32_t carried = 0;
  if (view.packer == LevelPacker::elias_sparse)
    bits.round([&](auto& put) {
      if (threadIdx.x == 0) put_omega(put, view.nonzeros + 1);
    });
  for (uint32_t at = 0; at < view.count; at += round_levels) {
    const uint32_t first = at + each * threadIdx.x;
    Eight levels{};
    if (first + each <= view.count)
      levels = *reinterpret_cast<const Eight*>(view.levels + first);
    else
      for (uint32_t k = first < view.count ? view.count - first : 0; k-- > 0;)
        levels.put_first(view.levels[first + k]);
    uint32_t before = 0;
    if (view.packer == LevelPacker::elias_sparse) {
      uint32_t last = 0;
      Eight rest = levels;
      for (uint32_t i = first; i < first + each && i < view.count; ++i)
        if (rest.next() != 0) last = i + 1;
      before = last_before(s, last, carried);
    }
    bits.round([&](auto& put) {
      uint32_t last = before;
      Eight rest = levels;
      for (uint32_t i = first; i < first + each && i < view.count; ++i) {
        const int32_t level = rest.next();
        put_level(view, level, i + 1 - last, put);
        if (level != 0) last = i + 1;
      }
    });
  }
}

__global__ void __launch_bounds__(threads) pack_blocks(const PackView* blocks, uint32_t* bytes) {
  __shared__ Shared s;
  __shared__ PackView view;
  share_view(view, blocks[blockIdx.x]);
  for (uint32_t w = threadIdx.x; w < room_words; w += threads) s.room[w] = 0;
  if (threadIdx.x == 0) s.words = 0;
  __syncthreads();
  BitStream bits{s, view.out, view.most_bytes / 4};
  if (view.numbered) {
    bits.round([&](auto& put) {
      if (threadIdx.x == 0) put(uint32_t(view.packer), 8);
    });
    for (uint32_t at = 0; at < view.scale_count; at += threads)
      bits.round([&](auto& put) {
        const uint32_t i = at + threadIdx.x;
        if (i < view.scale_count) put(bytes_reversed(element::bits_as<uint32_t>(view.scales[i])), 32);
      });
  }
  if (view.packer == LevelPacker::base243) {
    put_trits(view, bits);
  } else {
    if (view.packer == LevelPacker::entropy) {
      for (uint32_t at = 0; at < view.head_bytes; at += threads)
        bits.round([&](auto& put) {
          if (at + threadIdx.x < view.head_bytes) put(view.head[at + threadIdx.x], 8);
        });
      if (view.lanes > 0) {
        if (warp_of() == 0) code_tokens(view, s);
        __syncthreads();
        put_tokens(view, s, bits);
      }
    }
    put_levels(view, s, bits);
  }
  const uint32_t total = bits.finish();
  if (threadIdx.x == 0) bytes[blockIdx.x] = total;
}

}  // namespace

void launch_pack(const PackView* blocks, uint32_t count, uint32_t* bytes, const Stream& stream) {
  if (count == 0) return;
  pack_blocks<<<count, threads, 0, stream>>>(blocks, bytes);
  check_launch("packing levels");
}

}  // namespace jsq::cuda
