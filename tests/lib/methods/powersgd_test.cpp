// PowerSGD against the worked vector of check_vectors.py 6, its identities, and matrices that are none.
#include <cfloat>
#include <cmath>

#include "jsq/state.hpp"
#include "kernels/element/philox.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/low_rank.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::energy;
using test::squared_error;
using test::Tensor;

/// rank exact directions of decreasing size, and noise.
std::vector<float> low_rank_matrix(size_t n, size_t m, size_t rank, double noise, uint64_t seed = 1) {
  test::Random random(seed);
  std::vector<double> p(n * rank), q(m * rank);
  for (double& x : p) x = random.normal();
  for (double& x : q) x = random.normal();
  std::vector<float> values(n * m);
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < m; ++j) {
      double sum = noise * random.normal();
      for (size_t k = 0; k < rank; ++k) sum += p[k * n + i] * q[k * m + j] / double(k + 1);
      values[i * m + j] = float(sum);
    }
  return values;
}

/// A step of a sequence that begins with the arrays and numbers in `start`.
Coded step_from(const Tensor& tensor, const std::string& method, State& state) {
  CompressOptions options = test::options_of(method);
  options.state = &state;
  return coded({tensor}, options);
}

State state_with(const Tensor& tensor, const std::string& method, const std::string& array,
                 std::vector<float> values) {
  TensorInfo info;
  info.name = tensor.name;
  info.shape = tensor.shape;
  State state;
  state.bind(method, {&info});
  state.set(tensor.name, array, std::move(values));
  return state;
}

const std::vector<float> worked_matrix = {1, 2, 0, 3, 0, -1}, worked_start = {1, 0.5f, -0.5f};

TEST(PowerSgd, GivesTheWorkedVector) {
  const Tensor tensor{{2, 3}, worked_matrix, false, "w"};
  State state = state_with(tensor, "powersgd", "q", worked_start);
  const Coded result = step_from(tensor, "powersgd:rank=1", state);
  const double expected[] = {1.538462, 0.492308, -0.430769, 2.692308, 0.861538, -0.753846};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(result.decoded[0][i], expected[i], 1e-6) << i;
  EXPECT_NEAR(squared_error(worked_matrix, result.decoded[0]), 3.646154, 1e-6);
  EXPECT_NEAR(result.report.pools[0].expected_squared_error, 3.646154, 1e-6);
  EXPECT_EQ(result.report.pools[0].payload_bits, 32u * (2 + 3));
  // Q = [3.100868, .992278, -.868243] stays as the next start, up to its length.
  const std::vector<float>& q = *state.find("w", "q");
  ASSERT_EQ(q.size(), 3u);
  EXPECT_NEAR(q[1] / q[0], 0.992278 / 3.100868, 1e-6);
  EXPECT_NEAR(q[2] / q[0], -0.868243 / 3.100868, 1e-6);
}

TEST(PowerSgd, StoresColumnsOfAFortranMatrixAsTheSameMatrix) {
  const Tensor rows{{2, 3}, worked_matrix, false, "w"};
  const Tensor columns{{2, 3}, {1, 3, 2, 0, 0, -1}, true, "w"};
  State one = state_with(rows, "powersgd", "q", worked_start),
        other = state_with(columns, "powersgd", "q", worked_start);
  const Coded a = step_from(rows, "powersgd:rank=1", one), b = step_from(columns, "powersgd:rank=1", other);
  for (size_t i = 0; i < 2; ++i)
    for (size_t j = 0; j < 3; ++j) EXPECT_NEAR(a.decoded[0][i * 3 + j], b.decoded[0][j * 2 + i], 1e-6);
  // Four dimensions: shape[0] is the fastest axis in storage, and still the rows.
  const std::vector<float> exact = low_rank_matrix(60, 8, 2, 0);
  const Coded folded = coded({{{8, 5, 4, 3}, exact, true}}, "powersgd:rank=2");
  EXPECT_LT(squared_error(exact, folded.decoded[0]), 1e-10 * energy(exact));
}

TEST(PowerSgd, RestoresAMatrixOfItsRank) {
  for (size_t rank : {1u, 2u, 5u})
    for (const char* factor : {"f32", "f16"}) {
      const std::vector<float> exact = low_rank_matrix(70, 90, rank, 0);
      const Coded result =
          coded({{{70, 90}, exact}}, "powersgd:rank=" + std::to_string(rank) + ",factor=" + factor);
      EXPECT_LT(squared_error(exact, result.decoded[0]), (factor[1] == '3' ? 1e-11 : 1e-5) * energy(exact));
    }
}

TEST(PowerSgd, LosesNothingMoreBeyondTheRankOfTheMatrix) {
  // The surplus columns of P are rounding errors; they must stay apart from the others.
  for (size_t rank : {2u, 3u, 8u, 20u}) {
    const std::vector<float> exact = low_rank_matrix(70, 90, 1, 0);
    const Coded result = coded({{{70, 90}, exact}}, "powersgd:rank=" + std::to_string(rank));
    EXPECT_LT(squared_error(exact, result.decoded[0]), 1e-11 * energy(exact)) << rank;
  }
}

TEST(PowerSgd, LosesTheEnergyThatQDoesNotHave) {
  const std::vector<float> values = low_rank_matrix(100, 120, 6, 0.5);
  const Tensor tensor{{100, 120}, values, false, "w"};
  for (const char* method : {"powersgd:rank=1", "powersgd:rank=4", "powersgd:rank=4,iters=3"}) {
    const Coded result = coded({tensor}, method);
    // |M^|^2 = |Q|^2 since P is orthonormal.
    EXPECT_NEAR(squared_error(values, result.decoded[0]), energy(values) - energy(result.decoded[0]),
                1e-6 * energy(values));
  }
}

TEST(PowerSgd, GainsFromRankIterationsAndTheStepBefore) {
  const std::vector<float> values = low_rank_matrix(128, 200, 8, 1.0);
  const Tensor tensor{{128, 200}, values, false, "w"};
  const auto error = [&](const std::string& method) {
    return squared_error(values, coded({tensor}, method).decoded[0]);
  };
  EXPECT_LT(error("powersgd:rank=2"), error("powersgd:rank=1"));
  EXPECT_LT(error("powersgd:rank=4"), error("powersgd:rank=2"));
  EXPECT_LT(error("powersgd:rank=2,iters=4"), error("powersgd:rank=2"));
  // The same gradient again and no feedback: a step is one more iteration.
  State state;
  CompressOptions options = test::options_of("powersgd:rank=2");
  options.state = &state;
  options.feedback = Feedback::none;
  std::vector<float> last;
  for (int step = 0; step < 4; ++step) last = coded({tensor}, options).decoded[0];
  EXPECT_NEAR(squared_error(values, last), error("powersgd:rank=2,iters=4"), 1e-4 * energy(values));
}

TEST(PowerSgd, ComputesTheFirstColumnsOfALargerRankTheSame) {
  const std::vector<float> values = low_rank_matrix(300, 400, 8, 1.0);
  const std::vector<Tensor> tensors = {{{300, 400}, values}};
  // A target's search passes through other ranks; what it ends at is what the rank alone gives.
  const Coded searched = coded(tensors, "powersgd", "ratio=30");
  const FrameReader reader = FrameReader::from_bytes(searched.frame);
  const std::string found = reader.method_of(0);
  EXPECT_EQ(coded(tensors, found).decoded, searched.decoded) << found;
}

TEST(PowerSgd, CodesMatricesOfOneRowOrColumnAndZeros) {
  for (const auto& [n, m] :
       {std::pair<uint64_t, uint64_t>{1, 1}, {1, 7}, {7, 1}, {2, 2}, {3, 2}, {1, 70000}, {70000, 1}}) {
    const std::vector<float> values = test::make_data(test::Kind::gauss, n * m);
    for (const char* method : {"powersgd:rank=1,dense-below=0", "powersgd:rank=9,dense-below=0",
                               "powersgd:rank=9", "acpsgd:rank=9,dense-below=0"}) {
      const Coded result = coded({{{n, m}, values}}, method);
      if (std::string(method).starts_with("powersgd:rank=9")) {  // every rank that there is
        EXPECT_LT(squared_error(values, result.decoded[0]), 1e-10 * energy(values))
            << method << n << 'x' << m;
      }
      const Coded zeros = coded({{{n, m}, std::vector<float>(n * m)}}, method);
      for (float value : zeros.decoded[0]) ASSERT_EQ(value, 0.0f);
    }
  }
}

TEST(PowerSgd, KeepsZeroRowsAndColumnsZeroAndFinite) {
  std::vector<float> values = low_rank_matrix(40, 50, 3, 0.1);
  for (size_t j = 0; j < 50; ++j) values[7 * 50 + j] = 0;
  for (size_t i = 0; i < 40; ++i) values[i * 50 + 11] = 0;
  const Coded result = coded({{{40, 50}, values}}, "powersgd:rank=4");
  for (size_t i = 0; i < 40; ++i)
    for (size_t j = 0; j < 50; ++j) {
      ASSERT_TRUE(std::isfinite(result.decoded[0][i * 50 + j]));
      if (i == 7 || j == 11) {
        ASSERT_EQ(result.decoded[0][i * 50 + j], 0.0f);
      }
    }
}

TEST(PowerSgd, SpansTheRangeOfF32) {
  const std::vector<float> plain = low_rank_matrix(30, 40, 2, 0.3);
  for (const char* method : {"powersgd:rank=2", "powersgd:rank=2,factor=f16", "acpsgd:rank=2"}) {
    const double nmse = coded({{{30, 40}, plain}}, method).report.distortion.nmse();
    for (float factor : {0x1p-120f, 0x1p+123f}) {
      std::vector<float> scaled = plain;
      for (float& value : scaled) value *= factor;
      EXPECT_NEAR(coded({{{30, 40}, scaled}}, method).report.distortion.nmse(), nmse, 1e-4 * nmse + 1e-12)
          << method;
    }
    for (test::Kind kind : test::all_kinds) {
      const std::vector<float> values = test::make_data(kind, 30 * 40);
      const Coded result = coded({{{30, 40}, values}}, method);
      for (float value : result.decoded[0]) ASSERT_TRUE(std::isfinite(value)) << test::kind_name(kind);
    }
    const Coded largest = coded({{{30, 40}, std::vector<float>(1200, FLT_MAX)}}, method);
    for (float value : largest.decoded[0]) ASSERT_TRUE(std::isfinite(value));
  }
}

TEST(PowerSgd, StoresWholeWhatIsNoMatrixAndSaysHowMuch) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, 1000);
  const std::vector<Tensor> tensors = {{{1000}, values},   {{}, {3.5f}},        {{10, 100}, values},
                                       {{2, 500}, values}, {{1, 1000}, values}, {{0, 5}, {}}};
  const Coded result = coded(tensors, "powersgd:rank=1");
  EXPECT_EQ(result.report.pools[0].dense_tensors, 4u);  // a vector, a scalar, one row, an empty one
  const FrameReader reader = FrameReader::from_bytes(result.frame);
  EXPECT_EQ(reader.method_of(0), "fp32");
  EXPECT_EQ(reader.method_of(1), "fp32");
  EXPECT_EQ(reader.method_of(2), "powersgd:rank=1,factor=f32");
  EXPECT_EQ(reader.method_of(3), "powersgd:rank=1,factor=f32");
  EXPECT_EQ(reader.method_of(4), "fp32");
  for (size_t t : {0u, 1u, 4u}) EXPECT_EQ(result.decoded[t], tensors[t].values);
  EXPECT_EQ(coded(tensors, "powersgd:rank=1,dense-below=2").report.pools[0].dense_tensors, 5u);
  EXPECT_EQ(coded(tensors, "powersgd:rank=1,dense-below=0").report.pools[0].dense_tensors, 3u);
}

TEST(PowerSgd, TakesNeitherMoreThanABudgetNorMoreErrorThanATarget) {
  const std::vector<Tensor> tensors = {{{200, 300}, low_rank_matrix(200, 300, 20, 0.5)},
                                       {{64, 32, 3, 3}, low_rank_matrix(64, 288, 10, 1, 2)},
                                       {{500}, test::make_data(test::Kind::gauss, 500)}};
  uint64_t elements = 0;
  for (const Tensor& tensor : tensors) elements += tensor.values.size();
  for (double ratio : {2.0, 5.0, 12.0, 20.0}) {
    const Coded result = coded(tensors, "powersgd", "ratio=" + std::to_string(ratio));
    EXPECT_LE(double(result.report.file_bytes) * ratio, double(4 * elements));
    // Ranks are steps of 3.4 KB here, and parameters take less in the frame than on their own.
    EXPECT_GE(double(result.report.file_bytes) * ratio, 0.75 * double(4 * elements)) << ratio;
  }
  for (const char* target : {"nmse=0.3", "nmse=0.01", "maxabs=2"}) {
    const Coded result = coded(tensors, "powersgd", target);
    const double value = std::stod(std::string(target).substr(std::string(target).find('=') + 1));
    EXPECT_LE(target[0] == 'n' ? result.report.distortion.nmse() : result.report.distortion.max_error, value);
  }
}

/// Decodes one block of a matrix; true when it was refused as damaged, false when it gave finite values.
bool refused(const MethodRow& row, const std::string& parameters, const TensorInfo& info, uint64_t first,
             size_t count, const std::string& block) {
  std::vector<float> values(count);
  try {
    row.make_decoder(parameters, "parameters")->decode_block({0, first, &info, 1}, block, values, "block");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::damaged) << error.what();
    return true;
  }
  for (float value : values) EXPECT_TRUE(std::isfinite(value));
  return false;
}

TEST(LowRankDecoder, RefusesWhatNoEncoderWrites) {
  TensorInfo info;
  info.shape = {20, 30};
  const std::vector<float> values = low_rank_matrix(20, 30, 3, 0.1);
  for (const auto& [row, method] : {std::pair(&powersgd_row, "powersgd:rank=2"),
                                    {&powersgd_row, "powersgd:rank=2,factor=f16"},
                                    {&acpsgd_row, "acpsgd:rank=2"}}) {
    const auto source = source_of(info, values);
    PoolTensor tensor;
    tensor.source = source.get();
    tensor.info = &source->tensors()[0];
    const TensorPool pool({tensor});
    const auto encoder = make_encoder(*row, pool, parse_method(method), {});
    encoder->aim_native();
    const std::string parameters = encoder->stored_set(0).parameters;
    std::string block;
    BlockSums sums;
    encoder->encode_block(0, 0, values, block, sums);
    EXPECT_FALSE(refused(*row, parameters, info, 0, 600, block));
    for (size_t size = 0; size < parameters.size(); ++size)
      EXPECT_TRUE(refused(*row, parameters.substr(0, size), info, 0, 600, block)) << size;
    EXPECT_TRUE(refused(*row, parameters + '\0', info, 0, 600, block));
    for (size_t size = 0; size < block.size(); ++size)
      EXPECT_TRUE(refused(*row, parameters, info, 0, 600, block.substr(0, size))) << size;
    EXPECT_TRUE(refused(*row, parameters, info, 0, 600, block + '\0'));
    for (size_t at = 0; at < 8 * (parameters.size() + block.size()); ++at) {  // one bit: refused or finite
      std::string p = parameters, b = block;
      char& byte = at / 8 < p.size() ? p[at / 8] : b[at / 8 - p.size()];
      byte = char(byte ^ (1 << at % 8));
      refused(*row, p, info, 0, 600, b);
    }
    TensorInfo vector;
    vector.shape = {600};
    EXPECT_TRUE(refused(*row, parameters, vector, 0, 600, block));
    TensorInfo other;
    other.shape = {30, 20};
    EXPECT_TRUE(refused(*row, parameters, other, 0, 600, block));
  }
}

TEST(LowRankDecoder, DrawsNoFactorOfASizeThatAFileMerelyClaims) {
  // Flags, rank 1, exponent 0: a basis of 2^40 numbers would be drawn for a block with one row of one number.
  const std::string parameters = {2, 1, char(0xac), 2}, block(4, '\0');
  TensorInfo info;
  info.shape = {2, uint64_t(1) << 40};
  EXPECT_TRUE(refused(acpsgd_row, parameters, info, 0, 65536, block));
  info.shape = {70000, 30};
  EXPECT_FALSE(refused(acpsgd_row, parameters, info, 0, 30, block));
  info.fortran_order = true;
  EXPECT_TRUE(refused(acpsgd_row, parameters, info, 0, 30, block));
  EXPECT_TRUE(refused(powersgd_row, parameters, info, 0, 30, block));
}

TEST(StartColumn, IsNearlyNormalAndDependsOnItsPlaceOnly) {
  std::vector<double> column(200000);
  start_column(3, 1, 2, column);
  double mean = 0, square = 0, fourth = 0;
  for (double x : column) {
    mean += x;
    square += x * x;
    fourth += x * x * x * x;
  }
  const double n = double(column.size());
  EXPECT_NEAR(mean / n, 0, 5 / std::sqrt(n));
  EXPECT_NEAR(square / n, 1, 5 * std::sqrt(2 / n));
  EXPECT_NEAR(fourth / n, 3 - 1.2 / 12, 0.08);  // a sum of 12 uniforms
  // Twelve halves of words, less their mean: element 1000.
  int64_t sum = -6 * 65535;
  for (uint64_t w = 0; w < 6; ++w) {
    const uint32_t word =
        element::random_word(3, 6 * (2 * 200000 + 1000) + w, 1, element::RandomPurpose::start);
    sum += word % 65536 + word / 65536;
  }
  EXPECT_EQ(column[1000], double(sum) / 65536);
}

TEST(Orthonormalise, GivesUnitColumnsAtRightAnglesAndZeroForWhatDependsOnOthers) {
  constexpr size_t length = 50, count = 6;
  test::Random random(9);
  std::vector<double> columns(length * count);
  for (double& x : columns) x = random.normal();
  for (size_t i = 0; i < length; ++i) {
    columns[1 * length + i] = 0;                                    // zero
    columns[3 * length + i] = columns[i] + 1e-9 * random.normal();  // nearly the first
    columns[4 * length + i] *= 1e-100;                              // tiny, not zero
    columns[5 * length + i] = 1e100 * columns[2 * length + i];      // a multiple
  }
  orthonormalise(columns, length, 0);
  for (size_t a = 0; a < count; ++a)
    for (size_t b = 0; b <= a; ++b) {
      double dot = 0;
      for (size_t i = 0; i < length; ++i) dot += columns[a * length + i] * columns[b * length + i];
      const bool zero = a == 1 || b == 1;  // and the last one is a direction of rounding errors, or nothing
      if (a == 5 && b == 5) continue;
      EXPECT_NEAR(dot, a == b && !zero ? 1 : 0, zero ? 0 : 1e-14) << a << b;
    }
  for (double x : columns) ASSERT_TRUE(std::isfinite(x));
}

}  // namespace
}  // namespace jsq
