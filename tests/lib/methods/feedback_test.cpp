// Feedback rules against worked sequences, and a state that is a value: saved, loaded, refused where it does
// not belong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <optional>
#include <set>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/state.hpp"
#include "lib/core/seeds.hpp"
#include "lib/methods/feedback.hpp"

namespace jsq {
namespace {

using Values = std::vector<float>;

TensorInfo tensor(std::string name, std::vector<uint64_t> shape) {
  TensorInfo info;
  info.name = std::move(name);
  info.shape = std::move(shape);
  return info;
}

/// One step in a sequence; returns what the frame decodes to.
Values step(State& state, const std::string& method, const std::string& target, const Values& gradient,
            std::optional<Feedback> feedback = {}, const TensorInfo* info = nullptr) {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = parse_target(target);
  options.state = &state;
  options.feedback = feedback;
  MemorySink frame;
  const TensorInfo plain = tensor("w", {gradient.size()});
  compress({{"g", source_of(info ? *info : plain, gradient), {}, true}}, options, frame);
  Values decoded(gradient.size());
  FrameReader::from_bytes(frame.bytes).read(0, 0, decoded);
  return decoded;
}

void expect_near(const Values& found, const Values& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 1e-6) << i;
}

TEST(feedback, residuals_of_a_lossless_method_stay_zero) {
  State state;
  for (int i = 0; i < 3; ++i)
    EXPECT_EQ(step(state, "fp32", "native", {1, -2, 3}, Feedback::residual), (Values{1, -2, 3}));
  EXPECT_EQ(*state.find("w", "e"), (Values{0, 0, 0}));
  EXPECT_EQ(state.step, 3u);
}

TEST(feedback, what_is_sent_and_what_is_kept_add_up_to_the_gradients) {
  State state;
  Values sent(64), sum(64);
  for (int t = 0; t < 20; ++t) {
    Values gradient(64);
    for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = float(std::sin(double(i) + 0.7 * t));
    const Values decoded = step(state, "jointsq", "bpw=20", gradient);
    for (size_t i = 0; i < sum.size(); ++i) {
      sum[i] += gradient[i];
      sent[i] += decoded[i];
    }
  }
  const Values& kept = *state.find("w", "e");
  for (size_t i = 0; i < sum.size(); ++i) EXPECT_NEAR(sent[i] + kept[i], sum[i], 1e-4) << i;
}

TEST(feedback, masked_momentum_follows_the_worked_sequence) {
  // check_vectors.py 10: m = 0.9, k = 1. The compressor is played by hand here.
  State state;
  FeedbackRule rule{Feedback::masked, 0.9, false};
  FeedbackStep first = before_coding(rule, state, "w", Values{1, -.2f, .3f, .1f});
  expect_near(first.coded, {1, -.2f, .3f, .1f});
  after_coding(rule, state, "w", first, Values{1, 0, 0, 0});
  FeedbackStep second = before_coding(rule, state, "w", Values{.5f, -.4f, .1f, .2f});
  expect_near(second.u, {.5f, -.58f, .37f, .29f});
  expect_near(second.coded, {.5f, -.78f, .67f, .39f});
  after_coding(rule, state, "w", second, Values{0, -.78f, 0, 0});
  expect_near(*state.find("w", "u"), {.5f, 0, .37f, .29f});
  expect_near(*state.find("w", "v"), {.5f, 0, .67f, .39f});
}

TEST(feedback, nesterov_momentum_looks_one_step_ahead) {
  // u <- m (u + g), v <- v + u + g, by hand for m = 1/2 and g = 1, 1: u = .5, .75; v = 1.5, 3.25.
  State state;
  FeedbackRule rule{Feedback::masked, 0.5, true};
  after_coding(rule, state, "w", before_coding(rule, state, "w", Values{1}), Values{0});
  const FeedbackStep second = before_coding(rule, state, "w", Values{1});
  expect_near(second.u, {.75f});
  expect_near(second.coded, {3.25f});
}

TEST(feedback, clipping_bounds_the_norm_of_a_whole_step) {
  // |g| = 5 over two tensors (3 and 4), clip 2.5: everything is halved.
  State state;
  CompressOptions options;
  options.method = parse_method("dgc:density=1,momentum=0,clip=2.5");
  options.target = {TargetKind::native, 0};
  options.state = &state;
  const Values a = {3, 0}, b = {4};
  MemorySink frame;
  compress({{"a", source_of(tensor("a", {2}), a), {}, true}, {"b", source_of(tensor("b", {1}), b), {}, true}},
           options, frame);
  Values decoded(1);
  FrameReader::from_bytes(frame.bytes).read(1, 0, decoded);
  EXPECT_EQ(decoded[0], 2.0f);
}

TEST(feedback, warm_up_thins_out_step_by_step) {
  // check_vectors.py 10: density 0.001, E = 5 -> .316, .1, .0316, .01, .00316, .001.
  State state;
  const double shares[] = {.31623, .1, .031623, .01, .0031623, .001, .001};
  Values gradient(100000);
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = float(i + 1);
  for (double share : shares) {
    const Values decoded = step(state, "dgc:density=0.001,warmup=5", "native", gradient);
    const auto kept =
        double(std::count_if(decoded.begin(), decoded.end(), [](float value) { return value != 0; }));
    EXPECT_NEAR(kept, share * double(gradient.size()), 1.5 + 2e-5 * double(gradient.size()));
  }
}

TEST(feedback, signum_sends_the_running_mean) {
  State state;
  FeedbackRule rule{Feedback::momentum, 0.75, false};
  after_coding(rule, state, "w", before_coding(rule, state, "w", Values{4, -8}), Values{1, -1});
  expect_near(before_coding(rule, state, "w", Values{4, 8}).coded,
              {1.75f, .5f});  // .75 x (1, -2) + .25 x (4, 8)
}

TEST(feedback, a_non_finite_gradient_leaves_no_trace_in_the_state) {
  State state;
  CompressOptions options;
  options.method = parse_method("fp32");
  options.target = {TargetKind::native, 0};
  options.state = &state;
  options.feedback = Feedback::residual;
  options.nonfinite = NonFinitePolicy::keep;
  const Values gradient = {1, NAN, INFINITY, -2};
  MemorySink frame;
  compress({{"g", source_of(tensor("w", {4}), gradient), {}, true}}, options, frame);
  Values decoded(4);
  FrameReader::from_bytes(frame.bytes).read(0, 0, decoded);
  EXPECT_TRUE(std::isnan(decoded[1]) && std::isinf(decoded[2]));
  EXPECT_EQ(*state.find("w", "e"), (Values{0, 0, 0, 0}));
}

TEST(feedback, a_step_that_fails_leaves_the_state_as_it_was) {
  State state;
  step(state, "jointsq", "ratio=2", Values(4096, 0.5f));
  const Values before = *state.find("w", "e");
  EXPECT_THROW(step(state, "jointsq", "ratio=1e9", Values(4096, 0.25f)), Error);
  EXPECT_EQ(state.step, 1u);
  EXPECT_EQ(*state.find("w", "e"), before);
}

Errc code_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::internal;
}

TEST(state, refuses_another_method_shape_or_name) {
  State state;
  const Values gradient(6, 1.0f);
  const TensorInfo matrix = tensor("w", {2, 3}), other_shape = tensor("w", {3, 2}),
                   other_name = tensor("x", {2, 3});
  step(state, "fp32", "native", gradient, {}, &matrix);
  EXPECT_EQ(code_of([&] { step(state, "fp16", "native", gradient, {}, &matrix); }), Errc::usage);
  EXPECT_EQ(code_of([&] { step(state, "fp32", "native", gradient, {}, &other_shape); }), Errc::usage);
  EXPECT_EQ(code_of([&] { step(state, "fp32", "native", gradient, {}, &other_name); }), Errc::usage);
  step(state, "fp32", "native", gradient, {}, &matrix);
  EXPECT_EQ(state.step, 2u);
}

TEST(state, an_array_of_another_size_than_its_tensor_is_refused) {
  State state;
  const Values gradient = {1, -2, 3};
  step(state, "fp16", "native", gradient, Feedback::residual);
  state.set("w", "e", {0, 0});
  EXPECT_EQ(code_of([&] { step(state, "fp16", "native", gradient, Feedback::residual); }), Errc::usage);
}

std::string temporary_path() {
  std::string path = testing::TempDir() + "jsq-state-XXXXXX";
  const int descriptor = ::mkstemp(path.data());
  ::close(descriptor);
  return path;
}

TEST(state, comes_back_from_its_file_exactly) {
  State state;
  step(state, "fp16", "native", {0.1f, -0.3f, 1e-30f}, Feedback::residual);
  state.set_number("w", "parity", 1);
  MemorySink bytes;
  state.save(bytes);
  const std::string path = temporary_path();
  std::ofstream(path, std::ios::binary) << bytes.bytes;
  const State loaded = State::load(path);
  ::unlink(path.c_str());
  EXPECT_EQ(loaded.step, 1u);
  EXPECT_EQ(loaded.method, "fp16");
  EXPECT_EQ(*loaded.find("w", "e"), *state.find("w", "e"));
  EXPECT_EQ(loaded.number("w", "parity"), 1u);
  EXPECT_EQ(loaded.tensors().at("w").shape, state.tensors().at("w").shape);
}

TEST(state, a_frame_that_is_no_state_is_refused) {
  MemorySink frame;
  CompressOptions options;
  options.target = parse_target("ratio=2");
  const Values values(100, 1.0f);
  compress({{"g", source_of(tensor("w", {100}), values), {}, true}}, options, frame);
  const std::string path = temporary_path();
  std::ofstream(path, std::ios::binary) << frame.bytes;
  EXPECT_EQ(code_of([&] { State::load(path); }), Errc::usage);
  ::unlink(path.c_str());
}

TEST(seeds, steps_and_workers_have_streams_of_their_own) {
  EXPECT_EQ(step_seed(42, 0), 42u);
  EXPECT_EQ(stream_seed(42, 0), 42u);
  std::set<uint64_t> seen;
  for (uint64_t number = 1; number < 1000; ++number) {
    seen.insert(step_seed(42, number));
    seen.insert(stream_seed(42, uint32_t(number)));
    seen.insert(step_seed(43, number));
  }
  EXPECT_EQ(seen.size(), 3u * 999);
}

}  // namespace
}  // namespace jsq
