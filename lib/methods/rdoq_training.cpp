#include "lib/methods/rdoq_training.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/element/float_bits.hpp"

namespace jsq {

// --- Atoms
// -----------------------------------------------------------------------------------------------------------

AtomCounter::AtomCounter() : bins_(scales), used_(scales) {
  std::fill(std::begin(first_), std::end(first_), keys);
}

void AtomCounter::add(std::span<const float> values, int octaves, size_t apart) {
  const size_t s = size_t(std::clamp(octaves, least, least + scales - 1) - least);
  if (bins_[s].empty()) {
    bins_[s].resize(keys);
    used_[s].resize((keys + 7) / 8 * 8);
  }
  Bin* const bins = bins_[s].data();
  uint8_t* const used = used_[s].data();
  uint32_t first = first_[s], last = last_[s];
  for (size_t i = 0; i < values.size(); i += apart) {
    const float g = values[i], magnitude = std::abs(g);
    if (magnitude == 0) {
      ++zeros_[s];
      continue;
    }
    const uint32_t key = element::magnitude_key(g) >> key_shift;
    first = std::min(first, key);
    last = std::max(last, key);
    used[key] = 1;
    Bin& bin = bins[key];
    bin.count += 1;
    bin.sum += double(magnitude);
    bin.square += double(magnitude) * double(magnitude);
  }
  first_[s] = first;
  last_[s] = last;
}

std::vector<Atom> AtomCounter::take(double scale) {
  std::vector<Atom> atoms;
  for (int s = 0; s < scales; ++s) {
    if (zeros_[s] > 0) atoms.push_back({int16_t(s + least), zeros_[s] * scale, 0, 0});
    zeros_[s] = 0;
    // Eight at a time: of a small sample most bins between the first and the last are empty.
    for (uint32_t group = first_[s] / 8 * 8; group <= last_[s]; group += 8) {
      uint8_t* const used = used_[size_t(s)].data() + group;
      uint64_t any;
      std::memcpy(&any, used, 8);
      if (any == 0) continue;
      std::memset(used, 0, 8);
      for (uint32_t key = group; key < std::min(group + 8, keys); ++key) {
        Bin& bin = bins_[size_t(s)][key];
        if (bin.count == 0) continue;
        const double mean = bin.sum / bin.count;
        atoms.push_back({int16_t(s + least), bin.count * scale, mean,
                         std::max(0.0, bin.square - bin.sum * mean) * scale});
        bin = {};
      }
    }
    first_[s] = keys;
    last_[s] = 0;
  }
  return atoms;
}

// --- Training
// --------------------------------------------------------------------------------------------------------

Reconstruction stored_step(double step) {
  Reconstruction values;
  const double bounded = std::clamp(step, 0x1p-120, 0x1p+125);
  const uint64_t bits = std::bit_cast<uint64_t>(bounded);
  int exponent = int(bits >> 52) - 1023;
  uint64_t mantissa = ((bits & ((uint64_t(1) << 52) - 1)) >> 36) + 0x10000;  // 17 bits
  mantissa = (mantissa + 1) >> 1;
  if (mantissa == 0x10000) {
    mantissa = 0x8000;
    ++exponent;
  }
  values.mantissa = uint16_t(mantissa);
  values.exponent = int16_t(exponent - 15);
  return values;
}

namespace {

uint64_t whole(double count) {
  return count <= 0 ? 0 : uint64_t(count + 0.999);
}

std::vector<MagnitudeCounts> whole_rows(const LevelCounts& counts) {
  std::vector<MagnitudeCounts> rows(counts.magnitudes.size());
  for (size_t t = 0; t < rows.size(); ++t)
    for (size_t m = 0; m < rows[t].size(); ++m) rows[t][m] = whole(counts.magnitudes[t][m]);
  return rows;
}

/// Offsets of one quantizer; returns what they save, in step^2.
double fit_offsets_of(std::span<const Ladder> tables, const LevelCounts& counts, double lambda,
                      std::vector<std::array<int8_t, 3>>& offsets) {
  offsets.assign(tables.size(), {});
  double gain = 0;
  std::array<int, 3> before{};
  for (size_t t = 0; t < tables.size(); ++t)
    for (size_t k = 0; k < 3; ++k) {
      const double n = counts.weight[t][k];
      int chosen = before[k];
      if (n > 0 && k + 1 < tables[t].rungs) {
        const double centre = counts.sum[t][k] / n;
        const auto loss = [&](int offset) {
          const double error = centre - offset / 32.0;
          return n * error * error + lambda * signed_rice_bits(offset - before[k], 1);
        };
        for (int offset = -31; offset <= 31; ++offset)
          if (loss(offset) < loss(chosen)) chosen = offset;
        gain += n * centre * centre - loss(chosen);
      } else if (k + 1 < tables[t].rungs) {
        gain -= lambda;
      }
      offsets[t][k] = int8_t(chosen);
      before[k] = chosen;
    }
  return gain;
}

}  // namespace

void LevelCounts::note(ContextUse use, uint32_t rungs, int32_t level, double x, double count) {
  const uint32_t coarse = uint32_t(level) >> use.raw_bits;
  magnitudes[use.table][std::min(coarse, most_rungs)] += count;
  if (coarse >= rungs) escapes[size_t(std::bit_width(coarse - rungs + 1)) - 1] += count;
  if (level > 0 && use.raw_bits == 0) {
    const size_t k = size_t(std::min(level, 3)) - 1;
    weight[use.table][k] += count;
    sum[use.table][k] += count * (x - level);
  }
}

void LevelCounts::add(const LevelCounts& other, double times) {
  for (size_t t = 0; t < magnitudes.size(); ++t) {
    for (size_t m = 0; m < magnitudes[t].size(); ++m) magnitudes[t][m] += other.magnitudes[t][m] * times;
    for (size_t k = 0; k < 3; ++k) {
      weight[t][k] += other.weight[t][k] * times;
      sum[t][k] += other.sum[t][k] * times;
    }
  }
  for (size_t y = 0; y < escapes.size(); ++y) escapes[y] += other.escapes[y] * times;
}

void fit_model(ContextModel& model, const LevelCounts& counts, const LevelCounts* shifted, bool open) {
  fit_tables(model, model.lowest, whole_rows(counts), open);
  if (shifted) fit_shifted(model, whole_rows(*shifted), open);
  EscapeCounts escapes{};
  for (size_t k = 0; k < escapes.size(); ++k)
    escapes[k] = whole(counts.escapes[k] + (shifted ? shifted->escapes[k] : 0));
  // Escapes were counted with the rungs of the tables before: what they are now is counted in the next round.
  fit_escapes(model, escapes, true);
}

void fit_offsets(Reconstruction& values, const ContextModel& model, const LevelCounts& counts,
                 const LevelCounts* shifted, double lambda) {
  double gain = fit_offsets_of(model.tables, counts, lambda, values.offsets);
  if (shifted) gain += fit_offsets_of(model.shifted, *shifted, lambda, values.shifted_offsets);
  values.has_offsets = gain > 0;
  if (values.has_offsets) return;
  values.offsets.clear();
  values.shifted_offsets.clear();
}

namespace {

class Trainer {
 public:
  Trainer(std::span<const Atom> atoms, const Reconstruction& step, const TrainingOptions& options)
      : options_(options), values_(step), step_(step.step()), octaves_(step.step_octaves()) {
    for (const Atom& atom : atoms) {
      const int c = int(atom.octaves) - octaves_;
      if (c < lowest_context && !options.uniform) {
        dropped_error_ += atom.spread + atom.count * atom.mean * atom.mean;
        continue;
      }
      atoms_.push_back({std::clamp(c, lowest_context, highest_context), atom.count,
                        std::min(atom.mean / step_, 2e9), atom.spread});
    }
  }

  Trained run() {
    model_.signs = options_.signs;
    if (atoms_.empty()) return finish();
    int lowest = highest_own_context, highest = lowest_context;
    for (const Scaled& atom : atoms_) {
      lowest = std::min(lowest, atom.context);
      highest = std::max(highest, atom.context);
    }
    if (highest >= highest_own_context) lowest = std::min(lowest, highest_own_context - 1);
    // Of a sample, what was not met may lie lower, and its error counts all the same.
    // Dithered, scales are lifted to the lowest context instead.
    if (options_.uniform && options_.open && !options_.dithered) lowest = lowest_context;
    model_.lowest = lowest;
    tables_ = size_t(std::min(highest, highest_own_context) - lowest) + 1;
    model_.tables.assign(tables_, Ladder{.rungs = most_rungs, .closed = false});
    count_rounded();
    fit_model(model_, counts_, nullptr, options_.open);
    for (int round = 0; round < options_.rounds; ++round) {
      const ContextLevels coder(model_, values_);
      const RdQuantizer quantizer(coder, options_.lambda);
      count(coder, quantizer);
      if (round > 0 && !options_.uniform) drop_low_contexts(coder, quantizer);
      if (model_.tables.empty()) return finish();
      fit_model(model_, counts_, nullptr, options_.open);
      if (!options_.uniform) fit_offsets(values_, model_, counts_, nullptr, options_.lambda);
    }
    return finish();
  }

 private:
  struct Scaled {
    int context;
    double count, x, spread;
  };

  /// The first pass, with a dead zone and no tables yet.
  void count_rounded() {
    counts_ = LevelCounts(model_.tables.size());
    for (const Scaled& atom : atoms_) {
      const ContextUse use = model_.use_of(atom.context);
      counts_.note(use, most_rungs, int32_t(atom.x + (use.raw_bits || options_.uniform ? 0.5 : 0.35)), atom.x,
                   atom.count);
    }
  }

  void count(const ContextLevels& coder, const RdQuantizer& quantizer) {
    counts_ = LevelCounts(model_.tables.size());
    for (const Scaled& atom : atoms_) {
      const ContextClass k = coder.class_of(atom.context);
      if (k == 0) continue;
      const ContextUse use = coder.use(k);
      for_each_level(atom, quantizer, k, [&](int32_t level, double count) {
        counts_.note(use, model_.tables[use.table].rungs, level, atom.x, count);
      });
    }
  }

  /// The levels that an atom's elements take, and how many of them.
  template <class Visit>
  void for_each_level(const Scaled& atom, const RdQuantizer& quantizer, ContextClass k, Visit visit) const {
    if (!options_.dithered) return visit(quantizer.level(float(atom.x), k), atom.count);
    const auto below = int32_t(atom.x);
    const double fraction = atom.x - below;
    if (fraction < 1) visit(below, atom.count * (1 - fraction));
    if (fraction > 0) visit(below + 1, atom.count * fraction);
  }

  /// A table that saves less than it takes is not stored, nor are those below it.
  void drop_low_contexts(const ContextLevels& coder, const RdQuantizer& quantizer) {
    std::vector<double> gain(model_.tables.size());
    for (const Scaled& atom : atoms_) {
      const ContextClass k = coder.class_of(atom.context);
      if (k == 0) continue;
      const ContextUse use = coder.use(k);
      const int32_t level = quantizer.level(float(atom.x), k);
      const double value = double(coder.values().points(use, uint32_t(level))) / 256;
      const double kept = (atom.x - value) * (atom.x - value) + options_.lambda * quantizer.bits(level, k);
      gain[use.table] += atom.count * (atom.x * atom.x - kept);
    }
    size_t drop = 0;
    while (drop < gain.size() && gain[drop] < options_.lambda * 8) ++drop;
    if (drop == 0) return;
    if (drop < gain.size() && model_.highest() == highest_own_context)
      drop = std::min(drop, model_.tables.size() - 2);
    if (drop == 0) return;
    model_.lowest += int(drop);
    model_.tables.erase(model_.tables.begin(), model_.tables.begin() + std::ptrdiff_t(drop));
    if (!values_.offsets.empty())
      values_.offsets.erase(values_.offsets.begin(), values_.offsets.begin() + std::ptrdiff_t(drop));
    for (auto* rows : {&counts_.weight, &counts_.sum})
      rows->erase(rows->begin(), rows->begin() + std::ptrdiff_t(drop));
    counts_.magnitudes.erase(counts_.magnitudes.begin(), counts_.magnitudes.begin() + std::ptrdiff_t(drop));
  }

  Trained finish() {
    Trained result;
    result.squared_error = dropped_error_;
    result.lambda = options_.lambda;
    if (model_.tables.empty()) values_.has_offsets = false;
    if (!values_.has_offsets) values_.offsets.clear();
    const ContextLevels coder(model_, values_);
    const RdQuantizer quantizer(coder, options_.lambda);
    const double square = step_ * step_;
    for (const Scaled& atom : atoms_) {
      const ContextClass k = coder.class_of(atom.context);
      for_each_level(atom, quantizer, k, [&](int32_t level, double count) {
        const double value = double(values_.points(coder.use(k), uint32_t(level))) / 256;
        const double error = (atom.x - value) * (atom.x - value);
        if (options_.dithered)
          result.squared_error += count * error * square;
        else if (level == 0)  // what is dropped loses all of its spread
          result.squared_error += atom.spread + atom.count * atom.x * atom.x * square;
        else
          result.squared_error += atom_error({0, atom.count, 0, atom.spread}, error, square);
        result.bits += count * quantizer.bits(level, k);
      });
    }
    std::string offsets;
    cpu::BitWriter bits(offsets);
    write_offsets(bits, values_, model_);
    bits.align();
    result.table_bits = model_.table_bits() + 8 * offsets.size();
    result.model = model_;
    result.values = values_;
    return result;
  }

  TrainingOptions options_;
  Reconstruction values_;
  double step_;
  int octaves_;
  double dropped_error_ = 0;
  size_t tables_ = 0;
  std::vector<Scaled> atoms_;
  ContextModel model_;
  LevelCounts counts_;
};

}  // namespace

Trained train(std::span<const Atom> atoms, const Reconstruction& step, const TrainingOptions& options) {
  return Trainer(atoms, step, options).run();
}

namespace {

void write_offsets_of(cpu::BitWriter& out, std::span<const Ladder> tables,
                      std::span<const std::array<int8_t, 3>> offsets) {
  std::array<int, 3> before{};
  for (size_t t = 0; t < tables.size(); ++t)
    for (size_t k = 0; k < 3; ++k) {
      if (k + 1 >= tables[t].rungs) continue;
      write_signed_rice(out, offsets[t][k] - before[k], 1);
      before[k] = offsets[t][k];
    }
}

bool read_offsets_of(cpu::BitReader& in, std::span<const Ladder> tables,
                     std::vector<std::array<int8_t, 3>>& offsets) {
  offsets.assign(tables.size(), {});
  std::array<int, 3> before{};
  bool possible = true;
  for (size_t t = 0; t < tables.size(); ++t)
    for (size_t k = 0; k < 3; ++k) {
      if (k + 1 < tables[t].rungs) before[k] += read_signed_rice(in, 1, 62, possible);
      if (!possible || before[k] < -31 || before[k] > 31) return false;
      offsets[t][k] = int8_t(before[k]);
    }
  return true;
}

}  // namespace

void write_offsets(cpu::BitWriter& out, const Reconstruction& values, const ContextModel& model) {
  out.put(values.has_offsets, 1);
  if (!values.has_offsets) return;
  write_offsets_of(out, model.tables, values.offsets);
  write_offsets_of(out, model.shifted, values.shifted_offsets);
}

bool read_offsets(cpu::BitReader& in, Reconstruction& values, const ContextModel& model) {
  values.has_offsets = in.bit();
  if (!values.has_offsets) return !in.overrun();
  return read_offsets_of(in, model.tables, values.offsets) &&
         read_offsets_of(in, model.shifted, values.shifted_offsets) && !in.overrun();
}

}  // namespace jsq
