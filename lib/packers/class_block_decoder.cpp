// Class blocks are read.
#include <algorithm>
#include <bit>
#include <optional>

#include "jsq/error.hpp"
#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "lib/core/bytes.hpp"
#include "lib/packers/class_scratch.hpp"

namespace jsq {

using cpu::BitReader;
using element::max_activity_buckets;

void ClassCoder::prepare_decoding() {
  // Table 0 stands in for tables that a damaged model lacks, so that every number is valid.
  // Symbol 0 has all its slots, and leaves the states as they are.
  slots_.clear();
  starts_.assign(1, cpu::make_symbol_starts(SymbolFrequencies{element::rans_total}));
  for (uint32_t slot = 0; slot < element::rans_total; ++slot)
    slots_.push_back(element::make_rans_slot(0, element::rans_total, slot));
  auto add = [&](const SymbolFrequencies& frequencies) {
    if (frequencies == SymbolFrequencies{}) return uint8_t(0);
    size_t slot = slots_.size();
    const auto number = uint8_t(slot >> element::rans_precision_bits);
    slots_.resize(slot + element::rans_total);
    starts_.push_back(cpu::make_symbol_starts(frequencies));
    for (uint32_t symbol = 0; symbol < max_symbols; ++symbol)
      for (uint32_t i = 0; i < frequencies[symbol]; ++i)
        slots_[slot++] = element::make_rans_slot(symbol, frequencies[symbol], i);
    return number;
  };
  if (model.map_coded)
    for (uint32_t b = 0; b < model.buckets; ++b) {
      activity_tables_[b] = add(model.activity_frequencies(b));
      if (b > 0) token_tables_[b] = add(model.token_frequencies(b));
    }
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    if (!by_activity) magnitude_tables_[j].fill(add(model.magnitude_frequencies(j, 0)));
    for (uint32_t b = 1; by_activity && b < model.buckets; ++b)
      magnitude_tables_[j][b] = add(model.magnitude_frequencies(j, b));
  }
  join_values();
  const uint32_t joined = classes_per_token(plan.classes);
  for (uint32_t token = 0; token < 16; ++token)
    for (uint32_t i = 0, rest = token; i < 4; ++i, rest /= std::max(plan.classes, 2u))
      token_classes_[token * 4 + i] = i < joined ? uint8_t(rest % std::max(plan.classes, 2u)) : 0;
  prepare_runs();
}

/// What is read run by run: cells of classes beside one that is left out, under an entropy-coded map with two
/// classes a token, as jointsq's default has them.
void ClassCoder::prepare_runs() {
  runs_.reset();
  if (map != MapPacker::entropy || model.magnitudes_coded == 0 ||
      plan.quantizer != element::ClassQuantizer::cell || plan.width[0] != 0 ||
      classes_per_token(plan.classes) != 2 || plan.classes > cpu::RunClasses::most_classes)
    return;
  cpu::RunClasses runs;
  for (uint32_t token = 0; token < cpu::RunClasses::tokens; ++token) {
    runs.first[token] = token_classes_[token * 4];
    runs.second[token] = token_classes_[token * 4 + 1];
  }
  for (uint32_t j = 1; j < plan.classes; ++j) {
    const bool occurs = std::any_of(model.class_weight.begin(), model.class_weight.end(),
                                    [&](const SymbolWeights& weights) { return weights[j] != 0; });
    if (!occurs) continue;
    const bool coded = model.magnitudes_coded >> (j - 1) & 1;
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    for (uint32_t b = 0; coded && b < max_activity_buckets; ++b)
      runs.tables[b][j] = magnitude_tables_[j][by_activity ? b : 0];
    if (!coded && plan.width[j] > cpu::RunClasses::most_bits) {
      runs.wide[j] = uint8_t(plan.width[j]);
    } else {
      runs.low_bits[j] = value_parts_[j].bits - 1u;
      (coded ? runs.raw_mask : runs.plane_mask)[j] = uint8_t((1u << value_parts_[j].bits) - 1);
    }
    runs.low[j] = plan.scale[j].low;
    runs.step[j] = plan.scale[j].step;
    runs.high[j] = plan.scale[j].high;
  }
  runs_ = runs;
}

namespace {

uint32_t get_class(BitReader& in, uint32_t classes) {
  uint32_t index = 1;
  while (index + 1 < classes && in.bit()) ++index;
  return index;
}

[[noreturn]] void damaged(std::string_view what, const std::string& found) {
  throw Error(Errc::damaged, std::string(what) + " is damaged: " + found);
}

/// Buffers of a block that is read, reused by a thread from block to block.
struct ReadBuffers {
  std::vector<uint8_t> classes, buckets, kept_classes, symbols, tokens, tables;
  std::vector<uint32_t> kept, active, places;  // active runs; tokens that are not 0
  std::vector<float> values;                   // of blocks that end with a short run
  std::string stream;
  size_t kept_count = 0;
};

/// Not inlined: the compiler would otherwise look the thread's copy up again inside the loops.
[[gnu::noinline]] std::array<ReadBuffers, cpu::rans_together>& read_buffers() {
  static thread_local std::array<ReadBuffers, cpu::rans_together> buffers;
  return buffers;
}

template <class T>
T* room(std::vector<T>& buffer, size_t count) {
  if (buffer.size() < count) buffer.resize(count);
  return buffer.data();
}

/// Lists what is kept, and its classes, from `count` tokens of the active runs.
template <size_t joined>
void list_tokens(const uint8_t* classes_of_token, size_t count, ReadBuffers& s) {
  constexpr size_t each = run_length / joined;
  const size_t listed = cpu::list_nonzero({s.tokens.data(), count}, room(s.places, count + 16));
  uint32_t* const kept = room(s.kept, listed * joined + 16);
  uint8_t* const kept_classes = room(s.kept_classes, listed * joined + 1);
  size_t k = 0;
  for (size_t i = 0; i < listed; ++i) {
    const size_t t = s.places[i], first = s.active[t / each] * run_length + t % each * joined;
    const uint8_t* const classes = classes_of_token + size_t(s.tokens[t]) * 4;
    for (size_t l = 0; l < joined; ++l) {
      kept[k] = uint32_t(first + l);
      kept_classes[k] = classes[l];
      k += classes[l] != 0;
    }
  }
  s.kept_count = k;
}

}  // namespace

void ClassCoder::join_values() {
  value_parts_.assign(plan.classes, {});
  for (uint32_t j = 0; j < plan.classes; ++j) {
    ValueParts& parts = value_parts_[j];
    const uint32_t width = plan.width[j];
    if (width == 0) continue;
    const uint32_t half = 1u << (width - 1);
    const std::vector<float> of_index = points(j);
    if (j > 0 && (model.magnitudes_coded >> (j - 1) & 1)) {
      parts.low_bits = uint8_t(element::raw_magnitude_bits(width));
      parts.low_mask = uint8_t((1u << parts.low_bits) - 1);
      parts.bits = uint8_t(1 + parts.low_bits);
      parts.has_symbols = true;
      parts.half = uint8_t(half);
      std::copy(of_index.begin(), of_index.end(), parts.values.begin());
      continue;
    }
    parts.bits = uint8_t(width);
    for (uint32_t code = 0; code < 2 * half; ++code)
      parts.values[code] = of_index[element::sign_of_code(plan.quantizer, width, code) * half +
                                    element::magnitude_of_code(plan.quantizer, width, code)];
  }
}

/// A block that is being read, pass by pass.
class ClassCoder::Reading {
 public:
  /// `list`: kept() is asked for.
  Reading(const ClassCoder& with, const ClassBlock& block, ReadBuffers& buffers, bool list)
      : with_(with),
        plan_(with.plan),
        block_(block.bytes),
        out_(block.values),
        what_(block.what),
        s_(buffers),
        by_runs_(!list && with.runs_ && cpu::reads_runs()) {}

  /// The map, unless it is entropy-coded, and the entropy coder's stream: where it lies, or from a copy with
  /// zeros behind it.
  void begin(bool padded);
  void read_activities();
  /// Lists the tables of the tokens of whole runs that are not quiet; how many there are.
  size_t list_token_tables();
  void read_tokens();
  /// Short runs, and what is kept.
  void end_map();
  /// Lists the tables of all magnitudes that are coded; how many there are.
  size_t list_magnitude_tables();
  void read_magnitudes();
  /// The values.
  void end();

  std::span<const uint32_t> kept() const { return {s_.kept.data(), s_.kept_count}; }
  size_t runs() const { return runs_of(out_.size()); }
  void begin_section() { decoder_->begin_section(); }
  cpu::EightLanes lend() const { return decoder_->lend(); }
  void take_back(const cpu::EightLanes& lent) { decoder_->take_back(lent); }
  void check_activities(bool known) const {
    if (!known) damaged(what_, "an activity beyond the last");
  }

 private:
  void check_end(size_t at) const {
    if (at != block_.size())
      damaged(what_, "expected " + std::to_string(at) + " bytes, found " + std::to_string(block_.size()));
  }
  void write_runs();
  void read_plain_map();
  void fill_up_last_run();
  void take_classes();
  void list_tokens();

  size_t each() const { return run_length / classes_per_token(plan_.classes); }

  const ClassCoder& with_;
  const element::ClassPlan& plan_;
  std::string_view block_;
  std::span<float> out_;
  std::string_view what_;
  ReadBuffers& s_;
  size_t at_ = 0;       // of the bytes that are not read
  bool named_ = false;  // the map lists what is kept
  bool by_runs_;
  std::optional<cpu::RansDecoder> decoder_;
  size_t active_ = 0, last_ = 0;  // whole runs with tokens, and the tokens of a short one
  size_t coded_ = 0;              // magnitudes
  size_t in_planes_[cpu::RunClasses::most_classes] = {};
};

void ClassCoder::Reading::read_plain_map() {
  const size_t n = out_.size();
  uint8_t* const classes = room(s_.classes, n);
  uint32_t* const kept = room(s_.kept, n + 16);
  uint8_t* const kept_classes = room(s_.kept_classes, n);
  BitReader in(block_);
  switch (with_.map) {
    case MapPacker::raw: {
      const uint32_t bits = raw_map_bits(plan_.classes);
      for (size_t i = 0; i < n; ++i) {
        classes[i] = uint8_t(in.get(bits));
        if (classes[i] >= plan_.classes) damaged(what_, "a class beyond the last");
      }
      break;
    }
    case MapPacker::bitmap:
      for (size_t i = 0; i < n; ++i) classes[i] = uint8_t(in.bit());
      if (!in.align()) damaged(what_, "padding bits are not zero");
      for (size_t i = 0; i < n; ++i)
        if (classes[i]) classes[i] = uint8_t(get_class(in, plan_.classes));
      break;
    case MapPacker::index32:
    case MapPacker::packed: {
      const uint32_t bits = with_.map == MapPacker::packed ? packed_index_bits(n) : 32;
      const uint64_t count = in.get(32);
      if (count > n) damaged(what_, "more kept elements than elements");
      uint64_t expected = 0;
      for (uint64_t k = 0; k < count; ++k) {
        const uint64_t index = in.get(bits);
        if (index < expected || index >= n || in.overrun())
          damaged(what_, "indices do not ascend or leave the block");
        kept[k] = uint32_t(index);
        kept_classes[k] = uint8_t(get_class(in, plan_.classes));
        expected = index + 1;
      }
      s_.kept_count = count;
      break;
    }
    default: {
      const uint32_t parameter = in.get(8);
      const uint64_t count = in.get(32);
      if (parameter > 31 || count > n) damaged(what_, "impossible gap parameter or count");
      uint64_t expected = 0;
      for (uint64_t k = 0; k < count; ++k) {
        uint64_t gap = in.get_unary(n >> parameter) << parameter;
        gap |= in.get(parameter);
        if (gap >= n - expected || in.overrun()) damaged(what_, "a gap leaves the block");
        expected += gap;
        kept[k] = uint32_t(expected++);
        kept_classes[k] = uint8_t(get_class(in, plan_.classes));
      }
      s_.kept_count = count;
      break;
    }
  }
  if (!in.align() || in.overrun()) damaged(what_, "the class map is truncated or its padding is not zero");
  at_ = in.consumed();
  if (at_ > block_.size()) damaged(what_, "the class map is truncated");
  named_ = names_kept(with_.map);
  if (!with_.model.needs_activities()) return;
  if (named_) {
    std::fill(classes, classes + n, uint8_t(0));
    for (size_t k = 0; k < s_.kept_count; ++k) classes[kept[k]] = kept_classes[k];
  }
  cpu::run_activities(std::span<const uint8_t>(classes, n), std::span(room(s_.buckets, runs()), runs()));
}

void ClassCoder::Reading::begin(bool padded) {
  if (with_.map != MapPacker::entropy) read_plain_map();
  std::string_view stream;
  if (with_.model.uses_rans()) {
    ByteReader in(block_.substr(at_), what_);
    stream = in.string();
    at_ += in.position();
  }
  if (padded) {
    s_.stream.assign(stream);
    s_.stream.append(cpu::rans_padding, 0);
    stream = std::string_view(s_.stream).substr(0, stream.size());
  }
  decoder_.emplace(stream, with_.lanes);
  if (with_.map == MapPacker::entropy && with_.model.buckets == 0 && runs() > 0)
    damaged(what_, "no activity tables");
}

void ClassCoder::Reading::read_activities() {
  check_activities(runs() == 0 ||
                   decoder_->next_following(with_.slots_.data(),
                                            std::span(with_.activity_tables_).first(with_.model.buckets),
                                            std::span(room(s_.buckets, runs()), runs())));
}

size_t ClassCoder::Reading::list_token_tables() {
  const size_t n = out_.size(), whole = n / run_length;
  const uint8_t* const buckets = s_.buckets.data();
  uint32_t* const active = room(s_.active, runs() + 16);
  active_ = cpu::list_nonzero({buckets, runs()}, active);
  uint8_t* const tables = room(s_.tables, active_ + 1);
  for (size_t k = 0; k < active_; ++k) tables[k] = with_.token_tables_[buckets[active[k]]];
  const uint32_t joined = classes_per_token(plan_.classes);
  last_ = runs() > whole && buckets[whole] != 0 ? (n - whole * run_length + joined - 1) / joined : 0;
  // Where few runs have any, what is kept is found faster by a list, and sooner so where there are planes.
  if (by_runs_ && active_ * (with_.runs_->has_planes() ? 2 : 8) < runs()) by_runs_ = false;
  active_ -= last_ > 0;
  room(s_.tokens, active_ * each() + last_);
  return active_;
}

void ClassCoder::Reading::read_tokens() {
  decoder_->next_groups(with_.slots_.data(), std::span<const uint8_t>(s_.tables.data(), active_), each(),
                        s_.tokens.data());
}

/// A short run becomes a whole one.
void ClassCoder::Reading::fill_up_last_run() {
  if (last_ == 0) return;
  uint8_t* const last = room(s_.tokens, (active_ + 1) * each()) + active_ * each();
  ++active_;
  std::fill(last + last_, last + each(), uint8_t(0));
  if (out_.size() % 2 != 0 && with_.runs_->second[last[last_ - 1]] != 0)
    damaged(what_, "padding classes are not zero");
}

/// Classes of all elements from tokens.
void ClassCoder::Reading::take_classes() {
  const size_t n = out_.size(), whole = n / run_length;
  const uint32_t joined = classes_per_token(plan_.classes);
  const uint8_t* tokens = s_.tokens.data();
  uint8_t* const classes = room(s_.classes, runs() * run_length);
  std::memset(classes, 0, runs() * run_length);
  for (size_t k = 0; k < active_ + (last_ > 0); ++k) {
    uint8_t* const run = classes + s_.active[k] * run_length;
    const size_t count = s_.active[k] == whole ? last_ : each();
    for (size_t t = 0; t < count; ++t)
      std::memcpy(run + joined * t, &with_.token_classes_[tokens[t] * 4], joined);
    tokens += count;
  }
  for (size_t i = n; i < (n + joined - 1) / joined * joined; ++i)
    if (classes[i]) damaged(what_, "padding classes are not zero");
}

void ClassCoder::Reading::list_tokens() {
  const size_t count = active_ * each() + last_;
  const uint8_t* const classes = with_.token_classes_.data();
  switch (classes_per_token(plan_.classes)) {
    case 4:
      jsq::list_tokens<4>(classes, count, s_);
      break;
    case 2:
      jsq::list_tokens<2>(classes, count, s_);
      break;
    default:
      jsq::list_tokens<1>(classes, count, s_);
      break;
  }
  if (s_.kept_count > 0 && s_.kept[s_.kept_count - 1] >= out_.size())
    damaged(what_, "padding classes are not zero");
}

void ClassCoder::Reading::end_map() {
  const size_t n = out_.size(), whole = n / run_length;
  if (with_.map == MapPacker::entropy) {
    if (last_ > 0)
      decoder_->next_groups(with_.slots_.data(), {&with_.token_tables_[s_.buckets[whole]], 1}, last_,
                            s_.tokens.data() + active_ * each());
    if (by_runs_) return fill_up_last_run();
    if (plan_.width[0] == 0) return list_tokens();
    take_classes();
  }
  if (named_) return;
  const std::span<const uint8_t> classes(s_.classes.data(), n);
  s_.kept_count = list_kept(plan_, classes, room(s_.kept, n + 16));
  uint8_t* const kept_classes = room(s_.kept_classes, s_.kept_count);
  for (size_t k = 0; k < s_.kept_count; ++k) kept_classes[k] = classes[s_.kept[k]];
}

size_t ClassCoder::Reading::list_magnitude_tables() {
  if (by_runs_) {
    const size_t most = active_ * run_length;
    coded_ = cpu::list_run_tables(*with_.runs_, s_.buckets.data(), runs(), s_.tokens.data(),
                                  room(s_.tables, most + cpu::runs_padding), in_planes_);
    room(s_.symbols, coded_ + cpu::runs_padding);
    return coded_;
  }
  // In index order; the planes lie between them and the sign bits.
  const EntropyModel& entropy = with_.model;
  uint8_t numbers[max_classes][max_activity_buckets] = {};
  bool is_coded[max_classes] = {};
  for (uint32_t j = 1; j < plan_.classes; ++j) {
    is_coded[j] = entropy.magnitudes_coded >> (j - 1) & 1;
    const bool by_activity = entropy.magnitudes_by_activity >> (j - 1) & 1;
    for (uint32_t b = 0; b < max_activity_buckets; ++b)
      numbers[j][b] = with_.magnitude_tables_[j][by_activity ? b : 0];
  }
  const bool needs_activities = entropy.magnitudes_by_activity != 0;
  const uint8_t *const buckets = s_.buckets.data(), *const kept_classes = s_.kept_classes.data();
  const uint32_t* const kept = s_.kept.data();
  uint8_t* const tables = room(s_.tables, s_.kept_count + 1);
  coded_ = 0;
  for (size_t k = 0; k < s_.kept_count; ++k) {
    const uint32_t c = kept_classes[k];
    tables[coded_] = numbers[c][needs_activities ? buckets[kept[k] / run_length] : 0];
    coded_ += is_coded[c];
  }
  room(s_.symbols, coded_);
  return coded_;
}

void ClassCoder::Reading::read_magnitudes() {
  decoder_->next_indexed(with_.slots_.data(), s_.tables.data(), s_.symbols.data(), coded_);
}

void ClassCoder::Reading::write_runs() {
  // Planes, then the stream of those with symbols, and zeros behind all of them.
  s_.stream.assign(block_.substr(at_));
  s_.stream.append(cpu::runs_padding, 0);
  cpu::RunBits bits[cpu::RunClasses::most_classes];
  size_t at = at_;
  for (uint32_t j = 1; j < cpu::RunClasses::most_classes; ++j) {
    if (!with_.runs_->has_plane(j)) continue;
    const uint64_t members_bits = uint64_t(in_planes_[j]) * plan_.width[j];
    if ((members_bits + 7) / 8 > block_.size() - at) damaged(what_, "a value plane is truncated");
    bits[j] = {s_.stream.data() + (at - at_), size_t(members_bits), 0, with_.value_parts_[j].values.data()};
    at += size_t((members_bits + 7) / 8);
  }
  bits[0] = {s_.stream.data() + (at - at_), 8 * (block_.size() - at)};
  const bool whole = out_.size() % run_length == 0;
  float* const values = whole ? out_.data() : room(s_.values, runs() * run_length);
  cpu::write_run_values(*with_.runs_, s_.buckets.data(), runs(), s_.tokens.data(), s_.symbols.data(), bits,
                        values);
  if (!whole) std::copy_n(values, out_.size(), out_.begin());
  const auto ends_in_zeros = [](const cpu::RunBits& of) {
    return of.taken % 8 == 0 || (uint8_t(of.bytes[of.taken / 8]) << of.taken % 8 & 255) == 0;
  };
  for (uint32_t j = 1; j < cpu::RunClasses::most_classes; ++j)
    if (bits[j].bytes && !ends_in_zeros(bits[j])) damaged(what_, "padding bits are not zero");
  if (bits[0].taken > bits[0].most || !ends_in_zeros(bits[0]))
    damaged(what_, "the sign bits are truncated or their padding is not zero");
  check_end(at + (bits[0].taken + 7) / 8);
}

void ClassCoder::Reading::end() {
  if (with_.model.uses_rans() && !decoder_->finished())
    damaged(what_, "the entropy-coded stream does not end where it should");
  if (by_runs_) return write_runs();
  const uint32_t* const kept = s_.kept.data();
  const uint8_t* const kept_classes = s_.kept_classes.data();
  const size_t count = s_.kept_count;
  size_t at = at_;
  std::fill(out_.begin(), out_.end(), 0.0f);
  float* const out = out_.data();
  const bool one_class = plan_.classes == 2 && plan_.width[0] == 0;
  for (uint32_t j = 0; j < plan_.classes; ++j) {
    const ValueParts& parts = with_.value_parts_[j];
    if (parts.bits == 0 || parts.has_symbols) continue;
    const uint64_t members =
        one_class ? count : uint64_t(std::count(kept_classes, kept_classes + count, uint8_t(j)));
    const uint64_t plane_bytes = (members * parts.bits + 7) / 8;
    if (plane_bytes > block_.size() - at) damaged(what_, "a value plane is truncated");
    BitReader plane(block_.substr(at, size_t(plane_bytes)));
    for (size_t k = 0; k < count; ++k)
      if (kept_classes[k] == j) out[kept[k]] = parts.values[plane.get(parts.bits)];
    if (!plane.align()) damaged(what_, "padding bits are not zero");
    at += size_t(plane_bytes);
  }
  if (with_.model.magnitudes_coded != 0) {
    BitReader raw(block_.substr(at));
    const uint8_t* symbols = s_.symbols.data();
    for (size_t k = 0; k < count; ++k) {
      const ValueParts& parts = with_.value_parts_[kept_classes[k]];
      if (!parts.has_symbols) continue;
      const uint32_t bits = raw.get(parts.bits);
      const uint32_t index = uint32_t(*symbols++) << parts.low_bits | (bits & parts.low_mask);
      if (index >= parts.half) damaged(what_, "a magnitude beyond the last");
      out[kept[k]] = parts.values[(bits >> parts.low_bits) * parts.half + index];
    }
    if (!raw.align() || raw.overrun())
      damaged(what_, "the sign bits are truncated or their padding is not zero");
    at += raw.consumed();
  }
  check_end(at);
}

std::span<const uint32_t> ClassCoder::decode(std::string_view block, std::span<float> values,
                                             std::string_view what) const {
  const ClassBlock alone{block, values, what};
  std::span<const uint32_t> kept;
  decode({&alone, 1}, {&kept, 1});
  return kept;
}

void ClassCoder::read_alone(Reading& reading) const {
  reading.begin(false);
  if (map == MapPacker::entropy) {
    reading.begin_section();
    reading.read_activities();
    reading.begin_section();
    reading.list_token_tables();
    reading.read_tokens();
  }
  reading.end_map();
  if (model.magnitudes_coded != 0) {
    reading.begin_section();
    reading.list_magnitude_tables();
    reading.read_magnitudes();
  }
  reading.end();
}

size_t ClassCoder::decoded_together() const {
  return model.uses_rans() && lanes <= 8 ? cpu::rans_together : 1;
}

void ClassCoder::decode(std::span<const ClassBlock> blocks,
                        std::span<std::span<const uint32_t> > kept) const {
  constexpr size_t half = cpu::rans_together / 2;
  // Streams that are missing take as long as others: five blocks are faster as four and one.
  const size_t first = blocks.size() < cpu::rans_together - 1 ? std::min(blocks.size(), half) : blocks.size();
  decode_beside(blocks.first(first), kept.empty() ? kept : kept.first(first), 0);
  if (first < blocks.size())
    decode_beside(blocks.subspan(first), kept.empty() ? kept : kept.subspan(first), half);
}

/// With the thread's buffers from number `first_buffer` on.
void ClassCoder::decode_beside(std::span<const ClassBlock> blocks, std::span<std::span<const uint32_t> > kept,
                               size_t first_buffer) const {
  const bool list = !kept.empty();
  ReadBuffers* const buffers = read_buffers().data() + first_buffer;
  if (blocks.size() == 1 || decoded_together() == 1) {
    for (size_t k = 0; k < blocks.size(); ++k) {
      Reading reading(*this, blocks[k], buffers[list ? k : 0], list);
      read_alone(reading);
      if (list) kept[k] = reading.kept();
    }
    return;
  }
  constexpr size_t most_together = cpu::rans_together;
  const size_t together = blocks.size() <= most_together / 2 ? most_together / 2 : most_together;
  const cpu::RansTables with{slots_.data(), starts_.data()};
  std::vector<Reading> readings;
  for (size_t k = 0; k < blocks.size(); ++k) {
    readings.emplace_back(*this, blocks[k], buffers[k], list).begin(true);
  }
  // Streams that are missing, and those that end before others, go on with table 0, which leaves them as they
  // are.
  static const char none[cpu::rans_padding] = {};
  cpu::EightLanes lanes_of[most_together];
  const std::span<cpu::EightLanes> streams(lanes_of, together);
  const auto lend = [&] {
    for (size_t k = 0; k < together; ++k) {
      lanes_of[k] = cpu::EightLanes{{}, none, none};
      if (k >= readings.size()) continue;
      readings[k].begin_section();
      lanes_of[k] = readings[k].lend();
    }
  };
  const auto take_back = [&] {
    for (size_t k = 0; k < readings.size(); ++k) readings[k].take_back(lanes_of[k]);
  };
  uint8_t* symbols[most_together];
  const uint8_t* tables[most_together];
  /// All lists as long as the longest, which is returned.
  const auto pad = [&](const size_t* counts, size_t multiple) {
    const size_t most = (*std::max_element(counts, counts + together) + multiple - 1) / multiple * multiple;
    for (size_t k = 0; k < together; ++k) {
      uint8_t* const padded = room(buffers[k].tables, most);
      std::fill(padded + counts[k], padded + most, uint8_t(0));
      tables[k] = padded;
    }
    return most;
  };

  if (map == MapPacker::entropy) {
    const size_t runs = readings[0].runs();
    if (std::all_of(readings.begin(), readings.end(), [&](const Reading& r) { return r.runs() == runs; })) {
      lend();
      for (size_t k = 0; k < together; ++k) symbols[k] = room(buffers[k].buckets, runs);
      cpu::decode_following_beside(with, lanes, streams, activity_tables_.data(), runs, symbols);
      take_back();
      for (size_t k = 0; k < readings.size(); ++k)
        readings[k].check_activities(
            std::all_of(symbols[k], symbols[k] + runs, [&](uint8_t b) { return b < model.buckets; }));
    } else {
      for (Reading& reading : readings) {
        reading.begin_section();
        reading.read_activities();
      }
    }
    size_t active[most_together] = {};
    for (size_t k = 0; k < readings.size(); ++k) active[k] = readings[k].list_token_tables();
    const size_t most = pad(active, 1), each = run_length / classes_per_token(plan.classes);
    for (size_t k = 0; k < together; ++k) symbols[k] = room(buffers[k].tokens, most * each);
    lend();
    cpu::decode_groups_beside(with, lanes, streams, tables, most, each, symbols);
    take_back();
  }
  for (Reading& reading : readings) reading.end_map();
  if (model.magnitudes_coded != 0) {
    size_t coded[most_together] = {};
    for (size_t k = 0; k < readings.size(); ++k) coded[k] = readings[k].list_magnitude_tables();
    const size_t most = pad(coded, 8);
    for (size_t k = 0; k < together; ++k) symbols[k] = room(buffers[k].symbols, most + cpu::runs_padding);
    lend();
    cpu::decode_symbols_beside(with, lanes, streams, tables, most / 8, symbols);
    take_back();
  }
  for (Reading& reading : readings) reading.end();
  for (size_t k = 0; k < kept.size(); ++k) kept[k] = readings[k].kept();
}

}  // namespace jsq
