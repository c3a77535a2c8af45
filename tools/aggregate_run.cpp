// The exchange: additions along the reduction tree from process to process, or Open MPI's allreduce where
// their order decides nothing, or its allgatherv of frames.
#include "aggregate_run.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <chrono>
#include <cmath>

#include "jsq/error.hpp"
#include "report.hpp"
#include "round_trip.hpp"

namespace jsq::tools {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<GradientView> views_of(const Sequence& sequence, std::span<const float> values) {
  std::vector<GradientView> views;
  size_t at = 0;
  for (const TensorInfo& info : sequence.tensors()) {
    views.push_back({&info, values.subspan(at, size_t(info.elements()))});
    at += size_t(info.elements());
  }
  return views;
}

/// A worker's gradient.  \throws Error non_finite.
std::vector<float> finite_values(const Sequence& sequence, size_t step, size_t worker) {
  std::vector<float> values = sequence.values(step, worker);
  for (const GradientView& view : views_of(sequence, values))
    for (size_t i = 0; i < view.values.size(); ++i)
      if (!std::isfinite(view.values[i]))
        throw Error(
            Errc::non_finite,
            fmt::format("{}, {}: tensor '{}': element {} is not finite; a mean needs finite values",
                        sequence.step_name(step), sequence.worker_name(step, worker), view.info->name, i));
  return values;
}

[[noreturn]] void rethrow_with(const Error& error, const Sequence& sequence, size_t step,
                               const AggregateOptions& options) {
  throw Error(error.code(), fmt::format("{}, {} workers, {}: {}", to_string(options.method),
                                        sequence.workers(), sequence.step_name(step), error.what()));
}

Distortion error_of_mean(const Sequence& sequence, size_t step, std::span<const float> mean) {
  std::vector<std::vector<float>> values;
  for (size_t w = 0; w < sequence.workers(); ++w) values.push_back(sequence.values(step, w));
  std::vector<float> truth(mean.size());
  true_mean({values.begin(), values.end()}, truth);
  return distortion(truth, mean);
}

// ---- Between processes -------------------------------------------------------------------------------

/// What a rank tells rank 0.
struct Status {
  Errc code = Errc::internal;
  std::string error;  ///< "" when all is well
  uint64_t sent = 0, saturated = 0, overflowed = 0;
  std::string mean_hash;
  int rank = 0;
};

std::string text_of(const Status& status) {
  return to_line(Json{{"code", int(status.code)},
                      {"error", status.error},
                      {"sent", status.sent},
                      {"saturated", status.saturated},
                      {"overflowed", status.overflowed},
                      {"mean_hash", status.mean_hash},
                      {"rank", status.rank}});
}

Status status_of(const std::string& text) {
  const Json json = Json::parse(text);
  return {.code = Errc(json["code"].get<int>()),
          .error = json["error"].get<std::string>(),
          .sent = json["sent"].get<uint64_t>(),
          .saturated = json["saturated"].get<uint64_t>(),
          .overflowed = json["overflowed"].get<uint64_t>(),
          .mean_hash = json["mean_hash"].get<std::string>(),
          .rank = json["rank"].get<int>()};
}

/// Every rank's status at rank 0, in their order; nothing at the others.
std::vector<Status> statuses(Ranks& ranks, Status own) {
  own.rank = ranks.rank();
  if (ranks.rank() != 0) {
    ranks.send(text_of(own));
    return {};
  }
  std::vector<Status> all(size_t(ranks.size()));
  all[0] = std::move(own);
  for (int r = 1; r < ranks.size(); ++r) {
    Status status = status_of(ranks.receive());
    all[size_t(status.rank)] = std::move(status);
  }
  return all;
}

/// Whether all ranks are ready; rank 0 hears what is wrong.  \throws Error at rank 0 when one is not.
bool all_ready(Ranks& ranks, const Status& own) {
  const std::vector<Status> all = statuses(ranks, own);
  std::string go = "1";
  for (const Status& status : all)
    if (!status.error.empty()) go = "0";
  ranks.broadcast(go);
  for (const Status& status : all)
    if (!status.error.empty()) throw Error(status.code, status.error);
  return go == "1";
}

/// Adds the ranks' messages in the tree's order; every rank has the sum afterwards.
void reduce_along_tree(Ranks& ranks, const AggregateWorker& worker, uint32_t round, std::string& message,
                       uint64_t& saturated) {
  const std::vector<TreeEdge> tree = reduction_tree(uint32_t(ranks.size()));
  for (uint32_t edge = 0; edge < tree.size(); ++edge) {
    if (tree[edge].from == uint32_t(ranks.rank())) ranks.send_to(int(tree[edge].into), message);
    if (tree[edge].into == uint32_t(ranks.rank()))
      saturated += worker.add(round, message, ranks.receive_from(int(tree[edge].from), message.size()), edge);
  }
  ranks.broadcast(message);
}

/// Runs `exchange` as often as wanted between barriers; the median of the times.
template <class Exchange>
double timed(Ranks& ranks, unsigned repeat, const Exchange& exchange) {
  std::vector<double> seconds;
  for (unsigned i = 0; i < repeat; ++i) {
    ranks.barrier();
    const auto start = Clock::now();
    exchange();
    ranks.barrier();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  return median(std::move(seconds));
}

/// All rounds. Returns their time together.
double exchange_all(Ranks& ranks, AggregateWorker& worker, const AggregateOptions& options, unsigned repeat,
                    Status& status, std::span<float> mean) {
  if (!worker.code_domain()) {
    const std::string frame = worker.message(0);
    status.sent = frame.size();
    std::vector<std::string> frames;
    const double seconds = timed(ranks, repeat, [&] { frames = ranks.allgather(frame); });
    mean_of_frames(frames, mean, options.threads);
    return seconds;
  }
  double seconds = 0;
  for (uint32_t round = 0; round < worker.rounds(); ++round) {
    const std::string message = worker.message(round);
    status.sent += message.size();
    std::string sum;
    uint64_t saturated = 0;
    seconds += timed(ranks, repeat, [&] {
      sum = message;
      saturated = 0;
      if (worker.any_order(round))
        ranks.allreduce(sum,
                        [&](std::string& into, std::string_view from) { worker.add(round, into, from, 0); });
      else
        reduce_along_tree(ranks, worker, round, sum, saturated);
    });
    status.saturated += saturated;
    worker.receive(round, sum);
  }
  status.overflowed = worker.overflowed();
  worker.mean(mean);
  return seconds;
}

AggregateReport report_of(const std::vector<Status>& all, bool code_domain) {
  AggregateReport report;
  report.code_domain = code_domain;
  for (const Status& status : all) {
    if (status.mean_hash != all[0].mean_hash)
      throw Error(Errc::internal, fmt::format("rank {} has another mean than rank 0", status.rank));
    report.worker_bytes.push_back(status.sent);
    report.message_bytes = std::max(report.message_bytes, status.sent);
    report.saturated += status.saturated;
    report.overflowed += status.overflowed;
    if (status.rank > 0) report.reduced_bytes += status.sent;
  }
  if (code_domain) report.reduced_bytes = all[0].sent;
  return report;
}

}  // namespace

Aggregation aggregate_alone(const Sequence& sequence, size_t step, const AggregateOptions& options) {
  std::vector<std::vector<float>> values;
  for (size_t w = 0; w < sequence.workers(); ++w) values.push_back(finite_values(sequence, step, w));
  Aggregation result{.options = options, .report = {}, .mean = std::vector<float>(sequence.elements())};
  try {
    result.report = aggregate(sequence.tensors(), {values.begin(), values.end()}, options, result.mean);
  } catch (const Error& error) {
    rethrow_with(error, sequence, step, options);
  }
  return result;
}

std::optional<Aggregation> aggregate_between(Ranks& ranks, const Sequence& sequence, size_t step,
                                             const AggregateOptions& options, unsigned repeat) {
  Status status;
  std::vector<float> values;
  std::optional<AggregateWorker> worker;
  try {
    values = finite_values(sequence, step, size_t(ranks.rank()));
    try {
      worker.emplace(views_of(sequence, values), options, uint32_t(ranks.rank()), uint32_t(ranks.size()));
    } catch (const Error& error) {
      rethrow_with(error, sequence, step, options);
    }
  } catch (const Error& error) {
    status.code = error.code();
    status.error = error.what();
  }
  if (!all_ready(ranks, status)) return std::nullopt;

  Aggregation result{.options = options, .report = {}, .mean = std::vector<float>(sequence.elements())};
  result.exchange_seconds = exchange_all(ranks, *worker, options, repeat, status, result.mean);
  status.mean_hash =
      fmt::format("{:016x}", XXH3_64bits(result.mean.data(), result.mean.size() * sizeof(float)));
  const std::vector<Status> all = statuses(ranks, status);
  ranks.barrier();  // before any rank tells of the next method
  if (ranks.rank() != 0) return std::nullopt;
  result.report = report_of(all, worker->code_domain());
  result.report.distortion = error_of_mean(sequence, step, result.mean);
  return result;
}

}  // namespace jsq::tools
