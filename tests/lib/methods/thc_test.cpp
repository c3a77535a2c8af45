// THC against the worked vector of check_vectors.py 5, its padding, and the limits of its arithmetic. The
// vector names its signs; a seed that draws them is searched.
#include <cfloat>
#include <cmath>

#include "kernels/element/hadamard.hpp"
#include "kernels/element/philox.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::options_of;
using test::Tensor;

const std::vector<float> v8 = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f, 0.0f, 3.0f, -4.0f};

/// Seeds whose signs of elements 0..7 of tensor 0 are the vector's D.
std::vector<uint64_t> seeds_of_the_vector(size_t count) {
  constexpr uint32_t negative[] = {0, 1, 0, 0, 1, 0, 1, 1};
  std::vector<uint64_t> seeds;
  for (uint64_t seed = 0; seeds.size() < count; ++seed) {
    bool same = true;
    for (uint64_t i = 0; i < 8 && same; ++i)
      same = (element::random_word(seed, 0, 0, element::RandomPurpose::signs) >> i & 1) == negative[i];
    if (same) seeds.push_back(seed);
  }
  return seeds;
}

/// From z of the worked vector with numpy: the entry nearest to each position, and the expectation of the
/// squared error of stochastic rounding.
struct Worked {
  const char* method;
  std::vector<double> nearest;
  double expected_error;
};
const Worked worked[] = {
    {"thc:block=8,table=uniform,bits=4",
     {0.5930799, -0.9884665, 0.1976933, 2.1746264, -0.1976933, -0.1976933, 2.570013, -4.1515594},
     0.5137008680044068},
    {"thc:block=8",  // the paper's table, g = 30
     {0.4942333, -1.2850065, 0.29654, 1.8780864, 0.0988467, -0.0988467, 3.0642462, -4.0527128},
     0.3845226061808606},
};

TEST(Thc, RotatesAndRoundsTheWorkedVectorToTheNearestEntries) {
  const uint64_t seed = seeds_of_the_vector(1)[0];
  for (const Worked& vector : worked) {
    CompressOptions options = options_of(vector.method, "native", seed);
    options.rounding = Rounding::nearest;
    const Coded result = coded({{{8}, v8}}, options);
    for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(result.decoded[0][i], vector.nearest[i], 1e-6) << i;
  }
}

TEST(Thc, ExpectsTheErrorOfTheWorkedVectorAndRoundsItWithoutBias) {
  // No coordinate of the vector is clamped, so its mean over draws is the vector itself.
  const std::vector<uint64_t> seeds = seeds_of_the_vector(1000);
  for (const Worked& vector : worked) {
    std::vector<double> sum(8);
    double error = 0;
    for (uint64_t seed : seeds) {
      const Coded result = coded({{{8}, v8}}, vector.method, "native", seed);
      EXPECT_NEAR(result.report.pools[0].expected_squared_error, vector.expected_error, 2e-6);
      for (size_t i = 0; i < 8; ++i) sum[i] += double(result.decoded[0][i]);
      error += test::squared_error(v8, result.decoded[0]);
    }
    const double draws = double(seeds.size());
    // An element's deviation is sqrt(expected / 8) about; 5 of them of the mean.
    const double bound = 5 * std::sqrt(vector.expected_error / 8 / draws);
    for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(sum[i] / draws, double(v8[i]), bound) << i;
    EXPECT_NEAR(error / draws, vector.expected_error, 0.08 * vector.expected_error);
  }
}

TEST(Thc, CountsTheErrorOfPaddingAndOfClampingInItsExpectation) {
  // 21 elements in blocks of 16: the last one holds 5 and is padded to 8; one outlier is clamped.
  std::vector<float> values = test::make_data(test::Kind::gauss, 21);
  values[18] = 9;
  for (const char* method : {"thc:block=16", "thc:block=16,norm=block,bits=3", "thc:block=16,p=1/8,bits=6"}) {
    double error = 0, expected = 0;
    constexpr int draws = 3000;
    for (uint64_t seed = 0; seed < draws; ++seed) {
      const Coded result = coded({{{21}, values}}, method, "native", seed);
      error += test::squared_error(values, result.decoded[0]);
      expected += result.report.pools[0].expected_squared_error;
    }
    EXPECT_NEAR(error / expected, 1.0, 0.03) << method;
  }
}

TEST(Thc, PadsByLessThanOneHadamardBlock) {
  for (uint64_t block : {1u, 8u, 1024u, 65536u}) {
    for (size_t d : {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 1023u, 1024u, 1025u, 65537u}) {
      const std::vector<float> values = test::make_data(test::Kind::heavy, d);
      const std::string method = "thc:bits=4,coder=fixed,block=" + std::to_string(block);
      const Coded result = coded({{{d}, values}}, method);
      // Whole blocks, and the next power of two of the rest.
      uint64_t rest = 1;
      while (rest < d % block) rest *= 2;
      const uint64_t padded = d - d % block + (d % block ? rest : 0);
      EXPECT_LT(padded - d, block);
      EXPECT_EQ(result.report.pools[0].payload_bits, 4 * padded + 32) << d << ' ' << block;
      // A byte of packer and the packed indices in each frame block.
      uint64_t bytes = 0;
      const FrameReader reader = FrameReader::from_bytes(result.frame);
      for (uint64_t size : reader.tensors()[0].block_bytes) bytes += size;
      EXPECT_EQ(bytes, (padded + 1) / 2 + (d + 65535) / 65536) << d << ' ' << block;
    }
  }
}

TEST(Thc, KeepsFiniteAtTheEdgesOfTheRange) {
  for (test::Kind kind : test::all_kinds) {
    for (const char* method : {"thc", "thc:norm=block,block=64", "thc:bits=8,p=1/65536,block=65536"}) {
      const std::vector<float> values = test::make_data(kind, 3000);
      const Coded result = coded({{{3000}, values}}, method);
      for (float value : result.decoded[0]) ASSERT_TRUE(std::isfinite(value)) << test::kind_name(kind);
      if (kind == test::Kind::zeros || kind == test::Kind::negative_zeros) {
        for (float value : result.decoded[0]) ASSERT_EQ(value, 0.0f);
      }
    }
  }
  for (float value : {FLT_MAX, -FLT_MAX, FLT_TRUE_MIN, 1.0f}) {
    const Coded result = coded({{{1}, {value}}}, "thc:bits=8");
    EXPECT_NEAR(double(result.decoded[0][0]) / double(value), 1.0, 0.51) << value;
  }
}

TEST(Thc, LosesNoMoreWhenAllValuesShrinkOrGrow) {
  const std::vector<float> values = test::make_data(test::Kind::gauss, 5000);
  const double plain = coded({{{5000}, values}}, "thc").report.distortion.nmse();
  for (float factor : {0x1p-120f, 0x1p+100f}) {
    std::vector<float> scaled = values;
    for (float& value : scaled) value *= factor;
    const Coded result = coded({{{5000}, scaled}}, "thc");
    EXPECT_NEAR(result.report.distortion.nmse(), plain, 1e-6 * plain);
  }
}

TEST(Thc, LeavesAZeroBlockZeroBesideOthers) {
  std::vector<float> values = test::make_data(test::Kind::gauss, 3 * 65536);
  std::fill(values.begin() + 65536, values.begin() + 2 * 65536, 0.0f);
  const Coded result = coded({{{values.size()}, values}}, "thc");
  EXPECT_EQ(FrameReader::from_bytes(result.frame).tensors()[0].block_bytes[1], 0u);
  for (size_t i = 65536; i < 2 * 65536; ++i) ASSERT_EQ(result.decoded[0][i], 0.0f);
}

TEST(Thc, LosesLessWithItsTableThanWithTheUniformOne) {
  // Of a normal: .01307459 and .01331934 a coordinate, and what clamping loses beside them.
  const std::vector<float> values = test::make_data(test::Kind::gauss, 1 << 20);
  const auto error = [&](const char* method) {
    return coded({{{values.size()}, values}}, method).report.pools[0].expected_squared_error /
           test::energy(values);
  };
  const double table = error("thc:table=g30"), uniform = error("thc:table=uniform,bits=4");
  EXPECT_NEAR(uniform - table, 0.01331934 - 0.01307459, 4e-5);
  // Clamping: 2 ((1 + t^2) Q(t) - t phi(t)) = .00727 for p = 1/32.
  EXPECT_NEAR(table, 0.01307459 + 0.00727, 3e-4);
}

TEST(Thc, RefusesOptionsThatDoNotGoTogether) {
  const std::vector<float> values(8, 1.0f);
  for (const char* method :
       {"thc:bits=5,table=g30", "thc:block=3", "thc:block=131072", "thc:p=1/3", "thc:p=0.03", "thc:bits=9",
        "thc:bits=0", "thc:coder=elias-dense", "thc:norm=linf"})
    EXPECT_EQ(test::code_of([&] { coded({{{8}, values}}, method); }), Errc::usage) << method;
}

}  // namespace
}  // namespace jsq
