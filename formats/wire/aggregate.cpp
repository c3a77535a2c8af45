// aggregate(): all workers in one process, their messages added along the tree or gathered, decoded and
// averaged.
#include "jsq/aggregate.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/threads.hpp"

namespace jsq {
namespace {

using Workers = std::vector<std::span<const float>>;

uint64_t elements_of(const std::vector<TensorInfo>& tensors) {
  return std::accumulate(tensors.begin(), tensors.end(), uint64_t(0),
                         [](uint64_t sum, const TensorInfo& info) { return sum + info.elements(); });
}

std::vector<GradientView> views_of(const std::vector<TensorInfo>& tensors, std::span<const float> values) {
  std::vector<GradientView> views;
  size_t at = 0;
  for (const TensorInfo& info : tensors) {
    views.push_back({&info, values.subspan(at, size_t(info.elements()))});
    at += size_t(info.elements());
  }
  return views;
}

void check(const std::vector<TensorInfo>& tensors, const Workers& workers, std::span<float> mean) {
  const uint64_t elements = elements_of(tensors);
  if (workers.empty()) throw Error(Errc::usage, "aggregate: no workers; give at least one gradient");
  if (mean.size() != elements)
    throw Error(Errc::usage, fmt::format("aggregate: the mean has room for {} elements, the tensors have {}",
                                         mean.size(), elements));
  for (size_t w = 0; w < workers.size(); ++w) {
    if (workers[w].size() != elements)
      throw Error(
          Errc::usage,
          fmt::format("aggregate: worker {} has {} elements{}, but the shapes have {}", w, workers[w].size(),
                      tensors.size() == 1 ? fmt::format(" of tensor '{}'", tensors[0].name) : "", elements));
    for (const GradientView& view : views_of(tensors, workers[w]))
      for (size_t i = 0; i < view.values.size(); ++i)
        if (element::magnitude_key(view.values[i]) >= element::first_nonfinite_key)
          throw Error(Errc::non_finite,
                      fmt::format("aggregate: worker {}, tensor '{}': element {} is not finite", w,
                                  view.info->name, i));
  }
}

/// The rounds of all workers, in the tree's order.
void reduce(std::vector<AggregateWorker>& workers, AggregateReport& report, std::span<float> mean) {
  const auto n = uint32_t(workers.size());
  const std::vector<TreeEdge> tree = reduction_tree(n);
  for (uint32_t round = 0; round < workers[0].rounds(); ++round) {
    std::vector<std::string> messages(n);
    tbb::parallel_for(uint32_t(0), n, [&](uint32_t w) { messages[w] = workers[w].message(round); });
    for (uint32_t w = 0; w < n; ++w) report.worker_bytes[w] += messages[w].size();
    for (uint32_t edge = 0; edge < tree.size(); ++edge)
      report.saturated +=
          workers[tree[edge].into].add(round, messages[tree[edge].into], messages[tree[edge].from], edge);
    report.reduced_bytes += messages[0].size();
    tbb::parallel_for(uint32_t(0), n, [&](uint32_t w) { workers[w].receive(round, messages[0]); });
  }
  for (const AggregateWorker& worker : workers) report.overflowed += worker.overflowed();
  workers[0].mean(mean);
}

void gather(std::vector<AggregateWorker>& workers, AggregateReport& report, std::span<float> mean,
            unsigned threads) {
  std::vector<std::string> frames;
  for (AggregateWorker& worker : workers) frames.push_back(worker.message(0));
  for (size_t w = 0; w < frames.size(); ++w) {
    report.worker_bytes[w] = frames[w].size();
    if (w > 0) report.reduced_bytes += frames[w].size();  // what worker 0 receives
  }
  mean_of_frames(frames, mean, threads);
}

}  // namespace

std::vector<TreeEdge> reduction_tree(uint32_t workers) {
  std::vector<TreeEdge> edges;
  for (uint64_t stride = 1; stride < workers; stride *= 2)
    for (uint64_t into = 0; into + stride < workers; into += 2 * stride)
      edges.push_back({uint32_t(into), uint32_t(into + stride)});
  return edges;
}

void mean_of_frames(const std::vector<std::string>& frames, std::span<float> mean, unsigned threads) {
  std::vector<double> sum(mean.size(), 0.0);
  std::vector<float> decoded;
  for (const std::string& frame : frames) {
    const FrameReader reader = FrameReader::from_bytes(frame, "a worker's message");
    size_t at = 0;
    for (size_t t = 0; t < reader.tensors().size(); ++t) {
      decoded.resize(size_t(reader.tensors()[t].info.elements()));
      if (mean.size() - at < decoded.size())
        throw Error(Errc::damaged, "a worker's message: has more elements than the mean");
      reader.read(t, 0, decoded, threads);
      for (float value : decoded) sum[at++] += double(value);
    }
    if (at < mean.size()) throw Error(Errc::damaged, "a worker's message: has fewer elements than the mean");
  }
  for (size_t i = 0; i < sum.size(); ++i) mean[i] = float(sum[i] / double(frames.size()));
}

void true_mean(const std::vector<std::span<const float>>& workers, std::span<float> mean) {
  for (size_t i = 0; i < mean.size(); ++i) {
    double sum = 0;
    for (const std::span<const float> worker : workers) sum += double(worker[i]);
    mean[i] = float(sum / double(workers.size()));
  }
}

AggregateReport aggregate(const std::vector<TensorInfo>& tensors, const Workers& workers,
                          const AggregateOptions& options, std::span<float> mean) {
  check(tensors, workers, mean);
  AggregateReport report;
  report.worker_bytes.assign(workers.size(), 0);
  on_threads(options.threads, [&] {
    std::vector<AggregateWorker> sides;
    for (size_t w = 0; w < workers.size(); ++w)
      sides.emplace_back(views_of(tensors, workers[w]), options, uint32_t(w), uint32_t(workers.size()));
    report.code_domain = sides[0].code_domain();
    if (report.code_domain)
      reduce(sides, report, mean);
    else
      gather(sides, report, mean, options.threads);
  });
  report.message_bytes = *std::max_element(report.worker_bytes.begin(), report.worker_bytes.end());
  std::vector<float> truth(mean.size());
  true_mean(workers, truth);
  report.distortion = distortion(truth, mean);
  return report;
}

AggregateReport aggregate(const TensorInfo& info, const Workers& workers, const AggregateOptions& options,
                          std::span<float> mean) {
  return aggregate(std::vector<TensorInfo>{info}, workers, options, mean);
}

}  // namespace jsq
