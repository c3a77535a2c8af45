// Thin products of low-rank methods and the kernel transform of rdoq, on a matrix of 256 rows of 256.
#include "kernels/cpu/kernel_planes.hpp"
#include "kernels/cpu/thin_products.hpp"
#include "tests/bench/values.hpp"

namespace jsq::bench {
namespace {

constexpr size_t side = 256;
static_assert(side * side == block);

/// G q of `rank` columns.
void rows_times_factor(benchmark::State& state) {
  const auto rank = size_t(state.range(0));
  const std::vector<float> factor(side * rank, 0.5f);
  std::vector<double> products(side * rank);
  measure(state, [&] {
    cpu::rows_times_factor(gradient().data(), side, side, {factor.data(), side, rank},
                           {products.data(), side, rank});
  });
}
BENCHMARK(rows_times_factor)->Arg(1)->Arg(4)->Arg(8);

/// G^T p.
void add_weighted_rows(benchmark::State& state) {
  const auto rank = size_t(state.range(0));
  const std::vector<float> weights(side * rank, 0.5f);
  std::vector<double> sums(side * rank);
  measure(state, [&] {
    cpu::add_weighted_rows(gradient().data(), side, side, side, {weights.data(), side, rank},
                           {sums.data(), side, rank});
  });
}
BENCHMARK(add_weighted_rows)->Arg(1)->Arg(4)->Arg(8);

/// p q^T, row by row.
void outer_products(benchmark::State& state) {
  const auto rank = size_t(state.range(0));
  const std::vector<float> weights(rank, 0.5f), factor(side * rank, 0.5f);
  std::vector<float> row(side);
  measure(state, [&] {
    for (size_t r = 0; r < side; ++r) cpu::outer_product_sum(weights, {factor.data(), side, rank}, 1, row);
  });
}
BENCHMARK(outer_products)->Arg(1)->Arg(4)->Arg(8);

/// 3 x 3 kernels to planes, their cosine transform left out: its tables are the transform's.
void planes_of_kernels(benchmark::State& state) {
  constexpr size_t kernels = block / 9;
  std::vector<double> numbers(cpu::padded_plane(kernels) * 9);
  const cpu::Planes planes = {numbers.data(), cpu::padded_plane(kernels), kernels, 9};
  measure(
      state, [&] { cpu::planes_of_kernels(gradient().data(), planes); }, kernels * 9);
}
BENCHMARK(planes_of_kernels);

}  // namespace
}  // namespace jsq::bench
