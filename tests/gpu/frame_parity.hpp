// Frames of the device beside those of the processor: coding tensors in memory with either, and the promise
// that nothing tells which of them did it.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"
#include "jsq/method.hpp"

namespace jsq::test {

struct Coded {
  std::string bytes;
  CompressReport report;
};

/// Of every tensor, instead of one axis. Every second one is in Fortran order.
using Shapes = std::vector<std::vector<uint64_t>>;

inline Coded coded(const std::vector<std::vector<float>>& tensors, Backend backend, const std::string& method,
                   const std::string& target, NonFinitePolicy nonfinite = NonFinitePolicy::error,
                   DType dtype = DType::f32, Rounding rounding = Rounding::automatic,
                   const Shapes& shapes = {}) {
  std::vector<InputDump> inputs;
  for (size_t t = 0; t < tensors.size(); ++t) {
    TensorInfo info;
    info.name = "t" + std::to_string(t);
    info.shape = shapes.empty() ? std::vector<uint64_t>{tensors[t].size()} : shapes[t];
    info.fortran_order = !shapes.empty() && t % 2 == 1;
    info.dtype = dtype;
    inputs.push_back({info.name + ".npy", source_of(info, tensors[t]), {}, true});
  }
  CompressOptions options;
  options.method = parse_method(method);
  options.target = target.empty() ? default_target(options.method) : parse_target(target);
  options.backend = backend;
  options.rounding = rounding;
  options.nonfinite = nonfinite;
  options.seed = 7;
  MemorySink sink;
  Coded result;
  result.report = compress(inputs, options, sink);
  result.bytes = std::move(sink.bytes);
  return result;
}

inline std::vector<float> decoded(const std::string& bytes, Backend backend, size_t t, size_t n) {
  FrameReader reader = FrameReader::from_bytes(bytes);
  reader.use(backend);
  std::vector<float> values(n, 42.0f);
  reader.read(t, 0, values);
  return values;
}

inline void expect_parity(const std::vector<std::vector<float>>& tensors, const std::string& method,
                          const std::string& target, NonFinitePolicy nonfinite = NonFinitePolicy::error,
                          DType dtype = DType::f32, Rounding rounding = Rounding::automatic,
                          const Shapes& shapes = {}) {
  SCOPED_TRACE(method + " at " + target);
  const Coded cpu = coded(tensors, Backend::cpu, method, target, nonfinite, dtype, rounding, shapes),
              cuda = coded(tensors, Backend::cuda, method, target, nonfinite, dtype, rounding, shapes);
  ASSERT_TRUE(cpu.bytes == cuda.bytes)
      << cpu.bytes.size() << " bytes by the processor, " << cuda.bytes.size() << " by the device";
  const auto same = [](double a, double b) {
    return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b);
  };
  EXPECT_TRUE(same(cpu.report.distortion.squared_error, cuda.report.distortion.squared_error));
  EXPECT_TRUE(same(cpu.report.distortion.dot, cuda.report.distortion.dot));
  EXPECT_TRUE(same(cpu.report.distortion.error_sum, cuda.report.distortion.error_sum));
  EXPECT_TRUE(same(cpu.report.distortion.energy, cuda.report.distortion.energy));
  EXPECT_TRUE(same(cpu.report.distortion.max_error, cuda.report.distortion.max_error));
  EXPECT_TRUE(same(cpu.report.hprime(), cuda.report.hprime()));
  EXPECT_TRUE(same(cpu.report.pools[0].expected_squared_error, cuda.report.pools[0].expected_squared_error));
  EXPECT_EQ(cpu.report.pools[0].members, cuda.report.pools[0].members);
  EXPECT_EQ(cpu.report.pools[0].payload_bits, cuda.report.pools[0].payload_bits);
  EXPECT_TRUE(same(cpu.report.pools[0].entropy_bits, cuda.report.pools[0].entropy_bits));
  for (size_t t = 0; t < tensors.size(); ++t) {
    const std::vector<float> by_cpu = decoded(cuda.bytes, Backend::cpu, t, tensors[t].size());
    const std::vector<float> by_cuda = decoded(cpu.bytes, Backend::cuda, t, tensors[t].size());
    for (size_t i = 0; i < by_cpu.size(); ++i)
      ASSERT_EQ(std::bit_cast<uint32_t>(by_cpu[i]), std::bit_cast<uint32_t>(by_cuda[i]))
          << "tensor " << t << " element " << i;
  }
}

}  // namespace jsq::test
