// Kept elements listed, and errors summed. A list is found in one pass: a thread block looks at a tile,
// counts what is kept of it, reserves as much room by one addition and writes there; the host puts tiles in
// order. Errors are summed two chunks a thread block, in the contract's order.
#include "kernels/cuda/sparse.hpp"

#include "kernels/cuda/chunk_errors.cuh"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/element/philox.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t each = 4;                            ///< neighbouring elements of a thread: a Philox block
constexpr uint32_t turn = each * warp_size, turns = 8;  ///< elements of a warp in a turn
constexpr uint32_t tile = turns * turn * warps;         ///< elements of a thread block

/// Where the kept elements of a tile are.
struct TileKept {
  unsigned long long first = 0;
  uint32_t count = 0;
};

/// Bit k: element i + k is kept.
template <bool Random>
__device__ uint32_t kept_of_four(const Selection& selection, const BlockView& block, uint32_t i,
                                 const float* g) {
  if (i >= block.count) return 0;
  uint32_t mask = 0;
  element::PhiloxBlock words{};
  if (Random) {
    const uint64_t quad = (block.first_element + i) / each;
    words = element::philox4x32_10(
        {{uint32_t(quad), uint32_t(quad >> 32), block.tensor, uint32_t(element::RandomPurpose::positions)}},
        uint32_t(selection.seed), uint32_t(selection.seed >> 32));
  }
#pragma unroll
  for (uint32_t k = 0; k < each; ++k) {
    const bool kept =
        Random
            ? element::keeps(selection.subset, words.word[k], block.tensor, block.first_element + i + k)
            : element::keeps(selection.largest, element::magnitude_key(g[k]), block.first_pool_index + i + k);
    mask |= i + k < block.count && kept ? 1u << k : 0u;
  }
  return mask;
}

template <bool Random>
__global__ void __launch_bounds__(threads)
    list_tiles(const BlockView* blocks, uint32_t tiles_of_block, const __grid_constant__ Selection selection,
               uint32_t* indices, float* values, unsigned long long capacity, unsigned long long* used,
               TileKept* tiles) {
  __shared__ uint32_t warp_total[warps];
  __shared__ unsigned long long begin;
  const BlockView block = blocks[blockIdx.x / tiles_of_block];
  const uint32_t first = blockIdx.x % tiles_of_block * tile + warp_of() * turns * turn + each * lane_of();
  float g[turns][each];
  uint32_t mask = 0;
#pragma unroll
  for (uint32_t t = 0; t < turns; ++t) load_four(block.values, first + t * turn, block.count, g[t]);
#pragma unroll
  for (uint32_t t = 0; t < turns; ++t)
    mask |= kept_of_four<Random>(selection, block, first + t * turn, g[t]) << each * t;
  const uint32_t count = __reduce_add_sync(all_lanes, __popc(mask));
  if (lane_of() == 0) warp_total[warp_of()] = count;
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t total = 0;
    for (uint32_t w = 0; w < warps; ++w) total += warp_total[w];
    begin = total == 0 ? 0 : atomicAdd(used, static_cast<unsigned long long>(total));
    tiles[blockIdx.x] = {begin, total};
  }
  __syncthreads();
  if (count == 0) return;
  unsigned long long to = begin;
  for (uint32_t w = 0; w < warp_of(); ++w) to += warp_total[w];
#pragma unroll
  for (uint32_t t = 0; t < turns; ++t) {
    const uint32_t four = mask >> each * t & ((1u << each) - 1);
    uint32_t total = 0;
    unsigned long long at = to + sum_before(__popc(four), total);
    to += total;
#pragma unroll
    for (uint32_t k = 0; k < each; ++k) {
      if (!(four >> k & 1)) continue;
      if (at < capacity) {
        indices[at] = first + t * turn + k;
        values[at] = g[t][k];
      }
      ++at;
    }
  }
}

/// A chunk of a block, and what it decodes to.
struct SumView {
  const float* values = nullptr;
  uint32_t count = 0;
  uint32_t first = 0;  ///< index of its first element in the block
  const uint32_t* indices = nullptr;
  const float* decoded = nullptr;
  const float* coded = nullptr;  ///< null: as decoded
  uint32_t kept = 0;
};

__device__ float sent_value(const SparseExpectation& expectation, float g) {
  return expectation.format == element::StoredFloat::f16
             ? element::f16_to_f32(element::f32_to_f16_saturating(g))
             : element::bf16_to_f32(element::f32_to_bf16_saturating(g));
}

/// Where the kept elements of two chunks are: of every stretch that a warp loads of a tile, how many are
/// before it.
struct StretchStarts {
  static constexpr uint32_t stretches = uint32_t(element::sum_chunk) / staged_of_warp;
  uint16_t before[chunks_together][stretches];

  /// All threads that load: by the elements at which a stretch begins.
  __device__ void find(const SumView& view) {
    const uint32_t thread = threadIdx.x % threads_of_chunk;
    const auto stretch = [&](uint32_t k) { return (view.indices[k] - view.first) / staged_of_warp; };
    for (uint32_t k = thread; k <= view.kept; k += threads_of_chunk) {
      const uint32_t from = k == 0 ? 0 : stretch(k - 1) + 1, to = k < view.kept ? stretch(k) : stretches - 1;
      for (uint32_t s = from; s <= to; ++s) before[loaded_chunk()][s] = uint16_t(k);
    }
  }
};

/// What a warp's stretch of a tile decodes to: zeros, but for the kept elements.
__device__ void leave_kept(const SumView& view, const StretchStarts& starts, uint32_t step,
                           DecodedTile& tile) {
  const float zeros[staged_each] = {};
  leave(tile.decoded, zeros);
  leave(tile.coded, zeros);
  __syncwarp();
  const uint32_t at = step * staged_elements, stretch = (at + own_stretch()) / staged_of_warp;
  if (at + own_stretch() >= view.count) return;
  const uint32_t end =
      stretch + 1 < StretchStarts::stretches ? starts.before[loaded_chunk()][stretch + 1] : view.kept;
  for (uint32_t k = starts.before[loaded_chunk()][stretch] + lane_of(); k < end; k += warp_size) {
    const uint32_t place = staged_place(loaded_chunk(), view.indices[k] - view.first - at);
    const float decoded = view.decoded[k];
    tile.decoded.words[place] = decoded;
    tile.coded.words[place] = view.coded != nullptr ? view.coded[k] : decoded;
  }
}

/// `Sends`: another warp adds the errors of elements that are sent at random.
template <bool Sends>
constexpr uint32_t sum_threads = loading_threads + (error_warps + Sends) * warp_size;
template <bool Sends>
constexpr size_t sum_bytes = error_tiles_bytes + (Sends ? sizeof(StagedTile[decoded_tiles]) : 0);

template <bool Sends>
__global__ void __launch_bounds__(sum_threads<Sends>, Sends ? 1 : 2)
    sum_chunks(const SumView* chunks, uint32_t count, const __grid_constant__ SparseExpectation expectation,
               SparseSums* sums) {
  extern __shared__ StagedTile tiles[];
  __shared__ StretchStarts starts;
  auto* decoded = reinterpret_cast<DecodedTile*>(tiles + staged_tiles);
  auto* sent = reinterpret_cast<StagedTile*>(decoded + decoded_tiles);
  for (uint32_t first = chunks_together * blockIdx.x; first < count; first += chunks_together * gridDim.x) {
    const Pair pair(chunks, count, first);
    const uint32_t own = pair.there ? first + own_chunk() : first;
    if (loads_chunks()) {
      bring_first(pair.own, tiles);
      SumView view = chunks[own];
      view.count = pair.own.count;
      if (pair.there) starts.find(view);
    }
    __syncthreads();
    if (loads_chunks()) {
      SumView view = chunks[own];
      view.count = pair.own.count;
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t step, StagedTile& tile) {
        leave_kept(view, starts, step, decoded[step % 2]);
        if constexpr (Sends) {
          float g[staged_each];
          look_at(tile, g);
#pragma unroll
          for (uint32_t k = 0; k < staged_each; ++k) g[k] = sent_value(expectation, g[k]);
          leave(sent[step % 2], g);
        }
      });
    } else {
      // Zeros behind the end add nothing. The sums of a chunk that is not there are never written.
      const uint32_t which = warp_of() - loading_warps;
      const bool writes = pair.there && lane_of() % element::sum_lanes == 0;
      if (which < error_warps) {
        double energy = 0;
        add_errors(which, pair, tiles, decoded, sums[own], [&](double g) { energy += g * g; });
        energy = fold_lanes(energy);
        if (which == error_warps - 1 && writes) {
          sums[own].energy = energy;
          if (!Sends) sums[own].random_sent_error = 0;
        }
      } else if constexpr (Sends) {
        double error = 0;
        add_beside(
            pair.steps, tiles, [&](uint32_t turn) { return sent + turn; },
            [&](double g, double value) {
              error += element::random_keep_error(g, expectation.gain * value, expectation.share);
            });
        error = fold_lanes(error);
        if (writes) sums[own].random_sent_error = error;
      }
    }
    __syncthreads();
  }
}

/// Adds the sums of a block's next chunk.
void add(SparseSums& total, const SparseSums& chunk) {
  total.squared_error += chunk.squared_error;
  total.dot += chunk.dot;
  total.decoded_energy += chunk.decoded_energy;
  total.error_sum += chunk.error_sum;
  total.max_error = std::max(total.max_error, chunk.max_error);
  total.coded_squared_error += chunk.coded_squared_error;
  total.energy += chunk.energy;
  total.random_sent_error += chunk.random_sent_error;
}

}  // namespace

/// Passes over the blocks of a pool, in groups of those that are on the device together.
class SparsePass {
 public:
  SparsePass(ResidentValues& pool, std::span<const BlockRange> blocks) : pool_(pool), blocks_(blocks) {}

  void list(const Selection& selection, uint64_t most, std::vector<KeptElements>& lists) {
    lists.resize(blocks_.size());
    uint32_t tiles_of_block = 0;
    uint64_t tiles = 0, room = 0;
    const auto launch = [&](size_t, const std::vector<BlockView>& views) {
      tiles_of_block = (ResidentValues::largest(views) + tile - 1) / tile;
      tiles = uint64_t(tiles_of_block) * views.size();
      uint64_t elements = 0;
      for (const BlockView& view : views) elements += view.count;
      room = std::min(most, elements);
      views_.reserve(views.size());
      tiles_.reserve(tiles);
      host_tiles_.reserve(tiles);
      indices_.reserve(room + 1);
      values_.reserve(room + 1);
      used_.reserve(1);
      copy_to_device(views_.data(), views.data(), views.size(), pool_.compute_);
      clear(used_.data(), 1, pool_.compute_);
      clear(tiles_.data(), tiles, pool_.compute_);
      const auto kernel = selection.random ? list_tiles<true> : list_tiles<false>;
      kernel<<<uint32_t(tiles), threads, 0, pool_.compute_>>>(views_.data(), tiles_of_block, selection,
                                                              indices_.data(), values_.data(), room,
                                                              used_.data(), tiles_.data());
      check_launch("listing kept elements");
      copy_to_host(host_tiles_.data(), tiles_.data(), tiles, pool_.compute_);
    };
    const auto collect = [&](size_t begin, const std::vector<BlockView>&) {
      pool_.compute_.synchronize();
      uint64_t used = 0;
      for (uint64_t i = 0; i < tiles; ++i) used += host_tiles_[i].count;
      if (used > room) throw DeviceError("more elements are kept than were foreseen; this is a bug in jsq");
      host_indices_.reserve(used);
      host_values_.reserve(used);
      copy_to_host(host_indices_.data(), indices_.data(), used, pool_.compute_);
      copy_to_host(host_values_.data(), values_.data(), used, pool_.compute_);
      pool_.compute_.synchronize();
      for (uint64_t i = 0; i < tiles; ++i) {
        const TileKept& kept = host_tiles_[i];
        KeptElements& list = lists[begin + i / tiles_of_block];
        const uint32_t* from = host_indices_.data() + kept.first;
        const float* values = host_values_.data() + kept.first;
        list.indices.insert(list.indices.end(), from, from + kept.count);
        list.values.insert(list.values.end(), values, values + kept.count);
      }
    };
    pool_.for_blocks(blocks_, group_elements, launch, collect);
  }

  void sum(std::span<const SparseDecoded> decoded, const SparseExpectation& expectation,
           std::vector<SparseSums>& sums) {
    sums.resize(blocks_.size());
    std::vector<SumView> chunks;
    std::vector<size_t> block_of;
    const auto launch = [&](size_t begin, const std::vector<BlockView>& views) {
      const auto of_group = decoded.subspan(begin, views.size());
      uint64_t kept = 0, coded = 0;
      for (const SparseDecoded& block : of_group) {
        kept += block.indices.size();
        coded += block.coded.size();
      }
      indices_.reserve(kept + 1);
      values_.reserve(kept + 1);
      coded_.reserve(coded + 1);
      host_indices_.reserve(kept);
      host_values_.reserve(kept);
      host_coded_.reserve(coded);
      chunks.clear();
      block_of.clear();
      kept = coded = 0;
      for (size_t b = 0; b < views.size(); ++b) {
        put_chunks(views[b], of_group[b], kept, coded, chunks);
        block_of.resize(chunks.size(), begin + b);
        std::copy(of_group[b].indices.begin(), of_group[b].indices.end(), host_indices_.data() + kept);
        std::copy(of_group[b].decoded.begin(), of_group[b].decoded.end(), host_values_.data() + kept);
        std::copy(of_group[b].coded.begin(), of_group[b].coded.end(), host_coded_.data() + coded);
        kept += of_group[b].indices.size();
        coded += of_group[b].coded.size();
      }
      chunks_.reserve(chunks.size());
      sums_.reserve(chunks.size());
      host_sums_.reserve(chunks.size());
      copy_to_device(indices_.data(), host_indices_.data(), kept, pool_.compute_);
      copy_to_device(values_.data(), host_values_.data(), kept, pool_.compute_);
      copy_to_device(coded_.data(), host_coded_.data(), coded, pool_.compute_);
      copy_to_device(chunks_.data(), chunks.data(), chunks.size(), pool_.compute_);
      const bool sends = expectation.format != element::StoredFloat::whole;
      const auto kernel = sends ? sum_chunks<true> : sum_chunks<false>;
      const uint32_t sum_block = sends ? sum_threads<true> : sum_threads<false>;
      const size_t bytes = sends ? sum_bytes<true> : sum_bytes<false>;
      kernel<<<blocks_for_pairs(kernel, sum_block, bytes, uint32_t(chunks.size())), sum_block, bytes,
               pool_.compute_>>>(chunks_.data(), uint32_t(chunks.size()), expectation, sums_.data());
      check_launch("summing errors");
      copy_to_host(host_sums_.data(), sums_.data(), chunks.size(), pool_.compute_);
    };
    const auto collect = [&](size_t, const std::vector<BlockView>&) {
      pool_.compute_.synchronize();
      for (size_t c = 0; c < chunks.size(); ++c) add(sums[block_of[c]], host_sums_[c]);
    };
    pool_.for_blocks(blocks_, group_elements, launch, collect);
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 28;

  /// The chunks of a block whose decoded elements lie at `kept` and `coded` of the group's.
  void put_chunks(const BlockView& block, const SparseDecoded& decoded, uint64_t kept, uint64_t coded,
                  std::vector<SumView>& chunks) const {
    auto from = decoded.indices.begin();
    for (uint32_t first = 0; first < block.count; first += uint32_t(element::sum_chunk)) {
      const uint32_t count = std::min(uint32_t(element::sum_chunk), block.count - first);
      const auto end = std::lower_bound(from, decoded.indices.end(), first + count);
      const auto before = uint64_t(from - decoded.indices.begin());
      SumView& view = chunks.emplace_back();
      view.values = block.values + first;
      view.count = count;
      view.first = first;
      view.indices = indices_.data() + kept + before;
      view.decoded = values_.data() + kept + before;
      if (!decoded.coded.empty()) view.coded = coded_.data() + coded + before;
      view.kept = uint32_t(end - from);
      from = end;
    }
  }

  ResidentValues& pool_;
  std::span<const BlockRange> blocks_;
  DeviceBuffer<BlockView> views_;
  DeviceBuffer<TileKept> tiles_;
  DeviceBuffer<SumView> chunks_;
  DeviceBuffer<SparseSums> sums_;
  DeviceBuffer<uint32_t> indices_;
  DeviceBuffer<float> values_, coded_;
  DeviceBuffer<unsigned long long> used_;
  PinnedBuffer<TileKept> host_tiles_;
  PinnedBuffer<SparseSums> host_sums_;
  PinnedBuffer<uint32_t> host_indices_;
  PinnedBuffer<float> host_values_, host_coded_;
};

std::vector<KeptElements> list_kept(PoolValues& pool, const Selection& selection,
                                    std::span<const BlockRange> blocks, uint64_t most) {
  std::vector<KeptElements> lists;
  SparsePass(static_cast<ResidentValues&>(pool), blocks).list(selection, most, lists);
  return lists;
}

std::vector<SparseSums> sum_sparse_errors(PoolValues& pool, std::span<const BlockRange> blocks,
                                          std::span<const SparseDecoded> decoded,
                                          const SparseExpectation& expectation) {
  std::vector<SparseSums> sums;
  SparsePass(static_cast<ResidentValues&>(pool), blocks).sum(decoded, expectation, sums);
  return sums;
}

}  // namespace jsq::cuda
