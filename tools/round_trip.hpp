// A real round trip: dumps become a frame in memory, the frame becomes values again as `jsq decompress` would
// write them, and the two are compared. Every measured figure of analyze and compare comes from here, none
// from a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "measure.hpp"

namespace jsq::tools {

struct RoundTrip {
  CompressReport report;     ///< what compress said; its own distortion is not used here
  uint64_t file_bytes = 0;   ///< bytes of the frame
  uint64_t input_bytes = 0;  ///< elements x size of their stored dtype
  uint64_t elements = 0;
  MeasuredError distortion;            ///< of the decoded values
  std::vector<MeasuredError> tensors;  ///< the same for every tensor, inputs and their tensors in order
  double encode_seconds = 0;           ///< median over the repetitions
  double decode_seconds = 0;

  double file_ratio() const noexcept { return double(input_bytes) / double(file_bytes); }
  double bits_per_element() const noexcept { return 8.0 * double(file_bytes) / double(elements); }
};

/// Encodes and decodes `inputs` `repeat` times (timed), then decodes once more to measure. Memory: the frame
/// and a few blocks.  \throws Error as compress does, and damaged when the frame does not decode (a bug in
/// jsq).
RoundTrip measure_round_trip(const std::vector<InputDump>& inputs, const CompressOptions& options,
                             unsigned repeat);

/// The middle value; the mean of the two middle ones for an even count.  \pre not empty.
double median(std::vector<double> values);

}  // namespace jsq::tools
