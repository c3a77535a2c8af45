// Which layout of scales each part of a pool takes: the one whose error + lambda bits, scales included, are
// least.
#include <algorithm>
#include <cmath>

#include "lib/methods/rdoq_pool.hpp"

namespace jsq {

std::vector<std::vector<std::array<double, RdoqPool::layouts>>> RdoqPool::layout_costs(
    const RdoqPlan& plan) const {
  const double step = plan.coder.values().step(), square = step * step, lambda = plan.quantizer.lambda();
  std::vector<std::vector<std::array<double, layouts>>> costs(tensors_.size());
  for (size_t t = 0; t < tensors_.size(); ++t) costs[t].resize(tensors_[t].plans.size());
  std::vector<float> scratch;
  AtomCounter counter;
  // Of a large sample some units are enough to tell; every tensor that has units keeps its first.
  uint64_t sampled = 0;
  for (const PoolBlock& unit : units_) sampled += unit.count;
  const size_t every = size_t(std::max<uint64_t>(1, sampled / training_elements));
  for (size_t u = 0; u < units_.size(); ++u) {
    const size_t t = units_[u].tensor;
    if (u >= packed_units_ && u % every != 0 && u > 0 && units_[u - 1].tensor == t) continue;
    const std::span<const float> values = read(units_[u], scratch);
    size_t at = 0;
    for (const PartPiece& place : pieces_of(tensors_[t].parts, units_[u].first, values.size())) {
      const std::span<const float> own = values.subspan(at, place.piece.count);
      at += place.piece.count;
      const ScaleView& view = place.piece.view;
      for (size_t layout = 0; layout < layouts; ++layout) {
        double& cost = costs[t][place.part][layout];
        const bool possible = layout == one_scale    ? true
                              : layout == row_scales ? view.rows > 1
                              : layout == row_and_column_scales
                                  ? !tensors_[t].plans[place.part].columns.empty()
                                  : run_elements(ScaleLayout(layout)) < view.rows * view.row_elements();
        if (!possible) {
          cost = HUGE_VAL;
          continue;
        }
        ScaledPiece scaled = measure_piece(t, place, ScaleLayout(layout), own);
        count_piece(scaled, own, counter);
        relate(plan, scaled);
        SideWriter side;
        ScaleCodec codec;
        write_scales(scaled, codec, side);
        double bits = double(side.bits_q16()) / 65536, error = 0;
        for (const Atom& atom : counter.take()) {
          const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
          const double x = atom.mean / step;
          const int32_t level = plan.quantizer.level(float(x), k);
          const double value = double(plan.coder.values().points(plan.coder.use(k), uint32_t(level))) / 256;
          error += level == 0 ? atom.count * x * x + atom.spread / square
                              : atom_error(atom, (x - value) * (x - value), square) / square;
          bits += atom.count * plan.quantizer.bits(level, k);
        }
        cost += error + lambda * bits;
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

std::vector<std::vector<double>> RdoqPool::part_costs(const RdoqPlan& plan) const {
  std::vector<std::vector<double>> result;
  for (const auto& tensor : layout_costs(plan)) {
    auto& least = result.emplace_back();
    for (const auto& cost : tensor) least.push_back(*std::min_element(cost.begin(), cost.end()));
  }
  return result;
}

}  // namespace jsq
