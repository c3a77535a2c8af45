#include "lib/packers/context_stream.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "jsq/error.hpp"
#include "kernels/cpu/context_eights.hpp"
#include "kernels/cpu/context_passes.hpp"
#include "lib/packers/dependent_states.hpp"
#include "lib/packers/entropy_model.hpp"
#include "lib/packers/lane_encoder.hpp"

namespace jsq {

using element::make_rans_symbol;
using element::rans_lower_bound;
using element::rans_precision_bits;
using element::rans_total;
using element::RansSymbol;

// --- Adaptive tables
// -------------------------------------------------------------------------------------------------

namespace {

/// All weight on a symbol and one slot for each other, so that no frequency reaches zero: what tables move
/// towards.
constexpr auto adaptive_targets = [] {
  std::array<std::array<int16_t, 16>, 16> targets{};
  for (int symbol = 0; symbol < 16; ++symbol)
    for (int s = 0; s < 16; ++s)
      targets[size_t(symbol)][size_t(s)] = int16_t(s <= symbol ? s : int(rans_total) - 16 + s);
  return targets;
}();

/// Small differences first: 0, -1, 1, -2, ...
constexpr std::array<uint16_t, 16> first_frequencies = {1040, 760, 760, 400, 400, 190, 190, 90,
                                                        90,   45,  45,  24,  24,  14,  14,  10};

}  // namespace

AdaptiveTable::AdaptiveTable() : AdaptiveTable(first_frequencies) {
  slows_ = false;
}

AdaptiveTable::AdaptiveTable(const std::array<uint16_t, 16>& frequencies) : slows_(true) {
  uint32_t sum = 0;
  for (size_t s = 0; s < 16; ++s) {
    cumulative_[s] = uint16_t(sum);
    sum += frequencies[s];
  }
  cumulative_[16] = rans_total;
}

uint32_t AdaptiveTable::symbol_at(uint32_t slot) const {
  // A vector operation on 16 bits, and no branch that symbols taken at random would mislead.
  const auto at = int16_t(slot);
  int16_t symbol = 0;
  for (size_t s = 1; s <= 16; ++s) symbol = int16_t(symbol + (int16_t(cumulative_[s]) <= at));
  return uint32_t(symbol);
}

void AdaptiveTable::update(uint32_t symbol) {
  const int rate = seen_ < 16 ? 4 : seen_ < 64 || !slows_ ? 5 : 6;
  ++seen_;
  const std::array<int16_t, 16>& target = adaptive_targets[symbol];
  for (uint32_t s = 0; s < 16; ++s)
    cumulative_[s] = uint16_t(cumulative_[s] + int16_t(int16_t(target[s] - int16_t(cumulative_[s])) >> rate));
}

namespace {

/// What make_rans_symbol divides for: tables that adapt would wait for it at every symbol.
constexpr auto reciprocals = [] {
  std::array<uint32_t, rans_total + 1> table{};
  for (uint32_t frequency = 1; frequency <= rans_total; ++frequency)
    table[frequency] = make_rans_symbol(0, frequency).reciprocal;
  return table;
}();

}  // namespace

void SideWriter::adaptive(AdaptiveTable& table, uint32_t symbol) {
  const uint32_t frequency = table.frequency(symbol);
  symbols_.push_back({uint16_t(table.start(symbol)), uint16_t(frequency), reciprocals[frequency]});
  table.update(symbol);
}

uint64_t SideWriter::bits_q16() const {
  uint64_t bits = 0;
  for (const RansSymbol& symbol : symbols_) bits += code_length_q16(symbol.frequency);
  return bits;
}

void SideWriter::raw(uint32_t value, uint32_t bits) {
  const uint32_t frequency = rans_total >> bits;
  symbols_.push_back(make_rans_symbol(value * frequency, frequency));
}

// --- Values
// ----------------------------------------------------------------------------------------------------------

namespace {

/// 2^exponent, of -1000..1000.
double power_of_two(int exponent) {
  return std::bit_cast<double>(uint64_t(exponent + 1023) << 52);
}

}  // namespace

double Reconstruction::step() const {
  return double(mantissa) * power_of_two(exponent);
}

int Reconstruction::step_octaves() const {
  // Mantissas of 2^(1/4) and 2^(3/4), times 32768.
  return 2 * (int(exponent) + 15) + (mantissa >= 38968) + (mantissa >= 55109);
}

int64_t Reconstruction::points(ContextUse use, uint32_t magnitude, uint32_t quantizer) const {
  const int8_t* const moved =
      use.raw_bits > 0 || !has_offsets ? nullptr : (quantizer ? shifted_offsets : offsets)[use.table].data();
  return element::level_points(magnitude, quantizer, moved);
}

float Reconstruction::value(ContextUse use, int32_t level, uint32_t quantizer) const {
  const auto magnitude = uint32_t(level < 0 ? -int64_t(level) : level);
  if (exact) return element::exact_value(magnitude, level < 0, base, shift);
  return element::value_of_points(points(use, magnitude, quantizer) * mantissa, power_of_two(exponent - 8),
                                  level < 0);
}

// --- Coder
// -----------------------------------------------------------------------------------------------------------

namespace {

uint32_t make_slot(uint32_t symbol, uint32_t frequency, uint32_t offset) {
  return symbol | (frequency - 1) << 5 | offset << 17;
}

void append_symbols(const ContextFrequencies& frequencies, std::vector<RansSymbol>& symbols) {
  uint32_t start = 0;
  for (uint32_t s = 0; s < context_symbols; ++s) {
    symbols.push_back(make_rans_symbol(start, frequencies[s]));
    start += frequencies[s];
  }
}

void append_slots(const ContextFrequencies& frequencies, std::vector<uint32_t>& slots) {
  for (uint32_t s = 0; s < context_symbols; ++s)
    for (uint32_t i = 0; i < frequencies[s]; ++i) slots.push_back(make_slot(s, frequencies[s], i));
}

const Ladder always_zero{};

}  // namespace

ContextLevels::ContextLevels(ContextModel model, Reconstruction values)
    : model_(std::move(model)), values_(std::move(values)) {
  if (model_.tables.empty()) return;
  for (int c = model_.lowest; c <= highest_context; ++c)
    uses_[size_t(c - model_.lowest) + 1] = model_.use_of(c);
}

ContextCoder::ContextCoder(ContextModel model, Reconstruction values)
    : ContextLevels(std::move(model), std::move(values)) {
  if (model_.has_escapes) append_symbols(plain_frequencies(model_.escapes), escape_symbols_);
  const uint32_t quantizers = model_.dependent() ? 2 : 1;
  symbol_values_.assign(quantizers * context_classes * context_symbols, 0.0f);
  symbols_.reserve(quantizers * context_classes * context_symbols);
  for (uint32_t q = 0; q < quantizers; ++q) {
    std::vector<RansSymbol> of_tables;
    for (const Ladder& ladder : model_.tables_of(q))
      append_symbols(signed_frequencies(ladder, model_.signs), of_tables);
    // By class and not by table, so that an element's class is where its symbols begin.
    append_symbols(signed_frequencies(always_zero), symbols_);
    for (size_t k = 1; k < context_classes && !model_.tables.empty(); ++k) {
      const auto own = of_tables.begin() + std::ptrdiff_t(uses_[k].table * context_symbols);
      symbols_.insert(symbols_.end(), own, own + context_symbols);
      for (uint32_t s = 1; s < escape_symbol; ++s)
        if (uses_[k].raw_bits == 0)
          symbol_values_[(q * context_classes + k) * context_symbols + s] =
              values_.value(uses_[k], level_of(s), q);
    }
  }
}

void ContextCoder::prepare_decoding() {
  slots_.clear();
  compared_.clear();
  const auto add = [&](const ContextFrequencies& frequencies) {
    append_slots(frequencies, slots_);
    compared_.push_back(cpu::make_compared_symbols(frequencies));
  };
  add(signed_frequencies(always_zero));
  for (const Ladder& ladder : model_.tables) add(signed_frequencies(ladder, model_.signs));
  for (const Ladder& ladder : model_.shifted) append_slots(signed_frequencies(ladder, model_.signs), slots_);
  escape_slots_.clear();
  if (model_.has_escapes) append_slots(plain_frequencies(model_.escapes), escape_slots_);
}

double ContextCoder::bits_of(ContextClass k, uint32_t quantizer, uint32_t symbol,
                             uint32_t escape_length) const {
  const auto length_of = [](const RansSymbol& own) {
    return double(rans_precision_bits) - std::log2(double(own.frequency));
  };
  const uint32_t raw = uses_[k].raw_bits, sign = model_.signs == LevelSigns::both;
  const double bits =
      length_of(symbols_[(quantizer * context_classes + k) * context_symbols + symbol]) + double(raw);
  if (symbol == escape_symbol)
    return bits + length_of(escape_symbols_[escape_length]) + double(escape_length + sign);
  return symbol == 0 && raw > 0 ? bits + double(sign) : bits;
}

namespace {

/// Whether so many neighbours, a multiple of eight, are of the class without a table.
bool always_zero_at(const ContextClass* classes, uint32_t count) {
  uint64_t any = 0;
  for (uint32_t i = 0; i < count; i += 8) {
    uint64_t eight;
    std::memcpy(&eight, classes + i, 8);
    any |= eight;
  }
  return any == 0;
}

/// Bytes that the symbols take, about: by some of them.
double expected_bytes(std::span<const uint16_t> ids, std::span<const RansSymbol> table) {
  constexpr size_t apart = 61;
  uint64_t bits_q16 = 0;
  for (size_t i = 0; i < ids.size(); i += apart) bits_q16 += code_length_q16(table[ids[i]].frequency);
  return double(bits_q16) * apart / 65536 / 8;
}

}  // namespace

void ContextCoder::encode(std::span<const RansSymbol> side, std::span<const ContextClass> classes,
                          const ActiveLevels& active, std::string& out) const {
  if (model_.dependent()) return encode_dependent(side, classes, active, out);
  static thread_local std::vector<uint16_t> ids_of_thread;
  std::vector<uint16_t>& ids = ids_of_thread;
  ids.resize(classes.size());
  static_assert(context_symbols == 1u << 5);
  cpu::shift_classes(classes.data(), classes.size(), 5, ids.data());
  encode(side, classes, ids, active, out);
}

void ContextCoder::encode(std::span<const RansSymbol> side, std::span<const ContextClass> classes,
                          std::span<uint16_t> ids, const ActiveLevels& active, std::string& out) const {
  struct Scratch {
    std::vector<uint16_t> words;
    std::vector<uint8_t> escapes;
  };
  static thread_local Scratch scratch_of_thread;
  Scratch& scratch = scratch_of_thread;
  const size_t count = classes.size();
  scratch.escapes.clear();
  std::array<uint32_t, context_classes> rungs{};
  for (size_t k = 1; k < context_classes && !model_.tables.empty(); ++k)
    rungs[k] = model_.tables[uses_[k].table].rungs;
  const bool signs = model_.signs == LevelSigns::both;
  std::string raw_bytes;
  cpu::BitWriter bits(raw_bytes);
  for (size_t j = 0; j < active.levels.size(); ++j) {
    const size_t i = active.positions[j];
    const ContextClass k = classes[i];
    const uint32_t raw = uses_[k].raw_bits;
    const int32_t level = active.levels[j];
    const bool negative = level < 0;
    const uint32_t magnitude = uint32_t(negative ? -level : level), coarse = magnitude >> raw;
    if (coarse < rungs[k]) {
      ids[i] = uint16_t(ids[i] + 2 * coarse - (level > 0 && coarse > 0));
      if (signs && raw > 0 && coarse == 0) bits.put(negative, 1);
    } else {
      ids[i] = uint16_t(ids[i] + escape_symbol);
      const uint32_t excess = coarse - rungs[k] + 1, length = uint32_t(std::bit_width(excess)) - 1;
      scratch.escapes.push_back(uint8_t(length));
      if (signs) bits.put(negative, 1);
      if (length > 0) bits.put(excess & ((1u << length) - 1), length);
    }
    if (raw > 0) bits.put(magnitude & ((1u << raw) - 1), raw);
  }
  bits.align();

  scratch.words.resize(side.size() + count + scratch.escapes.size() + cpu::eights_slack);
  const double expected = expected_bytes(ids, symbols_) + double(side.size()) / 4 + double(raw_bytes.size());
  code_with_fitting_lanes(expected, out, [&](uint32_t lanes) {
    LaneEncoder encoder(lanes, scratch.words);
    for (size_t j = scratch.escapes.size(); j-- > 0;) encoder.push(j, escape_symbols_[scratch.escapes[j]]);
    size_t i = count;
    if (lanes >= 8) {
      for (; i % lanes != 0; --i) encoder.push(i - 1, symbols_[ids[i - 1]]);
      // A group that is zero for certain leaves its states alone: only what lies between is coded.
      while (i > 0) {
        while (i > 0 && always_zero_at(classes.data() + i - lanes, lanes)) i -= lanes;
        const size_t end = i;
        while (i > 0 && !always_zero_at(classes.data() + i - lanes, lanes)) i -= lanes;
        encoder.push_groups(ids.data() + i, (end - i) / lanes, symbols_.data());
      }
    }
    for (; i > 0; --i) encoder.push(i - 1, symbols_[ids[i - 1]]);
    for (size_t j = side.size(); j-- > 0;) encoder.push(j, side[j]);
    encoder.finish(out);
    out += raw_bytes;
  });
}

void ContextCoder::reconstruct(std::span<const ContextClass> classes, const ActiveLevels& active,
                               std::span<float> values) const {
  if (model_.dependent()) return reconstruct_dependent(classes, active, values);
  std::fill(values.begin(), values.end(), 0.0f);
  put_values(classes, active, values);
}

void ContextCoder::put_values(std::span<const ContextClass> classes, const ActiveLevels& active,
                              std::span<float> values) const {
  for (size_t j = 0; j < active.levels.size(); ++j) {
    const size_t i = active.positions[j];
    const int32_t level = active.levels[j], magnitude = std::abs(level);
    const ContextClass k = classes[i];
    if (level == 0) continue;  // of a class with raw bits
    values[i] = uses_[k].raw_bits == 0 && magnitude < int32_t(most_rungs)
                    ? symbol_values_[k * context_symbols + uint32_t(2 * magnitude - (level > 0))]
                    : values_.value(uses_[k], level);
  }
}

// --- Reader
// ----------------------------------------------------------------------------------------------------------

ContextReader::ContextReader(const ContextCoder& coder, std::string_view stream, std::string_view what)
    : coder_(coder), stream_(stream), what_(what), lanes_(context_lanes(stream.size())) {
  if (stream.size() < lanes_ * sizeof(uint32_t)) damaged("too short for its states");
  std::memcpy(states_, stream.data(), lanes_ * sizeof(uint32_t));
  at_ = lanes_ * sizeof(uint32_t);
}

void ContextReader::damaged(const char* found) const {
  throw Error(Errc::damaged, std::string(what_) + " is damaged: " + found);
}

uint32_t ContextReader::step(uint32_t lane, uint32_t start, uint32_t frequency) {
  const uint32_t x = states_[lane], slot = x & (rans_total - 1);
  uint32_t next = frequency * (x >> rans_precision_bits) + slot - start;
  if (next < rans_lower_bound) {
    uint16_t word = 0;
    if (at_ + 2 <= stream_.size()) std::memcpy(&word, stream_.data() + at_, 2);
    at_ += 2;
    next = next << 16 | word;
  }
  states_[lane] = next;
  return next;
}

uint32_t ContextReader::adaptive(AdaptiveTable& table) {
  const uint32_t symbol = table.symbol_at(states_[lane_] & (rans_total - 1));
  step(lane_, table.start(symbol), table.frequency(symbol));
  table.update(symbol);
  lane_ = lane_ + 1 == lanes_ ? 0 : lane_ + 1;
  return symbol;
}

uint32_t ContextReader::raw(uint32_t bits) {
  const uint32_t shift = rans_precision_bits - bits, symbol = (states_[lane_] & (rans_total - 1)) >> shift;
  step(lane_, symbol << shift, rans_total >> bits);
  lane_ = lane_ + 1 == lanes_ ? 0 : lane_ + 1;
  return symbol;
}

uint32_t ContextReader::next_slot(const uint32_t* slots) {
  const uint32_t slot = slots[states_[lane_] & (rans_total - 1)], symbol = slot & 31;
  const uint32_t x = states_[lane_];
  step(lane_, (x & (rans_total - 1)) - (slot >> 17), ((slot >> 5) & 4095) + 1);
  lane_ = lane_ + 1 == lanes_ ? 0 : lane_ + 1;
  return symbol;
}

double ContextReader::bits_read() const {
  // What was read, less what the states hold of it.
  double bits = 8 * double(at_);
  for (uint32_t l = 0; l < lanes_; ++l) bits -= std::log2(double(states_[l]));
  return bits;
}

void ContextReader::elements(std::span<const ContextClass> classes, std::span<float> values,
                             std::span<const uint32_t> begins, std::span<float> code_lengths) {
  if (coder_.model_.dependent()) return dependent_elements(classes, values, begins, code_lengths);
  static thread_local std::vector<uint8_t> symbols_of_thread, lengths_of_thread;
  static thread_local std::vector<uint32_t> special_of_thread;
  std::vector<uint8_t>&symbols = symbols_of_thread, &lengths = lengths_of_thread;
  std::vector<uint32_t>& special = special_of_thread;
  const size_t count = classes.size();
  symbols.resize(count);
  uint8_t* const symbol = symbols.data();
  float* const value = values.data();
  const uint32_t* slots = coder_.slots_.data();
  const float* symbol_values = coder_.symbol_values_.data();
  const ContextModel& model = coder_.model_;
  const cpu::ContextDecoding with{slots, coder_.compared_.data(), symbol_values,
                                  uint32_t(model.tables.size()), model.highest() == highest_own_context};
  lane_ = 0;
  size_t i = 0;
  if (special.size() <= count) special.resize(count + 1);
  size_t specials = 0;  // escapes, at first
  if (lanes_ >= 8) {
    const cpu::ContextDecoded decoded =
        cpu::decode_context_groups(with, lanes_, classes.data(), count, stream_.data(), stream_.size(), at_,
                                   states_, symbol, value, special.data());
    i = decoded.count;
    specials = decoded.escapes;
  }
  for (; i < count; ++i) {
    const uint32_t k = classes[i], s = next_slot(slots + (with.table_of(k) << rans_precision_bits));
    symbol[i] = uint8_t(s);
    value[i] = symbol_values[k * context_symbols + s];
    special[specials] = uint32_t(i);
    specials += s == escape_symbol;
  }

  // What is not in the tables: escapes, and the low bits of large contexts.
  const int first_raw_class = 4 - coder_.model_.lowest + 1;  // contexts from 4 on have raw bits
  if (coder_.model_.highest() >= 4) {
    specials = 0;
    for (size_t begin = 0; begin < count; begin += 64) {
      const size_t end = std::min(count, begin + 64);
      // Whole stretches without either are the rule, and this loop is a vector operation.
      uint8_t found = 0;
      for (size_t j = begin; j < end; ++j)
        found |= uint8_t(symbol[j] == escape_symbol) | uint8_t(int(classes[j]) >= first_raw_class);
      if (!found) continue;
      for (size_t j = begin; j < end; ++j)
        if (symbol[j] == escape_symbol || coder_.uses_[classes[j]].raw_bits > 0)
          special[specials++] = uint32_t(j);
    }
  }
  lengths.clear();
  lane_ = 0;
  const std::span<const uint32_t> listed(special.data(), specials);
  for (uint32_t j : listed)
    if (symbol[j] == escape_symbol) lengths.push_back(uint8_t(next_slot(coder_.escape_slots_.data())));
  if (at_ > stream_.size()) damaged("its words end early");
  for (uint32_t l = 0; l < lanes_; ++l)
    if (states_[l] != rans_lower_bound) damaged("its states do not end where they began");

  const LevelSigns signs = coder_.model_.signs;
  cpu::BitReader bits(stream_.substr(at_));
  const auto read_sign = [&] {
    return signs == LevelSigns::both ? bits.bit() : signs == LevelSigns::negative;
  };
  for (size_t j = 0; j < code_lengths.size(); ++j)
    if (symbol[j] != escape_symbol) code_lengths[j] = float(coder_.bits_of(classes[j], 0, symbol[j], 0));
  size_t next_length = 0;
  for (uint32_t j : listed) {
    const ContextUse use = coder_.uses_[classes[j]];
    uint64_t magnitude = 0;
    bool negative = false;
    if (symbol[j] == escape_symbol) {
      negative = read_sign();
      const uint32_t length = lengths[next_length++];
      if (!code_lengths.empty())
        code_lengths[j] = float(coder_.bits_of(classes[j], 0, escape_symbol, length));
      magnitude = (uint64_t(1) << length | (length ? bits.get(length) : 0)) - 1 +
                  coder_.model_.tables[use.table].rungs;
    } else {
      const int32_t level = level_of(symbol[j]);
      magnitude = uint64_t(std::abs(level));
      negative = level == 0 ? read_sign() : level < 0;
    }
    if (use.raw_bits > 0) magnitude = magnitude << use.raw_bits | bits.get(use.raw_bits);
    if (magnitude > uint64_t(largest_level)) damaged("a level beyond its limit");
    values[j] = coder_.values_.value(use, negative ? -int32_t(magnitude) : int32_t(magnitude));
  }
  if (!bits.align() || bits.overrun() || bits.consumed() != stream_.size() - at_)
    damaged("its raw bits end elsewhere");
}

}  // namespace jsq
