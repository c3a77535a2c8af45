// Class blocks: what goes in comes out as the quantizer alone would give it, whatever the map packer, value
// coder, widths, length and data; the tally says what coding would do; damage is refused or decodes to
// something, never worse.
#include "lib/packers/class_block.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "jsq/error.hpp"
#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"
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

/// Element by element, without any packer.
std::vector<float> reconstruction(const Fitted& fitted, std::span<const float> values,
                                  uint64_t first_element = 0, uint32_t tensor = 0) {
  const element::ClassPlan& plan = fitted.coder.plan;
  const std::vector<uint8_t> map = class_map(values, fitted.allocation);
  std::vector<float> expected(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t width = plan.width[map[i]];
    if (width == 0) continue;
    float u = 0.5f;
    if (plan.stochastic)
      u = element::uniform_of_word(
          element::random_word(plan.seed, first_element + i, tensor, element::RandomPurpose::rounding));
    const uint32_t code = element::quantize_in_class(plan.quantizer, width, plan.scale[map[i]], values[i], u);
    expected[i] = element::dequantize_in_class(plan.quantizer, width, plan.scale[map[i]], code);
  }
  return expected;
}

void expect_same_bits(const std::vector<float>& values, const std::vector<float>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected[i]))
        << i << ": " << values[i] << ' ' << expected[i];
}

/// Decodes the block alone, and makes sure that beside itself it decodes to the same, or is refused as well.
std::vector<float> decoded(const ClassCoder& coder, const std::string& block, size_t n) {
  std::vector<float> values(n, 42.0f), pair(2 * n, 43.0f);
  const ClassBlock both[] = {{block, std::span(pair).first(n), "block"},
                             {block, std::span(pair).last(n), "block"}};
  try {
    coder.decode(block, values, "block");
  } catch (const Error&) {
    EXPECT_THROW(coder.decode(both), Error);
    throw;
  }
  coder.decode(both);
  expect_same_bits({pair.begin(), pair.begin() + std::ptrdiff_t(n)}, values);
  expect_same_bits({pair.begin() + std::ptrdiff_t(n), pair.end()}, values);
  return values;
}

bool operator==(const ClassTally& a, const ClassTally& b) {
  return a.members == b.members && a.entropy.activity == b.entropy.activity &&
         a.entropy.classes == b.entropy.classes && a.entropy.magnitude == b.entropy.magnitude &&
         a.rice_bits == b.rice_bits;
}

void expect_round_trip(const Composition& composition, const std::vector<float>& values) {
  const Fitted fitted = fit(composition, values);
  std::string block;
  BlockSums sums;
  fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
  std::string unmeasured;
  BlockSums counted;
  fitted.coder.encode_unmeasured(values, 0, 0, 0, unmeasured, counted);
  ASSERT_EQ(unmeasured, block);
  ASSERT_EQ(counted.members, sums.members);
  const std::vector<float> expected = reconstruction(fitted, values);
  if (block.empty()) {  // all dropped
    for (float g : expected) ASSERT_EQ(g, 0.0f);
  } else {
    expect_same_bits(decoded(fitted.coder, block, values.size()), expected);
  }
}

const WidthSet width_sets[] = {
    {0, 2, 4, 8}, {0, 1, 2, 3, 4, 5, 6, 7, 8}, {0, 1, 3}, {0, 8}, {2, 4, 8}, {0, 3, 5, 6}, {5}, {0}};
constexpr ClassQuantizer all_quantizers[] = {ClassQuantizer::cell, ClassQuantizer::mid,
                                             ClassQuantizer::offmag, ClassQuantizer::sym};
constexpr MapPacker all_maps[] = {MapPacker::raw,     MapPacker::bitmap,  MapPacker::rice,
                                  MapPacker::entropy, MapPacker::index32, MapPacker::packed};

TEST(ClassBlock, DecodesToTheQuantizersReconstructionForEveryCompositionLengthAndKindOfData) {
  Random random(1);
  size_t round = 0;
  for (size_t n : {1, 2, 31, 32, 33, 63, 64, 65, 1000})
    for (Kind kind : test::all_kinds) {
      const std::vector<float> values = make_data(kind, n);
      for (MapPacker map : all_maps)
        for (ClassQuantizer quantizer : all_quantizers)
          for (const WidthSet& widths : width_sets)
            for (bool code_values : {false, true}) {
              ++round;
              const Composition composition{map,
                                            quantizer,
                                            widths,
                                            code_values,
                                            quantizer != ClassQuantizer::cell && round % 2 == 0,
                                            1u << random.below(5),
                                            0.2 + 4 * random.uniform()};
              if (!exists(composition)) continue;
              expect_round_trip(composition, values);
              if (HasFatalFailure()) {
                FAIL() << text_of(composition) << " n " << n << ' ' << test::kind_name(kind);
              }
            }
    }
}

TEST(ClassBlock, DecodesWholeBlocksOf65536Too) {
  Random random(2);
  for (int round = 0; round < 90; ++round) {
    const Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
    Composition composition{all_maps[random.below(4)],
                            all_quantizers[random.below(4)],
                            width_sets[random.below(std::size(width_sets))],
                            random.below(2) == 0,
                            random.below(2) == 0,
                            1u << random.below(5),
                            std::exp(random.uniform() * 6 - 4)};
    if (composition.quantizer == ClassQuantizer::cell) composition.stochastic = false;
    if (!exists(composition)) continue;
    expect_round_trip(composition, make_data(kind, 65536, uint64_t(round)));
    if (HasFatalFailure()) FAIL() << text_of(composition) << ' ' << test::kind_name(kind);
  }
}

TEST(ClassBlock, StandsAtItsPlaceInThePoolAndInItsTensor) {
  // Ties are cut by pool index, random numbers drawn by element: three blocks of a pool, coded one by one.
  for (Kind kind : {Kind::ternary, Kind::heavy}) {
    const std::vector<float> pool = make_data(kind, 3000);
    const Composition composition{.quantizer = ClassQuantizer::offmag, .stochastic = true};
    const Fitted fitted = fit(composition, pool, {.first_element = 5000, .tensor = 3, .block_length = 1000});
    const std::vector<float> expected = reconstruction(fitted, pool, 5000, 3);
    std::vector<float> found;
    for (size_t at : {0, 1000, 2000}) {
      std::string block;
      BlockSums sums;
      fitted.coder.encode(std::span(pool).subspan(at, 1000), at, 5000 + at, 3, DType::f32, block, sums);
      const std::vector<float> part =
          block.empty() ? std::vector<float>(1000) : decoded(fitted.coder, block, 1000);
      found.insert(found.end(), part.begin(), part.end());
    }
    expect_same_bits(found, expected);
  }
}

double rounded(DType dtype, float value) {
  if (dtype == DType::f16) return double(element::f16_to_f32(element::f32_to_f16_saturating(value)));
  if (dtype == DType::bf16) return double(element::bf16_to_f32(element::f32_to_bf16_saturating(value)));
  return double(value);
}

TEST(ClassBlock, TallyAndEncodeGiveTheErrorsOfTheDecodedValuesAsStored) {
  Random random(3);
  for (int round = 0; round < 300; ++round) {
    const Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
    const DType dtype = DType(1 + random.below(4));
    Composition composition{.quantizer = all_quantizers[random.below(4)],
                            .widths = width_sets[random.below(std::size(width_sets))],
                            .bits_an_element = 4 * random.uniform()};
    composition.stochastic = composition.quantizer != ClassQuantizer::cell && round % 2;
    if (!exists(composition)) continue;
    const std::vector<float> values = make_data(kind, 1 + random.below(3000), uint64_t(round));
    composition.dtype = dtype;
    const Fitted fitted = fit(composition, values);
    std::string block;
    BlockSums sums;
    fitted.coder.encode(values, 0, 0, 0, dtype, block, sums);
    const std::vector<float> g =
        block.empty() ? std::vector<float>(values.size()) : decoded(fitted.coder, block, values.size());
    const std::vector<uint8_t> map = class_map(values, fitted.allocation);
    double squared = 0, dot = 0, energy = 0, sum = 0, absolute = 0, largest = 0;
    double class_energy[element::max_classes] = {};
    for (size_t i = 0; i < values.size(); ++i) {
      const double original = double(values[i]), value = rounded(dtype, g[i]), error = value - original;
      squared += error * error;
      dot += original * value;
      energy += value * value;
      sum += error;
      absolute += std::fabs(error);
      largest = std::max(largest, std::fabs(error));
      class_energy[map[i]] += original * original;
    }
    SCOPED_TRACE(text_of(composition) + ' ' + test::kind_name(kind) + " dtype " +
                 std::to_string(uint32_t(dtype)));
    for (const BlockSums& measured : {fitted.sums[0], sums}) {
      ASSERT_NEAR(measured.squared_error, squared, 1e-12 * squared);
      ASSERT_NEAR(measured.dot, dot, 1e-12 * (energy + squared));
      ASSERT_NEAR(measured.decoded_energy, energy, 1e-12 * energy);
      ASSERT_NEAR(measured.error_sum, sum, 1e-12 * absolute);
      ASSERT_NEAR(double(measured.max_error), largest, 1e-7 * largest);
      for (uint32_t j = 0; j < composition.widths.size(); ++j)
        ASSERT_NEAR(measured.class_energy[j], class_energy[j], 1e-12 * class_energy[j]);
    }
    ASSERT_EQ(fitted.sums[0].squared_error, sums.squared_error);
    ASSERT_EQ(fitted.sums[0].dot, sums.dot);
    ASSERT_EQ(fitted.sums[0].max_error, sums.max_error);
    for (uint32_t j = 0; j < composition.widths.size(); ++j)
      ASSERT_EQ(fitted.tally.members[j], fitted.allocation.members(j));
  }
}

TEST(ClassBlock, CountIsTheTallyWithoutMagnitudes) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {1, 33, 1000, 65536})
      for (const WidthSet& widths : width_sets) {
        const std::vector<float> values = make_data(kind, n);
        const Fitted fitted = fit({.widths = widths}, values);
        ClassTally counts;
        fitted.coder.count(values, 0, counts);
        ASSERT_EQ(counts.members, fitted.tally.members);
        ASSERT_EQ(counts.entropy.activity, fitted.tally.entropy.activity);
        ASSERT_EQ(counts.entropy.classes, fitted.tally.entropy.classes);
      }
}

TEST(ClassBlock, TallyCountsActivitiesClassesAndMagnitudesByTheirDefinitions) {
  const std::vector<float> values = make_data(Kind::heavy, 1010);  // the last run has 18 elements
  const Fitted fitted = fit({}, values);
  const std::vector<uint8_t> map = class_map(values, fitted.allocation);
  EntropyCounts expected;
  uint32_t previous = 0;
  for (size_t run = 0; run < values.size(); run += 32) {
    uint32_t activity = 0;
    for (size_t i = run; i < std::min(values.size(), run + 32); ++i) activity += map[i];
    const auto bucket = uint32_t(std::bit_width(activity));
    ++expected.activity[previous][bucket];
    previous = bucket;
    for (size_t i = run; i < std::min(values.size(), run + 32); ++i) {
      ++expected.classes[bucket][map[i]];
      const uint32_t width = fitted.coder.plan.width[map[i]];
      if (width == 0) continue;
      const uint32_t code = element::quantize_in_class(ClassQuantizer::cell, width,
                                                       fitted.coder.plan.scale[map[i]], values[i], 0.5f);
      ++expected.magnitude[map[i]][bucket][(code & ((1u << (width - 1)) - 1)) >> (width > 5 ? width - 5 : 0)];
    }
  }
  EXPECT_EQ(fitted.tally.entropy.activity, expected.activity);
  EXPECT_EQ(fitted.tally.entropy.classes, expected.classes);
  EXPECT_EQ(fitted.tally.entropy.magnitude, expected.magnitude);
}

TEST(ClassBlock, CostsWhatItsModelExpectsWithinOnePercent) {
  for (Kind kind : {Kind::heavy, Kind::gauss, Kind::sparse, Kind::f16_grid})
    for (double bits : {0.05, 0.5, 1.5, 4.0}) {
      const std::vector<float> values = make_data(kind, 65536);
      const Fitted fitted = fit({.bits_an_element = bits}, values);
      std::string block;
      BlockSums sums;
      fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
      const EntropyModel::Cost cost = fitted.coder.model.cost(fitted.tally.entropy);
      const double expected = double(cost.map_q16 + cost.magnitudes_q16) / 65536 / 8;
      const double states = 2.0 * fitted.coder.lanes + 3;
      EXPECT_NEAR(double(block.size()), expected + states, 0.01 * expected + states)
          << test::kind_name(kind) << bits;
    }
}

TEST(ClassBlock, TakesTheSizesOfItsUncodedPackersExactly) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {1, 33, 1000, 30000}) {
      const std::vector<float> values = make_data(kind, n);
      for (MapPacker map :
           {MapPacker::raw, MapPacker::bitmap, MapPacker::rice, MapPacker::index32, MapPacker::packed}) {
        const Fitted fitted = fit({.map = map, .code_values = false}, values);
        const std::array<uint64_t, element::max_classes>& members = fitted.tally.members;
        std::string block;
        BlockSums sums;
        fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
        const uint64_t planes = (members[1] * 2 + 7) / 8 + (members[2] * 4 + 7) / 8 + members[3];
        // Classes 1, 2, 3 as 0, 10, 11.
        const uint64_t kept = members[1] + members[2] + members[3];
        const uint64_t class_bits = members[1] + 2 * members[2] + 2 * members[3];
        uint64_t index_bits = 0;  // ceil(log2 n)
        while ((uint64_t(1) << index_bits) < n) ++index_bits;
        const uint64_t map_bytes = map == MapPacker::raw       ? (2 * n + 7) / 8
                                   : map == MapPacker::bitmap  ? (n + 7) / 8 + (class_bits + 7) / 8
                                   : map == MapPacker::index32 ? (32 + 32 * kept + class_bits + 7) / 8
                                   : map == MapPacker::packed  ? (32 + index_bits * kept + class_bits + 7) / 8
                                                               : fitted.tally.rice_bits / 8;
        EXPECT_EQ(block.size(), planes == 0 ? 0 : planes + map_bytes)
            << test::kind_name(kind) << n << ' ' << uint32_t(map);
      }
    }
}

// G8 of the worked vector: raw mask 0x01 0x6B, then the planes of 2, 4 and 8 bits.
TEST(ClassBlock, PacksTheWorkedVectorAsPublished) {
  const std::vector<float> g8 = {0.04f, -0.08f, 0.16f, -0.3f, 0.6f, -1.2f, 2.5f, -5.0f};
  const Fitted fitted = fit({.map = MapPacker::raw, .code_values = false, .bits_an_element = 2.5}, g8);
  std::string block;
  BlockSums sums;
  fitted.coder.encode(g8, 0, 0, 0, DType::f32, block, sums);
  EXPECT_EQ(block, "\x01\x6B\x90\x87\x80");
  double energy = 0;
  for (float g : g8) energy += double(g) * double(g);
  EXPECT_NEAR(sums.squared_error / energy, 0.00174998, 5e-9);
}

// Elements 1, 3 and 6 of 8, two classes: a count, then indices of 32 or 3 bits, then the plane of signs.
TEST(ClassBlock, ListsIndicesAsTheSpecificationHasThem) {
  const std::vector<float> values = {0, -1, 0, 1, 0, 0, -1, 0};
  ClassCoder coder;
  coder.plan.classes = 2;
  coder.plan.width[1] = 1;
  coder.plan.scale[1] = element::make_class_scale(ClassQuantizer::cell, 1, 1, 1);
  coder.model.classes = 2;
  coder.model.width[1] = 1;
  for (MapPacker map : {MapPacker::index32, MapPacker::packed}) {
    coder.map = map;
    coder.prepare_encoding();
    coder.prepare_decoding();
    std::string block;
    BlockSums sums;
    coder.encode(values, 0, 0, 0, DType::f32, block, sums);
    // 001 011 110 and seven bits of padding; signs 1 0 1.
    const std::string expected = map == MapPacker::packed
                                     ? std::string("\0\0\0\3\x2F\0\xA0", 7)
                                     : std::string("\0\0\0\3\0\0\0\1\0\0\0\3\0\0\0\6\xA0", 17);
    EXPECT_EQ(block, expected);
    EXPECT_EQ(decoded(coder, block, 8), values);
    // Indices that repeat, fall or leave the block.
    const std::vector<std::string> impossible =
        map == MapPacker::packed
            ? std::vector<std::string>{std::string("\0\0\0\3\x25\0\xA0", 7),
                                       std::string("\0\0\0\3\x1E\0\xA0", 7),
                                       std::string("\0\0\0\x9\x2F\0\xA0", 7)}
            : std::vector<std::string>{std::string("\0\0\0\3\0\0\0\3\0\0\0\3\0\0\0\6\xA0", 17),
                                       std::string("\0\0\0\3\0\0\0\1\0\0\0\3\0\0\0\x8\xA0", 17)};
    for (const std::string& bytes : impossible) EXPECT_THROW(decoded(coder, bytes, 8), Error);
  }
}

// The specification gives every word of a plane a value: also the one that sym never writes, which is +0.
TEST(ClassBlock, DecodesEveryWordOfAPlaneToTheQuantizersValue) {
  for (ClassQuantizer quantizer : all_quantizers)
    for (uint32_t width = quantizer == ClassQuantizer::sym ? 2 : 1; width <= 8; ++width) {
      ClassCoder coder;
      coder.plan.classes = 1;
      coder.plan.width[0] = width;
      coder.plan.quantizer = quantizer;
      coder.plan.scale[0] = element::make_class_scale(quantizer, width, 1.0f, 3.0f);
      coder.map = MapPacker::raw;
      coder.model.width[0] = uint8_t(width);
      coder.prepare_decoding();
      std::string plane;
      cpu::BitWriter out(plane);
      for (uint32_t code = 0; code < 1u << width; ++code) out.put(code, width);
      out.align();
      const std::vector<float> values = decoded(coder, plane, size_t(1) << width);
      for (uint32_t code = 0; code < 1u << width; ++code) {
        const bool unused = quantizer == ClassQuantizer::sym && code == 1u << (width - 1);
        const float expected =
            unused ? 0.0f : element::dequantize_in_class(quantizer, width, coder.plan.scale[0], code);
        EXPECT_EQ(std::bit_cast<uint32_t>(values[code]), std::bit_cast<uint32_t>(expected))
            << uint32_t(quantizer) << ' ' << width << ' ' << code;
      }
    }
}

TEST(ClassBlock, RefusesOrDecodesDamagedBlocksAndNothingWorse) {
  Random random(4);
  size_t refused = 0, accepted = 0;
  for (int round = 0; round < 250; ++round) {
    const Kind kind = test::all_kinds[random.below(std::size(test::all_kinds))];
    const Composition composition{all_maps[random.below(4)],
                                  all_quantizers[random.below(4)],
                                  width_sets[random.below(std::size(width_sets))],
                                  random.below(2) == 0,
                                  false,
                                  1u << random.below(5),
                                  4 * random.uniform()};
    if (!exists(composition)) continue;
    const std::vector<float> values = make_data(kind, 1 + random.below(600), uint64_t(round));
    const Fitted fitted = fit(composition, values);
    std::string block;
    BlockSums sums;
    fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
    for (int damage = 0; damage < 60; ++damage) {
      std::string bad = block;
      switch (random.below(5)) {
        case 0:
          bad.resize(random.below(bad.size() + 1));
          break;
        case 1:
          bad.append(1 + random.below(20), char(random.word()));
          break;
        case 2:
          for (char& byte : bad) byte = char(random.word());
          break;
        case 3:
          bad.assign(random.below(100), char(0xFF));
          break;
        default:
          for (int flips = 0; flips < 3 && !bad.empty(); ++flips)
            bad[random.below(bad.size())] ^= char(1 << random.below(8));
          break;
      }
      // A reader may also claim another length.
      const size_t n = random.below(4) ? values.size() : 1 + random.below(1500);
      if (bad.empty()) continue;  // an empty block is zeros and never comes here
      try {
        decoded(fitted.coder, bad, n);
        ++accepted;
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), Errc::damaged) << error.what();
        ASSERT_EQ(std::string(error.what()).rfind("block", 0), 0u) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, accepted);
}

TEST(ClassBlock, RefusesEveryTruncationAndEveryTrailingByteOfAnEntropyCodedBlock) {
  for (bool code_values : {false, true})
    for (MapPacker map : all_maps) {
      const std::vector<float> values = make_data(Kind::heavy, 900);
      const Fitted fitted = fit({.map = map, .code_values = code_values}, values);
      std::string block;
      BlockSums sums;
      fitted.coder.encode(values, 0, 0, 0, DType::f32, block, sums);
      for (size_t size = 0; size < block.size(); ++size)
        EXPECT_THROW(decoded(fitted.coder, block.substr(0, size), 900), Error) << size;
      for (size_t more = 1; more <= 64; ++more)
        EXPECT_THROW(decoded(fitted.coder, block + std::string(more, '\0'), 900), Error) << more;
    }
}

TEST(ClassBlock, IsTheSameWithoutErrorsAtEverySimdLevelAndPlaceOfTheCutoffs) {
  Random random(9);
  for (int round = 0; round < 60; ++round) {
    const size_t n = 32 * (1 + random.below(200));
    const Composition composition{.widths = width_sets[random.below(std::size(width_sets))],
                                  .bits_an_element = std::exp(random.uniform() * 6 - 4)};
    // Few magnitudes, so that thresholds cut ties inside of blocks.
    std::vector<float> values = make_data(Kind::heavy, n, uint64_t(round));
    if (round % 2)
      for (float& g : values) g = std::round(g * 1e3f) / 1e3f;
    Fitted fitted = fit(composition, values, {.block_length = 32});
    test::for_each_simd_level([&] {
      for (size_t first = 0; first < n; first += 32 * (1 + random.below(100))) {
        const size_t count = std::min(n - first, 32 * (1 + random.below(100)));
        std::string block, unmeasured;
        BlockSums sums, counted;
        fitted.coder.encode(std::span(values).subspan(first, count), first, first, 0, DType::f32, block,
                            sums);
        fitted.coder.encode_unmeasured(std::span(values).subspan(first, count), first, first, 0, unmeasured,
                                       counted);
        ASSERT_EQ(unmeasured, block);
        ASSERT_EQ(counted.members, sums.members);
      }
    });
    if (HasFatalFailure()) FAIL() << text_of(composition) << " n " << n;
  }
}

TEST(ClassBlock, IsCodedAndDecodedSideBySideAsAloneAtEverySimdLevel) {
  Random random(8);
  for (int round = 0; round < 80; ++round) {
    const size_t whole = round % 2 ? 4096 : 1 + random.below(5000);
    const Composition composition{.widths = round % 4 ? WidthSet({0, 2, 4, 8}) : WidthSet({0, 1, 3}),
                                  .lanes = 1u << random.below(4),
                                  .bits_an_element = std::exp(random.uniform() * 6 - 4)};
    const std::vector<float> all = make_data(Kind::heavy, 8 * whole, uint64_t(round));
    const Fitted fitted = fit(composition, all, {.block_length = whole});
    std::vector<std::string> blocks;
    std::vector<UncodedBlock> uncoded;
    std::vector<std::string> coded_alone;
    std::vector<BlockSums> measured;
    std::vector<std::vector<float>> expected;
    const size_t number = 2 + random.below(7);
    for (size_t k = 0; k < number; ++k) {
      // Shorter ones end where a run does, so that the tables have all that they need.
      const size_t n = random.below(3) ? whole : std::min(whole, 32 * (1 + random.below(whole / 32 + 1)));
      BlockSums sums;
      fitted.coder.encode(std::span(all).subspan(k * whole, n), k * whole, k * whole, 0, DType::f32,
                          blocks.emplace_back(), sums);
      uncoded.push_back(
          {std::span(all).subspan(k * whole, n), k * whole, k * whole, 0, DType::f32, nullptr, nullptr});
      coded_alone.push_back(blocks.back());
      measured.push_back(sums);
      if (blocks.back().empty())
        blocks.pop_back();  // zeros, which are not decoded
      else
        expected.push_back(decoded(fitted.coder, blocks.back(), n));
    }
    test::for_each_simd_level([&] {
      std::vector<std::string> coded(uncoded.size());
      std::vector<BlockSums> counted(uncoded.size());
      for (size_t k = 0; k < uncoded.size(); ++k) {
        uncoded[k].out = &coded[k];
        uncoded[k].sums = &counted[k];
      }
      constexpr size_t most = ClassCoder::encoded_together;
      for (size_t k = 0; k < uncoded.size(); k += most)
        fitted.coder.encode_unmeasured(std::span(uncoded).subspan(k, std::min(most, uncoded.size() - k)));
      ASSERT_EQ(coded, coded_alone);
      for (size_t k = 0; k < measured.size(); ++k) ASSERT_EQ(counted[k].members, measured[k].members);

      coded.assign(uncoded.size(), {});
      counted.assign(uncoded.size(), {});
      for (size_t k = 0; k < uncoded.size(); k += most)
        fitted.coder.encode(std::span(uncoded).subspan(k, std::min(most, uncoded.size() - k)));
      ASSERT_EQ(coded, coded_alone);
      for (size_t k = 0; k < measured.size(); ++k) {
        ASSERT_EQ(counted[k].members, measured[k].members);
        ASSERT_EQ(counted[k].squared_error, measured[k].squared_error);
        ASSERT_EQ(counted[k].expected_error, measured[k].expected_error);
        ASSERT_EQ(counted[k].class_energy, measured[k].class_energy);
        ASSERT_EQ(counted[k].max_error, measured[k].max_error);
      }

      std::vector<std::vector<float>> values;
      std::vector<ClassBlock> together;
      for (size_t k = 0; k < blocks.size(); ++k) values.emplace_back(expected[k].size(), 42.0f);
      for (size_t k = 0; k < blocks.size(); ++k) together.push_back({blocks[k], values[k], "block"});
      fitted.coder.decode(together);
      for (size_t k = 0; k < blocks.size(); ++k) expect_same_bits(values[k], expected[k]);

      for (std::vector<float>& own : values) std::fill(own.begin(), own.end(), 42.0f);
      std::vector<std::span<const uint32_t>> kept(blocks.size());
      fitted.coder.decode(together, kept);
      for (size_t k = 0; k < blocks.size(); ++k) {
        expect_same_bits(values[k], expected[k]);
        // Cells have no value of magnitude 0.
        std::vector<uint32_t> nonzero;
        for (size_t i = 0; i < values[k].size(); ++i)
          if (values[k][i] != 0) nonzero.push_back(uint32_t(i));
        ASSERT_EQ(std::vector<uint32_t>(kept[k].begin(), kept[k].end()), nonzero);
      }
    });
    if (HasFatalFailure()) FAIL() << text_of(composition) << " n " << whole;
  }
}

/// Runs and halves of runs that are in one class throughout have the most raw bits and the fewest that there
/// are.
TEST(ClassBlock, RunsMayBeInOneClassThroughout) {
  Random random(21);
  for (const WidthSet& widths : {WidthSet({0, 2, 4, 8}), WidthSet({0, 7, 8}), WidthSet({0, 5, 6, 8})}) {
    std::vector<float> values(4096);
    for (size_t at = 0; at < values.size(); at += 16) {
      const float size = std::ldexp(1.0f, -4 * int(random.below(4)));
      // Most are small in their class, so that coding their magnitudes pays.
      for (size_t i = at; i < at + 16; ++i)
        values[i] = size * float(1 + 8 * std::pow(random.uniform(), 6)) * (random.below(2) ? 1.0f : -1.0f);
    }
    for (const double bits : {0.5, 2.0, 4.0, 7.9}) {
      const Composition composition{.widths = widths, .lanes = 8, .bits_an_element = bits};
      test::for_each_simd_level([&] { expect_round_trip(composition, values); });
      if (HasFatalFailure()) FAIL() << text_of(composition);
    }
  }
}

TEST(ClassTally, MergesByAddition) {
  const std::vector<float> values = make_data(Kind::heavy, 4000);
  const Fitted fitted = fit({}, values);
  ClassTally a, b;
  BlockSums sums;
  fitted.coder.tally(std::span(values).first(1500), 0, 0, 0, DType::f32, a, sums);
  fitted.coder.tally(std::span(values).subspan(1500), 1500, 1500, 0, DType::f32, b, sums);
  a.merge(b);
  for (uint32_t j = 0; j < 4; ++j) EXPECT_EQ(a.members[j], fitted.tally.members[j]);
  EXPECT_NEAR(sums.squared_error, fitted.sums[0].squared_error, 1e-12 * sums.squared_error);
}

TEST(ClassTally, CountsTheSameSymbolsWithoutErrorsAtEverySimdLevel) {
  for (const auto quantizer : {element::ClassQuantizer::cell, element::ClassQuantizer::sym})
    for (const size_t count : {1, 15, 16, 17, 4003}) {
      const std::vector<float> values = make_data(Kind::heavy, count);
      const Fitted fitted = fit({.quantizer = quantizer}, values);
      test::for_each_simd_level([&] {
        ClassTally counts;
        fitted.coder.tally_symbols(values, 0, 0, 0, counts);
        EXPECT_TRUE(counts == fitted.tally) << count;
      });
    }
}

TEST(RawMap, TakesTheBitsOfTheHighestClass) {
  for (const auto& [classes, bits] :
       {std::pair(1u, 0u), {2u, 1u}, {3u, 2u}, {4u, 2u}, {5u, 3u}, {8u, 3u}, {9u, 4u}})
    EXPECT_EQ(raw_map_bits(classes), bits);
}

}  // namespace
}  // namespace jsq
