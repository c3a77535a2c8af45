// One thread block decodes one class block. Its bytes are staged in shared memory, so that the file is read
// once and whole words at a time. The entropy coder is one chain of steps, which one warp goes along and does
// nothing else: the others list the kept elements of the tokens that it has left behind, and prepare and
// deliver magnitudes. Then all warps write the values, zeros included, run by run. Whatever is damaged is
// noticed before it is used, and the block is reported as not sound.
#include <algorithm>

#include "kernels/cuda/class_decode.hpp"
#include "kernels/cuda/class_drain.cuh"
#include "kernels/cuda/class_maps.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/memory.hpp"

namespace jsq::cuda {
namespace {

using namespace class_decoding;

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
