// One thread block decodes one class block. Its bytes are staged in shared memory, so that the file is read
// once and whole words at a time; a warp undoes the entropy coder and lists the kept elements; then all warps
// write the values, zeros included, run by run. Whatever is damaged is noticed before it is used, and the
// block is reported as not sound.
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

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t ring = 64;
constexpr uint32_t most_lanes = 8;  // interleaved states that a warp decodes run by run
constexpr uint32_t point_count = max_classes * 256;

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
  Starts starts[element::coding_tables];
  float points[point_count];
  float runs[warps][run_length];
  uint32_t members[max_classes + 7];  ///< of listed elements; a damaged token's class fits too
  uint32_t waiting[ring];
  uint8_t run_classes[run_length + 16];
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

/// Activities, class tokens and magnitudes; by warp 0. Fills buckets and the list.
__device__ void decode_entropy(const ClassComposition& c, const Bytes& stream, uint32_t n, Shared& s,
                               const Spilling<uint32_t>& list, uint8_t* buckets, uint32_t& kept, bool& bad) {
  const uint32_t lane = lane_of(), runs = (n + run_length - 1) / run_length;
  const bool keeps_all = c.plan.width[0] > 0;
  RansDecoder<Bytes> decoder{s.starts, stream, c.lanes};
  if (stream.size < 4 * c.lanes) {
    bad = true;
    return;
  }
  decoder.begin();
  if (c.map == MapPacker::entropy) {
    if (c.buckets == 0) {
      bad = true;
      return;
    }
    uint32_t previous = 0;
    for (uint32_t r = 0; r < runs; ++r) {
      const uint32_t turn = r % c.lanes;
      previous = __shfl_sync(all_lanes, decoder.step(lane == turn, previous), int(turn));
      if (previous >= c.buckets) {
        bad = true;
        return;
      }
      if (lane == 0) buckets[r] = uint8_t(previous);
    }
    __syncwarp();
    const uint32_t joined = element::classes_per_token(c.plan.classes);
    const uint32_t base_class = c.plan.classes > 2 ? c.plan.classes : 2;
    for (uint32_t r = 0; r < runs; ++r) {
      const uint32_t bucket = buckets[r], i = r * run_length + lane;
      const uint32_t in_run = n - r * run_length < run_length ? n - r * run_length : run_length;
      if (bucket == 0) {
        if (keeps_all) list_run(s, list, kept, i, lane < in_run, 0, true);
        continue;
      }
      const uint32_t tokens = (in_run + joined - 1) / joined;
      s.run_classes[lane] = 0;
      if (lane < 16) s.run_classes[run_length + lane] = 0;
      __syncwarp();
      for (uint32_t base = 0; base < tokens; base += c.lanes) {
        const bool active = lane < c.lanes && base + lane < tokens;
        uint32_t token = decoder.step(active, element::token_table_offset + bucket);
        if (active)
          for (uint32_t k = 0; k < joined; ++k, token /= base_class)
            s.run_classes[(base + lane) * joined + k] = uint8_t(joined == 1 ? token : token % base_class);
      }
      __syncwarp();
      const uint32_t j = s.run_classes[lane];
      bad |= lane >= in_run && j != 0;
      list_run(s, list, kept, i, lane < in_run, j, keeps_all);
      __syncwarp();
    }
  }
  // Magnitudes of the coded classes, in index order; a symbol waits in the entry's code word.
  __syncwarp();
  uint32_t queued = 0, done = 0;
  const auto take = [&](uint32_t until) {
    while (done < queued && (queued - done >= c.lanes || until == queued)) {
      const bool active = lane < c.lanes && done + lane < queued;
      const uint32_t k = active ? s.waiting[(done + lane) % ring] : 0;
      const uint32_t entry = active ? list.get(k) : 0, j = kept_class(entry);
      const uint32_t bucket =
          active && (c.magnitudes_by_activity >> (j - 1) & 1) ? buckets[kept_index(entry) / run_length] : 0;
      const uint32_t symbol = decoder.step(active, active ? element::magnitude_table(j, bucket) : 0);
      if (active) list.set(k, entry | symbol << kept_index_bits);
      done = done + c.lanes < queued ? done + c.lanes : queued;
    }
  };
  for (uint32_t from = 0; c.magnitudes_coded != 0 && from < kept; from += warp_size) {
    const uint32_t k = from + lane;
    const bool is_coded = k < kept && magnitude_coded(c, kept_class(list.get(k)));
    const uint32_t mask = __ballot_sync(all_lanes, is_coded);
    if (is_coded) s.waiting[(queued + __popc(mask & lanes_below())) % ring] = k;
    queued += __popc(mask);
    __syncwarp();
    take(0);
    __syncwarp();
  }
  take(queued);
  bad |= !decoder.finished();
}

/// Code words of class j from its plane into the list's entries, as places among the class's points; by one
/// warp.
template <ClassQuantizer Q>
__device__ void read_plane(const Bytes& block, uint32_t at, uint32_t j, uint32_t width,
                           const Spilling<uint32_t>& list, uint32_t kept) {
  uint32_t position = 8 * at;
  for (uint32_t from = 0; from < kept; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < kept ? list.get(k) : 0;
    const bool member = k < kept && kept_class(entry) == j;
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

/// Sign and raw bits of the coded classes join their symbols; by one warp.
__device__ void read_signs(const ClassComposition& c, const Bytes& block, uint32_t at,
                           const Spilling<uint32_t>& list, uint32_t kept, bool& bad) {
  uint32_t position = 8 * at;
  for (uint32_t from = 0; from < kept; from += warp_size) {
    const uint32_t k = from + lane_of();
    const uint32_t entry = k < kept ? list.get(k) : 0, j = kept_class(entry);
    const bool is_coded = k < kept && magnitude_coded(c, j);
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

template <ClassQuantizer Q>
__global__ void __launch_bounds__(threads, 1) decode_blocks(const __grid_constant__ Arguments a) {
  extern __shared__ __align__(16) char room[];
  char* next = room;
  Shared& s = *reinterpret_cast<Shared*>(carve(next, sizeof(Shared)));
  auto* buckets = reinterpret_cast<uint8_t*>(carve(next, a.layout.buckets));
  const Spilling<uint32_t> list{reinterpret_cast<uint32_t*>(carve(next, 4 * a.layout.kept_reach)),
                                a.kept_far + blockIdx.x * a.layout.kept_far, a.layout.kept_reach};
  auto* staged = reinterpret_cast<uint32_t*>(carve(next, a.layout.staged));
  const ClassComposition& c = a.composition;
  for (uint32_t i = threadIdx.x; i < sizeof(s.starts) / 4; i += threads)
    reinterpret_cast<uint32_t*>(s.starts)[i] = reinterpret_cast<const uint32_t*>(a.starts)[i];
  for (uint32_t i = threadIdx.x; i < 256 * c.plan.classes; i += threads)
    if (i % 256 < 1u << c.plan.width[i / 256]) s.points[i] = a.points[i];

  for (uint32_t b = blockIdx.x; b < a.count; b += gridDim.x) {
    const DecodeView view = a.blocks[b];
    __syncthreads();
    if (threadIdx.x < max_classes + 7) s.members[threadIdx.x] = 0;
    if (threadIdx.x == 0) s.kept = s.at = s.bad = 0;
    const uint32_t skipped = uint32_t(view.offset & 3), words = (skipped + view.bytes + 3) / 4;
    const uint32_t* from = a.bytes + view.offset / 4;
    const bool fits = 4 * words <= a.layout.staged;
    for (uint32_t w = threadIdx.x; fits && w < words; w += threads) staged[w] = from[w];
    __syncthreads();
    const Bytes block{reinterpret_cast<const uint8_t*>(fits ? staged : from) + skipped, view.bytes};
    if (view.bytes > 0 && warp_of() == 0) {
      uint32_t kept = 0, at = 0;
      bool bad = false;
      if (c.map != MapPacker::entropy) at = read_map(c, block, view.count, s, list, buckets, kept, bad);
      __syncwarp();
      const bool uses_rans = c.map_coded || c.magnitudes_coded != 0;
      if (uses_rans && !bad) {
        uint32_t length = 0, k = 0;
        for (bool more = true; more && k < 4; ++k) {
          const uint32_t byte = block.byte(at + k);
          length |= (byte & 127) << 7 * k;
          more = byte >> 7;
          bad |= more && k == 3;
        }
        at += k;
        bad |= at > view.bytes || length > view.bytes - (at < view.bytes ? at : view.bytes);
        if (!bad) decode_entropy(c, {block.data + at, length}, view.count, s, list, buckets, kept, bad);
        at += length;
      }
      bad = __any_sync(all_lanes, bad);
      if (lane_of() == 0) {
        s.kept = kept;
        s.at = at;
        s.bad = bad;
      }
    }
    __syncthreads();
    const uint32_t kept = s.kept;
    const bool listed = view.bytes > 0 && !s.bad;
    __syncthreads();  // before a warp finds more that is bad
    if (listed) {
      // Where planes and sign bits lie follows from how many elements each class has.
      uint32_t at = s.at, sign_bits = 0;
      bool bad = false;
      for (uint32_t j = 0; j < c.plan.classes; ++j) {
        const uint32_t width = c.plan.width[j], members = s.members[j];
        if (width == 0) continue;
        if (magnitude_coded(c, j)) {
          sign_bits += members * (1 + element::raw_magnitude_bits(width));
          continue;
        }
        const uint32_t bytes = bytes_of(members * width);
        bad |= bytes > view.bytes - at;
        if (bad) break;
        bad |= !block.padded(8 * at + members * width);
        if (warp_of() == 0) read_plane<Q>(block, at, j, width, list, kept);
        at += bytes;
      }
      if (!bad) bad |= at + bytes_of(sign_bits) != view.bytes || !block.padded(8 * at + sign_bits);
      if (!bad && warp_of() == 0) read_signs(c, block, at, list, kept, bad);
      if (bad) atomicOr(&s.bad, 1u);
    }
    __syncthreads();
    if (!s.bad) write_values(view, s, list, view.bytes > 0 ? kept : 0);
    if (threadIdx.x == 0) a.ok[b] = s.bad ? 0 : 1;
  }
}

template <ClassQuantizer Q>
void launch_as(const Arguments& arguments, const Stream& stream) {
  const auto kernel = decode_blocks<Q>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             int(arguments.layout.shared_bytes)),
        "asking for shared memory");
  kernel<<<arguments.layout.grid, threads, arguments.layout.shared_bytes, stream>>>(arguments);
  check_launch("decoding blocks");
}

}  // namespace

struct ClassDecodeRun::State {
  State(const ClassComposition& composition, std::span<const uint32_t> frequencies,
        std::span<const float> points)
      : composition_(composition), starts_(element::coding_tables), points_(point_count) {
    int device = 0;
    check(cudaGetDevice(&device), "asking for the device");
    check(cudaDeviceGetAttribute(&processors_, cudaDevAttrMultiProcessorCount, device),
          "asking for the device");
    check(cudaDeviceGetAttribute(&shared_most_, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "asking for shared memory");
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
    layout.grid = std::min(uint32_t(processors_), blocks);
    const uint64_t fixed = (sizeof(Shared) + 15) / 16 * 16 + layout.buckets + 4 * 16;
    if (fixed + 4096 > uint64_t(shared_most_))
      throw DeviceError("decoding blocks needs " + std::to_string(fixed + 4096) +
                        " bytes of shared memory, and the device has " + std::to_string(shared_most_));
    const uint64_t left = uint64_t(shared_most_) - fixed;
    const uint64_t staged = (bytes + 7) / 4 * 4;
    layout.staged = uint32_t(std::min(staged, left / 2 / 16 * 16));
    layout.kept_reach = uint32_t(std::min(n, (left - layout.staged) / 4));
    layout.kept_far = n - layout.kept_reach;
    layout.shared_bytes = uint32_t(fixed + layout.staged + 4 * layout.kept_reach);
    return layout;
  }

  ClassComposition composition_;
  int processors_ = 1, shared_most_ = 0;
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
