// What coding a pool under a plan takes and loses: of a small pool by coding it, of a large one as the atoms
// of a sample tell.
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/error_sums.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/methods/rdoq_pool.hpp"

namespace jsq {

double RdoqPool::expected_bytes(const Trained& trained) const {
  // Without tables no block has bytes.
  if (trained.model.tables.empty())
    return double(trained.table_bits) / 8 + 12 + double(transform_stream_.size());
  const double of_scales = side_bits({trained.model.lowest, trained.values.step_octaves(), false});
  return (trained.bits + double(trained.table_bits) + of_scales) / 8 + 10 * blocks_ + 12 +
         double(transform_stream_.size());
}

RdoqOutcome RdoqPool::measure(const RdoqPlan& plan) const {
  if (!plan.possible) return {HUGE_VAL, HUGE_VAL, HUGE_VAL, 0, 0};
  std::vector<RdoqOutcome> parts(units_.size());
  std::vector<Work> packed;
  const RdoqParameters parameters = parameters_of(plan, packed);
  // Of a large pool the units are a sample: what its atoms cost is closer than what the sample does.
  // Paths have no atoms, and atoms no place.
  const bool coded = whole() || plan.trellis || plan.dither || plan.coded != UINT64_MAX;
  const size_t alone = coded ? units_.size() : 0;
  const PlanCells cells = coded ? cells_of(plan) : PlanCells();
  RdoqOutcome total;
  if (!coded) total = expect(plan);
  tbb::parallel_for(size_t(0), alone, [&](size_t u) {
    static thread_local Work work_of_thread;
    static thread_local std::vector<float> scratch, original_scratch, decoded;
    Work& work = u < packed.size() ? packed[u] : work_of_thread;
    const auto [t, first, count] = units_[u];
    std::string out;
    decoded.resize(count);
    if (u >= packed.size()) {
      const std::span<const float> values = read(units_[u], scratch);
      SideWriter side;
      ScaleCodec codec;
      scale_unit(plan, u, values, codec, side, work);
      code_range(plan, cells, t, first, values, work, decoded);
      if (work.nonzero && u >= packed_units_) encode_work(plan, side, work, out);
    } else {
      decode_range(plan, t, first, work, decoded);
    }
    round_to_stored(original_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(original_.read(t, first, count, original_scratch), decoded);
    parts[u] = {double(out.size()), errors.squared_error, errors.max_error, errors.dot,
                errors.decoded_energy};
  });
  for (size_t u = 0; u < alone; ++u) {
    const double weight = u < packed_units_ ? 1 : weight_;
    total.bytes += parts[u].bytes * weight;
    total.squared_error += parts[u].squared_error * weight;
    total.dot += parts[u].dot * weight;
    total.decoded_energy += parts[u].decoded_energy * weight;
    total.max_error = std::max(total.max_error, parts[u].max_error);
  }
  total.bytes += double(write_rdoq_parameters(parameters).size());
  if (!coded) total.bytes -= double(parameters.pack.size());  // its atoms were counted
  return total;
}

RdoqOutcome RdoqPool::measure_errors(const RdoqPlan& plan) const {
  RdoqOutcome total = measure(plan);
  if (whole()) return total;
  const std::vector<PoolBlock> blocks = all_blocks();  // packed tensors are coded whole
  std::vector<RdoqOutcome> parts(blocks.size());
  const PlanCells cells = cells_of(plan);
  tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) {
    std::vector<float> scratch, original_scratch;
    const auto [t, first, count] = blocks[b];
    const std::span<const float> values = read(blocks[b], scratch);
    Work work;
    SideWriter side;
    ScaleCodec codec;
    scale_range(plan, t, first, values, codec, side, work);
    std::vector<float> decoded(values.size());
    code_range(plan, cells, t, first, values, work, decoded);
    round_to_stored(original_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(original_.read(t, first, count, original_scratch), decoded);
    parts[b] = {0, errors.squared_error, errors.max_error, errors.dot, errors.decoded_energy};
  });
  total.squared_error = total.dot = total.decoded_energy = 0;
  for (const RdoqOutcome& part : parts) {
    total.squared_error += part.squared_error;
    total.dot += part.dot;
    total.decoded_energy += part.decoded_energy;
    total.max_error = std::max(total.max_error, part.max_error);
  }
  return total;
}

/// Blocks and pack as the atoms and the measured scales tell.
RdoqOutcome RdoqPool::expect(const RdoqPlan& plan) const {
  RdoqOutcome outcome;
  const double step = plan.coder.values().step(), square = step * step;
  double bits = 0;
  const auto add = [&](const Atom& atom) {
    const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
    const double x = std::min(atom.mean / step, 2e9);
    const int32_t level = plan.quantizer.level(float(x), k);
    const double value = double(plan.coder.values().points(plan.coder.use(k), uint32_t(level))) / 256;
    outcome.squared_error += level == 0 ? atom.spread + atom.count * x * x * square
                                        : atom_error(atom, (x - value) * (x - value), square);
    bits += atom.count * plan.quantizer.bits(level, k);
  };
  constexpr double half_width = 1.0 / 90;  // of an atom, 1/32 octave
  for (const Atom& atom : atoms_) {
    const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
    const double x = std::min(atom.mean / step, 1e9);
    // A threshold within an atom splits it: as a whole it would turn up or away at once, and bytes with it.
    if (plan.quantizer.level(float(x * (1 - half_width)), k) ==
        plan.quantizer.level(float(x * (1 + half_width)), k)) {
      add(atom);
      continue;
    }
    for (int part = -7; part <= 7; part += 2)
      add({atom.octaves, atom.count / 8, atom.mean * (1 + part * half_width / 8), atom.spread / 8 / 64});
  }
  outcome.bytes = (bits * 1.001 + side_bits(origin_of(plan))) / 8 + 24 * blocks_;
  return outcome;
}

/// Bits of the scales of blocks and pack.
double RdoqPool::side_bits(const ScaleOrigin& origin) const {
  double packed_bits = 0, bits = 0;
  ScaleCodec pack, others;
  // This is asked for every step that is tried: of a large sample a few hundred units tell.
  const size_t samples = units_.size() - packed_units_,
               every = whole() ? 1 : std::max<size_t>(1, samples / 256);
  for (size_t u = 0; u < units_.size(); ++u) {
    if (u >= packed_units_ && (u - packed_units_) % every != 0) continue;
    SideWriter side;
    ScaleCodec own;
    for (ScaledPiece scaled : scaled_[u]) {
      relate(origin, scaled);
      write_scales(scaled, u < packed_units_ ? pack : whole() ? own : others, side);
    }
    (u < packed_units_ ? packed_bits : bits) += double(side.bits_q16()) / 65536;
  }
  return packed_bits +
         bits * weight_ * double(samples) / double(std::max<size_t>(1, (samples + every - 1) / every));
}

}  // namespace jsq
