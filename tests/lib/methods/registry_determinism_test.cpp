// The bytes of every method depend on its input, options and seed, and on nothing else.
#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;
using test::StoredSource;

/// Several blocks in each of two tensors, so that threads have something to share.
std::shared_ptr<StoredSource> several_blocks() {
  auto source = std::make_shared<StoredSource>();
  source->add("a", DType::f32, {400, 500}, make_data(Kind::heavy, 200000, 1));
  source->add("b", DType::bf16, {150001}, make_data(Kind::gauss, 150001, 2));
  return source;
}

std::string blocks_of(const Coded& result) {
  const FrameSizes sizes = FrameReader::from_bytes(result.bytes).sizes();
  return result.bytes.substr(sizes.header, sizes.blocks + sizes.checksums);
}

class Determinism : public EveryMethod {};

TEST_P(Determinism, WritesTheSameBytesForEveryThreadCountAndEveryRun) {
  const auto source = several_blocks();
  for (CompressOptions options : {this->options(default_target(spec())), sized(350000)}) {
    options.threads = 1;
    const Coded alone = coded(source, options);
    for (unsigned threads : {2u, 3u, 7u, 16u, 1u}) {
      options.threads = threads;
      const Coded result = coded(source, options);
      ASSERT_EQ(result.bytes == alone.bytes, true) << threads << " threads";
      // Sums too: they are added in block order.
      EXPECT_EQ(result.report.distortion.squared_error, alone.report.distortion.squared_error) << threads;
      EXPECT_EQ(result.report.pools[0].payload_bits, alone.report.pools[0].payload_bits) << threads;
    }
  }
}

TEST_P(Determinism, WritesTheSameBytesWhetherErrorsAreMeasured) {
  const auto source = several_blocks();
  for (CompressOptions options : {this->options(default_target(spec())), sized(350000)}) {
    const Coded measured = coded(source, options);
    options.measure = false;
    const Coded result = coded(source, options);
    EXPECT_EQ(result.bytes == measured.bytes, true);
    EXPECT_EQ(result.report.payload_ratio(), measured.report.payload_ratio());
    EXPECT_EQ(result.report.distortion.energy, measured.report.distortion.energy);
    EXPECT_TRUE(std::isfinite(measured.report.distortion.nmse()));
    // What nobody measured is not told.
    for (const Distortion& error : {result.report.distortion, result.report.tensors[1].distortion}) {
      EXPECT_TRUE(std::isnan(error.nmse()));
      EXPECT_TRUE(std::isnan(error.cosine()));
      EXPECT_TRUE(std::isnan(error.max_error));
    }
    EXPECT_TRUE(std::isnan(result.report.pools[0].expected_squared_error));
    EXPECT_TRUE(std::isnan(result.report.pools[0].entropy_bits));
  }
}

TEST_P(Determinism, DecodesToTheSameBitsForEveryThreadCount) {
  const auto source = several_blocks();
  const Coded result = coded(source, options(default_target(spec())));
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  for (size_t t = 0; t < reader.tensors().size(); ++t) {
    const std::vector<float> alone = test::values_of(reader, t, 1);
    for (unsigned threads : {2u, 3u, 7u, 16u})
      EXPECT_TRUE(test::same_bits(test::values_of(reader, t, threads), alone)) << t << ' ' << threads;
  }
}

TEST_P(Determinism, AnotherSeedGivesOtherCodesExactlyWhereRandomNumbersAreDrawn) {
  const auto source = several_blocks();
  CompressOptions options = this->options(default_target(spec()));
  const Coded first = coded(source, options);
  options.seed += 1;
  const Coded second = coded(source, options);
  EXPECT_EQ(FrameReader::from_bytes(second.bytes).seed(), options.seed);
  EXPECT_EQ(blocks_of(first) != blocks_of(second), draws_random_numbers()) << info().random_numbers;
  const FrameReader one = FrameReader::from_bytes(first.bytes), two = FrameReader::from_bytes(second.bytes);
  EXPECT_EQ(test::same_bits(test::values_of(one), test::values_of(two)), !draws_random_numbers());
}

INSTANTIATE_TEST_SUITE_P(Registry, Determinism, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
