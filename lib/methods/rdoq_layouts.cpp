// Which layout of scales each part of a pool takes: the one whose error + lambda bits, scales included, are
// least.
#include <algorithm>
#include <cmath>

#include "lib/methods/rdoq_estimates.hpp"
#include "lib/methods/rdoq_pool.hpp"

namespace jsq {

namespace {

/// Error + lambda bits of the numbers of a piece, whose scales are relative to the step.
double cost_of_piece(const RdoqPlan& plan, const ScaledPiece& scaled, std::span<const uint16_t> keys,
                     const std::vector<float>& of_numbers) {
  static thread_local std::vector<ContextClass> classes;
  classes.resize(keys.size());
  fill_classes(plan.coder, scaled.piece, scaled.layout, scaled.rows, scaled.columns, scaled.frequencies,
               classes);
  return cpu::sum_class_costs(of_numbers.data(), classes.data(), keys.data(), keys.size());
}

}  // namespace

std::vector<std::vector<std::array<double, RdoqPool::layouts>>> RdoqPool::layout_costs(
    const RdoqPlan& plan) const {
  const double lambda = plan.quantizer.lambda();
  const auto inverse = float(1 / plan.coder.values().step());
  std::vector<std::vector<std::array<double, layouts>>> costs(tensors_.size());
  for (size_t t = 0; t < tensors_.size(); ++t) costs[t].resize(tensors_[t].plans.size());
  if (plan.coder.model().tables.empty()) return costs;  // nothing is coded
  const std::vector<float> of_numbers = make_row_costs(plan.coder, plan.quantizer);
  std::vector<float> scratch;
  std::vector<uint16_t> keys;
  // Of a large sample some units are enough to tell; every tensor that has units keeps its first.
  uint64_t sampled = 0, parts = 0;
  for (const PoolBlock& unit : units_) sampled += unit.count;
  for (const Tensor& tensor : tensors_) parts += tensor.plans.size();
  const uint64_t most = least_run_ > first_run_layout ? training_elements / 4 : training_elements;
  const uint64_t enough = std::clamp(8 * training_unit * parts, training_elements / 4, most);
  const size_t every = size_t(std::max<uint64_t>(1, sampled / enough));
  for (size_t u = 0; u < units_.size(); ++u) {
    const size_t t = units_[u].tensor;
    if (u >= packed_units_ && u % every != 0 && u > 0 && units_[u - 1].tensor == t) continue;
    const std::span<const float> values = read(units_[u], scratch);
    size_t at = 0;
    for (const PartPiece& place : pieces_of(tensors_[t].parts, units_[u].first, values.size())) {
      const std::span<const float> own = values.subspan(at, place.piece.count);
      at += place.piece.count;
      const ScaleView& view = place.piece.view;
      keys.resize(own.size());
      cpu::fill_cost_keys(own.data(), own.size(), inverse, keys.data());
      for (size_t layout = 0; layout < layouts; ++layout) {
        double& cost = costs[t][place.part][layout];
        // A stretch of a large part does not tell what one scale for all of the part's block would be.
        const bool possible =
            layout == one_scale    ? whole() || view.rows * view.row_elements() <= training_unit
            : layout == row_scales ? view.rows > 1 && tells_rows(view)
            : layout == row_and_column_scales
                ? !tensors_[t].plans[place.part].columns.empty() && tells_rows(view)
                : layout >= least_run_ && run_elements(ScaleLayout(layout)) < view.rows * view.row_elements();
        if (!possible) {
          cost = HUGE_VAL;
          continue;
        }
        ScaledPiece scaled = measure_piece(t, place, ScaleLayout(layout), own);
        relate(origin_of(plan), scaled);
        SideWriter side;
        ScaleCodec codec;
        write_scales(scaled, codec, side);
        cost += lambda * double(side.bits_q16()) / 65536 + cost_of_piece(plan, scaled, keys, of_numbers);
      }
    }
  }
  for (size_t t = 0; t < tensors_.size(); ++t)
    for (size_t p = 0; p < tensors_[t].plans.size(); ++p) {
      const Part& part = tensors_[t].plans[p];
      if (part.columns.empty() || !(costs[t][p][row_and_column_scales] > 0)) continue;
      // Columns in the parameter set are paid once, whatever share of the part was looked at.
      SideWriter side;
      ScaleCodec codec;
      codec.write(side, part.columns, true);
      const bool in_stream = tensors_[t].packed || pool_.tensors()[t].info->elements() <= uint64_t(1)
                                                                                              << block_log2_;
      if (!in_stream)
        costs[t][p][row_and_column_scales] +=
            lambda * double(side.bits_q16()) / 65536 / (weight_ * double(every));
    }
  return costs;
}

bool RdoqPool::improve_layouts(const RdoqPlan& plan) {
  const auto costs = layout_costs(plan);
  bool changed = false;
  for (size_t t = 0; t < tensors_.size(); ++t)
    for (size_t p = 0; p < tensors_[t].plans.size(); ++p) {
      Part& part = tensors_[t].plans[p];
      const auto& cost = costs[t][p];
      const auto least = std::min_element(cost.begin(), cost.end());
      const auto chosen = ScaleLayout(least - cost.begin());
      if (cost[part.layout] <= *least || chosen == part.layout) continue;
      part.layout = chosen;
      changed = true;
    }
  return changed;
}

void RdoqPool::take_runs() {
  constexpr ScaleLayout runs = 6;
  for (Tensor& tensor : tensors_)
    for (size_t p = 0; p < tensor.plans.size(); ++p) {
      const ScaleView& view = tensor.parts.views[p];
      if (tensor.plans[p].layout == one_scale && view.rows * view.row_elements() > run_elements(runs))
        tensor.plans[p].layout = runs;
    }
}

std::vector<std::vector<double>> RdoqPool::part_costs(const RdoqPlan& plan) const {
  std::vector<std::vector<double>> result;
  for (const auto& tensor : layout_costs(plan)) {
    auto& least = result.emplace_back();
    for (const auto& cost : tensor) least.push_back(*std::min_element(cost.begin(), cost.end()));
  }
  return result;
}

}  // namespace jsq
