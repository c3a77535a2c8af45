// Targets, for every method: a size is never exceeded and used where the method can, an error is met or the
// nearest one named, and what a message names is then reachable.
#include <map>

#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;
using test::Random;
using test::Truth;

constexpr double ratios[] = {2, 4, 8, 16, 32, 100, 1000};
constexpr size_t side = 1024;  // 1,048,576 elements, as a matrix so that low-rank methods take part

enum class Data { gauss, laplace, student, ties };

/// A tensor of a million elements, made once.
const std::vector<float>& million(Data data) {
  static std::map<Data, std::vector<float>> made;
  std::vector<float>& values = made[data];
  if (!values.empty()) return values;
  Random random(uint64_t(data) + 7);
  values.resize(side * side);
  for (float& value : values) switch (data) {
      case Data::gauss:
        value = float(random.normal());
        break;
      case Data::laplace:
        value = random.laplace();
        break;
      case Data::student: {  // three degrees of freedom
        double squares = 0;
        for (int k = 0; k < 3; ++k) {
          const double normal = random.normal();
          squares += normal * normal;
        }
        value = float(random.normal() / std::sqrt(squares / 3));
        break;
      }
      case Data::ties:  // some thirty values in all
        value = float(std::round(4 * random.normal()) / 64);
        break;
    }
  return values;
}

/// The result, or nothing where the target is out of reach; the message is then checked.
struct Attempt {
  bool reached = false;
  Coded result;
  std::string message;
};
Attempt attempt(const std::shared_ptr<const GradientSource>& source, const CompressOptions& options) {
  Attempt made;
  try {
    made.result = coded(source, options);
    made.reached = true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unreachable_target) << error.what();
    made.message = error.what();
  }
  return made;
}

class Budget : public EveryMethod {
 protected:
  /// Bytes that the method takes when it may have all it wants.
  uint64_t wanted_bytes(const std::shared_ptr<const GradientSource>& source) const {
    return coded(source, options({TargetKind::ratio, 1e-3})).bytes.size();
  }

  /// Over ascending ratios: never above the budget, near it where the method has every size, and once out of
  /// reach then out of reach for all smaller budgets, the smallest named and reachable.
  void expect_budgets_kept(Data data, std::span<const double> wanted_ratios) const {
    const auto source = test::one_tensor(million(data), {side, side});
    const double input = 4.0 * side * side;
    bool reachable = true;
    double loss = 0;
    for (double ratio : wanted_ratios) {
      if (!reachable && ratio != wanted_ratios.back()) continue;  // the smallest stands for those between
      SCOPED_TRACE("ratio " + std::to_string(int(ratio)));
      const double budget = std::floor(input / ratio);
      const Attempt made = attempt(source, options({TargetKind::ratio, ratio}));
      if (!made.reached) {
        if (reachable) expect_named_size_works(source, made.message, ratio);
        EXPECT_NE(info().sizing, Sizing::continuous) << made.message;
        reachable = false;
        continue;
      }
      EXPECT_TRUE(reachable) << "a larger budget was out of reach";
      const double bytes = double(made.result.bytes.size());
      EXPECT_LE(bytes, budget);
      EXPECT_EQ(made.result.report.budget_bytes, uint64_t(budget));
      if (info().sizing == Sizing::continuous && bytes < 0.99 * budget) {
        EXPECT_GE(bytes, 0.99 * std::min(budget, double(wanted_bytes(source))));
      }
      EXPECT_GE(made.result.report.distortion.squared_error, 0.98 * loss) << "a larger budget lost more";
      loss = made.result.report.distortion.squared_error;
    }
  }

  void expect_named_size_works(const std::shared_ptr<const GradientSource>& source,
                               const std::string& message, double ratio) const {
    EXPECT_NE(message.find(info().name), std::string::npos) << message;
    const double bytes = test::number_after(message, " has "),
                 nearest = test::number_after(message, "(ratio ");
    ASSERT_FALSE(std::isnan(bytes) || std::isnan(nearest)) << message;
    EXPECT_LT(nearest, ratio);
    EXPECT_TRUE(attempt(source, options({TargetKind::bytes, bytes})).reached) << message;
    EXPECT_FALSE(attempt(source, options({TargetKind::bytes, bytes - 1})).reached) << message;
    EXPECT_TRUE(attempt(source, options({TargetKind::ratio, nearest})).reached) << message;
  }
};

TEST_P(Budget, IsKeptAndUsedOnAGaussianAtEveryRatio) {
  expect_budgets_kept(Data::gauss, ratios);
}
TEST_P(Budget, IsKeptAndUsedOnALaplacian) {
  constexpr double some[] = {4, 32, 1000};
  expect_budgets_kept(Data::laplace, some);
}
TEST_P(Budget, IsKeptAndUsedOnHeavyTails) {
  constexpr double some[] = {8, 32, 100};
  expect_budgets_kept(Data::student, some);
}
TEST_P(Budget, IsKeptAndUsedWhereManyValuesAreEqual) {
  constexpr double some[] = {2, 16, 100};
  expect_budgets_kept(Data::ties, some);
}

TEST_P(Budget, IsKeptForBytesAndBitsOfAnArchiveAndOfEachTensor) {
  auto source = std::make_shared<test::StoredSource>();
  source->add("conv", DType::f32, {64, 27}, make_data(Kind::heavy, 64 * 27, 1));
  source->add("fc", DType::f16, {300, 200}, make_data(Kind::heavy, 60000, 2));
  source->add("bias", DType::f32, {257}, make_data(Kind::gauss, 257, 3));
  source->add("none", DType::f32, {0}, {});
  source->add("scale", DType::f64, {}, {0.25f});
  const double input = 4 * 64 * 27 + 2 * 60000 + 4 * 257 + 8, elements = 64 * 27 + 60000 + 257 + 1;
  for (Scope scope : {Scope::archive, Scope::tensor})
    for (const Target& target : {Target{TargetKind::bytes, 70000}, Target{TargetKind::bytes, 9000},
                                 Target{TargetKind::bpw, 4}, Target{TargetKind::ratio, 8}}) {
      SCOPED_TRACE(to_string(target));
      CompressOptions options = this->options(target);
      options.scope = scope;
      const Attempt made = attempt(source, options);
      if (!made.reached) continue;
      const double budget = target.kind == TargetKind::bytes ? target.value
                            : target.kind == TargetKind::bpw ? elements * target.value / 8
                                                             : input / target.value;
      EXPECT_LE(double(made.result.bytes.size()), budget);
      test::expect_true(made.result.report, test::truth_of(*source, made.result.bytes));
    }
}

TEST_P(Budget, OfThePapersPayloadIsKeptAndUsed) {
  const std::vector<float> values = make_data(Kind::heavy, 400 * 500);
  const auto source = test::one_tensor(values, {400, 500});
  double most = -1;
  for (double ratio : ratios) {
    SCOPED_TRACE("ratio " + std::to_string(int(ratio)));
    CompressOptions options = this->options({TargetKind::ratio, ratio});
    options.ratio_kind = RatioKind::payload;
    const Attempt made = attempt(source, options);
    const double budget = 8 * std::floor(4.0 * double(values.size()) / ratio);
    if (!made.reached) {
      EXPECT_NE(info().sizing, Sizing::continuous) << made.message;
      continue;
    }
    const double payload = double(made.result.report.pools[0].payload_bits);
    EXPECT_LE(payload, budget);
    EXPECT_GT(payload, 0);
    EXPECT_NEAR(made.result.report.payload_ratio(), 32.0 * double(values.size()) / payload,
                1e-9 * 32 * budget);
    if (info().sizing != Sizing::continuous || payload >= 0.97 * budget) continue;
    if (most < 0) {
      options.target.value = 1e-3;
      most = double(attempt(source, options).result.report.pools[0].payload_bits);
    }
    EXPECT_GE(payload, 0.97 * std::min(budget, most));
  }
}

TEST_P(Budget, BeyondAllNumbersOfBytesIsTaken) {
  const std::vector<float> values = make_data(Kind::heavy, 30 * 40);
  const auto source = test::one_tensor(values, {30, 40});
  for (RatioKind kind : {RatioKind::file, RatioKind::payload})
    for (const Target& target : {Target{TargetKind::ratio, 1e-30}, Target{TargetKind::bpw, 1e30},
                                 Target{TargetKind::bytes, 1e300}}) {
      CompressOptions options = this->options(target);
      options.ratio_kind = kind;
      // Position and value of every element, and some more.
      EXPECT_LT(coded(source, options).bytes.size(), 12 * values.size() + 200) << to_string(target);
    }
}

class ErrorTarget : public Budget {
 protected:
  static double error_of_kind(TargetKind kind, const Truth& truth) {
    return kind == TargetKind::nmse ? truth.nmse() : truth.max_error;
  }
};

TEST_P(ErrorTarget, IsMetOrTheNearestOneIsNamedAndMet) {
  const std::vector<float> values = make_data(Kind::heavy, 300 * 400);
  const auto source = test::one_tensor(values, {300, 400});
  const Coded by_size = coded(source, sized(values.size()));
  const Truth known = test::truth_of(*source, by_size.bytes);
  for (TargetKind kind : {TargetKind::nmse, TargetKind::maxabs})
    for (double factor : {1.2, 0.5, 0.1}) {
      const Target target{kind, std::max(factor * error_of_kind(kind, known), 1e-30)};
      SCOPED_TRACE(to_string(target));
      const Attempt made = attempt(source, options(target));
      if (made.reached) {
        EXPECT_LE(error_of_kind(kind, test::truth_of(*source, made.result.bytes)), target.value * (1 + 1e-9));
        test::expect_true(made.result.report, test::truth_of(*source, made.result.bytes));
        // What the method's own size meets needs no more than that size.
        if (factor > 1) {
          EXPECT_LE(double(made.result.bytes.size()), 1.02 * double(by_size.bytes.size()) + 16);
        }
        continue;
      }
      EXPECT_LT(factor, 1) << made.message;
      const std::string words = kind == TargetKind::nmse ? "nmse=" : "maxabs=";
      const size_t nearest_at = made.message.find("nearest");
      ASSERT_NE(nearest_at, std::string::npos) << made.message;
      const double nearest = test::number_after(made.message.substr(nearest_at), words);
      ASSERT_FALSE(std::isnan(nearest)) << made.message;
      EXPECT_GT(nearest, target.value);
      EXPECT_TRUE(attempt(source, options({kind, nearest})).reached) << made.message;
    }
}

TEST_P(ErrorTarget, ThatIsNamedAsTheNearestIsMetWhereAnErrorRisesWithThePayload) {
  for (uint64_t seed = 170; seed < 180; ++seed) {
    const auto source = std::make_shared<test::StoredSource>();
    source->add("tensor", DType::bf16, {128}, make_data(Kind::one_outlier, 128, seed), false);
    CompressOptions asked = options({TargetKind::maxabs, 0.001});
    try {
      coded(source, asked);
    } catch (const UnreachableTarget& unreachable) {
      asked.target = unreachable.nearest();
      EXPECT_NO_THROW(coded(source, asked)) << seed << ": " << unreachable.what();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage) << error.what();
    }
  }
}

TEST_P(ErrorTarget, AsACosineIsReachedOrRefusedWithTheNearest) {
  const std::vector<float> values = make_data(Kind::heavy, 100 * 200);
  const auto source = test::one_tensor(values, {100, 200});
  for (const double cosine : {0.3, 0.95}) {
    try {
      EXPECT_GE(coded(source, options({TargetKind::cosine, cosine})).report.distortion.cosine(), cosine);
    } catch (const UnreachableTarget& error) {
      const Target nearest = error.nearest();
      ASSERT_TRUE(nearest.kind == TargetKind::cosine || nearest.kind == TargetKind::nmse) << error.what();
      if (nearest.kind == TargetKind::cosine) {
        EXPECT_LT(nearest.value, cosine);
        EXPECT_GE(coded(source, options(nearest)).report.distortion.cosine(), nearest.value);
      }
    }
  }
}

TEST_P(ErrorTarget, AsANoiseModelIsMetByClassMethodsAndRefusedByAllOthers) {
  const std::vector<float> values = make_data(Kind::heavy, 100 * 200);
  const auto source = test::one_tensor(values, {100, 200});
  const bool has_classes = !coded(source, sized(values.size())).report.pools[0].widths.empty();
  const CompressOptions options = this->options({TargetKind::hprime, 0.1});
  if (has_classes) {
    EXPECT_LE(coded(source, options).report.hprime(), 0.1);
    return;
  }
  const Error error = test::error_of([&] { coded(source, options); });
  EXPECT_EQ(error.code(), Errc::usage) << error.what();
  for (std::string_view part : {std::string_view("hprime"), info().name})
    EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
}

class OutOfReach : public EveryMethod {};

TEST_P(OutOfReach, IsKnownAfterAFewFrames) {
  // Many layers, whose parameters stand in the directory, as the factors of low rank do.
  const std::vector<float> values = make_data(Kind::heavy, 24 * 30, 5);
  auto source = std::make_shared<test::StoredSource>();
  for (int layer = 0; layer < 8; ++layer)
    source->add("layer" + std::to_string(layer), DType::f32, {24, 30}, values);
  for (const double bytes : {60.0, 400.0, 900.0}) {
    CompressOptions options = this->options({TargetKind::bytes, bytes});
    int frames = 0;
    options.progress = [&](uint64_t done, uint64_t total) { frames += done == total; };
    try {
      coded(source, options);
    } catch (const UnreachableTarget&) {
    }
    EXPECT_LE(frames, 25) << bytes;
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, Budget, testing::ValuesIn(methods()), test::row_name);
INSTANTIATE_TEST_SUITE_P(Registry, ErrorTarget, testing::ValuesIn(methods()), test::row_name);
INSTANTIATE_TEST_SUITE_P(Registry, OutOfReach, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
