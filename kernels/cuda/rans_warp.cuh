// The entropy coder on the device: one warp holds the interleaved states of a block, one a lane, and takes a
// symbol of each in a step. Class blocks and level blocks share it.
#pragma once

#include "kernels/cuda/class_block.cuh"

namespace jsq::cuda {

/// Symbols' intervals as their starts, so that a table takes 32 bytes (or 64) and not 16 KiB.
template <uint32_t symbols>
struct alignas(16) StartsOf {
  uint16_t start[symbols];
};
using Starts = StartsOf<element::rans_max_symbols>;
/// Of tables of so many frequencies each.
template <uint32_t symbols = element::rans_max_symbols>
std::vector<StartsOf<symbols>> starts_of(std::span<const uint32_t> frequencies) {
  std::vector<StartsOf<symbols>> starts(frequencies.size() / symbols);
  for (size_t table = 0; table < starts.size(); ++table) {
    const auto row = frequencies.subspan(table * symbols, symbols);
    uint32_t start = 0;
    for (uint32_t symbol = 0; symbol < symbols; ++symbol) {
      starts[table].start[symbol] = uint16_t(start);
      start += row[symbol];
    }
    // A table that the model lacks: symbol 0 has all slots, and leaves the states as they are.
    for (uint32_t symbol = 1; start == 0 && symbol < symbols; ++symbol)
      starts[table].start[symbol] = uint16_t(element::rans_total);
  }
  return starts;
}

/// The bytes of a block, perhaps from the last one on. Bits beyond the end are zeros.
template <bool backwards>
struct BytesOf {
  const uint8_t* data = nullptr;
  uint32_t size = 0;
  __device__ uint32_t byte(uint32_t at) const {
    return at < size ? data[backwards ? size - 1 - at : at] : 0u;
  }
  /// `count` <= 32 bits at bit `position`.
  __device__ uint32_t bits(uint32_t position, uint32_t count) const {
    const uint32_t first = position >> 3;
    uint64_t window = 0;
    for (uint32_t k = 0; k < 5; ++k) window = window << 8 | byte(first + k);
    return uint32_t(window >> (40 - (position & 7) - count)) & uint32_t((1ull << count) - 1);
  }
  /// Whether the bits from `position` to the next byte are zeros.
  __device__ bool padded(uint32_t position) const {
    return (position & 7) == 0 || bits(position, 8 - (position & 7)) == 0;
  }
};
using Bytes = BytesOf<false>;

/// Pushed, it leaves every state as it is, and never needs a word.
constexpr element::RansSymbol no_rans_symbol = element::make_rans_symbol(0, element::rans_total);

/// The interleaved states of a block's entropy coder, one a lane, and how many words they have emitted. Lanes
/// without a state or a symbol push no_rans_symbol. A warp runs it.
struct RansCoder {
  uint32_t lanes;
  uint32_t state = element::rans_lower_bound;
  uint32_t words = 0;

  /// A symbol of each lane, of which the last one emits first, to set(i, word) in the order of emission.
  template <class Words>
  __device__ void push(const Words& out, const element::RansSymbol& symbol) {
    const bool emits = element::rans_needs_word(state, symbol.frequency);
    const uint32_t emitting = __ballot_sync(all_lanes, emits);
    const uint32_t place = words + __popc(emitting & ~(lanes_below() | 1u << lane_of()));
    if (emits) out.set(place, uint16_t(state));
    state = emits ? state >> 16 : state;
    words += __popc(emitting);
    state = element::rans_push(state, symbol);
  }
};

/// The starts of a table's intervals, then their end, for a search that begins near its goal.
template <uint32_t symbols = element::rans_max_symbols>
struct SearchRow {
  static constexpr uint32_t starts = symbols + 4;
  static constexpr uint32_t windows = 128;  ///< of slots; as many bytes have each of the 32 banks in one word
  static constexpr uint32_t window_bits = element::rans_precision_bits - 7;
  uint16_t start[starts];
  uint8_t first[windows];  ///< the symbol of a window's first slot

  /// `from` need not lie in shared memory.
  __device__ void fill_start(const StartsOf<symbols>& from, uint32_t i) {
    start[i] = i < symbols ? from.start[i] : uint16_t(element::rans_total);
  }
  /// \pre start is filled
  __device__ void fill_first(uint32_t window) {
    uint32_t symbol = 0;
    while (start[symbol + 1] <= window << window_bits) ++symbol;
    first[window] = uint8_t(symbol);
  }
};
/// Rows of so many tables; all threads, of which there are `threads`.
template <uint32_t symbols>
__device__ void fill_rows(SearchRow<symbols>* rows, const StartsOf<symbols>* tables, uint32_t count,
                          uint32_t threads) {
  using Row = SearchRow<symbols>;
  for (uint32_t i = threadIdx.x; i < count * Row::starts; i += threads)
    rows[i / Row::starts].fill_start(tables[i / Row::starts], i % Row::starts);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count * Row::windows; i += threads)
    rows[i / Row::windows].fill_first(i % Row::windows);
}

/// A symbol's number and interval.
struct RansInterval {
  uint32_t symbol, start, end;
};
/// The interval that holds a slot of a table; all lanes, which may have tables of their own. Almost always
/// that of the window's first slot or the next one, so that no lane goes a way of its own.
template <uint32_t symbols>
__device__ RansInterval interval_of(const SearchRow<symbols>& row, uint32_t slot) {
  const uint32_t symbol = row.first[slot >> SearchRow<symbols>::window_bits];
  const uint32_t start = row.start[symbol], middle = row.start[symbol + 1], end = row.start[symbol + 2];
  const bool second = slot >= middle;
  RansInterval found{symbol + second, second ? middle : start, second ? end : middle};
  while (__any_sync(all_lanes, slot >= found.end)) {
    const bool on = slot >= found.end;
    found.symbol += on;
    found.start = on ? found.end : found.start;
    found.end = on ? row.start[found.symbol + 1] : found.end;
  }
  return found;
}

/// Undoes the interleaved coder, in as few instructions as one warp, whose every instruction waits for the
/// one before it, has from one state to the next. All lanes run everything; those without a state go on with
/// what is ignored. `Words` tells of the two bytes at a place, the first one lowest, and of anything behind
/// the end.
template <class Words, uint32_t symbols = element::rans_max_symbols>
struct RansChain {
  const SearchRow<symbols>* rows;
  Words words;
  uint32_t at;  ///< byte of the stream, of the next word
  uint32_t lanes;
  uint32_t state = element::rans_lower_bound;
  uint32_t ahead = 0;  ///< the word that this lane takes where all lanes before it take one

  /// States at the stream's beginning.  \pre 4 * lanes bytes are there
  __device__ void begin() {
    uint32_t own = state;
    if (lane_of() < lanes) own = words(at + 4 * lane_of()) | words(at + 4 * lane_of() + 2) << 16;
    at += 4 * lanes;
    begin(own);
  }
  __device__ void begin(uint32_t own_state) {
    if (lane_of() < lanes) state = own_state;
    ahead = words(at + 2 * lane_of());
  }
  __device__ uint32_t slot() const { return state & (element::rans_total - 1); }
  /// Active lanes go on to the state without the symbol of `interval`, and to the words that they lack, the
  /// lowest lane first.
  __device__ void take(bool active, const RansInterval& interval) {
    const uint32_t next =
        (interval.end - interval.start) * (state >> element::rans_precision_bits) + (slot() - interval.start);
    const bool needs = active && next < element::rans_lower_bound;
    const uint32_t needing = __ballot_sync(all_lanes, needs);
    const uint32_t word = __shfl_sync(all_lanes, ahead, __popc(needing & lanes_below()));
    const uint32_t filled = needs ? next << 16 | word : next;
    state = active ? filled : state;
    at += 2 * __popc(needing);
    ahead = words(at + 2 * lane_of());
  }
  /// The next symbol of each active lane, the lowest lane first.
  __device__ uint32_t step(bool active, const SearchRow<symbols>& row) {
    const RansInterval interval = interval_of(row, slot());
    take(active, interval);
    return interval.symbol;
  }
  /// Whether all states are where they began.
  __device__ bool home() const {
    return __all_sync(all_lanes, lane_of() >= lanes || state == element::rans_lower_bound);
  }
};

/// Words of a stream that lies in memory as it is; behind its end, its last one.
struct WordsInPlace {
  const uint8_t* bytes;
  uint32_t end;  ///< of the stream, which has two bytes or more
  __device__ uint32_t operator()(uint32_t at) const {
    const uint8_t* const place = bytes + (at < end - 2 ? at : end - 2);
    return place[0] | uint32_t(place[1]) << 8;
  }
};

}  // namespace jsq::cuda
