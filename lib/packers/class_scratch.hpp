// What coding and decoding a class block work with between their passes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cpu/classify.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq {

using element::max_classes;
using element::run_length;

/// Buffers of one block, reused by a thread from block to block.
struct ClassScratch {
  std::vector<uint8_t> classes, buckets, codes, kept_classes, run_counts, tokens;
  std::vector<uint32_t> kept, offsets;
  std::vector<uint16_t> activity_ids, token_ids, magnitude_ids;
  std::string rans, bits;
  size_t kept_count = 0;

  void resize(size_t n) {
    const size_t padded = (n + run_length - 1) / run_length * run_length;
    if (classes.size() < padded) {
      classes.resize(padded);
      codes.resize(padded);
      kept_classes.resize(padded);
      offsets.resize(padded);
      kept.resize(padded + 16);
      buckets.resize(padded / run_length);
      run_counts.resize(padded / run_length * (max_classes - 1));
    }
  }
};
ClassScratch& class_scratch();

/// Whether a map holds the indices of kept elements, and nothing of the others.
inline bool names_kept(MapPacker map) {
  return map == MapPacker::rice || map == MapPacker::index32 || map == MapPacker::packed;
}

inline size_t runs_of(size_t n) {
  return (n + run_length - 1) / run_length;
}

/// Lists the indices of the elements whose class has a width above 0, and returns how many there are. `kept`
/// has room for classes.size() + 16.
size_t list_kept(const element::ClassPlan& plan, std::span<const uint8_t> classes, uint32_t* kept);

/// Calls use(std::integral_constant<ClassQuantizer, Q>) so that loops are compiled for one quantizer each.
template <class Use>
void with_quantizer(element::ClassQuantizer quantizer, Use use) {
  using element::ClassQuantizer;
  switch (quantizer) {
    case ClassQuantizer::cell:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::cell>());
      break;
    case ClassQuantizer::mid:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::mid>());
      break;
    case ClassQuantizer::offmag:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::offmag>());
      break;
    case ClassQuantizer::sym:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::sym>());
      break;
  }
}

/// Where a block's elements stand: for tie cutoffs, and for random numbers.
struct Position {
  uint64_t first_pool_index = 0;
  uint64_t first_element = 0;
  uint32_t tensor = 0;
};

/// Whether elements are quantized by vectors where no errors are asked for.
inline bool has_vector_loop(element::ClassQuantizer quantizer) {
  return quantizer == element::ClassQuantizer::cell;
}

/// Classes of a block and the list of its kept elements; sums of the others where they are asked for.
void classify_block(const element::ClassPlan& plan, std::span<const float> values, uint64_t first_pool_index,
                    ClassScratch& s, cpu::DroppedSums* dropped = nullptr);

/// Kept elements and code words as given, of the one class that is kept; and the classes of all elements
/// `with_map`.
void take_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes, ClassScratch& s,
                bool with_map = true);

/// Code words of the kept elements by the element functions, one by one, with their errors. The lanes and
/// their folding are those of cpu::quantize_cells.
cpu::KeptSums quantize_one_by_one(const element::ClassPlan& plan, std::span<const float> values,
                                  const Position& position, DType dtype, ClassScratch& s);

/// Classes and code words of the kept elements.  \pre has_vector_loop(plan.quantizer)
void code_kept(const element::ClassPlan& plan, std::span<const float> values, ClassScratch& s);

/// Classes of all elements, and code words and classes of the kept ones, into the scratch; errors of the
/// whole block into `sums`.
void quantize_block(const element::ClassPlan& plan, std::span<const float> values, const Position& position,
                    DType dtype, ClassScratch& s, BlockSums& sums);

}  // namespace jsq
