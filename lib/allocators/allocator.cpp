#include "lib/allocators/allocator.hpp"

#include <algorithm>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/classify.hpp"
#include "kernels/element/class_plan.hpp"
#include "kernels/element/float_bits.hpp"

namespace jsq {

WidthSet::WidthSet(std::vector<uint32_t> widths) : widths_(std::move(widths)) {
  if (widths_.empty()) throw Error(Errc::usage, "a set of widths needs at least one width of 0..8 bits");
  for (size_t i = 0; i < widths_.size(); ++i)
    if (widths_[i] > 8 || (i > 0 && widths_[i] <= widths_[i - 1]))
      throw Error(Errc::usage,
                  "widths are ascending numbers of 0..8 bits; found " + std::to_string(widths_[i]));
}

double WidthSet::increment_profit(uint32_t j) const noexcept {
  return std::ldexp(1.0, -2 * int(widths_[j - 1])) - std::ldexp(1.0, -2 * int(widths_[j]));
}

std::string_view allocator_name(AllocatorKind kind) noexcept {
  switch (kind) {
    case AllocatorKind::exact:
      return "exact";
    case AllocatorKind::literal:
      return "literal";
    case AllocatorKind::sampled:
      return "sampled";
  }
  return "?";
}

std::string_view reallocation_name(ReallocationKind kind) noexcept {
  switch (kind) {
    case ReallocationKind::none:
      return "none";
    case ReallocationKind::paper:
      return "paper";
    case ReallocationKind::hill:
      return "hill";
  }
  return "?";
}

uint64_t payload_bits_of(const WidthSet& widths, const ClassCounts& at_least) {
  uint64_t bits = at_least[0] * widths[0];
  for (uint32_t j = 1; j < widths.size(); ++j) bits += at_least[j] * widths.increment_bits(j);
  return bits;
}

double modelled_noise(const WidthSet& widths, const ClassCounts& at_least, const MagnitudeIndex& index) {
  double noise = 0, energy = 0;
  for (size_t i = 0; i < index.cells().size(); ++i) {
    const MagnitudeIndex::Cell& cell = index.cells()[i];
    const double e = cell.energy();
    energy += double(cell.count) * e;
    double remaining = std::ldexp(1.0, -2 * int(widths[0])) * double(cell.count);
    for (uint32_t j = 1; j < widths.size(); ++j) {
      const uint64_t before = index.before(i);
      const uint64_t inside = at_least[j] <= before ? 0 : std::min(cell.count, at_least[j] - before);
      remaining -= widths.increment_profit(j) * double(inside);
    }
    noise += remaining * e;
  }
  return energy > 0 ? noise / energy : 0.0;
}

Allocation thresholds_of_counts(MagnitudeIndex& index, const WidthSet& widths, const ClassCounts& at_least) {
  const uint32_t classes = widths.size();
  Allocation allocation;
  allocation.widths = widths;
  allocation.at_least = at_least;
  allocation.payload_bits = payload_bits_of(widths, at_least);
  allocation.threshold_key.assign(classes, element::first_nonfinite_key);
  allocation.cutoff_index.assign(classes, 0);
  allocation.low_key.assign(classes, 0);
  allocation.high_key.assign(classes, 0);

  std::vector<uint64_t> ranks;  // of each class's smallest and largest member
  for (uint32_t j = 0; j < classes; ++j) {
    if (allocation.members(j) == 0) continue;
    ranks.push_back(at_least[j]);
    ranks.push_back((j + 1 < classes ? at_least[j + 1] : 0) + 1);
  }
  const std::vector<uint32_t> keys = index.keys_of_ranks(ranks);
  for (uint32_t j = 0, at = 0; j < classes; ++j) {
    if (allocation.members(j) == 0) continue;
    allocation.low_key[j] = keys[at++];
    allocation.high_key[j] = keys[at++];
  }
  for (uint32_t j = 1; j < classes; ++j) {
    if (at_least[j] == 0) continue;
    // The smallest member of class j or above is the smallest of the first such class that has members.
    uint32_t lowest = j;
    while (allocation.members(lowest) == 0) ++lowest;
    const uint32_t key = allocation.low_key[lowest];
    const uint32_t above_key[] = {key + 1};
    const uint64_t quota = at_least[j] - index.counts_at_least(above_key)[0];
    allocation.threshold_key[j] = key;
    allocation.cutoff_index[j] =
        quota == index.ties(key) ? UINT64_MAX : index.population().index_after_tie(key, quota);
  }
  return allocation;
}

Allocation allocate(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits,
                    const AllocationOptions& options, std::vector<ReallocationStep>* log) {
  const uint64_t least = index.elements() * widths[0];
  if (payload_bits < least)
    throw Error(Errc::unreachable_target, "a budget of " + std::to_string(payload_bits) +
                                              " payload bits is below the " + std::to_string(least) +
                                              " bits that the narrowest width, " + std::to_string(widths[0]) +
                                              ", takes; add width 0 or raise the budget");
  ClassCounts counts;
  switch (options.allocator) {
    case AllocatorKind::exact:
      counts = allocate_exact(index, widths, payload_bits, options.first_extra_bits);
      break;
    case AllocatorKind::literal:
      counts = allocate_literal(index, widths, payload_bits);
      break;
    case AllocatorKind::sampled:
      counts = allocate_sampled(index, widths, payload_bits, options.sample_ratio, options.seed);
      break;
  }
  if (options.reallocation != ReallocationKind::none)
    counts = reallocate(index, widths, std::move(counts), options.reallocation, options.rounds, log);
  return thresholds_of_counts(index, widths, counts);
}

Allocation allocate(std::span<const float> values, const WidthSet& widths, uint64_t payload_bits,
                    const AllocationOptions& options, std::vector<ReallocationStep>* log) {
  const SpanPopulation population(values);
  if (population.summary().nonfinite() > 0)
    throw Error(Errc::non_finite,
                "values to allocate bits to must be finite; the first that is not has index " +
                    std::to_string(population.summary().first_nonfinite));
  MagnitudeIndex index(population);
  return allocate(index, widths, payload_bits, options, log);
}

std::vector<uint8_t> class_map(std::span<const float> values, const Allocation& allocation) {
  element::ClassPlan plan;
  plan.classes = allocation.widths.size();
  for (uint32_t j = 1; j < plan.classes; ++j) {
    plan.threshold[j] = allocation.threshold_key[j];
    plan.cutoff[j] = allocation.cutoff_index[j];
  }
  std::vector<uint8_t> classes(values.size());
  cpu::classify(values, 0, plan, classes);
  return classes;
}

}  // namespace jsq
