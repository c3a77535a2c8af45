// Codes tensors in memory with a method and decodes the frame again, for tests of single methods. No
// expectations live here.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"

namespace jsq::test {

struct Tensor {
  std::vector<uint64_t> shape;
  std::vector<float> values;
  bool fortran_order = false;
  std::string name = {};
};

struct Coded {
  std::string frame;
  CompressReport report;
  std::vector<std::vector<float>> decoded;
};

inline Coded coded(const std::vector<Tensor>& tensors, const CompressOptions& options) {
  std::vector<InputDump> inputs;
  for (const Tensor& tensor : tensors) {
    TensorInfo info;
    info.name = tensor.name;
    info.shape = tensor.shape;
    info.fortran_order = tensor.fortran_order;
    inputs.push_back({"t" + std::to_string(inputs.size()), source_of(info, tensor.values), {}, true});
  }
  Coded result;
  MemorySink sink;
  result.report = compress(inputs, options, sink);
  result.frame = std::move(sink.bytes);
  const FrameReader reader = FrameReader::from_bytes(result.frame);
  for (size_t t = 0; t < tensors.size(); ++t) {
    result.decoded.emplace_back(tensors[t].values.size());
    reader.read(t, 0, result.decoded.back(), 1);
  }
  return result;
}

inline CompressOptions options_of(const std::string& method, const std::string& target = "native",
                                  uint64_t seed = 0) {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = parse_target(target);
  options.seed = seed;
  options.threads = 1;
  return options;
}

inline Coded coded(const std::vector<Tensor>& tensors, const std::string& method,
                   const std::string& target = "native", uint64_t seed = 0) {
  return coded(tensors, options_of(method, target, seed));
}

/// Sum of squared differences, in double.
inline double squared_error(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
  return sum;
}
inline double energy(const std::vector<float>& a) {
  return squared_error(a, std::vector<float>(a.size()));
}

inline Errc code_of(const std::function<void()>& action, std::string* message = nullptr) {
  try {
    action();
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.code();
  }
  ADD_FAILURE() << "nothing was thrown";
  return Errc::internal;
}

}  // namespace jsq::test
