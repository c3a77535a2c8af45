// Class-coded blocks (jointsq and its kin): classifying, and whole blocks both ways at rates from many kept
// elements to few.
#include "kernels/cpu/classify.hpp"
#include "tests/bench/values.hpp"
#include "tests/lib/packers/class_coding.hpp"

namespace jsq::bench {
namespace {

/// The argument is 100 bits an element of the allocation.
test::Fitted fitted(const benchmark::State& state) {
  return test::fit({.bits_an_element = double(state.range(0)) / 100}, gradient());
}

void classify(benchmark::State& state) {
  const test::Fitted with = fitted(state);
  std::vector<uint8_t> classes(block);
  measure(state, [&] { cpu::classify(gradient(), 0, with.coder.plan, classes); });
}
BENCHMARK(classify)->Arg(100);

void list_kept(benchmark::State& state) {
  const test::Fitted with = fitted(state);
  std::vector<uint8_t> classes(block);
  cpu::classify(gradient(), 0, with.coder.plan, classes);
  std::vector<uint32_t> indices(block + 16);
  measure(state, [&] { benchmark::DoNotOptimize(cpu::list_nonzero(classes, indices.data())); });
}
BENCHMARK(list_kept)->Arg(100);

void encode_class_block(benchmark::State& state) {
  const test::Fitted with = fitted(state);
  std::string bytes;
  measure(state, [&] {
    bytes.clear();
    BlockSums sums;
    with.coder.encode(gradient(), 0, 0, 0, DType::f32, bytes, sums);
  });
  state.counters["bits_an_element"] = 8.0 * double(bytes.size()) / block;
}
BENCHMARK(encode_class_block)->Arg(400)->Arg(100)->Arg(10)->Arg(3);

void decode_class_block(benchmark::State& state) {
  const test::Fitted with = fitted(state);
  std::string bytes;
  BlockSums sums;
  with.coder.encode(gradient(), 0, 0, 0, DType::f32, bytes, sums);
  std::vector<float> values(block);
  measure(state, [&] { with.coder.decode(bytes, values, "block"); });
}
BENCHMARK(decode_class_block)->Arg(400)->Arg(100)->Arg(10)->Arg(3);

void tally_class_block(benchmark::State& state) {
  const test::Fitted with = fitted(state);
  measure(state, [&] {
    ClassTally tally;
    with.coder.tally_symbols(gradient(), 0, 0, 0, tally);
    benchmark::DoNotOptimize(tally);
  });
}
BENCHMARK(tally_class_block)->Arg(100);

}  // namespace
}  // namespace jsq::bench
