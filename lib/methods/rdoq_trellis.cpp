// Tables for dependent levels. Which levels are best depends on the tables, and along whole paths, so that a
// histogram does not do: the training units are quantized and counted in turns.
#include <tbb/parallel_for.h>

#include "lib/methods/rdoq_pool.hpp"
#include "lib/packers/dependent_states.hpp"

namespace jsq {

namespace {

/// Counts of both quantizers.
using PathCounts = std::array<LevelCounts, 2>;

void count_path(const ContextCoder& coder, std::span<const float> values,
                std::span<const ContextClass> classes, const ActiveLevels& active, PathCounts& counts) {
  const double inverse = 1 / coder.values().step();
  uint32_t state = 0;
  size_t next = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const bool is_active = next < active.positions.size() && active.positions[next] == i;
    const int32_t level = is_active ? std::abs(active.levels[next]) : 0;
    next += is_active;
    if (classes[i] == 0) continue;
    const uint32_t quantizer = quantizer_of(state);
    const ContextUse use = coder.use(classes[i]);
    counts[quantizer].note(use, coder.model().tables_of(quantizer)[use.table].rungs, level,
                           std::abs(double(values[i])) * inverse + 0.5 * quantizer, 1);
    state = next_state[state][uint32_t(level) & 1];
  }
}

}  // namespace

RdoqPlan with_lambda(const RdoqPlan& plan, double lambda, double finer, uint64_t cut) {
  RdoqPlan changed = plan;
  changed.cut = cut;
  if (plan.trellis) {
    changed.trellis = std::make_shared<const TrellisQuantizer>(plan.coder, lambda, finer);
    return changed;
  }
  changed.quantizer = RdQuantizer(plan.coder, lambda);
  if (cut > 0) changed.finer = RdQuantizer(plan.coder, finer);
  return changed;
}

RdoqPlan RdoqPool::dependent_plan(const RdoqPlan& plan, double lambda) const {
  RdoqPlan result = plan;
  if (plan.coder.model().tables.empty() || plan.coder.values().exact) return result;
  std::vector<std::vector<ContextClass>> classes(units_.size());
  {
    SideWriter side;
    ScaleCodec pack;
    Work work;
    std::vector<float> scratch;
    for (size_t u = 0; u < units_.size(); ++u) {
      ScaleCodec own;
      const std::span<const float> values = read(units_[u], scratch);
      scale_range(plan, units_[u].tensor, units_[u].first, values, u < packed_units_ ? pack : own, side,
                  work);
      fill_unit_classes(plan, values.size(), work);
      classes[u] = work.classes;
    }
  }
  ContextModel model = plan.coder.model();
  Reconstruction values = plan.coder.values();
  model.shifted = model.tables;
  for (Ladder& ladder : model.shifted) ladder.odds[0] = int8_t(std::max(ladder.odds[0] - 4, -odds_limit));
  values.shifted_offsets = values.offsets;
  // A light bit at first: tables of the plan are those of one quantizer, under which zeros of the other one
  // are dear.
  for (const double part : {0.2, 0.5, 1.0, 1.0}) {
    const ContextCoder coder(model, values);
    const TrellisQuantizer quantizer(coder, part * lambda);
    std::vector<PathCounts> counts(units_.size());
    tbb::parallel_for(size_t(0), units_.size(), [&](size_t u) {
      static thread_local std::vector<float> scratch;
      static thread_local ActiveLevels active;
      active.positions.clear();
      active.levels.clear();
      counts[u].fill(LevelCounts(model.tables.size()));
      const std::span<const float> of_unit = read(units_[u], scratch);
      quantizer.quantize(of_unit, classes[u], 0, active);
      count_path(coder, of_unit, classes[u], active, counts[u]);
    });
    PathCounts total;
    total.fill(LevelCounts(model.tables.size()));
    for (size_t u = 0; u < units_.size(); ++u)
      for (size_t q = 0; q < 2; ++q) total[q].add(counts[u][q], u < packed_units_ ? 1 : weight_);
    fit_model(model, total[0], &total[1], !whole());
    fit_offsets(values, model, total[0], &total[1], lambda);
  }
  result.coder = ContextCoder(model, values);
  if (stage_) result.units = ContextCoder(model, in_units(values));
  result.trellis = std::make_shared<const TrellisQuantizer>(result.coder, lambda);
  return result;
}

}  // namespace jsq
