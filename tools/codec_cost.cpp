#include "codec_cost.hpp"

#include <chrono>

#include "round_trip.hpp"

namespace jsq::tools {
namespace {

using Clock = std::chrono::steady_clock;

class Stopwatch {
 public:
  /// Seconds since the last call, or since it was made.
  double lap() {
    const auto now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - last_).count();
    last_ = now;
    return seconds;
  }

 private:
  Clock::time_point last_ = Clock::now();
};

}  // namespace

CodecCost measure_codec(const std::vector<GradientView>& gradients, const AggregateOptions& options,
                        uint32_t workers, unsigned repeat) {
  CodecCost cost;
  size_t elements = 0;
  for (const GradientView& gradient : gradients) elements += gradient.values.size();
  std::vector<float> mean(elements);
  std::vector<double> encode, decode;
  for (unsigned i = 0; i < repeat; ++i) {
    cost.message_bytes = 0;
    double encoding = 0, decoding = 0;
    Stopwatch watch;
    AggregateWorker worker(gradients, options, 0, workers);
    cost.code_domain = worker.code_domain();
    for (uint32_t round = 0; round < worker.rounds(); ++round) {
      std::string message = worker.message(round);
      cost.message_bytes += double(message.size());
      encoding += watch.lap();
      // Its own message stands for the sum, which has as many bytes.
      if (cost.code_domain)
        worker.receive(round, message);
      else
        mean_of_frames({std::move(message)}, mean, options.threads);
      decoding += watch.lap();
    }
    if (cost.code_domain) worker.mean(mean);
    decoding += watch.lap();
    encode.push_back(encoding);
    decode.push_back(decoding);
  }
  cost.encode_seconds = median(std::move(encode));
  cost.decode_seconds = median(std::move(decode));
  return cost;
}

}  // namespace jsq::tools
