#include "lib/packers/entropy_levels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/level_signs.hpp"
#include "kernels/cpu/levels.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "lib/core/bytes.hpp"
#include "lib/packers/elias.hpp"
#include "lib/packers/entropy_model.hpp"
#include "lib/packers/level_parts.hpp"

namespace jsq {

using cpu::BitReader;
using cpu::BitWriter;

namespace {

/// Buffers of one block, reused by a thread from block to block.
struct Scratch {
  std::vector<uint16_t> tokens;
  std::vector<uint8_t> decoded_tokens;
  std::vector<element::RansSlot> slots;
  std::string block;
};
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

using element::token_schemes;
using element::TokenScheme;
constexpr uint32_t schemes = 3;

uint32_t scheme_for(uint32_t largest) {
  return largest < 16 ? 0 : largest < 2048 ? 1 : 2;
}

/// More lanes are faster and cost some three bytes each: at most one part in 85.
uint32_t log2_lanes_for(uint64_t token_bits) {
  return token_bits >= 16384 ? 3 : token_bits >= 8192 ? 2 : token_bits >= 4096 ? 1 : 0;
}

/// What the head of an entropy-coded block says, and the frequencies that follow from it.
struct TokenModel {
  uint32_t scheme = 0;
  uint32_t log2_lanes = 0;
  uint32_t symbols = 1;  ///< K
  SymbolWeights weights{};
  SymbolFrequencies frequencies{};

  /// Derives the frequencies from the weights.
  void prepare() {
    std::array<uint64_t, max_symbols> wide{};
    std::copy(weights.begin(), weights.end(), wide.begin());
    frequencies = normalise(wide);
  }
  bool single() const { return std::count(weights.begin(), weights.end(), 0u) == max_symbols - 1; }
  uint64_t head_bits() const { return 8 + symbol_table_bits(weights, symbols); }
};

/// Ideal length of the coded tokens in bits.
uint64_t token_bits(const SymbolCounts& counts, const SymbolFrequencies& frequencies) {
  uint64_t bits_q16 = 0;
  for (uint32_t s = 0; s < max_symbols; ++s)
    if (counts[s] > 0) bits_q16 += counts[s] * code_length_q16(frequencies[s]);
  return (bits_q16 + 0xffff) >> 16;
}

/// The model of a block whose tokens are counted, without its lanes.  \pre a count is above 0
TokenModel fit_tokens(const SymbolCounts& counts, uint32_t scheme) {
  TokenModel model;
  model.scheme = scheme;
  for (uint32_t s = 0; s < max_symbols; ++s)
    if (counts[s] > 0) model.symbols = s + 1;
  model.weights = symbol_weights(counts);
  model.prepare();
  if (!model.single()) model.log2_lanes = log2_lanes_for(token_bits(counts, model.frequencies));
  return model;
}

bool has_sign_bits(LevelRange range) {
  return range.low < 0 && range.high > 0;
}

/// Bits of the third part: signs and low bits.
uint64_t raw_bits(const SymbolCounts& counts, uint32_t scheme, LevelRange range) {
  uint64_t bits = 0;
  for (uint32_t s = 1; s < max_symbols; ++s)
    bits += counts[s] * (token_schemes[scheme].raw_bits(s) + has_sign_bits(range));
  return bits;
}

void write_tokens(std::span<const uint16_t> tokens, const EntropyLevelPlan& plan, std::string& out) {
  cpu::RansEncoder encoder(plan.lanes, tokens.size());
  encoder.encode_section(tokens, plan.symbols);
  std::string& stream = scratch().block;
  stream.clear();
  encoder.finish(stream);
  ByteWriter words;
  words.uvarint((stream.size() - plan.lanes * sizeof(uint32_t)) / sizeof(uint16_t));
  out.append(words.bytes());
  out.append(stream);
}

/// Signs and low bits of all levels, `total` bits of them. Four levels have at most 56 bits, so that a window
/// of 64 takes them and a rest of seven; the whole bytes are stored without asking how many there are.
void write_raw(std::span<const int32_t> levels, const uint16_t* tokens, TokenScheme scheme, uint32_t signs,
               uint64_t total, std::string& out) {
  std::array<uint32_t, max_symbols> low_bits{}, count{};
  for (uint32_t s = 1; s < max_symbols; ++s) {
    low_bits[s] = scheme.raw_bits(s);
    count[s] = low_bits[s] + signs;
  }
  const size_t at = out.size(), bytes = size_t((total + 7) / 8);
  out.resize(at + bytes + sizeof(uint64_t));
  char* next = out.data() + at;
  uint64_t window = 0;
  uint32_t filled = 0;
  auto put = [&](size_t i) {
    const uint32_t s = tokens[i], low = magnitude_of(levels[i]) & ((1u << low_bits[s]) - 1);
    const uint32_t value = (sign_bit(levels[i]) & signs) << low_bits[s] | low;
    filled += count[s];
    window |= uint64_t(value) << (64 - filled) % 64;  // nothing yet and nothing to put: 0 << 0
  };
  auto store = [&] {
    const uint64_t word = __builtin_bswap64(window);
    std::memcpy(next, &word, sizeof(word));
    next += filled / 8;
    window <<= filled / 8 * 8;
    filled %= 8;
  };
  size_t i = 0;
  for (; i + 4 <= levels.size(); i += 4) {
    for (size_t k = 0; k < 4; ++k) put(i + k);
    store();
  }
  for (; i < levels.size(); ++i) put(i);
  store();
  out.resize(at + bytes);
}

/// The third part where no token has raw bits: a sign for each level that is not zero, `total` in all.
void write_signs(std::span<const int32_t> levels, uint64_t total, std::string& out) {
  const size_t at = out.size(), bytes = size_t((total + 7) / 8);
  out.resize(at + bytes + sizeof(uint64_t));
  cpu::pack_level_signs(levels, out.data() + at);
  out.resize(at + bytes);
}

/// How often each token of a scheme occurs.
SymbolCounts count_tokens(const LevelHistogram& histogram, TokenScheme scheme) {
  SymbolCounts counts{};
  histogram.each([&](int32_t level, uint64_t count) { counts[scheme.token(magnitude_of(level))] += count; });
  return counts;
}

/// Fills `model` from the head of a block and returns the head's size in bytes.
size_t read_head(std::string_view bytes, TokenModel& model, std::string_view what) {
  BitReader in(bytes);
  model.scheme = in.get(2);
  model.log2_lanes = in.get(2);
  model.symbols = in.get(4) + 1;
  const bool possible = model.scheme < schemes && read_symbol_table(in, model.weights, model.symbols);
  const bool aligned = in.align();
  if (in.overrun() || in.consumed() > bytes.size()) damaged_levels(what, "the token table is truncated");
  model.prepare();
  if (!possible || !aligned || model.frequencies == SymbolFrequencies{} ||
      (model.single() && model.log2_lanes != 0))
    damaged_levels(what, "an impossible token table");
  return in.consumed();
}

/// Decodes the tokens of all levels.
void read_tokens(std::string_view stream, const EntropyLevelHead& head, size_t n, uint8_t* tokens,
                 std::string_view what) {
  std::vector<element::RansSlot>& slots = scratch().slots;
  slots.resize(element::rans_total);
  uint32_t slot = 0;
  for (uint32_t s = 0; s < max_symbols; ++s)
    for (uint32_t i = 0; i < head.frequencies[s]; ++i)
      slots[slot++] = element::make_rans_slot(s, head.frequencies[s], i);
  cpu::RansDecoder decoder(stream, head.lanes);
  decoder.begin_section();
  const uint8_t table = 0;
  const size_t whole = n / 8 * 8;
  decoder.next_groups(slots.data(), {&table, 1}, whole, tokens);
  for (size_t i = whole; i < n; ++i) tokens[i] = uint8_t(decoder.next(slots.data()));
  if (!decoder.finished()) damaged_levels(what, "the entropy-coded tokens do not end where they should");
}

/// Levels from tokens without raw bits, and their signs.
void read_signs(std::string_view bytes, std::span<const uint8_t> tokens, LevelRange range,
                std::span<int32_t> levels, std::string_view what) {
  uint64_t bits = 0;
  if (has_sign_bits(range))
    bits = cpu::restore_level_signs(tokens, bytes, levels);
  else
    for (size_t i = 0; i < levels.size(); ++i) levels[i] = signed_level(tokens[i], range.high == 0);
  const bool padded = bits % 8 != 0 && bytes.size() == bits / 8 + 1 &&
                      (uint8_t(bytes[size_t(bits / 8)]) & (0xffu >> bits % 8)) == 0;
  if (!padded && (bits % 8 != 0 || bytes.size() != bits / 8))
    damaged_levels(what, "the sign bits do not end where they should, or their padding is not zero");
  check_levels(levels, range, what);
}

/// Levels from their tokens, signs and low bits.
void read_raw(std::string_view bytes, TokenScheme scheme, const uint8_t* tokens, LevelRange range,
              std::span<int32_t> levels, std::string_view what) {
  std::array<uint32_t, max_symbols> first{}, low_bits{}, count{};
  const bool signs = has_sign_bits(range);
  for (uint32_t s = 1; s < max_symbols; ++s) {
    low_bits[s] = scheme.raw_bits(s);
    first[s] = scheme.first_magnitude(s);
    count[s] = low_bits[s] + signs;
  }
  const uint32_t always_negative = range.high == 0;
  OmegaReader in(bytes);
  auto read = [&](uint32_t token) {
    const uint32_t bits = in.take(count[token]);
    const uint32_t magnitude = first[token] | (bits & ((1u << low_bits[token]) - 1));
    return signed_level(magnitude, bits >> low_bits[token] | always_negative);
  };
  // A level takes at most 14 bits: four of them a refill.
  size_t i = 0;
  for (; i + 4 <= levels.size(); i += 4) {
    in.refill();
    for (size_t k = 0; k < 4; ++k) levels[i + k] = read(tokens[i + k]);
  }
  in.refill();
  for (; i < levels.size(); ++i) levels[i] = read(tokens[i]);
  if (!in.finished())
    damaged_levels(what, "the sign bits do not end where they should, or their padding is not zero");
  check_levels(levels, range, what);
}

}  // namespace

EntropyLevelPlan plan_entropy_levels(const LevelHistogram& histogram, LevelRange range) {
  const uint32_t number = scheme_for(histogram.largest_magnitude());
  const SymbolCounts counts = count_tokens(histogram, token_schemes[number]);
  const TokenModel model = fit_tokens(counts, number);
  EntropyLevelPlan plan;
  plan.scheme = token_schemes[number];
  plan.raw_bits = raw_bits(counts, number, range);
  BitWriter head(plan.head);
  head.put(model.scheme, 2);
  head.put(model.log2_lanes, 2);
  head.put(model.symbols - 1, 4);
  write_symbol_table(head, model.weights, model.symbols);
  head.align();
  if (model.single()) return plan;
  plan.lanes = 1u << model.log2_lanes;
  uint32_t start = 0;
  for (uint32_t s = 0; s < max_symbols; ++s) {
    plan.symbols[s] = element::make_rans_symbol(start, model.frequencies[s]);
    start += model.frequencies[s];
  }
  // States are at least 16 times a symbol's frequency, so that a step's division loses log2(17 / 16) bit at
  // most.
  const uint64_t bits = token_bits(counts, model.frequencies) + histogram.levels() / 10;
  plan.most_words = bits / 16 + 2 * plan.lanes + 2;
  return plan;
}

uint64_t pack_entropy_levels(std::span<const int32_t> levels, const LevelHistogram& histogram,
                             LevelRange range, std::string& out) {
  const EntropyLevelPlan plan = plan_entropy_levels(histogram, range);
  std::vector<uint16_t>& tokens = scratch().tokens;
  if (tokens.size() < levels.size()) tokens.resize(levels.size());
  cpu::magnitude_tokens(levels, plan.scheme.direct, plan.scheme.offset, tokens.data());
  out.append(plan.head);
  if (plan.lanes > 0) write_tokens({tokens.data(), levels.size()}, plan, out);
  if (plan.raw_bits == 0) return 0;
  if (histogram.largest_magnitude() < plan.scheme.direct)
    write_signs(levels, plan.raw_bits, out);
  else
    write_raw(levels, tokens.data(), plan.scheme, has_sign_bits(range), plan.raw_bits, out);
  return plan.raw_bits;
}

uint64_t entropy_level_bytes(const LevelHistogram& histogram, LevelRange range) {
  const uint32_t scheme = scheme_for(histogram.largest_magnitude());
  const SymbolCounts counts = count_tokens(histogram, token_schemes[scheme]);
  const TokenModel model = fit_tokens(counts, scheme);
  const uint64_t outside = (model.head_bits() + 7) / 8 + (raw_bits(counts, scheme, range) + 7) / 8;
  if (model.single()) return outside;
  const uint64_t lanes = 1u << model.log2_lanes, bits = token_bits(counts, model.frequencies);
  const uint64_t words = bits > 8 * (lanes - 1) ? (bits - 8 * (lanes - 1)) / 16 : 0;
  return outside + 4 * lanes + 2 * words + (words < 128 ? 1 : words < 16384 ? 2 : 3);
}

EntropyLevelHead read_entropy_level_head(std::string_view bytes, std::string_view what) {
  TokenModel model;
  EntropyLevelHead head;
  head.stream_at = read_head(bytes, model, what);
  head.scheme = token_schemes[model.scheme];
  head.frequencies = model.frequencies;
  if (model.single()) {
    const auto only =
        std::find_if(model.weights.begin(), model.weights.end(), [](uint32_t w) { return w != 0; });
    head.token = uint32_t(only - model.weights.begin());
    return head;
  }
  head.lanes = 1u << model.log2_lanes;
  ByteReader in(bytes.substr(head.stream_at), what);
  const uint64_t words = in.uvarint(in.remaining());
  head.stream_at += in.position();
  head.stream_bytes = in.raw(head.lanes * sizeof(uint32_t) + words * sizeof(uint16_t)).size();
  return head;
}

void unpack_entropy_levels(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                           std::string_view what) {
  const EntropyLevelHead head = read_entropy_level_head(bytes, what);
  std::vector<uint8_t>& tokens = scratch().decoded_tokens;
  if (tokens.size() < levels.size()) tokens.resize(levels.size());
  if (head.lanes == 0)
    std::memset(tokens.data(), int(head.token), levels.size());
  else
    read_tokens(bytes.substr(head.stream_at, head.stream_bytes), head, levels.size(), tokens.data(), what);
  const std::string_view rest = bytes.substr(head.stream_at + head.stream_bytes);
  const bool plain = std::all_of(head.frequencies.begin() + std::ptrdiff_t(head.scheme.direct),
                                 head.frequencies.end(), [](uint32_t f) { return f == 0; });
  if (plain)
    read_signs(rest, std::span(tokens).first(levels.size()), range, levels, what);
  else
    read_raw(rest, head.scheme, tokens.data(), range, levels, what);
}

}  // namespace jsq
