// Context streams back to values. All threads find the class of every element from its scales. Of each stream
// one warp then runs the entropy coder, one chain of steps, and the others leave its symbols in the classes'
// place; all threads read signs, escapes and low bits, and store values. Where levels are dependent the
// tables of an element follow from the levels before it: each lane looks its symbol up in the tables of
// either quantizer, and a walk along the lanes' parities tells which it is. Whatever is damaged is noticed,
// and the block reported as not sound.
#include <optional>

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/context.hpp"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/fed_chain.cuh"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/part_transforms.hpp"
#include "kernels/element/dependent.hpp"

namespace jsq::cuda {
namespace {

using element::context_classes;
using element::context_symbols;
using element::escape_symbol;

constexpr uint32_t warps = block_warps, threads = block_threads;
constexpr uint32_t each = 4;  ///< neighbouring levels of a thread where bits are of different number
constexpr uint32_t elements_of_grid_block = each * threads;

/// Of an element: its class, and when it was decoded quantizer x context_classes + class, and its symbol
/// below that.
constexpr uint32_t symbol_bits = 5;
static_assert(context_symbols == 1u << symbol_bits);

struct ClassArguments {
  const ContextPiece* pieces;
  uint32_t piece_count;
  const int16_t* scales;
  int lowest;
  uint64_t count;
  uint16_t* ids;
};

/// The last piece that begins at `i` or before it.
__device__ const ContextPiece& piece_at(const ContextPiece* pieces, uint32_t count, uint64_t i) {
  uint32_t low = 0;
  while (count > 1) {
    const uint32_t half = count / 2;
    if (pieces[low + half].first <= i) low += half;
    count -= half;
  }
  return pieces[low];
}

/// Quotient and remainder; most numbers fit 32 bits, whose division is short.
__device__ uint64_t divide(uint64_t number, uint64_t by, uint64_t& rest) {
  uint64_t quotient;
  if ((number | by) >> 32 == 0) {
    quotient = uint32_t(number) / uint32_t(by);
    rest = uint32_t(number) % uint32_t(by);
  } else {
    quotient = number / by;
    rest = number % by;
  }
  return quotient;
}

/// The contexts of neighbouring elements of a piece.
class ContextWalk {
 public:
  __device__ ContextWalk(const ContextPiece& piece, const int16_t* scales, uint32_t i) : piece_(piece) {
    const uint64_t row = divide(piece.offset + i, piece.length, place_);
    row_ = scales + piece.rows + row;
    column_ = scales + piece.columns;
    if (piece.inner != 0) column_ += divide(place_, piece.inner, in_column_);
    offset_ = piece.kernel == 0 ? 0 : (piece.place + i) % piece.kernel;
    offsets_ = scales + piece.offsets;
  }
  __device__ int context() const {
    return *row_ + (piece_.inner == 0 ? 0 : *column_) + (piece_.kernel == 0 ? 0 : offsets_[offset_]);
  }
  __device__ void advance() {
    if (++place_ == piece_.length) {
      place_ = in_column_ = 0;
      ++row_;
      column_ = offsets_ - piece_.offsets + piece_.columns;
    } else if (piece_.inner != 0 && ++in_column_ == piece_.inner) {
      in_column_ = 0;
      ++column_;
    }
    if (++offset_ == piece_.kernel) offset_ = 0;
  }

 private:
  const ContextPiece& piece_;
  uint64_t place_ = 0, in_column_ = 0;  ///< in the row, in the column
  const int16_t *row_, *column_, *offsets_;
  uint32_t offset_;
};

/// A thread takes four neighbours.
__global__ void __launch_bounds__(threads) place_classes(const __grid_constant__ ClassArguments a) {
  constexpr uint32_t id_bits = 16;
  const uint64_t first = (uint64_t(blockIdx.x) * threads + threadIdx.x) * each;
  if (first >= a.count) return;
  const uint32_t count = a.count - first < each ? uint32_t(a.count - first) : each;
  uint64_t ids = 0;
  for (uint32_t k = 0; k < count;) {
    const ContextPiece& piece = piece_at(a.pieces, a.piece_count, first + k);
    if (first + k < piece.first || first + k - piece.first >= piece.count) {
      ++k;
      continue;
    }
    const auto at = uint32_t(first + k - piece.first);
    const uint32_t end = piece.count - at < count - k ? k + (piece.count - at) : count;
    ContextWalk walk(piece, a.scales, at);
    for (;; walk.advance()) {
      ids |= uint64_t(element::context_class(walk.context(), a.lowest)) << (id_bits * k);
      if (++k == end) break;
    }
  }
  if (count == each) {
    *reinterpret_cast<uint64_t*>(a.ids + first) = ids;
    return;
  }
  for (uint32_t k = 0; k < count; ++k) a.ids[first + k] = uint16_t(ids >> (id_bits * k));
}

/// Where a stream lies, and what it becomes.
struct StreamView {
  const uint8_t* data = nullptr;
  float* values = nullptr;
  uint16_t* ids = nullptr;
  uint8_t* lengths = nullptr;  ///< of escapes
  uint32_t bytes = 0, count = 0;
  uint32_t words_at = 0, lanes = 0;
  uint32_t states[16];
  uint32_t zero = false, sound = true;
};

constexpr uint32_t most_quantizers = 2;
constexpr uint32_t most_tables = 2 + most_quantizers * 22;
using ContextStarts = StartsOf<context_symbols>;

struct StreamArguments {
  const StreamView* streams;
  const ContextStarts* starts;
  uint32_t tables;
  const ContextUse* uses;
  uint32_t use_count;
  const float* values;
  bool raw_bits;
  ContextSigns signs;
  uint32_t mantissa;
  double unit;
  bool exact;
  uint32_t base, shift;
  uint8_t* sound;
};

struct Shared {
  SearchRow<context_symbols> rows[most_tables];
  ContextUse uses[most_quantizers * context_classes];
  FedRoom fed;
  uint32_t warp_total[warps];
  uint32_t escapes;  ///< how many
  uint32_t bits_at;  ///< byte of the stream at which raw bits begin
  uint32_t sound;
};

using Fed = FedChain<context_symbols>;

/// The decoder of a stream; all threads.
__device__ Fed decoder_of(const StreamView& view, Shared& s) {
  const uint32_t state = lane_of() < view.lanes ? view.states[lane_of()] : 0;
  return Fed(s.fed, s.rows, view.data + view.words_at, view.bytes - view.words_at, view.lanes, &state);
}

/// Symbols of all elements and lengths of all escapes: all threads.
__device__ void read_symbols(const StreamArguments& a, const StreamView& view, Shared& s) {
  constexpr uint32_t certain = 0;  // a table of zeros, which leave states alone
  Fed fed = decoder_of(view, s);
  fed.run(
      view.count,
      [&](uint32_t i) {
        const uint32_t of_class = view.ids[i];
        return uint16_t(of_class << 8 | s.uses[of_class].table);
      },
      DecodeTabled<certain>(),
      [&](uint32_t i, uint32_t entry) {
        const uint32_t symbol = entry & 255;
        view.ids[i] = uint16_t(entry >> 8 << symbol_bits | symbol);
        if (symbol == escape_symbol) atomicAdd(&s.escapes, 1u);
      });
  fed.run(
      s.escapes, [&](uint32_t) { return uint16_t(a.tables - 1); }, DecodeTabled<certain>(),
      [&](uint32_t j, uint32_t length) { view.lengths[j] = uint8_t(length); });
  if (warp_of() == 0) {
    const uint32_t at = fed.chain().at;
    const bool sound = fed.chain().home() && at <= view.bytes - view.words_at;
    if (lane_of() == 0) {
      s.bits_at = view.words_at + at;
      s.sound = sound;
    }
  }
}

/// Whether there is more of a level than its symbol.
__device__ bool has_bits(const ContextUse& use, uint32_t symbol) {
  return symbol == escape_symbol || use.raw_bits > 0;
}

struct Level {
  uint64_t magnitude;
  bool negative;
};
/// The level of a symbol and its bits from `at` on, which goes behind them. `length`: of an escape.
template <class Bits>
__device__ Level read_level(const StreamArguments& a, const ContextUse& use, uint32_t symbol, uint32_t length,
                            const Bits& bits, uint32_t& at) {
  Level level{element::symbol_magnitude(symbol), element::symbol_is_negative(symbol)};
  if (symbol == escape_symbol || symbol == 0) {
    const uint32_t signs = a.signs == ContextSigns::both ? 1 : 0;
    level.negative = signs ? bits.bits(at, 1) != 0 : a.signs == ContextSigns::negative;
    at += signs;
  }
  if (symbol == escape_symbol) {
    level.magnitude = (uint64_t(1) << length | bits.bits(at, length)) - 1 + use.rungs;
    at += length;
  }
  level.magnitude = level.magnitude << use.raw_bits | bits.bits(at, use.raw_bits);
  at += use.raw_bits;
  return level;
}

/// What a level stands for.
__device__ float value_of(const StreamArguments& a, const ContextUse& use, uint32_t quantizer,
                          const Level& level) {
  const auto magnitude = uint32_t(level.magnitude);
  if (magnitude == 0) return 0;
  if (a.exact) return element::exact_value(magnitude, level.negative, a.base, a.shift);
  const int8_t* const offsets = use.has_offsets && use.raw_bits == 0 ? use.offsets : nullptr;
  return element::value_of_points(element::level_points(magnitude, quantizer, offsets) * a.mantissa, a.unit,
                                  level.negative);
}

/// Four neighbours, the first a multiple of four; 0 behind the end.
__device__ void load_ids(const StreamView& view, uint32_t first, uint32_t* id) {
  if (reinterpret_cast<uint64_t>(view.ids) % sizeof(ushort4) == 0 && first + each <= view.count) {
    const ushort4 four = *reinterpret_cast<const ushort4*>(view.ids + first);
    id[0] = four.x, id[1] = four.y, id[2] = four.z, id[3] = four.w;
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < each; ++k) id[k] = first + k < view.count ? view.ids[first + k] : 0;
}
__device__ void store_values(const StreamView& view, uint32_t first, const float* value) {
  if (reinterpret_cast<uint64_t>(view.values) % sizeof(float4) == 0 && first + each <= view.count) {
    *reinterpret_cast<float4*>(view.values + first) = {value[0], value[1], value[2], value[3]};
    return;
  }
#pragma unroll
  for (uint32_t k = 0; k < each; ++k)
    if (first + k < view.count) view.values[first + k] = value[k];
}

/// Values of symbols that are all there is of their levels: all threads.
__device__ void store_plain(const StreamArguments& a, const StreamView& view) {
  for (uint32_t first = each * threadIdx.x; first < view.count; first += each * threads) {
    uint32_t id[each];
    float value[each];
    load_ids(view, first, id);
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) value[k] = a.values[id[k]];
    store_values(view, first, value);
  }
}

/// Values where some levels have bits of their own: all threads.
__device__ bool store_with_bits(const StreamArguments& a, const StreamView& view, Shared& s) {
  const BlockBits bytes(view.data, view.bytes);
  const uint32_t signs = a.signs == ContextSigns::both ? 1 : 0;
  uint32_t position = 8 * s.bits_at, escapes = 0;
  bool sound = true;
  for (uint32_t round = 0; round < view.count; round += threads * each) {
    const uint32_t first = round + each * threadIdx.x;
    uint32_t id[each], own = 0;
    load_ids(view, first, id);
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) own += id[k] % context_symbols == escape_symbol ? 1 : 0;
    // Escapes first: how many bits they take is known by their number.
    const auto total_before = [&](uint32_t value, uint32_t& total) {
      uint32_t warp_total = 0, before = sum_before(value, warp_total);
      if (lane_of() == 0) s.warp_total[warp_of()] = warp_total;
      __syncthreads();
      total = 0;
      for (uint32_t w = 0; w < warps; ++w) {
        if (w < warp_of()) before += s.warp_total[w];
        total += s.warp_total[w];
      }
      __syncthreads();
      return before;
    };
    uint32_t total, escape = escapes + total_before(own, total);
    escapes += total;
    uint32_t length[each], bits = 0;
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      const uint32_t symbol = id[k] % context_symbols, raw = s.uses[id[k] >> symbol_bits].raw_bits;
      const bool escapes_here = symbol == escape_symbol;
      length[k] = escapes_here ? view.lengths[escape++] : 0;
      bits += escapes_here ? signs + length[k] : raw > 0 && symbol == 0 ? signs : 0;
      bits += raw;
    }
    uint32_t at = position + total_before(bits, total);
    position += total;
    float value[each];
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      const uint32_t symbol = id[k] % context_symbols;
      const ContextUse& use = s.uses[id[k] >> symbol_bits];
      value[k] = 0;
      if (first + k >= view.count) continue;
      if (!has_bits(use, symbol)) {
        value[k] = a.values[id[k]];
        continue;
      }
      const Level level = read_level(a, use, symbol, length[k], bytes, at);
      sound = sound && level.magnitude <= element::largest_level;
      value[k] = value_of(a, use, 0, level);
    }
    store_values(view, first, value);
  }
  return sound && (position + 7) / 8 == view.bytes && bytes.padded(position);
}

/// Values of symbols that are all there is of their levels; the others are there.
__device__ void store_beside(const StreamArguments& a, const StreamView& view, const Shared& s) {
  for (uint32_t i = threadIdx.x; i < view.count; i += threads) {
    const uint32_t id = view.ids[i];
    if (!has_bits(s.uses[id >> symbol_bits], id % context_symbols)) view.values[i] = a.values[id];
  }
}

/// Symbols of dependent levels, and values of those with bits of their own, which stand at the end of the
/// stream, the last byte first. The first warp.
struct DecodeDependent {
  const StreamArguments& a;
  const StreamView& view;
  const Shared& s;
  BytesOf<true> bits;
  uint32_t position = 0, state = 0;
  bool sound = true;

  /// Entries are classes, and become numbers of symbols.
  __device__ void operator()(Fed::Chain& chain, uint16_t* entries, uint32_t first, uint32_t count) {
    const uint32_t lane = lane_of(), lanes = view.lanes;
    for (uint32_t at = 0; at < count; at += lanes) {
      const bool there = lane < lanes && at + lane < count;
      const uint32_t k = there ? entries[at + lane] : 0;
      uint32_t left = __ballot_sync(all_lanes, there && s.uses[k].table != 0), id = k << symbol_bits;
      while (left != 0) {
        const bool waits = (left >> lane & 1) != 0;
        const RansInterval whole = interval_of(chain.rows[s.uses[k].table], chain.slot()),
                           shifted = interval_of(chain.rows[s.uses[context_classes + k].table], chain.slot());
        const uint32_t raw = s.uses[k].raw_bits;
        const uint32_t stops[] = {
            __ballot_sync(all_lanes, waits && (whole.symbol == escape_symbol || raw > 0)),
            __ballot_sync(all_lanes, waits && (shifted.symbol == escape_symbol || raw > 0))};
        const uint32_t odd[] = {
            __ballot_sync(all_lanes, waits && element::symbol_magnitude(whole.symbol) % 2 == 1),
            __ballot_sync(all_lanes, waits && element::symbol_magnitude(shifted.symbol) % 2 == 1)};
        // From lane to lane, up to one whose parity its symbol does not tell.
        uint32_t by_shifted = 0, walked = 0, stop = warp_size;
        for (uint32_t todo = left; todo != 0 && stop == warp_size; todo &= todo - 1) {
          const uint32_t l = uint32_t(__ffs(int(todo))) - 1, q = element::quantizer_of(state);
          walked |= 1u << l;
          by_shifted |= q << l;
          if (((q ? stops[1] : stops[0]) >> l & 1) != 0)
            stop = l;
          else
            state = element::next_dependent_state(state, (q ? odd[1] : odd[0]) >> l & 1);
        }
        const bool goes = (walked >> lane & 1) != 0, q = (by_shifted >> lane & 1) != 0;
        const RansInterval taken{q ? shifted.symbol : whole.symbol, q ? shifted.start : whole.start,
                                 q ? shifted.end : whole.end};
        chain.take(goes, taken);
        if (goes) id = (q ? context_classes + k : k) << symbol_bits | taken.symbol;
        left &= ~walked;
        if (stop < warp_size) read_stopped(chain, first + at + stop, stop, id, by_shifted >> stop & 1);
      }
      if (there) entries[at + lane] = uint16_t(id);
    }
  }

 private:
  /// The rest of the level at `i`, that of lane `stop`.
  __device__ void read_stopped(Fed::Chain& chain, uint32_t i, uint32_t stop, uint32_t id,
                               uint32_t by_shifted) {
    const uint32_t stopped = __shfl_sync(all_lanes, id, int(stop)), symbol = stopped % context_symbols;
    uint32_t length = 0;
    if (symbol == escape_symbol)
      length = __shfl_sync(all_lanes, chain.step(lane_of() == stop, chain.rows[a.tables - 1]), int(stop));
    const ContextUse& use = s.uses[stopped >> symbol_bits];
    const Level level = read_level(a, use, symbol, length, bits, position);
    sound = sound && level.magnitude <= element::largest_level;
    if (lane_of() == 0) view.values[i] = value_of(a, use, by_shifted, level);
    state = element::next_dependent_state(state, uint32_t(level.magnitude & 1));
  }
};

/// All threads.
__device__ void read_dependent(const StreamArguments& a, const StreamView& view, Shared& s) {
  Fed fed = decoder_of(view, s);
  DecodeDependent decode{a, view, s, {view.data, view.bytes}};
  fed.run(
      view.count, [&](uint32_t i) { return view.ids[i]; },
      [&](Fed::Chain& chain, uint16_t* entries, uint32_t first, uint32_t count) {
        decode(chain, entries, first, count);
      },
      [&](uint32_t i, uint16_t id) { view.ids[i] = id; });
  if (warp_of() == 0) {
    const uint32_t at = fed.chain().at, stream = view.bytes - view.words_at;
    const bool sound = decode.sound && fed.chain().home() && at <= stream &&
                       decode.bits.padded(decode.position) && (decode.position + 7) / 8 == stream - at;
    if (lane_of() == 0) s.sound = sound;
  }
}

/// What all threads of a block share; whether there is a stream to be decoded.
__device__ bool begin_stream(const StreamArguments& a, StreamView& view, Shared& s) {
  share_view(view, a.streams[blockIdx.x]);
  if (view.zero || !view.sound) {
    store_zeros(view.values, view.count);
    if (threadIdx.x == 0) a.sound[blockIdx.x] = uint8_t(view.sound);
    return false;
  }
  if (threadIdx.x == 0) s.escapes = 0;
  fill_rows(s.rows, a.starts, a.tables, threads);
  for (uint32_t k = threadIdx.x; k < a.use_count; k += threads) s.uses[k] = a.uses[k];
  __syncthreads();
  return true;
}

__global__ void __launch_bounds__(threads, 4) decode_streams(const __grid_constant__ StreamArguments a) {
  __shared__ __align__(16) char room[sizeof(Shared)];
  Shared& s = *reinterpret_cast<Shared*>(room);
  __shared__ StreamView view;
  if (!begin_stream(a, view, s)) return;
  read_symbols(a, view, s);
  __syncthreads();
  bool sound = s.sound != 0;
  if (sound && (a.raw_bits || s.escapes > 0))
    sound = store_with_bits(a, view, s);
  else if (sound)
    store_plain(a, view), sound = s.bits_at == view.bytes;
  sound = __syncthreads_and(sound) != 0;
  if (!sound) store_zeros(view.values, view.count);
  if (threadIdx.x == 0) a.sound[blockIdx.x] = sound;
}

__global__ void __launch_bounds__(threads, 4) decode_dependent(const __grid_constant__ StreamArguments a) {
  __shared__ __align__(16) char room[sizeof(Shared)];
  Shared& s = *reinterpret_cast<Shared*>(room);
  __shared__ StreamView view;
  if (!begin_stream(a, view, s)) return;
  read_dependent(a, view, s);
  __syncthreads();
  if (s.sound)
    store_beside(a, view, s);
  else
    store_zeros(view.values, view.count);
  if (threadIdx.x == 0) a.sound[blockIdx.x] = s.sound != 0;
}

/// From and to host memory.
class ContextRun final : public ContextDecoder {
 public:
  ContextRun(const ContextTables& tables, const PartTransforms* transforms) {
    if (transforms != nullptr) transforms_.emplace(*transforms);
    if (tables.frequencies.size() > most_tables * context_symbols ||
        tables.uses.size() > most_quantizers * context_classes)
      throw DeviceError("more context tables than a device decodes");
    const auto starts = starts_of<context_symbols>(tables.frequencies);
    put(starts_, std::span(starts));
    put(uses_, std::span(tables.uses));
    put(table_values_, std::span(tables.values));
    stream_.synchronize();
    lowest_ = tables.lowest;
    arguments_.starts = starts_.data();
    arguments_.tables = uint32_t(starts.size());
    arguments_.uses = uses_.data();
    arguments_.use_count = uint32_t(tables.uses.size());
    arguments_.values = table_values_.data();
    arguments_.raw_bits = tables.raw_bits;
    arguments_.signs = tables.signs;
    arguments_.mantissa = tables.mantissa;
    arguments_.unit = tables.unit;
    arguments_.exact = tables.exact;
    arguments_.base = tables.base;
    arguments_.shift = tables.shift;
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, const Contexts& contexts,
              std::span<float> values, std::span<uint8_t> sound) override {
    if (blocks.empty()) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    ids_.reserve(values.size());
    lengths_.reserve(values.size());
    sound_.reserve(blocks.size());
    place(contexts, values.size());
    host_views_.clear();
    for (const Block& block : blocks) {
      StreamView& view = host_views_.emplace_back();
      view.data = bytes_.bytes() + block.offset;
      view.values = values_.data() + block.first;
      view.ids = ids_.data() + block.first;
      view.lengths = lengths_.data() + block.first;
      view.bytes = uint32_t(block.bytes);
      view.count = uint32_t(block.count);
      view.words_at = block.words_at;
      view.lanes = block.lanes;
      std::copy(std::begin(block.states), std::end(block.states), view.states);
      view.zero = block.zero;
      view.sound = block.sound;
    }
    put(views_, std::span<const StreamView>(host_views_));
    arguments_.streams = views_.data();
    arguments_.sound = sound_.data();
    const auto decode = arguments_.use_count > context_classes ? decode_dependent : decode_streams;
    decode<<<uint32_t(blocks.size()), threads, 0, stream_>>>(arguments_);
    check_launch("decoding context streams");
    if (transforms_) transforms_->launch(contexts.units, values_.data(), stream_);
    for (const Block& block : blocks)
      copy_to_device(values_.data() + block.first, block.given.data(), block.given.size(), stream_);
    copy_to_host(sound.data(), sound_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  template <class T>
  void put(DeviceBuffer<std::remove_const_t<T>>& buffer, std::span<T> from) {
    buffer.reserve(from.size());
    copy_to_device(buffer.data(), from.data(), from.size(), stream_);
  }

  /// Classes of all elements that have pieces.
  void place(const Contexts& contexts, size_t count) {
    if (contexts.pieces.empty()) return;
    put(pieces_, std::span(contexts.pieces));
    put(scales_, std::span(contexts.scales));
    const ClassArguments a{pieces_.data(), uint32_t(contexts.pieces.size()), scales_.data(), lowest_, count,
                           ids_.data()};
    place_classes<<<uint32_t((count + elements_of_grid_block - 1) / elements_of_grid_block), threads, 0,
                    stream_>>>(a);
    check_launch("placing contexts");
  }

  Stream stream_;
  std::optional<TransformRun> transforms_;
  StagedBytes bytes_;
  int lowest_ = 0;
  StreamArguments arguments_{};
  DeviceBuffer<ContextStarts> starts_;
  DeviceBuffer<ContextUse> uses_;
  DeviceBuffer<float> table_values_, values_;
  DeviceBuffer<ContextPiece> pieces_;
  DeviceBuffer<int16_t> scales_;
  DeviceBuffer<uint16_t> ids_;
  DeviceBuffer<uint8_t> lengths_, sound_;
  DeviceBuffer<StreamView> views_;
  std::vector<StreamView> host_views_;
};

}  // namespace

std::unique_ptr<ContextDecoder> make_context_decoder(const ContextTables& tables,
                                                     const PartTransforms* transforms) {
  return std::make_unique<ContextRun>(tables, transforms);
}

}  // namespace jsq::cuda
