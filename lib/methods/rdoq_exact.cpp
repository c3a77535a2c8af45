// Exact copies: where all values fit the budget as they are, levels name their bits, and scales are the
// shares of elements that are not zero.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>

#include "kernels/element/float_bits.hpp"
#include "lib/methods/rdoq_pool.hpp"
#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

namespace {

/// Runs that an exact copy has shares of zeros by.
constexpr ScaleLayout exact_layout = 5;  // 64 elements

uint32_t exact_level(float g, const Reconstruction& values) {
  const uint32_t key = element::magnitude_key(g);
  return key == 0 ? 0 : (key >> values.shift) - values.base + 1;
}

}  // namespace

std::optional<RdoqPlan> RdoqPool::exact_plan(double bytes) const {
  const Summary& summary = pool_.summary();
  // Where there are two signs, each takes a bit.
  if (signs_ == LevelSigns::both && double(summary.elements - summary.zeros) > 8 * bytes) return {};
  if (whole()) return exact_plan(units_, 8 * bytes);
  // A sample tells most pools that are nothing for it.
  if (!exact_plan(units_, 1.5 * 8 * bytes / weight_)) return {};
  return exact_plan(all_blocks(), 8 * bytes);
}

/// The plan for these blocks, if they take no more than so many bits.
std::optional<RdoqPlan> RdoqPool::exact_plan(std::span<const PoolBlock> blocks, double most_bits) const {
  // Trailing zeros that all keys share, and the smallest key.
  uint32_t any = 0, smallest = UINT32_MAX;
  std::vector<float> scratch;
  for (const PoolBlock& unit : blocks)
    for (float g : read(unit, scratch)) {
      const uint32_t key = element::magnitude_key(g);
      any |= key;
      if (key > 0) smallest = std::min(smallest, key);
      // -0 is +0 here: its bits are not kept.
    }
  if (any == 0) return {};
  RdoqPlan plan;
  Reconstruction values;
  values.exponent = -15;
  values.exact = true;
  values.shift = uint8_t(std::countr_zero(any));
  values.base = smallest >> values.shift;
  // Levels by context, and how long escapes are, for up to 1, 2, .. rungs: counted with all of them, then
  // with those kept.
  ContextModel model;
  model.signs = signs_;
  for (int round = 0; round < 2; ++round) {
    std::vector<MagnitudeCounts> counts(15);
    EscapeCounts escapes{};
    double bits = 0;
    for (const PoolBlock& unit : blocks) {
      if (bits > most_bits) return {};
      const std::span<const float> block = read(unit, scratch);
      std::vector<int16_t> rows;
      size_t at = 0;
      for (const PartPiece& place : pieces_of(tensors_[unit.tensor].parts, unit.first, block.size())) {
        const std::span<const float> own = block.subspan(at, place.piece.count);
        measure_shares(own, place.piece, exact_layout, rows);
        const Stretches stretches = stretches_of(place.piece, exact_layout);
        for (size_t r = 0, i = 0; r < stretches.number; ++r)
          for (size_t end = std::min(own.size(), i + (r == 0 ? stretches.first : stretches.other)); i < end;
               ++i) {
            if (rows[r] < -14) continue;
            const uint32_t level = exact_level(own[i], values);
            const size_t t = size_t(rows[r] + 14);
            ++counts[t][std::min(level, most_rungs)];
            const uint32_t rungs = round == 0                ? most_rungs
                                   : t < model.tables.size() ? model.tables[t].rungs
                                                             : 1;
            if (level >= rungs) {
              const auto length = uint32_t(std::bit_width(level - rungs + 1)) - 1;
              ++escapes[length];
              bits += length + (signs_ == LevelSigns::both);
            }
          }
        at += place.piece.count;
      }
    }
    if (bits > most_bits) return {};
    if (round == 0) fit_tables(model, -14, counts, false);
    fit_escapes(model, escapes, true);
  }
  plan.coder = ContextCoder(std::move(model), std::move(values));
  plan.octaves = 0;
  return plan;
}

std::vector<ScaledPiece> RdoqPool::measure_exact(size_t t, uint64_t first,
                                                 std::span<const float> values) const {
  std::vector<ScaledPiece> pieces;
  size_t at = 0;
  for (const PartPiece& place : pieces_of(tensors_[t].parts, first, values.size())) {
    ScaledPiece& scaled = pieces.emplace_back(ScaledPiece{place.part, place.piece, exact_layout, {}, {}, {}});
    measure_shares(values.subspan(at, place.piece.count), place.piece, exact_layout, scaled.rows);
    at += place.piece.count;
  }
  return pieces;
}

void RdoqPool::copy_levels(const Reconstruction& values, std::span<const float> originals,
                           ActiveLevels& active) {
  for (size_t i = 0; i < originals.size(); ++i) {
    const auto level = int32_t(exact_level(originals[i], values));
    if (level == 0) continue;
    active.positions.push_back(uint32_t(i));
    active.levels.push_back(originals[i] < 0 ? -level : level);
  }
}

double RdoqPool::exact_bytes(const RdoqPlan& plan) const {
  if (whole()) return measure(plan).bytes;
  const std::vector<PoolBlock> blocks = all_blocks();
  std::vector<double> bytes(blocks.size());
  tbb::parallel_for(packed_units_, blocks.size(), [&](size_t b) {
    static thread_local std::vector<float> scratch;
    Work work;
    SideWriter side;
    ScaleCodec codec;
    const std::span<const float> values = read(blocks[b], scratch);
    scale_range(plan, blocks[b].tensor, blocks[b].first, values, codec, side, work);
    quantize_range(plan, blocks[b].tensor, blocks[b].first, values, work);
    std::string out;
    if (work.nonzero) plan.coder.encode(side.symbols(), work.classes, work.active, out);
    bytes[b] = double(out.size());
  });
  std::vector<Work> packed;
  double total = double(write_rdoq_parameters(parameters_of(plan, packed)).size());
  for (double of_block : bytes) total += of_block;
  return total;
}

}  // namespace jsq
