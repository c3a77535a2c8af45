// A thread adds the elements of a group, whose order is that of storage. One thread block then packs the
// signs of two blocks and sums the errors of their means, in the contract's order.
#include "kernels/cuda/sign_groups.hpp"

#include "kernels/cuda/block_bits.cuh"
#include "kernels/cuda/chunk_errors.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/resident_values.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size;

/// Elements [first, first + count) of a tensor, in one place, and groups some of which they belong to.
struct GroupArguments {
  const float* values = nullptr;
  uint64_t first = 0, count = 0;
  uint64_t elements = 0;  ///< of the tensor
  uint64_t groups = 0, period = 0;
  bool interleaved = false;
  SignSums* sums = nullptr;
};

__global__ void __launch_bounds__(threads) add_groups_by_sign(const __grid_constant__ GroupArguments a) {
  const uint64_t group = uint64_t(blockIdx.x) * threads + threadIdx.x, stretch_end = a.first + a.count;
  if (group >= a.groups) return;
  uint64_t at = a.interleaved ? group : group * a.period;
  const uint64_t step = a.interleaved ? a.period : 1, behind = a.elements - at,
                 end = a.interleaved || behind <= a.period ? a.elements : at + a.period;
  if (at < a.first) at += (a.first - at + step - 1) / step * step;
  SignSums sums = a.sums[group];
  for (; at < end && at < stretch_end; at += step) {
    const float g = a.values[at - a.first];
    if (g < 0) {
      sums.of[1] += double(g);
      ++sums.negatives;
    } else {
      sums.of[0] += double(g);
    }
  }
  a.sums[group] = sums;
}

/// Where the elements of a block have their means.
struct GroupPlace {
  uint64_t first_group = 0;
  uint64_t offset = 0;  ///< of the block's first element in its group, or among the groups
  uint64_t period = 1;
  uint32_t interleaved = false, padding = 0;

  __device__ uint64_t group(uint32_t i) const {
    if (period <= INT32_MAX) {
      const uint32_t at = uint32_t(offset) + i, length = uint32_t(period);
      return interleaved ? at % length : first_group + at / length;
    }
    const bool next = offset + i >= period;  // no block has more elements
    return interleaved ? offset + i - (next ? period : 0) : first_group + next;
  }
  /// Calls use(k, group) for elements i to i + 3.
  template <class Use>
  __device__ void for_four(uint32_t i, Use use) const {
    if (period > INT32_MAX) {
#pragma unroll
      for (uint32_t k = 0; k < 4; ++k) use(k, group(i + k));
      return;
    }
    const uint32_t length = uint32_t(period);
    uint32_t round = (uint32_t(offset) + i) / length, at = uint32_t(offset) + i - round * length;
#pragma unroll
    for (uint32_t k = 0; k < 4; ++k) {
      use(k, interleaved ? uint64_t(at) : first_group + round);
      const bool wraps = ++at == length;
      round += wraps;
      at = wraps ? 0 : at;
    }
  }
};

GroupPlace place_of_block(const SignGroups& groups, uint64_t first_element, uint64_t buckets_before) {
  if (groups.bucket != 0) return {buckets_before, 0, groups.bucket};
  if (groups.interleaved) return {0, first_element % groups.period, groups.period, true};
  return {first_element / groups.period, first_element % groups.period, groups.period};
}

struct CodeArguments {
  const BlockView* blocks;
  uint32_t count;  ///< of them
  const GroupPlace* places;
  const SignMeans* means;
  uint32_t* bits;
  uint32_t words;  ///< of a block
  LevelSums* sums;
};

/// What is counted of a block in any order, and its sums of errors.
struct SignTally {
  uint32_t negatives, max_key;
  double squared_error, dot, decoded_energy, error_sum, max_error, coded_squared_error;
};

/// The signs of a warp's elements, four of a lane: eight lanes hold the bits of a word, the first sign in the
/// highest bit of the first byte.
__device__ uint32_t word_of_signs(const float* g) {
  uint32_t word = 0;
#pragma unroll
  for (uint32_t k = 0; k < 4; ++k) word |= uint32_t(g[k] < 0) << (4 * (lane_of() % 8) + k);
  for (uint32_t distance = 1; distance < 8; distance *= 2)
    word |= __shfl_xor_sync(all_lanes, word, int(distance));
  return __byte_perm(__brev(word), 0, 0x0123);
}

constexpr uint32_t code_threads = loading_threads + error_warps * warp_size;

__global__ void __launch_bounds__(code_threads, 1) code_sign_blocks(const __grid_constant__ CodeArguments a) {
  extern __shared__ StagedTile tiles[];
  __shared__ SignTally tallies[chunks_together];
  auto* decoded_tile = reinterpret_cast<DecodedTile*>(tiles + staged_tiles);
  for (uint32_t first = chunks_together * blockIdx.x; first < a.count; first += chunks_together * gridDim.x) {
    const Pair pair(a.blocks, a.count, first);
    const uint32_t own = pair.there ? first + own_chunk() : first;
    if (threadIdx.x < chunks_together) tallies[threadIdx.x].negatives = tallies[threadIdx.x].max_key = 0;
    __syncthreads();
    if (loads_chunks()) {
      const auto stored = a.blocks[own].stored;
      const GroupPlace place = a.places[own];
      uint32_t* const bits = a.bits + uint64_t(own) * a.words;
      uint32_t negatives = 0, max_key = 0;
      bring_first(pair.own, tiles);
      stage_tiles(pair.own, pair.steps, tiles, [&](uint32_t step, StagedTile& tile) {
        float g[staged_each], decoded[staged_each];
        look_at(tile, g);
#pragma unroll
        for (uint32_t q = 0; q < staged_each / 4; ++q) {
          const uint32_t i = step * staged_elements + own_four(q);
          const uint32_t word = word_of_signs(g + 4 * q);
          if (lane_of() % 8 == 0 && i < pair.own.count) bits[i / warp_size] = word;
          place.for_four(i, [&](uint32_t k, uint64_t group) {
            float& value = g[4 * q + k];
            const uint32_t key = element::magnitude_key(value);
            max_key = max_key > key ? max_key : key;
            negatives += value < 0;
            // Nothing is behind the end, and adds nothing.
            if (i + k < pair.own.count) {
              const SignMeans means = a.means[group];
              value = value < 0 ? means.negative : means.positive;
            }
            decoded[4 * q + k] = element::round_to_stored(stored, value);
          });
        }
        leave(decoded_tile[step % 2].coded, g);
        leave(decoded_tile[step % 2].decoded, decoded);
      });
      negatives = __reduce_add_sync(all_lanes, negatives);
      max_key = __reduce_max_sync(all_lanes, max_key);
      if (lane_of() == 0) {
        atomicAdd(&tallies[loaded_chunk()].negatives, negatives);
        atomicMax(&tallies[loaded_chunk()].max_key, max_key);
      }
    } else {
      add_errors(warp_of() - loading_warps, pair, tiles, decoded_tile, tallies[added_chunk()], [](double) {});
    }
    __syncthreads();
    if (threadIdx.x < chunks_together && first + threadIdx.x < a.count) {
      const SignTally& tally = tallies[threadIdx.x];
      LevelSums& out = a.sums[first + threadIdx.x];
      out.nonzeros = tally.negatives;
      out.max_key = tally.max_key;
      out.squared_error = tally.squared_error;
      out.dot = tally.dot;
      out.decoded_energy = tally.decoded_energy;
      out.error_sum = tally.error_sum;
      out.max_error = tally.max_error;
      out.other_error = tally.coded_squared_error;
    }
    __syncthreads();
  }
}

struct DecodeView {
  const uint8_t* data = nullptr;
  float* values = nullptr;
  GroupPlace place;
  uint32_t bytes = 0, count = 0;
  uint32_t buckets = 0;  ///< whose means precede the signs
  uint32_t zero = false, sound = true, padding = 0;
};

__device__ bool sound_means(const SignMeans& means) {
  return means.negative <= 0 && means.positive >= 0 &&
         element::magnitude_key(means.negative) < element::first_nonfinite_key &&
         element::magnitude_key(means.positive) < element::first_nonfinite_key;
}

constexpr uint32_t decode_threads = 512;

__global__ void __launch_bounds__(decode_threads)
    decode_sign_blocks(const DecodeView* views, const SignMeans* all, uint8_t* sound_blocks) {
  __shared__ DecodeView view;
  share_view(view, views[blockIdx.x]);
  if (view.zero || !view.sound) {
    store_zeros(view.values, view.count);
    if (threadIdx.x == 0) sound_blocks[blockIdx.x] = uint8_t(view.sound);
    return;
  }
  constexpr uint32_t mean_bits = 64;
  const BlockBits bytes(view.data, view.bytes);
  const uint32_t begin = mean_bits * view.buckets, end = begin + view.count;
  const auto number = [&](uint32_t position) {
    return element::bits_as<float>(__byte_perm(bytes.bits(position, 32), 0, 0x0123));
  };
  const auto bucket_means = [&](uint32_t b) {
    return SignMeans{number(mean_bits * b + 32), number(mean_bits * b)};
  };
  bool sound = view.bytes == (end + 7) / 8 && bytes.padded(end);
  for (uint32_t b = threadIdx.x; b < view.buckets; b += decode_threads)
    sound = sound && sound_means(bucket_means(b));
  sound = __syncthreads_and(sound) != 0;
  if (threadIdx.x == 0) sound_blocks[blockIdx.x] = sound;
  if (!sound) return store_zeros(view.values, view.count);
  for (uint32_t i = 4 * threadIdx.x; i < view.count; i += 4 * decode_threads) {
    const uint32_t signs = bytes.bits(begin + i, 4);
    uint64_t group_before = UINT64_MAX;
    SignMeans means{};
    float four[4];
    view.place.for_four(i, [&](uint32_t k, uint64_t group) {
      if (i + k < view.count && group != group_before)
        means = view.buckets != 0 ? bucket_means(uint32_t(group)) : all[group];
      group_before = group;
      four[k] = signs >> (3 - k) & 1 ? means.negative : means.positive;
    });
    store_values(view.values, i, view.count, four);
  }
}

}  // namespace

/// Passes over some blocks of one tensor of a pool.
class SignPass {
 public:
  explicit SignPass(PoolValues& pool) : pool_(static_cast<ResidentValues&>(pool)) {}

  std::vector<SignSums> by_group(size_t tensor, const SignGroups& groups) {
    DeviceBuffer<SignSums> sums(groups.groups);
    clear(sums.data(), groups.groups, pool_.compute_);
    const auto is_of_tensor = [&](const Piece& piece) { return piece.tensor == tensor; };
    const auto launch = [&](const Batch& batch) {
      for (const Piece& piece : batch.pieces) {
        if (!is_of_tensor(piece)) continue;
        GroupArguments a;
        a.values = pool_.values_of(piece);
        a.first = piece.first;
        a.count = piece.count;
        a.elements = pool_.tensors_[tensor].elements;
        a.groups = groups.groups;
        a.period = groups.period;
        a.interleaved = groups.interleaved;
        a.sums = sums.data();
        add(a);
      }
    };
    pool_.for_batches_with(
        [&](const Batch& batch) {
          return std::any_of(batch.pieces.begin(), batch.pieces.end(), is_of_tensor);
        },
        launch, [](const Batch&) {});
    return host(sums, groups.groups);
  }

  std::vector<SignSums> by_bucket(uint32_t bucket, std::span<const BlockRange> blocks) {
    std::vector<uint64_t> before = {0};
    for (const BlockRange& block : blocks)
      before.push_back(before.back() + (block.count + bucket - 1) / bucket);
    DeviceBuffer<SignSums> sums(before.back());
    clear(sums.data(), before.back(), pool_.compute_);
    const auto launch = [&](size_t begin, const std::vector<BlockView>& views) {
      for (size_t v = 0; v < views.size(); ++v) {
        GroupArguments a;
        a.values = views[v].values;
        a.count = a.elements = views[v].count;
        a.groups = before[begin + v + 1] - before[begin + v];
        a.period = bucket;
        a.sums = sums.data() + before[begin + v];
        add(a);
      }
    };
    pool_.for_blocks(blocks, UINT64_MAX, launch, [](size_t, const std::vector<BlockView>&) {});
    return host(sums, before.back());
  }

  SignBlocks code(const SignGroups& groups, std::span<const SignMeans> means,
                  std::span<const BlockRange> blocks) {
    SignBlocks coded;
    coded.words = element::sum_chunk / warp_size;
    coded.sums.resize(blocks.size());
    coded.bits.resize(blocks.size() * coded.words);
    DeviceBuffer<SignMeans> device_means(means.size());
    copy_to_device(device_means.data(), means.data(), means.size(), pool_.compute_);
    DeviceBuffer<BlockView> device_views(blocks.size());
    DeviceBuffer<GroupPlace> device_places(blocks.size());
    DeviceBuffer<uint32_t> bits(coded.bits.size());
    DeviceBuffer<LevelSums> sums(blocks.size());
    clear(sums.data(), blocks.size(), pool_.compute_);
    uint64_t buckets = 0;
    std::vector<GroupPlace> places;
    const auto launch = [&](size_t begin, const std::vector<BlockView>& views) {
      places.clear();
      for (const BlockView& view : views) {
        places.push_back(place_of_block(groups, view.first_element, buckets));
        if (groups.bucket != 0) buckets += (view.count + groups.bucket - 1) / groups.bucket;
      }
      copy_to_device(device_views.data(), views.data(), views.size(), pool_.compute_);
      copy_to_device(device_places.data(), places.data(), places.size(), pool_.compute_);
      const auto count = uint32_t(views.size());
      const CodeArguments a{device_views.data(),
                            count,
                            device_places.data(),
                            device_means.data(),
                            bits.data() + begin * coded.words,
                            uint32_t(coded.words),
                            sums.data() + begin};
      code_sign_blocks<<<blocks_for_pairs(code_sign_blocks, code_threads, error_tiles_bytes, count),
                         code_threads, error_tiles_bytes, pool_.compute_>>>(a);
      check_launch("coding signs");
    };
    const auto collect = [&](size_t, const std::vector<BlockView>&) { pool_.compute_.synchronize(); };
    pool_.for_blocks(blocks, UINT64_MAX, launch, collect);  // views and places go from group to group
    copy_to_host(coded.sums.data(), sums.data(), blocks.size(), pool_.compute_);
    // Words behind the end of a block are nobody's.
    for (size_t b = 0; b < blocks.size(); ++b)
      copy_to_host(coded.bits.data() + b * coded.words, bits.data() + b * coded.words,
                   (blocks[b].count + warp_size - 1) / warp_size, pool_.compute_);
    pool_.compute_.synchronize();
    return coded;
  }

 private:
  void add(const GroupArguments& a) {
    add_groups_by_sign<<<uint32_t((a.groups + threads - 1) / threads), threads, 0, pool_.compute_>>>(a);
    check_launch("adding groups by sign");
  }
  std::vector<SignSums> host(const DeviceBuffer<SignSums>& sums, size_t count) {
    std::vector<SignSums> found;
    pool_.append(found, sums, count);
    return found;
  }

  ResidentValues& pool_;
};

std::vector<SignSums> group_sums(PoolValues& pool, size_t tensor, const SignGroups& groups) {
  return SignPass(pool).by_group(tensor, groups);
}

std::vector<SignSums> bucket_sums(PoolValues& pool, uint32_t bucket, std::span<const BlockRange> blocks) {
  return SignPass(pool).by_bucket(bucket, blocks);
}

SignBlocks code_signs(PoolValues& pool, const SignGroups& groups, std::span<const SignMeans> means,
                      std::span<const BlockRange> blocks) {
  return SignPass(pool).code(groups, means, blocks);
}

namespace {

/// From and to host memory.
class SignRun final : public SignDecoder {
 public:
  explicit SignRun(std::span<const SignMeans> means) : means_(means.size()) {
    copy_to_device(means_.data(), means.data(), means.size(), stream_);
    stream_.synchronize();
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    if (blocks.empty()) return;
    bytes_.put(bytes, stream_);
    values_.reserve(values.size());
    sound_.reserve(blocks.size());
    views_.reserve(blocks.size());
    std::vector<DecodeView> views;
    for (const Block& block : blocks) {
      DecodeView& view = views.emplace_back();
      view.data = bytes_.bytes() + block.offset;
      view.values = values_.data() + block.first;
      view.place = place_of_block(block.groups, block.first_element, 0);
      view.bytes = uint32_t(block.bytes);
      view.count = uint32_t(block.count);
      if (block.groups.bucket != 0)
        view.buckets = (view.count + block.groups.bucket - 1) / block.groups.bucket;
      view.zero = block.zero;
      view.sound = block.sound;
    }
    copy_to_device(views_.data(), views.data(), views.size(), stream_);
    decode_sign_blocks<<<uint32_t(blocks.size()), decode_threads, 0, stream_>>>(views_.data(), means_.data(),
                                                                                sound_.data());
    check_launch("decoding signs");
    copy_to_host(sound.data(), sound_.data(), blocks.size(), stream_);
    copy_out(values.data(), values_.data(), values.size(), stream_);
    stream_.synchronize();
  }

 private:
  Stream stream_;
  StagedBytes bytes_;
  DeviceBuffer<SignMeans> means_;
  DeviceBuffer<DecodeView> views_;
  DeviceBuffer<float> values_;
  DeviceBuffer<uint8_t> sound_;
};

}  // namespace

std::unique_ptr<SignDecoder> make_sign_decoder(std::span<const SignMeans> means) {
  return std::make_unique<SignRun>(means);
}

}  // namespace jsq::cuda
