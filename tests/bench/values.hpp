// What every measurement works on, and how much work it states: a block of 65,536 heavy-tailed values, and
// the bytes of these values in f32, whatever a primitive reads or writes, so that all rates compare with
// memcpy's.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cpu/uniforms.hpp"
#include "tests/kernels/data.hpp"

namespace jsq::bench {

constexpr size_t block = 65536;

inline const std::vector<float>& gradient() {
  static const std::vector<float> values = test::make_data(test::Kind::heavy, block);
  return values;
}

inline const std::vector<float>& uniforms() {
  static const std::vector<float> numbers = [] {
    std::vector<float> drawn(block);
    cpu::fill_uniforms(1, 0, 0, element::RandomPurpose::rounding, drawn);
    return drawn;
  }();
  return numbers;
}

/// Runs `work` as often as the library wants, over `values` elements each time.
template <class Work>
void measure(benchmark::State& state, Work work, size_t values = block) {
  for (auto _ : state) {
    work();
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(int64_t(state.iterations()) * int64_t(values * sizeof(float)));
  state.SetItemsProcessed(int64_t(state.iterations()) * int64_t(values));
}

}  // namespace jsq::bench
