// Measuring of a cell, and the order among cells.
#include "comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "inputs.hpp"
#include "jsq/error.hpp"
#include "round_trip.hpp"

namespace jsq::tools {
namespace {

std::string three_digits(double value) {
  return std::isnan(value) ? "-" : number_text(value, 3);
}
std::string four_digits(double value) {
  return std::isnan(value) ? "-" : number_text(value, 4);
}
std::string decibel(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:+.2f} dB", value);
}

double mean_magnitude(const Distortion& error) {
  return error.elements == 0 ? 0 : std::abs(error.error_sum) / double(error.elements);
}

void set_error(Figures& figures, const MeasuredError& error) {
  figures[Quantity::nmse] = error.nmse();
  figures[Quantity::cosine] = error.cosine();
  figures[Quantity::sign_agreement] = error.sign_agreement();
  figures[Quantity::max_error] = error.max_error;
  figures[Quantity::bias] = mean_magnitude(error);
}

void set_size(Figures& figures) {
  if (figures.file_bytes > 0)
    figures[Quantity::file_ratio] = double(figures.input_bytes) / double(figures.file_bytes);
  if (figures.elements > 0)
    figures[Quantity::bits_per_element] = 8.0 * double(figures.file_bytes) / double(figures.elements);
}

Figures whole_figures(const RoundTrip& trip) {
  Figures figures;
  figures.elements = trip.elements;
  figures.input_bytes = trip.input_bytes;
  figures.file_bytes = trip.file_bytes;
  set_size(figures);
  set_error(figures, trip.distortion);
  if (!trip.report.pools.empty()) {
    figures[Quantity::payload_ratio] = trip.report.payload_ratio();
    figures[Quantity::hprime] = trip.report.hprime();
  }
  const auto speed = [&](double seconds) { return double(trip.input_bytes) / 1e6 / seconds; };
  figures[Quantity::encode_speed] = speed(trip.encode_seconds);
  figures[Quantity::decode_speed] = speed(trip.decode_seconds);
  return figures;
}

Figures tensor_figures(const TensorReport& tensor, const MeasuredError& error) {
  Figures figures;
  figures.tensor = tensor.name;
  figures.elements = error.elements;
  figures.input_bytes = tensor.input_bytes;
  figures.file_bytes = tensor.block_bytes;
  set_size(figures);
  set_error(figures, error);
  return figures;
}

void set_figures(Outcome& outcome, const RoundTrip& trip) {
  outcome.measured = true;
  outcome.whole = whole_figures(trip);
  for (size_t t = 0; t < trip.tensors.size(); ++t)
    outcome.tensors.push_back(tensor_figures(trip.report.tensors[t], trip.tensors[t]));
}

/// The figures at the nearest point, where there is one: a second search may miss what the first one found.
void set_nearest(Outcome& outcome, const CellRequest& request, CompressOptions options,
                 const Target& nearest) {
  options.target = nearest;
  options.ratio_kind = RatioKind::file;
  try {
    set_figures(outcome, measure_round_trip({*request.input}, options, request.repeat));
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable_target) throw;
  }
}

/// Small beyond every method: the error names the smallest frame there is.
constexpr Target nothing = {TargetKind::bytes, 1};

/// The method cannot do what is asked at all. Only an h' target is such a question; other misuse stops the
/// run.
bool is_no_question(const Error& error, const Target& target) {
  return error.code() == Errc::usage && target.kind == TargetKind::hprime;
}

// From here on Shannon's lower bound, in closed form, takes the place of R(D): both are lower bounds and they
// meet at high rates, where the search for R(D) is slow.
constexpr double high_rate_bits = 4;

double least_nmse_at(const RateDistortion& bound, double bits) {
  return bits > high_rate_bits ? bound.shannon_nmse_at(bits) : bound.nmse_at(bits);
}

double least_bits_at(const RateDistortion& bound, double nmse) {
  const double shannon = bound.shannon_bits_at(nmse);
  return shannon > high_rate_bits ? shannon : bound.bits_at(nmse);
}

}  // namespace

const std::array<QuantityInfo, quantity_count> quantity_infos = {{
    {"file_ratio", "file", true, ratio_text, 5},
    {"bits_per_element", "bit/el", false, four_digits, 6},
    {"payload_ratio", "payload", true, ratio_text, 7},
    {"hprime", "h'", false, three_digits, 7},
    {"nmse", "nmse", false, three_digits, 8},
    {"cosine", "cos", true, three_digits, 6},
    {"sign_agreement", "signs", true, three_digits, 6},
    {"max_error", "max err", false, three_digits, 8},
    {"bias", "bias", false, three_digits, 8},
    {"bound_db", "to bound", false, decibel, 8},
    {"bound_factor", "x bytes", false, three_digits, 7},
    {"encode_mb_per_s", "enc MB/s", true, three_digits, 5},
    {"decode_mb_per_s", "dec MB/s", true, three_digits, 5},
}};

std::optional<Quantity> quantity_of_key(std::string_view key) {
  for (size_t q = 0; q < quantity_count; ++q)
    if (key == quantity_infos[q].key) return Quantity(q);
  return std::nullopt;
}

const char* accounting_name(RatioKind kind) {
  return kind == RatioKind::payload ? "payload" : "file";
}

std::string to_string(const ComparedTarget& target) {
  return to_string(target.target) + (target.kind == RatioKind::payload ? " payload" : "");
}

Figures::Figures() {
  values.fill(std::numeric_limits<double>::quiet_NaN());
}

Outcome measure_cell(const CellRequest& request) {
  Outcome outcome;
  outcome.input = request.input_name;
  outcome.method = to_string(request.method);
  outcome.target = request.target;
  CompressOptions options;
  options.method = request.method;
  options.target = request.target.target;
  options.ratio_kind = request.target.kind;
  options.seed = request.seed;
  options.threads = request.threads;
  options.backend = request.backend;
  options.progress = request.progress;
  try {
    set_figures(outcome, measure_round_trip({*request.input}, options, request.repeat));
    outcome.reached = true;
  } catch (const UnreachableTarget& error) {
    outcome.problem = error.what();
    set_nearest(outcome, request, options, error.nearest());
  } catch (const Error& error) {
    if (error.code() != Errc::unreachable_target && !is_no_question(error, options.target)) throw;
    outcome.problem = error.what();
    if (error.code() != Errc::unreachable_target) return outcome;
    options.target = nothing;
    options.ratio_kind = RatioKind::file;
    try {
      set_figures(outcome, measure_round_trip({*request.input}, options, request.repeat));
    } catch (const UnreachableTarget& smallest) {
      set_nearest(outcome, request, options, smallest.nearest());
    }
  }
  return outcome;
}

ComparisonBound::ComparisonBound(const InputDump& input, bool tensors, unsigned threads)
    : whole_(rate_distortion_bounds({input}, threads).of(SourceModel::tensors)) {
  if (!tensors) return;
  for (size_t tensor : taken_tensors(input)) {
    InputDump alone = input;
    alone.all = false;
    alone.tensors = {tensor};
    tensors_.push_back(rate_distortion_bounds({alone}, threads).of(SourceModel::tensors));
  }
}

void ComparisonBound::judge(Figures& figures, const RateDistortion& bound) {
  const double bits = figures[Quantity::bits_per_element], nmse = figures[Quantity::nmse];
  if (!std::isfinite(bits) || !std::isfinite(nmse) || bound.energy() <= 0) return;
  const double least_nmse = least_nmse_at(bound, bits), least_bits = least_bits_at(bound, nmse);
  if (least_nmse > 0 && nmse > 0) figures[Quantity::bound_db] = 10 * std::log10(nmse / least_nmse);
  if (least_bits > 0 && std::isfinite(least_bits)) figures[Quantity::bound_factor] = bits / least_bits;
}

void ComparisonBound::judge(Outcome& outcome) const {
  if (!outcome.measured) return;
  judge(outcome.whole, whole_);
  for (size_t t = 0; t < outcome.tensors.size() && t < tensors_.size(); ++t)
    judge(outcome.tensors[t], tensors_[t]);
}

double ComparisonBound::nmse_at(double bytes) const {
  return whole_.elements() > 0 ? least_nmse_at(whole_, 8 * bytes / whole_.elements()) : 0;
}

std::vector<bool> pareto_front(const std::vector<Outcome>& outcomes) {
  const auto beats = [&](size_t a, size_t b) {
    const Outcome &one = outcomes[a], &other = outcomes[b];
    if (!one.measured || one.input != other.input) return false;
    const double nmse = one.whole[Quantity::nmse], other_nmse = other.whole[Quantity::nmse];
    const uint64_t bytes = one.whole.file_bytes, other_bytes = other.whole.file_bytes;
    if (!(bytes <= other_bytes && nmse <= other_nmse)) return false;
    return bytes < other_bytes || nmse < other_nmse || a < b;
  };
  std::vector<bool> front(outcomes.size());
  for (size_t i = 0; i < outcomes.size(); ++i) {
    front[i] = outcomes[i].measured;
    for (size_t j = 0; j < outcomes.size() && front[i]; ++j)
      if (j != i && beats(j, i)) front[i] = false;
  }
  return front;
}

void sort_outcomes(std::vector<Outcome>& outcomes, Quantity quantity) {
  const bool larger = quantity_infos[size_t(quantity)].larger_is_better;
  const auto badness = [&](const Outcome& outcome) {
    const double value = outcome.whole[quantity];
    const bool lacks = !outcome.measured || std::isnan(value);
    return std::pair(lacks ? 2 : outcome.reached ? 0 : 1, lacks ? 0.0 : larger ? -value : value);
  };
  std::stable_sort(outcomes.begin(), outcomes.end(),
                   [&](const Outcome& a, const Outcome& b) { return badness(a) < badness(b); });
}

}  // namespace jsq::tools
