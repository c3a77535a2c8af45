#include "lib/methods/feedback.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jsq/error.hpp"
#include "jsq/uncompressed.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

bool has_option(const MethodInfo& info, std::string_view key) {
  return std::any_of(info.options.begin(), info.options.end(),
                     [&](const MethodOption& option) { return option.name == key; });
}

std::vector<float> array_or_zeros(const State& state, const std::string& tensor, const std::string& array,
                                  size_t elements) {
  const std::vector<float>* known = state.find(tensor, array);
  if (known == nullptr) return std::vector<float>(elements, 0.0f);
  if (known->size() != elements)
    throw Error(Errc::usage, "state: array '" + array + "' of tensor '" + tensor + "' has " +
                                 std::to_string(known->size()) + " elements, but the tensor has " +
                                 std::to_string(elements));
  return *known;
}

}  // namespace

void set_feedback(CompressOptions& options, std::string_view text) {
  constexpr std::string_view momentum = "momentum";
  const auto refuse = [&](const char* expected) {
    throw Error(Errc::usage, "error feedback '" + std::string(text) + "': expected " + expected);
  };
  options.feedback.reset();
  options.momentum.reset();
  if (text == "auto") return;
  if (text == "none") {
    options.feedback = Feedback::none;
  } else if (text == "plain") {
    options.feedback = Feedback::residual;
  } else if (text == momentum) {
    options.feedback = Feedback::masked;
  } else if (text.starts_with("momentum:")) {
    options.feedback = Feedback::masked;
    const std::string_view number = text.substr(momentum.size() + 1);
    double value = -1;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
    if (error != std::errc() || end != number.data() + number.size() || !(value >= 0 && value < 1))
      refuse("momentum:M with M of 0 or more and below 1, such as momentum:0.9");
    options.momentum = value;
  } else {
    refuse("auto, none, plain or momentum:0.9");
  }
}

FeedbackRule feedback_rule(const CompressOptions& options) {
  const MethodInfo& info = method_named(options.method.name);
  FeedbackRule rule;
  rule.kind = options.feedback ? *options.feedback : info.feedback;
  const OptionReader read(options.method);
  if (has_option(info, "momentum")) rule.momentum = read.number("momentum", 0, 1, "a number of 0..1");
  if (has_option(info, "nesterov")) rule.nesterov = read.flag("nesterov");
  if (has_option(info, "clip") && rule.kind == Feedback::masked)
    rule.clip = read.number("clip", 0, HUGE_VAL, "a number of 0 or more");
  if (options.momentum) rule.momentum = *options.momentum;
  return rule;
}

float clipping_factor(const FeedbackRule& rule, double energy) {
  const double norm = std::sqrt(energy);
  return rule.clip > 0 && norm > rule.clip ? float(rule.clip / norm) : 1.0f;
}

FeedbackStep before_coding(const FeedbackRule& rule, const State& state, const std::string& tensor,
                           std::span<const float> gradient, float factor) {
  FeedbackStep step;
  const size_t n = gradient.size();
  const auto finite = [&](size_t i) { return std::isfinite(gradient[i]) ? factor * gradient[i] : 0.0f; };
  const auto m = float(rule.momentum);
  switch (rule.kind) {
    case Feedback::none:
      step.coded.assign(gradient.begin(), gradient.end());
      return step;
    case Feedback::residual:
      step.coded = array_or_zeros(state, tensor, "e", n);
      for (size_t i = 0; i < n; ++i) step.coded[i] += finite(i);
      break;
    case Feedback::momentum:
      step.coded = array_or_zeros(state, tensor, "m", n);
      for (size_t i = 0; i < n; ++i) step.coded[i] = m * step.coded[i] + (1 - m) * finite(i);
      break;
    case Feedback::masked:
      step.u = array_or_zeros(state, tensor, "u", n);
      step.v = array_or_zeros(state, tensor, "v", n);
      for (size_t i = 0; i < n; ++i) {
        const float g = finite(i);
        step.u[i] = rule.nesterov ? m * (step.u[i] + g) : m * step.u[i] + g;
        step.v[i] += rule.nesterov ? step.u[i] + g : step.u[i];
      }
      step.coded = step.v;
      break;
  }
  for (size_t i = 0; i < n; ++i)
    if (!std::isfinite(gradient[i])) step.coded[i] = gradient[i];
  return step;
}

void after_coding(const FeedbackRule& rule, State& state, const std::string& tensor, FeedbackStep step,
                  std::span<const float> decoded) {
  const size_t n = decoded.size();
  switch (rule.kind) {
    case Feedback::none:
      return;
    case Feedback::residual: {
      const std::vector<float> before = array_or_zeros(state, tensor, "e", n);
      // A non-finite gradient was sent as it is or dropped; its residual waits.
      for (size_t i = 0; i < n; ++i)
        step.coded[i] = std::isfinite(step.coded[i]) && std::isfinite(decoded[i]) ? step.coded[i] - decoded[i]
                                                                                  : before[i];
      state.set(tensor, "e", std::move(step.coded));
      return;
    }
    case Feedback::momentum: {
      const std::vector<float> before = array_or_zeros(state, tensor, "m", n);
      for (size_t i = 0; i < n; ++i)
        if (!std::isfinite(step.coded[i])) step.coded[i] = before[i];
      state.set(tensor, "m", std::move(step.coded));
      return;
    }
    case Feedback::masked:
      for (size_t i = 0; i < n; ++i)
        if (decoded[i] != 0 && std::isfinite(step.coded[i])) step.u[i] = step.v[i] = 0;
      state.set(tensor, "u", std::move(step.u));
      state.set(tensor, "v", std::move(step.v));
      return;
  }
}

std::vector<std::vector<float>> uncompressed_step(const CompressOptions& options, State& kept,
                                                  const std::vector<GradientView>& gradients) {
  const FeedbackRule rule = feedback_rule(options);
  double energy = 0;
  for (const GradientView& gradient : gradients)
    for (float g : gradient.values) energy += std::isfinite(g) ? double(g) * double(g) : 0.0;
  const float factor = clipping_factor(rule, energy);
  std::vector<std::vector<float>> sent;
  for (const GradientView& gradient : gradients) {
    const std::string& name = gradient.info->name;
    FeedbackStep step = before_coding(rule, kept, name, gradient.values, factor);
    // Everything is sent: no residual stays, and nothing is masked.
    if (rule.kind == Feedback::masked) kept.set(name, "u", std::move(step.u));
    if (rule.kind == Feedback::momentum) kept.set(name, "m", step.coded);
    sent.push_back(std::move(step.coded));
  }
  return sent;
}

}  // namespace jsq
