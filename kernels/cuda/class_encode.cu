// One thread block codes one class block, reading its values once: classify, list the kept elements with
// their code words, sum errors in the contract's order, then code the list. The entropy coder's states are
// one chain of steps, which one warp goes along and does nothing else: the others bring it the numbers of its
// symbols, chunk by chunk. Sign bits, planes and maps are packed before. The coded block is gathered into
// whole output words.
#include "kernels/cuda/class_bits.cuh"
#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/class_feed.cuh"
#include "kernels/cuda/class_sums.cuh"
#include "kernels/element/bit_length.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

using namespace class_coding;

enum class Work { tally, encode };

struct Arguments {
  ClassComposition composition;
  ClassWorkspace::Layout layout;
  const BlockView* blocks;
  uint32_t count;
  BlockResult* results;
  uint32_t* kept_far;
  uint16_t* words_far;
  uint32_t* bits_far;
  // of a tally
  ClassCounts* tallied;
  ClassCounts* counted;
  // of coding
  const RansSymbol* symbols;
  uint32_t* out;
  uint64_t capacity;
  unsigned long long* used;
};

/// Counters of one block; they are added to the launch's in one go.
struct LocalCounts {
  uint32_t activity[max_activity_buckets][element::rans_max_symbols];
  uint32_t classes[max_activity_buckets][element::rans_max_symbols];
  uint32_t magnitude[max_classes][max_activity_buckets][element::rans_max_symbols];
};

/// Where a block's parts lie among its packed bits; all in bits, every part begins on a byte.
struct Parts {
  uint32_t map_bytes = 0;
  uint32_t signs_at = 0;
  uint32_t bytes = 0;
};

/// What the first pass over a block leaves behind.
struct Listed {
  uint32_t kept = 0;
};

/// Classifies, quantizes and lists a block; sums into results[b].sums. `full` blocks only are quantized and
/// listed.
template <ClassQuantizer Q, Work W>
__device__ Listed list_block(const Arguments& a, const BlockView& block, bool full, Shared& s,
                             LocalCounts* counts, const Spilling<uint32_t>& list, uint8_t* buckets,
                             double* terms, ClassSums& sums) {
  const element::ClassPlan& plan = a.composition.plan;
  const uint32_t lane = lane_of(), warp = warp_of(), n = block.count;
  const bool keeps_all = plan.width[0] > 0;
  DroppedSummer dropped;
  KeptSummer kept_sums;
  double expected = 0;
  uint32_t kept = 0, dropped_max = 0, turn = 0;
  for (uint32_t at = 0; at < n; at += tile, turn ^= 1) {
    Tile& values = s.tiles[turn];
    const uint32_t base = at + warp * runs_each * run_length;
    float g[runs_each];
    uint32_t masks[runs_each], j[runs_each], activities[runs_each];
#pragma unroll
    for (uint32_t r = 0; r < runs_each; ++r) {
      const uint32_t i = base + r * run_length + lane;
      g[r] = i < n ? block.values[i] : 0.0f;
    }
    uint32_t warp_kept = 0;
#pragma unroll
    for (uint32_t r = 0; r < runs_each; ++r) {
      const uint32_t i = base + r * run_length + lane;
      const bool inside = i < n;
      j[r] = inside ? class_of(plan, element::magnitude_key(g[r]), block.first_pool_index + i) : 0;
      uint32_t activity = 0, above = __popc(__ballot_sync(all_lanes, inside)), of_class = 0;
      const uint32_t in_run = above;
      for (uint32_t c = 0; c < plan.classes; ++c) {
        const uint32_t next = __ballot_sync(all_lanes, j[r] > c);
        if (lane == c) of_class = above - __popc(next);
        above = __popc(next);
        activity += above;
        if (c == 0) masks[r] = next;
      }
      activities[r] = element::bit_length(activity);
      if (keeps_all) masks[r] = __ballot_sync(all_lanes, inside);
      if (base + r * run_length < n) {
        if (lane < plan.classes && of_class > 0) {
          atomicAdd(&s.members[lane], of_class);
          if (W == Work::tally) atomicAdd(&counts->classes[activities[r]][lane], of_class);
        }
        if (W == Work::tally && lane == 0) {
          const uint32_t joined = element::classes_per_token(plan.classes),
                         padding = (joined - in_run % joined) % joined;
          if (padding) atomicAdd(&counts->classes[activities[r]][0], padding);
        }
        if (lane == 0) buckets[base / run_length + r] = uint8_t(activities[r]);
      }
      warp_kept += __popc(masks[r]);
    }
    if (!full) continue;
    if (lane == 0) s.warp_kept[turn][warp] = warp_kept;
    __syncthreads();
    uint32_t before = 0, tile_kept = 0;
    for (uint32_t w = 0; w < warps; ++w) {
      before += w < warp ? s.warp_kept[turn][w] : 0;
      tile_kept += s.warp_kept[turn][w];
    }
#pragma unroll
    for (uint32_t r = 0; r < runs_each; ++r) {
      const uint32_t i = base + r * run_length + lane;
      const bool is_kept = masks[r] >> lane & 1;
      values.dropped[i - at] = is_kept ? 0.0f : g[r];
      if (!is_kept) {
        const uint32_t key = element::magnitude_key(g[r]);
        dropped_max = dropped_max > key ? dropped_max : key;
      } else {
        const uint32_t c = j[r], width = plan.width[c], rank = before + __popc(masks[r] & lanes_below());
        float u = 0.5f;
        if (plan.stochastic)
          u = element::uniform_of_word(element::random_word(plan.seed, block.first_element + i, block.tensor,
                                                            element::RandomPurpose::rounding));
        const uint32_t code = element::quantize_in_class(Q, width, plan.scale[c], g[r], u);
        values.kept[rank] = g[r];
        values.decoded[rank] = element::round_to_stored(
            block.stored, element::dequantize_in_class(Q, width, plan.scale[c], code));
        values.kept_class[rank] = uint8_t(c);
        if (plan.stochastic)
          terms[turn * tile + rank] = element::expected_error_in_class(Q, width, plan.scale[c], g[r]);
        list.set(kept + rank, make_kept(i, code, c));
        if (W == Work::tally)
          atomicAdd(&counts->magnitude[c][activities[r]][element::magnitude_of_code(Q, width, code) >>
                                                         element::raw_magnitude_bits(width)],
                    1u);
      }
      before += __popc(masks[r]);
    }
    __syncthreads();
    // Two warps sum this tile while the others go on to the next, which has room of its own.
    const uint32_t end = n - at < tile ? n : at + tile;
    if (warp == 0 && !keeps_all) dropped.add(s, values, at, end);
    if (warp == 1) kept_sums.add(s, values, kept, tile_kept);
    if (warp == 2 && lane == 0 && plan.stochastic)
      for (uint32_t k = 0; k < tile_kept; ++k) expected += terms[turn * tile + k];
    kept += tile_kept;
  }
  if (full) {
    if (!keeps_all && dropped_max > 0) atomicMax(&s.dropped_max, dropped_max);
    __syncthreads();
    if (warp == 0) {
      dropped.close();
      if (lane == 0) {
        sums.dropped_sum = dropped.total;
        sums.dropped_max = element::magnitude_of_key(s.dropped_max);
      } else if (lane == element::sum_lanes) {
        sums.dropped_energy = dropped.total;
      }
    } else if (warp == 1) {
      kept_sums.finish(s, sums);
      if (lane < max_classes) sums.members[lane] = lane == 0 && !keeps_all ? 0 : s.members[lane];
    } else if (warp == 2 && lane == 0) {
      sums.expected_error = expected;
    }
  }
  return {kept};
}

/// Adds what follows from the list and the activities, and hands a block's counts over.
template <ClassQuantizer Q>
__device__ void finish_tally(const Arguments& a, const BlockView& block, bool full, Shared& s,
                             LocalCounts* counts, const Spilling<uint32_t>& list, uint32_t kept,
                             const uint8_t* buckets) {
  const ClassComposition& c = a.composition;
  const uint32_t n = block.count, runs = (n + run_length - 1) / run_length;
  __syncthreads();
  for (uint32_t r = threadIdx.x; r < runs; r += threads)
    atomicAdd(&counts->activity[r > 0 ? buckets[r - 1] : 0][buckets[r]], 1u);
  const uint32_t parameter = element::rice_parameter(n, kept);
  unsigned long long bits = 0;
  for (uint32_t k = threadIdx.x; full && k < kept; k += threads) {
    const uint32_t entry = list.get(k), j = kept_class(entry);
    const uint32_t gap = kept_index(entry) - (k > 0 ? kept_index(list.get(k - 1)) + 1 : 0);
    bits += (gap >> parameter) + 1 + parameter + (j < c.plan.classes - 2 ? j : c.plan.classes - 2);
  }
  if (bits) atomicAdd(&s.map_bits, bits);
  __syncthreads();
  ClassCounts& total = full ? *a.tallied : *a.counted;
  const auto add = [](uint64_t& to, uint64_t from) {
    if (from) atomicAdd(reinterpret_cast<unsigned long long*>(&to), static_cast<unsigned long long>(from));
  };
  for (uint32_t i = threadIdx.x; i < max_activity_buckets * element::rans_max_symbols; i += threads) {
    add((&total.activity[0][0])[i], (&counts->activity[0][0])[i]);
    add((&total.classes[0][0])[i], (&counts->classes[0][0])[i]);
  }
  for (uint32_t i = threadIdx.x; i < max_classes * max_activity_buckets * element::rans_max_symbols;
       i += threads)
    add((&total.magnitude[0][0][0])[i], (&counts->magnitude[0][0][0])[i]);
  if (threadIdx.x < max_classes) add(total.members[threadIdx.x], s.members[threadIdx.x]);
  if (threadIdx.x == 0 && full) add(total.rice_bits, s.map_bits + 40 + 7);
}

/// Codes the listed block and writes it to the output.
template <ClassQuantizer Q>
__device__ void code_block(const Arguments& a, const BlockView& block, Shared& s, const RansSymbol* symbols,
                           const Spilling<uint32_t>& list, uint32_t kept, const uint8_t* buckets,
                           const Spilling<uint16_t>& words, uint32_t* near_bits, uint32_t* far_bits,
                           BlockResult& result) {
  const ClassComposition& c = a.composition;
  const element::ClassPlan& plan = c.plan;
  const uint32_t n = block.count, lane = lane_of(), warp = warp_of();
  const bool uses_rans = c.map_coded || c.magnitudes_coded != 0;
  if (kept == 0) {
    if (threadIdx.x == 0) result.offset = result.bytes = 0;
    return;
  }
  // The size of a map that lists elements follows from the list.
  const bool lists = c.map != MapPacker::raw && c.map != MapPacker::entropy;
  if (lists) {
    const uint32_t parameter = element::rice_parameter(n, kept);
    unsigned long long bits = 0;
    for (uint32_t k = threadIdx.x; k < kept; k += threads) bits += listed_bits(c, list, k, parameter, n);
    if (bits) atomicAdd(&s.map_bits, bits);
  }
  __syncthreads();
  Parts parts;
  uint32_t coded = 0, sign_bits = 0;
  if (c.map == MapPacker::raw)
    parts.map_bytes = bytes_of(n * element::raw_map_bits(plan.classes));
  else if (c.map == MapPacker::bitmap)
    parts.map_bytes = bytes_of(n) + bytes_of(uint32_t(s.map_bits));
  else if (lists)
    parts.map_bytes = bytes_of(uint32_t(s.map_bits) + 32 + (c.map == MapPacker::rice ? 8 : 0));
  uint32_t at = parts.map_bytes;
  for (uint32_t j = 0; j < plan.classes; ++j) {
    if (threadIdx.x == 0) s.plane_at[j] = 8 * at;
    if (plan.width[j] == 0) continue;
    if (magnitude_coded(c, j)) {
      coded += s.members[j];
      sign_bits += s.members[j] * (1 + element::raw_magnitude_bits(plan.width[j]));
    } else {
      at += bytes_of(s.members[j] * plan.width[j]);
    }
  }
  parts.signs_at = 8 * at;
  parts.bytes = at + bytes_of(sign_bits);
  const uint32_t bit_words = parts.bytes / 4 + 2;
  uint32_t* bits = bit_words <= a.layout.bits_reach ? near_bits : far_bits;
  for (uint32_t w = threadIdx.x; w < bit_words; w += threads) bits[w] = 0;
  __syncthreads();

  if (sign_bits > 0) put_signs<Q>(bits, parts.signs_at, c, s, list, kept);
  if (warp == 0) {
    if (c.map != MapPacker::entropy) put_map(bits, c, list, kept, n);
  } else {
    for (uint32_t j = warp - 1; j < plan.classes; j += warps - 1)
      if (plan.width[j] > 0 && !magnitude_coded(c, j))
        put_plane(bits, s.plane_at[j], j, plan.width[j], list, kept);
  }
  __syncthreads();
  if (uses_rans) {
    RansCoder coder{c.lanes};
    const Coding coding{symbols, words};
    if (coded > 0) code_magnitudes<Q>(coder, coding, c, s, list, kept, coded, buckets);
    if (c.map_coded) {
      code_tokens(coder, coding, c, s, list, kept, n, buckets);
      code_activities(coder, coding, s, n, buckets);
    }
    if (warp == 0) {
      if (lane < c.lanes) s.states[lane] = coder.state;
      if (lane == 0) s.words = coder.words;
    }
    __syncthreads();
  }

  const uint32_t stream_bytes = uses_rans ? 4 * c.lanes + 2 * s.words : 0;
  const uint32_t length_bytes = uses_rans ? (element::bit_length(stream_bytes) + 6) / 7 : 0;
  const uint32_t total = parts.bytes + length_bytes + stream_bytes;
  const uint32_t room = uint32_t((total + output_alignment - 1) / output_alignment * output_alignment);
  if (threadIdx.x == 0) {
    s.offset = atomicAdd(a.used, (unsigned long long)(room));
    result.offset = s.offset;
    result.bytes = total;
  }
  __syncthreads();
  if (s.offset + room > a.capacity) return;
  const uint32_t states_at = parts.map_bytes + length_bytes, words_at = states_at + 4 * c.lanes;
  const uint32_t stream_end = states_at + stream_bytes;
  const auto byte_at = [&](uint32_t p) -> uint32_t {
    if (p < parts.map_bytes) return byte_of(bits, p);
    if (p >= stream_end) return byte_of(bits, p - length_bytes - stream_bytes);
    if (p >= words_at) return words.get(s.words - 1 - (p - words_at) / 2) >> 8 * ((p - words_at) & 1) & 255u;
    if (p >= states_at) return s.states[(p - states_at) / 4] >> 8 * ((p - states_at) & 3) & 255u;
    const uint32_t k = p - parts.map_bytes;
    return (stream_bytes >> 7 * k & 127u) | (k + 1 < length_bytes ? 128u : 0u);
  };
  uint32_t* out = a.out + s.offset / 4;
  for (uint32_t w = threadIdx.x; 4 * w < room; w += threads) {
    uint32_t word = 0;  // also behind the end, where the host copies but does not look
    for (uint32_t k = 0; k < 4 && 4 * w + k < total; ++k) word |= byte_at(4 * w + k) << 8 * k;
    out[w] = word;
  }
}

template <ClassQuantizer Q, Work W>
__global__ void __launch_bounds__(threads, 2) class_blocks(const __grid_constant__ Arguments a) {
  extern __shared__ __align__(16) char room[];
  char* at = room;
  Shared& s = *reinterpret_cast<Shared*>(carve(at, sizeof(Shared)));
  auto* symbols =
      reinterpret_cast<RansSymbol*>(carve(at, W == Work::encode ? held_symbols * sizeof(RansSymbol) : 0));
  auto* counts = reinterpret_cast<LocalCounts*>(carve(at, W == Work::tally ? sizeof(LocalCounts) : 0));
  auto* terms =
      reinterpret_cast<double*>(carve(at, a.composition.plan.stochastic ? 2 * tile * sizeof(double) : 0));
  auto* buckets = reinterpret_cast<uint8_t*>(carve(at, a.layout.buckets));
  const Spilling<uint32_t> list{reinterpret_cast<uint32_t*>(carve(at, 4 * a.layout.kept_reach)),
                                a.kept_far + blockIdx.x * a.layout.kept_far, a.layout.kept_reach};
  const Spilling<uint16_t> words{reinterpret_cast<uint16_t*>(carve(at, 2 * a.layout.words_reach)),
                                 a.words_far + blockIdx.x * a.layout.words_far, a.layout.words_reach};
  auto* near_bits = reinterpret_cast<uint32_t*>(carve(at, 4 * a.layout.bits_reach));
  if (W == Work::encode)
    for (uint32_t i = threadIdx.x; i < held_symbols; i += threads)
      symbols[i] = i == no_symbol ? no_rans_symbol : a.symbols[i];

  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const BlockView block = a.blocks[b];
    const bool full = W == Work::encode || block.in_full;
    __syncthreads();
    if (threadIdx.x < max_classes) s.members[threadIdx.x] = 0;
    for (uint32_t i = threadIdx.x; i < max_classes * element::sum_lanes; i += threads)
      (&s.class_energy[0][0])[i] = 0;
    if (W == Work::tally)
      for (uint32_t i = threadIdx.x; i < sizeof(LocalCounts) / 4; i += threads)
        reinterpret_cast<uint32_t*>(counts)[i] = 0;
    if (threadIdx.x == 0) {
      s.dropped_max = 0;
      s.map_bits = 0;
      s.words = 0;
      find_borders(a.composition.plan, block, s);
    }
    __syncthreads();
    BlockResult& result = a.results[b];
    const Listed listed = list_block<Q, W>(a, block, full, s, counts, list, buckets, terms, result.sums);
    if (W == Work::tally) {
      finish_tally<Q>(a, block, full, s, counts, list, listed.kept, buckets);
    } else {
      __syncthreads();
      code_block<Q>(a, block, s, symbols, list, listed.kept, buckets, words, near_bits,
                    a.bits_far + blockIdx.x * a.layout.bits_far, result);
    }
  }
}

uint64_t fixed_shared_bytes(const ClassComposition& composition) {
  const auto padded = [](uint64_t bytes) { return (bytes + 15) / 16 * 16; };
  return padded(sizeof(Shared)) + padded(std::max(held_symbols * sizeof(RansSymbol), sizeof(LocalCounts))) +
         (composition.plan.stochastic ? padded(2 * tile * sizeof(double)) : 0);
}

template <ClassQuantizer Q, Work W>
void launch_as(const Arguments& arguments, const Stream& stream) {
  const auto kernel = class_blocks<Q, W>;
  const ClassWorkspace::Layout& layout = arguments.layout;
  allow_shared(kernel, layout.shared_bytes);
  const uint32_t grid = layout.grid < arguments.count ? layout.grid : arguments.count;
  kernel<<<grid, threads, layout.shared_bytes, stream>>>(arguments);
  check_launch(W == Work::encode ? "coding blocks" : "counting blocks");
}

template <Work W>
void launch(const Arguments& arguments, const Stream& stream) {
  if (arguments.count == 0) return;
  switch (arguments.composition.plan.quantizer) {
    case ClassQuantizer::cell:
      return launch_as<ClassQuantizer::cell, W>(arguments, stream);
    case ClassQuantizer::mid:
      return launch_as<ClassQuantizer::mid, W>(arguments, stream);
    case ClassQuantizer::offmag:
      return launch_as<ClassQuantizer::offmag, W>(arguments, stream);
    case ClassQuantizer::sym:
      return launch_as<ClassQuantizer::sym, W>(arguments, stream);
  }
}

}  // namespace

void ClassWorkspace::prepare(const ClassComposition& composition, uint32_t elements, uint32_t blocks) {
  const uint64_t n = (uint64_t(elements) + run_length - 1) / run_length * run_length;
  layout_.buckets = uint32_t(n / run_length);
  const uint64_t fixed = fixed_shared_bytes(composition) + layout_.buckets + 4 * 16;
  // Two on a processor where half of what each has is left for what follows.
  const uint64_t half = device_attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor) / 2;
  const BlockRoom room = room_of_blocks(blocks, fixed + half / 2);
  layout_.grid = room.grid;
  if (fixed + 4096 > room.shared_bytes)
    throw DeviceError("coding blocks needs " + std::to_string(fixed + 4096) +
                      " bytes of shared memory, and the device has " + std::to_string(room.shared_bytes));
  // What is left goes to the list, the coder's words and packed bits, in the shares that blocks of 16 to 32
  // KiB of code need at ratios around 32; never more than any block needs.
  const uint64_t left = room.shared_bytes - fixed;
  const uint64_t most_words = 2 * n + n / run_length + 64;
  // Raw bits, planes and maps: at most 9 bits an element beside the map, and in maps 32 bits an index, a
  // class and gaps.
  const bool indexed =
      composition.map == element::MapPacker::index32 || composition.map == element::MapPacker::packed;
  const uint64_t map_bits = composition.map == element::MapPacker::entropy ? 0
                            : composition.map == element::MapPacker::raw   ? 4
                            : indexed                                      ? 40
                                                                           : 32;
  const uint64_t most_bits = n * (9 + map_bits) / 32 + 64;
  layout_.kept_reach = uint32_t(std::min(n, left * 70 / 100 / 4));
  layout_.words_reach = uint32_t(std::min(most_words, left * 20 / 100 / 2));
  layout_.bits_reach = uint32_t(std::min(most_bits, left * 10 / 100 / 4));
  layout_.kept_far = n - layout_.kept_reach;
  layout_.words_far = most_words - layout_.words_reach;
  layout_.bits_far = most_bits > layout_.bits_reach ? most_bits : 0;
  layout_.shared_bytes =
      uint32_t(fixed + 4 * layout_.kept_reach + 2 * layout_.words_reach + 4 * layout_.bits_reach);
  kept_.reserve(layout_.grid * layout_.kept_far);
  words_.reserve(layout_.grid * layout_.words_far);
  bits_.reserve(layout_.grid * layout_.bits_far);
}

namespace {

/// What tallies and encodes have alike.
Arguments common_arguments(const ClassComposition& composition, const BlockView* blocks, uint32_t count,
                           BlockResult* results, ClassWorkspace& workspace) {
  Arguments a{};
  a.composition = composition;
  a.layout = workspace.layout();
  a.blocks = blocks;
  a.count = count;
  a.results = results;
  a.kept_far = workspace.kept();
  a.words_far = workspace.words();
  a.bits_far = workspace.bits();
  return a;
}

}  // namespace

void launch_tally(const ClassComposition& composition, const BlockView* blocks, uint32_t count,
                  ClassCounts* tallied, ClassCounts* counted, BlockResult* results, ClassWorkspace& workspace,
                  const Stream& stream) {
  Arguments a = common_arguments(composition, blocks, count, results, workspace);
  a.tallied = tallied;
  a.counted = counted;
  launch<Work::tally>(a, stream);
}

void launch_encode(const ClassComposition& composition, const RansSymbol* symbols, const BlockView* blocks,
                   uint32_t count, uint32_t* out, uint64_t capacity, unsigned long long* used,
                   BlockResult* results, ClassWorkspace& workspace, const Stream& stream) {
  Arguments a = common_arguments(composition, blocks, count, results, workspace);
  a.symbols = symbols;
  a.out = out;
  a.capacity = capacity;
  a.used = used;
  launch<Work::encode>(a, stream);
}

}  // namespace jsq::cuda
