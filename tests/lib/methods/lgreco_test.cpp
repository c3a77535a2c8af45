// L-GreCo around other methods: never worse than one size for all, within its limits, and stored as its base.
#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::Tensor;

/// Layers of different sizes and scales, as a model has them.
std::vector<Tensor> layers() {
  std::vector<Tensor> tensors;
  const std::vector<std::vector<uint64_t>> shapes = {{16, 27},   {16},      {64, 144}, {64},
                                                     {128, 576}, {10, 128}, {300, 40}, {1}};
  test::Random random(3);
  for (const auto& shape : shapes) {
    Tensor tensor;
    tensor.shape = shape;
    size_t elements = 1;
    for (uint64_t extent : shape) elements *= extent;
    const float scale = float(std::exp(1.5 * random.normal()));
    for (size_t i = 0; i < elements; ++i) tensor.values.push_back(scale * random.heavy(1.0));
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

uint64_t stored_bytes(const Coded& result) {
  uint64_t bytes = result.report.parameter_bytes;
  const FrameReader reader = FrameReader::from_bytes(result.frame);
  for (const FrameTensor& tensor : reader.tensors())
    for (uint64_t size : tensor.block_bytes) bytes += size;
  return bytes;
}

TEST(LGreco, TakesNoMoreBytesThanOneSizeAtNoMoreError) {
  for (const char* base : {"qsgd", "powersgd", "thc", "acpsgd"}) {
    const Coded plain = coded(layers(), base), chosen = coded(layers(), std::string("lgreco:base=") + base);
    EXPECT_LE(chosen.report.distortion.squared_error, plain.report.distortion.squared_error * (1 + 1e-12))
        << base;
    EXPECT_LE(stored_bytes(chosen), stored_bytes(plain) + 64) << base;
  }
  // Where layers differ there is something to gain.
  EXPECT_LT(stored_bytes(coded(layers(), "lgreco")), 0.95 * double(stored_bytes(coded(layers(), "qsgd"))));
}

TEST(LGreco, AllowsAlphaTimesTheErrorOfTheBase) {
  const double plain = coded(layers(), "qsgd").report.distortion.squared_error;
  uint64_t before = UINT64_MAX;
  for (double alpha : {0.5, 1.0, 2.0, 8.0}) {
    const Coded result = coded(layers(), "lgreco:alpha=" + std::to_string(alpha));
    EXPECT_LE(result.report.distortion.squared_error, alpha * plain * (1 + 1e-12));
    EXPECT_LT(stored_bytes(result), before);
    before = stored_bytes(result);
  }
}

TEST(LGreco, SumsTheNormsOfThePaperWhereAsked) {
  const Coded plain = coded(layers(), "qsgd"), result = coded(layers(), "lgreco:metric=l2sum");
  double allowed = 0, found = 0;
  for (size_t t = 0; t < plain.report.tensors.size(); ++t) {
    allowed += std::sqrt(plain.report.tensors[t].distortion.squared_error);
    found += std::sqrt(result.report.tensors[t].distortion.squared_error);
  }
  EXPECT_LE(found, allowed * (1 + 1e-12));
  EXPECT_LE(stored_bytes(result), stored_bytes(plain) + 64);
}

TEST(LGreco, LosesLessThanItsBaseUnderTheSameBudget) {
  for (const char* base : {"qsgd", "powersgd"})
    for (double ratio : {4.0, 8.0, 12.0}) {
      const std::string target = "ratio=" + std::to_string(ratio);
      const Coded plain = coded(layers(), base, target),
                  chosen = coded(layers(), std::string("lgreco:base=") + base, target);
      EXPECT_LE(chosen.report.file_bytes, chosen.report.budget_bytes) << base << ratio;
      EXPECT_GE(double(chosen.report.file_bytes), 0.98 * double(chosen.report.budget_bytes)) << base << ratio;
      EXPECT_LE(chosen.report.distortion.nmse(), plain.report.distortion.nmse() * 1.0001) << base << ratio;
    }
}

TEST(LGreco, MeetsErrorsWithFewerBytesThanItsBase) {
  for (const char* target : {"nmse=0.1", "nmse=0.003", "maxabs=0.05"})
    for (const char* base : {"qsgd", "powersgd"}) {
      const Coded plain = coded(layers(), base, target),
                  chosen = coded(layers(), std::string("lgreco:base=") + base, target);
      const double allowed = std::stod(std::string(target).substr(std::string(target).find('=') + 1));
      EXPECT_LE(target[0] == 'n' ? chosen.report.distortion.nmse() : chosen.report.distortion.max_error,
                allowed);
      EXPECT_LE(stored_bytes(chosen), stored_bytes(plain) + 64) << target << base;
    }
}

TEST(LGreco, LeavesFramesOfItsBase) {
  const Coded result = coded(layers(), "lgreco:base=powersgd", "ratio=6");
  const FrameReader reader = FrameReader::from_bytes(result.frame);
  for (size_t t = 0; t < reader.tensors().size(); ++t)
    EXPECT_TRUE(reader.method_of(t).starts_with("powersgd:rank=") || reader.method_of(t) == "fp32")
        << reader.method_of(t);
  EXPECT_GE(result.report.pools[0].dense_tensors, 3u);
}

TEST(LGreco, WorksOnOneTensorAsItsBaseDoes) {
  const std::vector<Tensor> one = {{{128, 576}, test::make_data(test::Kind::heavy, 128 * 576)}};
  const Coded plain = coded(one, "qsgd", "ratio=9"), chosen = coded(one, "lgreco", "ratio=9");
  EXPECT_LE(chosen.report.file_bytes, chosen.report.budget_bytes);
  EXPECT_GE(double(chosen.report.file_bytes), 0.99 * double(plain.report.file_bytes));
}

TEST(LGreco, LeavesATensorAloneAtTheSizeOfItsBase) {
  const std::vector<Tensor> alone = {layers()[4]};
  EXPECT_EQ(coded(alone, "lgreco").frame, coded(alone, "qsgd").frame);
  EXPECT_LT(stored_bytes(coded(alone, "lgreco:alpha=3")), stored_bytes(coded(alone, "qsgd")));
}

TEST(LGreco, CodesZerosAndNothing) {
  const Coded zeros = coded({{{3, 4}, std::vector<float>(12)}, {{0}, {}}}, "lgreco");
  EXPECT_EQ(zeros.decoded[0], std::vector<float>(12));
  EXPECT_EQ(coded({}, "lgreco").report.elements, 0u);
}

TEST(LGreco, GivesTheSameBytesOnAnyNumberOfThreads) {
  CompressOptions options = test::options_of("lgreco", "ratio=10");
  const std::string one = coded(layers(), options).frame;
  options.threads = 4;
  EXPECT_EQ(coded(layers(), options).frame, one);
}

TEST(LGreco, RefusesBasesWithoutASize) {
  for (const char* base : {"jointsq", "fp16", "lgreco", "nothing"})
    EXPECT_EQ(test::code_of([&] { coded(layers(), std::string("lgreco:base=") + base); }), Errc::usage)
        << base;
  std::string message;
  EXPECT_EQ(test::code_of([&] { coded(layers(), "lgreco:base=thc", "nmse=1e-6"); }, &message),
            Errc::unreachable_target);
  // The error that the message names can be asked for.
  const std::string nearest = message.substr(message.rfind('=') + 1);
  EXPECT_LE(coded(layers(), "lgreco:base=thc", "nmse=" + nearest).report.distortion.nmse(),
            std::stod(nearest));
  EXPECT_EQ(test::code_of([&] { coded(layers(), "lgreco", "hprime=0.1"); }), Errc::usage);
  EXPECT_EQ(test::code_of([&] { coded(layers(), "lgreco", "ratio=5000"); }), Errc::unreachable_target);
}

}  // namespace
}  // namespace jsq
