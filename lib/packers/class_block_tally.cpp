// What coding class blocks would need is counted.
#include <algorithm>
#include <bit>

#include "lib/packers/class_scratch.hpp"

namespace jsq {

using element::rice_parameter;

namespace {

/// Counts the elements of class 1 of two in every run, from their list.
void count_kept(size_t n, ClassScratch& s) {
  std::fill(s.run_counts.begin(), s.run_counts.begin() + std::ptrdiff_t(runs_of(n)), uint8_t(0));
  for (size_t k = 0; k < s.kept_count; ++k) ++s.run_counts[s.kept[k] / run_length];
}

/// Whole runs of two classes, without a branch on what is kept, which comes and goes. Returns the last
/// activity.
uint32_t count_two_classes(size_t runs, ClassScratch& s, ClassTally& counts) {
  constexpr size_t activities = std::bit_width(uint32_t(run_length)) + 1, turns = 4;
  // Runs in the lower half of a number, what they keep in the upper; runs take turns, so that none waits for
  // a number that the one before has changed.
  constexpr uint64_t one_run = 1, one_kept = uint64_t(1) << 32;
  std::array<std::array<uint64_t, activities * activities>, turns> pairs{};
  const uint8_t* const kept = s.run_counts.data();
  uint8_t* const buckets = s.buckets.data();
  uint32_t previous = 0;
  for (size_t r = 0; r < runs; ++r) {
    const uint32_t bucket = uint32_t(std::bit_width(uint32_t(kept[r])));
    buckets[r] = uint8_t(bucket);
    pairs[r % turns][previous * activities + bucket] += one_run + kept[r] * one_kept;
    previous = bucket;
  }
  for (size_t turn = 1; turn < turns; ++turn)
    for (size_t pair = 0; pair < activities * activities; ++pair) pairs[0][pair] += pairs[turn][pair];
  for (size_t before = 0; before < activities; ++before)
    for (size_t b = 0; b < activities; ++b) {
      const uint64_t pair = pairs[0][before * activities + b], followed = pair % one_kept,
                     of_one = pair / one_kept, of_zero = followed * run_length - of_one;
      counts.entropy.activity[before][b] += followed;
      counts.entropy.classes[b][0] += of_zero;
      counts.entropy.classes[b][1] += of_one;
      counts.members[0] += of_zero;
      counts.members[1] += of_one;
    }
  return previous;
}

/// Classes and activities of a block whose runs are counted.
void count_classes(const element::ClassPlan& plan, size_t n, ClassScratch& s, ClassTally& counts) {
  const size_t runs = runs_of(n);
  const uint32_t joined = classes_per_token(plan.classes);
  const size_t first = plan.classes == 2 ? n / run_length : 0;
  uint32_t previous = first > 0 ? count_two_classes(first, s, counts) : 0;
  const uint8_t* const kept = s.run_counts.data();  // of every run
  uint64_t quiet = 0, still_quiet = 0;
  for (size_t r = first; r < runs; ++r) {
    const size_t in_run = std::min<size_t>(run_length, n - r * run_length);
    if (plan.classes == 1 || kept[r] == 0) {
      s.buckets[r] = 0;
      if (previous == 0)
        ++still_quiet;
      else
        ++counts.entropy.activity[previous][0];
      previous = 0;
      quiet += in_run;
      if (in_run < run_length) counts.entropy.classes[0][0] += (joined - in_run % joined) % joined;
      continue;
    }
    uint32_t activity = 0;
    for (uint32_t j = 1; j < plan.classes; ++j) activity += s.run_counts[(j - 1) * runs + r];
    const uint32_t bucket = uint32_t(std::bit_width(activity));
    s.buckets[r] = uint8_t(bucket);
    ++counts.entropy.activity[previous][bucket];
    previous = bucket;
    uint32_t above = uint32_t(in_run);
    for (uint32_t j = 0; j < plan.classes; ++j) {
      const uint32_t next = j + 1 < plan.classes ? s.run_counts[j * runs + r] : 0;
      counts.members[j] += above - next;
      counts.entropy.classes[bucket][j] += above - next;
      above = next;
    }
    counts.entropy.classes[bucket][0] += (joined - in_run % joined) % joined;
  }
  counts.entropy.activity[0][0] += still_quiet;
  counts.entropy.classes[0][0] += quiet;
  counts.members[0] += quiet;
}

}  // namespace

void ClassCoder::tally_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes,
                             ClassTally& counts) const {
  take_codes(n, kept, codes, class_scratch(), false);
  tally_block(n, counts, true);
}

void ClassCoder::count(std::span<const float> values, uint64_t first_pool_index, ClassTally& counts) const {
  ClassScratch& s = class_scratch();
  s.resize(values.size());
  cpu::classify(values, first_pool_index, plan, std::span(s.classes.data(), values.size()));
  cpu::count_runs(std::span<const uint8_t>(s.classes.data(), values.size()), plan.classes, s.run_counts);
  count_classes(plan, values.size(), s, counts);
}

void ClassCoder::tally(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                       uint32_t tensor, DType dtype, ClassTally& counts, BlockSums& sums) const {
  ClassScratch& s = class_scratch();
  quantize_block(plan, values, {first_pool_index, first_element, tensor}, dtype, s, sums);
  tally_block(values.size(), counts);
}

void ClassCoder::tally_symbols(std::span<const float> values, uint64_t first_pool_index,
                               uint64_t first_element, uint32_t tensor, ClassTally& counts) const {
  ClassScratch& s = class_scratch();
  classify_block(plan, values, first_pool_index, s);
  if (has_vector_loop(plan.quantizer))
    code_kept(plan, values, s);
  else
    quantize_one_by_one(plan, values, {first_pool_index, first_element, tensor}, DType::f32, s);
  tally_block(values.size(), counts);
}

void ClassCoder::tally_block(size_t n, ClassTally& counts, bool by_list) const {
  ClassScratch& s = class_scratch();
  if (by_list)
    count_kept(n, s);
  else
    cpu::count_runs(std::span<const uint8_t>(s.classes.data(), n), plan.classes, s.run_counts);
  count_classes(plan, n, s, counts);
  const uint32_t parameter = rice_parameter(n, s.kept_count);
  uint64_t rice_bits = 0, expected = 0;
  with_quantizer(plan.quantizer, [&](auto quantizer) {
    for (size_t k = 0; k < s.kept_count; ++k) {
      const uint32_t i = s.kept[k], c = s.kept_classes[k], width = plan.width[c];
      const uint32_t magnitude = element::magnitude_of_code(quantizer(), width, s.codes[k]);
      ++counts.entropy
            .magnitude[c][s.buckets[i / run_length]][magnitude >> element::raw_magnitude_bits(width)];
      rice_bits += ((i - expected) >> parameter) + 1 + parameter + std::min(c, plan.classes - 2);
      expected = i + 1;
    }
  });
  counts.rice_bits += rice_bits + 40 + 7;
}

}  // namespace jsq
