// What the suites over the whole registry share: one test instance for each row, so that a new method joins
// them all without new test code; dumps in memory; and the measured truth about a frame, in which nothing of
// jsq's own sums takes part.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/method.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {

/// How GoogleTest shows a code.
inline void PrintTo(Errc code, std::ostream* out) {
  *out << error_name(code);
}

}  // namespace jsq

namespace jsq::test {

/// A test that every method of the registry takes; the row is the parameter.
class EveryMethod : public testing::TestWithParam<const MethodInfo*> {
 protected:
  const MethodInfo& info() const { return *GetParam(); }
  MethodSpec spec() const { return parse_method(info().name); }
  CompressOptions options(const Target& target) const {
    CompressOptions options;
    options.method = spec();
    options.target = target;
    options.seed = 11;
    return options;
  }
  /// The method at the size that its paper gives it; where it has none, as jointsq, at about a byte an
  /// element.
  CompressOptions sized(uint64_t elements) const {
    return options(has_native_size() ? Target{TargetKind::native, 0}
                                     : Target{TargetKind::bytes, double(elements) + 500});
  }
  bool has_native_size() const {
    MemorySink sink;
    try {
      compress({}, options({TargetKind::native, 0}), sink);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage) << error.what();
      return false;
    }
    return true;
  }
  /// Numbers are drawn with the default options; jointsq says "none (cell), ...".
  bool draws_random_numbers() const { return !info().random_numbers.starts_with("none"); }
};

/// The row's name as a test name may be.
inline std::string row_name(const testing::TestParamInfo<const MethodInfo*>& row) {
  std::string name(row.param->name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

/// A dump in memory whose tensors have any element type and order.
class StoredSource final : public GradientSource {
 public:
  void add(TensorInfo info, std::vector<std::byte> stored) {
    infos_.push_back(std::move(info));
    stored_.push_back(std::move(stored));
  }
  /// `values` rounded to the element type.
  void add(const std::string& name, DType dtype, std::vector<uint64_t> shape,
           const std::vector<float>& values, bool fortran_order = false) {
    TensorInfo info;
    info.name = name;
    info.dtype = dtype;
    info.shape = std::move(shape);
    info.fortran_order = fortran_order;
    std::vector<std::byte> stored(values.size() * dtype_bytes(dtype));
    if (!stored.empty()) encode_elements(dtype, values, stored.data());
    add(std::move(info), std::move(stored));
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    scratch.resize(count);
    const DType dtype = infos_[t].dtype;
    if (count) decode_elements(dtype, false, stored_[t].data() + first * dtype_bytes(dtype), scratch);
    return scratch;
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    const size_t size = dtype_bytes(infos_[t].dtype);
    if (count) std::memcpy(out, stored_[t].data() + first * size, count * size);
  }
  const std::vector<std::byte>& stored(size_t t) const { return stored_[t]; }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> infos_;
  std::vector<std::vector<std::byte>> stored_;
};

/// One f32 tensor; `values` must outlive it.
inline std::shared_ptr<const GradientSource> one_tensor(const std::vector<float>& values,
                                                        std::vector<uint64_t> shape = {}) {
  TensorInfo info;
  info.shape = shape.empty() ? std::vector<uint64_t>{values.size()} : std::move(shape);
  return source_of(info, values);
}

struct Coded {
  std::string bytes;
  CompressReport report;
};

inline Coded coded(const std::shared_ptr<const GradientSource>& source, const CompressOptions& options) {
  Coded result;
  MemorySink sink;
  result.report = compress({{"dump", source, {}, true}}, options, sink);
  result.bytes = std::move(sink.bytes);
  EXPECT_EQ(result.report.file_bytes, result.bytes.size());
  return result;
}

/// What a user measures on the stored bytes of a decoded dump. Non-finite elements count as zeros that came
/// back as zeros.
struct Truth {
  uint64_t elements = 0;
  double energy = 0, squared_error = 0, dot = 0, decoded_energy = 0, max_error = 0;
  bool finite = true;
  double nmse() const { return energy > 0 ? squared_error / energy : squared_error > 0 ? HUGE_VAL : 0; }
};

inline Truth truth_of(const GradientSource& source, const FrameReader& reader) {
  Truth truth;
  long double energy = 0, squared = 0, dot = 0, decoded_energy = 0;
  for (size_t t = 0; t < source.tensors().size(); ++t) {
    const TensorInfo& info = source.tensors()[t];
    const uint64_t n = info.elements();
    std::vector<float> scratch, decoded(n);
    const std::span<const float> original = source.read(t, 0, n, scratch);
    std::vector<std::byte> stored(n * dtype_bytes(info.dtype));
    reader.read_stored(t, 0, n, stored);
    if (n) decode_elements(info.dtype, false, stored.data(), decoded);
    truth.elements += n;
    for (uint64_t i = 0; i < n; ++i) {
      if (!std::isfinite(original[i])) continue;
      truth.finite = truth.finite && std::isfinite(decoded[i]);
      const long double g = (long double)original[i], back = (long double)decoded[i], error = back - g;
      energy += g * g;
      squared += error * error;
      dot += g * back;
      decoded_energy += back * back;
      truth.max_error = std::max(truth.max_error, std::fabs(double(decoded[i]) - double(original[i])));
    }
  }
  truth.energy = double(energy);
  truth.squared_error = double(squared);
  truth.dot = double(dot);
  truth.decoded_energy = double(decoded_energy);
  return truth;
}

inline Truth truth_of(const GradientSource& source, const std::string& frame) {
  return truth_of(source, FrameReader::from_bytes(frame));
}

/// The report's distortion is the measured one, to the rounding of double sums.
inline void expect_true(const CompressReport& report, const Truth& truth, double tolerance = 1e-12) {
  const Distortion& said = report.distortion;
  EXPECT_EQ(said.elements, truth.elements);
  EXPECT_TRUE(truth.finite);
  EXPECT_NEAR(said.energy, truth.energy, tolerance * truth.energy);
  EXPECT_NEAR(said.squared_error, truth.squared_error, tolerance * truth.squared_error);
  EXPECT_NEAR(said.max_error, truth.max_error, tolerance * truth.max_error);
  EXPECT_NEAR(said.decoded_energy, truth.decoded_energy, tolerance * truth.decoded_energy);
  EXPECT_NEAR(said.dot, truth.dot, tolerance * std::sqrt(truth.energy) * std::sqrt(truth.decoded_energy));
}

/// All elements of a tensor as f32.
inline std::vector<float> values_of(const FrameReader& reader, size_t t = 0, unsigned threads = 0) {
  std::vector<float> values(reader.tensors()[t].info.elements());
  reader.read(t, 0, values, threads);
  return values;
}

/// Equal bit for bit, so that zeros keep their signs and NaN equals itself.
inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

inline Error error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  return Error(Errc::internal, "nothing was thrown");
}

/// The number that follows `words` in a message, NaN when the words are not there.
inline double number_after(const std::string& text, const std::string& words) {
  const size_t at = text.find(words);
  return at == std::string::npos ? std::nan("") : std::stod(text.substr(at + words.size()));
}

}  // namespace jsq::test
