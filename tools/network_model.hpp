// How long a training step takes with n workers: an alpha-beta model of collectives, and a pipeline of
// backward pass, encoding, network and decoding over buckets. Pure arithmetic: what is measured comes in as
// numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace jsq::tools {

/// A message of m bytes takes alpha + m beta from one worker to another. Each worker sends and receives one
/// message at a time; the network has room for all of them.
struct Network {
  double alpha_seconds = 25e-6;
  double bytes_per_second = 1.25e9;  ///< 1 / beta, each way

  double message_seconds(double bytes) const { return alpha_seconds + bytes / bytes_per_second; }
};

enum class Exchange : uint8_t {
  ring,       ///< allreduce by reduce-scatter and allgather around a ring
  tree,       ///< allreduce to a root and back along a binary tree
  allgather,  ///< around a ring: every worker gets every message
  server,     ///< one parameter server takes all messages and answers each worker
};
/// "ring", "tree", "allgather", "ps".
std::string_view exchange_name(Exchange exchange);

/// Seconds until n workers have exchanged messages of m bytes. `answer_bytes`: what a server sends back.
///   ring       2 (n - 1) (alpha + m / n beta)
///   tree       2 ceil(log2 n) (alpha + m beta)
///   allgather  (n - 1) (alpha + m beta)
///   server     2 alpha + n m beta + n answer beta: all messages pass the server's one link
/// 0 for one worker.
double exchange_seconds(Exchange exchange, const Network& network, uint64_t workers, double message_bytes,
                        double answer_bytes);

/// A method on a model's gradient, whole: its buckets take their share of each.
struct Codec {
  Exchange exchange = Exchange::ring;
  double message_bytes = 0;   ///< what a worker sends
  double answer_bytes = 0;    ///< what a server sends back
  double encode_seconds = 0;  ///< of a worker's gradient
  double decode_seconds = 0;  ///< of one message; allgather decodes n, the others one
};

/// The model's own work, the same for every method.
struct TrainingStep {
  double compute_seconds = 0.1;     ///< forward and backward
  double backward_share = 2.0 / 3;  ///< of it: in its course the buckets become ready, evenly
  double gradient_bytes = 0;
  double bucket_bytes = 25.0 * 1024 * 1024;
  bool overlap = true;  ///< buckets go while the backward pass runs; otherwise all of it comes first

  uint64_t buckets() const;
};

/// What a step takes, and what of it is what.
struct StepTime {
  double step_seconds = 0;
  double exchange_seconds = 0;  ///< of all buckets, hidden or not
  double codec_seconds = 0;     ///< encoding and decoding of all buckets, hidden or not
};

/// Bucket k of K is ready when (k + 1) / K of the backward pass is over. Encoder, network and decoder take
/// buckets one after another, each as soon as it is free and has the bucket; the step ends with the last.
StepTime step_time(const TrainingStep& step, const Codec& codec, const Network& network, uint64_t workers);

/// The largest bandwidth (bytes a second) at which `codec` makes the step faster than `baseline` does, for
/// the network's latency; nothing when it never does between 1 kB/s and 1 TB/s, infinity when it does to the
/// end. By bisection, to a relative 1e-9.
std::optional<double> break_even_bandwidth(const TrainingStep& step, const Codec& codec,
                                           const Codec& baseline, const Network& network, uint64_t workers);

/// The fewest workers, 2 to `most`, at which the step is no faster than with `baseline`; nothing when it is
/// faster for all.
std::optional<uint64_t> stops_paying(const TrainingStep& step, const Codec& codec, const Codec& baseline,
                                     const Network& network, uint64_t most);

}  // namespace jsq::tools
