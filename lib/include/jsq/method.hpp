// The registry of methods: what exists, what each is, and its options. Coding goes through compress.hpp and frame.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/export.hpp"

namespace jsq {

/// One option of a method, as shown by `jsq methods NAME`.
struct MethodOption {
  std::string_view name;
  std::string_view values;         ///< "exact|literal|sampled", "0..1", "digits 0..8"
  std::string_view default_value;
  std::string_view help;
};

/// One row of the registry.
struct MethodInfo {
  std::string_view name;
  uint32_t wire_id = 0;            ///< append-only
  std::string_view title;
  std::string_view source;         ///< paper and equations
  std::string_view bias;           ///< "biased", "unbiased", and when
  std::string_view needs;          ///< error feedback, a sequence, workers
  std::string_view aggregation;    ///< allgather or allreduce
  std::string_view random_numbers; ///< random numbers an element
  std::string_view nominal_bits;   ///< bits per element as the paper counts
  std::string_view honest_bits;    ///< bits per element as a receiver needs
  std::string_view backends;       ///< "cpu", "cpu, cuda"
  std::span<const MethodOption> options;
};

/// Every method, in registry order.
JSQ_API std::vector<const MethodInfo*> methods();
/// \throws Error unknown_name, naming near names.
JSQ_API const MethodInfo& method_named(std::string_view name);

/// A method with its options, parsed from `name[:key=value[,key=value...]]`.
struct JSQ_API MethodSpec {
  std::string name = "jointsq";
  std::vector<std::pair<std::string, std::string>> options;  ///< as written, every key known, each once

  /// The option's value, or its default.
  std::string_view option(std::string_view key) const;
};
/// \throws Error unknown_name (method or option), usage (syntax).  Values are checked when the method is used.
JSQ_API MethodSpec parse_method(std::string_view text);
JSQ_API std::string to_string(const MethodSpec& spec);

}  // namespace jsq
