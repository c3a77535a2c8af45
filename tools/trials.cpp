// Two passes over the frames: the sum of all errors first, then each error's product with it.
#include "trials.hpp"

#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <string>
#include <vector>

#include "inputs.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "parallel.hpp"

namespace jsq::tools {

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr size_t block_elements = 65536;

/// The 0.975 quantile of Student's t: a table, then Fisher's expansion, which is within 1e-5 from there on.
double t_quantile(unsigned freedom) {
  constexpr double table[] = {12.706204736, 4.302652730, 3.182446305, 2.776445105, 2.570581836,
                              2.446911851,  2.364624252, 2.306004135, 2.262157163, 2.228138852};
  if (freedom <= std::size(table)) return table[freedom - 1];
  const double z = 1.959963985, n = freedom, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

/// The estimate and the spread of those without one of the trials each.
Estimate jackknife(double value, const std::vector<double>& without) {
  const double n = double(without.size());
  if (without.size() < 2) return {value, not_a_number};
  double mean = 0, squares = 0;
  for (double w : without) mean += w / n;
  for (double w : without) squares += (w - mean) * (w - mean);
  return {value, t_quantile(unsigned(without.size()) - 1) * std::sqrt((n - 1) / n * squares)};
}

/// Some elements of one tensor: `first` is the first one's place in the dump.
struct Run {
  size_t tensor = 0;
  uint64_t first = 0;
  std::span<const float> original, decoded;
};

/// Calls visit(run) for runs that cover the dump's elements, in order.
using VisitRun = std::function<void(const Run&)>;
void for_each_run(const InputDump& input, const FrameReader& frame, const VisitRun& visit) {
  const std::vector<size_t> taken = taken_tensors(input);
  std::vector<float> scratch, decoded;
  std::vector<std::byte> stored;
  uint64_t start = 0;
  for (size_t t = 0; t < taken.size(); ++t) {
    const TensorInfo& info = frame.tensors()[t].info;
    const uint64_t elements = info.elements();
    for (uint64_t first = 0; first < elements; first += block_elements) {
      const size_t count = size_t(std::min<uint64_t>(block_elements, elements - first));
      stored.resize(count * dtype_bytes(info.dtype));
      frame.read_stored(t, first, count, stored);
      decoded.resize(count);
      decode_elements(info.dtype, false, stored.data(), decoded);
      visit({t, start + first, input.source->read(taken[t], first, count, scratch), decoded});
    }
    start += elements;
  }
}

uint64_t elements_of(const InputDump& input) {
  uint64_t elements = 0;
  for (size_t t : taken_tensors(input)) elements += input.source->tensors()[t].elements();
  return elements;
}

/// What the passes gather of some elements: |g|^2, |e_t|^2 and <e_t, s> of every trial t, and |s|^2, s being
/// the sum of all e_t.
struct Errors {
  double energy = 0;
  std::vector<double> squared, with_sum;
  double sum_squared = 0;
  bool differ = false;  ///< some trial from the first

  explicit Errors(size_t trials) : squared(trials), with_sum(trials) {}
  void add(const Errors& other) {
    energy += other.energy;
    for (size_t t = 0; t < squared.size(); ++t) squared[t] += other.squared[t];
    for (size_t t = 0; t < with_sum.size(); ++t) with_sum[t] += other.with_sum[t];
    sum_squared += other.sum_squared;
    differ = differ || other.differ;
  }
};

/// \param n trials that were made
Trials trials_from(const Errors& errors, size_t n) {
  Trials trials;
  trials.count = unsigned(n);
  if (!(errors.energy > 0)) return {trials.count, true, {}, {}, {}};
  if (n > 1 && !errors.differ) {
    const double nmse = errors.squared[0] / errors.energy;
    return {trials.count, true, {nmse, 0}, {nmse, 0}, {0, 0}};
  }
  double total = 0;
  for (size_t t = 0; t < n; ++t) total += errors.squared[t];
  const auto pair_mean = [&](double sum_squared, double squares, double count) {
    return (sum_squared - squares) / (count * (count - 1)) / errors.energy;
  };
  const double mean = total / double(n) / errors.energy;
  if (n < 2)
    return {trials.count,
            false,
            {mean, not_a_number},
            {not_a_number, not_a_number},
            {not_a_number, not_a_number}};
  const double bias = pair_mean(errors.sum_squared, total, double(n));
  std::vector<double> means, biases, variances;
  for (size_t t = 0; t < n; ++t) {
    const double squares = total - errors.squared[t];
    const double sum_squared = errors.sum_squared - 2 * errors.with_sum[t] + errors.squared[t];
    means.push_back(squares / double(n - 1) / errors.energy);
    // Two trials have one pair; without one of them there is none.
    if (n == 2) continue;
    biases.push_back(pair_mean(sum_squared, squares, double(n - 1)));
    variances.push_back(means.back() - biases.back());
  }
  trials.nmse = jackknife(mean, means);
  trials.bias = jackknife(bias, biases);
  trials.variance = jackknife(mean - bias, variances);
  return trials;
}

/// True when error e of trial `trial` is not that of all trials before, whose sum is s. Adding equal numbers
/// rounds, by far less than any two decoded floats differ.
bool differs(double e, size_t trial, double s) {
  return trial > 0 && std::abs(double(trial) * e - s) > 1e-9 * std::abs(s);
}

/// First pass over a trial's frame: the errors' squares, and the sum of all errors so far.
void add_trial(const InputDump& input, const FrameReader& frame, size_t trial, std::vector<double>& sum,
               std::vector<Errors>& tensors) {
  for (Errors& errors : tensors) errors.energy = 0;
  for_each_run(input, frame, [&](const Run& run) {
    Errors& errors = tensors[run.tensor];
    double squared = 0, energy = 0;
    for (size_t i = 0; i < run.original.size(); ++i) {
      const double g = double(run.original[i]), e = double(run.decoded[i]) - g;
      double& s = sum[run.first + i];
      errors.differ = errors.differ || differs(e, trial, s);
      s += e;
      squared += e * e;
      energy += g * g;
    }
    errors.squared[trial] += squared;
    errors.energy += energy;
  });
}

/// Second pass: the errors' products with their sum.
void add_products(const InputDump& input, const FrameReader& frame, size_t trial,
                  const std::vector<double>& sum, std::vector<Errors>& tensors) {
  for_each_run(input, frame, [&](const Run& run) {
    double with_sum = 0, sum_squared = 0;
    for (size_t i = 0; i < run.original.size(); ++i) {
      const double s = sum[run.first + i];
      with_sum += (double(run.decoded[i]) - double(run.original[i])) * s;
      sum_squared += s * s;
    }
    tensors[run.tensor].with_sum[trial] += with_sum;
    if (trial == 0) tensors[run.tensor].sum_squared += sum_squared;
  });
}

FrameReader reader_of(const MemorySink& frame, Backend backend) {
  FrameReader reader = FrameReader::from_bytes(frame.bytes);
  reader.use(backend);
  return reader;
}

}  // namespace

DumpTrials run_trials(const InputDump& input, const CompressOptions& options, unsigned count,
                      uint64_t memory_limit_bytes) {
  const uint64_t elements = elements_of(input);
  if (memory_limit_bytes > 0 && elements > memory_limit_bytes / sizeof(double))
    throw Error(Errc::limit, input.path + ": --trials sums the errors of all " + std::to_string(elements) +
                                 " elements in memory, " + std::to_string(elements * sizeof(double)) +
                                 " bytes, and --memory-limit allows " + std::to_string(memory_limit_bytes) +
                                 "; raise the limit or name fewer tensors");
  std::vector<double> sum(elements);
  std::vector<MemorySink> frames;
  std::vector<Errors> tensors(taken_tensors(input).size(), Errors(count));
  bool differ = false;
  for (unsigned trial = 0; trial < count; ++trial) {
    CompressOptions coding = options;
    coding.seed = options.seed + trial;
    frames.emplace_back();
    compress({input}, coding, frames.back());
    add_trial(input, reader_of(frames.back(), options.backend), trial, sum, tensors);
    for (const Errors& errors : tensors) differ = differ || errors.differ;
    if (trial == 1 && !differ) break;
  }
  if (differ)
    for (size_t trial = 0; trial < frames.size(); ++trial)
      add_products(input, reader_of(frames[trial], options.backend), trial, sum, tensors);

  Errors whole(count);
  for (const Errors& errors : tensors) whole.add(errors);
  DumpTrials trials{trials_from(whole, frames.size()), {}};
  for (const Errors& errors : tensors) trials.tensors.push_back(trials_from(errors, frames.size()));
  return trials;
}

}  // namespace jsq::tools
