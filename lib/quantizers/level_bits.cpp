#include "lib/quantizers/level_bits.hpp"

#include <bit>

#include "lib/packers/entropy_model.hpp"

namespace jsq {
namespace {

double bits_of(uint32_t frequency) {
  return double(code_length_q16(frequency)) / 65536;
}

}  // namespace

LevelBits::LevelBits(const ContextLevels& coder, uint32_t quantizer) {
  const LevelSigns signs = coder.model().signs;
  sign_bits_ = signs == LevelSigns::both;
  own_sign_ = signs == LevelSigns::positive;
  for (const Ladder& ladder : coder.model().tables_of(quantizer)) {
    const ContextFrequencies frequencies = signed_frequencies(ladder, signs);
    auto& bits = symbol_bits_.emplace_back();
    for (uint32_t s = 0; s < context_symbols; ++s) bits[s] = bits_of(frequencies[s]);
    rungs_.push_back(ladder.rungs);
    closed_.push_back(ladder.closed);
  }
  escape_bits_.fill(64);
  if (coder.model().has_escapes) {
    const ContextFrequencies frequencies = plain_frequencies(coder.model().escapes);
    for (uint32_t k = 0; k < 32; ++k) escape_bits_[k] = bits_of(frequencies[k]);
  }
  for (size_t k = 0; k < context_classes; ++k) uses_[k] = coder.use(ContextClass(k));
}

double LevelBits::operator()(int32_t level, ContextClass k) const {
  if (k == 0) return level == 0 ? 0 : 64;
  const ContextUse use = uses_[k];
  const uint32_t coarse = uint32_t(level) >> use.raw_bits;
  const auto& symbols = symbol_bits_[use.table];
  const double bits = use.raw_bits;
  if (coarse >= rungs_[use.table]) {
    if (closed_[use.table]) return uncodable;
    const uint32_t length = uint32_t(std::bit_width(coarse - rungs_[use.table] + 1)) - 1;
    return bits + symbols[escape_symbol] + escape_bits_[length] + sign_bits_ + length;
  }
  if (coarse == 0) return bits + symbols[0] + (use.raw_bits > 0 ? sign_bits_ : 0);
  return bits + symbols[2 * coarse - own_sign_];
}

}  // namespace jsq
