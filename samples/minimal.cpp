// The smallest C++ user of libjsq: compresses a made-up gradient in memory, reads it back and prints what
// that cost.
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"

namespace {

/// A gradient with a few large and many small elements, as real ones have.
std::vector<float> made_up_gradient(size_t elements) {
  std::vector<float> values(elements);
  for (size_t i = 0; i < elements; ++i) values[i] = float(std::pow(std::sin(0.37 * double(i)), 9) * 1e-3);
  return values;
}

int round_trip() {
  const std::vector<float> values = made_up_gradient(200'000);
  jsq::TensorInfo info;
  info.name = "layer1.weight";
  info.shape = {400, 500};

  jsq::InputDump input;
  input.path = "layer1.weight.npy";
  input.source = jsq::source_of(info, values);
  jsq::CompressOptions options;
  options.method = jsq::parse_method("jointsq");
  options.target = jsq::parse_target("ratio=32");
  jsq::MemorySink sink;
  const jsq::CompressReport report = jsq::compress({input}, options, sink);

  const jsq::FrameReader frame = jsq::FrameReader::from_bytes(sink.bytes);
  std::vector<float> decoded(values.size());
  frame.read(0, 0, decoded);
  const jsq::Distortion measured = jsq::distortion(values, decoded);
  std::printf("%zu elements in %zu bytes: %.1fx, nmse %.3g (reported %.3g)\n", values.size(),
              sink.bytes.size(), report.file_ratio(), measured.nmse(), report.distortion.nmse());

  const bool smaller = sink.bytes.size() * 32 <= values.size() * sizeof(float);
  const bool truthful = std::abs(measured.nmse() - report.distortion.nmse()) <= 1e-9;
  return smaller && truthful && measured.nmse() < 1 ? 0 : 1;
}

}  // namespace

int main() {
  try {
    return round_trip();
  } catch (const jsq::Error& error) {
    std::fprintf(stderr, "minimal: %s (%s)\n", error.what(), jsq::error_name(error.code()));
    return jsq::exit_code(error.code());
  }
}
