#include "lib/packers/level_block.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "jsq/error.hpp"
#include "kernels/cpu/fixed_codes.hpp"
#include "lib/core/bytes.hpp"
#include "lib/packers/level_histogram.hpp"

namespace jsq {

double write_level_block(std::span<const float> scales, std::span<const int32_t> levels, LevelRange range,
                         std::optional<LevelPacker> packer, std::string& out) {
  static thread_local LevelHistogram histogram;
  histogram.count(levels);
  ByteWriter head;
  const LevelPacker chosen = packer ? *packer : smallest_packer(levels, histogram, range);
  head.u8(uint8_t(chosen));
  for (float scale : scales) head.f32(scale);
  out.append(head.bytes());
  pack_levels(chosen, levels, histogram, range, out);
  return histogram.entropy_bits();
}

bool FixedBlock::suits(LevelRange range) {
  const uint32_t width = fixed_level_bits(range);
  return width >= 1 && width <= cpu::most_code_bits;
}

FixedBlock::FixedBlock(size_t scales, size_t levels, LevelRange range, std::string& out)
    : range_(range), width_(fixed_level_bits(range)), out_(out), scales_at_(out.size() + 1) {
  next_at_ = scales_at_ + sizeof(float) * scales;
  out.resize(next_at_ + (levels * width_ + 7) / 8);
  out[scales_at_ - 1] = char(LevelPacker::fixed);
}

void FixedBlock::set_scale(size_t index, float scale) {
  std::memcpy(out_.data() + scales_at_ + sizeof scale * index, &scale, sizeof scale);
}

void FixedBlock::add(std::span<const int32_t> levels) {
  const size_t whole = levels.size() / 8 * 8;
  auto* bytes = reinterpret_cast<uint8_t*>(out_.data() + next_at_);
  cpu::CodedBits any = cpu::pack_codes(levels.first(whole), range_.low, width_, bytes);
  if (whole < levels.size()) {  // the last octet, whose padding is zero
    int32_t last[8];
    std::fill(std::begin(last), std::end(last), range_.low);
    std::copy(levels.begin() + std::ptrdiff_t(whole), levels.end(), last);
    uint8_t octet[cpu::most_code_bits];
    any.codes |= cpu::pack_codes(last, range_.low, width_, octet).codes;
    for (size_t i = whole; i < levels.size(); ++i) any.levels |= uint32_t(levels[i]);
    std::memcpy(bytes + whole / 8 * width_, octet, ((levels.size() - whole) * width_ + 7) / 8);
  }
  next_at_ += levels.size() / 8 * width_;
  any_level_ |= any.levels;
  if (any.codes >> width_ != 0)
    throw Error(Errc::internal, "a level outside " + std::to_string(range_.low) + ".." +
                                    std::to_string(range_.high) + " was packed; this is a bug in jsq");
}

void read_level_block(std::string_view block, LevelRange range, std::span<float> scales,
                      std::span<int32_t> levels, std::string_view what) {
  ByteReader in(block, what);
  const uint8_t packer = in.u8();
  if (packer >= level_packers || !packer_allows(LevelPacker(packer), range))
    in.damaged("level packer " + std::to_string(packer) + " is unknown or does not suit the levels");
  for (float& scale : scales) scale = in.magnitude("a scale");
  unpack_levels(LevelPacker(packer), in.raw(in.remaining()), range, levels, what);
}

}  // namespace jsq
