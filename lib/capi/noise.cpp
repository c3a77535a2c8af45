// The C interface's judgement of noise: an allocator's models beside a real encode, and rate-distortion
// bounds.
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "jsq/allocator_models.hpp"
#include "jsq/rate_distortion.hpp"
#include "lib/capi/arrays.hpp"
#include "lib/capi/guard.hpp"

/// C's name for RateDistortionBounds.
struct jsq_bounds {
  jsq::RateDistortionBounds bounds;
};

namespace jsq::capi {
namespace {

constexpr size_t first_noise_size = sizeof(jsq_noise_report);

/// Takes a frame of which only the report counts.
class NoSink final : public ByteSink {
 public:
  void write(std::span<const std::byte>) override {}
};

uint64_t payload_bits(const CompressReport& report) {
  uint64_t bits = 0;
  for (const PoolReport& pool : report.pools) bits += pool.payload_bits;
  return bits;
}

jsq_noise_report noise_of(const InputDump& input, CompressOptions how, std::string_view allocator) {
  if (!allocates_bits(how.method))
    throw Error(Errc::usage, "jsq_noise: method '" + how.method.name +
                                 "' does not allocate bits, so it has no h'; use a jointsq method");
  NoSink nowhere;
  const CompressReport as_given = compress({input}, how, nowhere);
  if (as_given.pools.empty())
    throw Error(Errc::usage, "jsq_noise: there are no elements to allocate bits to");
  const std::vector<AllocatorModel> models = allocator_models(input, {.method = how.method,
                                                                      .widths = as_given.pools.front().widths,
                                                                      .payload_bits = payload_bits(as_given),
                                                                      .seed = how.seed,
                                                                      .only = allocator});
  if (models.empty())
    throw Error(Errc::usage,
                "jsq_noise: allocator '" + std::string(allocator) +
                    "' is defined for the widths 0, 2, 4 and 8 only; leave the method's widths as they are");
  const AllocatorModel& found = models.front();
  how.method = found.method;
  const CompressReport coded = found.as_given ? as_given : compress({input}, how, nowhere);

  jsq_noise_report noise = {};
  noise.payload_bits = found.model.payload_bits;
  noise.hprime = found.model.noise.per_element;
  noise.hprime_eq6 = found.model.noise.eq6;
  noise.hprime_eq6_nonzero = found.model.noise.eq6_nonzero;
  noise.h_uniform = found.model.noise.uniform;
  noise.uniform_bits = found.model.noise.uniform_bits;
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  noise.exchange_gain = found.model.exchange ? found.model.exchange->gain : none;
  noise.exchange_loss = found.model.exchange ? found.model.exchange->loss : none;
  const jsq_report report = report_of(coded);
  noise.elements = report.elements;
  noise.input_bytes = report.input_bytes;
  noise.file_bytes = report.file_bytes;
  noise.coded_payload_bits = report.payload_bits;
  noise.coded_hprime = report.hprime;
  noise.expected_nmse = report.expected_nmse;
  noise.nmse = report.nmse;
  noise.cosine = report.cosine;
  noise.max_error = report.max_error;
  noise.mean_error = report.mean_error;
  return noise;
}

bool is_shannon(std::string_view model) {
  return model == "shannon";
}

/// \throws Error unknown_name.
const RateDistortion& source_of_name(const RateDistortionBounds& bounds, std::string_view name,
                                     const char* function) {
  if (is_shannon(name)) return bounds.pooled;
  for (SourceModel model : {SourceModel::pooled, SourceModel::tensors, SourceModel::scales})
    if (name == source_model_name(model)) return bounds.of(model);
  throw Error(Errc::unknown_name, std::string(function) + ": model is '" + std::string(name) +
                                      "'; expected pooled, tensors, scales or shannon");
}

/// \throws Error usage for what is no size and no error.
void require_not_negative(double value, const char* function, const char* argument) {
  if (value >= 0) return;
  throw Error(Errc::usage, std::string(function) + ": " + argument + " is " + std::to_string(value) +
                               "; expected 0 or more");
}

}  // namespace
}  // namespace jsq::capi

extern "C" {

int jsq_noise(const jsq_array* arrays, size_t count, const jsq_options* options, const char* allocator,
              jsq_noise_report* noise) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(allocator, "jsq_noise", "allocator");
    jsq::capi::require(noise, "jsq_noise", "noise");
    jsq::capi::check_room(*noise, jsq::capi::first_noise_size, "jsq_noise", "noise");
    const jsq::CompressOptions how = jsq::capi::compress_options(options, "jsq_noise");
    if (how.state != nullptr)
      throw jsq::Error(
          jsq::Errc::usage,
          "jsq_noise: options->state is set, but noise is that of one dump by itself; leave it NULL");
    const jsq::InputDump input = jsq::capi::input_of(arrays, count, options, "jsq_noise");
    jsq::capi::give_members(*noise, jsq::capi::noise_of(input, how, allocator));
  });
}

int jsq_bounds_new(const jsq_array* arrays, size_t count, unsigned threads, jsq_bounds** bounds) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(bounds, "jsq_bounds_new", "bounds");
    const jsq::InputDump input = jsq::capi::input_of(arrays, count, nullptr, "jsq_bounds_new");
    *bounds = new jsq_bounds{jsq::rate_distortion_bounds({input}, threads)};
  });
}

int jsq_bounds_nmse(const jsq_bounds* bounds, const char* model, double bits_per_element, double* nmse) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(bounds, "jsq_bounds_nmse", "bounds");
    jsq::capi::require(model, "jsq_bounds_nmse", "model");
    jsq::capi::require(nmse, "jsq_bounds_nmse", "nmse");
    jsq::capi::require_not_negative(bits_per_element, "jsq_bounds_nmse", "bits_per_element");
    const jsq::RateDistortion& source = jsq::capi::source_of_name(bounds->bounds, model, "jsq_bounds_nmse");
    *nmse = jsq::capi::is_shannon(model) ? source.shannon_nmse_at(bits_per_element)
                                         : source.nmse_at(bits_per_element);
  });
}

int jsq_bounds_bits(const jsq_bounds* bounds, const char* model, double nmse, double* bits_per_element) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(bounds, "jsq_bounds_bits", "bounds");
    jsq::capi::require(model, "jsq_bounds_bits", "model");
    jsq::capi::require(bits_per_element, "jsq_bounds_bits", "bits_per_element");
    jsq::capi::require_not_negative(nmse, "jsq_bounds_bits", "nmse");
    const jsq::RateDistortion& source = jsq::capi::source_of_name(bounds->bounds, model, "jsq_bounds_bits");
    *bits_per_element = jsq::capi::is_shannon(model) ? source.shannon_bits_at(nmse) : source.bits_at(nmse);
  });
}

void jsq_bounds_free(jsq_bounds* bounds) {
  delete bounds;
}

}  // extern "C"
