#include "jsq/target.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <utility>

#include "jsq/error.hpp"

namespace jsq {
namespace {

constexpr std::pair<std::string_view, TargetKind> kinds[] = {
    {"ratio", TargetKind::ratio},  {"bpw", TargetKind::bpw},       {"bytes", TargetKind::bytes},
    {"nmse", TargetKind::nmse},    {"maxabs", TargetKind::maxabs}, {"hprime", TargetKind::hprime},
    {"cosine", TargetKind::cosine}};

[[noreturn]] void bad_target(std::string_view text, std::string_view found) {
  throw Error(Errc::usage, fmt::format("target '{}': {}; expected ratio=32, bpw=1, bytes=64KiB, nmse=1e-3, "
                                       "maxabs=1e-4, cosine=0.99, hprime=0.1 or native",
                                       text, found));
}

}  // namespace

uint64_t parse_size(std::string_view text, std::string_view what) {
  constexpr std::pair<std::string_view, double> units[] = {
      {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
      {"KB", 1e3},     {"MB", 1e6},        {"GB", 1e9},           {"TB", 1e12},
      {"B", 1.0}};
  std::string_view number = text;
  double unit = 1;
  for (const auto& [name, factor] : units)
    if (number.size() > name.size() && number.ends_with(name)) {
      number.remove_suffix(name.size());
      unit = factor;
      break;
    }
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size() || !(value >= 0) || value * unit > 1e18)
    throw Error(Errc::usage,
                fmt::format("{}: expected a size such as 65536, 64KiB or 2GiB, found '{}'", what, text));
  return uint64_t(value * unit);
}

Target parse_target(std::string_view text) {
  if (text == "native") return {TargetKind::native, 0};
  Target target;
  std::string_view number = text;
  const size_t equals = text.find('=');
  if (equals != std::string_view::npos) {
    bool known = false;
    for (const auto& [name, kind] : kinds)
      if (text.substr(0, equals) == name) {
        target.kind = kind;
        known = true;
      }
    if (!known) bad_target(text, fmt::format("unknown kind '{}'", text.substr(0, equals)));
    number = text.substr(equals + 1);
  }
  if (target.kind == TargetKind::bytes) {
    target.value = double(parse_size(number, "target bytes"));
  } else {
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), target.value);
    if (error != std::errc() || end != number.data() + number.size())
      bad_target(text, fmt::format("'{}' is not a number", number));
  }
  if (!(target.value > 0) || !std::isfinite(target.value)) bad_target(text, "the value is not above zero");
  if (target.kind == TargetKind::cosine && target.value >= 1)
    bad_target(text, "a cosine to reach is below 1");
  return target;
}

UnreachableTarget UnreachableTarget::below(double nearest, const Target& target, std::string_view method) {
  // Rounded up, so that what is printed can be asked for.
  Target reachable = {target.kind,
                      target.kind == TargetKind::cosine ? nearest * (1 - 5e-6) : nearest * (1 + 5e-6)};
  const std::string asked = to_string(target);
  return {fmt::format("{} is not reachable by {}; the nearest is {}={:.6g}", asked, method,
                      asked.substr(0, asked.find('=')), reachable.value),
          reachable};
}

Target nmse_within(const Target& cosine) {
  return {TargetKind::nmse, (1 - cosine.value) * (1 + cosine.value)};
}

std::string to_string(const Target& target) {
  if (target.kind == TargetKind::native) return "native";
  for (const auto& [name, kind] : kinds)
    if (kind == target.kind) return fmt::format("{}={}", name, target.value);
  return {};
}

}  // namespace jsq
