// Schedules: their text form, and the bytes of each step.
#include "jsq/schedule.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "jsq/error.hpp"
#include "lib/core/rational_power.hpp"
#include "lib/core/size_limit.hpp"

namespace jsq {
namespace {

constexpr std::pair<std::string_view, ScheduleKind> kinds[] = {{"constant", ScheduleKind::constant},
                                                               {"ramp-ratio", ScheduleKind::ramp_ratio},
                                                               {"ramp-bits", ScheduleKind::ramp_bits},
                                                               {"warmup", ScheduleKind::warmup}};

[[noreturn]] void bad_schedule(std::string_view text) {
  throw Error(
      Errc::usage,
      fmt::format("schedule '{}': expected constant, ramp-ratio:START or ramp-bits:START with a ratio "
                  "such as 50, or warmup:STEPS",
                  text));
}

/// Whole bytes that follow shares of a total, each cut where the sum so far is.
std::vector<uint64_t> whole_shares(const std::vector<double>& shares, uint64_t total) {
  double all = 0;
  for (double share : shares) all += share;
  std::vector<uint64_t> bytes;
  double sum = 0;
  uint64_t given = 0;
  for (size_t t = 0; t < shares.size(); ++t) {
    sum += shares[t];
    const uint64_t until =
        t + 1 == shares.size() ? total : std::min(total, uint64_t(double(total) * (sum / all)));
    bytes.push_back(until - std::min(until, given));
    given = std::max(given, until);
  }
  return bytes;
}

/// Shares 1 / r(t) of a ratio that goes linearly from `start` to `end`.
std::vector<double> ratio_shares(double start, double end, uint64_t steps) {
  std::vector<double> shares;
  for (uint64_t t = 0; t < steps; ++t)
    shares.push_back(1 / (start + (end - start) * double(t) / double(steps - 1)));
  return shares;
}

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += value;
  return sum;
}

[[noreturn]] void no_end(const Schedule& schedule, double lowest) {
  throw Error(Errc::usage,
              fmt::format("schedule '{}': no last step makes up for this start; give a ratio above {:.6g}",
                          to_string(schedule), lowest));
}

std::vector<uint64_t> ramp_ratio(const Schedule& schedule, double input_bytes, uint64_t constant,
                                 uint64_t steps) {
  const double wanted = double(constant) * double(steps) / input_bytes;  // sum of 1 / r(t)
  double low = 1e-9, high = 1e18;
  if (sum_of(ratio_shares(schedule.start_ratio, high, steps)) >= wanted)
    no_end(schedule, input_bytes / double(constant) / double(steps));
  for (int round = 0; round < 200; ++round) {
    const double middle = (low + high) / 2;
    (sum_of(ratio_shares(schedule.start_ratio, middle, steps)) > wanted ? low : high) = middle;
  }
  return whole_shares(ratio_shares(schedule.start_ratio, high, steps), constant * steps);
}

std::vector<uint64_t> ramp_bits(const Schedule& schedule, double input_bytes, uint64_t constant,
                                uint64_t steps) {
  const double first = input_bytes / schedule.start_ratio, last = 2 * double(constant) - first;
  if (!(last > 0)) no_end(schedule, input_bytes / double(constant) / 2);
  std::vector<double> shares;
  for (uint64_t t = 0; t < steps; ++t)
    shares.push_back(first + (last - first) * double(t) / double(steps - 1));
  return whole_shares(shares, constant * steps);
}

std::vector<uint64_t> warmup(const Schedule& schedule, double input_bytes, uint64_t constant,
                             uint64_t steps) {
  std::vector<uint64_t> bytes(steps, constant);
  const double density = std::min(double(constant) / input_bytes, 1.0);
  for (uint64_t e = 0; e < std::min(steps, schedule.warmup_steps); ++e)
    bytes[e] =
        std::max(constant, uint64_t(rational_power(density, e + 1, schedule.warmup_steps + 1) * input_bytes));
  return bytes;
}

}  // namespace

Schedule parse_schedule(std::string_view text) {
  const size_t colon = std::min(text.find(':'), text.size());
  const auto* const kind = std::find_if(std::begin(kinds), std::end(kinds),
                                        [&](const auto& row) { return row.first == text.substr(0, colon); });
  if (kind == std::end(kinds)) bad_schedule(text);
  Schedule schedule{.kind = kind->second};
  if (schedule.kind == ScheduleKind::constant) {
    if (colon != text.size()) bad_schedule(text);
    return schedule;
  }
  double number = 0;
  const char* const last = text.data() + text.size();
  const char* const begin = text.data() + std::min(colon + 1, text.size());
  const auto [end, error] = std::from_chars(begin, last, number);
  if (error != std::errc() || end != last || !(number > 0) || !std::isfinite(number)) bad_schedule(text);
  if (schedule.kind == ScheduleKind::warmup) {
    if (number != std::floor(number) || number > 1e6) bad_schedule(text);
    schedule.warmup_steps = uint64_t(number);
  } else {
    schedule.start_ratio = number;
  }
  return schedule;
}

std::string to_string(const Schedule& schedule) {
  for (const auto& [name, kind] : kinds) {
    if (kind != schedule.kind) continue;
    if (kind == ScheduleKind::constant) return std::string(name);
    if (kind == ScheduleKind::warmup) return fmt::format("{}:{}", name, schedule.warmup_steps);
    return fmt::format("{}:{}", name, schedule.start_ratio);
  }
  return {};
}

std::vector<uint64_t> scheduled_bytes(const Schedule& schedule, const Target& target, StepSize step,
                                      uint64_t steps) {
  const uint64_t constant = size_limit(target, step.input_bytes, step.elements);
  const auto input_bytes = double(step.input_bytes);
  const bool ramps = schedule.kind == ScheduleKind::ramp_ratio || schedule.kind == ScheduleKind::ramp_bits;
  if (steps == 0 || constant == 0 || step.input_bytes == 0) return std::vector<uint64_t>(steps, constant);
  if (ramps && steps == 1) return {constant};
  switch (schedule.kind) {
    case ScheduleKind::ramp_ratio:
      return ramp_ratio(schedule, input_bytes, constant, steps);
    case ScheduleKind::ramp_bits:
      return ramp_bits(schedule, input_bytes, constant, steps);
    case ScheduleKind::warmup:
      return warmup(schedule, input_bytes, constant, steps);
    case ScheduleKind::constant:
      break;
  }
  return std::vector<uint64_t>(steps, constant);
}

}  // namespace jsq
