#include "lib/methods/jointsq_parameters.hpp"

#include <bit>
#include <cmath>

#include "lib/allocators/allocator.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/class_device_decoder.hpp"
#include "lib/methods/options.hpp"

namespace jsq {

using element::ClassQuantizer;

namespace {

bool scale_has_low(ClassQuantizer quantizer) {
  return quantizer == ClassQuantizer::cell || quantizer == ClassQuantizer::offmag;
}

JointSqParameters read_parameters(std::string_view bytes, std::string_view what) {
  JointSqParameters stored;
  ClassCoder& coder = stored.coder;
  ByteReader in(bytes, what);
  const uint16_t width_mask = in.u16();
  if (width_mask == 0 || width_mask >= (1u << 9)) in.damaged("impossible set of widths");
  coder.plan.classes = 0;
  for (uint32_t w = 0; w <= 8; ++w)
    if (width_mask >> w & 1) {
      coder.model.width[coder.plan.classes] = uint8_t(w);
      coder.plan.width[coder.plan.classes++] = w;
      stored.widths.push_back(w);
    }
  const uint8_t quantizer = in.u8();
  if ((quantizer & 15) > 3 || quantizer > 31) in.damaged("unknown quantizer " + std::to_string(quantizer));
  coder.plan.quantizer = ClassQuantizer(quantizer & 15);
  coder.plan.stochastic = quantizer & 16;
  if (coder.plan.quantizer == ClassQuantizer::sym && (width_mask & 2))
    in.damaged("width 1 with quantizer sym");
  const uint8_t map = in.u8();
  if ((map & 15) > 3 || map >> 4 > 4) in.damaged("unknown class map packer " + std::to_string(map));
  coder.map = MapPacker(map & 15);
  if ((coder.map == MapPacker::bitmap || coder.map == MapPacker::rice) &&
      (stored.widths[0] != 0 || stored.widths.size() < 2))
    in.damaged("a map of kept elements without a class of width 0 beside another");
  coder.lanes = 1u << (map >> 4);
  coder.model.classes = coder.plan.classes;
  coder.model.map_coded = coder.map == MapPacker::entropy;
  coder.model.magnitudes_coded = in.u8();
  coder.model.magnitudes_by_activity = in.u8();
  const uint32_t classes_with_codes = (1u << (coder.plan.classes - 1)) - 1;
  if ((coder.model.magnitudes_coded & ~classes_with_codes) ||
      (coder.model.magnitudes_by_activity & ~coder.model.magnitudes_coded))
    in.damaged("entropy-coded magnitudes of a class that does not exist");
  for (uint32_t j = 1; j < coder.plan.classes; ++j)
    if ((coder.model.magnitudes_coded >> (j - 1) & 1) &&
        element::coded_magnitude_bits(coder.plan.width[j]) == 0)
      in.damaged("entropy-coded magnitudes of a class that has none");
  stored.provenance = in.u8();
  if ((stored.provenance & 15) > 2 || stored.provenance >> 4 > 2) in.damaged("unknown allocator");
  const uint16_t present = in.u16();
  if (present >> coder.plan.classes) in.damaged("a present class that does not exist");
  for (uint32_t j = 0; j < coder.plan.classes; ++j) {
    float low = 0, high = 0;
    if ((present >> j & 1) && coder.plan.width[j] > 0) {
      if (scale_has_low(coder.plan.quantizer)) low = in.f32();
      high = in.f32();
      if (!(low >= 0 && high >= low && std::isfinite(high)))
        in.damaged("impossible magnitude range of a class");
    }
    if (coder.plan.width[j] > 0)
      coder.plan.scale[j] = element::make_class_scale(coder.plan.quantizer, coder.plan.width[j], low, high);
  }
  const std::string_view tables = in.raw(in.remaining());
  cpu::BitReader bits(tables);
  if (!coder.model.read(bits) || !bits.align() || bits.consumed() != tables.size())
    in.damaged("impossible entropy tables");
  return stored;
}

class JointSqDecoder final : public MethodDecoder {
 public:
  JointSqDecoder(std::string_view parameters, std::string_view what)
      : stored_(read_parameters(parameters, what)) {
    stored_.coder.prepare_decoding();
  }
  void decode_block(const BlockPlace&, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    const ClassBlock alone{block, values, what};
    stored_.coder.decode({&alone, 1});
  }
  size_t blocks_together() const override { return stored_.coder.decoded_together(); }
  void decode_together(std::span<const StoredBlock> blocks) const override {
    std::vector<ClassBlock> parts;
    for (const StoredBlock& block : blocks) parts.push_back({block.bytes, block.values, block.what});
    stored_.coder.decode(parts);
  }
  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<ClassDeviceDecoder>(stored_.coder);
  }
  std::string describe() const override {
    std::string widths;
    for (uint32_t w : stored_.widths) widths += char('0' + w);
    return "jointsq:alloc=" + std::string(allocator_name(AllocatorKind(stored_.provenance & 15))) +
           ",realloc=" + std::string(reallocation_name(ReallocationKind(stored_.provenance >> 4))) +
           ",quant=" + std::string(choice_name(stored_.coder.plan.quantizer, joint_quantizers)) +
           ",widths=" + widths + ",map=" + std::string(choice_name(stored_.coder.map, joint_maps));
  }

 private:
  JointSqParameters stored_;
};

}  // namespace

std::string write_parameters(const JointSqParameters& stored,
                             const std::array<bool, element::max_classes>& present) {
  const ClassCoder& coder = stored.coder;
  ByteWriter out;
  uint16_t width_mask = 0, present_mask = 0;
  for (uint32_t j = 0; j < coder.plan.classes; ++j) {
    width_mask |= uint16_t(1u << coder.plan.width[j]);
    if (present[j]) present_mask |= uint16_t(1u << j);
  }
  out.u16(width_mask);
  out.u8(uint8_t(uint8_t(coder.plan.quantizer) | (coder.plan.stochastic ? 16 : 0)));
  out.u8(uint8_t(uint8_t(coder.map) | std::countr_zero(coder.lanes) << 4));
  out.u8(coder.model.magnitudes_coded);
  out.u8(coder.model.magnitudes_by_activity);
  out.u8(stored.provenance);
  out.u16(present_mask);
  for (uint32_t j = 0; j < coder.plan.classes; ++j) {
    if (!present[j] || coder.plan.width[j] == 0) continue;
    if (scale_has_low(coder.plan.quantizer)) out.f32(coder.plan.scale[j].low);
    out.f32(coder.plan.scale[j].high);
  }
  std::string tables;
  cpu::BitWriter bits(tables);
  coder.model.write(bits);
  bits.align();
  out.raw(tables);
  return out.take();
}

size_t size_of_parameters(const element::ClassPlan& plan,
                          const std::array<bool, element::max_classes>& present, const EntropyModel& model) {
  size_t numbers = 0;
  for (uint32_t j = 0; j < plan.classes; ++j)
    if (present[j] && plan.width[j] > 0) numbers += scale_has_low(plan.quantizer) ? 2 : 1;
  return 9 + 4 * numbers + size_t((model.table_bits() + 7) / 8);
}

std::unique_ptr<MethodDecoder> make_jointsq_decoder(std::string_view parameters, std::string_view what) {
  return std::make_unique<JointSqDecoder>(parameters, what);
}

}  // namespace jsq
