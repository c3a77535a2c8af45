// Block-wise comparison of a frame with its dumps.
#include "measure.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "inputs.hpp"
#include "jsq/error.hpp"
#include "jsq/tensor.hpp"
#include "parallel.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

constexpr uint8_t policy_kept = 2;

/// One run of elements, from both sides.
struct Run {
  const FrameReader& frame;
  const GradientSource& source;
  size_t tensor, source_tensor;
  uint64_t first;
  size_t count;
  Reference reference;
};

/// Takes the non-finite elements of the source out of the sums.
void settle_nonfinite(const Run& run, std::vector<float>& original, std::vector<float>& decoded,
                      std::span<const std::byte> decoded_stored) {
  const FrameTensor& tensor = run.frame.tensors()[run.tensor];
  const size_t bytes = dtype_bytes(tensor.info.dtype);
  std::vector<std::byte> original_stored;
  for (size_t i = 0; i < original.size(); ++i) {
    if (std::isfinite(original[i])) continue;
    original[i] = 0;
    if (tensor.nonfinite_policy != policy_kept) continue;
    decoded[i] = 0;
    if (original_stored.empty()) {
      original_stored.resize(run.count * bytes);
      run.source.read_stored(run.source_tensor, run.first, run.count, original_stored.data());
    }
    if (std::memcmp(original_stored.data() + i * bytes, decoded_stored.data() + i * bytes, bytes) != 0)
      throw Error(Errc::assertion_failed, fmt::format("{}: non-finite element {} did not keep its bits",
                                                      tensor.info.name, run.first + i));
  }
}

int sign_of(double value) {
  return int(value > 0) - int(value < 0);
}

MeasuredError measured_error(std::span<const float> original, std::span<const float> decoded) {
  MeasuredError error{distortion(original, decoded)};
  for (size_t i = 0; i < original.size(); ++i)
    error.same_sign += sign_of(original[i]) == sign_of(decoded[i]) ? 1 : 0;
  return error;
}

/// The same sums for elements that f32 cannot hold; both sides are little-endian bytes. Every element of
/// the source is finite.
MeasuredError measured_error_of_doubles(std::span<const std::byte> original,
                                        std::span<const std::byte> decoded) {
  MeasuredError error;
  error.elements = original.size() / sizeof(double);
  for (size_t i = 0; i < error.elements; ++i) {
    double g = 0, h = 0;
    std::memcpy(&g, original.data() + i * sizeof(double), sizeof(double));
    std::memcpy(&h, decoded.data() + i * sizeof(double), sizeof(double));
    const double e = h - g;
    error.energy += g * g;
    error.squared_error += e * e;
    error.dot += g * h;
    error.decoded_energy += h * h;
    error.error_sum += e;
    error.max_error = std::max(error.max_error, std::abs(e));
    error.same_sign += sign_of(g) == sign_of(h) ? 1 : 0;
  }
  return error;
}

MeasuredError measure_block(const Run& run, std::span<const std::byte> stored, std::vector<float>& scratch,
                            std::vector<float>& decoded) {
  const DType dtype = run.frame.tensors()[run.tensor].info.dtype;
  const std::span<const float> view = run.source.read(run.source_tensor, run.first, run.count, scratch);
  decoded.resize(run.count);
  decode_elements(dtype, false, stored.data(), decoded);
  if (std::all_of(view.begin(), view.end(), [](float value) { return std::isfinite(value); })) {
    if (dtype != DType::f64 || run.reference == Reference::coded) return measured_error(view, decoded);
    std::vector<std::byte> original(stored.size());
    run.source.read_stored(run.source_tensor, run.first, run.count, original.data());
    return measured_error_of_doubles(original, stored);
  }
  std::vector<float> original(view.begin(), view.end());
  settle_nonfinite(run, original, decoded, stored);
  return measured_error(original, decoded);
}

/// Of every block of the run, the first of which begins with it.
void measure_run(const Run& run, uint64_t block, std::span<MeasuredError> parts) {
  const DType dtype = run.frame.tensors()[run.tensor].info.dtype;
  const size_t bytes = dtype_bytes(dtype);
  std::vector<std::byte> stored(run.count * bytes);
  run.frame.read_stored(run.tensor, run.first, run.count, stored, 1);
  std::vector<float> scratch, decoded;
  for (size_t b = 0; b < parts.size(); ++b) {
    Run own = run;
    own.first += b * block;
    own.count = size_t(std::min<uint64_t>(block, run.count - b * block));
    const std::span<const std::byte> own_stored =
        std::span(stored).subspan(b * block * bytes, own.count * bytes);
    parts[b] = measure_block(own, own_stored, scratch, decoded);
  }
}

[[noreturn]] void differ(const std::string& where, const std::string& expected, const std::string& found) {
  throw Error(Errc::assertion_failed,
              fmt::format("{}: the original has {}, the frame {}", where, expected, found));
}

void check_tensor(const TensorInfo& original, const TensorInfo& frame, size_t index) {
  const std::string where = fmt::format("tensor {} '{}'", index, original.name);
  if (original.name != frame.name) differ(where, "name '" + original.name + "'", "'" + frame.name + "'");
  if (original.shape != frame.shape)
    differ(where, "shape " + shape_text(original.shape), shape_text(frame.shape));
  if (original.fortran_order != frame.fortran_order)
    differ(where, original.fortran_order ? "Fortran order" : "C order",
           frame.fortran_order ? "Fortran order" : "C order");
  if (original.dtype != frame.dtype)
    differ(where, "dtype " + std::string(dtype_name(original.dtype)), std::string(dtype_name(frame.dtype)));
}

bool agree(double reported, double measured, double scale) {
  constexpr double tolerance = 1e-12;
  return std::fabs(reported - measured) <= tolerance * scale;
}

}  // namespace

void MeasuredError::add(const MeasuredError& other) noexcept {
  Distortion::add(other);
  same_sign += other.same_sign;
}

double MeasuredError::sign_agreement() const noexcept {
  return elements == 0 ? 1.0 : double(same_sign) / double(elements);
}

MeasuredError measure_tensor(const FrameReader& frame, size_t tensor, const GradientSource& source,
                             size_t source_tensor, unsigned threads, Reference reference) {
  const FrameTensor& coded = frame.tensors()[tensor];
  const uint64_t elements = coded.info.elements();
  const uint64_t block = uint64_t(1) << coded.block_log2;
  const uint64_t together = frame.elements_together(tensor, thread_count(threads)) / block;
  // In batches, so that a tensor of any size needs a bounded number of partial sums.
  constexpr uint64_t blocks_per_batch = 1024;
  MeasuredError total;
  for (uint64_t first = 0; first < elements; first += blocks_per_batch * block) {
    const uint64_t here = std::min(elements - first, blocks_per_batch * block);
    std::vector<MeasuredError> parts(size_t((here + block - 1) / block));
    parallel_for(threads, size_t((parts.size() + together - 1) / together), [&](size_t run) {
      const size_t b = run * together;
      const uint64_t at = b * block;
      const std::span<MeasuredError> own =
          std::span(parts).subspan(b, std::min<size_t>(together, parts.size() - b));
      measure_run({.frame = frame,
                   .source = source,
                   .tensor = tensor,
                   .source_tensor = source_tensor,
                   .first = first + at,
                   .count = size_t(std::min(own.size() * block, here - at)),
                   .reference = reference},
                  block, own);
    });
    for (const MeasuredError& part : parts) total.add(part);
  }
  return total;
}

std::vector<MeasuredError> measure_dump(const FrameReader& frame, size_t dump, const InputDump& original,
                                        unsigned threads, Reference reference) {
  const FrameDump& coded = frame.dumps()[dump];
  const std::vector<size_t> taken = taken_tensors(original);
  if (taken.size() != coded.tensor_count)
    differ("'" + coded.path + "'", fmt::format("{} tensors", taken.size()),
           std::to_string(coded.tensor_count));
  for (size_t i = 0; i < taken.size(); ++i)
    check_tensor(original.source->tensors()[taken[i]], frame.tensors()[coded.first_tensor + i].info, i);
  std::vector<MeasuredError> errors;
  for (size_t i = 0; i < taken.size(); ++i)
    errors.push_back(
        measure_tensor(frame, coded.first_tensor + i, *original.source, taken[i], threads, reference));
  return errors;
}

void verify_frame(const FrameReader& frame, const std::vector<InputDump>& inputs,
                  const CompressReport& report, unsigned threads) {
  if (frame.dumps().size() != inputs.size())
    throw Error(Errc::assertion_failed, fmt::format("--verify: {} dumps were written, {} were given",
                                                    frame.dumps().size(), inputs.size()));
  size_t index = 0;
  for (size_t d = 0; d < inputs.size(); ++d) {
    for (const Distortion& measured : measure_dump(frame, d, inputs[d], threads, Reference::coded)) {
      const TensorReport& tensor = report.tensors.at(index++);
      const Distortion& told = tensor.distortion;
      const bool same = told.elements == measured.elements &&
                        agree(told.energy, measured.energy, told.energy) &&
                        agree(told.squared_error, measured.squared_error, told.squared_error) &&
                        told.max_error == measured.max_error;
      if (!same)
        throw Error(
            Errc::assertion_failed,
            fmt::format(
                "--verify: {} tensor '{}': reported squared error {} of energy {}, decoding gives {} of {}; "
                "the output was removed, please report this",
                inputs[d].path, tensor.name, told.squared_error, told.energy, measured.squared_error,
                measured.energy));
    }
  }
}

}  // namespace jsq::tools
