// What the entropy coder has of a class block: one chain of steps, which warp 0 goes along, while the other
// warps list the kept elements of the tokens that it has left behind, bring it the tables of magnitudes and
// take their symbols away.
#pragma once

#include "kernels/cuda/class_decoding.cuh"

namespace jsq::cuda::class_decoding {

/// The activities of all runs, each coded with the table of the one before it; by one warp. A group's states
/// are all there when it begins, so that only the search goes from run to run.
__device__ inline void decode_activities(const ClassComposition& c, Chain& chain, uint32_t runs,
                                         uint8_t* buckets, bool& bad) {
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
__device__ inline void decode_tokens(const ClassComposition& c, Chain& chain, uint32_t n, uint32_t from,
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
__device__ inline uint32_t class_in_run(uint32_t classes, const uint8_t* tokens, uint32_t in_run) {
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
__device__ inline uint32_t list_tokens(const ClassComposition& c, Chain& chain, uint32_t n, Shared& s,
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
__device__ inline void decode_magnitudes(const ClassComposition& c, Chain& chain, Shared& s,
                                         const Spilling<uint32_t>& list, const uint8_t* buckets,
                                         uint32_t kept) {
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

/// What the entropy coder has of a block, from byte `from` of its words on; all threads. `at` is the place of
/// its length and becomes that behind it; returns how many elements are kept.
__device__ inline uint32_t decode_entropy(const ClassComposition& c, const uint8_t* bytes, uint32_t from,
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

}  // namespace jsq::cuda::class_decoding
