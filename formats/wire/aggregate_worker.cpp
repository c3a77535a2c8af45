// One worker of a collective: an endpoint for each tensor, whose messages are joined, or a frame of all
// tensors.
#include <fmt/format.h>

#include <algorithm>

#include "jsq/aggregate.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "lib/collectives/endpoint.hpp"
#include "lib/core/memory_source.hpp"
#include "lib/core/seeds.hpp"
#include "lib/methods/method.hpp"

namespace jsq {

struct AggregateWorker::State {
  std::vector<std::unique_ptr<Endpoint>> endpoints;  ///< by tensor; none where frames are gathered
  std::vector<size_t> elements;                      ///< by tensor
  std::vector<std::vector<size_t>> sizes;            ///< by round and tensor: bytes of its message
  std::string frame;
  uint32_t rounds = 1;

  /// Calls use(endpoint, part of `joined`) for the tensors that have the round.
  template <class Use>
  void for_parts(uint32_t round, std::string_view joined, const Use& use) const {
    size_t at = 0;
    for (size_t t = 0; t < endpoints.size(); ++t) {
      if (round >= endpoints[t]->rounds()) continue;
      const size_t size = sizes[round][t];
      if (joined.size() - at < size)
        throw Error(Errc::damaged, fmt::format("message of round {}: {} bytes, expected {} or more", round,
                                               joined.size(), at + size));
      use(*endpoints[t], joined.substr(at, size));
      at += size;
    }
    if (at != joined.size())
      throw Error(Errc::damaged,
                  fmt::format("message of round {}: {} bytes, expected {}", round, joined.size(), at));
  }
};

AggregateWorker::AggregateWorker(const std::vector<GradientView>& gradients, const AggregateOptions& options,
                                 uint32_t worker, uint32_t workers)
    : state_(std::make_unique<State>()) {
  const MethodRow& row = method_row(options.method.name);
  if (options.collective == Collective::allreduce && !row.make_endpoint)
    throw Error(Errc::usage,
                fmt::format("{}: its messages cannot be added on their way; use allgather", row.info.name));
  for (const GradientView& gradient : gradients) state_->elements.push_back(gradient.values.size());
  const uint64_t seed = step_seed(options.seed, options.step);
  if (!row.make_endpoint || options.collective == Collective::allgather) {
    CompressOptions coding;
    coding.method = options.method;
    coding.target = options.target;
    coding.rounding = options.rounding;
    coding.seed = seed;
    coding.worker = worker;
    coding.threads = options.threads;
    MemorySink frame;
    compress({{"worker", source_of(gradients), {}, true}}, coding, frame);
    state_->frame = std::move(frame.bytes);
    return;
  }
  state_->rounds = 0;
  for (size_t t = 0; t < gradients.size(); ++t) {
    const EndpointContext context{gradients[t].info,         uint32_t(t),     worker, workers, seed,
                                  stream_seed(seed, worker), options.rounding};
    state_->endpoints.push_back(row.make_endpoint(options.method, context, gradients[t].values));
    state_->rounds = std::max(state_->rounds, state_->endpoints.back()->rounds());
  }
  state_->sizes.assign(state_->rounds, std::vector<size_t>(gradients.size(), 0));
}
AggregateWorker::AggregateWorker(AggregateWorker&&) noexcept = default;
AggregateWorker::~AggregateWorker() = default;

bool AggregateWorker::code_domain() const noexcept {
  return !state_->endpoints.empty();
}
uint32_t AggregateWorker::rounds() const noexcept {
  return state_->rounds;
}

std::string AggregateWorker::message(uint32_t round) {
  if (!code_domain()) return state_->frame;
  std::string joined;
  for (size_t t = 0; t < state_->endpoints.size(); ++t) {
    if (round >= state_->endpoints[t]->rounds()) continue;
    const std::string message = state_->endpoints[t]->message(round);
    state_->sizes[round][t] = message.size();
    joined += message;
  }
  return joined;
}

bool AggregateWorker::any_order(uint32_t round) const {
  return std::all_of(state_->endpoints.begin(), state_->endpoints.end(), [&](const auto& endpoint) {
    return round >= endpoint->rounds() || endpoint->any_order(round);
  });
}

uint64_t AggregateWorker::add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const {
  std::vector<std::string> parts;
  state_->for_parts(round, into, [&](const Endpoint&, std::string_view part) { parts.emplace_back(part); });
  uint64_t cut = 0;
  size_t part = 0;
  state_->for_parts(round, from, [&](const Endpoint& endpoint, std::string_view other) {
    cut += endpoint.add(round, parts[part++], other, edge);
  });
  into.clear();
  for (const std::string& sum : parts) into += sum;
  return cut;
}

void AggregateWorker::receive(uint32_t round, std::string_view sum) {
  state_->for_parts(round, sum,
                    [&](Endpoint& endpoint, std::string_view part) { endpoint.receive(round, part); });
}

uint64_t AggregateWorker::overflowed() const {
  uint64_t count = 0;
  for (const auto& endpoint : state_->endpoints) count += endpoint->overflowed();
  return count;
}

void AggregateWorker::mean(std::span<float> out) const {
  size_t at = 0;
  for (size_t t = 0; t < state_->endpoints.size(); ++t) {
    state_->endpoints[t]->mean(out.subspan(at, state_->elements[t]));
    at += state_->elements[t];
  }
}

}  // namespace jsq
