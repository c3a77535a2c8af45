#include "lib/methods/rdoq_device_products.hpp"

#include <tbb/task_arena.h>

#include <algorithm>

#include "lib/core/device.hpp"

namespace jsq {
namespace {

/// work(values of the pool), one thread at a time. On its own: a thread that waits takes up nothing else,
/// which may want them too.
template <class Work>
auto with_values(const TensorPool& pool, Work work) {
  return pool.with_device([&](cuda::PoolValues& values) {
    return tbb::this_task_arena::isolate([&] { return on_device([&] { return work(values); }); });
  });
}

/// Columns of `rows` numbers to their place.
void put(const std::vector<double>& numbers, size_t rows, cpu::ThinFactor<double> sums) {
  for (size_t k = 0; k < sums.columns; ++k)
    std::copy_n(numbers.begin() + std::ptrdiff_t(k * rows), rows, sums.numbers + k * sums.stride);
}

}  // namespace

cuda::KernelLines kernel_lines_on_device(const TensorPool& pool, const cuda::KernelRows& kernels) {
  return with_values(pool, [&](cuda::PoolValues& values) { return cuda::kernel_lines(values, kernels); });
}

void lines_times_on_device(const TensorPool& pool, const cuda::KernelLines& kernels,
                           const cuda::StoredRuns& lines, cpu::ThinFactor<const float> factor,
                           cpu::ThinFactor<double> sums) {
  const std::vector<double> found = with_values(pool, [&](cuda::PoolValues& values) {
    return cuda::panel_products(kernels.values ? *kernels.values : values, lines, lines.width,
                                {factor.numbers, factor.stride, factor.columns});
  });
  put(found, size_t(lines.count), sums);
}

void weighted_lines_on_device(const TensorPool& pool, const cuda::KernelLines& kernels,
                              const cuda::StoredRuns& lines, cpu::ThinFactor<const float> weights,
                              cpu::ThinFactor<double> sums) {
  const std::vector<double> found = with_values(pool, [&](cuda::PoolValues& values) {
    return cuda::weighted_runs(kernels.values ? *kernels.values : values, lines, lines.count,
                               {weights.numbers, weights.stride, weights.columns});
  });
  put(found, size_t(lines.width), sums);
}

}  // namespace jsq
