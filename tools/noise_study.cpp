// The models through jsq::allocator_models, the measurements through round_trip.
#include "noise_study.hpp"

#include <cmath>
#include <limits>

#include "jsq/error.hpp"

namespace jsq::tools {

namespace {

CodedNoise coded_noise(const RoundTrip& trip) {
  CodedNoise coded;
  coded.file_bytes = trip.file_bytes;
  coded.file_ratio = trip.file_ratio();
  coded.bits_per_element = trip.bits_per_element();
  double expected = 0;
  for (const PoolReport& pool : trip.report.pools) {
    coded.payload_bits += pool.payload_bits;
    expected += pool.expected_squared_error;
  }
  coded.expected_nmse = trip.distortion.energy > 0 ? expected / trip.distortion.energy : 0;
  coded.hprime = trip.report.pools.empty() ? std::numeric_limits<double>::quiet_NaN() : trip.report.hprime();
  coded.distortion = trip.distortion;
  for (size_t t = 0; t < trip.tensors.size(); ++t) {
    const TensorReport& tensor = trip.report.tensors[t];
    coded.tensors.push_back(
        {trip.tensors[t].elements, tensor.input_bytes, tensor.block_bytes, trip.tensors[t], {}});
  }
  return coded;
}

void add_trials(CodedNoise& coded, const InputDump& input, const CompressOptions& options,
                const StudyOptions& study) {
  if (study.trials == 0) return;
  const DumpTrials trials = run_trials(input, options, study.trials, study.memory_limit_bytes);
  coded.trials = trials.whole;
  for (size_t t = 0; t < trials.tensors.size(); ++t) coded.tensors[t].trials = trials.tensors[t];
}

}  // namespace

NoiseStudy study_noise(const InputDump& input, const CompressOptions& options, const StudyOptions& wanted) {
  if (wanted.models && !allocates_bits(options.method))
    throw Error(
        Errc::usage,
        "method '" + options.method.name +
            "' does not allocate bits, so it has no h'; use a jointsq method with --noise, or leave --noise "
            "out and ask for --bound, --trials or --curve");
  const RoundTrip as_given = measure_round_trip({input}, options, 1);

  NoiseStudy study;
  study.target = to_string(options.target);
  study.elements = as_given.elements;
  if (!wanted.models) {
    AllocatorStudy result;
    result.allocator = "as given";
    result.coded = coded_noise(as_given);
    add_trials(*result.coded, input, options, wanted);
    study.allocators.push_back(std::move(result));
    return study;
  }
  if (as_given.report.pools.empty()) return study;
  study.payload_bits = coded_noise(as_given).payload_bits;
  study.widths = as_given.report.pools.front().widths;

  for (AllocatorModel& model : allocator_models(input, {.method = options.method,
                                                       .widths = study.widths,
                                                       .payload_bits = study.payload_bits,
                                                       .seed = options.seed,
                                                       .memory_limit_bytes = wanted.memory_limit_bytes})) {
    AllocatorStudy result;
    result.allocator = model.allocator;
    result.model = std::move(model.model);
    result.tensors = std::move(model.tensors);
    result.thresholds = std::move(model.thresholds);
    CompressOptions coding = options;
    coding.method = model.method;
    try {
      result.coded = coded_noise(model.as_given ? as_given : measure_round_trip({input}, coding, 1));
      add_trials(*result.coded, input, coding, wanted);
    } catch (const Error& error) {
      if (error.code() != Errc::unreachable_target) throw;
      result.problem = error.what();
    }
    study.allocators.push_back(std::move(result));
  }
  return study;
}

}  // namespace jsq::tools
