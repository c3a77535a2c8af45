// What a sparse method stores beside its blocks, and decoders of both, on the processor and on a device.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cuda/sparse.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/class_device_decoder.hpp"
#include "lib/methods/sparse.hpp"
#include "lib/methods/sparse_values.hpp"
#include "lib/packers/level_block.hpp"
#include "lib/packers/level_device.hpp"

namespace jsq {

using cpu::BitReader;
using element::ClassQuantizer;

namespace {

/// In the options of the method that the frame names; AC-SGD has none that says its levels.
std::string values_text(std::string_view name, SparseValues values, uint32_t width, uint32_t steps) {
  switch (values) {
    case SparseValues::f32:
      return "values=f32";
    case SparseValues::f16:
      return "values=f16";
    case SparseValues::bf16:
      return "values=bf16";
    case SparseValues::quantized:
      return fmt::format("values=q{}", width);
    case SparseValues::levels:
      break;
  }
  return name == "qlsgd" ? fmt::format("bits={}", std::bit_width(steps) + 1) : "";
}

/// Stored form (SPEC.md, "Sparse parameters").
struct StoredSparse {
  SparseValues values = SparseValues::f32;
  bool random = false;
  uint32_t shift = 0, base = 0, bits = 0;  ///< exact values
  uint32_t steps = 1;                      ///< levels
  SubsetCut cut;
  float gain = 1;
  ClassCoder coder;
};

void read_quantizer(ByteReader& in, ClassCoder& coder) {
  const uint8_t width = in.u8();
  if (width < 1 || width > 8) in.damaged("code words of " + std::to_string(width) + " bits");
  set_classes(coder, width);
  const uint8_t quantizer = in.u8();
  if ((quantizer & 15) > 3 || quantizer > 31) in.damaged("unknown quantizer " + std::to_string(quantizer));
  coder.plan.quantizer = ClassQuantizer(quantizer & 15);
  coder.plan.stochastic = quantizer & 16;
  if (coder.plan.quantizer == ClassQuantizer::sym && width == 1) in.damaged("width 1 with quantizer sym");
  const float low = scale_has_low(coder.plan.quantizer) ? in.f32() : 0.0f;
  const float high = in.f32();
  if (!(low >= 0 && high >= low && std::isfinite(high))) in.damaged("impossible magnitude range");
  coder.plan.scale[1] = element::make_class_scale(coder.plan.quantizer, width, low, high);
}

void read_map_coder(ByteReader& in, ClassCoder& coder) {
  const uint8_t map = in.u8();
  if ((map & 15) >= map_packers || (map & 15) == uint8_t(MapPacker::raw) || map >> 4 > 4)
    in.damaged("unknown map packer " + std::to_string(map));
  coder.map = MapPacker(map & 15);
  coder.lanes = 1u << (map >> 4);
  const uint8_t coded = in.u8();
  if (coded > 3 || coded == 2 || (coded && element::coded_magnitude_bits(coder.plan.width[1]) == 0))
    in.damaged("impossible coding of magnitudes");
  coder.model.map_coded = coder.map == MapPacker::entropy;
  coder.model.magnitudes_coded = coded & 1;
  coder.model.magnitudes_by_activity = coded >> 1;
  const std::string_view tables = in.raw(in.remaining());
  BitReader bits(tables);
  if (!coder.model.read(bits) || !bits.align() || bits.consumed() != tables.size())
    in.damaged("impossible entropy tables");
  coder.prepare_decoding();
}

StoredSparse read_parameters(std::string_view bytes, std::string_view what) {
  StoredSparse stored;
  ByteReader in(bytes, what);
  const uint8_t head = in.u8();
  if ((head & 15) > uint8_t(SparseValues::levels) || head > 31)
    in.damaged("unknown values " + std::to_string(head));
  stored.values = SparseValues(head & 15);
  stored.random = head & 16;
  set_signs(stored.coder);
  if (is_exact(stored.values)) {
    stored.shift = in.u8();
    if (stored.shift > (stored.values == SparseValues::f32 ? 16u : 0u)) in.damaged("impossible shift");
    stored.base = uint32_t(in.uvarint(largest_key(stored.values) >> stored.shift));
    stored.bits = in.u8();
    if (stored.bits > 31) in.damaged("magnitudes of more than 31 bits");
  } else if (stored.values == SparseValues::quantized) {
    if (stored.random) in.damaged("code words at random positions");
    read_quantizer(in, stored.coder);
  } else {
    stored.steps = uint32_t(in.uvarint(most_sparse_steps));
    if (stored.steps == 0) in.damaged("a grid without steps");
  }
  if (!stored.random) {
    read_map_coder(in, stored.coder);
    return stored;
  }
  stored.cut.word = in.u32();
  stored.cut.tensor = uint32_t(in.uvarint(UINT32_MAX));
  stored.cut.element = in.uvarint();
  if (is_exact(stored.values)) {
    stored.gain = in.f32();
    if (!(stored.gain >= 1) || !std::isfinite(stored.gain)) in.damaged("impossible scale of the values");
  }
  in.expect_end();
  return stored;
}

/// Blocks on the device: heads are read here, the rest there.
class SparseDeviceDecoder final : public DeviceBlockDecoder {
 public:
  /// \throws Error backend_unavailable.
  explicit SparseDeviceDecoder(const StoredSparse& stored) : stored_(stored) {
    cuda::SparseFormat format;
    format.random = stored.random;
    format.subset = stored.cut;
    if (stored.values == SparseValues::levels) format.steps = stored.steps;
    format.format = stored_format(stored.values);
    format.shift = stored.shift;
    format.base = stored.base;
    format.bits = stored.bits;
    format.gain = stored.gain;
    const ClassTables tables = stored.random ? ClassTables() : device_tables(stored.coder);
    decoder_ = on_device([&] {
      return cuda::make_sparse_decoder(format, device_composition(stored.coder), tables.frequencies,
                                       tables.points);
    });
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<cuda::SparseDecoder::Block> heads;
    for (const Block& block : blocks) {
      cuda::SparseDecoder::Block& head = heads.emplace_back();
      head.offset = block.offset;
      head.bytes = block.bytes;
      head.first = block.first;
      head.count = block.count;
      head.seed = block.place.seed;
      head.first_element = block.place.first;
      head.tensor = block.place.tensor;
      if (block.bytes == 0) continue;
      try {
        read_head(bytes.substr(size_t(block.offset), size_t(block.bytes)), head);
      } catch (const Error&) {
        head.sound = false;  // the processor's decoder tells what is wrong
      }
    }
    on_device([&] { decoder_->decode(bytes, heads, values, sound); });
  }

 private:
  void read_head(std::string_view block, cuda::SparseDecoder::Block& head) const {
    ByteReader in(block, "the block");
    const auto at = [&] { return uint32_t(block.size() - in.remaining()); };
    const bool levels = stored_.values == SparseValues::levels;
    if (!stored_.random) {
      if (levels) in.magnitude("the scale");
      head.map_bytes = uint32_t(in.string().size());
      head.map_at = at() - head.map_bytes;
      head.sound = head.map_bytes > 0;
      head.plane_at = at();
    }
    if (!levels) return;
    const auto last = int32_t(stored_.steps);
    if (stored_.random)
      read_level_head(block, {-last, last}, 1, head.levels);
    else
      read_level_head(block.substr(at()), {0, last - 1}, 0, head.levels);
    head.sound = head.sound && head.levels.sound;
    head.levels.offset = head.offset;
    head.levels.bytes = head.bytes;
    if (stored_.random) return;
    head.levels.levels_at += at();
    head.levels.scales_at = 0;
  }

  StoredSparse stored_;
  std::unique_ptr<cuda::SparseDecoder> decoder_;
};

class SparseDecoder final : public MethodDecoder {
 public:
  SparseDecoder(std::string_view name, std::string_view parameters, std::string_view what)
      : name_(name), stored_(read_parameters(parameters, what)) {}

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    if (stored_.random) {
      std::fill(values.begin(), values.end(), 0.0f);
      static thread_local std::vector<uint32_t> kept;
      list_subset(stored_.cut, place.seed, place.tensor, place.first, values.size(), kept);
      if (stored_.values == SparseValues::levels)
        decode_random_levels(kept, block, values, what);
      else
        decode_random_exact(kept, block, values, what);
      return;
    }
    const StoredBlock alone{place, block, values, what};
    decode_together({&alone, 1});
  }

  size_t blocks_together() const override { return stored_.random ? 1 : stored_.coder.decoded_together(); }
  void decode_together(std::span<const StoredBlock> blocks) const override {
    if (stored_.random) return MethodDecoder::decode_together(blocks);
    std::vector<ClassBlock> maps;
    if (stored_.values == SparseValues::quantized) {
      for (const StoredBlock& block : blocks) maps.push_back({block.bytes, block.values, block.what});
      stored_.coder.decode(maps);
      return;
    }
    const bool levels = stored_.values == SparseValues::levels;
    std::vector<ByteReader> in;
    std::vector<float> scales;
    for (const StoredBlock& block : blocks) {
      in.emplace_back(block.bytes, block.what);
      scales.push_back(levels ? in.back().magnitude("the scale") : 0.0f);
      maps.push_back({in.back().string(), block.values, block.what});
    }
    std::vector<std::span<const uint32_t> > kept(blocks.size());
    stored_.coder.decode(maps, kept);
    for (size_t k = 0; k < blocks.size(); ++k) {
      if (levels)
        decode_levels(in[k], scales[k], kept[k], blocks[k].values, blocks[k].what);
      else
        decode_exact(in[k], kept[k], blocks[k].values);
    }
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    if (stored_.values == SparseValues::quantized) return std::make_unique<ClassDeviceDecoder>(stored_.coder);
    return std::make_unique<SparseDeviceDecoder>(stored_);
  }

  std::string describe() const override {
    std::string options = values_text(name_, stored_.values, stored_.coder.plan.width[1], stored_.steps);
    if (!stored_.random)
      options += (options.empty() ? "map=" : ",map=") +
                 std::string(choice_name(stored_.coder.map, sparse_map_names));
    return std::string(name_) + (options.empty() ? "" : ":") + options;
  }

 private:
  float exact_value(BitReader& plane, bool negative, const ByteReader& in) const {
    const uint64_t key = (uint64_t(stored_.base) + plane.get(stored_.bits)) << stored_.shift;
    if (key > largest_key(stored_.values)) in.damaged("a value is not finite");
    return value_of_key(stored_.values, uint32_t(key), negative);
  }

  void decode_exact(ByteReader& in, std::span<const uint32_t> kept, std::span<float> values) const {
    const std::string_view bytes = in.raw(in.remaining());
    BitReader plane(bytes);
    for (const uint32_t i : kept) {
      float& value = values[i];
      value = exact_value(plane, value < 0, in);
      if (value == 0) in.damaged("a kept element is zero");
    }
    if (!plane.align() || plane.overrun() || plane.consumed() != bytes.size())
      in.damaged("the values are truncated, too many, or their padding is not zero");
  }

  void decode_levels(ByteReader& in, float scale, std::span<const uint32_t> kept, std::span<float> values,
                     std::string_view what) const {
    static thread_local std::vector<int32_t> levels;
    static thread_local std::vector<float> level_values;
    levels.resize(kept.size());
    level_values.resize(levels.size());
    read_level_block(in.raw(in.remaining()), {0, int32_t(stored_.steps) - 1}, {}, levels, what);
    for (size_t k = 0; k < kept.size(); ++k)
      levels[k] = values[kept[k]] < 0 ? -(levels[k] + 1) : levels[k] + 1;
    cpu::uniform_values(levels, scale, float(stored_.steps), level_values);
    for (size_t k = 0; k < kept.size(); ++k) values[kept[k]] = level_values[k];
  }

  void decode_random_exact(std::span<const uint32_t> kept, std::string_view block, std::span<float> values,
                           std::string_view what) const {
    ByteReader in(block, what);
    const std::string_view bytes = in.raw((kept.size() * (1 + stored_.bits) + 7) / 8);
    in.expect_end();
    BitReader plane(bytes);
    for (uint32_t i : kept) {
      const bool negative = plane.bit();
      const float value = exact_value(plane, negative, in);
      if (value == 0 && negative) in.damaged("a zero is negative");
      values[i] = finite(value * stored_.gain);
    }
    if (!plane.align()) in.damaged("padding bits are not zero");
  }

  void decode_random_levels(std::span<const uint32_t> kept, std::string_view block, std::span<float> values,
                            std::string_view what) const {
    static thread_local std::vector<int32_t> levels;
    static thread_local std::vector<float> level_values;
    levels.resize(kept.size());
    level_values.resize(kept.size());
    float scale = 0;
    const auto last = int32_t(stored_.steps);
    read_level_block(block, {-last, last}, std::span(&scale, 1), levels, what);
    cpu::uniform_values(levels, scale, float(stored_.steps), level_values);
    for (size_t k = 0; k < kept.size(); ++k) values[kept[k]] = level_values[k];
  }

  std::string_view name_;
  StoredSparse stored_;
};

}  // namespace

std::unique_ptr<MethodDecoder> make_sparse_decoder(std::string_view name, std::string_view parameters,
                                                   std::string_view what) {
  return std::make_unique<SparseDecoder>(name, parameters, what);
}

}  // namespace jsq
