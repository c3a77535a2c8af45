// Reads the values of a method's options, with one form of error message: method, option, value, what is
// expected.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "jsq/error.hpp"
#include "jsq/method.hpp"

namespace jsq {

class OptionReader {
 public:
  explicit OptionReader(const MethodSpec& spec) : spec_(spec) {}

  std::string_view text(std::string_view key) const { return spec_.option(key); }
  bool is(std::string_view key, std::string_view value) const { return text(key) == value; }

  [[noreturn]] void bad(std::string_view key, const std::string& expected) const {
    throw Error(Errc::usage, spec_.name + ": option " + std::string(key) + "=" + std::string(text(key)) +
                                 ": expected " + expected);
  }

  /// A number of [low, high].
  double number(std::string_view key, double low, double high, const std::string& expected) const {
    const std::string_view value = text(key);
    double result = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size() || !(result >= low && result <= high))
      bad(key, expected);
    return result;
  }
  uint64_t integer(std::string_view key, uint64_t low, uint64_t high) const {
    const std::string_view value = text(key);
    uint64_t result = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
    if (error != std::errc() || end != value.data() + value.size() || result < low || result > high)
      bad(key, "a whole number of " + std::to_string(low) + ".." + std::to_string(high));
    return result;
  }
  /// Nothing for "auto".
  std::optional<uint64_t> integer_or_auto(std::string_view key, uint64_t low, uint64_t high) const {
    if (is(key, "auto")) return std::nullopt;
    return integer(key, low, high);
  }
  bool flag(std::string_view key) const {
    if (is(key, "on")) return true;
    if (is(key, "off")) return false;
    bad(key, "on or off");
  }
  template <class Value, size_t N>
  Value choice(std::string_view key, const std::pair<std::string_view, Value> (&choices)[N]) const {
    std::string expected;
    for (const auto& [name, value] : choices) {
      if (text(key) == name) return value;
      expected += (expected.empty() ? "" : ", ") + std::string(name);
    }
    bad(key, expected);
  }

 private:
  const MethodSpec& spec_;
};

template <class Value, size_t N>
std::string_view choice_name(Value value, const std::pair<std::string_view, Value> (&choices)[N]) {
  for (const auto& [name, candidate] : choices)
    if (candidate == value) return name;
  return "?";
}

}  // namespace jsq
