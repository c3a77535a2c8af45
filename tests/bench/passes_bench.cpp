// Passes over values that every method makes: copying, statistics, errors, random numbers, rotations.
#include <cstring>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "kernels/cpu/hadamard.hpp"
#include "kernels/cpu/summary.hpp"
#include "kernels/element/float_bits.hpp"
#include "tests/bench/values.hpp"

namespace jsq::bench {
namespace {

void memcpy_values(benchmark::State& state) {
  std::vector<float> copy(block);
  measure(state, [&] { std::memcpy(copy.data(), gradient().data(), block * sizeof(float)); });
}
BENCHMARK(memcpy_values);

void summarise(benchmark::State& state) {
  std::vector<uint32_t> histogram(cpu::counted_bins);
  measure(state, [&] {
    for (size_t at = 0; at < block; at += element::sum_chunk)
      benchmark::DoNotOptimize(
          cpu::summarise_chunk(std::span(gradient()).subspan(at, element::sum_chunk), histogram));
  });
}
BENCHMARK(summarise);

/// Sixteen bins of the histogram, spread over the magnitudes.
void refine(benchmark::State& state) {
  std::vector<cpu::KeyRange> ranges;
  const uint32_t largest = element::magnitude_key(cpu::max_magnitude(gradient())) >> cpu::summary_bin_shift;
  for (uint32_t r = 0; r < 16; ++r)
    ranges.push_back({(largest - 40 + 2 * r) << cpu::summary_bin_shift, cpu::summary_bin_shift - 8});
  std::vector<uint32_t> counts(ranges.size() * cpu::cells_of_range);
  measure(state, [&] { cpu::refine_ranges(gradient(), ranges, counts); });
}
BENCHMARK(refine);

void errors(benchmark::State& state) {
  std::vector<float> decoded = gradient();
  for (float& value : decoded) value *= 0.75f;
  measure(state, [&] { benchmark::DoNotOptimize(cpu::error_sums(gradient(), decoded)); });
}
BENCHMARK(errors);

void largest_magnitude(benchmark::State& state) {
  measure(state, [&] { benchmark::DoNotOptimize(cpu::max_magnitude(gradient())); });
}
BENCHMARK(largest_magnitude);

void norm(benchmark::State& state) {
  measure(state, [&] { benchmark::DoNotOptimize(cpu::sum_squares(gradient())); });
}
BENCHMARK(norm);

void random_uniforms(benchmark::State& state) {
  std::vector<float> numbers(block);
  measure(state, [&] { cpu::fill_uniforms(1, 0, 0, element::RandomPurpose::rounding, numbers); });
}
BENCHMARK(random_uniforms);

/// Of blocks of 2^k values.
void hadamard(benchmark::State& state) {
  std::vector<float> values = gradient();
  const size_t length = size_t(state.range(0));
  measure(state, [&] {
    for (size_t at = 0; at < block; at += length) cpu::walsh_hadamard(std::span(values).subspan(at, length));
    std::memcpy(values.data(), gradient().data(), 64);  // so that nothing grows without end
  });
}
BENCHMARK(hadamard)->Arg(1024)->Arg(65536);

void random_signs(benchmark::State& state) {
  std::vector<float> values = gradient();
  std::vector<uint32_t> signs(values.size());
  measure(state, [&] {
    cpu::fill_random_signs(1, 0, 0, signs);
    cpu::apply_random_signs(values, signs);
  });
}
BENCHMARK(random_signs);

}  // namespace
}  // namespace jsq::bench
