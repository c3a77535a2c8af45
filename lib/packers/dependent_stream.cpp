// Context streams of dependent levels (SPEC.md, "Dependent levels"): the tables of an element follow from the
// levels before it, so that symbols, lengths of escapes and raw bits are read element by element, raw bits
// from the stream's end.
#include <algorithm>
#include <bit>

#include "lib/packers/context_stream.hpp"
#include "lib/packers/dependent_states.hpp"
#include "lib/packers/entropy_model.hpp"
#include "lib/packers/lane_encoder.hpp"

namespace jsq {

namespace {

/// The state before each element in turn.
class StateWalk {
 public:
  explicit StateWalk(std::span<const uint32_t> begins) : begins_(begins) {}
  /// \pre called for ascending i
  uint32_t quantizer_at(size_t i) {
    while (next_ < begins_.size() && begins_[next_] <= i) {
      state_ = 0;
      ++next_;
    }
    return quantizer_of(state_);
  }
  void take(uint32_t parity) { state_ = next_state[state_][parity]; }

 private:
  std::span<const uint32_t> begins_;
  size_t next_ = 0;
  uint32_t state_ = 0;
};

/// Visits (i, quantizer, level) of every element that is not of class 0, in order.
template <class Visit>
void for_each_level(std::span<const ContextClass> classes, const ActiveLevels& active, Visit visit) {
  StateWalk walk(active.begins);
  size_t next = 0;
  for (size_t i = 0; i < classes.size(); ++i) {
    const bool is_active = next < active.positions.size() && active.positions[next] == i;
    const int32_t level = is_active ? active.levels[next] : 0;
    next += is_active;
    if (classes[i] == 0) continue;
    visit(i, walk.quantizer_at(i), level);
    walk.take(uint32_t(level) & 1);
  }
}

}  // namespace

void ContextCoder::encode_dependent(std::span<const element::RansSymbol> side,
                                    std::span<const ContextClass> classes, const ActiveLevels& active,
                                    std::string& out) const {
  struct Coded {
    uint32_t element;
    uint16_t symbol;
    uint8_t length;  // of an escape
    bool escapes;
  };
  static thread_local std::vector<Coded> coded_of_thread;
  static thread_local std::vector<uint16_t> words;
  std::vector<Coded>& coded = coded_of_thread;
  coded.clear();
  std::string raw_bytes;
  cpu::BitWriter bits(raw_bytes);
  size_t escapes = 0;
  const bool signs = model_.signs == LevelSigns::both;
  for_each_level(classes, active, [&](size_t i, uint32_t quantizer, int32_t level) {
    const ContextClass k = classes[i];
    const ContextUse use = uses_[k];
    const uint32_t rungs = model_.tables_of(quantizer)[use.table].rungs, raw = use.raw_bits;
    const bool negative = level < 0;
    const uint32_t magnitude = uint32_t(negative ? -level : level), coarse = magnitude >> raw;
    Coded own{uint32_t(i), uint16_t((quantizer * context_classes + k) * context_symbols), 0, coarse >= rungs};
    if (!own.escapes) {
      own.symbol = uint16_t(own.symbol + 2 * coarse - (level > 0 && coarse > 0));
      if (signs && raw > 0 && coarse == 0) bits.put(negative, 1);
    } else {
      const uint32_t excess = coarse - rungs + 1;
      own.symbol = uint16_t(own.symbol + escape_symbol);
      own.length = uint8_t(std::bit_width(excess) - 1);
      ++escapes;
      if (signs) bits.put(negative, 1);
      if (own.length > 0) bits.put(excess & ((1u << own.length) - 1), own.length);
    }
    if (raw > 0) bits.put(magnitude & ((1u << raw) - 1), raw);
    coded.push_back(own);
  });
  bits.align();
  std::reverse(raw_bytes.begin(), raw_bytes.end());

  uint64_t bits_q16 = 0;
  for (const Coded& own : coded) bits_q16 += code_length_q16(symbols_[own.symbol].frequency);
  const double expected = double(bits_q16) / 65536 / 8 + double(side.size()) / 4 + double(raw_bytes.size());
  words.resize(side.size() + coded.size() + escapes + cpu::eights_slack);
  code_with_fitting_lanes(expected, out, [&](uint32_t lanes) {
    LaneEncoder encoder(lanes, words);
    for (size_t j = coded.size(); j-- > 0;) {
      if (coded[j].escapes) encoder.push(coded[j].element, escape_symbols_[coded[j].length]);
      encoder.push(coded[j].element, symbols_[coded[j].symbol]);
    }
    for (size_t j = side.size(); j-- > 0;) encoder.push(j, side[j]);
    encoder.finish(out);
    out += raw_bytes;
  });
}

void ContextCoder::reconstruct_dependent(std::span<const ContextClass> classes, const ActiveLevels& active,
                                         std::span<float> values) const {
  std::fill(values.begin(), values.end(), 0.0f);
  for_each_level(classes, active, [&](size_t i, uint32_t quantizer, int32_t level) {
    if (level != 0) values[i] = values_.value(uses_[classes[i]], level, quantizer);
  });
}

void ContextReader::dependent_elements(std::span<const ContextClass> classes, std::span<float> values,
                                       std::span<const uint32_t> begins, std::span<float> code_lengths) {
  const auto note = [&](size_t i, uint32_t quantizer, uint32_t symbol, uint32_t escape_length) {
    if (!code_lengths.empty())
      code_lengths[i] = float(coder_.bits_of(classes[i], quantizer, symbol, escape_length));
  };
  // Raw bits stand at the end, the last byte first.
  const std::string backwards(stream_.rbegin(), stream_.rend());
  cpu::BitReader bits(backwards);
  const LevelSigns signs = coder_.model_.signs;
  const auto read_sign = [&] {
    return signs == LevelSigns::both ? bits.bit() : signs == LevelSigns::negative;
  };
  StateWalk walk(begins);
  const size_t tables = coder_.model_.tables.size();
  for (size_t i = 0; i < classes.size(); ++i) {
    const ContextClass k = classes[i];
    if (k == 0) {
      values[i] = 0;
      note(i, 0, 0, 0);
      continue;
    }
    const ContextUse use = coder_.uses_[k];
    const uint32_t quantizer = walk.quantizer_at(i);
    lane_ = uint32_t(i) & (lanes_ - 1);
    const size_t table = quantizer * tables + use.table + 1;
    const uint32_t symbol = next_slot(coder_.slots_.data() + (table << element::rans_precision_bits));
    if (symbol != escape_symbol && use.raw_bits == 0) {
      values[i] = coder_.symbol_values_[(quantizer * context_classes + k) * context_symbols + symbol];
      walk.take((symbol + 1) / 2 & 1);
      note(i, quantizer, symbol, 0);
      continue;
    }
    uint64_t magnitude = (symbol + 1) / 2;
    uint32_t length = 0;
    bool negative = symbol % 2 == 0;
    if (symbol == escape_symbol) {
      lane_ = uint32_t(i) & (lanes_ - 1);
      length = next_slot(coder_.escape_slots_.data());
      negative = read_sign();
      magnitude = (uint64_t(1) << length | (length ? bits.get(length) : 0)) - 1 +
                  coder_.model_.tables_of(quantizer)[use.table].rungs;
    } else if (symbol == 0) {
      negative = read_sign();
    }
    note(i, quantizer, symbol, length);
    if (use.raw_bits > 0) magnitude = magnitude << use.raw_bits | bits.get(use.raw_bits);
    if (magnitude > uint64_t(largest_level)) damaged("a level beyond its limit");
    values[i] = coder_.values_.value(use, negative ? -int32_t(magnitude) : int32_t(magnitude), quantizer);
    walk.take(uint32_t(magnitude) & 1);
  }
  if (at_ > stream_.size()) damaged("its words end early");
  for (uint32_t l = 0; l < lanes_; ++l)
    if (states_[l] != element::rans_lower_bound) damaged("its states do not end where they began");
  if (!bits.align() || bits.overrun() || bits.consumed() != stream_.size() - at_)
    damaged("its raw bits end elsewhere");
}

}  // namespace jsq
