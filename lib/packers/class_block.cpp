// Classes and code words of a block, which its encoder and its tally share.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/quantize.hpp"
#include "kernels/element/philox.hpp"
#include "lib/packers/class_scratch.hpp"

namespace jsq {

/// Not inlined: the compiler would otherwise look the thread's copy up again inside the loops.
[[gnu::noinline]] ClassScratch& class_scratch() {
  static thread_local ClassScratch buffers;
  return buffers;
}

size_t list_kept(const element::ClassPlan& plan, std::span<const uint8_t> classes, uint32_t* kept) {
  if (plan.width[0] == 0) return cpu::list_nonzero(classes, kept);
  std::iota(kept, kept + classes.size(), 0u);
  return classes.size();
}

void classify_block(const element::ClassPlan& plan, std::span<const float> values, uint64_t first_pool_index,
                    ClassScratch& s, cpu::DroppedSums* dropped) {
  const size_t n = values.size();
  s.resize(n);
  std::fill(s.classes.begin() + std::ptrdiff_t(n),
            s.classes.begin() + std::ptrdiff_t(runs_of(n) * run_length), uint8_t(0));
  if (plan.width[0] == 0) {
    s.kept_count =
        cpu::classify_and_list(values, first_pool_index, plan, s.classes.data(), s.kept.data(), dropped);
    return;
  }
  cpu::classify(values, first_pool_index, plan, std::span(s.classes.data(), n));
  s.kept_count = list_kept(plan, std::span<const uint8_t>(s.classes.data(), n), s.kept.data());
}

void take_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes, ClassScratch& s,
                bool with_map) {
  s.resize(n);
  if (with_map) {
    std::fill(s.classes.begin(), s.classes.begin() + std::ptrdiff_t(runs_of(n) * run_length), uint8_t(0));
    for (uint32_t i : kept) s.classes[i] = 1;
  }
  std::copy(kept.begin(), kept.end(), s.kept.begin());
  std::copy(codes.begin(), codes.end(), s.codes.begin());
  std::fill(s.kept_classes.begin(), s.kept_classes.begin() + std::ptrdiff_t(kept.size()), uint8_t(1));
  s.kept_count = kept.size();
}

cpu::KeptSums quantize_one_by_one(const element::ClassPlan& plan, std::span<const float> values,
                                  const Position& position, DType dtype, ClassScratch& s) {
  constexpr size_t lanes = 16;
  cpu::KeptSums lane[lanes];
  std::vector<std::array<float, 256>> points(plan.classes);
  for (uint32_t j = 0; j < plan.classes; ++j)
    for (uint32_t code = 0; plan.width[j] > 0 && code < (1u << plan.width[j]); ++code)
      points[j][code] = element::round_to_stored(
          stored_float(dtype),
          element::dequantize_in_class(plan.quantizer, plan.width[j], plan.scale[j], code));
  with_quantizer(plan.quantizer, [&](auto quantizer) {
    for (size_t k = 0; k < s.kept_count; ++k) {
      const uint32_t i = s.kept[k], c = s.classes[i];
      float u = 0.5f;
      if (plan.stochastic)
        u = element::uniform_of_word(element::random_word(plan.seed, position.first_element + i,
                                                          position.tensor, element::RandomPurpose::rounding));
      const uint32_t code =
          element::quantize_in_class(quantizer(), plan.width[c], plan.scale[c], values[i], u);
      s.codes[k] = uint8_t(code);
      s.kept_classes[k] = uint8_t(c);
      cpu::KeptSums& sums = lane[k % lanes];
      const double g = values[i], decoded = points[c][code], error = decoded - g;
      ++sums.members[c];
      sums.class_energy[c] += g * g;
      sums.squared_error += error * error;
      sums.dot += g * decoded;
      sums.decoded_energy += decoded * decoded;
      sums.error_sum += error;
      sums.max_error = std::max(sums.max_error, error < 0 ? -error : error);
    }
  });
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) {
      for (uint32_t j = 0; j < max_classes; ++j) {
        lane[l].members[j] += lane[l + half].members[j];
        lane[l].class_energy[j] += lane[l + half].class_energy[j];
      }
      lane[l].squared_error += lane[l + half].squared_error;
      lane[l].dot += lane[l + half].dot;
      lane[l].decoded_energy += lane[l + half].decoded_energy;
      lane[l].error_sum += lane[l + half].error_sum;
      lane[l].max_error = std::max(lane[l].max_error, lane[l + half].max_error);
    }
  return lane[0];
}

void code_kept(const element::ClassPlan& plan, std::span<const float> values, ClassScratch& s) {
  cpu::code_cells(plan, values.data(), s.classes.data(),
                  std::span<const uint32_t>(s.kept.data(), s.kept_count), s.kept_classes.data(),
                  s.codes.data());
}

void quantize_block(const element::ClassPlan& plan, std::span<const float> values, const Position& position,
                    DType dtype, ClassScratch& s, BlockSums& sums) {
  cpu::DroppedSums dropped;
  classify_block(plan, values, position.first_pool_index, s, &dropped);
  const bool vectorised = has_vector_loop(plan.quantizer) && (dtype == DType::f32 || dtype == DType::f64);
  const cpu::KeptSums kept = vectorised
                                 ? cpu::quantize_cells(plan, values.data(), s.classes.data(),
                                                       std::span<const uint32_t>(s.kept.data(), s.kept_count),
                                                       s.kept_classes.data(), s.codes.data())
                                 : quantize_one_by_one(plan, values, position, dtype, s);
  add_quantized(kept, dropped, sums);
}

void add_quantized(const cpu::KeptSums& kept, const cpu::DroppedSums& dropped, BlockSums& sums) {
  for (uint32_t j = 0; j < max_classes; ++j) {
    sums.members[j] += kept.members[j];
    sums.class_energy[j] += kept.class_energy[j];
  }
  sums.class_energy[0] += dropped.energy;
  sums.squared_error += dropped.energy + kept.squared_error;
  sums.dot += kept.dot;
  sums.decoded_energy += kept.decoded_energy;
  sums.error_sum += kept.error_sum - dropped.sum;
  sums.max_error = std::max(sums.max_error, std::max(kept.max_error, double(dropped.max_magnitude)));
}

void ClassTally::merge(const ClassTally& other) {
  for (uint32_t j = 0; j < max_classes; ++j) members[j] += other.members[j];
  entropy.merge(other.entropy);
  rice_bits += other.rice_bits;
}

std::vector<float> ClassCoder::points(uint32_t j) const {
  if (plan.width[j] == 0) return {};
  const uint32_t half = 1u << (plan.width[j] - 1);
  std::vector<float> values(2 * half);
  for (uint32_t negative = 0; negative < 2; ++negative)
    for (uint32_t magnitude = 0; magnitude < half; ++magnitude)
      values[negative * half + magnitude] = element::dequantize_in_class(
          plan.quantizer, plan.width[j], plan.scale[j],
          element::join_code(plan.quantizer, plan.width[j], negative, magnitude));
  return values;
}

}  // namespace jsq
