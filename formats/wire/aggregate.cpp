// aggregate(): endpoints and their tree where the method adds messages; otherwise frames, decoded and
// averaged.
#include "jsq/aggregate.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/collectives/endpoint.hpp"
#include "lib/core/threads.hpp"
#include "lib/methods/method.hpp"
#include "lib/core/seeds.hpp"

namespace jsq {
namespace {

void check(const TensorInfo& info, const std::vector<std::span<const float>>& workers,
           std::span<float> mean) {
  if (workers.empty()) throw Error(Errc::usage, "aggregate: no workers; give at least one gradient");
  if (mean.size() != info.elements())
    throw Error(Errc::usage, fmt::format("aggregate: the mean has room for {} elements, the tensor has {}",
                                         mean.size(), info.elements()));
  for (size_t w = 0; w < workers.size(); ++w) {
    if (workers[w].size() != info.elements())
      throw Error(Errc::usage,
                  fmt::format("aggregate: worker {} has {} elements of tensor '{}', but its shape has {}", w,
                              workers[w].size(), info.name, info.elements()));
    for (size_t i = 0; i < workers[w].size(); ++i)
      if (element::magnitude_key(workers[w][i]) >= element::first_nonfinite_key)
        throw Error(
            Errc::non_finite,
            fmt::format("aggregate: worker {}, tensor '{}': element {} is not finite", w, info.name, i));
  }
}

AggregateReport reduce(const MethodRow& row, const TensorInfo& info,
                       const std::vector<std::span<const float>>& workers, const AggregateOptions& options,
                       std::span<float> mean) {
  const auto n = uint32_t(workers.size());
  const uint64_t seed = step_seed(options.seed, options.step);
  std::vector<std::unique_ptr<Endpoint>> endpoints(n);
  for (uint32_t w = 0; w < n; ++w) {
    const EndpointContext context{&info, 0, w, n, seed, stream_seed(seed, w), options.rounding};
    endpoints[w] = row.make_endpoint(options.method, context, workers[w]);
  }
  AggregateReport report;
  report.code_domain = true;
  const std::vector<TreeEdge> tree = reduction_tree(n);
  for (uint32_t round = 0; round < endpoints[0]->rounds(); ++round) {
    std::vector<std::string> messages(n);
    tbb::parallel_for(uint32_t(0), n, [&](uint32_t w) { messages[w] = endpoints[w]->message(round); });
    uint64_t largest = 0;
    for (const std::string& message : messages) largest = std::max<uint64_t>(largest, message.size());
    report.message_bytes += largest;
    for (uint32_t edge = 0; edge < tree.size(); ++edge)
      report.saturated +=
          endpoints[tree[edge].into]->add(round, messages[tree[edge].into], messages[tree[edge].from], edge);
    report.reduced_bytes += messages[0].size();
    tbb::parallel_for(uint32_t(0), n, [&](uint32_t w) { endpoints[w]->receive(round, messages[0]); });
  }
  endpoints[0]->mean(mean);
  return report;
}

AggregateReport gather(const TensorInfo& info, const std::vector<std::span<const float>>& workers,
                       const AggregateOptions& options, std::span<float> mean) {
  AggregateReport report;
  std::vector<double> sum(mean.size(), 0.0);
  std::vector<float> decoded(mean.size());
  uint64_t all_bytes = 0;
  for (size_t w = 0; w < workers.size(); ++w) {
    CompressOptions coding;
    coding.method = options.method;
    coding.target = options.target;
    coding.rounding = options.rounding;
    coding.seed = step_seed(options.seed, options.step);
    coding.worker = uint32_t(w);
    MemorySink frame;
    compress({{"worker", source_of(info, workers[w]), {}, true}}, coding, frame);
    FrameReader::from_bytes(frame.bytes).read(0, 0, decoded);
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += double(decoded[i]);
    report.message_bytes = std::max<uint64_t>(report.message_bytes, frame.bytes.size());
    all_bytes += frame.bytes.size();
    if (w == 0) report.reduced_bytes = frame.bytes.size();
  }
  report.reduced_bytes = all_bytes - report.reduced_bytes;  // what worker 0 receives
  for (size_t i = 0; i < sum.size(); ++i) mean[i] = float(sum[i] / double(workers.size()));
  return report;
}

}  // namespace

std::vector<TreeEdge> reduction_tree(uint32_t workers) {
  std::vector<TreeEdge> edges;
  for (uint64_t stride = 1; stride < workers; stride *= 2)
    for (uint64_t into = 0; into + stride < workers; into += 2 * stride)
      edges.push_back({uint32_t(into), uint32_t(into + stride)});
  return edges;
}

AggregateReport aggregate(const TensorInfo& info, const std::vector<std::span<const float>>& workers,
                          const AggregateOptions& options, std::span<float> mean) {
  check(info, workers, mean);
  const MethodRow& row = method_row(options.method.name);
  tbb::task_arena arena(arena_threads(options.threads));
  AggregateReport report = arena.execute([&] {
    return row.make_endpoint ? reduce(row, info, workers, options, mean)
                             : gather(info, workers, options, mean);
  });
  std::vector<float> truth(mean.size());
  for (size_t i = 0; i < truth.size(); ++i) {
    double sum = 0;
    for (const std::span<const float> worker : workers) sum += double(worker[i]);
    truth[i] = float(sum / double(workers.size()));
  }
  report.distortion = distortion(truth, mean);
  return report;
}

}  // namespace jsq
