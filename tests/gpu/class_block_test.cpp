// Class blocks of the device against those of the processor: the same bytes, counts, sums and values to the
// bit, for every composition, length and kind of data; and what is damaged is never taken for sound.
#include "lib/packers/class_block.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "jsq/error.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/packers/class_device.hpp"
#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/packers/class_coding.hpp"

namespace jsq {
namespace {

using element::ClassQuantizer;
using test::Composition;
using test::fit;
using test::Fitted;
using test::Kind;
using test::make_data;
using test::Random;

class ClassBlockOnDevice : public test::OnDevice {};

void expect_same_sums(const BlockSums& found, const BlockSums& expected) {
  const auto same = [](double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
  };
  EXPECT_EQ(found.members, expected.members);
  for (uint32_t j = 0; j < element::max_classes; ++j)
    EXPECT_TRUE(same(found.class_energy[j], expected.class_energy[j])) << j;
  EXPECT_TRUE(same(found.squared_error, expected.squared_error))
      << found.squared_error << ' ' << expected.squared_error;
  EXPECT_TRUE(same(found.dot, expected.dot)) << found.dot << ' ' << expected.dot;
  EXPECT_TRUE(same(found.decoded_energy, expected.decoded_energy));
  EXPECT_TRUE(same(found.error_sum, expected.error_sum)) << found.error_sum << ' ' << expected.error_sum;
  EXPECT_TRUE(same(found.max_error, expected.max_error));
  EXPECT_TRUE(same(found.expected_error, expected.expected_error))
      << found.expected_error << ' ' << expected.expected_error;
}

void expect_same_tally(const ClassTally& found, const ClassTally& expected) {
  EXPECT_EQ(found.members, expected.members);
  EXPECT_EQ(found.entropy.activity, expected.entropy.activity);
  EXPECT_EQ(found.entropy.classes, expected.entropy.classes);
  EXPECT_EQ(found.entropy.magnitude, expected.entropy.magnitude);
  EXPECT_EQ(found.rice_bits, expected.rice_bits);
}

/// Tallies, codes and decodes on the device what the processor tallied, coded and decoded.
void expect_parity(const Composition& composition, const std::vector<float>& values, size_t length) {
  const Fitted fitted = fit(composition, values, {.block_length = length});
  const ClassCoder& coder = fitted.coder;
  const std::vector<std::vector<float>> tensors = {values};
  const auto pool = test::pool_values(tensors, 0, stored_float(composition.dtype));
  std::vector<cuda::BlockRange> blocks;
  for (size_t at = 0; at < values.size(); at += length)
    blocks.push_back({0, at, std::min(length, values.size() - at)});

  cuda::ClassCounts tallied, counted;
  std::vector<cuda::ClassSums> sums(blocks.size());
  pool->tally(device_composition(coder), blocks, std::vector<uint8_t>(blocks.size(), 1), tallied, counted,
              sums);
  expect_same_tally(class_tally(tallied), fitted.tally);
  for (size_t b = 0; b < blocks.size(); ++b)
    expect_same_sums(block_sums(coder.plan, sums[b], false), fitted.sums[b]);
  ClassTally counts;
  for (const auto& block : blocks)
    coder.count(std::span(values).subspan(size_t(block.first), block.count), block.first, counts);
  pool->tally(device_composition(coder), blocks, std::vector<uint8_t>(blocks.size(), 0), tallied, counted,
              sums);
  expect_same_tally(class_tally(counted), counts);

  const auto coded = pool->encode(device_composition(coder), coder.symbols(), blocks);
  std::string bytes;
  std::vector<cuda::ClassDecoder::Block> stored;
  std::vector<float> expected_values(values.size());
  for (const auto& block : blocks) {
    std::string expected;
    BlockSums expected_sums;
    coder.encode(std::span(values).subspan(size_t(block.first), block.count), block.first, block.first, 0,
                 composition.dtype, expected, expected_sums);
    cuda::ClassSums found_sums;
    const std::string_view found = coded->next(found_sums);
    ASSERT_EQ(found, expected) << "block at " << block.first;
    expect_same_sums(block_sums(coder.plan, found_sums, true), expected_sums);
    stored.push_back({bytes.size(), expected.size(), block.first, block.count});
    bytes += expected;
    if (!expected.empty())
      coder.decode(expected, std::span(expected_values).subspan(size_t(block.first), block.count), "block");
  }
  std::vector<float> decoded(values.size(), 42.0f);
  std::vector<uint8_t> sound(blocks.size());
  make_device_decoder(coder)->decode(bytes, stored, decoded, sound);
  for (uint8_t ok : sound) ASSERT_TRUE(ok);
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]), std::bit_cast<uint32_t>(expected_values[i])) << i;
}

const WidthSet width_sets[] = {
    {0, 2, 4, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 1, 3}, {0, 8}, {2, 4, 8}, {0, 3, 5, 6}, {5}, {0}};
constexpr ClassQuantizer all_quantizers[] = {ClassQuantizer::cell, ClassQuantizer::mid,
                                             ClassQuantizer::offmag, ClassQuantizer::sym};
constexpr MapPacker all_maps[] = {MapPacker::raw,     MapPacker::bitmap,  MapPacker::rice,
                                  MapPacker::entropy, MapPacker::index32, MapPacker::packed};

TEST_F(ClassBlockOnDevice, IsTheProcessorsToTheByteAtTheDefaultCompositionForEveryLengthAndKindOfData) {
  for (size_t n : {1, 31, 32, 33, 1000, 65535, 65536, 65537})
    for (Kind kind : test::all_kinds) {
      if (n > 65535 && kind != Kind::heavy && kind != Kind::constant && kind != Kind::ternary) continue;
      SCOPED_TRACE(std::string(test::kind_name(kind)) + " " + std::to_string(n));
      expect_parity({}, make_data(kind, n), 65536);
      if (HasFailure()) return;
    }
}

TEST_F(ClassBlockOnDevice, IsTheProcessorsToTheByteForEveryComposition) {
  Random random(5);
  size_t round = 0;
  for (MapPacker map : all_maps)
    for (ClassQuantizer quantizer : all_quantizers)
      for (const WidthSet& widths : width_sets)
        for (bool code_values : {false, true}) {
          const Kind kind = test::all_kinds[++round % std::size(test::all_kinds)];
          const Composition composition{map,
                                        quantizer,
                                        widths,
                                        code_values,
                                        quantizer != ClassQuantizer::cell && round % 2 == 0,
                                        1u << random.below(4),
                                        0.2 + 4 * random.uniform(),
                                        round % 5 == 0   ? DType::f16
                                        : round % 5 == 1 ? DType::bf16
                                                         : DType::f32};
          if (!exists(composition) || round % test::every() != 0) continue;
          const size_t n = size_t(1 + random.below(3000));
          SCOPED_TRACE(text_of(composition) + " n " + std::to_string(n) + ' ' + test::kind_name(kind));
          expect_parity(composition, make_data(kind, n), 1000);
          if (HasFailure()) return;
        }
}

TEST_F(ClassBlockOnDevice, SumsTheStretchesBetweenTieCutoffsApart) {
  // Most elements tie, so that the cutoffs lie inside the blocks.
  for (double bits : {0.3, 0.9, 2.0, 5.0}) {
    expect_parity({.bits_an_element = bits}, make_data(Kind::ternary, 5000), 2048);
    expect_parity({.bits_an_element = bits}, make_data(Kind::constant, 5000), 2048);
  }
}

TEST_F(ClassBlockOnDevice, SpillsToGlobalMemoryWhereSharedMemoryEnds) {
  // A list of 200,000 kept elements fits no shared memory.
  expect_parity({.widths = {1, 4, 8}, .bits_an_element = 5}, make_data(Kind::gauss, 200001), size_t(1) << 20);
}

TEST_F(ClassBlockOnDevice, CodesThePoolBatchByBatchWithTheSameBytes) {
  const std::vector<float> values = make_data(Kind::heavy, (size_t(1) << 20) + 200000);
  const Fitted fitted = fit({.bits_an_element = 0.5}, values, {.block_length = 131072});
  const std::vector<std::vector<float>> tensors = {values};
  std::vector<cuda::BlockRange> blocks;
  for (size_t at = 0; at < values.size(); at += 131072)
    blocks.push_back({0, at, std::min(size_t(131072), values.size() - at)});
  const auto pool = test::pool_values(tensors, 1);
  const auto coded = pool->encode(device_composition(fitted.coder), fitted.coder.symbols(), blocks);
  for (const auto& block : blocks) {
    std::string expected;
    BlockSums sums;
    fitted.coder.encode(std::span(values).subspan(size_t(block.first), block.count), block.first, block.first,
                        0, DType::f32, expected, sums);
    cuda::ClassSums found;
    ASSERT_EQ(coded->next(found), expected) << block.first;
  }
}

TEST_F(ClassBlockOnDevice, NeverTakesForSoundWhatTheProcessorRefuses) {
  Random random(8);
  size_t refused = 0, round = 0;
  for (MapPacker map : all_maps)
    for (bool code_values : {false, true}) {
      if (test::every() > 1 && map != MapPacker::entropy) continue;
      const Composition composition{
          .map = map, .widths = {0, 2, 4, 8}, .code_values = code_values, .lanes = 1u << random.below(4)};
      const std::vector<float> values = make_data(++round % 2 ? Kind::heavy : Kind::sparse, 700);
      const Fitted fitted = fit(composition, values, {.block_length = 700});
      std::string block;
      BlockSums sums;
      fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
      // Many damaged copies in one go: truncated, extended, bits flipped, garbage.
      std::string bytes;
      std::vector<cuda::ClassDecoder::Block> stored;
      for (size_t i = 0; i < 300; ++i) {
        std::string copy = block;
        if (i % 4 == 0)
          copy.resize(1 + random.below(copy.size()));
        else if (i % 4 == 1)
          copy += char(random.below(256));
        else if (i % 4 == 2)
          copy[random.below(copy.size())] ^= char(1 << random.below(8));
        else
          for (char& c : copy) c = random.below(3) ? c : char(random.below(256));
        stored.push_back({bytes.size(), copy.size(), i * values.size(), values.size()});
        bytes += copy;
      }
      std::vector<float> decoded(stored.size() * values.size());
      std::vector<uint8_t> sound(stored.size());
      make_device_decoder(fitted.coder)->decode(bytes, stored, decoded, sound);
      for (size_t i = 0; i < stored.size(); ++i) {
        std::vector<float> expected(values.size());
        bool fine = true;
        try {
          fitted.coder.decode(bytes.substr(size_t(stored[i].offset), size_t(stored[i].bytes)), expected,
                              "block");
        } catch (const Error&) {
          fine = false;
        }
        refused += !fine;
        EXPECT_EQ(bool(sound[i]), fine) << text_of(composition) << " copy " << i;
        for (size_t k = 0; fine && sound[i] && k < values.size(); ++k)
          ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i * values.size() + k]),
                    std::bit_cast<uint32_t>(expected[k]))
              << i << ' ' << k;
      }
    }
  EXPECT_GT(refused, 100u);
}

}  // namespace
}  // namespace jsq
