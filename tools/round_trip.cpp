// Timing of a round trip; the comparison itself is measure.hpp's.
#include "round_trip.hpp"

#include <algorithm>
#include <chrono>

#include "jsq/frame.hpp"
#include "measure.hpp"

namespace jsq::tools {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Takes what is decoded and keeps nothing: the cost of decoding alone.
class DiscardingSink final : public GradientSink {
 public:
  void write(size_t, std::span<const std::byte>) override {}
  void finish() override {}
};

}  // namespace

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

RoundTrip measure_round_trip(const std::vector<InputDump>& inputs, const CompressOptions& options,
                             unsigned repeat) {
  RoundTrip result;
  std::vector<double> encode, decode;
  MemorySink frame;
  for (unsigned round = 0; round < std::max(repeat, 1u); ++round) {
    frame.bytes.clear();
    auto start = Clock::now();
    result.report = compress(inputs, options, frame);
    encode.push_back(seconds_since(start));

    start = Clock::now();
    FrameReader reader = FrameReader::from_bytes(frame.bytes);
    reader.use(options.backend);
    for (size_t dump = 0; dump < reader.dumps().size(); ++dump) {
      DiscardingSink sink;
      reader.write_dump(dump, sink, options.threads);
    }
    decode.push_back(seconds_since(start));
  }
  result.encode_seconds = median(std::move(encode));
  result.decode_seconds = median(std::move(decode));

  FrameReader reader = FrameReader::from_bytes(frame.bytes);
  reader.use(options.backend);
  for (size_t dump = 0; dump < reader.dumps().size(); ++dump)
    for (const MeasuredError& tensor : measure_dump(reader, dump, inputs[dump], options.threads))
      result.tensors.push_back(tensor);
  for (const MeasuredError& tensor : result.tensors) result.distortion.add(tensor);
  for (const FrameTensor& tensor : reader.tensors()) {
    result.elements += tensor.info.elements();
    result.input_bytes += tensor.info.stored_bytes();
  }
  result.file_bytes = frame.bytes.size();
  return result;
}

}  // namespace jsq::tools
