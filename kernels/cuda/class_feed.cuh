// What the entropy coder has of a class block: one chain of steps, which warp 0 goes along, while the other
// warps bring it the numbers of its symbols, chunk by chunk.
#pragma once

#include "kernels/cuda/class_coding.cuh"

namespace jsq::cuda::class_coding {

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
__device__ inline void code_steps(RansCoder& coder, const Coding& coding, const uint16_t* ids,
                                  uint32_t steps) {
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
__device__ inline void code_tokens(RansCoder& coder, const Coding& coding, const ClassComposition& c,
                                   Shared& s, const Spilling<uint32_t>& list, uint32_t kept, uint32_t n,
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
__device__ inline void code_activities(RansCoder& coder, const Coding& coding, Shared& s, uint32_t n,
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

}  // namespace jsq::cuda::class_coding
