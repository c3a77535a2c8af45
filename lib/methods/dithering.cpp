#include "lib/methods/dithering.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/level_device_blocks.hpp"
#include "lib/methods/level_device_decoder.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"
#include "lib/packers/level_device.hpp"

namespace jsq {
namespace {

constexpr uint64_t block_elements = 65536;
constexpr uint32_t max_steps = 1u << 20;
constexpr int32_t smallest_exponent = -149, largest_exponent = 127;

size_t buckets_of(uint64_t bucket, size_t elements) {
  return bucket == 0 ? 0 : size_t((elements + bucket - 1) / bucket);
}

bool has_workers(GridKind kind) {
  return kind == GridKind::uniform || kind == GridKind::uniform_undivided ||
         kind == GridKind::shared_exponential;
}

/// Stored form: grid, its numbers, bucket, and the tensor's scale where there are no buckets.
struct StoredDither {
  Grid grid;
  uint64_t bucket = 0;
  float scale = 0;
};

std::string write_parameters(const StoredDither& stored) {
  const Grid& grid = stored.grid;
  ByteWriter out;
  out.u8(uint8_t(grid.kind));
  if (grid.kind == GridKind::natural) {
    out.uvarint(uint64_t(grid.exponents.lowest - smallest_exponent));
    out.uvarint(uint64_t(grid.exponents.highest - smallest_exponent));
    return out.take();
  }
  out.uvarint(grid.steps);
  if (has_workers(grid.kind)) out.uvarint(grid.workers);
  out.uvarint(stored.bucket);
  if (stored.bucket == 0) out.f32(stored.scale);
  return out.take();
}

element::ExponentRange read_exponents(ByteReader& in) {
  constexpr uint64_t most = uint64_t(largest_exponent - smallest_exponent);
  element::ExponentRange range;
  range.lowest = int32_t(in.uvarint(most)) + smallest_exponent;
  range.highest = int32_t(in.uvarint(most)) + smallest_exponent;
  if (range.lowest > range.highest) in.damaged("impossible range of exponents");
  return range;
}

void read_steps(ByteReader& in, Grid& grid) {
  const bool is_exponential = grid.kind == GridKind::exponential || grid.kind == GridKind::exponential_pairs;
  grid.steps = uint32_t(in.uvarint(is_exponential                              ? 126
                                   : grid.kind == GridKind::shared_exponential ? 127
                                                                               : max_steps));
  if (grid.steps == 0 && !is_exponential) in.damaged("a grid without steps");
  if (!has_workers(grid.kind)) return;
  grid.workers = uint32_t(in.uvarint(max_steps));
  if (grid.workers == 0 ||
      (grid.kind == GridKind::uniform && uint64_t(grid.workers) * grid.steps > max_steps))
    in.damaged("impossible number of workers");
}

StoredDither read_parameters(std::string_view bytes, std::string_view what) {
  StoredDither stored;
  ByteReader in(bytes, what);
  const uint8_t kind = in.u8();
  if (kind > uint8_t(GridKind::shared_exponential)) in.damaged("unknown grid " + std::to_string(kind));
  stored.grid.kind = GridKind(kind);
  if (stored.grid.kind == GridKind::natural) {
    stored.grid.exponents = read_exponents(in);
    in.expect_end();
    return stored;
  }
  read_steps(in, stored.grid);
  stored.bucket = in.uvarint(block_elements);
  if (stored.bucket == 0) {
    stored.scale = in.magnitude("the scale");
  }
  in.expect_end();
  return stored;
}

/// Buffers of one block, reused by a thread.
struct Scratch {
  std::vector<float> uniforms, values, scales;
  std::vector<int32_t> levels;
};
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

void prefetch(std::span<const float> values) {
  constexpr size_t line = 64 / sizeof(float);
  for (size_t i = 0; i < values.size(); i += line) __builtin_prefetch(values.data() + i);
}

cuda::LevelTensor level_tensor(const Grid& grid, float scale) {
  cuda::LevelTensor tensor;
  tensor.rule = grid.rule();
  tensor.low = grid.range().low;
  tensor.symbols = uint32_t(grid.range().symbols());
  tensor.scale = scale;
  return tensor;
}

class DitherDecoder final : public MethodDecoder {
 public:
  DitherDecoder(std::string_view name, std::string_view parameters, std::string_view what)
      : name_(name), stored_(read_parameters(parameters, what)) {}

  void decode_block(const BlockPlace&, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    Scratch& s = scratch();
    s.scales.resize(buckets_of(stored_.bucket, values.size()));
    s.levels.resize(values.size());
    read_level_block(block, stored_.grid.range(), s.scales, s.levels, what);
    if (stored_.bucket == 0) {
      stored_.grid.dequantize(s.levels, stored_.scale, values);
      return;
    }
    for (size_t b = 0, at = 0; at < values.size(); ++b, at += size_t(stored_.bucket)) {
      const size_t count = std::min(values.size() - at, size_t(stored_.bucket));
      stored_.grid.dequantize(std::span<const int32_t>(s.levels).subspan(at, count), s.scales[b],
                              values.subspan(at, count));
    }
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<LevelDeviceDecoder>(
        level_tensor(stored_.grid, stored_.scale), uint32_t(stored_.bucket),
        [stored = stored_](std::string_view block, cuda::LevelDecoder::Block& head) {
          read_level_head(block, stored.grid.range(), buckets_of(stored.bucket, head.count), head);
        });
  }

  /// In the options of the method that the frame names.
  std::string describe() const override {
    const Grid& grid = stored_.grid;
    std::string text;
    const auto add = [&](const std::string& option) { text += (text.empty() ? ":" : ",") + option; };
    const bool counts_bits = name_ == "gqsgd-std" || name_ == "gqsgd-exp";
    if (name_ == "natural") {
      const int32_t last = element::last_natural_level(grid.exponents);
      const bool paper = grid.exponents.lowest == -126 && grid.exponents.highest == 127;
      add(paper ? "bits=paper" : fmt::format("bits={}", std::bit_width(uint32_t(last))));
    } else if (counts_bits) {
      add(fmt::format("bits={}",
                      std::bit_width(uint32_t(grid.range().high)) + (name_ == "gqsgd-std" ? 1 : 0)));
    } else if (name_ != "terngrad") {
      const bool exponential = grid.kind == GridKind::exponential || grid.kind == GridKind::exponential_pairs;
      add(fmt::format("levels={}", grid.steps + (exponential ? 1 : 0)));
    }
    if (grid.kind == GridKind::exponential_pairs) add("zero=off");
    if (counts_bits && grid.workers > 1) add(fmt::format("workers={}", grid.workers));
    if (grid.kind == GridKind::uniform_undivided) add("variant=code");
    if (stored_.bucket) add(fmt::format("bucket={}", stored_.bucket));
    return std::string(name_) + text;
  }

 private:
  std::string_view name_;
  StoredDither stored_;
};

}  // namespace

float stored_scale(double norm) {
  return norm >= double(FLT_MAX) ? FLT_MAX : float(norm);
}

float scale_of(ScaleNorm norm, std::span<const float> values) {
  switch (norm) {
    case ScaleNorm::none:
      return 1;
    case ScaleNorm::linf:
      return cpu::max_magnitude(values);
    case ScaleNorm::l2:
      return stored_scale(std::sqrt(cpu::sum_squares(values)));
  }
  return 1;
}

Grid DitherScheme::grid_of(size_t) const {
  return plan_.grid;
}

float DitherScheme::clipping_limit(size_t) const {
  return HUGE_VALF;
}

float DitherScheme::tensor_scale(size_t t) const {
  if (plan_.norm == ScaleNorm::none) return 1;
  if (plan_.norm == ScaleNorm::l2) return stored_scale(std::sqrt(pool_.statistics(t).energy));
  return max_magnitude(pool_, t);
}

void DitherScheme::prepare_scales() {
  if (plan_.bucket > 0 || !tensor_scales_.empty()) return;
  for (size_t t = 0; t < pool_.tensors().size(); ++t) tensor_scales_.push_back(tensor_scale(t));
}

StoredSet DitherScheme::stored_set(size_t t) const {
  return {wire_id_,
          write_parameters({grid_of(t), plan_.bucket, plan_.bucket == 0 ? tensor_scales_[t] : 0.0f})};
}

double DitherScheme::scale_bits(uint64_t first, size_t n) const {
  return plan_.nominal_scale_bits * double(plan_.bucket ? buckets_of(plan_.bucket, n) : size_t(first == 0));
}

void DitherScheme::add_nominal_bits(uint64_t first, size_t n, BlockSums& sums) const {
  if (plan_.nominal_bits > 0)
    sums.nominal_bits += uint64_t(std::ceil(plan_.nominal_bits * double(n) + scale_bits(first, n)));
}

void DitherScheme::add_packed_bits(uint64_t first, size_t n, size_t bytes, double entropy_bits,
                                   BlockSums& sums) const {
  const size_t scales = buckets_of(plan_.bucket, n);
  sums.entropy_bits += entropy_bits + 32.0 * double(scales);
  if (plan_.nominal_bits == 0)
    sums.nominal_bits += 8 * (bytes - 1 - 4 * scales) + uint64_t(scale_bits(first, n));
}

bool DitherScheme::fixed_alone(size_t t) const {
  const Grid grid = grid_of(t);
  // A uniform grid takes what is above its scale as the scale, which is what clipping to the scale does.
  const bool clips = clipping_limit(t) < max_magnitude(pool_, t) &&
                     !(grid.kind == GridKind::uniform && tensor_scales_[t] <= clipping_limit(t));
  return plan_.packer == LevelPacker::fixed && grid.has_zero() && !clips && FixedBlock::suits(grid.range());
}

void DitherScheme::encode_fixed(size_t t, const BlockPlace& place, std::span<const float> values,
                                std::string& out, BlockSums& sums) const {
  constexpr size_t tile = 1024;  // values, random numbers and levels stay in the first cache
  static thread_local std::vector<float> uniforms(tile);
  static thread_local std::vector<uint32_t> words(tile);
  static thread_local std::vector<int32_t> tile_levels(tile);
  const size_t n = values.size(), before = out.size();
  const size_t bucket = plan_.bucket ? size_t(plan_.bucket) : n;
  const Grid grid = grid_of(t);
  const bool by_words = !plan_.nearest && grid.takes_words();
  add_nominal_bits(place.first, n, sums);
  FixedBlock block(buckets_of(plan_.bucket, n), n, grid.range(), out);
  float scale = plan_.bucket ? 0 : tensor_scales_[t];
  for (size_t at = 0; at < n; at += tile) {
    const size_t count = std::min(tile, n - at);
    const std::span<int32_t> levels = std::span(tile_levels).first(count);
    // The next tile comes from memory while numbers are drawn for this one.
    if (at + count < n) prefetch(values.subspan(at + count, std::min(tile, n - at - count)));
    if (by_words) {
      cpu::fill_words(context_.stream, place.first + at, place.tensor, element::RandomPurpose::rounding,
                      std::span(words).first(count));
      grid.quantize_by_words(values.subspan(at, count), std::span<const uint32_t>(words).first(count),
                             levels);
      block.add(levels);
      continue;
    }
    if (!plan_.nearest)
      cpu::fill_uniforms(context_.stream, place.first + at, place.tensor, element::RandomPurpose::rounding,
                         std::span(uniforms).first(count));
    for (size_t done = 0, size = 0; done < count; done += size) {
      const size_t of_bucket = (at + done) % bucket;
      size = std::min(count - done, bucket - of_bucket);
      if (plan_.bucket && of_bucket == 0) {
        scale = scale_of(plan_.norm, values.subspan(at + done, std::min(bucket, n - at - done)));
        block.set_scale((at + done) / bucket, scale);
      }
      std::span<const float> drawn;
      if (!plan_.nearest) drawn = std::span<const float>(uniforms).subspan(done, size);
      grid.quantize(values.subspan(at + done, size), scale, drawn, levels.subspan(done, size),
                    cpu::Expected::nothing);
    }
    block.add(levels);
  }
  if (block.is_zero())
    out.resize(before);
  else
    add_packed_bits(place.first, n, out.size() - before, 0, sums);
}

void DitherScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                          std::span<float> decoded, BlockSums& sums) const {
  const bool measured = !decoded.empty();
  if (!measured && fixed_alone(t)) return encode_fixed(t, place, values, out, sums);
  Scratch& s = scratch();
  const size_t n = values.size();
  add_nominal_bits(place.first, n, sums);
  if (cpu::max_magnitude(values) == 0) {
    std::fill(decoded.begin(), decoded.end(), 0.0f);
    return;
  }
  const float limit = clipping_limit(t);
  std::span<const float> coded = values;
  if (!std::isinf(limit)) {
    s.values.resize(n);
    for (size_t i = 0; i < n; ++i) s.values[i] = std::clamp(values[i], -limit, limit);
    coded = s.values;
  }
  s.uniforms.resize(plan_.nearest ? 0 : n);
  if (!plan_.nearest)
    cpu::fill_uniforms(context_.stream, place.first, place.tensor, element::RandomPurpose::rounding,
                       s.uniforms);
  s.levels.resize(n);
  const std::span<const float> uniforms(s.uniforms);
  const std::span<int32_t> levels(s.levels);
  const size_t bucket = plan_.bucket ? size_t(plan_.bucket) : n;
  const Grid grid = grid_of(t);
  double expected_error = 0;
  s.scales.clear();
  for (size_t at = 0; at < n; at += bucket) {
    const size_t count = std::min(bucket, n - at);
    const std::span<const float> part = coded.subspan(at, count);
    const float scale = plan_.bucket ? scale_of(plan_.norm, part) : tensor_scales_[t];
    if (plan_.bucket) s.scales.push_back(scale);
    const std::span<const float> part_uniforms = plan_.nearest ? uniforms : uniforms.subspan(at, count);
    expected_error += grid.quantize(part, scale, part_uniforms, levels.subspan(at, count),
                                    measured ? cpu::Expected::error : cpu::Expected::nothing);
    if (measured) grid.dequantize(levels.subspan(at, count), scale, decoded.subspan(at, count));
  }
  if (measured && coded.data() != values.data())
    expected_error += cpu::error_sums(values, coded).squared_error;
  if (!deterministic()) sums.expected_error += expected_error;
  if (grid.has_zero() && std::all_of(levels.begin(), levels.end(), [](int32_t level) { return level == 0; }))
    return;
  const size_t before = out.size();
  const double entropy_bits = write_level_block(s.scales, levels, grid.range(), plan_.packer, out);
  add_packed_bits(place.first, n, out.size() - before, entropy_bits, sums);
}

std::unique_ptr<DeviceBlocks> DitherScheme::encode_on_device(const TensorPool& pool) const {
  cuda::LevelPlan plan;
  std::vector<Grid> grids;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    grids.push_back(grid_of(t));
    plan.tensors.push_back(level_tensor(grids[t], plan_.bucket ? 0.0f : tensor_scales_[t]));
    plan.tensors.back().limit = clipping_limit(t);
  }
  plan.bucket = uint32_t(plan_.bucket);
  plan.norm = plan_.norm == ScaleNorm::l2 ? cuda::BucketNorm::l2 : cuda::BucketNorm::linf;
  plan.nearest = plan_.nearest;
  plan.count_gaps = !plan_.packer || plan_.packer == LevelPacker::elias_sparse;
  plan.stream = context_.stream;
  const auto choose = [this, grids = std::move(grids), histogram = LevelHistogram()](
                          const PoolBlock& block, const cuda::LevelSums& found,
                          std::span<const uint32_t> counts, BlockSums& sums) mutable {
    const auto& [t, first, n] = block;
    cuda::LevelLayout empty;
    empty.empty = true;
    if (found.max_key != 0) sums = error_block_sums(found);
    add_nominal_bits(first, n, sums);
    if (found.max_key == 0) return empty;
    if (deterministic())
      sums.expected_error = found.other_error;
    else
      sums.expected_error =
          std::isinf(clipping_limit(t)) ? found.expected_error : found.expected_error + found.other_error;
    if (grids[t].has_zero() && found.nonzeros == 0) return empty;
    const LevelRange range = grids[t].range();
    histogram.assign(range.low, counts);
    sums.entropy_bits = histogram.entropy_bits();
    return level_layout(histogram, range, plan_.packer, found.gap_bits, buckets_of(plan_.bucket, n));
  };
  const auto finish = [this](const PoolBlock& block, size_t bytes, BlockSums& sums) {
    const double entropy_bits = std::exchange(sums.entropy_bits, 0.0);
    add_packed_bits(block.first, block.count, bytes, entropy_bits, sums);
  };
  return std::make_unique<LevelDeviceBlocks>(pool, 16, std::move(plan), choose, finish);
}

std::optional<LevelPacker> read_coder(const OptionReader& read, bool has_three_levels) {
  if (read.is("coder", "auto")) return std::nullopt;
  for (const auto& [name, packer] : level_packer_names)
    if (read.is("coder", name) && (packer != LevelPacker::base243 || has_three_levels)) return packer;
  read.bad("coder", has_three_levels ? "auto, fixed, base243, elias-sparse, elias-dense or entropy"
                                     : "auto, fixed, elias-sparse, elias-dense or entropy");
}

std::unique_ptr<MethodDecoder> make_dither_decoder(std::string_view name, std::string_view parameters,
                                                   std::string_view what) {
  return std::make_unique<DitherDecoder>(name, parameters, what);
}

}  // namespace jsq
