// The steps of a run, and its state as arrays and numbers.
#include "replay_run.hpp"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <limits>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/uncompressed.hpp"

namespace jsq::tools {
namespace {

/// Sums of f32 are multiples of the smallest f32, so three of them hold a double exactly.
constexpr const char* part_names[] = {"a", "b", "c"};

void save_sum(State& state, const std::string& tensor, const std::string& name, std::span<const double> sum) {
  std::vector<double> rest(sum.begin(), sum.end());
  for (const char* part : part_names) {
    std::vector<float> values(rest.size());
    for (size_t i = 0; i < rest.size(); ++i) {
      values[i] = float(rest[i]);
      rest[i] -= double(values[i]);
    }
    state.set(tensor, name + part, std::move(values));
  }
}

void load_sum(const State& state, const std::string& tensor, const std::string& name, std::span<double> sum) {
  std::fill(sum.begin(), sum.end(), 0.0);
  for (const char* part : part_names) {
    const std::vector<float>* values = state.find(tensor, name + part);
    if (values == nullptr || values->size() != sum.size())
      throw Error(Errc::damaged,
                  fmt::format("state: '{}' has no sums of the steps before; start without it", tensor));
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += double((*values)[i]);
  }
}

std::string worker_prefix(const std::string& prefix, size_t worker) {
  return fmt::format("{}worker{}/", prefix, worker);
}
std::string sums_prefix(const std::string& prefix) {
  return prefix + "sums/";
}

constexpr const char* kept_mark = "uncompressed.";

}  // namespace

std::string ReplayPlan::feedback() const {
  std::string text;
  switch (coding.feedback.value_or(method_named(coding.method.name).feedback)) {
    case Feedback::none:
      return "none";
    case Feedback::residual:
      return "plain";
    case Feedback::masked:
      text = "momentum";
      break;
    case Feedback::momentum:
      text = "mean";
      break;
  }
  return coding.momentum ? fmt::format("{}:{}", text, *coding.momentum) : text;
}

std::string ReplayPlan::name() const {
  return fmt::format("{} at {}, ef {}, {}", to_string(coding.method), to_string(coding.target), feedback(),
                     to_string(schedule));
}

ReplayRun::ReplayRun(ReplayPlan plan, const Sequence& sequence)
    : plan_(std::move(plan)),
      sequence_(sequence),
      workers_(sequence.workers()),
      sent_sum_(sequence.elements()),
      decoded_sum_(sequence.elements()) {
  if (plan_.schedule.kind == ScheduleKind::constant) return;
  if (!plan_.coding.target.is_size())
    throw Error(Errc::usage,
                fmt::format("--schedule {} needs a size to go around, not {}; give a ratio, bpw or bytes",
                            to_string(plan_.schedule), to_string(plan_.coding.target)));
  budgets_ = scheduled_bytes(plan_.schedule, plan_.coding.target,
                             {sequence.stored_bytes(), sequence.elements()}, plan_.length);
}

void ReplayRun::code(size_t step, size_t worker, std::vector<double>& sent, std::vector<double>& decoded) {
  const InputDump dump = sequence_.dump(step, worker);
  std::vector<float> gradient = sequence_.values(step, worker);
  if (plan_.coding.nonfinite == NonFinitePolicy::zero)
    for (float& g : gradient)
      if (!std::isfinite(g)) g = 0;
  CompressOptions options = plan_.coding;
  options.state = &workers_[worker].state;
  options.worker = uint32_t(worker);
  if (!budgets_.empty()) options.target = {TargetKind::bytes, double(steps_.back().budget_bytes)};

  std::vector<GradientView> views;
  for (size_t t = 0, at = 0; t < sequence_.tensors().size(); ++t) {
    const auto count = size_t(sequence_.tensors()[t].elements());
    views.push_back({&sequence_.tensors()[t], std::span(gradient).subspan(at, count)});
    at += count;
  }
  MemorySink frame;
  const CompressReport report = compress({dump}, options, frame);
  const FrameReader reader = FrameReader::from_bytes(frame.bytes);
  const std::vector<std::vector<float>> uncompressed =
      uncompressed_step(options, workers_[worker].kept, views);
  std::vector<float> values;
  for (size_t t = 0, at = 0; t < views.size(); ++t) {
    values.resize(views[t].values.size());
    reader.read(t, 0, values, options.threads);
    for (size_t i = 0; i < values.size(); ++i, ++at) {
      sent[at] += double(uncompressed[t][i]);
      decoded[at] += double(values[i]);
    }
  }
  steps_.back().file_bytes += frame.bytes.size();
  coded_.add(report.distortion);
}

void ReplayRun::advance(size_t step) {
  if (!budgets_.empty() && steps_done_ >= budgets_.size())
    throw Error(Errc::usage, fmt::format("--schedule {} ends after {} steps; give --length of all steps",
                                         to_string(plan_.schedule), budgets_.size()));
  steps_.push_back({.number = steps_done_, .name = sequence_.step_name(step)});
  ReplayStep& row = steps_.back();
  if (!budgets_.empty()) row.budget_bytes = budgets_[size_t(steps_done_)];
  std::vector<double> sent(sent_sum_.size()), decoded(sent_sum_.size());
  coded_ = {};
  for (size_t w = 0; w < workers_.size(); ++w) {
    try {
      code(step, w, sent, decoded);
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}, {}, {}: {}", plan_.name(), sequence_.step_name(step),
                                            sequence_.worker_name(step, w), error.what()));
    }
  }
  const auto n = double(workers_.size());
  double rest = 0, all = 0;
  row.error.elements = sent.size();
  for (size_t i = 0; i < sent.size(); ++i) {
    const double g = sent[i] / n, d = decoded[i] / n, difference = (decoded[i] - sent[i]) / n;
    row.error.energy += g * g;
    row.error.decoded_energy += d * d;
    row.error.dot += g * d;
    row.error.squared_error += difference * difference;
    row.error.error_sum += difference;
    row.error.max_error = std::max(row.error.max_error, std::abs(difference));
    sent_sum_[i] += sent[i];
    decoded_sum_[i] += decoded[i];
    const double left = sent_sum_[i] - decoded_sum_[i];
    rest += left * left;
    all += sent_sum_[i] * sent_sum_[i];
  }
  sum_error_ = rest == 0 ? 0 : std::sqrt(rest / all);
  row.coded_nmse = coded_.nmse();
  row.residual_norm = residual_norm();
  row.sum_error = sum_error_;
  error_.add(row.error);
  file_bytes_ += row.file_bytes;
  ++steps_done_;
}

/// What the workers have not sent yet: e, or v where momentum is corrected.
double ReplayRun::residual_norm() const {
  double squares = 0;
  bool any = false;
  for (const Worker& worker : workers_)
    for (const auto& [name, tensor] : worker.state.tensors())
      for (const char* array : {"e", "v"})
        if (const std::vector<float>* values = worker.state.find(name, array)) {
          any = true;
          for (float value : *values) squares += double(value) * double(value);
        }
  return any ? std::sqrt(squares / double(workers_.size())) : std::numeric_limits<double>::quiet_NaN();
}

ReplayTotal ReplayRun::total() const {
  return {.steps = steps_done_,
          .file_bytes = file_bytes_,
          .error = error_,
          .residual_norm = residual_norm(),
          .sum_error = sum_error_};
}

// ---- The state of a run ------------------------------------------------------------------------------

std::vector<TensorInfo> ReplayRun::kept_tensors(const std::string& prefix) const {
  std::vector<TensorInfo> kept;
  const auto add = [&](const std::string& before) {
    for (TensorInfo info : sequence_.tensors()) {
      info.name = before + info.name;
      kept.push_back(std::move(info));
    }
  };
  for (size_t w = 0; w < workers_.size(); ++w) add(worker_prefix(prefix, w));
  add(sums_prefix(prefix));
  TensorInfo totals;
  totals.name = prefix + "totals";
  kept.push_back(std::move(totals));
  return kept;
}

namespace {

/// What a run counts, by name: numbers as they are and doubles by their bits.
template <class Run, class Use>
void for_totals(Run& error, const Use& use) {
  use("energy", error.energy);
  use("squared_error", error.squared_error);
  use("dot", error.dot);
  use("decoded_energy", error.decoded_energy);
  use("error_sum", error.error_sum);
  use("max_error", error.max_error);
}

}  // namespace

void ReplayRun::save(State& state, const std::string& prefix) const {
  for (size_t w = 0; w < workers_.size(); ++w) {
    const std::string before = worker_prefix(prefix, w);
    for (const auto& [name, tensor] : workers_[w].state.tensors()) {
      for (const auto& [array, values] : tensor.arrays) state.set(before + name, array, values);
      for (const auto& [key, value] : tensor.numbers) state.set_number(before + name, key, value);
    }
    for (const auto& [name, tensor] : workers_[w].kept.tensors())
      for (const auto& [array, values] : tensor.arrays) state.set(before + name, kept_mark + array, values);
  }
  size_t at = 0;
  for (const TensorInfo& info : sequence_.tensors()) {
    const auto count = size_t(info.elements());
    save_sum(state, sums_prefix(prefix) + info.name, "sent.", std::span(sent_sum_).subspan(at, count));
    save_sum(state, sums_prefix(prefix) + info.name, "decoded.", std::span(decoded_sum_).subspan(at, count));
    at += count;
  }
  const std::string totals = prefix + "totals";
  state.set_number(totals, "elements", error_.elements);
  state.set_number(totals, "file_bytes", file_bytes_);
  state.set_number(totals, "sum_error", std::bit_cast<uint64_t>(sum_error_));
  for_totals(error_, [&](const char* key, double value) {
    state.set_number(totals, key, std::bit_cast<uint64_t>(value));
  });
  state.step = steps_done_;
}

void ReplayRun::load(const State& state, const std::string& prefix) {
  std::vector<const TensorInfo*> infos;
  for (const TensorInfo& info : sequence_.tensors()) infos.push_back(&info);
  for (size_t w = 0; w < workers_.size(); ++w) {
    Worker& worker = workers_[w];
    worker.state.bind(plan_.coding.method.name, infos);
    worker.state.step = state.step;
    for (const TensorInfo& info : sequence_.tensors()) {
      const auto kept = state.tensors().find(worker_prefix(prefix, w) + info.name);
      if (kept == state.tensors().end()) continue;
      for (const auto& [array, values] : kept->second.arrays) {
        const bool of_method = !array.starts_with(kept_mark);
        (of_method ? worker.state : worker.kept)
            .set(info.name, of_method ? array : array.substr(std::string_view(kept_mark).size()), values);
      }
      for (const auto& [key, value] : kept->second.numbers) worker.state.set_number(info.name, key, value);
    }
  }
  size_t at = 0;
  for (const TensorInfo& info : sequence_.tensors()) {
    const auto count = size_t(info.elements());
    load_sum(state, sums_prefix(prefix) + info.name, "sent.", std::span(sent_sum_).subspan(at, count));
    load_sum(state, sums_prefix(prefix) + info.name, "decoded.", std::span(decoded_sum_).subspan(at, count));
    at += count;
  }
  const std::string totals = prefix + "totals";
  const auto number = [&](const char* key) {
    const std::optional<uint64_t> value = state.number(totals, key);
    if (!value)
      throw Error(Errc::damaged, fmt::format("state: '{}' has no {}; start without it", totals, key));
    return *value;
  };
  error_.elements = number("elements");
  file_bytes_ = number("file_bytes");
  sum_error_ = std::bit_cast<double>(number("sum_error"));
  for_totals(error_, [&](const char* key, double& value) { value = std::bit_cast<double>(number(key)); });
  steps_done_ = state.step;
}

}  // namespace jsq::tools
