// The scales that rows and runs are coded with: what was measured, relative to the step, or what a choice by
// error and bits makes of it, since a scale is both a prediction and a cost.
#include <algorithm>
#include <cmath>

#include "lib/methods/rdoq_estimates.hpp"
#include "lib/methods/rdoq_pool.hpp"
#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

namespace {

/// What columns and frequencies add to the scale of a row at most, if anything.
int most_offset(const ScaledPiece& scaled) {
  int16_t of_columns = 0, of_frequencies = 0;  // in vectors, which wider ones would be in the way of
  for (int16_t b : scaled.columns) of_columns = std::max(of_columns, b);
  for (int16_t b : scaled.frequencies) of_frequencies = std::max(of_frequencies, b);
  return int(of_columns) + int(of_frequencies);
}

/// What columns and frequencies add to the scale of a row at least.
int least_offset(const ScaledPiece& scaled) {
  int least = 0;
  for (const std::span<const int16_t> offsets :
       {std::span<const int16_t>(scaled.columns), scaled.frequencies})
    if (!offsets.empty()) least += std::min<int>(0, *std::min_element(offsets.begin(), offsets.end()));
  return least;
}

}  // namespace

/// Measured scales become what the stream stores: relative to the step, and equal where they are too low to
/// matter.
void RdoqPool::relate(const ScaleOrigin& origin, ScaledPiece& scaled) {
  const int lowest = origin.lowest, floor = std::max(least_scale, lowest - 1 - most_offset(scaled));
  // With dither every element that is not zero needs a table; rows of zeros need none.
  const int lifted = origin.dithered ? std::max(floor, lowest - least_offset(scaled)) : floor;
  for (int16_t& r : scaled.rows)
    r = int16_t(std::clamp(int(r) - origin.octaves, origin.dithered && r > octaves_of_zero ? lifted : floor,
                           most_scale));
}

/// Each row in turn takes a scale near its own with the least error + lambda bits, where bits of scales count
/// `patience` times: a scale that differs spoils the prediction of the next ones. Returns the cost of the
/// piece, scales included.
double RdoqPool::choose_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const uint16_t> keys,
                             ScaleCodec codec, double patience) const {
  const Stretches stretches = stretches_of(scaled.piece, scaled.layout);
  const double lambda = plan.quantizer.lambda() / 65536;
  const int most = most_offset(scaled);
  const int floor = std::max(least_scale, plan.coder.model().lowest - 1 - most);
  SideWriter ignored;
  double total = 0;
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, scaled.piece.count - at);
    const auto error_and_bits = [&](int scale) {
      double cost = 0;
      const auto add_run = [&](size_t first, size_t n, int of_run) {
        if (scaled.frequencies.empty()) {
          const float* costs = plan.row_costs.data() + plan.coder.class_of(of_run) * cost_keys;
          for (size_t i = first; i < first + n; ++i) cost += double(costs[keys[i]]);
          return;
        }
        for (size_t i = first; i < first + n; ++i) {
          const int frequency =
              scaled.frequencies[size_t((scaled.piece.first + i) % scaled.frequencies.size())];
          cost += double(plan.row_costs[plan.coder.class_of(of_run + frequency) * cost_keys + keys[i]]);
        }
      };
      if (scaled.layout != row_and_column_scales) {
        add_run(at, length, scale);
        return cost;
      }
      const ScaleView& view = scaled.piece.view;
      const uint64_t in_row = (scaled.piece.first + at) % view.row_elements();
      size_t column = size_t(in_row / view.inner), left = size_t(view.inner - in_row % view.inner);
      for (size_t done = 0; done < length;) {
        const size_t n = std::min(left, length - done);
        add_run(at + done, n, scale + scaled.columns[column]);
        done += n;
        ++column;
        left = size_t(view.inner);
      }
      return cost;
    };
    const int own = scaled.rows[r];
    double least = HUGE_VAL, paid = 0;
    int chosen = own;
    const auto consider = [&](int scale) {
      const double cost = error_and_bits(scale), side = lambda * codec.cost_q16(scale, false);
      if (cost + patience * side >= least) return;
      least = cost + patience * side;
      paid = cost + side;
      chosen = scale;
    };
    if (patience == 0) {
      consider(own);
    } else {
      for (int scale = std::max(floor, own - 2); scale <= std::min(most_scale, own + 2); ++scale)
        consider(scale);
      if (own - 2 > floor) consider(floor);
    }
    total += paid;
    const auto taken = int16_t(chosen);
    scaled.rows[r] = taken;
    codec.write(ignored, std::span(&taken, 1), false);
    at += length;
  }
  return total;
}

/// The best of the measured scales and of two choices.
void RdoqPool::improve_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const float> values,
                            const ScaleCodec& codec) const {
  const float inverse = float(1 / plan.coder.values().step());
  std::vector<uint16_t> keys(values.size());
  cpu::fill_cost_keys(values.data(), values.size(), inverse, keys.data());
  ScaledPiece best = scaled;
  double least = HUGE_VAL;
  for (const double patience : {0.0, 1.5, 3.0}) {
    ScaledPiece candidate = scaled;
    const double cost = choose_rows(plan, candidate, keys, codec, patience);
    if (cost >= least) continue;
    least = cost;
    best = std::move(candidate);
  }
  scaled = std::move(best);
}

}  // namespace jsq
