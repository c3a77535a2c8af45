// The entropy decoder of symbols whose number is known before: one warp goes along its chain of steps and
// does nothing else. The other warps bring the stream's bytes and what is known of the symbols a chunk ahead,
// and take away what has become of them a chunk behind.
#pragma once

#include "kernels/cuda/rans_warp.cuh"

namespace jsq::cuda {

constexpr uint32_t fed_chunk = 256;  ///< symbols between two barriers
/// That they take at most: a word, and one more where another symbol follows from them.
constexpr uint32_t fed_chunk_bytes = 4 * fed_chunk;

/// The bytes of a stream as they come, in a ring in shared memory, where its words are aligned.
struct FedWords {
  static constexpr uint32_t line = 128;                                     ///< that a warp brings together
  static constexpr uint32_t ahead = 2 * fed_chunk_bytes + 2 * warp_size;    ///< bytes
  static constexpr uint32_t room = 4 * fed_chunk_bytes / sizeof(uint32_t);  ///< words of the ring
  static_assert(room * sizeof(uint32_t) >= ahead + 2 * line);

  const uint32_t* from;  ///< the first word of device memory that has a byte of it
  uint32_t shift;        ///< bits of that word before it
  uint32_t words;        ///< of device memory that have
  uint32_t* ring;
  uint32_t lines = 0;  ///< that are there

  __device__ FedWords(const uint8_t* data, uint32_t bytes, uint32_t* ring_words)
      : from(reinterpret_cast<const uint32_t*>(reinterpret_cast<uint64_t>(data) & ~uint64_t(3))),
        shift(8 * uint32_t(reinterpret_cast<uint64_t>(data) & 3)),
        words(bytes == 0 ? 0 : (shift / 8 + bytes + 3) / 4),
        ring(ring_words) {}

  /// All that a chain which is at byte `at` reaches in two chunks; by so many warps, of which this is the
  /// n-th. What is before `at` goes. Behind the end there is anything.
  __device__ void bring(uint32_t at, uint32_t warps, uint32_t n) {
    const uint32_t end = (at + ahead + line - 1) / line;
    for (uint32_t l = lines + n; l < end; l += warps) {
      const uint32_t w = l * warp_size + lane_of();
      const uint32_t low = w < words ? from[w] : 0;
      uint32_t high = __shfl_down_sync(all_lanes, low, 1);
      if (lane_of() == warp_size - 1) high = shift != 0 && w + 1 < words ? from[w + 1] : 0;
      ring[w % room] = __funnelshift_r(low, high, shift);
    }
    lines = end > lines ? end : lines;
  }
  /// The word at byte `at`, an even place.
  __device__ uint32_t operator()(uint32_t at) const { return ring[at / 4 % room] >> 8 * (at & 2) & 0xffff; }
};

/// Of a thread block, in shared memory.
struct FedRoom {
  uint32_t ring[FedWords::room];
  uint16_t entries[3][fed_chunk];  ///< of chunks in turn
  uint32_t at[2];                  ///< where the chain was, in turn
};

/// Every thread of a block has one; the chain is that of the first warp.
template <uint32_t symbols>
class FedChain {
 public:
  using Chain = RansChain<FedWords, symbols>;

  /// The stream at `data`. With `own_state`, the lane's, its words alone; else its states before them.
  __device__ FedChain(FedRoom& room, const SearchRow<symbols>* rows, const uint8_t* data, uint32_t bytes,
                      uint32_t lanes, const uint32_t* own_state = nullptr)
      : room_(room), chain_{rows, FedWords(data, bytes, room.ring), 0, lanes} {
    chain_.words.bring(0, block_warps, warp_of());
    __syncthreads();
    if (warp_of() == 0) {
      if (own_state != nullptr)
        chain_.begin(*own_state);
      else
        chain_.begin();
      if (lane_of() == 0) room_.at[1] = chain_.at;
    }
    __syncthreads();
  }

  /// Chunk by chunk: entries become prepare(i), i below `count`; decode(chain, entries, i of the first one,
  /// how many) makes others of them, in the first warp; deliver(i, entry) takes them. All threads.
  template <class Prepare, class Decode, class Deliver>
  __device__ void run(uint32_t count, Prepare prepare, Decode decode, Deliver deliver) {
    const uint32_t chunks = (count + fed_chunk - 1) / fed_chunk;
    const auto entries_of = [&](uint32_t chunk) { return room_.entries[chunk % 3]; };
    const auto first_of = [](uint32_t chunk) { return chunk * fed_chunk; };
    const auto length_of = [&](uint32_t chunk) {
      return count - first_of(chunk) < fed_chunk ? count - first_of(chunk) : fed_chunk;
    };
    constexpr uint32_t helpers = (block_warps - 1) * warp_size;
    for (uint32_t turn = 0; turn < chunks + 2; ++turn, ++turns_) {
      if (warp_of() > 0) {
        chain_.words.bring(room_.at[(turns_ + 1) % 2], block_warps - 1, warp_of() - 1);
        if (turn < chunks)
          for (uint32_t k = threadIdx.x - warp_size; k < length_of(turn); k += helpers)
            entries_of(turn)[k] = prepare(first_of(turn) + k);
        if (turn >= 2)
          for (uint32_t k = threadIdx.x - warp_size; k < length_of(turn - 2); k += helpers)
            deliver(first_of(turn - 2) + k, entries_of(turn - 2)[k]);
      } else {
        if (turn >= 1 && turn - 1 < chunks)
          decode(chain_, entries_of(turn - 1), first_of(turn - 1), length_of(turn - 1));
        if (lane_of() == 0) room_.at[turns_ % 2] = chain_.at;
      }
      __syncthreads();
    }
  }
  /// The first warp's.
  __device__ const Chain& chain() const { return chain_; }

 private:
  FedRoom& room_;
  Chain chain_;
  uint32_t turns_ = 0;
};

/// Of entries that have tables, the low bytes become symbols; those of table `none` become 0. For
/// FedChain::run().
template <uint32_t none>
struct DecodeTabled {
  template <class Chain>
  __device__ void operator()(Chain& chain, uint16_t* entries, uint32_t, uint32_t count) const {
    const uint32_t lane = lane_of(), lanes = chain.lanes;
    const auto entry_at = [&](uint32_t k) { return k < count ? uint32_t(entries[k]) : none; };
    uint32_t entry = entry_at(lane);
    for (uint32_t k = lane; k - lane < count; k += lanes) {
      const uint32_t next = entry_at(k + lanes), table = entry & 255;
      const bool own = lane < lanes && k < count, active = own && table != none;
      if (__any_sync(all_lanes, active)) {
        const uint32_t symbol = chain.step(active, chain.rows[table == none ? 0 : table]);
        if (own) entries[k] = uint16_t((entry & ~255u) | (active ? symbol : 0));
      } else if (own) {
        entries[k] = uint16_t(entry & ~255u);
      }
      entry = next;
    }
  }
};

}  // namespace jsq::cuda
