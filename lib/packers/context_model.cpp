#include "lib/packers/context_model.hpp"

#include <algorithm>
#include <bit>

#include "lib/packers/entropy_model.hpp"

namespace jsq {
namespace {

/// 2^(j/4) in 2^-16, rounded.
constexpr uint64_t quarter_octave[4] = {65536, 77936, 92682, 110218};

/// The rungs' shares of 65,536 and what passes them all.
struct Shares {
  std::array<uint64_t, 32> stop{};
  uint64_t beyond = 0;
};

Shares shares_of(const Ladder& ladder) {
  Shares shares;
  uint64_t left = uint64_t(1) << 24;  // finer than the odds, so that far rungs keep their ratio
  for (uint32_t k = 0; k < ladder.rungs; ++k) {
    const bool certain = ladder.closed && k + 1 == ladder.rungs;
    shares.stop[k] = certain ? left : std::max<uint64_t>(1, left * odds_probability(ladder.odds[k]) >> 16);
    left -= std::min(left, shares.stop[k]);
  }
  shares.beyond = ladder.closed ? 0 : std::max<uint64_t>(left, 1);
  return shares;
}

ContextFrequencies normalised(const std::array<uint64_t, context_symbols>& weights) {
  ContextFrequencies frequencies{};
  normalise(std::span<const uint64_t>(weights), std::span<uint32_t>(frequencies));
  return frequencies;
}

}  // namespace

uint32_t odds_probability(int index) {
  const int shifted = index + 64;  // above 0
  // odds = quarter_octave x 2^(octave - 16)
  const int octave = shifted / 4 - 16;
  const uint64_t mantissa = quarter_octave[shifted % 4];
  // Both sides scaled so that neither loses bits: odds : 1 = mantissa 2^octave : 2^16.
  const uint64_t stop = octave >= 0 ? mantissa << octave : mantissa,
                 pass = octave >= 0 ? 65536 : uint64_t(65536) << -octave;
  return uint32_t(std::clamp<uint64_t>((stop << 16) / (stop + pass), 1, 65535));
}

int odds_index(uint64_t stopped, uint64_t passed) {
  if (stopped == 0) return passed == 0 ? 0 : -odds_limit;
  if (passed == 0) return odds_limit;
  const float odds = float(double(stopped) / double(passed));
  const uint32_t bits = std::bit_cast<uint32_t>(odds), mantissa = bits & 0x7fffff;
  // Mantissas of 2^(1/8), 2^(3/8), 2^(5/8), 2^(7/8).
  int index = (int(bits >> 23) - 127) * 4;
  for (uint32_t bound : {0x0b95c2u, 0x25fed7u, 0x45672au, 0x6ac0c7u}) index += mantissa >= bound;
  return std::clamp(index, -odds_limit, odds_limit);
}

ContextFrequencies signed_frequencies(const Ladder& ladder, LevelSigns signs) {
  const Shares shares = shares_of(ladder);
  std::array<uint64_t, context_symbols> weights{};
  weights[0] = 2 * shares.stop[0];
  for (uint32_t k = 1; k < ladder.rungs; ++k) {
    weights[2 * k - 1] = signs == LevelSigns::negative ? 0 : shares.stop[k];
    weights[2 * k] = signs == LevelSigns::positive ? 0 : shares.stop[k];
    if (signs != LevelSigns::both) weights[2 * k - (signs == LevelSigns::positive)] *= 2;
  }
  weights[escape_symbol] = 2 * shares.beyond;
  return normalised(weights);
}

ContextFrequencies plain_frequencies(const Ladder& ladder) {
  const Shares shares = shares_of(ladder);
  std::array<uint64_t, context_symbols> weights{};
  std::copy(shares.stop.begin(), shares.stop.end(), weights.begin());
  return normalised(weights);
}

// --- Stored form
// -------------------------------------------------------------------------------------------------

void write_signed_rice(cpu::BitWriter& out, int value, uint32_t low) {
  const uint32_t folded = value < 0 ? uint32_t(-value) * 2 - 1 : uint32_t(value) * 2;
  out.put_unary(folded >> low);
  if (low) out.put(folded & ((1u << low) - 1), low);
}

uint32_t signed_rice_bits(int value, uint32_t low) {
  const uint32_t folded = value < 0 ? uint32_t(-value) * 2 - 1 : uint32_t(value) * 2;
  return (folded >> low) + 1 + low;
}

int read_signed_rice(cpu::BitReader& in, uint32_t low, int limit, bool& possible) {
  const uint64_t high = in.get_unary(uint64_t(2 * limit + 1) >> low);
  const uint32_t folded = uint32_t(high << low) | (low ? in.get(low) : 0);
  const int value = folded & 1 ? -int(folded / 2) - 1 : int(folded / 2);
  if (value > limit || value < -limit) possible = false;
  return possible ? value : 0;
}

namespace {

constexpr uint32_t first_guess_odds = 8;

/// The ladder that another one is stored against, and how much lower its odds are expected to be.
struct Before {
  const Ladder* ladder = nullptr;
  int first = 4, others = 2;

  int rungs() const { return ladder ? int(ladder->rungs) : 2; }
};

/// What table t is stored against: that of the context below; with the shifted quantizer, that of the other
/// one.
Before before_table(const ContextModel& model, size_t t) {
  return {t ? &model.tables[t - 1] : nullptr};
}
Before before_shifted(const ContextModel& model, size_t t) {
  return {&model.tables[t], 4, 0};
}

/// What rung k of a table is predicted from: the same rung of the one before, otherwise the rung before.
int predicted_odds(const Before& before, const Ladder& ladder, uint32_t k) {
  if (before.ladder != nullptr && k < before.ladder->stored_odds())
    return std::max(before.ladder->odds[k] - (k == 0 ? before.first : before.others), -odds_limit);
  if (k > 0) return ladder.odds[k - 1];
  return int(first_guess_odds);
}

uint64_t ladder_bits(const Before& before, const Ladder& ladder, uint32_t low) {
  uint64_t bits = 1 + signed_rice_bits(int(ladder.rungs) - before.rungs(), 0);
  for (uint32_t k = 0; k < ladder.stored_odds(); ++k)
    bits += signed_rice_bits(ladder.odds[k] - predicted_odds(before, ladder, k), low);
  return bits;
}

void write_ladder(cpu::BitWriter& out, const Before& before, const Ladder& ladder, uint32_t low) {
  write_signed_rice(out, int(ladder.rungs) - before.rungs(), 0);
  out.put(ladder.closed, 1);
  for (uint32_t k = 0; k < ladder.stored_odds(); ++k)
    write_signed_rice(out, ladder.odds[k] - predicted_odds(before, ladder, k), low);
}

bool read_ladder(cpu::BitReader& in, const Before& before, Ladder& ladder, uint32_t low, uint32_t most) {
  bool possible = true;
  const int rungs = before.rungs() + read_signed_rice(in, 0, 64, possible);
  if (!possible || rungs < 1 || rungs > int(most)) return false;
  ladder.rungs = uint32_t(rungs);
  ladder.closed = in.bit();
  for (uint32_t k = 0; k < ladder.stored_odds(); ++k) {
    const int odds = predicted_odds(before, ladder, k) + read_signed_rice(in, low, 2 * odds_limit, possible);
    if (!possible || odds < -odds_limit || odds > odds_limit) return false;
    ladder.odds[k] = int8_t(odds);
  }
  return true;
}

/// Of all tables but the escapes'.
uint64_t ladders_bits(const ContextModel& model, uint32_t low) {
  uint64_t bits = 0;
  for (size_t t = 0; t < model.tables.size(); ++t)
    bits += ladder_bits(before_table(model, t), model.tables[t], low);
  for (size_t t = 0; t < model.shifted.size(); ++t)
    bits += ladder_bits(before_shifted(model, t), model.shifted[t], low);
  return bits;
}

uint32_t best_rice(const ContextModel& model) {
  uint32_t best = 0;
  uint64_t least = UINT64_MAX;
  for (uint32_t low = 0; low < 4; ++low) {
    const uint64_t bits = ladders_bits(model, low);
    if (bits < least) {
      least = bits;
      best = low;
    }
  }
  return best;
}

constexpr uint32_t escape_rice = 2;

}  // namespace

void ContextModel::write(cpu::BitWriter& out) const {
  out.put(uint32_t(tables.size()), 5);
  if (tables.empty()) return;
  out.put(uint32_t(lowest - lowest_context), 5);
  const uint32_t low = best_rice(*this);
  out.put(low, 2);
  for (size_t t = 0; t < tables.size(); ++t) write_ladder(out, before_table(*this, t), tables[t], low);
  for (size_t t = 0; t < shifted.size(); ++t) write_ladder(out, before_shifted(*this, t), shifted[t], low);
  out.put(has_escapes, 1);
  if (has_escapes) write_ladder(out, {}, escapes, escape_rice);
}

bool ContextModel::read(cpu::BitReader& in, bool dependent) {
  *this = {};
  const uint32_t count = in.get(5);
  if (count == 0) return !in.overrun();
  lowest = int(in.get(5)) + lowest_context;
  if (lowest + int(count) - 1 > highest_own_context || lowest == highest_own_context) return false;
  const uint32_t low = in.get(2);
  tables.resize(count);
  for (size_t t = 0; t < tables.size(); ++t)
    if (!read_ladder(in, before_table(*this, t), tables[t], low, most_rungs)) return false;
  if (dependent) shifted.resize(count);
  for (size_t t = 0; t < shifted.size(); ++t)
    if (!read_ladder(in, before_shifted(*this, t), shifted[t], low, most_rungs)) return false;
  has_escapes = in.bit();
  if (has_escapes && (!read_ladder(in, {}, escapes, escape_rice, 32) || !escapes.closed)) return false;
  for (const std::vector<Ladder>* of_quantizer : {&tables, &shifted})
    for (size_t t = 0; t < of_quantizer->size(); ++t) {
      const bool closed = (*of_quantizer)[t].closed;
      if (closed ? lowest + int(t) >= 4 : !has_escapes) return false;
    }
  return !in.overrun();
}

uint64_t ContextModel::table_bits() const {
  if (tables.empty()) return 5;
  const uint32_t low = best_rice(*this);
  uint64_t bits = 5 + 5 + 2 + 1 + ladders_bits(*this, low);
  if (has_escapes) bits += ladder_bits({}, escapes, escape_rice);
  return bits;
}

// --- Fitting
// ---------------------------------------------------------------------------------------------------------

namespace {

/// -log2 of a share of 65,536 in 2^-16 bit, for fitting.
uint64_t share_bits_q16(uint32_t share) {
  return code_length_q16(std::max(1u, share >> 4));
}

/// The odds near the best whose own code is worth it.
int choose_odds(uint64_t stopped, uint64_t passed, int predicted) {
  if (stopped + passed == 0) return predicted;
  const int best = odds_index(stopped, passed);
  int chosen = best;
  uint64_t least = UINT64_MAX;
  const int step = best >= predicted ? -1 : 1;
  for (int candidate = best;; candidate += step) {
    const uint32_t p = odds_probability(candidate);
    const uint64_t bits = stopped * share_bits_q16(p) + passed * share_bits_q16(65536 - p) +
                          (uint64_t(signed_rice_bits(candidate - predicted, 1)) << 16);
    if (bits < least) {
      least = bits;
      chosen = candidate;
    }
    if (candidate == predicted || (candidate - best) * step > 12) break;
  }
  return chosen;
}

Ladder fit_ladder(const Before& before, std::span<const uint64_t> counts, uint64_t beyond, uint32_t rungs,
                  bool closed) {
  Ladder ladder;
  ladder.rungs = rungs;
  ladder.closed = closed;
  uint64_t left = beyond;
  for (uint64_t c : counts) left += c;
  for (uint32_t k = 0; k < ladder.stored_odds(); ++k) {
    const uint64_t stopped = k < counts.size() ? counts[k] : 0;
    left -= stopped;
    ladder.odds[k] = int8_t(choose_odds(stopped, left, predicted_odds(before, ladder, k)));
  }
  return ladder;
}

/// The ladder that codes `row`, a table of context c.
Ladder fit_row(const Before& before, const MagnitudeCounts& row, int c, bool open) {
  // The highest magnitude worth a rung: what is rarer escapes, which costs a few bits more each time.
  uint32_t seen = 0;
  for (uint32_t m = 0; m < most_rungs; ++m)
    if (row[m]) seen = m;
  uint32_t rungs = seen + 1;
  // Levels of contexts with raw bits have no end.
  bool closed = row[most_rungs] == 0 && !open && c < 4;
  // A rung that was met once or twice costs about as much as the escape.
  while (rungs > 2 && row[rungs - 1] < 3 && (open || !closed)) --rungs;
  uint64_t beyond = 0;
  for (uint32_t m = rungs; m <= most_rungs; ++m) beyond += row[m];
  if (beyond > 0) closed = false;
  return fit_ladder(before, std::span(row).first(rungs), beyond, rungs, closed);
}

}  // namespace

void fit_tables(ContextModel& model, int lowest, std::span<const MagnitudeCounts> counts, bool open) {
  model.lowest = lowest;
  model.tables.clear();
  for (const MagnitudeCounts& row : counts) {
    const size_t t = model.tables.size();
    model.tables.push_back(fit_row(before_table(model, t), row, lowest + int(t), open));
  }
}

void fit_shifted(ContextModel& model, std::span<const MagnitudeCounts> counts, bool open) {
  model.shifted.clear();
  for (size_t t = 0; t < counts.size(); ++t)
    model.shifted.push_back(fit_row(before_shifted(model, t), counts[t], model.lowest + int(t), open));
}

void fit_escapes(ContextModel& model, const EscapeCounts& counts, bool open) {
  model.has_escapes = false;
  uint32_t seen = 0;
  for (uint32_t k = 0; k < 32; ++k)
    if (counts[k]) seen = k;
  for (const Ladder& ladder : model.tables) model.has_escapes = model.has_escapes || !ladder.closed;
  for (const Ladder& ladder : model.shifted) model.has_escapes = model.has_escapes || !ladder.closed;
  if (!model.has_escapes) return;
  const uint32_t rungs = open ? 32 : seen + 1;
  model.escapes = fit_ladder({}, std::span(counts).first(rungs), 0, rungs, true);
}

}  // namespace jsq
