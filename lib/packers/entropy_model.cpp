#include "lib/packers/entropy_model.hpp"

#include <algorithm>
#include <bit>

namespace jsq {

using element::max_activity_buckets;
using element::max_classes;
using element::rans_total;

namespace {

constexpr uint32_t weight_total = 8191;
constexpr uint32_t mantissa_bits = 3;

/// log2 of a value in 1..4096, in 2^-16 bit, rounded down, by repeated squaring in integers.
constexpr uint32_t log2_q16(uint32_t value) {
  const uint32_t whole = uint32_t(std::bit_width(value)) - 1;
  uint64_t mantissa = uint64_t(value) << (30 - whole);  // in [2^30, 2^31)
  uint32_t result = whole << 16;
  for (int bit = 15; bit >= 0; --bit) {
    mantissa = (mantissa * mantissa) >> 30;
    if (mantissa >= (1ull << 31)) {
      mantissa >>= 1;
      result |= 1u << bit;
    }
  }
  return result;
}

const std::array<uint32_t, rans_total + 1>& code_lengths() {
  static const auto table = [] {
    std::array<uint32_t, rans_total + 1> lengths{};
    for (uint32_t f = 1; f <= rans_total; ++f)
      lengths[f] = (element::rans_precision_bits << 16) - log2_q16(f);
    lengths[0] = 64u << 16;  // a symbol that cannot be coded: prohibitive, not infinite
    return lengths;
  }();
  return table;
}

std::array<uint64_t, max_symbols> widen(const SymbolWeights& weights) {
  std::array<uint64_t, max_symbols> wide{};
  std::copy(weights.begin(), weights.end(), wide.begin());
  return wide;
}

bool any(const SymbolWeights& weights) {
  return std::any_of(weights.begin(), weights.end(), [](uint32_t w) { return w != 0; });
}

uint32_t weight_bits(uint32_t weight) {
  return 4 + std::min(mantissa_bits, weight == 0 ? 0u : uint32_t(std::bit_width(weight)) - 1);
}

uint64_t cost_of(const SymbolCounts& counts, const SymbolFrequencies& frequencies) {
  uint64_t bits = 0;
  for (uint32_t s = 0; s < max_symbols; ++s) bits += counts[s] * code_lengths()[frequencies[s]];
  return bits;
}

}  // namespace

void EntropyCounts::merge(const EntropyCounts& other) {
  for (uint32_t b = 0; b < max_activity_buckets; ++b)
    for (uint32_t s = 0; s < max_symbols; ++s) {
      activity[b][s] += other.activity[b][s];
      classes[b][s] += other.classes[b][s];
      for (uint32_t j = 0; j < max_classes; ++j) magnitude[j][b][s] += other.magnitude[j][b][s];
    }
}

uint32_t symbol_weight(uint64_t count, uint64_t total) {
  if (count == 0) return 0;
  const bool narrow = total <= UINT64_MAX / (weight_total + 1);  // and so is the count
  const uint64_t scaled =
      narrow ? (count * weight_total + total / 2) / total
             : uint64_t((static_cast<unsigned __int128>(count) * weight_total + total / 2) / total);
  uint32_t weight = uint32_t(std::max<uint64_t>(scaled, 1));
  const uint32_t length = uint32_t(std::bit_width(weight));
  if (length <= mantissa_bits + 1) return weight;
  const uint32_t dropped = length - mantissa_bits - 1;
  weight = (weight + (1u << (dropped - 1))) >> dropped << dropped;
  return std::min(weight, weight_total >> 9 << 9);  // rounding up must not reach a fourteenth bit
}

SymbolWeights symbol_weights(const SymbolCounts& counts) {
  uint64_t total = 0;
  for (uint64_t c : counts) total += c;
  SymbolWeights weights{};
  for (uint32_t s = 0; s < max_symbols; ++s) weights[s] = symbol_weight(counts[s], total);
  return weights;
}

void normalise(std::span<const uint64_t> weights, std::span<uint32_t> frequencies) {
  uint64_t total = 0;
  for (uint64_t w : weights) total += w;
  std::fill(frequencies.begin(), frequencies.end(), 0u);
  if (total == 0) return;
  uint32_t sum = 0;
  const bool narrow = total <= UINT64_MAX / rans_total;  // as nearly always, and several times faster
  for (size_t s = 0; s < weights.size(); ++s) {
    if (weights[s] == 0) continue;
    const auto share = narrow ? uint32_t(weights[s] * rans_total / total)
                              : uint32_t(static_cast<unsigned __int128>(weights[s]) * rans_total / total);
    frequencies[s] = std::max(share, 1u);
    sum += frequencies[s];
  }
  // What is missing goes to the most frequent symbol; what is too much is taken from it, one by one.
  while (sum != rans_total) {
    const auto largest = std::max_element(frequencies.begin(), frequencies.end());
    if (sum < rans_total) {
      *largest += rans_total - sum;
      sum = rans_total;
    } else {
      --*largest;
      --sum;
    }
  }
}

SymbolFrequencies normalise(const std::array<uint64_t, max_symbols>& weights) {
  SymbolFrequencies frequencies{};
  normalise(std::span<const uint64_t>(weights), std::span<uint32_t>(frequencies));
  return frequencies;
}

uint32_t code_length_q16(uint32_t frequency) {
  return code_lengths()[frequency];
}

uint64_t symbol_table_bits(const SymbolWeights& weights, uint32_t symbols) {
  if (!any(weights)) return 1;
  uint64_t bits = 1;
  for (uint32_t s = 0; s < symbols; ++s) bits += weight_bits(weights[s]);
  return bits;
}

void write_symbol_table(cpu::BitWriter& out, const SymbolWeights& weights, uint32_t symbols) {
  out.put(any(weights), 1);
  if (!any(weights)) return;
  for (uint32_t s = 0; s < symbols; ++s) {
    const uint32_t length = uint32_t(std::bit_width(weights[s]));
    out.put(length, 4);
    if (length <= 1) continue;
    const uint32_t stored = std::min(mantissa_bits, length - 1);
    out.put((weights[s] >> (length - 1 - stored)) & ((1u << stored) - 1), stored);
  }
}

bool read_symbol_table(cpu::BitReader& in, SymbolWeights& weights, uint32_t symbols) {
  weights = {};
  if (!in.bit()) return true;
  for (uint32_t s = 0; s < symbols; ++s) {
    const uint32_t length = in.get(4);
    if (length > 13) return false;
    if (length == 0) continue;
    const uint32_t stored = std::min(mantissa_bits, length - 1);
    weights[s] = ((1u << stored) | in.get(stored)) << (length - 1 - stored);
  }
  return any(weights);
}

SymbolFrequencies EntropyModel::activity_frequencies(uint32_t previous) const {
  return normalise(widen(activity[previous]));
}

SymbolFrequencies EntropyModel::token_frequencies(uint32_t bucket) const {
  const uint32_t joined = classes_per_token(classes);
  std::array<uint64_t, max_symbols> products{};
  for (uint32_t token = 0; token < token_symbols(classes); ++token) {
    uint64_t product = 1;
    for (uint32_t i = 0, rest = token; i < joined; ++i, rest /= classes)
      product *= class_weight[bucket][rest % classes];
    products[token] = product;
  }
  return normalise(products);
}

SymbolFrequencies EntropyModel::magnitude_frequencies(uint32_t index, uint32_t bucket) const {
  const bool by_activity = magnitudes_by_activity >> (index - 1) & 1;
  return normalise(widen(magnitude[index][by_activity ? bucket : 0]));
}

namespace {

/// Calls f(weights, symbols) for every table of the model, in stream order.
template <class Model, class F>
void for_each_table(Model& model, F f) {
  if (model.map_coded) {
    for (uint32_t b = 0; b < model.buckets; ++b) f(model.activity[b], model.buckets);
    for (uint32_t b = 1; b < model.buckets; ++b) f(model.class_weight[b], model.classes);
  }
  for (uint32_t j = 1; j < model.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    const uint32_t symbols = 1u << element::coded_magnitude_bits(model.width[j]);
    const uint32_t tables = model.magnitudes_by_activity >> (j - 1) & 1 ? model.buckets : 1;
    for (uint32_t b = tables == 1 ? 0 : 1; b < std::max(tables, 1u); ++b) f(model.magnitude[j][b], symbols);
  }
}

}  // namespace

void EntropyModel::write(cpu::BitWriter& out) const {
  if (needs_activities()) out.put(buckets, 4);
  for_each_table(*this, [&](const SymbolWeights& weights, uint32_t symbols) {
    write_symbol_table(out, weights, symbols);
  });
}

bool EntropyModel::read(cpu::BitReader& in) {
  buckets = 0;
  if (needs_activities()) {
    buckets = in.get(4);
    if (buckets > max_activity_buckets || (magnitudes_by_activity && buckets < 2)) return false;
  }
  bool possible = true;
  for_each_table(*this, [&](SymbolWeights& weights, uint32_t symbols) {
    possible = possible && read_symbol_table(in, weights, symbols);
  });
  return possible && !in.overrun();
}

EntropyModel EntropyModel::without_map() const {
  EntropyModel model = *this;
  model.map_coded = false;
  model.activity = {};
  model.class_weight = {};
  return model;
}

uint64_t EntropyModel::table_bits() const {
  uint64_t bits = needs_activities() ? 4 : 0;
  for_each_table(*this, [&](const SymbolWeights& weights, uint32_t symbols) {
    bits += symbol_table_bits(weights, symbols);
  });
  return bits;
}

namespace {

/// Expected bits of the tokens whose classes were counted, as if the classes of a token were independent (as
/// the token's frequency assumes, so that the expectation over tokens is nearly the truth). Fixed point,
/// deterministic.
uint64_t tokens_cost(const SymbolCounts& class_counts, uint32_t classes,
                     const SymbolFrequencies& frequencies) {
  uint64_t total = 0;
  for (uint64_t c : class_counts) total += c;
  if (total == 0) return 0;
  const uint32_t joined = classes_per_token(classes);
  const double tokens = double(total) / joined;
  double bits = 0;
  for (uint32_t token = 0; token < token_symbols(classes); ++token) {
    double share = 1;
    for (uint32_t i = 0, rest = token; i < joined; ++i, rest /= classes)
      share *= double(class_counts[rest % classes]) / double(total);
    if (share > 0) bits += tokens * share * code_lengths()[frequencies[token]];
  }
  return uint64_t(bits);
}

}  // namespace

EntropyModel::Cost EntropyModel::cost(const EntropyCounts& counts) const {
  Cost cost;
  if (map_coded) {
    for (uint32_t b = 0; b < buckets; ++b)
      cost.map_q16 += cost_of(counts.activity[b], activity_frequencies(b));
    for (uint32_t b = 1; b < buckets; ++b)
      cost.map_q16 += tokens_cost(counts.classes[b], classes, token_frequencies(b));
  }
  for (uint32_t j = 1; j < classes; ++j) {
    const bool coded = magnitudes_coded >> (j - 1) & 1;
    for (uint32_t b = 0; b < max_activity_buckets; ++b) {
      const SymbolCounts& row = counts.magnitude[j][b];
      uint64_t members = 0;
      for (uint64_t c : row) members += c;
      if (members == 0) continue;
      const uint32_t raw_bits = 1 + element::raw_magnitude_bits(width[j]);
      const uint32_t coded_bits = element::coded_magnitude_bits(width[j]);
      cost.magnitudes_q16 += (members * raw_bits) << 16;
      cost.magnitudes_q16 += coded ? cost_of(row, magnitude_frequencies(j, b)) : (members * coded_bits) << 16;
    }
  }
  return cost;
}

namespace {

/// Fits class j's magnitude tables both ways and keeps the cheaper, or none when coding does not pay.
void fit_magnitudes(EntropyModel& model, const EntropyCounts& counts, uint32_t j) {
  const uint32_t coded_bits = element::coded_magnitude_bits(model.width[j]);
  if (coded_bits == 0) return;
  const uint32_t symbols = 1u << coded_bits;
  SymbolCounts pooled{};
  for (const SymbolCounts& row : counts.magnitude[j])
    for (uint32_t s = 0; s < symbols; ++s) pooled[s] += row[s];
  uint64_t members = 0;
  for (uint64_t c : pooled) members += c;
  if (members == 0) return;

  const SymbolWeights pooled_weights = symbol_weights(pooled);
  const uint64_t pooled_cost =
      cost_of(pooled, normalise(widen(pooled_weights))) + (symbol_table_bits(pooled_weights, symbols) << 16);
  std::array<SymbolWeights, max_activity_buckets> by_activity{};
  uint64_t by_activity_cost = 0;
  for (uint32_t b = 1; b < model.buckets; ++b) {
    by_activity[b] = symbol_weights(counts.magnitude[j][b]);
    if (any(by_activity[b]))
      by_activity_cost += cost_of(counts.magnitude[j][b], normalise(widen(by_activity[b])));
    by_activity_cost += symbol_table_bits(by_activity[b], symbols) << 16;
  }
  const uint64_t plain_cost = (members * coded_bits) << 16;
  // Coding a symbol takes time; it has to save one part in 128 of the plain bits to be worth it.
  if (std::min(pooled_cost, by_activity_cost) + plain_cost / 128 >= plain_cost) return;
  model.magnitudes_coded |= uint8_t(1u << (j - 1));
  if (model.buckets > 1 && by_activity_cost < pooled_cost) {
    model.magnitudes_by_activity |= uint8_t(1u << (j - 1));
    model.magnitude[j] = by_activity;
  } else {
    model.magnitude[j][0] = pooled_weights;
  }
}

}  // namespace

EntropyModel fit_entropy_model(const EntropyCounts& counts, uint32_t classes,
                               const std::array<uint8_t, element::max_classes>& width, bool code_map,
                               bool code_magnitudes) {
  EntropyModel model;
  model.classes = classes;
  model.width = width;
  model.map_coded = code_map;
  for (uint32_t b = 0; b < max_activity_buckets; ++b)
    for (uint32_t s = 0; s < max_activity_buckets; ++s)
      if (counts.activity[b][s]) model.buckets = std::max(model.buckets, std::max(b, s) + 1);
  if (code_map) {
    for (uint32_t b = 0; b < model.buckets; ++b) model.activity[b] = symbol_weights(counts.activity[b]);
    for (uint32_t b = 1; b < model.buckets; ++b) model.class_weight[b] = symbol_weights(counts.classes[b]);
  }
  if (code_magnitudes)
    for (uint32_t j = 1; j < classes; ++j) fit_magnitudes(model, counts, j);
  return model;
}

}  // namespace jsq
