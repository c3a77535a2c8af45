#include "lib/quantizers/rd_quantizer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "kernels/cpu/context_passes.hpp"

namespace jsq {
namespace {

constexpr float largest_scaled = 2147483000.0f;

}  // namespace

RdQuantizer::RdQuantizer(const ContextLevels& coder, double lambda)
    : lambda_(lambda), inverse_step_(float(1 / coder.values().step())), bits_(coder) {
  for (size_t k = 0; k < context_classes; ++k) {
    uses_[k] = coder.use(ContextClass(k));
    if (k > 0 && !coder.model().tables.empty()) rungs_[k] = coder.model().tables[uses_[k].table].rungs;
  }
  cells_.resize(context_classes);
  first_.fill(std::numeric_limits<float>::infinity());
  for (size_t k = 0; k < context_classes; ++k) {
    make_cells(coder, ContextClass(k));
    Cells& cells = cells_[k];
    for (uint32_t j = 0, i = 0; i < lookup_cells; ++j) {
      const float beyond = std::ceil(std::min(cells.start[j + 1] * float(lookup_scale), float(lookup_cells)));
      const auto end = std::max(uint32_t(beyond), i);
      std::fill(cells.cell_at.begin() + i, cells.cell_at.begin() + end, uint8_t(j));
      i = end;
    }
    first_[k] = uses_[k].raw_bits > 0 ? 0.0f : cells_[k].start[1];
  }
}

void RdQuantizer::make_cells(const ContextLevels& coder, ContextClass k) {
  Cells& cells = cells_[k];
  cells.start.fill(std::numeric_limits<float>::infinity());
  cells.level.fill(0);
  cells.start[0] = 0;
  cells.count = 1;
  if (k == 0 || coder.model().tables.empty()) return;
  const ContextUse use = uses_[k];
  const Ladder& ladder = coder.model().tables[use.table];
  cells.unbounded = !ladder.closed;
  if (use.raw_bits > 0) {
    // Bits grow by about 1.44 / scale a level, scale = 2^(c/2); half of that, times lambda, moves every
    // threshold up.
    const int c = int(k) - 1 + coder.model().lowest;
    const double scale = double(uint64_t(1) << (c / 2)) * (c & 1 ? 1.4142135623730951 : 1.0);
    cells.round = float(0.5 - std::min(0.3, 0.72 * lambda_ / scale));
    cells.start[1] = 1 - cells.round;
    cells.level[1] = 1;
    cells.count = 2;
    cells.unbounded = true;
    return;
  }
  const uint32_t last =
      ladder.closed ? ladder.rungs - 1 : std::min<uint32_t>(ladder.rungs + 7, most_cells - 2);
  // The lower envelope of (x - v)^2 + lambda b over levels: x^2 drops out, lines of slope -2 v remain.
  std::array<double, most_cells> value{}, cost{}, start{};
  value[0] = 0;
  cost[0] = lambda_ * bits(0, k);
  uint32_t top = 0;
  for (uint32_t level = 1; level <= last; ++level) {
    const double v = double(coder.values().points(use, level)) / 256,
                 b = v * v + lambda_ * bits(int32_t(level), k);
    double from = 0;
    for (;;) {
      from = (b - cost[top]) / (2 * (v - value[top]));
      if (top == 0 || from > start[top]) break;
      --top;
    }
    if (!(v > value[top])) continue;
    ++top;
    value[top] = v;
    cost[top] = b;
    start[top] = std::max(from, 0.0);
    cells.level[top] = int32_t(level);
  }
  cells.count = top + 1;
  for (uint32_t j = 1; j <= top; ++j) cells.start[j] = float(start[j]);
  for (uint32_t j = top + 1; j < most_cells; ++j) cells.level[j] = cells.level[top];
}

int32_t RdQuantizer::above(float x, const Cells& cells) {
  // From the cell at the eighth below: thresholds are about a step apart, so that one comparison more is the
  // rule.
  const auto eighths = uint32_t(std::min(x * float(lookup_scale), float(lookup_cells - 1)));
  uint32_t j = cells.cell_at[eighths];
  j += x >= cells.start[j + 1];  // taken at random: arithmetic, not a branch
  while (x >= cells.start[j + 1]) ++j;
  if (j + 1 < cells.count || !cells.unbounded) return cells.level[j];
  return std::max(cells.level[j], int32_t(std::min(x + cells.round, largest_scaled)));
}

void RdQuantizer::quantize(std::span<const float> values, std::span<const ContextClass> classes, size_t begin,
                           ActiveLevels& active) const {
  const float inverse = inverse_step_;
  const size_t before = active.levels.size();
  static thread_local std::vector<uint32_t> positions_of_thread;
  std::vector<uint32_t>& positions = positions_of_thread;
  if (positions.size() < values.size() - begin + cpu::list_slack)
    positions.resize(values.size() - begin + cpu::list_slack);
  // Most elements are zero: one comparison.
  const size_t candidates = cpu::list_above(values.data(), classes.data(), begin, values.size(), inverse,
                                            first_.data(), positions.data());
  active.positions.insert(active.positions.end(), positions.data(), positions.data() + candidates);
  active.levels.resize(before + candidates);
  int32_t* const levels = active.levels.data() + before;
  for (size_t j = 0; j < candidates; ++j) {
    const size_t i = positions[j];
    levels[j] = level_of(values[i], classes[i]);
  }
}

int32_t RdQuantizer::level_of(float value, ContextClass k) const {
  const float x = std::min(std::abs(value) * inverse_step_, largest_scaled);
  const Cells& cells = cells_[k];
  const int32_t level = x >= cells.start[1] ? above(x, cells) : 0;
  const int32_t sign = -int32_t(value < 0);
  return (level ^ sign) - sign;
}

std::vector<cpu::LevelCells> RdQuantizer::level_cells(const ContextCoder& values) const {
  static_assert(most_rungs <= cpu::level_cells);
  std::vector<cpu::LevelCells> all(context_classes);
  for (size_t k = 0; k < context_classes; ++k) {
    const Cells& cells = cells_[k];
    cpu::LevelCells& out = all[k];
    out = {};
    std::fill_n(out.start, cpu::level_cells, std::numeric_limits<float>::infinity());
    out.limit = uses_[k].raw_bits > 0 ? 0.0f : std::numeric_limits<float>::infinity();
    if (uses_[k].raw_bits > 0) continue;
    for (size_t j = 1; j < cells.count; ++j) {
      const auto level = uint32_t(cells.level[j]);
      if (level >= rungs_[k] || (cells.unbounded && j + 1 == cells.count)) {
        out.limit = cells.start[j];
        break;
      }
      out.start[j] = cells.start[j];
      out.last = uint32_t(j);
      out.twice_level[j] = 2 * level;
      out.magnitude[j] = -values.symbol_values()[k * context_symbols + 2 * level];
    }
  }
  return all;
}

bool RdQuantizer::quantize(std::span<const float> values, std::span<const ContextClass> classes,
                           std::span<const cpu::LevelCells> cells, std::span<uint16_t> ids,
                           std::span<float> decoded, size_t first, ActiveLevels& active) const {
  static thread_local std::vector<uint32_t> listed_of_thread;
  std::vector<uint32_t>& listed = listed_of_thread;
  if (listed.size() < values.size()) listed.resize(values.size());
  const cpu::LeveledCount count =
      cpu::level_elements(values.data(), classes.data(), values.size(), inverse_step_, cells.data(),
                          ids.data(), decoded.data(), listed.data());
  bool nonzero = count.nonzero;
  for (uint32_t i : std::span(listed).first(count.listed)) {
    const int32_t level = level_of(values[i], classes[i]);
    active.positions.push_back(uint32_t(first + i));
    active.levels.push_back(level);
    nonzero |= level != 0;
  }
  return nonzero;
}

}  // namespace jsq
