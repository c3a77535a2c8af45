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
// entropy: entropy_levels.hpp.
#include "lib/packers/levels.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "jsq/error.hpp"
#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/fixed_codes.hpp"
#include "kernels/cpu/levels.hpp"
#include "lib/packers/elias.hpp"
#include "lib/packers/entropy_levels.hpp"
#include "lib/packers/level_histogram.hpp"
#include "lib/packers/level_parts.hpp"

namespace jsq {

using cpu::BitReader;
using cpu::BitWriter;

namespace {

/// Sends a level that the range excludes to the caller's bug report, not into the stream.
void require_in_range(LevelPacker packer, const LevelHistogram& histogram, LevelRange range) {
  const cpu::LevelBounds bounds = histogram.bounds();
  const bool inside = histogram.levels() == 0 || (bounds.least >= range.low && bounds.greatest <= range.high);
  if (inside && packer_allows(packer, range)) return;
  throw Error(Errc::internal, "level packer " + std::to_string(int(packer)) + ": levels " +
                                  std::to_string(bounds.least) + " to " + std::to_string(bounds.greatest) +
                                  " do not suit it and the range " + std::to_string(range.low) + " to " +
                                  std::to_string(range.high) + "; this is a bug in jsq");
}

// ---- fixed

uint32_t fixed_width(LevelRange range) {
  return uint32_t(std::bit_width(range.symbols() - 1));
}

/// Levels at the front whose codes are whole bytes of a width that the vector code knows.
size_t levels_in_octets(size_t levels, uint32_t width) {
  return width >= 1 && width <= cpu::most_code_bits ? levels / 8 * 8 : 0;
}

void pack_fixed(std::span<const int32_t> levels, LevelRange range, std::string& out) {
  const uint32_t width = fixed_width(range), low = uint32_t(range.low);
  const size_t done = levels_in_octets(levels.size(), width), at = out.size();
  out.resize(at + done / 8 * width);
  if (done > 0)
    cpu::pack_codes(levels.first(done), range.low, width, reinterpret_cast<uint8_t*>(out.data() + at));
  BitWriter rest(out);
  for (size_t i = done; i < levels.size(); ++i) rest.put(uint32_t(levels[i]) - low, width);
  rest.align();
}

void unpack_fixed(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                  std::string_view what) {
  const uint32_t width = fixed_width(range), low = uint32_t(range.low);
  const uint64_t expected = (uint64_t(levels.size()) * width + 7) / 8;
  if (bytes.size() != expected)
    damaged_levels(what,
                   "expected " + std::to_string(expected) + " bytes, found " + std::to_string(bytes.size()));
  const size_t done = levels_in_octets(levels.size(), width);
  uint32_t greatest = 0;
  if (done > 0)
    greatest = cpu::unpack_codes(reinterpret_cast<const uint8_t*>(bytes.data()), width, range.low,
                                 levels.first(done));
  BitReader rest(bytes.substr(done / 8 * width));
  for (size_t i = done; i < levels.size(); ++i) {
    const uint32_t code = rest.get(width);
    greatest = std::max(greatest, code);
    levels[i] = int32_t(code + low);
  }
  if (!rest.align()) damaged_levels(what, "padding bits are not zero");
  if (greatest >= range.symbols()) damaged_levels(what, "a level beyond " + std::to_string(range.high));
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
    damaged_levels(what,
                   "expected " + std::to_string(expected) + " bytes, found " + std::to_string(bytes.size()));
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
      if (trits_of_byte[byte][i] != 0) damaged_levels(what, "padding trits are not zero");
  }
  if (greatest >= trit_bytes) damaged_levels(what, "a byte above 242");
}

// ---- Elias layouts

/// Calls f(index) for every level that is not zero, in order.
template <class F>
void each_nonzero(std::span<const int32_t> levels, F f) {
  constexpr size_t batch = 4096;
  uint64_t nonzero[batch / 64], negative[batch / 64];
  for (size_t first = 0; first < levels.size(); first += batch) {
    const auto part = levels.subspan(first, std::min(batch, levels.size() - first));
    cpu::level_masks(part, nonzero, negative);
    for (size_t w = 0; w < (part.size() + 63) / 64; ++w)
      for (uint64_t rest = nonzero[w]; rest != 0; rest &= rest - 1)
        f(uint32_t(first + 64 * w) + uint32_t(std::countr_zero(rest)));
  }
}

void pack_sparse(std::span<const int32_t> levels, uint64_t nonzeros, std::string& out) {
  BitWriter bits(out);
  put_omega(bits, uint32_t(nonzeros) + 1);
  uint32_t next = 0;  // the index after the previous one
  each_nonzero(levels, [&](uint32_t at) {
    put_omega(bits, at - next + 1, sign_bit(levels[at]), 1);
    put_omega(bits, magnitude_of(levels[at]));
    next = at + 1;
  });
  bits.align();
}

void unpack_sparse(std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                   std::string_view what) {
  const uint32_t limit[2] = {magnitude_of(range.high), magnitude_of(range.low)};
  OmegaReader in(bytes);
  in.refill();
  const uint32_t count_and_one = in.omega();
  if (count_and_one == 0 || count_and_one - 1 > levels.size())
    damaged_levels(what, "more levels than the block has");
  std::fill(levels.begin(), levels.end(), 0);
  size_t next = 0;
  for (uint32_t k = 1; k < count_and_one; ++k) {
    in.refill();
    const uint32_t gap = in.omega();
    const uint32_t negative = in.take(1);
    in.refill();
    const uint32_t magnitude = in.omega();
    if (gap == 0 || gap > levels.size() - next) damaged_levels(what, "a gap leaves the block");
    if (magnitude == 0 || magnitude > limit[negative]) damaged_levels(what, "a level outside its range");
    next += gap;
    levels[next - 1] = signed_level(magnitude, negative);
  }
  if (!in.finished())
    damaged_levels(what, "the Elias codes do not end where they should, or their padding is not zero");
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
    if (magnitude > limit[negative]) damaged_levels(what, "a level outside its range");
    level = signed_level(magnitude, negative);
  }
  if (!in.finished())
    damaged_levels(what, "the Elias codes do not end where they should, or their padding is not zero");
}

// ---- the choice

/// Bits of the sparse layout but for the gaps.
uint64_t sparse_level_bits(const LevelHistogram& histogram) {
  uint64_t bits = omega_length(uint32_t(histogram.levels() - histogram.zeros()) + 1);
  histogram.each([&](int32_t level, uint64_t count) {
    bits += level == 0 ? 0 : count * (omega_length(magnitude_of(level)) + 1);
  });
  return bits;
}

/// What the codes of gaps take beyond a bit each, counted for all levels of a word at once. A gap of g zeros
/// is coded as g + 1, whose length depends on its binary length alone: it grows where g reaches 1, 3, 7, 15,
/// 31 and 63, and longer gaps are rare enough to be taken one by one.
class GapBits {
 public:
  uint64_t bits() const { return bits_; }
  /// The next 64 levels; bits of `nonzero` behind the last level are 0.
  void add(uint64_t nonzero) {
    // Run r of a position: as many levels before it are zeros. The runs of the word before reach into this
    // one.
    Runs now;
    now.one = behind(~nonzero, ~last_nonzero_, 1);
    const uint64_t two = now.one & behind(now.one, last_.one, 1);
    now.two = two;
    now.three = two & behind(now.one, last_.one, 2);
    now.four = two & behind(two, last_.two, 2);
    now.seven = now.four & behind(now.three, last_.three, 4);
    now.eight = now.four & behind(now.four, last_.four, 4);
    now.fifteen = now.eight & behind(now.seven, last_.seven, 8);
    now.sixteen = now.eight & behind(now.eight, last_.eight, 8);
    now.thirty_one = now.sixteen & behind(now.fifteen, last_.fifteen, 16);
    now.thirty_two = now.sixteen & behind(now.sixteen, last_.sixteen, 16);
    const uint64_t long_gap = nonzero & now.thirty_two & behind(now.thirty_one, last_.thirty_one, 32);
    bits_ += count(nonzero & now.one) * growth(2) + count(nonzero & now.three) * growth(4) +
             count(nonzero & now.seven) * growth(8) + count(nonzero & now.fifteen) * growth(16) +
             count(nonzero & now.thirty_one) * growth(32);
    if (long_gap != 0) {  // before the first level of this word that is not zero
      const uint64_t gap = at_ + uint64_t(std::countr_zero(long_gap)) - next_;
      bits_ += omega_length(uint32_t(gap) + 1) - omega_length(63);
    }
    if (nonzero != 0) next_ = at_ + 64 - uint64_t(std::countl_zero(nonzero));
    at_ += 64;
    last_ = now;
    last_nonzero_ = nonzero;
  }

 private:
  struct Runs {
    uint64_t one = 0, two = 0, three = 0, four = 0, seven = 0, eight = 0, fifteen = 0, sixteen = 0,
             thirty_one = 0, thirty_two = 0;
  };
  /// What lies `distance` positions before, `last` in front of `word`.
  static uint64_t behind(uint64_t word, uint64_t last, uint32_t distance) {
    return word << distance | last >> (64 - distance);
  }
  static uint64_t count(uint64_t word) { return uint64_t(std::popcount(word)); }
  /// By how much codes of `value` are longer than those of the binary length below.
  static constexpr uint64_t growth(uint32_t value) { return omega_length(value) - omega_length(value - 1); }

  Runs last_;                           ///< nothing lies before the first level, not even zeros
  uint64_t last_nonzero_ = UINT64_MAX;  ///< so that no run reaches beyond it
  uint64_t at_ = 0, next_ = 0;          ///< levels so far, and behind the last one that is not zero
  uint64_t bits_ = 0;
};

/// Bits of the sparse layout; what is above `enough` is not counted to its end.
uint64_t sparse_bits(std::span<const int32_t> levels, const LevelHistogram& histogram,
                     uint64_t enough = UINT64_MAX) {
  const uint64_t known =
      sparse_level_bits(histogram) + histogram.levels() - histogram.zeros();  // a gap takes a bit at least
  constexpr size_t batch = 4096;
  uint64_t nonzero[batch / 64], negative[batch / 64];
  GapBits gaps;
  for (size_t first = 0; first < levels.size() && known + gaps.bits() <= enough; first += batch) {
    const auto part = levels.subspan(first, std::min(batch, levels.size() - first));
    cpu::level_masks(part, nonzero, negative);
    for (size_t w = 0; w < (part.size() + 63) / 64; ++w) gaps.add(nonzero[w]);
  }
  return known + gaps.bits();
}

uint64_t dense_bits(const LevelHistogram& histogram) {
  uint64_t bits = 0;
  histogram.each([&](int32_t level, uint64_t count) {
    bits += count * (omega_length(magnitude_of(level) + 1) + (level != 0));
  });
  return bits;
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
      return around_zero && range.low >= -largest_entropy_level && range.high <= largest_entropy_level;
  }
  return false;
}

void pack_levels(LevelPacker packer, std::span<const int32_t> levels, const LevelHistogram& histogram,
                 LevelRange range, std::string& out) {
  require_in_range(packer, histogram, range);
  if (levels.empty()) return;
  switch (packer) {
    case LevelPacker::fixed:
      return pack_fixed(levels, range, out);
    case LevelPacker::base243:
      return pack_base243(levels, range, out);
    case LevelPacker::elias_sparse:
      return pack_sparse(levels, levels.size() - histogram.zeros(), out);
    case LevelPacker::elias_dense:
      return pack_dense(levels, out);
    case LevelPacker::entropy:
      pack_entropy_levels(levels, histogram, range, out);
      return;
  }
}

void pack_levels(LevelPacker packer, std::span<const int32_t> levels, LevelRange range, std::string& out) {
  pack_levels(packer, levels, LevelHistogram(levels), range, out);
}

uint64_t packed_level_bits(LevelPacker packer, std::span<const int32_t> levels, LevelRange range) {
  const LevelHistogram histogram(levels);
  require_in_range(packer, histogram, range);
  if (levels.empty()) return 0;
  switch (packer) {
    case LevelPacker::fixed:
      return fixed_bits(levels.size(), range);
    case LevelPacker::base243:
      return 8 * base243_bytes(levels.size());
    case LevelPacker::elias_sparse:
      return sparse_bits(levels, histogram);
    case LevelPacker::elias_dense:
      return dense_bits(histogram);
    case LevelPacker::entropy:
      break;
  }
  std::string block;
  const uint64_t last_part = pack_entropy_levels(levels, histogram, range, block);
  return 8 * (block.size() - (last_part + 7) / 8) + last_part;
}

namespace {

/// sparse_bits_within(enough): the bits of the sparse layout, counted at least until they exceed `enough`.
template <class SparseBits>
LevelPacker choose_packer(const LevelHistogram& histogram, LevelRange range, SparseBits sparse_bits_within) {
  require_in_range(LevelPacker::fixed, histogram, range);
  LevelPacker best = LevelPacker::fixed;
  const auto n = size_t(histogram.levels());
  if (n == 0) return best;
  uint64_t least = (fixed_bits(n, range) + 7) / 8;
  auto offer = [&](LevelPacker packer, uint64_t bytes) {
    if (bytes > least || (bytes == least && packer > best)) return;
    least = bytes;
    best = packer;
  };
  if (packer_allows(LevelPacker::base243, range)) offer(LevelPacker::base243, base243_bytes(n));
  if (!packer_allows(LevelPacker::elias_sparse, range)) return best;
  offer(LevelPacker::elias_dense, (dense_bits(histogram) + 7) / 8);
  if (packer_allows(LevelPacker::entropy, range))
    offer(LevelPacker::entropy, entropy_level_bytes(histogram, range));
  // The only one that needs another look at the levels, and only until it cannot win.
  offer(LevelPacker::elias_sparse, (sparse_bits_within(8 * least) + 7) / 8);
  return best;
}

}  // namespace

LevelPacker smallest_packer(std::span<const int32_t> levels, const LevelHistogram& histogram,
                            LevelRange range) {
  return choose_packer(histogram, range,
                       [&](uint64_t enough) { return sparse_bits(levels, histogram, enough); });
}

LevelPacker smallest_packer(const LevelHistogram& histogram, LevelRange range, uint64_t gap_bits) {
  return choose_packer(histogram, range, [&](uint64_t) { return sparse_level_bits(histogram) + gap_bits; });
}

uint64_t packed_level_bytes(LevelPacker packer, const LevelHistogram& histogram, LevelRange range,
                            uint64_t gap_bits) {
  const auto n = size_t(histogram.levels());
  switch (packer) {
    case LevelPacker::fixed:
      return (fixed_bits(n, range) + 7) / 8;
    case LevelPacker::base243:
      return base243_bytes(n);
    case LevelPacker::elias_sparse:
      return (sparse_level_bits(histogram) + gap_bits + 7) / 8;
    case LevelPacker::elias_dense:
      return (dense_bits(histogram) + 7) / 8;
    case LevelPacker::entropy:
      break;
  }
  throw Error(Errc::internal,
              "the size of entropy-coded levels was asked of their histogram; this is a bug in jsq");
}

uint32_t fixed_level_bits(LevelRange range) {
  return fixed_width(range);
}

LevelPacker smallest_packer(std::span<const int32_t> levels, LevelRange range) {
  return smallest_packer(levels, LevelHistogram(levels), range);
}

void unpack_levels(LevelPacker packer, std::string_view bytes, LevelRange range, std::span<int32_t> levels,
                   std::string_view what) {
  if (!packer_allows(packer, range)) damaged_levels(what, "a packer that does not suit the range of levels");
  if (levels.empty()) {
    if (!bytes.empty()) damaged_levels(what, "bytes in a block of no levels");
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
      return unpack_entropy_levels(bytes, range, levels, what);
  }
}

double level_entropy_bits(std::span<const int32_t> levels) {
  static thread_local LevelHistogram histogram;
  histogram.count(levels);
  return histogram.entropy_bits();
}

}  // namespace jsq
