// Layouts of a level block. n levels l_0..l_n-1 in low..high, A = high - low + 1; n and the range are known
// to the reader. A block of n = 0 levels has no bytes. A level outside the range, bytes after the end, and
// padding that is not zero are refused.
//
// fixed: a bit stream, for each level l - low in ceil(log2 A) bits (none for A = 1); aligned.
//
// base243 (A = 3): byte k holds the trits t = l - low of levels 5k..5k+4 as 81 t0 + 27 t1 + 9 t2 + 3 t3 + t4;
// the missing trits of the last byte are 0. A byte above 242 is refused.
//
// omega(v), v >= 1, is Elias' omega code. To read it: v = 1; while the next bit is 1, v = the next v + 1 bits
// (the bit just seen is the first of them); then drop the zero bit. A reader refuses a code when it meets a
// one bit with v >= 32, so that values have at most 32 bits.
//
// elias_sparse (low <= 0 <= high): a bit stream, omega(1 + number of levels that are not 0), the number being
// at most n; then for each such level in order omega(its index - index of the one before it), the index
// before the first being -1; one sign bit, 1 = negative; omega(magnitude); aligned.
//
// elias_dense (low <= 0 <= high): a bit stream, for each level omega(magnitude + 1) and, unless it is 0, a
// sign bit, 1 = negative; aligned.
//
// entropy (-16383 <= low <= 0 <= high <= 16383): a magnitude m is a token and raw low bits by one of three
// schemes. With D = 16, 8 or 4 for scheme 0, 1, 2: token m and no raw bits if m < D; otherwise, with b the
// binary length of m, token D + b - 1 - log2 D and the low b - 1 bits of m raw. Scheme 0 has no magnitudes of
// 16 or more.
//   1. A bit stream: 2 bits scheme (0..2), 2 bits log2 of the lanes N, 4 bits K - 1; the table of the K
//   tokens as in
//      "Entropy model", present; aligned.
//   2. If more than one token has a weight above 0: uvarint W, the number of words, then the N states and W
//   words of an
//      rANS stream as in "Entropy-coded stream", with one section: the token of every level, all with that
//      table normalised. Otherwise nothing, N is 1, and all tokens are the one with a weight.
//   3. A bit stream, for each level that is not 0: one sign bit, 1 = negative, if low < 0 < high (otherwise
//   the sign is
//      that of the range); the raw bits of its token; aligned.
#include "lib/packers/levels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "jsq/error.hpp"
#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "lib/core/bytes.hpp"
#include "lib/packers/elias.hpp"
#include "lib/packers/entropy_model.hpp"

namespace jsq {

using cpu::BitReader;
using cpu::BitWriter;

namespace {

constexpr int32_t largest_coded_magnitude = 16383;
constexpr size_t group = 16;  ///< levels that are looked at together when zeros are skipped

/// Buffers of one block, reused by a thread from block to block.
struct Scratch {
  std::vector<uint32_t> positions;
  std::vector<uint16_t> tokens;
  std::vector<uint8_t> decoded_tokens;
  std::vector<element::RansSlot> slots;
  std::string block;
};
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

[[noreturn]] void damaged(std::string_view what, const std::string& found) {
  throw Error(Errc::damaged, std::string(what) + " is damaged: " + found);
}

/// Sends a level that the range excludes to the caller's bug report, not into the stream.
void require_in_range(LevelPacker packer, std::span<const int32_t> levels, LevelRange range) {
  int32_t least = 0, greatest = 0;
  if (!levels.empty()) least = greatest = levels[0];
  for (int32_t level : levels) {
    least = std::min(least, level);
    greatest = std::max(greatest, level);
  }
  const bool inside = levels.empty() || (least >= range.low && greatest <= range.high);
  if (inside && packer_allows(packer, range)) return;
  throw Error(Errc::internal, "level packer " + std::to_string(int(packer)) + ": levels " +
                                  std::to_string(least) + " to " + std::to_string(greatest) +
                                  " do not suit it and the range " + std::to_string(range.low) + " to " +
                                  std::to_string(range.high) + "; this is a bug in jsq");
}
void require_in_range(std::span<const int32_t> levels, LevelRange range, std::string_view what) {
  bool outside = false;
  for (int32_t level : levels) outside |= (level < range.low) | (level > range.high);
  if (outside)
    damaged(what, "a level outside " + std::to_string(range.low) + ".." + std::to_string(range.high));
}

// Signs and magnitudes without branches: a processor cannot guess a gradient's sign.
uint32_t sign_bit(int32_t level) {
  return uint32_t(level) >> 31;
}
uint32_t magnitude_of(int32_t level) {
  return (uint32_t(level) ^ (0u - sign_bit(level))) + sign_bit(level);
}
/// The level of a magnitude and a sign bit, for magnitudes that the range allows.
int32_t signed_level(uint32_t magnitude, uint32_t negative) {
  return int32_t((magnitude ^ (0u - negative)) + negative);
}

// ---- fixed

uint32_t fixed_width(LevelRange range) {
  return uint32_t(std::bit_width(range.symbols() - 1));
}

/// Calls use(std::integral_constant<uint32_t, W>) for a width of 1..8, so that loops are compiled for one
/// width each.
template <class Use>
void with_width(uint32_t width, Use use) {
  switch (width) {
    case 1:
      return use(std::integral_constant<uint32_t, 1>());
    case 2:
      return use(std::integral_constant<uint32_t, 2>());
    case 3:
      return use(std::integral_constant<uint32_t, 3>());
    case 4:
      return use(std::integral_constant<uint32_t, 4>());
    case 5:
      return use(std::integral_constant<uint32_t, 5>());
    case 6:
      return use(std::integral_constant<uint32_t, 6>());
    case 7:
      return use(std::integral_constant<uint32_t, 7>());
    default:
      return use(std::integral_constant<uint32_t, 8>());
  }
}

void pack_fixed(std::span<const int32_t> levels, LevelRange range, std::string& out) {
  const uint32_t width = fixed_width(range), low = uint32_t(range.low);
  size_t done = 0;
  if (width >= 1 && width <= 8) {
    // Eight levels are `width` whole bytes.
    const size_t octets = levels.size() / 8, at = out.size();
    out.resize(at + octets * width);
    with_width(width, [&](auto w) {
      const int32_t* in = levels.data();
      char* bytes = out.data() + at;
      for (size_t k = 0; k < octets; ++k, in += 8, bytes += w) {
        uint64_t word = 0;
        for (uint32_t i = 0; i < 8; ++i) word |= uint64_t(uint32_t(in[i]) - low) << (64 - w * (i + 1));
        word = __builtin_bswap64(word);
        std::memcpy(bytes, &word, w);
      }
    });
    done = octets * 8;
  }
  BitWriter rest(out);
  for (size_t i = done; i < levels.size(); ++i) rest.put(uint32_t(levels[i]) - low, width);
  rest.align();
}

void unpack_fixed(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                  std::string_view what) {
  const uint32_t width = fixed_width(range), low = uint32_t(range.low);
  const uint64_t expected = (uint64_t(levels.size()) * width + 7) / 8;
  if (bytes.size() != expected)
    damaged(what, "expected " + std::to_string(expected) + " bytes, found " + std::to_string(bytes.size()));
  uint32_t greatest = 0;
  size_t done = 0;
  if (width >= 1 && width <= 8) {
    const size_t octets = levels.size() / 8;
    with_width(width, [&](auto w) {
      constexpr uint32_t mask = (1u << w) - 1;
      const char* in = bytes.data();
      int32_t* values = levels.data();
      for (size_t k = 0; k < octets; ++k, in += w, values += 8) {
        uint64_t word = 0;
        std::memcpy(&word, in, w);
        word = __builtin_bswap64(word);
        for (uint32_t i = 0; i < 8; ++i) {
          const uint32_t code = uint32_t(word >> (64 - w * (i + 1))) & mask;
          greatest = std::max(greatest, code);
          values[i] = int32_t(code + low);
        }
      }
    });
    done = octets * 8;
  }
  BitReader rest(bytes.substr(done / 8 * width));
  for (size_t i = done; i < levels.size(); ++i) {
    const uint32_t code = rest.get(width);
    greatest = std::max(greatest, code);
    levels[i] = int32_t(code + low);
  }
  if (!rest.align()) damaged(what, "padding bits are not zero");
  if (greatest >= range.symbols()) damaged(what, "a level beyond " + std::to_string(range.high));
}

// ---- base243

constexpr uint32_t trits_per_byte = 5;
constexpr uint32_t trit_bytes = 243;

/// The trits of every byte, the first one first.
constexpr auto trits_of_byte = [] {
  std::array<std::array<int32_t, trits_per_byte>, 256> table{};
  for (uint32_t byte = 0; byte < trit_bytes; ++byte)
    for (uint32_t i = trits_per_byte, rest = byte; i-- > 0; rest /= 3) table[byte][i] = int32_t(rest % 3);
  return table;
}();

void pack_base243(std::span<const int32_t> levels, LevelRange range, std::string& out) {
  const auto low = uint32_t(range.low);
  const size_t whole = levels.size() / trits_per_byte, at = out.size();
  out.resize(at + (levels.size() + trits_per_byte - 1) / trits_per_byte);
  char* bytes = out.data() + at;
  const int32_t* in = levels.data();
  for (size_t k = 0; k < whole; ++k, in += trits_per_byte)
    bytes[k] = char(uint8_t(81 * uint32_t(in[0]) + 27 * uint32_t(in[1]) + 9 * uint32_t(in[2]) +
                            3 * uint32_t(in[3]) + uint32_t(in[4]) - 121 * low));
  const size_t left = levels.size() - whole * trits_per_byte;
  if (left == 0) return;
  uint32_t last = 0;
  for (size_t i = 0; i < trits_per_byte; ++i) last = 3 * last + (i < left ? uint32_t(in[i]) - low : 0);
  bytes[whole] = char(uint8_t(last));
}

void unpack_base243(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                    std::string_view what) {
  const size_t expected = (levels.size() + trits_per_byte - 1) / trits_per_byte;
  if (bytes.size() != expected)
    damaged(what, "expected " + std::to_string(expected) + " bytes, found " + std::to_string(bytes.size()));
  const size_t whole = levels.size() / trits_per_byte, left = levels.size() % trits_per_byte;
  uint32_t greatest = 0;
  int32_t* values = levels.data();
  for (size_t k = 0; k < whole; ++k, values += trits_per_byte) {
    const auto byte = uint8_t(bytes[k]);
    greatest = std::max<uint32_t>(greatest, byte);
    for (uint32_t i = 0; i < trits_per_byte; ++i) values[i] = range.low + trits_of_byte[byte][i];
  }
  if (left > 0) {
    const auto byte = uint8_t(bytes[whole]);
    greatest = std::max<uint32_t>(greatest, byte);
    for (size_t i = 0; i < left; ++i) values[i] = range.low + trits_of_byte[byte][i];
    for (size_t i = left; i < trits_per_byte; ++i)
      if (trits_of_byte[byte][i] != 0) damaged(what, "padding trits are not zero");
  }
  if (greatest >= trit_bytes) damaged(what, "a byte above 242");
}

// ---- Elias layouts

/// Indices of the levels that are not zero, into the scratch; groups of zeros cost next to nothing.
std::span<const uint32_t> nonzero_positions(std::span<const int32_t> levels,
                                            std::vector<uint32_t>& positions) {
  if (positions.size() < levels.size() + 1) positions.resize(levels.size() + 1);
  uint32_t* out = positions.data();
  size_t count = 0, i = 0;
  for (; i + group <= levels.size(); i += group) {
    int32_t any = 0;
    for (size_t k = 0; k < group; ++k) any |= levels[i + k];
    if (any == 0) continue;
    for (size_t k = 0; k < group; ++k) {
      out[count] = uint32_t(i + k);
      count += levels[i + k] != 0;
    }
  }
  for (; i < levels.size(); ++i) {
    out[count] = uint32_t(i);
    count += levels[i] != 0;
  }
  return {out, count};
}

void pack_sparse(std::span<const int32_t> levels, std::string& out) {
  const std::span<const uint32_t> positions = nonzero_positions(levels, scratch().positions);
  BitWriter bits(out);
  put_omega(bits, uint32_t(positions.size()) + 1);
  uint32_t next = 0;  // the index after the previous one
  for (uint32_t at : positions) {
    put_omega(bits, at - next + 1, sign_bit(levels[at]), 1);
    put_omega(bits, magnitude_of(levels[at]));
    next = at + 1;
  }
  bits.align();
}

void unpack_sparse(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                   std::string_view what) {
  const uint32_t limit[2] = {magnitude_of(range.high), magnitude_of(range.low)};
  OmegaReader in(bytes);
  in.refill();
  const uint32_t count_and_one = in.omega();
  if (count_and_one == 0 || count_and_one - 1 > levels.size())
    damaged(what, "more levels than the block has");
  std::fill(levels.begin(), levels.end(), 0);
  size_t next = 0;
  for (uint32_t k = 1; k < count_and_one; ++k) {
    in.refill();
    const uint32_t gap = in.omega();
    const uint32_t negative = in.take(1);
    in.refill();
    const uint32_t magnitude = in.omega();
    if (gap == 0 || gap > levels.size() - next) damaged(what, "a gap leaves the block");
    if (magnitude == 0 || magnitude > limit[negative]) damaged(what, "a level outside its range");
    next += gap;
    levels[next - 1] = signed_level(magnitude, negative);
  }
  if (!in.finished())
    damaged(what, "the Elias codes do not end where they should, or their padding is not zero");
}

void pack_dense(std::span<const int32_t> levels, std::string& out) {
  BitWriter bits(out);
  for (int32_t level : levels) put_omega(bits, magnitude_of(level) + 1, sign_bit(level), level != 0);
  bits.align();
}

void unpack_dense(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                  std::string_view what) {
  const uint32_t limit[2] = {magnitude_of(range.high), magnitude_of(range.low)};
  OmegaReader in(bytes);
  for (int32_t& level : levels) {
    in.refill();
    const uint32_t magnitude = in.omega() - 1;  // of a code that is too long: 2^32 - 1, beyond every limit
    const uint32_t negative = in.take(magnitude != 0);
    if (magnitude > limit[negative]) damaged(what, "a level outside its range");
    level = signed_level(magnitude, negative);
  }
  if (!in.finished())
    damaged(what, "the Elias codes do not end where they should, or their padding is not zero");
}

// ---- entropy

/// How magnitudes become tokens: those below `direct` are their own, the others are offset + their binary
/// length.
struct TokenScheme {
  uint32_t direct;
  uint32_t offset;
  /// \pre magnitude < 2^14. The binary length is the exponent of the exact float, and the choice a mask: such
  /// loops vectorise, and which magnitudes are small cannot be guessed.
  uint32_t token(uint32_t magnitude) const {
    const uint32_t length = (std::bit_cast<uint32_t>(float(int32_t(magnitude))) >> 23) - 126;
    const uint32_t is_small = 0u - uint32_t(magnitude < direct);
    return (magnitude & is_small) | ((offset + length) & ~is_small);
  }
  /// Bits of the magnitude below the token.
  uint32_t raw_bits(uint32_t token) const { return token < direct ? 0 : token - offset - 1; }
  uint32_t first_magnitude(uint32_t token) const { return token < direct ? token : 1u << raw_bits(token); }
};
constexpr TokenScheme token_schemes[] = {{16, 11}, {8, 4}, {4, 1}};
constexpr uint32_t schemes = 3;

uint32_t scheme_for(uint32_t largest) {
  return largest < 16 ? 0 : largest < 2048 ? 1 : 2;
}
uint32_t scheme_for(std::span<const int32_t> levels) {
  uint32_t any = 0;  // as long in binary as the largest magnitude, and the limits are powers of two
  for (int32_t level : levels) any |= magnitude_of(level);
  return scheme_for(any);
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

/// Tokens of all levels into `tokens`, and their histogram.
SymbolCounts tokenise(std::span<const int32_t> levels, TokenScheme scheme, uint16_t* tokens) {
  const size_t n = levels.size();
  for (size_t i = 0; i < n; ++i) tokens[i] = uint16_t(scheme.token(magnitude_of(levels[i])));
  // Four histograms: neighbours are often alike, and a counter that was just stored is slow to load.
  std::array<std::array<uint32_t, max_symbols>, 4> counts{};
  size_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (size_t k = 0; k < 4; ++k) ++counts[k][tokens[i + k]];
  for (; i < n; ++i) ++counts[0][tokens[i]];
  SymbolCounts sum{};
  for (const auto& part : counts)
    for (uint32_t s = 0; s < max_symbols; ++s) sum[s] += part[s];
  return sum;
}

void write_tokens(std::span<const uint16_t> tokens, const TokenModel& model, std::string& out) {
  std::array<element::RansSymbol, max_symbols> symbols;
  uint32_t start = 0;
  for (uint32_t s = 0; s < max_symbols; ++s) {
    symbols[s] = element::make_rans_symbol(start, model.frequencies[s]);
    start += model.frequencies[s];
  }
  const uint32_t lanes = 1u << model.log2_lanes;
  cpu::RansEncoder encoder(lanes, tokens.size());
  encoder.encode_section(tokens, symbols.data());
  std::string& stream = scratch().block;
  stream.clear();
  encoder.finish(stream);
  ByteWriter words;
  words.uvarint((stream.size() - lanes * sizeof(uint32_t)) / sizeof(uint16_t));
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

/// Returns the bits of the third part, which is not padded in that count.
uint64_t pack_entropy(std::span<const int32_t> levels, LevelRange range, std::string& out) {
  std::vector<uint16_t>& tokens = scratch().tokens;
  if (tokens.size() < levels.size()) tokens.resize(levels.size());
  const uint32_t scheme = scheme_for(levels);
  const SymbolCounts counts = tokenise(levels, token_schemes[scheme], tokens.data());
  const TokenModel model = fit_tokens(counts, scheme);

  BitWriter head(out);
  head.put(model.scheme, 2);
  head.put(model.log2_lanes, 2);
  head.put(model.symbols - 1, 4);
  write_symbol_table(head, model.weights, model.symbols);
  head.align();
  if (!model.single()) write_tokens({tokens.data(), levels.size()}, model, out);

  const uint64_t total = raw_bits(counts, scheme, range);
  if (total > 0) write_raw(levels, tokens.data(), token_schemes[scheme], has_sign_bits(range), total, out);
  return total;
}

/// Fills `model` from the head of a block and returns the head's size in bytes.
size_t read_head(std::string_view bytes, TokenModel& model, std::string_view what) {
  BitReader in(bytes);
  model.scheme = in.get(2);
  model.log2_lanes = in.get(2);
  model.symbols = in.get(4) + 1;
  const bool possible = model.scheme < schemes && read_symbol_table(in, model.weights, model.symbols);
  const bool aligned = in.align();
  if (in.overrun() || in.consumed() > bytes.size()) damaged(what, "the token table is truncated");
  model.prepare();
  if (!possible || !aligned || model.frequencies == SymbolFrequencies{} ||
      (model.single() && model.log2_lanes != 0))
    damaged(what, "an impossible token table");
  return in.consumed();
}

/// Decodes the tokens of all levels.
void read_tokens(std::string_view stream, const TokenModel& model, size_t n, uint8_t* tokens,
                 std::string_view what) {
  std::vector<element::RansSlot>& slots = scratch().slots;
  slots.resize(element::rans_total);
  uint32_t slot = 0;
  for (uint32_t s = 0; s < max_symbols; ++s)
    for (uint32_t i = 0; i < model.frequencies[s]; ++i)
      slots[slot++] = element::make_rans_slot(s, model.frequencies[s], i);
  cpu::RansDecoder decoder(stream, 1u << model.log2_lanes);
  decoder.begin_section();
  const uint32_t table = 0;
  const size_t whole = n / 8 * 8;
  decoder.next_groups(slots.data(), {&table, 1}, whole, tokens);
  for (size_t i = whole; i < n; ++i) tokens[i] = uint8_t(decoder.next(slots.data()));
  if (!decoder.finished()) damaged(what, "the entropy-coded tokens do not end where they should");
}

/// Levels from their tokens, signs and low bits.
void read_raw(std::string_view bytes, const TokenModel& model, const uint8_t* tokens, LevelRange range,
              std::span<int32_t> levels, std::string_view what) {
  std::array<uint32_t, max_symbols> first{}, low_bits{}, count{};
  const TokenScheme scheme = token_schemes[model.scheme];
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
    damaged(what, "the sign bits do not end where they should, or their padding is not zero");
  require_in_range(levels, range, what);
}

void unpack_entropy(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                    std::string_view what) {
  TokenModel model;
  size_t at = read_head(bytes, model, what);
  std::vector<uint8_t>& tokens = scratch().decoded_tokens;
  if (tokens.size() < levels.size()) tokens.resize(levels.size());
  if (model.single()) {
    const auto only =
        std::find_if(model.weights.begin(), model.weights.end(), [](uint32_t w) { return w != 0; });
    std::memset(tokens.data(), int(only - model.weights.begin()), levels.size());
  } else {
    ByteReader in(bytes.substr(at), what);
    const uint64_t words = in.uvarint(in.remaining());
    read_tokens(in.raw((sizeof(uint32_t) << model.log2_lanes) + words * sizeof(uint16_t)), model,
                levels.size(), tokens.data(), what);
    at += in.position();
  }
  read_raw(bytes.substr(at), model, tokens.data(), range, levels, what);
}

// ---- the choice

/// Counts from which every packer's size follows.
struct LevelStatistics {
  static constexpr uint32_t small = 256;
  size_t n = 0;
  std::array<uint64_t, small> count{};             ///< magnitudes below 256
  std::array<uint64_t, 33> large_count{};          ///< the others, by binary length
  std::array<uint64_t, 33> large_count_and_one{};  ///< the same, by the binary length of magnitude + 1
  uint64_t gap_bits = 0;                           ///< omega codes of the gaps
  uint32_t largest = 0;

  /// Calls f(magnitude, count) with a magnitude for each value, or one for each binary length, that occurs.
  template <class F>
  void each(F f) const {
    for (uint32_t m = 0; m < small; ++m)
      if (count[m] > 0) f(m, count[m]);
    for (uint32_t width = 9; width <= 32; ++width)
      if (large_count[width] > 0) f(1u << (width - 1), large_count[width]);
  }
  uint64_t sparse_bits() const {
    uint64_t bits = gap_bits + omega_length(uint32_t(n - count[0]) + 1);
    each([&](uint32_t m, uint64_t occurrences) { bits += m == 0 ? 0 : occurrences * (omega_length(m) + 1); });
    return bits;
  }
  uint64_t dense_bits() const {
    uint64_t bits = count[0];
    for (uint32_t m = 1; m < small; ++m) bits += count[m] * (omega_length(m + 1) + 1);
    for (uint32_t width = 9; width <= 32; ++width)
      bits += large_count_and_one[width] * (elias_tables::length_of_width[width] + 1u);
    return bits;
  }
  /// Entropy-coded size in bytes, estimated: a lane emits a word for each whole 16 bits of its tokens (what
  /// is left, half of 16 bits on average, stays in its state), and the coder's divisions lose next to
  /// nothing.
  uint64_t entropy_bytes(LevelRange range) const {
    const uint32_t scheme = scheme_for(largest);
    SymbolCounts counts{};
    each([&](uint32_t m, uint64_t occurrences) { counts[token_schemes[scheme].token(m)] += occurrences; });
    const TokenModel model = fit_tokens(counts, scheme);
    const uint64_t outside = (model.head_bits() + 7) / 8 + (raw_bits(counts, scheme, range) + 7) / 8;
    if (model.single()) return outside;
    const uint64_t lanes = 1u << model.log2_lanes, bits = token_bits(counts, model.frequencies);
    const uint64_t words = bits > 8 * (lanes - 1) ? (bits - 8 * (lanes - 1)) / 16 : 0;
    return outside + 4 * lanes + 2 * words + (words < 128 ? 1 : words < 16384 ? 2 : 3);
  }
};

LevelStatistics gather(std::span<const int32_t> levels) {
  LevelStatistics statistics;
  statistics.n = levels.size();
  const std::span<const uint32_t> positions = nonzero_positions(levels, scratch().positions);
  statistics.count[0] = levels.size() - positions.size();
  std::array<std::array<uint32_t, LevelStatistics::small>, 2> counts{};
  uint32_t next = 0, parity = 0, largest = 0;
  for (uint32_t at : positions) {
    statistics.gap_bits += omega_length(at - next + 1);
    next = at + 1;
    const uint32_t magnitude = magnitude_of(levels[at]);
    largest = std::max(largest, magnitude);
    if (magnitude < LevelStatistics::small) {
      ++counts[parity][magnitude];
      parity ^= 1;
    } else {
      ++statistics.large_count[uint32_t(std::bit_width(magnitude))];
      ++statistics.large_count_and_one[uint32_t(std::bit_width(magnitude + 1))];
    }
  }
  for (uint32_t m = 1; m < LevelStatistics::small; ++m)
    statistics.count[m] = uint64_t(counts[0][m]) + counts[1][m];
  statistics.largest = largest;
  return statistics;
}

uint64_t fixed_bits(size_t n, LevelRange range) {
  return uint64_t(n) * fixed_width(range);
}
uint64_t base243_bytes(size_t n) {
  return (uint64_t(n) + trits_per_byte - 1) / trits_per_byte;
}

}  // namespace

bool packer_allows(LevelPacker packer, LevelRange range) {
  if (range.low > range.high) return false;
  const bool around_zero = range.low <= 0 && range.high >= 0;
  switch (packer) {
    case LevelPacker::fixed:
      return true;
    case LevelPacker::base243:
      return range.symbols() == 3;
    case LevelPacker::elias_sparse:
    case LevelPacker::elias_dense:
      return around_zero;
    case LevelPacker::entropy:
      return around_zero && range.low >= -largest_coded_magnitude && range.high <= largest_coded_magnitude;
  }
  return false;
}

void pack_levels(LevelPacker packer, std::span<const int32_t> levels, LevelRange range, std::string& out) {
  require_in_range(packer, levels, range);
  if (levels.empty()) return;
  switch (packer) {
    case LevelPacker::fixed:
      return pack_fixed(levels, range, out);
    case LevelPacker::base243:
      return pack_base243(levels, range, out);
    case LevelPacker::elias_sparse:
      return pack_sparse(levels, out);
    case LevelPacker::elias_dense:
      return pack_dense(levels, out);
    case LevelPacker::entropy:
      pack_entropy(levels, range, out);
      return;
  }
}

uint64_t packed_level_bits(LevelPacker packer, std::span<const int32_t> levels, LevelRange range) {
  require_in_range(packer, levels, range);
  if (levels.empty()) return 0;
  switch (packer) {
    case LevelPacker::fixed:
      return fixed_bits(levels.size(), range);
    case LevelPacker::base243:
      return 8 * base243_bytes(levels.size());
    case LevelPacker::elias_sparse:
      return gather(levels).sparse_bits();
    case LevelPacker::elias_dense:
      return gather(levels).dense_bits();
    case LevelPacker::entropy:
      break;
  }
  std::string block;
  const uint64_t last_part = pack_entropy(levels, range, block);
  return 8 * (block.size() - (last_part + 7) / 8) + last_part;
}

LevelPacker smallest_packer(std::span<const int32_t> levels, LevelRange range) {
  require_in_range(LevelPacker::fixed, levels, range);
  LevelPacker best = LevelPacker::fixed;
  if (levels.empty()) return best;
  uint64_t least = (fixed_bits(levels.size(), range) + 7) / 8;
  auto offer = [&](LevelPacker packer, uint64_t bytes) {
    if (bytes >= least) return;
    least = bytes;
    best = packer;
  };
  if (packer_allows(LevelPacker::base243, range)) offer(LevelPacker::base243, base243_bytes(levels.size()));
  if (!packer_allows(LevelPacker::elias_sparse, range)) return best;
  const LevelStatistics statistics = gather(levels);
  offer(LevelPacker::elias_sparse, (statistics.sparse_bits() + 7) / 8);
  offer(LevelPacker::elias_dense, (statistics.dense_bits() + 7) / 8);
  if (packer_allows(LevelPacker::entropy, range))
    offer(LevelPacker::entropy, statistics.entropy_bytes(range));
  return best;
}

void unpack_levels(LevelPacker packer, std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                   std::string_view what) {
  if (!packer_allows(packer, range)) damaged(what, "a packer that does not suit the range of levels");
  if (levels.empty()) {
    if (!bytes.empty()) damaged(what, "bytes in a block of no levels");
    return;
  }
  switch (packer) {
    case LevelPacker::fixed:
      return unpack_fixed(bytes, range, levels, what);
    case LevelPacker::base243:
      return unpack_base243(bytes, range, levels, what);
    case LevelPacker::elias_sparse:
      return unpack_sparse(bytes, range, levels, what);
    case LevelPacker::elias_dense:
      return unpack_dense(bytes, range, levels, what);
    case LevelPacker::entropy:
      return unpack_entropy(bytes, range, levels, what);
  }
}

double level_entropy_bits(std::span<const int32_t> levels) {
  if (levels.empty()) return 0;
  int32_t low = levels[0], high = levels[0];
  for (int32_t level : levels) {
    low = level < low ? level : low;
    high = level > high ? level : high;
  }
  const uint64_t symbols = uint64_t(int64_t(high) - low) + 1;
  const double n = double(levels.size());
  double bits = 0;
  auto add = [&](uint64_t count) { bits += count > 0 ? double(count) * std::log2(n / double(count)) : 0; };
  if (symbols <= 4 * uint64_t(levels.size()) + 4096) {
    // Equal neighbours count in different tables, so that none waits for the other's store.
    const bool few = symbols <= 1024;
    static thread_local std::vector<uint32_t> counts;
    counts.assign(size_t(few ? 4 * symbols : symbols), 0u);
    uint32_t* table[4];
    for (size_t k = 0; k < 4; ++k) table[k] = counts.data() + (few ? k * symbols : 0);
    size_t i = 0;
    for (; i + 4 <= levels.size(); i += 4)
      for (size_t k = 0; k < 4; ++k) ++table[k][uint32_t(levels[i + k]) - uint32_t(low)];
    for (; i < levels.size(); ++i) ++table[0][uint32_t(levels[i]) - uint32_t(low)];
    for (size_t symbol = 0; symbol < symbols; ++symbol) {
      uint64_t count = counts[symbol];
      for (size_t k = 1; few && k < 4; ++k) count += table[k][symbol];
      add(count);
    }
    return bits;
  }
  std::vector<int32_t> sorted(levels.begin(), levels.end());
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = 0, end = 0; i < sorted.size(); i = end) {
    while (end < sorted.size() && sorted[end] == sorted[i]) ++end;
    add(end - i);
  }
  return bits;
}

}  // namespace jsq
