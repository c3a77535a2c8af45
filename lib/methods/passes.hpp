// Passes over one tensor of a pool, block by block in parallel, with results in block order so that sums of
// them do not depend on the number of threads.
#pragma once

#include <tbb/parallel_for.h>

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "lib/core/pool.hpp"

namespace jsq {

/// look(first, values) of every stretch of 65,536 elements of tensor t, in order.
template <class Look>
auto per_block(const TensorPool& pool, size_t t, Look look) {
  using Result = std::invoke_result_t<Look, uint64_t, std::span<const float>>;
  constexpr uint64_t length = 65536;
  const uint64_t elements = pool.tensors()[t].info->elements();
  std::vector<Result> results(size_t((elements + length - 1) / length));
  tbb::parallel_for(size_t(0), results.size(), [&](size_t b) {
    static thread_local std::vector<float> scratch;
    const uint64_t first = uint64_t(b) * length;
    results[b] = look(first, pool.read(t, first, size_t(std::min(length, elements - first)), scratch));
  });
  return results;
}

/// Sum of term(g) in double: lane l of 16 adds elements l, l + 16, ..., the lanes are folded by halving.
template <class Term>
double lane_sum(std::span<const float> values, Term term) {
  constexpr size_t lanes = 16;
  double lane[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= values.size(); i += lanes)
    for (size_t l = 0; l < lanes; ++l) lane[l] += term(values[i + l]);
  for (size_t l = 0; i + l < values.size(); ++l) lane[l] += term(values[i + l]);
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// The largest magnitude of tensor t, 0 for none.
inline float max_magnitude(const TensorPool& pool, size_t t) {
  return element::magnitude_of_key(pool.statistics(t).max_key);
}

}  // namespace jsq
