#include "lib/methods/dithering.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/passes.hpp"

namespace jsq {
namespace {

constexpr uint64_t block_elements = 65536;
constexpr uint32_t max_steps = 1u << 20;
constexpr int32_t smallest_exponent = -149;

size_t buckets_of(uint64_t bucket, size_t elements) {
  return bucket == 0 ? 0 : size_t((elements + bucket - 1) / bucket);
}

/// Stored form: grid, its numbers, bucket, and the tensor's scale where there are no buckets.
struct StoredDither {
  Grid grid;
  uint64_t bucket = 0;
  float scale = 0;
};

std::string write_parameters(const StoredDither& stored) {
  ByteWriter out;
  out.u8(uint8_t(stored.grid.kind));
  if (stored.grid.kind == GridKind::natural) {
    out.uvarint(uint64_t(stored.grid.exponents.lowest - smallest_exponent));
    out.uvarint(uint64_t(stored.grid.exponents.highest - smallest_exponent));
  } else {
    out.uvarint(stored.grid.steps);
  }
  if (stored.grid.kind == GridKind::uniform) out.uvarint(stored.grid.head_room);
  out.uvarint(stored.bucket);
  if (stored.bucket == 0) out.f32(stored.scale);
  return out.take();
}

StoredDither read_parameters(std::string_view bytes, std::string_view what) {
  StoredDither stored;
  ByteReader in(bytes, what);
  const uint8_t kind = in.u8();
  if (kind > uint8_t(GridKind::natural)) in.damaged("unknown grid " + std::to_string(kind));
  stored.grid.kind = GridKind(kind);
  if (stored.grid.kind == GridKind::natural) {
    stored.grid.exponents.lowest = int32_t(in.uvarint(uint64_t(127 - smallest_exponent))) + smallest_exponent;
    stored.grid.exponents.highest =
        int32_t(in.uvarint(uint64_t(127 - smallest_exponent))) + smallest_exponent;
    if (stored.grid.exponents.lowest > stored.grid.exponents.highest)
      in.damaged("impossible range of exponents");
  } else {
    stored.grid.steps = uint32_t(in.uvarint(stored.grid.kind == GridKind::uniform ? max_steps : 126));
    if (stored.grid.steps == 0) in.damaged("a grid without steps");
  }
  if (stored.grid.kind == GridKind::uniform) {
    stored.grid.head_room = uint32_t(in.uvarint(max_steps));
    if (stored.grid.head_room == 0 || uint64_t(stored.grid.head_room) * stored.grid.steps > max_steps)
      in.damaged("impossible head-room");
  }
  stored.bucket = in.uvarint(block_elements);
  if (stored.bucket == 0) {
    stored.scale = in.f32();
    if (!(stored.scale >= 0) || !std::isfinite(stored.scale))
      in.damaged("the scale is negative or not finite");
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

  std::string describe() const override {
    std::string text = std::string(name_) + ':';
    switch (stored_.grid.kind) {
      case GridKind::uniform:
        text += fmt::format("levels={}", stored_.grid.steps);
        break;
      case GridKind::exponential:
        text += fmt::format("levels={}", stored_.grid.steps);
        break;
      case GridKind::natural:
        text +=
            fmt::format("exponents={}..{}", stored_.grid.exponents.lowest, stored_.grid.exponents.highest);
        break;
    }
    if (stored_.grid.head_room > 1) text += fmt::format(",workers={}", stored_.grid.head_room);
    if (stored_.bucket) text += fmt::format(",bucket={}", stored_.bucket);
    return text;
  }

 private:
  std::string_view name_;
  StoredDither stored_;
};

}  // namespace

LevelRange Grid::range() const {
  int32_t last = 0;
  switch (kind) {
    case GridKind::uniform:
      last = int32_t(steps * head_room);
      break;
    case GridKind::exponential:
      last = int32_t(steps) + 1;
      break;
    case GridKind::natural:
      last = element::last_natural_level(exponents);
      break;
  }
  return {-last, last};
}

double Grid::quantize(std::span<const float> values, float scale, std::span<const float> uniforms,
                      std::span<int32_t> levels) const {
  switch (kind) {
    case GridKind::uniform:
      return cpu::uniform_levels(values, scale, float(steps), uniforms, levels);
    case GridKind::exponential:
      return cpu::exponential_levels(values, scale, int32_t(steps), uniforms, levels);
    case GridKind::natural:
      break;
  }
  if (scale == 1) return cpu::natural_levels(values, exponents, uniforms, levels);
  static thread_local std::vector<float> relative;
  relative.resize(values.size());
  for (size_t i = 0; i < values.size(); ++i) relative[i] = scale > 0 ? values[i] / scale : 0.0f;
  return double(scale) * double(scale) * cpu::natural_levels(relative, exponents, uniforms, levels);
}

void Grid::dequantize(std::span<const int32_t> levels, float scale, std::span<float> values) const {
  switch (kind) {
    case GridKind::uniform:
      cpu::uniform_values(levels, scale, float(steps), values);
      return;
    case GridKind::exponential:
      cpu::exponential_values(levels, scale, int32_t(steps), values);
      return;
    case GridKind::natural:
      break;
  }
  cpu::natural_values(levels, exponents, values);
  if (scale == 1) return;
  for (float& value : values) value *= scale;
}

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

std::span<const float> DitherScheme::prepared(size_t, std::span<const float> values,
                                              std::vector<float>&) const {
  return values;
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
          write_parameters({plan_.grid, plan_.bucket, plan_.bucket == 0 ? tensor_scales_[t] : 0.0f})};
}

void DitherScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                          std::span<float> decoded, BlockSums& sums) const {
  Scratch& s = scratch();
  const size_t n = values.size();
  const std::span<const float> coded = prepared(t, values, s.values);
  s.uniforms.resize(plan_.nearest ? 0 : n);
  if (!plan_.nearest)
    cpu::fill_uniforms(context_.stream, place.first, place.tensor, element::RandomPurpose::rounding,
                       s.uniforms);
  s.levels.resize(n);
  const std::span<const float> uniforms(s.uniforms);
  const std::span<int32_t> levels(s.levels);
  const size_t bucket = plan_.bucket ? size_t(plan_.bucket) : n;
  s.scales.clear();
  for (size_t at = 0; at < n; at += bucket) {
    const size_t count = std::min(bucket, n - at);
    const std::span<const float> part = coded.subspan(at, count);
    const float scale = plan_.bucket ? scale_of(plan_.norm, part) : tensor_scales_[t];
    if (plan_.bucket) s.scales.push_back(scale);
    const std::span<const float> part_uniforms = plan_.nearest ? uniforms : uniforms.subspan(at, count);
    sums.expected_error += plan_.grid.quantize(part, scale, part_uniforms, levels.subspan(at, count));
    plan_.grid.dequantize(levels.subspan(at, count), scale, decoded.subspan(at, count));
  }
  const double scale_bits =
      double(plan_.bucket ? s.scales.size() : size_t(place.first == 0)) * plan_.nominal_scale_bits;
  if (plan_.nominal_bits > 0)
    sums.nominal_bits += uint64_t(std::ceil(plan_.nominal_bits * double(n) + scale_bits));
  if (std::all_of(levels.begin(), levels.end(), [](int32_t level) { return level == 0; })) return;
  const size_t before = out.size();
  write_level_block(s.scales, levels, plan_.grid.range(), plan_.packer, out);
  sums.entropy_bits += level_entropy_bits(levels) + 32.0 * double(s.scales.size());
  if (plan_.nominal_bits == 0)
    sums.nominal_bits += 8 * (out.size() - before - 1 - 4 * s.scales.size()) + uint64_t(scale_bits);
}

std::unique_ptr<MethodDecoder> make_dither_decoder(std::string_view name, std::string_view parameters,
                                                   std::string_view what) {
  return std::make_unique<DitherDecoder>(name, parameters, what);
}

}  // namespace jsq
