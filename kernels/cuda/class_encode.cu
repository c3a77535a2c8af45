// One thread block codes one class block, reading its values once: classify, list the kept elements with
// their code words, sum errors in the contract's order, then code the list. The entropy coder's states are
// one chain of steps, which one warp goes along and does nothing else: the others bring it the numbers of its
// symbols, chunk by chunk. Sign bits, planes and maps are packed before. The coded block is gathered into
// whole output words.
#include "kernels/cuda/class_block.cuh"
#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/rans_warp.cuh"
#include "kernels/element/bit_length.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

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

/// Where a block's parts lie among its packed bits; all in bits, every part begins on a byte.
struct Parts {
  uint32_t map_bytes = 0;
  uint32_t signs_at = 0;
  uint32_t bytes = 0;
};

__device__ uint32_t bytes_of(uint32_t bits) {
  return (bits + 7) / 8;
}

__device__ bool magnitude_coded(const ClassComposition& c, uint32_t j) {
  return j > 0 && (c.magnitudes_coded >> (j - 1) & 1);
}

/// Borders of the stretches of a block, ascending; thread 0.
__device__ void find_borders(const element::ClassPlan& plan, const BlockView& block, Shared& s) {
  uint32_t count = 0;
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (plan.cutoff[j] <= block.first_pool_index || plan.cutoff[j] - block.first_pool_index >= block.count)
      continue;
    const uint32_t border = uint32_t(plan.cutoff[j] - block.first_pool_index);
    uint32_t at = count;
    while (at > 0 && s.borders[at - 1] > border) --at;
    if (at > 0 && s.borders[at - 1] == border) continue;
    for (uint32_t k = count; k > at; --k) s.borders[k] = s.borders[k - 1];
    s.borders[at] = border;
    ++count;
  }
  s.border_count = count;
}

/// Sums over dropped elements. The lower half of the warp adds g, the upper g^2; lane l of each adds elements
/// l, l + 16, ... of a stretch.
struct DroppedSummer {
  double lane_sum = 0, total = 0;
  uint32_t stretch = 0, next_border = 0;

  __device__ void close() {
    const double folded = fold_lanes(lane_sum);
    if (lane_of() % element::sum_lanes == 0) total += folded;
    lane_sum = 0;
  }
  __device__ void add(const Shared& s, const Tile& values, uint32_t at, uint32_t end) {
    const uint32_t lane = lane_of() % element::sum_lanes;
    const bool squares = lane_of() >= element::sum_lanes;
    for (uint32_t from = at; from < end;) {
      const bool closes = next_border < s.border_count && s.borders[next_border] <= end;
      const uint32_t to = closes ? s.borders[next_border] : end;
      for (uint32_t i = from + ((lane - (from - stretch)) & (element::sum_lanes - 1)); i < to;
           i += element::sum_lanes) {
        const double g = values.dropped[i - at];
        lane_sum += squares ? g * g : g;
      }
      __syncwarp();
      if (closes) {
        close();
        stretch = to;
        ++next_border;
      }
      from = to;
    }
  }
};

/// Sums over kept elements: lane l adds the kept elements l, l + 16, ... The halves of the warp share the
/// sums out.
struct KeptSummer {
  double squared_error = 0, error_sum = 0, max_error = 0;  // lower half
  double dot = 0, decoded_energy = 0;                      // upper half

  __device__ void add(Shared& s, const Tile& values, uint32_t first, uint32_t count) {
    const uint32_t lane = lane_of() % element::sum_lanes;
    for (uint32_t i = (lane - first) & (element::sum_lanes - 1); i < count; i += element::sum_lanes) {
      const double g = values.kept[i], decoded = values.decoded[i];
      if (lane_of() < element::sum_lanes) {
        const double error = decoded - g, magnitude = error < 0 ? -error : error;
        squared_error += error * error;
        error_sum += error;
        max_error = magnitude > max_error ? magnitude : max_error;
      } else {
        dot += g * decoded;
        decoded_energy += decoded * decoded;
        s.class_energy[values.kept_class[i]][lane] += g * g;
      }
    }
    __syncwarp();
  }
  __device__ void finish(Shared& s, ClassSums& sums) {
    const double error = fold_lanes(squared_error), error_total = fold_lanes(error_sum);
    const double products = fold_lanes(dot), decoded = fold_lanes(decoded_energy);
    max_error = max_of_lanes(max_error);
    if (lane_of() == 0) {
      sums.squared_error = error;
      sums.error_sum = error_total;
      sums.max_error = max_error;
    } else if (lane_of() == element::sum_lanes) {
      sums.dot = products;
      sums.decoded_energy = decoded;
    }
    for (uint32_t j = 0; j < max_classes; ++j) {
      const double energy = fold_lanes(s.class_energy[j][lane_of() % element::sum_lanes]);
      if (lane_of() == 0) sums.class_energy[j] = energy;
    }
  }
};

/// Words that all lie in shared memory.
struct NearWords {
  uint16_t* near;
  __device__ void set(uint32_t i, uint16_t word) const { near[i] = word; }
};

/// Where a block's coder finds its symbols and leaves its words.
struct Coding {
  const RansSymbol* symbols;
  Spilling<uint16_t> words;
};

/// Steps of the coder, last to first, whose symbols' numbers a lane with a state finds at `at` and, for each
/// step before, so many in front of that as there are states. Numbers are read two steps ahead and symbols
/// one, so that the chain of states waits for neither.
template <class Words>
__device__ void push_steps(RansCoder& coder, const RansSymbol* symbols, const Words& words, uint32_t steps,
                           const uint16_t* at) {
  const bool has_state = lane_of() < coder.lanes;
  uint32_t ahead = no_symbol;
  const auto symbol_ahead = [&] {
    RansSymbol symbol = no_rans_symbol;
    if (has_state) symbol = symbols[ahead];
    return symbol;
  };
  const auto read_ahead = [&] {
    if (has_state) ahead = *at;
    at -= coder.lanes;
  };
  read_ahead();
  RansSymbol symbol = symbol_ahead();
  if (steps > 1) read_ahead();
#pragma unroll 2
  for (; steps > 2; --steps) {
    const RansSymbol next = symbol_ahead();
    read_ahead();
    coder.push(words, symbol);
    symbol = next;
  }
  if (steps > 1) {
    coder.push(words, symbol);
    symbol = symbol_ahead();
  }
  coder.push(words, symbol);
}
/// Steps whose numbers lie side by side, one a lane; a warp runs it.
__device__ void code_steps(RansCoder& coder, const Coding& coding, const uint16_t* ids, uint32_t steps) {
  if (steps == 0) return;
  const uint16_t* last = ids + (steps - 1) * coder.lanes + lane_of();
  if (coder.words + steps * coder.lanes <= coding.words.reach)
    push_steps(coder, coding.symbols, NearWords{coding.words.near}, steps, last);
  else
    push_steps(coder, coding.symbols, coding.words, steps, last);
}

/// The magnitudes of kept elements whose class is entropy-coded, last to first; all threads. Chunks of
/// entries are numbered from the last one on, coded elements from the first one on, so that groups of the
/// coder begin at multiples of its lanes.
template <ClassQuantizer Q>
__device__ void code_magnitudes(RansCoder& coder, const Coding& coding, const ClassComposition& c, Shared& s,
                                const Spilling<uint32_t>& list, uint32_t kept, uint32_t coded,
                                const uint8_t* buckets) {
  const uint32_t lane = lane_of(), chunks = (kept + chunk_entries - 1) / chunk_entries;
  const auto for_coded = [&](uint32_t chunk, auto use) {
    const uint32_t end = kept - chunk * chunk_entries, from = end > chunk_entries ? end - chunk_entries : 0;
    const Share share((end - from + warp_size - 1) / warp_size);
    for (uint32_t k = share.first; k < share.end; ++k) {
      const uint32_t i = from + k * warp_size + lane;
      const uint32_t entry = i < end ? list.get(i) : 0;
      const bool is_coded = i < end && magnitude_coded(c, kept_class(entry));
      use(entry, is_coded, __ballot_sync(all_lanes, is_coded));
    }
  };
  const uint32_t room = ring / coder.lanes * coder.lanes;
  uint32_t left = coded, done = coded, total = 0;
  for (uint32_t turn = 0; turn < chunks + 2; ++turn) {
    if (warp_of() == 0) {
      if (turn >= 2) {
        s.part_sums.before(turn - 2, total);
        left -= total;
        // Whole groups of what is there; numbers from `left` on are.
        const uint32_t begin = (left + coder.lanes - 1) / coder.lanes * coder.lanes;
        while (done > begin) {
          const uint32_t lap = (done - 1) / room * room,
                         from = begin > lap ? begin : lap;  // before it goes round
          code_steps(coder, coding, s.magnitudes + from % room,
                     (done - from + coder.lanes - 1) / coder.lanes);
          done = from;
        }
      }
    } else {
      if (turn >= 1 && turn - 1 < chunks) {
        const uint32_t before_chunk = s.part_sums.before(turn - 1, total);
        left -= total;
        uint32_t before = left + before_chunk;
        if (turn == 1 && warp_of() == 1 && lane < coder.lanes &&
            (coded + lane) / coder.lanes == coded / coder.lanes)
          s.magnitudes[(coded + lane) % room] = no_symbol;  // to the end of the last group
        for_coded(turn - 1, [&](uint32_t entry, bool is_coded, uint32_t mask) {
          if (is_coded) {
            const uint32_t j = kept_class(entry), width = c.plan.width[j];
            const uint32_t magnitude = element::magnitude_of_code(Q, width, kept_code(entry));
            const uint32_t bucket =
                c.magnitudes_by_activity >> (j - 1) & 1 ? buckets[kept_index(entry) / run_length] : 0;
            s.magnitudes[(before + __popc(mask & lanes_below())) % room] = element::symbol_id(
                element::magnitude_table(j, bucket), magnitude >> element::raw_magnitude_bits(width));
          }
          before += __popc(mask);
        });
      }
      if (turn < chunks) {
        uint32_t found = 0;
        for_coded(turn, [&](uint32_t, bool, uint32_t mask) { found += __popc(mask); });
        s.part_sums.put(turn, found);
      }
    }
    __syncthreads();
  }
}

/// The class tokens of active runs, last to first; all threads. Chunks of runs are numbered from the last one
/// on.
__device__ void code_tokens(RansCoder& coder, const Coding& coding, const ClassComposition& c, Shared& s,
                            const Spilling<uint32_t>& list, uint32_t kept, uint32_t n,
                            const uint8_t* buckets) {
  const uint32_t lane = lane_of(), joined = element::classes_per_token(c.plan.classes);
  const uint32_t runs = (n + run_length - 1) / run_length, chunks = (runs + chunk_runs - 1) / chunk_runs;
  // Runs that are not empty have a step for so many tokens each, the last step with what is left.
  const auto tokens_of = [&](uint32_t r) {
    const uint32_t in_run = n - r * run_length < run_length ? n - r * run_length : run_length;
    return buckets[r] == 0 ? 0 : (in_run + joined - 1) / joined;
  };
  const auto first_of = [&](uint32_t chunk) {
    const uint32_t end = runs - chunk * chunk_runs;
    return end > chunk_runs ? end - chunk_runs : 0;
  };
  const auto share_of = [&](uint32_t chunk) { return Share(runs - chunk * chunk_runs - first_of(chunk)); };
  for (uint32_t turn = 0; turn < chunks + 2; ++turn) {
    uint32_t steps = 0;
    if (warp_of() == 0) {
      if (turn >= 2) {
        s.part_sums.before(turn - 2, steps);
        code_steps(coder, coding, s.tokens[turn % 2], steps);
      }
    } else {
      if (turn >= 1 && turn - 1 < chunks) {
        uint32_t step = s.part_sums.before(turn - 1, steps);
        uint16_t* tokens = s.tokens[(turn - 1) % 2];
        uint8_t* run_classes = s.run_classes[warp_of()];
        const Share share = share_of(turn - 1);
        const uint32_t from = first_of(turn - 1);
        uint32_t low = 0, high = kept;  // the share's first entry
        while (share.first < share.end && low < high) {
          const uint32_t middle = (low + high) / 2;
          if (kept_index(list.get(middle)) < (from + share.first) * run_length)
            low = middle + 1;
          else
            high = middle;
        }
        for (uint32_t r = from + share.first; r < from + share.end; ++r) {
          const uint32_t bucket = buckets[r];
          if (bucket == 0 && c.plan.width[0] == 0) continue;  // nothing is kept
          const uint32_t entry = low + lane < kept ? list.get(low + lane) : 0;
          const bool in_run = low + lane < kept && kept_index(entry) / run_length == r;
          low += __popc(__ballot_sync(all_lanes, in_run));
          if (bucket == 0) continue;
          run_classes[lane] = 0;
          __syncwarp();
          if (in_run) run_classes[kept_index(entry) % run_length] = uint8_t(kept_class(entry));
          __syncwarp();
          const uint32_t count = tokens_of(r), groups = (count + coder.lanes - 1) / coder.lanes;
          uint32_t token = 0;
          for (uint32_t k = joined; k-- > 0;)
            token = token * c.plan.classes +
                    (lane * joined + k < run_length ? run_classes[lane * joined + k] : 0);
          const uint16_t id =
              lane < count ? element::symbol_id(element::token_table_offset + bucket, token) : no_symbol;
          for (uint32_t t = lane; t < groups * coder.lanes; t += warp_size)
            tokens[step * coder.lanes + t] = t < warp_size ? id : no_symbol;
          step += groups;
          __syncwarp();
        }
      }
      if (turn < chunks) {
        const Share share = share_of(turn);
        uint32_t found = 0;
        for (uint32_t r = first_of(turn) + share.first + lane; r < first_of(turn) + share.end; r += warp_size)
          found += (tokens_of(r) + coder.lanes - 1) / coder.lanes;
        found = __reduce_add_sync(all_lanes, found);
        s.part_sums.put(turn, found);
      }
    }
    __syncthreads();
  }
}

/// The activities of all runs, last to first; all threads.
__device__ void code_activities(RansCoder& coder, const Coding& coding, Shared& s, uint32_t n,
                                const uint8_t* buckets) {
  const uint32_t runs = (n + run_length - 1) / run_length,
                 chunk = sizeof(s.tokens) / sizeof(uint16_t) / coder.lanes * coder.lanes;
  uint16_t* ids = s.tokens[0];
  for (uint32_t end = (runs + coder.lanes - 1) / coder.lanes * coder.lanes; end > 0;) {
    const uint32_t from = (end - 1) / chunk * chunk;
    for (uint32_t r = from + threadIdx.x; r < end; r += threads)
      ids[r - from] = r < runs ? element::symbol_id(r > 0 ? buckets[r - 1] : 0, buckets[r]) : no_symbol;
    __syncthreads();
    if (warp_of() == 0) code_steps(coder, coding, ids, (end - from) / coder.lanes);
    __syncthreads();
    end = from;
  }
}

/// Bits of kept element k in a map that lists kept elements.
__device__ uint32_t listed_bits(const ClassComposition& c, const Spilling<uint32_t>& list, uint32_t k,
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
__device__ void put_map(uint32_t* bits, const ClassComposition& c, const Spilling<uint32_t>& list,
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
__device__ void put_plane(uint32_t* bits, uint32_t at, uint32_t j, uint32_t width,
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

/// The next `bytes` of the dynamic shared memory.
__device__ char* carve(char*& at, uint32_t bytes) {
  char* begin = at;
  at += (bytes + 15) / 16 * 16;
  return begin;
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
