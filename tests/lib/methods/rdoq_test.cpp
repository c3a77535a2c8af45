// rdoq as a method: what it reaches on real dumps, the pack, layers, and what is special about its frames.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

struct Coded {
  std::string bytes;
  CompressReport report;
};

Coded coded(const std::vector<InputDump>& inputs, const Target& target, const std::string& method = "rdoq",
            unsigned threads = 0) {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = target;
  options.threads = threads;
  MemorySink sink;
  Coded result;
  result.report = compress(inputs, options, sink);
  result.bytes = std::move(sink.bytes);
  return result;
}

/// NMSE of what the frame decodes to, in double, without jsq's sums.
double measured(const GradientSource& source, const std::string& bytes) {
  const FrameReader reader = FrameReader::from_bytes(bytes);
  double error = 0, energy = 0;
  std::vector<float> scratch;
  for (size_t t = 0; t < source.tensors().size(); ++t) {
    const size_t n = size_t(source.tensors()[t].elements());
    std::vector<float> decoded(n);
    reader.read(t, 0, decoded);
    const auto values = source.read(t, 0, n, scratch);
    for (size_t i = 0; i < n; ++i) {
      error += (double(decoded[i]) - double(values[i])) * (double(decoded[i]) - double(values[i]));
      energy += double(values[i]) * double(values[i]);
    }
  }
  return error / energy;
}

const std::string sample = std::string(JSQ_SAMPLES_DIR) + "/resnet20_mid.npy";

TEST(Rdoq, ReachesItsErrorsOnAFlatDump) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  constexpr std::pair<double, double> limits[] = {
      {8, 0.0024}, {16, 0.035}, {32, 0.125}, {100, 0.35}, {1000, 0.715}};
  for (const auto& [ratio, nmse] : limits) {
    const Coded result = coded({{"grad.npy", source}}, {TargetKind::ratio, ratio});
    EXPECT_LE(double(result.bytes.size()), 4.0 * 269722 / ratio);
    EXPECT_GE(double(result.bytes.size()), 0.997 * std::floor(4.0 * 269722 / ratio) - 4) << ratio;
    EXPECT_LE(measured(*source, result.bytes), nmse) << ratio;
  }
}

/// A matrix that is row scale x column scale x noise, the same for every call.
std::vector<float> structured(size_t rows, size_t columns, uint64_t seed) {
  std::vector<float> values = test::make_data(test::Kind::gauss, rows * columns);
  for (size_t r = 0; r < rows; ++r)
    for (size_t c = 0; c < columns; ++c)
      values[r * columns + c] *=
          std::exp2(float((r * 7 + seed) % 9) / 2 - 2) * std::exp2(float((c * 5 + seed) % 7) / 2);
  return values;
}

TEST(Rdoq, LayersOfAFlatDumpSaveBytesAndLoseNothingElse) {
  std::vector<float> flat;
  std::vector<std::vector<uint64_t>> shapes;
  for (uint64_t k = 0; k < 4; ++k) {
    const std::vector<float> layer = structured(60, 50, k);
    flat.insert(flat.end(), layer.begin(), layer.end());
    shapes.push_back({60, 50});
  }
  TensorInfo info;
  info.shape = {flat.size()};
  const auto source = source_of(info, flat);
  InputDump alone{"grad.npy", source}, with_layers{"grad.npy", source};
  with_layers.layers[0] = shapes;
  const Target target{TargetKind::nmse, 0.05};
  const Coded plain = coded({alone}, target), shaped = coded({with_layers}, target);
  EXPECT_LE(measured(*source, plain.bytes), 0.05);
  EXPECT_LE(measured(*source, shaped.bytes), 0.05);
  EXPECT_LT(double(shaped.bytes.size()), 0.9 * double(plain.bytes.size()));
  // The dump is still one flat tensor.
  EXPECT_EQ(FrameReader::from_bytes(shaped.bytes).tensors()[0].info.shape, info.shape);
  // Shapes that are not its elements are refused.
  with_layers.layers[0].pop_back();
  EXPECT_THROW(coded({with_layers}, target), Error);
}

TEST(Rdoq, SmallTensorsShareOneStreamAndEachCanBeReadAlone) {
  std::vector<std::vector<float>> values;
  std::vector<InputDump> dumps;
  for (size_t k = 0; k < 20; ++k) {
    values.push_back(structured(20, 30, k));
    TensorInfo info;
    info.shape = {20, 30};
    dumps.push_back({"grad" + std::to_string(k) + ".npy", source_of(info, values.back())});
  }
  const Coded result = coded(dumps, {TargetKind::ratio, 16});
  const FrameReader reader = FrameReader::from_bytes(result.bytes);
  for (const FrameTensor& tensor : reader.tensors())
    for (uint64_t bytes : tensor.block_bytes) EXPECT_EQ(bytes, 0u);
  EXPECT_TRUE(reader.test(false).empty());
  for (size_t k : {19, 0, 7}) {
    std::vector<float> part(100), all(600);
    reader.read(k, 250, part);
    reader.read(k, 0, all);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), all.begin() + 250));
    double error = 0, energy = 0;
    for (size_t i = 0; i < 600; ++i) {
      error += std::pow(double(all[i]) - double(values[k][i]), 2);
      energy += std::pow(double(values[k][i]), 2);
    }
    EXPECT_LT(error, 0.2 * energy) << k;
  }
}

TEST(Rdoq, MeetsErrorTargetsClosely) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  for (double target : {1e-1, 1e-2, 1e-3, 1e-5}) {
    const double nmse = measured(*source, coded({{"grad.npy", source}}, {TargetKind::nmse, target}).bytes);
    EXPECT_LE(nmse, target);
    EXPECT_GE(nmse, 0.99 * target);
  }
  for (double target : {1e-2, 1e-4, 1e-6}) {
    const Coded result = coded({{"grad.npy", source}}, {TargetKind::maxabs, target});
    EXPECT_LE(result.report.distortion.max_error, target);
    EXPECT_GE(result.report.distortion.max_error, 0.95 * target);
  }
}

TEST(Rdoq, CopiesWhatFitsExactlyWhateverItsSize) {
  // 1.3 million elements, of which one in 80 is not zero: 26 bits each, and 0.1 bit an element to say where.
  std::vector<float> values(1300000);
  const std::vector<float> noise = test::make_data(test::Kind::gauss, values.size() / 80);
  for (size_t i = 0; i < noise.size(); ++i) values[i * 80 + i % 80] = noise[i];
  TensorInfo info;
  info.shape = {1300, 1000};
  const auto source = source_of(info, values);
  const Coded exact = coded({{"grad.npy", source}}, {TargetKind::ratio, 50});
  EXPECT_EQ(measured(*source, exact.bytes), 0);
  EXPECT_LT(exact.bytes.size(), 4 * values.size() / 50);
  EXPECT_GT(measured(*source, coded({{"grad.npy", source}}, {TargetKind::ratio, 200}).bytes), 0);
}

TEST(Rdoq, StochasticRoundingIsRightOnAverage) {
  // Scales over ten octaves, rows of zeros among them, in one block and in a pack.
  std::vector<float> values = structured(40, 32, 3);
  std::fill(values.begin() + 64, values.begin() + 128, 0.0f);
  for (size_t i = 0; i < 320; ++i) values[i + 320] *= 0x1p-8f;
  TensorInfo info;
  info.shape = {40, 32};
  const auto source = source_of(info, values);
  constexpr int draws = 400;
  std::vector<double> sum(values.size()), square(values.size());
  double error = 0, energy = 0;
  for (int seed = 0; seed < draws; ++seed) {
    CompressOptions options;
    options.method = parse_method("rdoq:preset=fast");
    options.target = {TargetKind::bpw, 2};
    options.rounding = Rounding::stochastic;
    options.seed = uint64_t(seed);
    MemorySink sink;
    compress({{"grad.npy", source}}, options, sink);
    EXPECT_LE(sink.bytes.size(), values.size() / 4);
    std::vector<float> decoded(values.size());
    FrameReader::from_bytes(sink.bytes).read(0, 0, decoded);
    for (size_t i = 0; i < values.size(); ++i) {
      sum[i] += double(decoded[i]);
      square[i] += double(decoded[i]) * double(decoded[i]);
      error += std::pow(double(decoded[i]) - double(values[i]), 2);
      energy += std::pow(double(values[i]), 2);
    }
  }
  EXPECT_LT(error, energy);
  size_t far = 0;
  double total = 0, variance_of_total = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double mean = sum[i] / draws, variance = std::max(0.0, square[i] / draws - mean * mean) / draws;
    if (values[i] == 0) {
      EXPECT_EQ(mean, 0) << i;
    }
    // A value that was never met has no variance to be judged by.
    far += variance > 0 && std::abs(mean - double(values[i])) > 4.5 * std::sqrt(variance) + 1e-7;
    total += (mean - double(values[i])) * (values[i] < 0 ? -1 : 1);
    variance_of_total += variance;
  }
  EXPECT_LE(far, 2u);  // of 1,280 rarely met values some have a skewed mean
  EXPECT_LT(std::abs(total), 4.5 * std::sqrt(variance_of_total));  // magnitudes do not shrink
}

TEST(Rdoq, MeetsCosinesClosely) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  for (const char* method : {"rdoq", "rdoq:levels=dependent"})
    for (const double cosine : {0.7, 0.95, 0.999}) {
      const Coded result = coded({{"grad.npy", source}}, {TargetKind::cosine, cosine}, method);
      const FrameReader reader = FrameReader::from_bytes(result.bytes);
      std::vector<float> decoded(269722), scratch;
      reader.read(0, 0, decoded);
      const auto values = source->read(0, 0, decoded.size(), scratch);
      double dot = 0, of_values = 0, of_decoded = 0;
      for (size_t i = 0; i < decoded.size(); ++i) {
        dot += double(values[i]) * double(decoded[i]);
        of_values += double(values[i]) * double(values[i]);
        of_decoded += double(decoded[i]) * double(decoded[i]);
      }
      const double found = dot / std::sqrt(of_values * of_decoded);
      EXPECT_GE(found, cosine) << method;
      EXPECT_LE(1 - found, 1 - cosine);
      EXPECT_GE(1 - found, 0.98 * (1 - cosine)) << method;
    }
}

TEST(Rdoq, DependentLevelsLoseLessInTheSameBytes) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  // In dB: what trellises of 8 states are known to gain falls from about 1 at high rates to little at low
  // ones.
  constexpr std::pair<double, double> gains[] = {{8, 0.7}, {32, 0.3}, {100, 0.1}};
  for (const auto& [ratio, gain] : gains) {
    const Target target{TargetKind::ratio, ratio};
    const Coded without = coded({{"grad.npy", source}}, target, "rdoq:levels=independent"),
                with = coded({{"grad.npy", source}}, target, "rdoq:levels=dependent");
    EXPECT_LE(double(with.bytes.size()), 4.0 * 269722 / ratio);
    EXPECT_GE(double(with.bytes.size()), 0.997 * std::floor(4.0 * 269722 / ratio) - 4) << ratio;
    EXPECT_LT(10 * std::log10(measured(*source, with.bytes) / measured(*source, without.bytes)), -gain)
        << ratio;
  }
}

TEST(Rdoq, TakesDependentLevelsByDefaultInSmallPoolsAtABitAnElementAndMore) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  const auto bytes_at = [&](double ratio, const char* method) {
    return coded({{"grad.npy", source}}, {TargetKind::ratio, ratio}, method).bytes;
  };
  EXPECT_EQ(bytes_at(10, "rdoq"), bytes_at(10, "rdoq:levels=dependent"));
  EXPECT_EQ(bytes_at(40, "rdoq"), bytes_at(40, "rdoq:levels=independent"));
  EXPECT_EQ(bytes_at(10, "rdoq:preset=fast"), bytes_at(10, "rdoq:preset=fast,levels=independent"));
}

TEST(Rdoq, DependentLevelsMeetAnErrorInFewerBytes) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  for (double nmse : {1e-1, 1e-3}) {
    const Target target{TargetKind::nmse, nmse};
    const Coded without = coded({{"grad.npy", source}}, target, "rdoq:levels=independent"),
                with = coded({{"grad.npy", source}}, target, "rdoq:levels=dependent");
    EXPECT_LE(measured(*source, with.bytes), nmse);
    EXPECT_LT(double(with.bytes.size()), 0.97 * double(without.bytes.size())) << nmse;
  }
}

TEST(Rdoq, DependentLevelsAreTheSameOnAnyNumberOfThreads) {
  const std::shared_ptr<const GradientSource> source = open_gradients(sample);
  const Target target{TargetKind::ratio, 20};
  EXPECT_EQ(coded({{"grad.npy", source}}, target, "rdoq:levels=dependent", 1).bytes,
            coded({{"grad.npy", source}}, target, "rdoq:levels=dependent", 4).bytes);
}

TEST(Rdoq, CodesExtremeTensors) {
  std::map<std::string, std::vector<float>> cases;
  cases["constant"] = std::vector<float>(5000, 0.37f);
  cases["ternary"] = std::vector<float>(5000);
  for (size_t i = 0; i < 5000; ++i) cases["ternary"][i] = float(int(i * 7 % 3) - 1) * 0.02f;
  cases["one element"] = {3.5f};
  cases["outlier"] = test::make_data(test::Kind::gauss, 5000);
  cases["outlier"][777] = -1e30f;
  cases["zeros"] = std::vector<float>(5000);
  for (const auto& [name, values] : cases) {
    SCOPED_TRACE(name);
    TensorInfo info;
    info.shape = {values.size()};
    const auto source = source_of(info, values);
    // A sign takes a bit whatever it is, so that 5,000 equal values take 625 bytes; 5,000 of three, 991.
    for (const char* method : {"rdoq", "rdoq:levels=dependent"}) {
      const Coded result = coded({{"grad.npy", source}}, {TargetKind::bytes, 1200}, method);
      EXPECT_LE(result.bytes.size(), 1200u);
      std::vector<float> decoded(values.size());
      FrameReader::from_bytes(result.bytes).read(0, 0, decoded);
      double error = 0, energy = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        ASSERT_TRUE(std::isfinite(decoded[i]));
        error += std::pow(double(decoded[i]) - double(values[i]), 2);
        energy += std::pow(double(values[i]), 2);
      }
      EXPECT_LE(error, 1e-3 * energy);
    }
  }
}

TEST(Rdoq, LayersInAParameterSetAreReadBackWithTheirRepeats) {
  RdoqParameters parameters;
  parameters.layers[3] = {{16, 3, 3, 3},  {16}, {16}, {16, 16, 3, 3}, {16}, {16},
                          {16, 16, 3, 3}, {16}, {16}, {10, 64},       {}};
  parameters.layers[9] = {{7}};
  const std::string bytes = write_rdoq_parameters(parameters);
  const RdoqParameters back = read_rdoq_parameters(bytes, "set");
  EXPECT_EQ(back.layers, parameters.layers);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_THROW(read_rdoq_parameters(bytes.substr(0, size), "set"), Error) << size;
}

}  // namespace
}  // namespace jsq
