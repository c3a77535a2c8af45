// Levels of dithering quantizers: rounding, signs, and each packer both ways.
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/signs.hpp"
#include "lib/packers/levels.hpp"
#include "tests/bench/values.hpp"

namespace jsq::bench {
namespace {

/// Uniform levels up to +-s with the block's largest magnitude as scale.
std::vector<int32_t> levels_up_to(int32_t s) {
  std::vector<int32_t> levels(block);
  cpu::uniform_levels(gradient(), cpu::max_magnitude(gradient()), float(s), uniforms(), levels);
  return levels;
}

void round_uniform(benchmark::State& state) {
  const float scale = cpu::max_magnitude(gradient());
  std::vector<int32_t> levels(block);
  measure(state,
          [&] { benchmark::DoNotOptimize(cpu::uniform_levels(gradient(), scale, 7, uniforms(), levels)); });
}
BENCHMARK(round_uniform);

void values_uniform(benchmark::State& state) {
  const std::vector<int32_t> levels = levels_up_to(7);
  std::vector<float> values(block);
  measure(state, [&] { cpu::uniform_values(levels, 1, 7, values); });
}
BENCHMARK(values_uniform);

void round_exponential(benchmark::State& state) {
  const float scale = cpu::max_magnitude(gradient());
  std::vector<int32_t> levels(block);
  measure(state, [&] {
    benchmark::DoNotOptimize(cpu::exponential_levels(gradient(), scale, 7, uniforms(), levels));
  });
}
BENCHMARK(round_exponential);

void pack_signs(benchmark::State& state) {
  std::vector<uint8_t> bytes(block / 8);
  measure(state, [&] { benchmark::DoNotOptimize(cpu::pack_signs(gradient(), bytes.data())); });
}
BENCHMARK(pack_signs);

void values_of_signs(benchmark::State& state) {
  std::vector<uint8_t> bytes(block / 8);
  cpu::pack_signs(gradient(), bytes.data());
  std::vector<float> values(block);
  measure(state, [&] { cpu::values_of_signs(bytes.data(), 0.5f, values); });
}
BENCHMARK(values_of_signs);

struct Packing {
  const char* name;
  LevelPacker packer;
  int32_t most;  ///< levels -most..most
};
constexpr Packing packings[] = {
    {"fixed/4bit", LevelPacker::fixed, 7},          {"base243", LevelPacker::base243, 1},
    {"elias_sparse", LevelPacker::elias_sparse, 7}, {"elias_dense", LevelPacker::elias_dense, 127},
    {"entropy/4bit", LevelPacker::entropy, 7},      {"entropy/8bit", LevelPacker::entropy, 127}};

void pack(benchmark::State& state, const Packing& packing) {
  const std::vector<int32_t> levels = levels_up_to(packing.most);
  std::string bytes;
  measure(state, [&] {
    bytes.clear();
    pack_levels(packing.packer, levels, {-packing.most, packing.most}, bytes);
  });
  state.counters["bits_an_element"] = 8.0 * double(bytes.size()) / block;
}

void unpack(benchmark::State& state, const Packing& packing) {
  std::vector<int32_t> levels = levels_up_to(packing.most);
  const LevelRange range = {-packing.most, packing.most};
  std::string bytes;
  pack_levels(packing.packer, levels, range, bytes);
  measure(state, [&] { unpack_levels(packing.packer, bytes, range, levels, "block"); });
}

const bool registered = [] {
  for (const Packing& packing : packings) {
    benchmark::RegisterBenchmark((std::string("pack/") + packing.name).c_str(), pack, packing);
    benchmark::RegisterBenchmark((std::string("unpack/") + packing.name).c_str(), unpack, packing);
  }
  return true;
}();

}  // namespace
}  // namespace jsq::bench
