// Tables and reconstruction points for a pool, trained on a histogram of its magnitudes by predicted scale:
// the search for a step needs no data.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lib/packers/context_stream.hpp"
#include "lib/quantizers/rd_quantizer.hpp"

namespace jsq {

/// Elements of one predicted scale and nearly one magnitude.
struct Atom {
  int16_t octaves = 0;  ///< predicted scale, in half octaves
  double count = 0;
  double mean = 0;    ///< of |g|
  double spread = 0;  ///< sum of (|g| - mean)^2
};

/// Sum of squared errors of an atom whose mean is coded with an error of `offset` squared steps: where the
/// step is finer than the atom, errors are those of uniform noise.
inline double atom_error(const Atom& atom, double offset, double square_of_step) {
  if (atom.spread > atom.count * square_of_step / 12) return atom.count * square_of_step / 12;
  return atom.spread + atom.count * offset * square_of_step;
}

/// Gathers atoms: one for each scale and 1/32 octave of magnitude. Mergeable by adding in a defined order.
class AtomCounter {
 public:
  AtomCounter();
  /// Elements of the scale `octaves`: the first and every one so many places after another.
  void add(std::span<const float> values, int octaves, size_t apart = 1);
  /// The atoms, in order of scale and magnitude, weights times `scale`; and empties the counter.
  std::vector<Atom> take(double scale = 1);

 private:
  static constexpr int least = -320, scales = 640;
  static constexpr uint32_t key_shift = 18, keys = 0x7f800000u >> key_shift;
  struct Bin {
    double count = 0, sum = 0, square = 0;
  };
  std::vector<std::vector<Bin>> bins_;      ///< [scale], made on first use
  std::vector<std::vector<uint8_t>> used_;  ///< [scale]: whether a bin is not empty, in whole words
  double zeros_[scales] = {};
  uint32_t first_[scales], last_[scales] = {};  ///< keys that were met
};

/// What training came to; sizes without side information.
struct Trained {
  ContextModel model;
  Reconstruction values;
  double lambda = 0;  ///< in step^2
  double bits = 0;    ///< of the elements
  double squared_error = 0;
  uint64_t table_bits = 0;  ///< tables and reconstruction points
};

struct TrainingOptions {
  double lambda = 0.13;
  int rounds = 4;
  LevelSigns signs = LevelSigns::both;  ///< of what will be coded
  bool open = false;                    ///< magnitudes that the atoms do not have must stay codable
  bool uniform =
      false;  ///< no offsets, no contexts that drop what is not zero: the largest error is half a step
  bool dithered =
      false;  ///< besides: levels go up as often as the fraction says, so that values are right on average
};

/// What a pass over levels counts, of one quantizer: all that tables and offsets follow from.
struct LevelCounts {
  std::vector<std::array<double, most_rungs + 1>>
      magnitudes;                    ///< of each table: coarse ones, then all beyond
  std::array<double, 32> escapes{};  ///< by length
  /// Of each table and of levels 1, 2 and more: elements, and sum of x - level, x in steps from the
  /// quantizer's zero.
  std::vector<std::array<double, 3>> weight, sum;

  explicit LevelCounts(size_t tables = 0) : magnitudes(tables), weight(tables), sum(tables) {}
  /// `count` elements of magnitude x steps with this level; `rungs` of their table.
  void note(ContextUse use, uint32_t rungs, int32_t level, double x, double count);
  void add(const LevelCounts& other, double times);
};

/// Tables for what was counted; fractional weights are rounded up. `shifted`: counts of the shifted
/// quantizer, or null.
void fit_model(ContextModel& model, const LevelCounts& counts, const LevelCounts* shifted, bool open);
/// Offsets of the least error + lambda bits; none at all where they do not pay.
void fit_offsets(Reconstruction& values, const ContextModel& model, const LevelCounts& counts,
                 const LevelCounts* shifted, double lambda);

/// A step as the stream stores it.
Reconstruction stored_step(double step);

/// Tables, thresholds and points in turns, for the given step.
Trained train(std::span<const Atom> atoms, const Reconstruction& step, const TrainingOptions& options);

/// Stored form of the reconstruction offsets.
void write_offsets(cpu::BitWriter& out, const Reconstruction& values, const ContextModel& model);
bool read_offsets(cpu::BitReader& in, Reconstruction& values, const ContextModel& model);

}  // namespace jsq
