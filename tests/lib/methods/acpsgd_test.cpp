// ACP-SGD against the worked vector of check_vectors.py 7 over two steps, and what its frames hold.
#include "jsq/state.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::Tensor;

TEST(AcpSgd, GivesBothStepsOfTheWorkedVector) {
  const std::vector<float> matrix = {1, 2, 0, 3, 0, -1};
  const Tensor tensor{{2, 3}, matrix, false, "w"};
  TensorInfo info;
  info.name = "w";
  info.shape = {2, 3};
  State state;
  state.bind("acpsgd", {&info});
  state.set("w", "q", {1, 0.5f, -0.5f});
  CompressOptions options = test::options_of("acpsgd:rank=1");
  options.state = &state;
  const std::vector<std::vector<double>> out = {
      {1.333333, 0.666667, -0.666667, 2.333333, 1.166667, -1.166667},
      {1.74359, 0.317949, -0.194872, 3.051282, 0.55641, -0.341026}};
  const std::vector<std::vector<double>> kept = {
      {-0.333333, 1.333333, 0.666667, 0.666667, -1.166667, 0.166667},
      {-1.076923, 3.015385, 0.861538, 0.615385, -1.723077, -0.492308}};
  for (size_t step = 0; step < 2; ++step) {
    const Coded result = coded({tensor}, options);
    for (size_t i = 0; i < 6; ++i) {
      EXPECT_NEAR(result.decoded[0][i], out[step][i], 2e-6) << step << ' ' << i;
      EXPECT_NEAR((*state.find("w", "e"))[i], kept[step][i], 2e-6) << step << ' ' << i;
    }
    // P has 2 numbers, Q 3.
    EXPECT_EQ(result.report.pools[0].payload_bits, 32 * (step == 0 ? 2u : 3u));
    EXPECT_EQ(state.number("w", "step"), step + 1);
  }
}

TEST(AcpSgd, SendsOneFactorInItsFirstStepAndDrawsTheOtherFromTheSeed) {
  const std::vector<float> values = test::make_data(test::Kind::gauss, 400 * 300);
  const Coded acp = coded({{{400, 300}, values}}, "acpsgd:rank=4", "native", 5),
              power = coded({{{400, 300}, values}}, "powersgd:rank=4", "native", 5);
  EXPECT_LT(acp.report.file_bytes, 4u * 4 * 400 + 200);
  EXPECT_GT(power.report.file_bytes, 4u * 4 * (400 + 270));
  EXPECT_EQ(acp.report.pools[0].payload_bits, 32u * 4 * 400);
  EXPECT_EQ(power.report.pools[0].payload_bits, 32u * 4 * 700);
  // The seed matters to what is decoded, and two tensors of one shape have bases of their own.
  const Coded other = coded({{{400, 300}, values}}, "acpsgd:rank=4", "native", 6);
  EXPECT_NE(acp.decoded[0], other.decoded[0]);
  const Coded both = coded({{{400, 300}, values}, {{400, 300}, values}}, "acpsgd:rank=4", "native", 5);
  EXPECT_EQ(both.decoded[0], acp.decoded[0]);
  EXPECT_NE(both.decoded[1], acp.decoded[0]);
  // M^ is the part of M in the span of Q: at right angles to what is left.
  double dot = 0;
  for (size_t i = 0; i < values.size(); ++i)
    dot += double(acp.decoded[0][i]) * (double(values[i]) - double(acp.decoded[0][i]));
  EXPECT_NEAR(dot, 0, 1e-5 * test::energy(values));
}

TEST(AcpSgd, HoldsBothFactorsWhereDecodersCannotDrawOne) {
  const std::vector<float> values = test::make_data(test::Kind::gauss, 400 * 300);
  // Stored by columns, the basis lies across the blocks.
  const Coded fortran = coded({{{400, 300}, values, true}}, "acpsgd:rank=4");
  EXPECT_GT(fortran.report.file_bytes, 4u * 4 * (270 + 400));
  EXPECT_EQ(fortran.report.pools[0].payload_bits, 32u * 4 * 400);
  State state;
  CompressOptions options = test::options_of("acpsgd:rank=4");
  options.state = &state;
  const std::vector<Tensor> tensors = {{{400, 300}, values, false, "w"}};
  const Coded first = coded(tensors, options), second = coded(tensors, options);
  EXPECT_LT(first.report.file_bytes, 4u * 4 * 400 + 200);
  EXPECT_GT(second.report.file_bytes, 4u * 4 * (270 + 400));
  EXPECT_EQ(second.report.pools[0].payload_bits, 32u * 4 * 300);
}

TEST(AcpSgd, ComesCloserToASteadyGradientStepByStep) {
  // Over a sequence with feedback the mean of what was sent approaches the gradient.
  const std::vector<float> values = test::make_data(test::Kind::heavy, 60 * 40);
  State state;
  CompressOptions options = test::options_of("acpsgd:rank=4");
  options.state = &state;
  std::vector<double> sent(values.size());
  std::vector<double> errors;
  for (int step = 1; step <= 64; ++step) {
    const Coded result = coded({{{60, 40}, values, false, "w"}}, options);
    double error = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      sent[i] += double(result.decoded[0][i]);
      error += (sent[i] / step - double(values[i])) * (sent[i] / step - double(values[i]));
    }
    errors.push_back(error / test::energy(values));
  }
  EXPECT_LT(errors[63], 0.25 * errors[15]);
  EXPECT_LT(errors[63], 0.1);
}

TEST(AcpSgd, TakesNoStepForAGradientOfZeros) {
  State state;
  CompressOptions options = test::options_of("acpsgd:rank=2");
  options.state = &state;
  const std::vector<float> values = test::make_data(test::Kind::gauss, 600), zeros(600);
  EXPECT_EQ(coded({{{20, 30}, zeros, false, "w"}}, options).decoded[0], zeros);
  EXPECT_FALSE(state.number("w", "step"));
  coded({{{20, 30}, values, false, "w"}}, options);
  EXPECT_EQ(state.number("w", "step"), 1u);
}

}  // namespace
}  // namespace jsq
