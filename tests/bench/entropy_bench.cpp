// Entropy coding: interleaved rANS lanes with a table of sixteen symbols, and context streams (rdoq).
#include <cmath>

#include "kernels/cpu/rans_stream.hpp"
#include "lib/packers/context_stream.hpp"
#include "tests/bench/values.hpp"

namespace jsq::bench {
namespace {

/// Frequencies 2048, 1024, ..., 1, 1: symbol i of probability 2^-(i + 1).
struct Table {
  std::vector<element::RansSymbol> symbols;
  std::vector<element::RansSlot> slots;
  Table() {
    uint32_t start = 0;
    for (uint32_t i = 0; i < 13; ++i) {
      const uint32_t frequency = i < 12 ? 2048u >> i : 1u;
      symbols.push_back(element::make_rans_symbol(start, frequency));
      for (uint32_t offset = 0; offset < frequency; ++offset)
        slots.push_back(element::make_rans_slot(i, frequency, offset));
      start += frequency;
    }
  }
};

std::vector<uint16_t> geometric_symbols() {
  std::vector<uint16_t> ids;
  test::Random random(5);
  for (size_t i = 0; i < block; ++i)
    ids.push_back(uint16_t(std::min(12, std::countr_zero(random.word() | 4096))));
  return ids;
}

void rans_encode(benchmark::State& state) {
  const Table table;
  const std::vector<uint16_t> ids = geometric_symbols();
  std::string bytes;
  measure(state, [&] {
    cpu::RansEncoder encoder(8, ids.size());
    encoder.encode_section(ids, table.symbols);
    bytes.clear();
    encoder.finish(bytes);
  });
  state.counters["bits_an_element"] = 8.0 * double(bytes.size()) / block;
}
BENCHMARK(rans_encode);

void rans_decode(benchmark::State& state) {
  const Table table;
  const std::vector<uint16_t> ids = geometric_symbols();
  cpu::RansEncoder encoder(8, ids.size());
  encoder.encode_section(ids, table.symbols);
  std::string bytes;
  encoder.finish(bytes);
  const std::vector<uint8_t> tables(block / 16);
  std::vector<uint8_t> symbols(block);
  measure(state, [&] {
    cpu::RansDecoder decoder(bytes, 8);
    decoder.next_groups(table.slots.data(), tables, 16, symbols.data());
    if (!decoder.finished()) state.SkipWithError("the stream does not end where it should");
  });
}
BENCHMARK(rans_decode);

/// Levels in contexts -6..5 as rdoq codes them; the argument is the context of most of them.
struct ContextLevels {
  ContextCoder coder;
  std::vector<ContextClass> classes;
  ActiveLevels active;

  explicit ContextLevels(int middle) {
    ContextModel model;
    model.lowest = -6;
    for (int c = model.lowest; c <= highest_own_context; ++c) {
      Ladder ladder{.rungs = uint32_t(c < 0 ? 2 : 6), .closed = false};
      ladder.odds.fill(int8_t(-2 * c));
      model.tables.push_back(ladder);
    }
    model.escapes = {.rungs = 32, .closed = true};
    model.has_escapes = true;
    coder = ContextCoder(model, Reconstruction{});
    coder.prepare_decoding();
    test::Random random(6);
    for (uint32_t i = 0; i < block; ++i) {
      const int c = middle - 2 + int(random.below(5));
      classes.push_back(coder.class_of(c));
      const auto magnitude = int32_t(-std::exp2(c / 2.0) * std::log(1 - random.uniform()));
      if (classes.back() == 0 || (magnitude == 0 && coder.use(classes.back()).raw_bits == 0)) continue;
      active.positions.push_back(i);
      active.levels.push_back(random.word() & 1 ? -magnitude : magnitude);
    }
  }
};

void context_encode(benchmark::State& state) {
  const ContextLevels levels(int(state.range(0)));
  std::string bytes;
  measure(state, [&] {
    bytes.clear();
    levels.coder.encode({}, levels.classes, levels.active, bytes);
  });
  state.counters["bits_an_element"] = 8.0 * double(bytes.size()) / block;
}
BENCHMARK(context_encode)->Arg(-7)->Arg(-3)->Arg(3);

void context_decode(benchmark::State& state) {
  const ContextLevels levels(int(state.range(0)));
  std::string bytes;
  levels.coder.encode({}, levels.classes, levels.active, bytes);
  std::vector<float> values(block);
  measure(state, [&] {
    ContextReader reader(levels.coder, bytes, "stream");
    reader.elements(levels.classes, values);
  });
}
BENCHMARK(context_decode)->Arg(-7)->Arg(-3)->Arg(3);

}  // namespace
}  // namespace jsq::bench
