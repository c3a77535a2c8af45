// Every method on every awkward length and on values at the edges of f32: what comes back is finite, the
// report is true, zeros stay zeros, and what is not finite is refused, kept or dropped as asked.
#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::make_data;
using test::Random;
using test::StoredSource;

/// Values by name, each a function of the number of elements.
struct Pattern {
  const char* name;
  float (*value)(size_t i, size_t n, Random& random);
};

constexpr Pattern patterns[] = {
    {"zeros", [](size_t, size_t, Random&) { return 0.0f; }},
    {"signed zeros", [](size_t i, size_t, Random&) { return i % 3 ? 0.0f : -0.0f; }},
    {"constant", [](size_t, size_t, Random&) { return -0.37f; }},
    {"one nonzero", [](size_t i, size_t n, Random&) { return i == n / 2 ? 2.5f : 0.0f; }},
    {"gauss", [](size_t, size_t, Random& random) { return float(random.normal()); }},
    {"subnormal",
     [](size_t, size_t, Random& random) {
       return std::bit_cast<float>(uint32_t(random.below(0x800000) | (random.below(2) << 31)));
     }},
    {"smallest subnormal", [](size_t i, size_t, Random&) { return i % 2 ? 0x1p-149f : -0x1p-149f; }},
    {"1e38", [](size_t i, size_t, Random&) { return i % 2 ? 1e38f : -1e38f; }},
    {"largest", [](size_t i, size_t, Random&) { return i % 5 ? FLT_MAX : -FLT_MAX; }},
    {"one largest",
     [](size_t i, size_t n, Random& random) { return i == n / 3 ? -FLT_MAX : float(random.normal()); }},
    {"1e-38", [](size_t i, size_t, Random&) { return i % 2 ? 1e-38f : -1e-38f; }},
    {"mixed magnitudes",
     [](size_t, size_t, Random& random) {
       return float((random.below(2) ? 1 : -1) * std::pow(10.0, 60 * random.uniform() - 30));
     }},
    {"any finite", [](size_t, size_t, Random& random) { return random.any_finite(); }},
};

std::vector<float> values_of(const Pattern& pattern, size_t n) {
  Random random(n + 1);
  std::vector<float> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = pattern.value(i, n, random);
  return values;
}

void expect_finite(const CompressReport& report) {
  const Distortion& d = report.distortion;
  for (double number :
       {d.energy, d.squared_error, d.dot, d.decoded_energy, d.error_sum, d.max_error, d.cosine()})
    EXPECT_TRUE(std::isfinite(number)) << number;
  EXPECT_TRUE(std::isfinite(d.nmse()) || d.energy == 0);
  for (const PoolReport& pool : report.pools) {
    EXPECT_TRUE(std::isfinite(pool.entropy_bits));
    EXPECT_GE(pool.entropy_bits, 0);
    EXPECT_FALSE(std::isinf(pool.expected_squared_error));
  }
}

class Values : public EveryMethod {
 protected:
  /// Codes the values and checks all that holds for any values; returns what came back.
  std::vector<float> expect_sound(const std::vector<float>& values, std::vector<uint64_t> shape = {}) {
    const auto source = test::one_tensor(values, std::move(shape));
    const Coded result = coded(source, sized(values.size()));
    const FrameReader reader = FrameReader::from_bytes(result.bytes);
    EXPECT_TRUE(reader.test(false).empty());
    test::expect_true(result.report, test::truth_of(*source, reader), 1e-10);
    expect_finite(result.report);
    return test::values_of(reader);
  }
};

TEST_P(Values, OfEveryEdgeInEveryAwkwardLengthComeBackFiniteAndReportedTruthfully) {
  for (size_t n : {0, 1, 2, 3, 5, 7, 8, 9, 63, 64, 65, 511, 512, 513})
    for (const Pattern& pattern : patterns) {
      SCOPED_TRACE(std::string(pattern.name) + " x " + std::to_string(n));
      expect_sound(values_of(pattern, n));
      if (HasFailure()) return;
    }
}

TEST_P(Values, OfEveryEdgeInAMatrixComeBackFiniteAndReportedTruthfully) {
  for (const std::vector<uint64_t>& shape :
       {std::vector<uint64_t>{1, 40}, {40, 1}, {16, 16}, {31, 17}, {3, 5, 3, 3}})
    for (const Pattern& pattern : patterns) {
      uint64_t n = 1;
      for (uint64_t extent : shape) n *= extent;
      SCOPED_TRACE(std::string(pattern.name) + " in " + std::to_string(shape[0]) + " rows of " +
                   std::to_string(n));
      expect_sound(values_of(pattern, n), shape);
      if (HasFailure()) return;
    }
}

TEST_P(Values, AroundTheEndOfABlockComeBackFiniteAndReportedTruthfully) {
  for (size_t n : {65535, 65536, 65537, 131073})
    for (const char* name : {"gauss", "one nonzero", "largest", "any finite"}) {
      const Pattern* pattern = std::find_if(std::begin(patterns), std::end(patterns), [&](const Pattern& p) {
        return p.name == std::string_view(name);
      });
      SCOPED_TRACE(std::string(name) + " x " + std::to_string(n));
      expect_sound(values_of(*pattern, n));
      if (HasFailure()) return;
    }
}

TEST_P(Values, OfZeroComeBackAsZeroAndCostNoMoreThanAFrame) {
  for (size_t n : {1, 7, 512, 65537})
    for (float zero : {0.0f, -0.0f}) {
      for (float value : expect_sound(std::vector<float>(n, zero))) ASSERT_EQ(value, 0.0f) << n;
      const Coded result = coded(test::one_tensor(std::vector<float>(n, 0.0f)), sized(n));
      EXPECT_EQ(result.report.distortion.squared_error, 0.0);
    }
}

TEST_P(Values, StayFiniteInTheNarrowElementTypes) {
  for (DType dtype : {DType::f16, DType::bf16, DType::f64})
    for (const Pattern& pattern : patterns) {
      SCOPED_TRACE(std::string(pattern.name) + " as " + std::string(dtype_name(dtype)));
      auto source = std::make_shared<StoredSource>();
      source->add("t", dtype, {300}, values_of(pattern, 300));
      const Coded result = coded(source, sized(300));
      test::expect_true(result.report, test::truth_of(*source, result.bytes), 1e-10);
      expect_finite(result.report);
      if (HasFailure()) return;
    }
}

TEST_P(Values, KeepFiniteErrorsUnderADefaultTarget) {
  for (const Pattern& pattern : patterns) {
    SCOPED_TRACE(pattern.name);
    const std::vector<float> values = values_of(pattern, 20000);
    const auto source = test::one_tensor(values, {100, 200});
    const Coded result = coded(source, options(default_target(spec())));
    test::expect_true(result.report, test::truth_of(*source, result.bytes), 1e-10);
    expect_finite(result.report);
    if (HasFailure()) return;
  }
}

/// Two tensors with every kind of non-finite value at the ends and inside.
std::shared_ptr<StoredSource> with_nonfinite() {
  auto source = std::make_shared<StoredSource>();
  std::vector<float> values = make_data(test::Kind::gauss, 5000);
  values[0] = std::bit_cast<float>(0x7fc00001u);
  values[17] = HUGE_VALF;
  values[2500] = -HUGE_VALF;
  values[4999] = std::bit_cast<float>(0xff812345u);
  std::vector<std::byte> stored(4 * values.size());
  std::memcpy(stored.data(), values.data(), stored.size());
  TensorInfo info;
  info.name = "a";
  info.shape = {50, 100};
  source->add(info, stored);
  const std::vector<uint16_t> halves = {0x3c00, 0x7c00, 0xfe01, 0x3800, 0xfc00};
  std::vector<std::byte> narrow(2 * halves.size());
  std::memcpy(narrow.data(), halves.data(), narrow.size());
  info.name = "b";
  info.dtype = DType::f16;
  info.shape = {5};
  source->add(info, narrow);
  return source;
}

TEST_P(Values, ThatAreNotFiniteAreRefusedByDefault) {
  const Error error = test::error_of([&] { coded(with_nonfinite(), sized(5005)); });
  EXPECT_EQ(error.code(), Errc::non_finite) << error.what();
}

TEST_P(Values, ThatAreNotFiniteComeBackWithEveryBitWhereTheyAreKept) {
  const auto source = with_nonfinite();
  CompressOptions options = sized(5005);
  options.nonfinite = NonFinitePolicy::keep;
  const Coded result = coded(source, options);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  EXPECT_TRUE(reader.test(false).empty());
  for (size_t t = 0; t < 2; ++t) {
    const TensorInfo& info = source->tensors()[t];
    const size_t n = info.elements(), size = dtype_bytes(info.dtype);
    std::vector<std::byte> stored(n * size);
    reader.read_stored(t, 0, n, stored);
    std::vector<float> original(n);
    decode_elements(info.dtype, false, source->stored(t).data(), original);
    const std::vector<float> back = test::values_of(reader, t);
    for (size_t i = 0; i < n; ++i) {
      if (std::isfinite(original[i]))
        ASSERT_TRUE(std::isfinite(back[i])) << t << ' ' << i;
      else
        ASSERT_EQ(std::memcmp(stored.data() + i * size, source->stored(t).data() + i * size, size), 0) << i;
    }
  }
  EXPECT_EQ(result.report.tensors[0].nonfinite, 4u);
  EXPECT_EQ(result.report.tensors[1].nonfinite, 3u);
}

TEST_P(Values, ThatAreNotFiniteAreCodedAsZerosWhereAsked) {
  const auto source = with_nonfinite();
  // An error target where there is no native size: the record of non-finite elements takes bytes of a size
  // target.
  CompressOptions options = has_native_size() ? sized(5005) : this->options({TargetKind::nmse, 1e-3});
  options.nonfinite = NonFinitePolicy::zero;
  const Coded result = coded(source, options);
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  for (size_t t = 0; t < 2; ++t)
    for (float value : test::values_of(reader, t)) ASSERT_TRUE(std::isfinite(value));
  // The same blocks as those of a dump that held zeros there.
  auto zeroed = std::make_shared<StoredSource>();
  for (size_t t = 0; t < 2; ++t) {
    TensorInfo info = source->tensors()[t];
    std::vector<float> values(info.elements());
    decode_elements(info.dtype, false, source->stored(t).data(), values);
    for (float& value : values)
      if (!std::isfinite(value)) value = 0;
    zeroed->add(info.name, info.dtype, info.shape, values);
  }
  options.nonfinite = NonFinitePolicy::error;
  const Coded expected = coded(zeroed, options);
  const FrameReader twin = FrameReader::from_bytes(expected.bytes);
  for (size_t t = 0; t < 2; ++t)
    EXPECT_TRUE(test::same_bits(test::values_of(reader, t), test::values_of(twin, t))) << t;
}

INSTANTIATE_TEST_SUITE_P(Registry, Values, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
