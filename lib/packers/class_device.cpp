#include "lib/packers/class_device.hpp"

#include <algorithm>

#include "lib/core/device.hpp"

namespace jsq {

using element::max_activity_buckets;
using element::max_classes;

cuda::ClassComposition device_composition(const ClassCoder& coder) {
  cuda::ClassComposition composition;
  composition.plan = coder.plan;
  composition.map = coder.map;
  composition.lanes = coder.lanes;
  composition.buckets = coder.model.buckets;
  composition.map_coded = coder.model.map_coded;
  composition.magnitudes_coded = coder.model.magnitudes_coded;
  composition.magnitudes_by_activity = coder.model.magnitudes_by_activity;
  return composition;
}

BlockSums block_sums(const element::ClassPlan& plan, const cuda::ClassSums& found, bool coded) {
  cpu::KeptSums kept;
  std::copy(std::begin(found.members), std::end(found.members), kept.members);
  std::copy(std::begin(found.class_energy), std::end(found.class_energy), kept.class_energy);
  kept.squared_error = found.squared_error;
  kept.dot = found.dot;
  kept.decoded_energy = found.decoded_energy;
  kept.error_sum = found.error_sum;
  kept.max_error = found.max_error;
  BlockSums sums;
  add_quantized(kept, {found.dropped_sum, found.dropped_energy, found.dropped_max}, sums);
  if (!coded) return sums;
  const double dropped = plan.width[0] == 0 ? sums.class_energy[0] : 0;
  sums.expected_error = plan.stochastic ? dropped + found.expected_error : sums.squared_error;
  return sums;
}

ClassTally class_tally(const cuda::ClassCounts& counts) {
  ClassTally tally;
  std::copy(std::begin(counts.members), std::end(counts.members), tally.members.begin());
  for (uint32_t b = 0; b < max_activity_buckets; ++b)
    for (uint32_t s = 0; s < max_symbols; ++s) {
      tally.entropy.activity[b][s] = counts.activity[b][s];
      tally.entropy.classes[b][s] = counts.classes[b][s];
      for (uint32_t j = 0; j < max_classes; ++j) tally.entropy.magnitude[j][b][s] = counts.magnitude[j][b][s];
    }
  tally.rice_bits = counts.rice_bits;
  return tally;
}

ClassTables device_tables(const ClassCoder& coder) {
  const EntropyModel& model = coder.model;
  std::vector<uint32_t> frequencies(element::coding_tables * max_symbols);
  const auto put = [&](uint32_t table, const SymbolFrequencies& row) {
    std::copy(row.begin(), row.end(), frequencies.begin() + std::ptrdiff_t(table * max_symbols));
  };
  if (model.map_coded)
    for (uint32_t b = 0; b < model.buckets; ++b) {
      put(b, model.activity_frequencies(b));
      if (b > 0) put(element::token_table_offset + b, model.token_frequencies(b));
    }
  for (uint32_t j = 1; j < coder.plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    // One table serves all activities, or activities 1 and up have one each.
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    for (uint32_t b = by_activity ? 1 : 0; b < (by_activity ? model.buckets : max_activity_buckets); ++b)
      put(element::magnitude_table(j, b), model.magnitude_frequencies(j, b));
  }
  std::vector<float> points(max_classes * 256);
  for (uint32_t j = 0; j < coder.plan.classes; ++j) {
    const std::vector<float> of_class = coder.points(j);
    std::copy(of_class.begin(), of_class.end(), points.begin() + 256 * j);
  }
  return {std::move(frequencies), std::move(points)};
}

std::unique_ptr<cuda::ClassDecoder> make_device_decoder(const ClassCoder& coder) {
  const ClassTables tables = device_tables(coder);
  return on_device(
      [&] { return cuda::make_class_decoder(device_composition(coder), tables.frequencies, tables.points); });
}

}  // namespace jsq
