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

/// The bytes of an entropy coder's stream, brought over line by line. A warp reads it.
struct StagedStream {
  static constexpr uint32_t line = 128;        ///< bytes that a warp reads together
  static constexpr uint32_t ahead = line / 2;  ///< bytes that are there beyond those that were reached
  static constexpr uint32_t room = 2 * line / sizeof(uint32_t);

  const uint32_t* words;  ///< from the line on in which it begins
  uint32_t offset;        ///< bytes of that line before it
  uint32_t size;          ///< bytes
  uint32_t* lines;        ///< two in turn
  uint32_t staged = 0;    ///< lines

  __device__ StagedStream(const uint8_t* data, uint32_t bytes, uint32_t* buffer)
      : words(reinterpret_cast<const uint32_t*>(reinterpret_cast<uint64_t>(data) & ~uint64_t(line - 1))),
        offset(uint32_t(reinterpret_cast<uint64_t>(data) & (line - 1))),
        size(bytes),
        lines(buffer) {}
  /// Bytes at..at + ahead - 1 can be read, and those before `at` no more. All lanes.
  __device__ void reach(uint32_t at) {
    while (line * staged < offset + at + ahead && line * staged < offset + size) {
      const uint32_t word = warp_size * staged + lane_of();
      const bool there = word >= offset / 4 && word <= (offset + size - 1) / 4;
      const uint32_t loaded = there ? words[word] : 0;
      __syncwarp();
      lines[word % room] = loaded;
      __syncwarp();
      ++staged;
    }
  }
  __device__ uint32_t byte(uint32_t at) const {
    const uint32_t place = offset + at;
    return at < size ? lines[place / 4 % room] >> (8 * (place % 4)) & 0xff : 0;
  }
};

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

/// A symbol that a state stands for, and the state without it, which may lack a word.
struct RansTaken {
  uint32_t symbol, next;
};

/// Undoes the interleaved coder: one state a lane. A warp runs it. `Stream` has byte(i), 0 behind the end,
/// and size.
template <class Stream, uint32_t symbols = element::rans_max_symbols>
struct RansDecoder {
  const StartsOf<symbols>* starts;
  Stream stream;
  uint32_t lanes;
  uint32_t state = element::rans_lower_bound;
  uint32_t at = 0;  ///< of the next word

  __device__ void begin() {
    const uint32_t lane = lane_of();
    if (lane < lanes)
      state = stream.byte(4 * lane) | stream.byte(4 * lane + 1) << 8 | stream.byte(4 * lane + 2) << 16 |
              stream.byte(4 * lane + 3) << 24;
    at = 4 * lanes;
  }
  /// What this lane's state stands for.
  __device__ RansTaken look(uint32_t table) const {
    const uint32_t slot = state & (element::rans_total - 1);
    const uint4* words = reinterpret_cast<const uint4*>(&starts[table]);
    // Bit 15 of a half word stays where its start is not above the slot.
    const uint32_t probe = 0x80008000u + slot * 0x10001u;
    const auto within = [&](uint32_t pair) { return __popc((probe - pair) & 0x80008000u); };
    uint32_t reached = 0;
#pragma unroll
    for (uint32_t w = 0; w < symbols / 8; ++w) {
      const uint4 four = words[w];
      reached += within(four.x) + within(four.y) + within(four.z) + within(four.w);
    }
    const uint32_t symbol = reached - 1, start = starts[table].start[symbol];
    const uint32_t end = symbol + 1 < symbols ? starts[table].start[symbol + 1] : element::rans_total;
    return {symbol, (end - start) * (state >> element::rans_precision_bits) + (slot - start)};
  }
  /// Active lanes go on to `next` and the words that they lack, the lowest lane first.
  __device__ void take(bool active, uint32_t next) {
    const bool needs = active && next < element::rans_lower_bound;
    const uint32_t needing = __ballot_sync(all_lanes, needs);
    if (needs) {
      const uint32_t from = at + 2 * __popc(needing & lanes_below());
      const uint32_t word = from + 2 <= stream.size ? stream.byte(from) | stream.byte(from + 1) << 8 : 0u;
      next = next << 16 | word;
    }
    at += 2 * __popc(needing);
    if (active) state = next;
  }
  /// The next symbol of each active lane, the lowest lane first.
  __device__ uint32_t step(bool active, uint32_t table) {
    RansTaken taken{0, state};
    if (active) taken = look(table);
    take(active, taken.next);
    return taken.symbol;
  }
  /// Whether all states are where they began.
  __device__ bool home() const {
    return __all_sync(all_lanes, lane_of() >= lanes || state == element::rans_lower_bound);
  }
  __device__ bool finished() const {
    return home() && at == stream.size;
  }
};

/// The starts of a table's intervals, then their end, for a search that begins near its goal.
struct SearchRow {
  static constexpr uint32_t windows = 128;  ///< of slots; as many bytes have each of the 32 banks in one word
  static constexpr uint32_t window_bits = element::rans_precision_bits - 7;
  uint16_t start[element::rans_max_symbols + 4];
  uint8_t first[windows];  ///< the symbol of a window's first slot

  /// All threads; `starts` need not lie in shared memory.
  __device__ void fill_start(const Starts& starts, uint32_t i) {
    if (i < element::rans_max_symbols + 4)
      start[i] = i < element::rans_max_symbols ? starts.start[i] : uint16_t(element::rans_total);
  }
  /// \pre start is filled
  __device__ void fill_first(uint32_t window) {
    uint32_t symbol = 0;
    while (start[symbol + 1] <= window << window_bits) ++symbol;
    first[window] = uint8_t(symbol);
  }
};

/// A symbol's number and interval.
struct RansInterval {
  uint32_t symbol, start, end;
};
/// The interval that holds a slot of a table; all lanes, which may have tables of their own. Almost always
/// that of the window's first slot or the next one, so that no lane goes a way of its own.
__device__ inline RansInterval interval_of(const SearchRow& row, uint32_t slot) {
  const uint32_t symbol = row.first[slot >> SearchRow::window_bits];
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

/// Undoes the interleaved coder as RansDecoder does, in as few instructions as one warp, whose every
/// instruction waits for the one before it, has from one state to the next. All lanes run everything; those
/// without a state go on with what is ignored.
struct RansChain {
  const SearchRow* rows;
  const uint8_t* bytes;  ///< of which the stream has those at..end - 1, two or more
  uint32_t at, end;
  uint32_t lanes;
  uint32_t state = element::rans_lower_bound;
  uint32_t ahead = 0;  ///< the word that this lane takes where all lanes before it take one

  /// Two bytes from place `from` on, the first one lowest; behind the end, the last two.
  __device__ uint32_t two_bytes(uint32_t from) const {
    const uint8_t* const place = bytes + (from < end - 2 ? from : end - 2);
    return place[0] | uint32_t(place[1]) << 8;
  }
  /// \pre 4 * lanes bytes are there
  __device__ void begin() {
    if (lane_of() < lanes) state = two_bytes(at + 4 * lane_of()) | two_bytes(at + 4 * lane_of() + 2) << 16;
    at += 4 * lanes;
    ahead = two_bytes(at + 2 * lane_of());
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
    ahead = two_bytes(at + 2 * lane_of());
  }
  /// The next symbol of each active lane, the lowest lane first.
  __device__ uint32_t step(bool active, const SearchRow& row) {
    const RansInterval interval = interval_of(row, slot());
    take(active, interval);
    return interval.symbol;
  }
  /// Whether all states are where they began, and all words are taken.
  __device__ bool finished() const {
    return at == end && __all_sync(all_lanes, lane_of() >= lanes || state == element::rans_lower_bound);
  }
};

}  // namespace jsq::cuda
