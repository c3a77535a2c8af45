// The method jointsq as a composition: its options, its stored parameters, its aims, and what it claims of
// bias.
#include <gtest/gtest.h>

#include <cmath>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::Random;

/// A pool of one tensor and its encoder.
struct Encoding {
  std::vector<float> values;
  std::shared_ptr<const GradientSource> source;
  std::unique_ptr<TensorPool> pool;
  std::unique_ptr<MethodEncoder> encoder;

  Encoding(std::vector<float> data, const std::string& method, uint64_t seed = 0,
           Rounding rounding = Rounding::automatic)
      : values(std::move(data)) {
    TensorInfo info;
    info.shape = {values.size()};
    source = source_of(info, values);
    PoolTensor tensor;
    tensor.source = source.get();
    tensor.info = &source->tensors()[0];
    pool = std::make_unique<TensorPool>(std::vector<PoolTensor>{tensor});
    encoder = make_encoder(method_row("jointsq"), *pool, parse_method(method), {rounding, seed, seed});
  }
  std::vector<std::string> blocks(BlockSums* total = nullptr) const {
    std::vector<std::string> all;
    const size_t length = size_t(1) << encoder->block_log2(0);
    for (size_t at = 0; at < values.size(); at += length) {
      BlockSums sums;
      all.emplace_back();
      encoder->encode_block(0, at, std::span(values).subspan(at, std::min(length, values.size() - at)),
                            all.back(), sums);
      if (total) total->add(sums);
    }
    return all;
  }
  std::vector<float> decoded() const {
    const auto decoder = method_row("jointsq").make_decoder(encoder->stored_set(0).parameters, "parameters");
    std::vector<float> out(values.size());
    const size_t length = size_t(1) << encoder->block_log2(0);
    size_t at = 0;
    for (const std::string& block : blocks()) {
      const auto part = std::span(out).subspan(at, std::min(length, out.size() - at));
      if (!block.empty()) decoder->decode_block({}, block, part, "block");
      at += length;
    }
    return out;
  }
};

Errc refusal_of(const std::string& method, Rounding rounding = Rounding::automatic) {
  try {
    Encoding(make_data(Kind::gauss, 10), method, 0, rounding);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("jointsq"), std::string::npos) << error.what();
    return error.code();
  }
  return Errc::internal;
}

TEST(JointSqOptions, AreRefusedWithWhatIsExpected) {
  for (const char* options : {"alloc=best",
                              "realloc=maybe",
                              "quant=foo",
                              "widths=9",
                              "widths=x",
                              "map=zip",
                              "values=some",
                              "rounds=-1",
                              "rounds=1001",
                              "rounds=x",
                              "sample=0",
                              "sample=2",
                              "sample=x",
                              "aware=65",
                              "aware=-1",
                              "aware=x",
                              "quant=sym,widths=012",
                              "map=rice,widths=24",
                              "map=bitmap,widths=248",
                              "rounds=3x"})
    EXPECT_EQ(refusal_of(std::string("jointsq:") + options), Errc::usage) << options;
  EXPECT_EQ(refusal_of("jointsq:quant=cell", Rounding::stochastic), Errc::usage);
}

TEST(JointSqOptions, RefuseWidthsThatDoNotAscend) {
  for (const char* options : {"widths=20", "widths=00", "widths=0224"}) {
    try {
      Encoding(make_data(Kind::gauss, 10), std::string("jointsq:") + options);
      ADD_FAILURE() << options;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage);
    }
  }
}

TEST(JointSqEncoder, ExpectsTheBytesThatItTakesWithinOnePercent) {
  for (Kind kind : {Kind::heavy, Kind::gauss, Kind::sparse, Kind::f16_grid})
    for (double bits : {0.1, 1.0, 3.0}) {
      const Encoding encoding(make_data(kind, 300000), "jointsq");
      const auto wanted = uint64_t(bits * 300000 / 8);
      const uint64_t expected = encoding.encoder->aim_bytes(wanted);
      EXPECT_LE(expected, wanted);
      uint64_t real = encoding.encoder->stored_set(0).parameters.size();
      for (const std::string& block : encoding.blocks()) real += block.size();
      EXPECT_NEAR(double(real), double(expected), 0.01 * double(expected) + 20)
          << test::kind_name(kind) << bits;
    }
}

TEST(JointSqEncoder, ExpectsWhatALargePoolOfManyScalesTakes) {
  // Of pools of so many elements a part is counted.
  std::vector<float> values = make_data(Kind::gauss, size_t(1) << 24);
  test::Random random(3);
  float scale = 1;
  for (size_t i = 0; i < values.size(); ++i) {
    if (random.below(300) == 0) scale = std::ldexp(1.0f, -int(random.below(12)));
    values[i] *= scale;
  }
  for (double bits : {0.03, 0.3, 3.0}) {
    const Encoding encoding(values, "jointsq");
    const auto wanted = uint64_t(bits * double(values.size()) / 8);
    encoding.encoder->shape_blocks(wanted);
    const uint8_t block_log2 = encoding.encoder->block_log2(0);
    const uint64_t expected = encoding.encoder->aim_bytes(wanted);
    EXPECT_EQ(encoding.encoder->block_log2(0), block_log2);
    EXPECT_LE(expected, wanted);
    EXPECT_GE(double(expected), 0.99 * double(wanted));
    uint64_t real = encoding.encoder->stored_set(0).parameters.size();
    for (const std::string& block : encoding.blocks()) real += block.size();
    EXPECT_NEAR(double(real), double(expected), 0.02 * double(expected)) << bits;
  }
}

TEST(JointSqEncoder, DropsAPoolThatCannotFit) {
  const Encoding encoding(make_data(Kind::heavy, 1000), "jointsq");
  encoding.encoder->aim_bytes(0);
  for (const std::string& block : encoding.blocks()) EXPECT_TRUE(block.empty());
  EXPECT_EQ(encoding.decoded(), std::vector<float>(1000, 0.0f));
  BlockSums sums;
  encoding.blocks(&sums);
  EXPECT_NEAR(sums.squared_error, encoding.pool->summary().energy, 1e-12 * sums.squared_error);
  const PoolReport report = encoding.encoder->report(sums);
  EXPECT_EQ(report.payload_bits, 0u);
  EXPECT_NEAR(report.noise.per_element, 1.0, 1e-12);
}

TEST(JointSqEncoder, CountsNoPayloadForAPoolItDropsEvenWhereEveryWidthHasBits) {
  const Encoding encoding(make_data(Kind::heavy, 1000), "jointsq:widths=248");
  encoding.encoder->aim_bytes(0);
  BlockSums sums;
  for (const std::string& block : encoding.blocks(&sums)) EXPECT_TRUE(block.empty());
  const PoolReport report = encoding.encoder->report(sums);
  EXPECT_EQ(report.payload_bits, 0u);
  EXPECT_NEAR(report.noise.per_element, 1.0, 1e-12);
}

TEST(JointSqEncoder, TakesAtMostThePayloadBitsItIsGiven) {
  for (const char* method :
       {"jointsq", "jointsq:alloc=literal", "jointsq:alloc=sampled", "jointsq:alloc=literal,realloc=hill",
        "jointsq:widths=013", "jointsq:alloc=sampled,realloc=paper"})
    for (uint64_t bits : {0ull, 1ull, 777ull, 20000ull, 39999ull, 1000000ull}) {
      const Encoding encoding(make_data(Kind::heavy, 10000), method);
      encoding.encoder->aim_payload_bits(bits);
      BlockSums sums;
      encoding.blocks(&sums);
      const PoolReport report = encoding.encoder->report(sums);
      EXPECT_LE(report.payload_bits, bits) << method;
      uint64_t members = 0, payload = 0;
      for (size_t j = 0; j < report.widths.size(); ++j)
        members += report.members[j], payload += report.members[j] * report.widths[j];
      EXPECT_EQ(members, 10000u);
      EXPECT_EQ(payload, report.payload_bits);
    }
}

TEST(JointSqEncoder, SaysWhenAPayloadIsBelowItsNarrowestWidth) {
  const Encoding encoding(make_data(Kind::heavy, 1000), "jointsq:widths=248");
  try {
    encoding.encoder->aim_payload_bits(1999);
    FAIL() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unreachable_target);
    EXPECT_NE(std::string(error.what()).find("2000"), std::string::npos) << error.what();
  }
  encoding.encoder->aim_payload_bits(2000);
}

TEST(JointSqDecoder, DescribesTheOptionsItsParametersRecord) {
  const Encoding encoding(make_data(Kind::heavy, 3000),
                          "jointsq:alloc=literal,realloc=hill,quant=mid,map=bitmap");
  encoding.encoder->aim_bytes(600);
  EXPECT_EQ(method_row("jointsq").make_decoder(encoding.encoder->stored_set(0).parameters, "p")->describe(),
            "jointsq:alloc=literal,realloc=hill,quant=mid,widths=0248,map=bitmap");
}

TEST(JointSqDecoder, RefusesOrReadsDamagedParametersAndThenDecodesOrRefusesBlocks) {
  Random random(1);
  size_t refused = 0;
  for (const char* method :
       {"jointsq", "jointsq:quant=mid,map=raw", "jointsq:quant=sym,map=rice,values=planes",
        "jointsq:widths=012345678", "jointsq:quant=offmag,map=bitmap"}) {
    const Encoding encoding(make_data(Kind::heavy, 3000), method);
    encoding.encoder->aim_bytes(900);
    const std::string good = encoding.encoder->stored_set(0).parameters, block = encoding.blocks()[0];
    std::vector<float> out(3000);
    for (int round = 0; round < 1500; ++round) {
      std::string bad = good;
      switch (random.below(4)) {
        case 0:
          bad.resize(random.below(bad.size()));
          break;
        case 1:
          bad.append(1 + random.below(9), char(random.word()));
          break;
        case 2:
          bad[random.below(bad.size())] = char(random.word());
          break;
        default:
          bad[random.below(bad.size())] ^= char(1 << random.below(8));
          break;
      }
      try {
        const auto decoder = method_row("jointsq").make_decoder(bad, "parameter set 0");
        decoder->describe();
        decoder->decode_block({}, block, out, "block 0");
      } catch (const Error& error) {
        ASSERT_EQ(error.code(), Errc::damaged) << error.what();
        ++refused;
      }
    }
    for (size_t size = 0; size < good.size(); ++size)
      EXPECT_THROW(method_row("jointsq").make_decoder(std::string_view(good).substr(0, size), "p"), Error)
          << size;
  }
  EXPECT_GT(refused, 3000u);
}

class UnbiasedQuantizer : public testing::TestWithParam<const char*> {};

TEST_P(UnbiasedQuantizer, HasTheOriginalAsItsMeanOnEveryKeptElement) {
  const std::vector<float> values = make_data(Kind::gauss, 300);
  std::vector<double> sum(values.size()), squares(values.size());
  constexpr int seeds = 1200;
  std::vector<bool> kept(values.size(), false);
  for (int seed = 0; seed < seeds; ++seed) {
    const Encoding encoding(values, std::string("jointsq:map=raw,values=planes,quant=") + GetParam(),
                            uint64_t(seed));
    encoding.encoder->aim_payload_bits(900);
    const std::vector<float> decoded = encoding.decoded();
    for (size_t i = 0; i < values.size(); ++i) {
      sum[i] += double(decoded[i]) - double(values[i]);
      squares[i] += (double(decoded[i]) - double(values[i])) * (double(decoded[i]) - double(values[i]));
      if (decoded[i] != 0) kept[i] = true;
    }
  }
  size_t checked = 0;
  double chi = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (!kept[i]) continue;
    ++checked;
    const double mean = sum[i] / seeds, variance = squares[i] / seeds - mean * mean;
    const double z = mean / std::sqrt(variance / seeds + 1e-12);
    EXPECT_LT(std::fabs(z), 4.5) << values[i];
    chi += z * z;
  }
  EXPECT_GT(checked, 100u);
  EXPECT_LT(chi / double(checked), 1.5);
}
INSTANTIATE_TEST_SUITE_P(Quantizers, UnbiasedQuantizer, testing::Values("mid", "offmag", "sym"));

TEST(JointSqEncoder, RoundsToNearestWhenAsked) {
  const std::vector<float> values = make_data(Kind::heavy, 2000);
  for (const char* quantizer : {"mid", "offmag", "sym"}) {
    const auto error_of = [&](Rounding rounding, uint64_t seed) {
      const Encoding encoding(values, std::string("jointsq:quant=") + quantizer, seed, rounding);
      encoding.encoder->aim_payload_bits(4000);
      return distortion(values, encoding.decoded()).squared_error;
    };
    EXPECT_EQ(error_of(Rounding::nearest, 1), error_of(Rounding::nearest, 2));
    EXPECT_NE(error_of(Rounding::stochastic, 1), error_of(Rounding::stochastic, 2));
    EXPECT_EQ(error_of(Rounding::stochastic, 1), error_of(Rounding::automatic, 1));
    EXPECT_LT(error_of(Rounding::nearest, 1), error_of(Rounding::stochastic, 1));
  }
}

}  // namespace
}  // namespace jsq
