// A class coder of a given composition whose tables fit given values: what the tests and measurements of
// class blocks begin with.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "jsq/allocation.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq::test {

/// What class blocks are composed of.
struct Composition {
  MapPacker map = MapPacker::entropy;
  element::ClassQuantizer quantizer = element::ClassQuantizer::cell;
  WidthSet widths;
  bool code_values = true;
  bool stochastic = false;
  uint32_t lanes = 8;
  double bits_an_element = 1.5;
  DType dtype = DType::f32;
};

/// Whether there is such a coder: a symmetric quantizer needs a magnitude bit, a list of kept elements
/// something that is left out.
inline bool exists(const Composition& composition) {
  const auto& widths = composition.widths.widths();
  if (composition.quantizer == element::ClassQuantizer::sym && std::count(widths.begin(), widths.end(), 1u))
    return false;
  return (widths[0] == 0 && widths.size() > 1) || !lists_kept(composition.map);
}

inline std::string text_of(const Composition& composition) {
  std::string text = "map " + std::to_string(uint32_t(composition.map)) + " quantizer " +
                     std::to_string(uint32_t(composition.quantizer)) + " widths ";
  for (uint32_t w : composition.widths.widths()) text += std::to_string(w);
  return text + (composition.code_values ? " coded" : " planes") +
         (composition.stochastic ? " stochastic" : "") + " lanes " + std::to_string(composition.lanes) +
         " bits " + std::to_string(composition.bits_an_element);
}

inline element::ClassPlan plan_of(const Composition& composition, const Allocation& allocation) {
  element::ClassPlan plan;
  plan.classes = composition.widths.size();
  plan.quantizer = composition.quantizer;
  plan.stochastic = composition.stochastic;
  plan.seed = 77;
  for (uint32_t j = 0; j < plan.classes; ++j) {
    plan.width[j] = composition.widths[j];
    plan.threshold[j] = allocation.threshold_key[j];
    plan.cutoff[j] = allocation.cutoff_index[j];
    if (plan.width[j] > 0)
      plan.scale[j] = element::make_class_scale(composition.quantizer, plan.width[j],
                                                element::magnitude_of_key(allocation.low_key[j]),
                                                element::magnitude_of_key(allocation.high_key[j]));
  }
  return plan;
}

/// Where values lie and how they are cut.
struct Cut {
  uint64_t first_element = 0;
  uint32_t tensor = 0;
  size_t block_length = SIZE_MAX;
};

/// A coder whose tables fit a tensor, and what it counted there.
struct Fitted {
  ClassCoder coder;
  Allocation allocation;
  ClassTally tally;
  std::vector<BlockSums> sums;  ///< of every block
};

inline Fitted fit(const Composition& composition, std::span<const float> values, const Cut& cut = {}) {
  Fitted fitted;
  const auto budget =
      uint64_t(composition.bits_an_element * double(values.size())) + values.size() * composition.widths[0];
  fitted.allocation = allocate(values, composition.widths, budget);
  ClassCoder& coder = fitted.coder;
  coder.plan = plan_of(composition, fitted.allocation);
  coder.map = composition.map;
  coder.lanes = composition.lanes;
  for (size_t at = 0; at < values.size(); at += std::min(cut.block_length, values.size())) {
    fitted.sums.emplace_back();
    coder.tally(values.subspan(at, std::min(cut.block_length, values.size() - at)), at,
                cut.first_element + at, cut.tensor, composition.dtype, fitted.tally, fitted.sums.back());
  }
  std::array<uint8_t, element::max_classes> width{};
  for (uint32_t j = 0; j < std::min<size_t>(width.size(), composition.widths.size()); ++j)
    width[j] = uint8_t(composition.widths[j]);
  coder.model = fit_entropy_model(fitted.tally.entropy, composition.widths.size(), width,
                                  composition.map == MapPacker::entropy, composition.code_values);
  coder.prepare_encoding();
  coder.prepare_decoding();
  return fitted;
}

}  // namespace jsq::test
