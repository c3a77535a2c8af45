#include "network_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace jsq::tools {
namespace {

/// Faster by more than what rounding may do.
bool is_faster(double seconds, double than) {
  return seconds < than * (1 - 1e-12);
}

bool pays(const TrainingStep& step, const Codec& codec, const Codec& baseline, const Network& network,
          uint64_t workers) {
  return is_faster(step_time(step, codec, network, workers).step_seconds,
                   step_time(step, baseline, network, workers).step_seconds);
}

}  // namespace

std::string_view exchange_name(Exchange exchange) {
  switch (exchange) {
    case Exchange::ring:
      return "ring";
    case Exchange::tree:
      return "tree";
    case Exchange::allgather:
      return "allgather";
    case Exchange::server:
      return "ps";
  }
  return "?";
}

double exchange_seconds(Exchange exchange, const Network& network, uint64_t workers, double message_bytes,
                        double answer_bytes) {
  if (workers < 2) return 0;
  const auto n = double(workers);
  switch (exchange) {
    case Exchange::ring:
      return 2 * (n - 1) * network.message_seconds(message_bytes / n);
    case Exchange::tree:
      return 2 * double(std::bit_width(workers - 1)) * network.message_seconds(message_bytes);
    case Exchange::allgather:
      return (n - 1) * network.message_seconds(message_bytes);
    case Exchange::server:
      return network.message_seconds(n * message_bytes) + network.message_seconds(n * answer_bytes);
  }
  return 0;
}

uint64_t TrainingStep::buckets() const {
  return std::max<uint64_t>(1, uint64_t(std::ceil(gradient_bytes / bucket_bytes)));
}

StepTime step_time(const TrainingStep& step, const Codec& codec, const Network& network, uint64_t workers) {
  const uint64_t buckets = step.buckets();
  const auto k = double(buckets);
  const double decoded = codec.exchange == Exchange::allgather ? double(workers) : 1;
  // One worker has nothing to send.
  const bool alone = workers < 2;
  const double encode = alone ? 0 : codec.encode_seconds / k;
  const double decode = alone ? 0 : codec.decode_seconds * decoded / k;
  const double exchange =
      exchange_seconds(codec.exchange, network, workers, codec.message_bytes / k, codec.answer_bytes / k);
  const double backward = step.compute_seconds * step.backward_share;
  double encoded = 0, exchanged = 0, done = 0;
  for (uint64_t b = 0; b < buckets; ++b) {
    const double ready =
        step.overlap ? step.compute_seconds - backward + backward * double(b + 1) / k : step.compute_seconds;
    encoded = std::max(ready, encoded) + encode;
    exchanged = std::max(encoded, exchanged) + exchange;
    done = std::max(exchanged, done) + decode;
  }
  return {.step_seconds = done, .exchange_seconds = k * exchange, .codec_seconds = k * (encode + decode)};
}

std::optional<double> break_even_bandwidth(const TrainingStep& step, const Codec& codec,
                                           const Codec& baseline, const Network& network, uint64_t workers) {
  const auto pays_at = [&](double bytes_per_second) {
    return pays(step, codec, baseline, {network.alpha_seconds, bytes_per_second}, workers);
  };
  constexpr double least = 1e3, most = 1e12;
  if (pays_at(most)) return std::numeric_limits<double>::infinity();
  // From above: what pays nowhere near may pay on slower networks.
  double high = most, low = most;
  for (; low >= least && !pays_at(low); low /= 1.25) high = low;
  if (low < least) return std::nullopt;
  while (high / low > 1 + 1e-9) {
    const double middle = std::sqrt(low * high);
    (pays_at(middle) ? low : high) = middle;
  }
  return low;
}

std::optional<uint64_t> stops_paying(const TrainingStep& step, const Codec& codec, const Codec& baseline,
                                     const Network& network, uint64_t most) {
  for (uint64_t n = 2; n <= most; ++n)
    if (!pays(step, codec, baseline, network, n)) return n;
  return std::nullopt;
}

}  // namespace jsq::tools
