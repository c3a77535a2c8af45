// Class blocks are read.
#include <algorithm>
#include <bit>

#include "jsq/error.hpp"
#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "lib/core/bytes.hpp"
#include "lib/packers/class_scratch.hpp"

namespace jsq {

using cpu::BitReader;
using element::max_activity_buckets;
using element::token_table_offset;

void ClassCoder::prepare_decoding() {
  // Table 0 stands in for tables that a damaged model lacks, so that every offset is valid.
  // Symbol 0 has all its slots, and leaves the states as they are.
  slots_.clear();
  for (uint32_t slot = 0; slot < element::rans_total; ++slot)
    slots_.push_back(element::make_rans_slot(0, element::rans_total, slot));
  auto add = [&](const SymbolFrequencies& frequencies) {
    if (frequencies == SymbolFrequencies{}) return 0u;
    const auto offset = uint32_t(slots_.size());
    slots_.resize(offset + element::rans_total);
    uint32_t slot = offset;
    for (uint32_t symbol = 0; symbol < max_symbols; ++symbol)
      for (uint32_t i = 0; i < frequencies[symbol]; ++i)
        slots_[slot++] = element::make_rans_slot(symbol, frequencies[symbol], i);
    return offset;
  };
  if (model.map_coded)
    for (uint32_t b = 0; b < model.buckets; ++b) {
      map_slots_[b] = add(model.activity_frequencies(b));
      if (b > 0) map_slots_[token_table_offset + b] = add(model.token_frequencies(b));
    }
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    if (!by_activity) magnitude_slots_[j].fill(add(model.magnitude_frequencies(j, 0)));
    for (uint32_t b = 1; by_activity && b < model.buckets; ++b)
      magnitude_slots_[j][b] = add(model.magnitude_frequencies(j, b));
  }
  join_values();
  const uint32_t joined = classes_per_token(plan.classes);
  for (uint32_t token = 0; token < 16; ++token)
    for (uint32_t i = 0, rest = token; i < 4; ++i, rest /= std::max(plan.classes, 2u))
      token_classes_[token * 4 + i] = i < joined ? uint8_t(rest % std::max(plan.classes, 2u)) : 0;
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

/// The bits of eight tokens of four, one of each element.
inline uint32_t mask_of_tokens(const uint8_t* tokens) {
  uint64_t word;
  std::memcpy(&word, tokens, 8);
  word = (word | word >> 4) & 0x00ff00ff00ff00ffu;
  word = (word | word >> 8) & 0x0000ffff0000ffffu;
  return uint32_t(word | word >> 16);
}

/// Lists what is kept of `whole` runs and of `last` tokens of one more, from the tokens of active runs.
void list_tokens(size_t whole, size_t last, ClassScratch& s) {
  const uint8_t* tokens = s.tokens.data();
  uint32_t* kept = s.kept.data();
  size_t count = 0;
  const auto list = [&](size_t run, uint32_t mask) {
    for (; mask != 0; mask &= mask - 1)
      kept[count++] = uint32_t(run * run_length) + uint32_t(std::countr_zero(mask));
  };
  for (size_t r = 0; r < whole; ++r) {
    if (s.buckets[r] == 0) continue;
    list(r, mask_of_tokens(tokens));
    tokens += run_length / 4;
  }
  uint8_t rest[run_length / 4] = {};
  std::copy(tokens, tokens + last, rest);
  if (last > 0) list(whole, mask_of_tokens(rest));
  s.kept_count = count;
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

std::span<const uint32_t> ClassCoder::decode(std::string_view block, std::span<float> values,
                                             std::string_view what) const {
  ClassScratch& s = class_scratch();
  const size_t n = values.size();
  s.resize(n);
  uint8_t* classes = s.classes.data();
  size_t at = 0;

  bool named = false, listed = false;  // what is kept, with its classes or without
  if (map != MapPacker::entropy) {
    BitReader in(block);
    switch (map) {
      case MapPacker::raw: {
        const uint32_t bits = raw_map_bits(plan.classes);
        for (size_t i = 0; i < n; ++i) {
          classes[i] = uint8_t(in.get(bits));
          if (classes[i] >= plan.classes) damaged(what, "a class beyond the last");
        }
        break;
      }
      case MapPacker::bitmap:
        for (size_t i = 0; i < n; ++i) classes[i] = uint8_t(in.bit());
        if (!in.align()) damaged(what, "padding bits are not zero");
        for (size_t i = 0; i < n; ++i)
          if (classes[i]) classes[i] = uint8_t(get_class(in, plan.classes));
        break;
      case MapPacker::index32:
      case MapPacker::packed: {
        const uint32_t bits = map == MapPacker::packed ? packed_index_bits(n) : 32;
        const uint64_t kept = in.get(32);
        if (kept > n) damaged(what, "more kept elements than elements");
        uint64_t expected = 0;
        for (uint64_t k = 0; k < kept; ++k) {
          const uint64_t index = in.get(bits);
          if (index < expected || index >= n || in.overrun())
            damaged(what, "indices do not ascend or leave the block");
          s.kept[k] = uint32_t(index);
          s.kept_classes[k] = uint8_t(get_class(in, plan.classes));
          expected = index + 1;
        }
        s.kept_count = kept;
        break;
      }
      default: {
        const uint32_t parameter = in.get(8);
        const uint64_t kept = in.get(32);
        if (parameter > 31 || kept > n) damaged(what, "impossible gap parameter or count");
        uint64_t expected = 0;
        for (uint64_t k = 0; k < kept; ++k) {
          uint64_t gap = in.get_unary(n >> parameter) << parameter;
          gap |= in.get(parameter);
          if (gap >= n - expected || in.overrun()) damaged(what, "a gap leaves the block");
          expected += gap;
          s.kept[k] = uint32_t(expected++);
          s.kept_classes[k] = uint8_t(get_class(in, plan.classes));
        }
        s.kept_count = kept;
        break;
      }
    }
    if (!in.align() || in.overrun()) damaged(what, "the class map is truncated or its padding is not zero");
    at = in.consumed();
    if (at > block.size()) damaged(what, "the class map is truncated");
    named = names_kept(map);
    if (named && model.needs_activities()) {
      std::fill(classes, classes + n, uint8_t(0));
      for (size_t k = 0; k < s.kept_count; ++k) classes[s.kept[k]] = s.kept_classes[k];
    }
    if (model.needs_activities())
      cpu::run_activities(std::span<const uint8_t>(classes, n), std::span(s.buckets.data(), runs_of(n)));
  }

  std::string_view rans;
  if (model.uses_rans()) {
    ByteReader in(block.substr(at), what);
    rans = in.string();
    at += in.position();
  }
  cpu::RansDecoder decoder(rans, lanes);
  if (map == MapPacker::entropy) {
    const size_t runs = runs_of(n);
    const uint32_t joined = classes_per_token(plan.classes);
    if (model.buckets == 0 && runs > 0) damaged(what, "no activity tables");
    decoder.begin_section();
    if (runs > 0 && !decoder.next_following(slots_.data(), std::span(map_slots_).first(model.buckets),
                                            std::span(s.buckets.data(), runs)))
      damaged(what, "an activity beyond the last");
    // Tokens of the whole runs, then of a short last one, then from tokens to classes.
    decoder.begin_section();
    const size_t whole = n / run_length, each = run_length / joined;
    uint32_t* offsets = s.offsets.data();
    size_t active = 0;
    for (size_t r = 0; r < whole; ++r) {
      offsets[active] = map_slots_[token_table_offset + s.buckets[r]];
      active += s.buckets[r] != 0;
    }
    const size_t last =
        runs > whole && s.buckets[whole] != 0 ? (n - whole * run_length + joined - 1) / joined : 0;
    if (s.tokens.size() < active * each + last) s.tokens.resize(active * each + last);
    decoder.next_groups(slots_.data(), std::span<const uint32_t>(offsets, active), each, s.tokens.data());
    const uint8_t* tokens = s.tokens.data();
    if (last) {
      offsets[0] = map_slots_[token_table_offset + s.buckets[whole]];
      decoder.next_groups(slots_.data(), std::span<const uint32_t>(offsets, 1), last,
                          s.tokens.data() + active * each);
    }
    // Tokens of two classes are masks of what is kept.
    listed = plan.classes == 2 && plan.width[0] == 0;
    if (listed) list_tokens(whole, last, s);
    for (size_t r = 0; !listed && r < runs; ++r) {
      uint8_t* run = classes + r * run_length;
      if (s.buckets[r] == 0 || r == whole) std::memset(run, 0, run_length);
      if (s.buckets[r] == 0) continue;
      const size_t count = r == whole ? last : each;
      if (plan.classes == 4) {
        // The default: two classes of two bits, split without a table so that the loop vectorises.
        for (size_t t = 0; t < count; ++t) {
          const auto pair = uint16_t((tokens[t] & 3) | (tokens[t] >> 2) << 8);
          std::memcpy(run + 2 * t, &pair, 2);
        }
      } else if (joined == 2) {
        for (size_t t = 0; t < count; ++t) std::memcpy(run + 2 * t, &token_classes_[tokens[t] * 4], 2);
      } else if (joined == 4) {
        for (size_t t = 0; t < count; ++t) std::memcpy(run + 4 * t, &token_classes_[tokens[t] * 4], 4);
      } else {
        std::memcpy(run, tokens, count);
      }
      tokens += count;
    }
    for (size_t i = n; !listed && i < (n + joined - 1) / joined * joined; ++i)
      if (classes[i]) damaged(what, "padding classes are not zero");
    if (listed && s.kept_count > 0 && s.kept[s.kept_count - 1] >= n)
      damaged(what, "padding classes are not zero");
    if (!listed && plan.width[0] == 0) {
      s.kept_count = cpu::list_active(std::span<const uint8_t>(classes, n),
                                      std::span<const uint8_t>(s.buckets.data(), runs), s.kept.data());
      listed = true;
    }
  }

  if (!named && !listed) list_kept(plan, n, s);
  const uint32_t* kept = s.kept.data();
  const size_t count = s.kept_count;
  uint8_t* kept_classes = s.kept_classes.data();
  if (plan.classes == 2 && plan.width[0] == 0)
    std::fill(kept_classes, kept_classes + count, uint8_t(1));
  else if (!named)
    for (size_t k = 0; k < count; ++k) kept_classes[k] = classes[kept[k]];

  // Magnitude indices of the coded classes, in index order; the planes lie between them and the sign bits.
  if (model.magnitudes_coded != 0) {
    decoder.begin_section();
    uint32_t tables[max_classes][max_activity_buckets] = {};
    bool is_coded[max_classes] = {};
    for (uint32_t j = 1; j < plan.classes; ++j) {
      is_coded[j] = model.magnitudes_coded >> (j - 1) & 1;
      const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
      for (uint32_t b = 0; b < max_activity_buckets; ++b)
        tables[j][b] = magnitude_slots_[j][by_activity ? b : 0];
    }
    const bool needs_activities = model.magnitudes_by_activity != 0;
    const uint8_t* buckets = s.buckets.data();
    uint32_t* offsets = s.offsets.data();
    size_t coded = 0;
    for (size_t k = 0; k < count; ++k) {
      const uint32_t c = kept_classes[k];
      offsets[coded] = tables[c][needs_activities ? buckets[kept[k] / run_length] : 0];
      coded += is_coded[c];
    }
    decoder.next_indexed(slots_.data(), offsets, s.codes.data(), coded);
  }
  if (model.uses_rans() && !decoder.finished())
    damaged(what, "the entropy-coded stream does not end where it should");

  read_values(block, at, values, what);
  return {kept, count};
}

/// The values of the kept elements, from the planes that begin at byte `at` and the symbols that are decoded.
void ClassCoder::read_values(std::string_view block, size_t at, std::span<float> values,
                             std::string_view what) const {
  ClassScratch& s = class_scratch();
  const uint32_t* kept = s.kept.data();
  const uint8_t* kept_classes = s.kept_classes.data();
  const size_t count = s.kept_count;

  std::fill(values.begin(), values.end(), 0.0f);
  float* out = values.data();
  const bool one_class = plan.classes == 2 && plan.width[0] == 0;
  for (uint32_t j = 0; j < plan.classes; ++j) {
    const ValueParts& parts = value_parts_[j];
    if (parts.bits == 0 || parts.has_symbols) continue;
    const uint64_t members =
        one_class ? count : uint64_t(std::count(kept_classes, kept_classes + count, uint8_t(j)));
    const uint64_t plane_bytes = (members * parts.bits + 7) / 8;
    if (plane_bytes > block.size() - at) damaged(what, "a value plane is truncated");
    BitReader plane(block.substr(at, size_t(plane_bytes)));
    for (size_t k = 0; k < count; ++k)
      if (kept_classes[k] == j) out[kept[k]] = parts.values[plane.get(parts.bits)];
    if (!plane.align()) damaged(what, "padding bits are not zero");
    at += size_t(plane_bytes);
  }
  if (model.magnitudes_coded != 0) {
    BitReader raw(block.substr(at));
    const uint8_t* symbols = s.codes.data();
    for (size_t k = 0; k < count; ++k) {
      const ValueParts& parts = value_parts_[kept_classes[k]];
      if (!parts.has_symbols) continue;
      const uint32_t bits = raw.get(parts.bits);
      const uint32_t index = uint32_t(*symbols++) << parts.low_bits | (bits & parts.low_mask);
      if (index >= parts.half) damaged(what, "a magnitude beyond the last");
      out[kept[k]] = parts.values[(bits >> parts.low_bits) * parts.half + index];
    }
    if (!raw.align() || raw.overrun())
      damaged(what, "the sign bits are truncated or their padding is not zero");
    at += raw.consumed();
  }
  if (at != block.size())
    damaged(what, "expected " + std::to_string(at) + " bytes, found " + std::to_string(block.size()));
}

}  // namespace jsq
