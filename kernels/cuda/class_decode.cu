// One thread block decodes one class block. Its bytes are staged in shared memory, so that the file is read
// once and whole words at a time. The entropy coder is one chain of steps, which one warp goes along and does
// nothing else: the others list the kept elements of the tokens that it has left behind, and prepare and
// deliver magnitudes. Then all warps write the values, zeros included, run by run. Whatever is damaged is
// noticed before it is used, and the block is reported as not sound.
#include <algorithm>

#include "kernels/cuda/class_block.cuh"
#include "kernels/cuda/class_decode.hpp"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/rans_warp.cuh"
#include "kernels/element/bit_length.hpp"

namespace jsq::cuda {
namespace {

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

struct DecodeView {
  uint64_t offset = 0;
  uint32_t bytes = 0;
  uint32_t count = 0;
  float* values = nullptr;
};

struct Layout {
  uint32_t grid = 1, shared_bytes = 0;
  uint32_t kept_reach = 0, staged = 0, buckets = 0;
  uint64_t kept_far = 0;
};

struct Arguments {
  ClassComposition composition;
  Layout layout;
  const uint32_t* bytes;
  const DecodeView* blocks;
  uint32_t count;
  uint8_t* ok;
  const Starts* starts;
  const float* points;
  uint32_t* kept_far;
};

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

__device__ uint32_t bytes_of(uint32_t bits) {
  return (bits + 7) / 8;
}
__device__ bool magnitude_coded(const ClassComposition& c, uint32_t j) {
  return j > 0 && (c.magnitudes_coded >> (j - 1) & 1);
}

/// Appends the run's elements that are kept; `j` is the class of the lane's element. A warp runs it.
__device__ void list_run(Shared& s, const Spilling<uint32_t>& list, uint32_t& kept, uint32_t index,
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
__device__ uint32_t read_map(const ClassComposition& c, const Bytes& block, uint32_t n, Shared& s,
                             const Spilling<uint32_t>& list, uint8_t* buckets, uint32_t& kept, bool& bad) {
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

/// The activities of all runs, each coded with the table of the one before it; by one warp. A group's states
/// are all there when it begins, so that only the search goes from run to run.
__device__ void decode_activities(const ClassComposition& c, Chain& chain, uint32_t runs, uint8_t* buckets,
                                  bool& bad) {
  const uint32_t lane = lane_of();
  uint32_t previous = 0;
  for (uint32_t base = 0; base < runs && !bad; base += chain.lanes) {
    const uint32_t slot = chain.slot(), group = runs - base < chain.lanes ? runs - base : chain.lanes;
    RansInterval mine{0, 0, element::rans_total};
    for (uint32_t t = 0; t < group; ++t) {
      const RansInterval found = interval_of(chain.rows[previous], __shfl_sync(all_lanes, slot, int(t)));
      if (lane == t) mine = found;
      bad |= found.symbol >= c.buckets;
      previous = found.symbol < c.buckets ? found.symbol : 0;
    }
    chain.take(lane < group, mine);
    if (lane < group) buckets[base + lane] = uint8_t(mine.symbol);
  }
}

/// The class tokens of runs from..end - 1; by one warp.
__device__ void decode_tokens(const ClassComposition& c, Chain& chain, uint32_t n, uint32_t from,
                              uint32_t end, const uint8_t* buckets, uint8_t (*tokens)[run_length]) {
  const uint32_t lane = lane_of(), joined = element::classes_per_token(c.plan.classes);
  const uint32_t of_full_run = run_length / joined, lanes = chain.lanes;
  const bool coding = lane < lanes;
  uint32_t bucket = buckets[from];
  for (uint32_t r = from; r < end; ++r) {
    const SearchRow<>& row = chain.rows[element::token_table_offset + bucket];
    uint32_t left = of_full_run;
    if ((r + 1) * run_length > n) left = (n - r * run_length + joined - 1) / joined;
    if (bucket == 0) left = 0;
    bucket = r + 1 < end ? buckets[r + 1] : 0;
    uint8_t* to = tokens[r - from] + lane;
    for (; left >= lanes; left -= lanes, to += lanes) {
      const uint32_t token = chain.step(coding, row);
      if (coding) *to = uint8_t(token);
    }
    if (left == 0) continue;
    const uint32_t token = chain.step(lane < left, row);
    if (lane < left) *to = uint8_t(token);
  }
}

/// The class of the lane's element in a run with tokens.
__device__ uint32_t class_in_run(uint32_t classes, const uint8_t* tokens, uint32_t in_run) {
  const uint32_t joined = element::classes_per_token(classes), lane = lane_of();
  const uint32_t place = joined == 1 ? lane : joined == 2 ? lane / 2 : lane / 4;
  if (place * joined >= in_run) return 0;
  const uint32_t token = tokens[place];
  if (joined == 1) return token;
  if (joined == 4) return token >> (lane % 4) & 1;
  if (classes > 3) return (lane % 2 ? token >> 2 : token) & 3;
  const uint32_t upper = token * 11 >> 5;  // token / 3, below 16
  return lane % 2 ? upper - (upper >= 3 ? 3 : 0) : token - 3 * upper;
}

/// What the helpers do with the tokens of chunks: counting first, then listing behind what was counted.
struct TokenLister {
  const ClassComposition& c;
  Shared& s;
  const Spilling<uint32_t>& list;
  const uint8_t* buckets;
  uint32_t n, runs;
  uint32_t kept = 0;  ///< of chunks that are listed

  template <class Use>
  __device__ void for_runs(uint32_t chunk, Use use) const {
    const uint32_t from = chunk * chunk_runs, count = runs - from < chunk_runs ? runs - from : chunk_runs;
    const bool keeps_all = c.plan.width[0] > 0;
    const Share share(count);
    for (uint32_t k = share.first; k < share.end; ++k) {
      const uint32_t r = from + k, in_run = n - r * run_length < run_length ? n - r * run_length : run_length;
      const bool empty = buckets[r] == 0;
      if (empty && !keeps_all) continue;
      const uint32_t j = empty ? 0 : class_in_run(c.plan.classes, s.tokens[chunk % 3][k], in_run);
      use(r * run_length + lane_of(), lane_of() < in_run, j,
          __ballot_sync(all_lanes, lane_of() < in_run && (keeps_all || j > 0)));
    }
  }
  __device__ void count(uint32_t chunk) {
    uint32_t found = 0, of_class = 0;
    bool bad = false;
    for_runs(chunk, [&](uint32_t, bool inside, uint32_t j, uint32_t mask) {
      bad |= !inside && j != 0;
      found += __popc(mask);
      const bool is_kept = mask >> lane_of() & 1;
      for (uint32_t k = 0; k < max_classes; ++k) {
        const uint32_t members = __popc(__ballot_sync(all_lanes, is_kept && j == k));
        if (lane_of() == k) of_class += members;
      }
    });
    if (of_class > 0) atomicAdd(&s.members[lane_of()], of_class);
    s.part_sums.put(chunk, found);
    if (bad) atomicOr(&s.bad, 1u);
  }
  __device__ void list_chunk(uint32_t chunk) {
    uint32_t total = 0, before = kept + s.part_sums.before(chunk, total);
    kept += total;
    for_runs(chunk, [&](uint32_t index, bool, uint32_t j, uint32_t mask) {
      if (mask >> lane_of() & 1) list.set(before + __popc(mask & lanes_below()), make_kept(index, 0, j));
      before += __popc(mask);
    });
  }
};

/// What the helpers do with the magnitudes of chunks of entries: they count those that are coded, put their
/// tables into the ring, and when the chain has been there, take the symbols to the list.
struct MagnitudePorter {
  const ClassComposition& c;
  Shared& s;
  const Spilling<uint32_t>& list;
  const uint8_t* buckets;
  uint32_t kept;
  uint32_t put = 0, fetched = 0;  ///< coded ones of chunks that are behind

  template <class Use>
  __device__ void for_coded(uint32_t chunk, Use use) const {
    const uint32_t from = chunk * chunk_entries,
                   count = kept - from < chunk_entries ? kept - from : chunk_entries;
    const Share share((count + warp_size - 1) / warp_size);
    for (uint32_t k = share.first; k < share.end; ++k) {
      const uint32_t i = from + k * warp_size + lane_of();
      const uint32_t entry = i < kept ? list.get(i) : 0;
      const bool is_coded = i < kept && magnitude_coded(c, kept_class(entry));
      use(i, entry, is_coded, __ballot_sync(all_lanes, is_coded));
    }
  }
  __device__ void count(uint32_t chunk) const {
    uint32_t found = 0;
    for_coded(chunk, [&](uint32_t, uint32_t, bool, uint32_t mask) { found += __popc(mask); });
    s.part_sums.put(chunk, found);
  }
  /// Number of this warp's first in the chunk; `behind` goes on to the next one's.
  __device__ uint32_t pass(uint32_t chunk, uint32_t& behind) const {
    uint32_t total = 0;
    const uint32_t before = behind + s.part_sums.before(chunk, total);
    behind += total;
    return before;
  }
  __device__ void put_tables(uint32_t chunk) {
    uint32_t before = pass(chunk, put);
    for_coded(chunk, [&](uint32_t, uint32_t entry, bool is_coded, uint32_t mask) {
      const uint32_t j = kept_class(entry);
      if (is_coded)
        s.magnitudes[(before + __popc(mask & lanes_below())) % ring] = uint8_t(element::magnitude_table(
            j, c.magnitudes_by_activity >> (j - 1) & 1 ? buckets[kept_index(entry) / run_length] : 0));
      before += __popc(mask);
    });
  }
  __device__ void fetch_symbols(uint32_t chunk) {
    uint32_t before = pass(chunk, fetched);
    for_coded(chunk, [&](uint32_t i, uint32_t entry, bool is_coded, uint32_t mask) {
      if (is_coded)
        list.set(i, entry | uint32_t(s.magnitudes[(before + __popc(mask & lanes_below())) % ring])
                                << kept_index_bits);
      before += __popc(mask);
    });
  }
};

/// Class tokens of all runs into the list; all threads. Returns how many elements are kept.
__device__ uint32_t list_tokens(const ClassComposition& c, Chain& chain, uint32_t n, Shared& s,
                                const Spilling<uint32_t>& list, const uint8_t* buckets) {
  const uint32_t runs = (n + run_length - 1) / run_length, chunks = (runs + chunk_runs - 1) / chunk_runs;
  TokenLister lister{c, s, list, buckets, n, runs};
  for (uint32_t turn = 0; turn < chunks + 2; ++turn) {
    if (warp_of() > 0) {
      if (turn >= 1 && turn - 1 < chunks) lister.count(turn - 1);
      if (turn >= 2) lister.list_chunk(turn - 2);
    } else if (turn < chunks) {
      const uint32_t from = turn * chunk_runs, end = from + chunk_runs < runs ? from + chunk_runs : runs;
      decode_tokens(c, chain, n, from, end, buckets, s.tokens[turn % 3]);
    }
    __syncthreads();
  }
  if (warp_of() == 1 && lane_of() == 0) s.kept = lister.kept;
  __syncthreads();
  return s.kept;
}

/// Magnitudes of the coded classes, in index order, into the code words of the list; all threads.
__device__ void decode_magnitudes(const ClassComposition& c, Chain& chain, Shared& s,
                                  const Spilling<uint32_t>& list, const uint8_t* buckets, uint32_t kept) {
  const uint32_t chunks = (kept + chunk_entries - 1) / chunk_entries, lane = lane_of();
  MagnitudePorter porter{c, s, list, buckets, kept};
  uint32_t there = 0, done = 0;
  for (uint32_t turn = 0; turn < chunks + 4; ++turn) {
    if (warp_of() > 0) {
      if (turn < chunks) porter.count(turn);
      if (turn >= 1 && turn - 1 < chunks) porter.put_tables(turn - 1);
      // The last group of a chunk may have waited for the next one.
      if (turn >= 4) porter.fetch_symbols(turn - 4);
    } else if (turn >= 2 && turn - 2 < chunks) {
      uint32_t total = 0;
      s.part_sums.before(turn - 2, total);
      there += total;
      const uint32_t least = turn - 2 + 1 == chunks ? 1 : chain.lanes;  // of a group
      const auto table_of = [&](uint32_t number) { return number < there ? s.magnitudes[number % ring] : 0; };
      uint32_t table = table_of(done + lane);
      while (there - done >= least) {
        const bool active = lane < chain.lanes && done + lane < there;
        const uint32_t next = table_of(done + chain.lanes + lane);
        const uint32_t symbol = chain.step(active, chain.rows[table]);
        if (active) s.magnitudes[(done + lane) % ring] = uint8_t(symbol);
        done = there - done < chain.lanes ? there : done + chain.lanes;
        table = next;
      }
    }
    __syncthreads();
  }
}

/// Code words of class j from its plane into the list's entries first..end - 1, as places among the class's
/// points; by one warp. `members` of them lie before `first`.
template <ClassQuantizer Q>
__device__ void read_plane(const Bytes& block, uint32_t at, uint32_t j, uint32_t width,
                           const Spilling<uint32_t>& list, uint32_t first, uint32_t end, uint32_t members) {
  uint32_t position = 8 * at + width * members;
  for (uint32_t from = first; from < end; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < end ? list.get(k) : 0;
    const bool member = k < end && kept_class(entry) == j;
    const uint32_t mask = __ballot_sync(all_lanes, member);
    if (member) {
      const uint32_t code = block.bits(position + width * __popc(mask & lanes_below()), width),
                     half = 1u << (width - 1);
      const uint32_t point =
          element::sign_of_code(Q, width, code) * half + element::magnitude_of_code(Q, width, code);
      list.set(k, make_kept(kept_index(entry), point, j));
    }
    position += width * __popc(mask);
  }
}

/// Sign and raw bits of the coded classes join their symbols, in entries first..end - 1 and from bit
/// `position` on; by one warp.
__device__ void read_signs(const ClassComposition& c, const Bytes& block, uint32_t position,
                           const Spilling<uint32_t>& list, uint32_t first, uint32_t end, bool& bad) {
  for (uint32_t from = first; from < end; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < end ? list.get(k) : 0, j = kept_class(entry);
    const bool is_coded = k < end && magnitude_coded(c, j);
    const uint32_t raw = is_coded ? element::raw_magnitude_bits(c.plan.width[j]) : 0;
    uint32_t total = 0;
    const uint32_t mine = position + sum_before(is_coded ? 1 + raw : 0, total);
    position += total;
    if (!is_coded) continue;
    const uint32_t bits = block.bits(mine, 1 + raw), half = 1u << (c.plan.width[j] - 1);
    const uint32_t magnitude = kept_code(entry) << raw | (bits & ((1u << raw) - 1));
    bad |= magnitude >= half;
    list.set(k, make_kept(kept_index(entry), ((bits >> raw) * half + (magnitude & (half - 1))) & 255u, j));
  }
}

/// All values of a block: a warp takes neighbouring runs, and finds the first of them in the list.
__device__ void write_values(const DecodeView& block, Shared& s, const Spilling<uint32_t>& list,
                             uint32_t kept) {
  const uint32_t lane = lane_of(), n = block.count, runs = (n + run_length - 1) / run_length;
  const uint32_t each = (runs + warps - 1) / warps, first = warp_of() * each,
                 end = first + each < runs ? first + each : runs;
  uint32_t low = 0, high = kept;
  while (low < high) {
    const uint32_t middle = (low + high) / 2;
    if (kept_index(list.get(middle)) < first * run_length)
      low = middle + 1;
    else
      high = middle;
  }
  float* run = s.runs[warp_of()];
  for (uint32_t r = first; r < end; ++r) {
    const uint32_t entry = low + lane < kept ? list.get(low + lane) : 0;
    const bool mine = low + lane < kept && kept_index(entry) / run_length == r;
    const uint32_t mask = __ballot_sync(all_lanes, mine);
    low += __popc(mask);
    const uint32_t i = r * run_length + lane;
    if (mask == 0) {
      if (i < n) block.values[i] = 0.0f;
      continue;
    }
    run[lane] = 0.0f;
    __syncwarp();
    if (mine) run[kept_index(entry) % run_length] = s.points[256 * kept_class(entry) + kept_code(entry)];
    __syncwarp();
    if (i < n) block.values[i] = run[lane];
    __syncwarp();
  }
}

__device__ char* carve(char*& at, uint32_t bytes) {
  char* begin = at;
  at += (bytes + 15) / 16 * 16;
  return begin;
}

/// What the entropy coder has of a block, from byte `from` of its words on; all threads. `at` is the place of
/// its length and becomes that behind it; returns how many elements are kept.
__device__ uint32_t decode_entropy(const ClassComposition& c, const uint8_t* bytes, uint32_t from,
                                   const Bytes& block, uint32_t& at, uint32_t n, Shared& s,
                                   const Spilling<uint32_t>& list, uint8_t* buckets, uint32_t kept) {
  uint32_t length = 0, k = 0;
  bool bad = false;
  for (bool more = true; more && k < 4; ++k) {
    const uint32_t byte = block.byte(at + k);
    length |= (byte & 127) << 7 * k;
    more = byte >> 7;
    bad |= more && k == 3;
  }
  at += k;
  bad |= at > block.size || length > block.size - (at < block.size ? at : block.size) || length < 4 * c.lanes;
  bad |= c.map == MapPacker::entropy && c.buckets == 0;
  if (bad) {
    if (threadIdx.x == 0) s.bad = 1;
    return kept;
  }
  const uint32_t end = from + at + length;
  Chain chain{s.rows, {bytes, end}, from + at, c.lanes};
  at += length;
  if (warp_of() == 0) chain.begin();
  if (c.map == MapPacker::entropy) {
    if (warp_of() == 0) {
      decode_activities(c, chain, (n + run_length - 1) / run_length, buckets, bad);
      if (bad && lane_of() == 0) s.bad = 1;
    }
    __syncthreads();
    if (s.bad) return kept;
    __syncthreads();  // before a warp finds more that is bad
    kept = list_tokens(c, chain, n, s, list, buckets);
  }
  __syncthreads();
  if (c.magnitudes_coded != 0) decode_magnitudes(c, chain, s, list, buckets, kept);
  if (warp_of() == 0 && !(chain.home() && chain.at == end) && lane_of() == 0) s.bad = 1;
  return kept;
}

/// Code words of planes, signs and raw bits join the list; all threads. Where they lie follows from how many
/// elements each class has.
template <ClassQuantizer Q>
__device__ void read_codes(const ClassComposition& c, const Bytes& block, uint32_t at, Shared& s,
                           const Spilling<uint32_t>& list, uint32_t kept) {
  const uint32_t groups = (kept + warp_size - 1) / warp_size;
  const Share share(groups, warps, warp_of());
  const uint32_t first = share.first * warp_size,
                 end = share.end * warp_size < kept ? share.end * warp_size : kept;
  uint32_t mine = 0;
  for (uint32_t from = first; from < end; from += warp_size) {
    const uint32_t k = from + lane_of(), j = k < end ? kept_class(list.get(k)) : max_classes;
    for (uint32_t of = 0; of < c.plan.classes; ++of) {
      const uint32_t members = __popc(__ballot_sync(all_lanes, j == of));
      if (lane_of() == of) mine += members;
    }
  }
  if (lane_of() < max_classes) s.before[warp_of()][lane_of()] = mine;
  __syncthreads();
  const auto members_before = [&](uint32_t j) {
    uint32_t sum = 0;
    for (uint32_t w = 0; w < warp_of(); ++w) sum += s.before[w][j];
    return sum;
  };
  uint32_t sign_bits = 0, sign_bits_before = 0;
  bool bad = false;
  for (uint32_t j = 0; j < c.plan.classes; ++j) {
    const uint32_t width = c.plan.width[j], members = s.members[j];
    if (width == 0) continue;
    if (magnitude_coded(c, j)) {
      const uint32_t each = 1 + element::raw_magnitude_bits(width);
      sign_bits += members * each;
      sign_bits_before += members_before(j) * each;
      continue;
    }
    const uint32_t bytes = bytes_of(members * width);
    bad |= bytes > block.size - at;
    if (bad) break;
    bad |= !block.padded(8 * at + members * width);
    read_plane<Q>(block, at, j, width, list, first, end, members_before(j));
    at += bytes;
  }
  if (!bad) bad |= at + bytes_of(sign_bits) != block.size || !block.padded(8 * at + sign_bits);
  if (!bad) read_signs(c, block, 8 * at + sign_bits_before, list, first, end, bad);
  if (bad) atomicOr(&s.bad, 1u);
}

template <ClassQuantizer Q>
__global__ void __launch_bounds__(threads, 2) decode_blocks(const __grid_constant__ Arguments a) {
  extern __shared__ __align__(16) char room[];
  char* next = room;
  Shared& s = *reinterpret_cast<Shared*>(carve(next, sizeof(Shared)));
  auto* buckets = reinterpret_cast<uint8_t*>(carve(next, a.layout.buckets));
  const Spilling<uint32_t> list{reinterpret_cast<uint32_t*>(carve(next, 4 * a.layout.kept_reach)),
                                a.kept_far + blockIdx.x * a.layout.kept_far, a.layout.kept_reach};
  auto* staged = reinterpret_cast<uint32_t*>(carve(next, a.layout.staged));
  const ClassComposition& c = a.composition;
  for (uint32_t i = threadIdx.x; i < 256 * c.plan.classes; i += threads)
    if (i % 256 < 1u << c.plan.width[i / 256]) s.points[i] = a.points[i];
  fill_rows(s.rows, a.starts, element::coding_tables, threads);

  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const DecodeView view = a.blocks[b];
    __syncthreads();
    if (threadIdx.x < max_classes + 7) s.members[threadIdx.x] = 0;
    if (threadIdx.x == 0) s.kept = s.at = s.bad = 0;
    const uint32_t skipped = uint32_t(view.offset & 3),
                   words = view.bytes > 0 ? (skipped + view.bytes + 3) / 4 : 0;
    const uint32_t* from = a.bytes + view.offset / 4;
    const bool fits = 4 * words <= a.layout.staged;
    for (uint32_t w = threadIdx.x; fits && w < words; w += threads) staged[w] = from[w];
    __syncthreads();
    const Bytes block{reinterpret_cast<const uint8_t*>(fits ? staged : from) + skipped, view.bytes};
    uint32_t kept = 0;
    if (view.bytes > 0) {
      uint32_t at = 0;
      if (c.map != MapPacker::entropy) {
        if (warp_of() == 0) {
          bool bad = false;
          at = read_map(c, block, view.count, s, list, buckets, kept, bad);
          if (lane_of() == 0) {
            s.kept = kept;
            s.at = at;
            s.bad = bad;
          }
        }
        __syncthreads();
        kept = s.kept;
        at = s.at;
      }
      const bool mapped = s.bad == 0;
      __syncthreads();  // before a warp finds more that is bad
      if (mapped && (c.map_coded || c.magnitudes_coded != 0))
        kept = fits ? decode_entropy(c, reinterpret_cast<const uint8_t*>(staged), skipped, block, at,
                                     view.count, s, list, buckets, kept)
                    : decode_entropy(c, reinterpret_cast<const uint8_t*>(from), skipped, block, at,
                                     view.count, s, list, buckets, kept);
      __syncthreads();
      const bool listed = s.bad == 0;
      __syncthreads();
      if (listed) read_codes<Q>(c, block, at, s, list, kept);
    }
    __syncthreads();
    if (s.bad)
      store_zeros(view.values, view.count);
    else
      write_values(view, s, list, kept);
    if (threadIdx.x == 0) a.ok[b] = s.bad ? 0 : 1;
  }
}

template <ClassQuantizer Q>
void launch_as(const Arguments& arguments, const Stream& stream) {
  const auto kernel = decode_blocks<Q>;
  allow_shared(kernel, arguments.layout.shared_bytes);
  kernel<<<arguments.layout.grid, threads, arguments.layout.shared_bytes, stream>>>(arguments);
  check_launch("decoding blocks");
}

}  // namespace

struct ClassDecodeRun::State {
  State(const ClassComposition& composition, std::span<const uint32_t> frequencies,
        std::span<const float> points)
      : composition_(composition), starts_(element::coding_tables), points_(point_count) {
    const std::vector<Starts> starts = starts_of(frequencies);
    const Stream stream;
    copy_to_device(starts_.data(), starts.data(), starts.size(), stream);
    copy_to_device(points_.data(), points.data(), point_count, stream);
    stream.synchronize();
  }

  void launch(const uint32_t* bytes, std::span<const ClassDecoder::Block> blocks, float* values, uint8_t* ok,
              const Stream& stream) {
    uint64_t largest = 1, largest_bytes = 0;
    for (const ClassDecoder::Block& block : blocks) {
      largest = std::max<uint64_t>(largest, block.count);
      largest_bytes = std::max(largest_bytes, block.bytes);
    }
    Arguments a{};
    a.composition = composition_;
    a.layout = layout_for(uint32_t(largest), largest_bytes, uint32_t(blocks.size()));
    views_.reserve(blocks.size());
    kept_.reserve(a.layout.grid * a.layout.kept_far);
    host_views_.clear();
    for (const ClassDecoder::Block& block : blocks)
      host_views_.push_back(
          {block.offset, uint32_t(block.bytes), uint32_t(block.count), values + block.first});
    copy_to_device(views_.data(), host_views_.data(), host_views_.size(), stream);
    a.bytes = bytes;
    a.blocks = views_.data();
    a.count = uint32_t(blocks.size());
    a.ok = ok;
    a.starts = starts_.data();
    a.points = points_.data();
    a.kept_far = kept_.data();
    switch (composition_.plan.quantizer) {
      case ClassQuantizer::cell:
        return launch_as<ClassQuantizer::cell>(a, stream);
      case ClassQuantizer::mid:
        return launch_as<ClassQuantizer::mid>(a, stream);
      case ClassQuantizer::offmag:
        return launch_as<ClassQuantizer::offmag>(a, stream);
      case ClassQuantizer::sym:
        return launch_as<ClassQuantizer::sym>(a, stream);
    }
  }

  Layout layout_for(uint32_t elements, uint64_t bytes, uint32_t blocks) const {
    Layout layout;
    const uint64_t n = (uint64_t(elements) + run_length - 1) / run_length * run_length;
    layout.buckets = uint32_t(n / run_length);
    const uint64_t fixed = (sizeof(Shared) + 15) / 16 * 16 + layout.buckets + 4 * 16,
                   staged = (bytes + 7) / 4 * 4;
    // Two on a processor where the bytes of both fit.
    const BlockRoom room = room_of_blocks(blocks, fixed + staged + 4096);
    layout.grid = room.grid;
    if (fixed + 4096 > room.shared_bytes)
      throw DeviceError("decoding blocks needs " + std::to_string(fixed + 4096) +
                        " bytes of shared memory, and the device has " + std::to_string(room.shared_bytes));
    const uint64_t left = room.shared_bytes - fixed;
    layout.staged = uint32_t(std::min(staged, room.two ? staged : left / 2 / 16 * 16));
    layout.kept_reach = uint32_t(std::min(n, (left - layout.staged) / 4));
    layout.kept_far = n - layout.kept_reach;
    layout.shared_bytes = uint32_t(fixed + layout.staged + 4 * layout.kept_reach);
    return layout;
  }

  ClassComposition composition_;
  DeviceBuffer<Starts> starts_;
  DeviceBuffer<float> points_;
  DeviceBuffer<uint32_t> kept_;
  DeviceBuffer<DecodeView> views_;
  std::vector<DecodeView> host_views_;
};

ClassDecodeRun::ClassDecodeRun(const ClassComposition& composition, std::span<const uint32_t> frequencies,
                               std::span<const float> points)
    : supported_(composition.lanes <= most_lanes),
      state_(std::make_unique<State>(composition, frequencies, points)) {}
ClassDecodeRun::~ClassDecodeRun() = default;

void ClassDecodeRun::launch(const uint32_t* bytes, std::span<const ClassDecoder::Block> blocks, float* values,
                            uint8_t* ok, const Stream& stream) {
  if (!blocks.empty()) state_->launch(bytes, blocks, values, ok, stream);
}

namespace {

/// From and to host memory.
class BlockDecoder final : public ClassDecoder {
 public:
  BlockDecoder(const ClassComposition& composition, std::span<const uint32_t> frequencies,
               std::span<const float> points)
      : run_(composition, frequencies, points) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> ok) override {
    std::fill(ok.begin(), ok.end(), uint8_t(0));
    if (blocks.empty() || !run_.supported()) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    ok_.reserve(blocks.size());
    run_.launch(bytes_.words(), blocks, values_.data(), ok_.data(), stream_);
    copy_to_host(ok.data(), ok_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  ClassDecodeRun run_;
  Stream stream_;
  StagedBytes bytes_;
  DeviceBuffer<float> values_;
  DeviceBuffer<uint8_t> ok_;
};

}  // namespace

std::unique_ptr<ClassDecoder> make_class_decoder(const ClassComposition& composition,
                                                 std::span<const uint32_t> frequencies,
                                                 std::span<const float> points) {
  return std::make_unique<BlockDecoder>(composition, frequencies, points);
}

}  // namespace jsq::cuda
