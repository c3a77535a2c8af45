// The paper's text read literally: after an item is taken, all items of its group are removed. The first
// width's item of a group always has the largest density, so the largest elements get the first width and
// nothing else happens.
#include <algorithm>

#include "lib/allocators/allocator.hpp"

namespace jsq {

ClassCounts allocate_literal(MagnitudeIndex& index, const WidthSet& widths, uint64_t payload_bits) {
  ClassCounts counts(widths.size(), 0);
  counts[0] = index.elements();
  if (widths.size() > 1)
    counts[1] = std::min(index.elements(),
                         (payload_bits - payload_bits_of(widths, counts)) / widths.increment_bits(1));
  return counts;
}

}  // namespace jsq
