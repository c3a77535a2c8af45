// The registry of methods: what exists, what each is, and its options. Coding goes through compress.hpp and
// frame.hpp.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/target.hpp"

namespace jsq {

/// One option of a method, as shown by `jsq methods NAME`.
struct MethodOption {
  std::string_view name;
  std::string_view values;  ///< "exact|literal|sampled", "0..1", "digits 0..8"
  std::string_view default_value;
  std::string_view help;
};

/// What a target can do with a method.
enum class Sizing : uint8_t {
  fixed,       ///< one size: a target is met or not
  stepped,     ///< a few sizes, or many that lie apart: the largest that a target allows
  continuous,  ///< any size
};

/// What a worker keeps from one step to the next (jsq/state.hpp).
enum class Feedback : uint8_t {
  none,      ///< nothing: unbiased methods need none
  residual,  ///< e: what was not sent is added to the next gradient
  masked,    ///< u, v: momentum correction and masking of what was sent (DGC)
  momentum,  ///< m: the running mean of gradients is sent instead of the gradient (Signum)
};

/// One row of the registry.
struct MethodInfo {
  std::string_view name;
  uint32_t wire_id = 0;  ///< append-only
  std::string_view title;
  std::string_view source;          ///< paper and equations
  std::string_view bias;            ///< "biased", "unbiased", and when
  std::string_view needs;           ///< error feedback, a sequence, workers
  std::string_view aggregation;     ///< allgather or allreduce
  std::string_view random_numbers;  ///< random numbers an element
  std::string_view nominal_bits;    ///< bits per element as the paper counts
  std::string_view honest_bits;     ///< bits per element as a receiver needs
  std::string_view backends;        ///< "cpu, cuda"; behind a colon what stays on the processor
  std::span<const MethodOption> options;
  Sizing sizing = Sizing::fixed;
  std::string_view size_option =
      {};  ///< the option that fixes the size, or several with | between; "auto" leaves it to the target
  bool unbiased = false;  ///< with default options and without feedback: the mean over seeds is the gradient
  Feedback feedback = Feedback::none;  ///< what its paper prescribes for a sequence
  bool sums = false;                   ///< messages of workers are added in the code domain
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
/// \throws Error unknown_name (method or option), usage (syntax).  Values are checked when the method is
/// used.
JSQ_API MethodSpec parse_method(std::string_view text);
JSQ_API std::string to_string(const MethodSpec& spec);
/// What a user who names no target gets: ratio=32 where the method reaches any size and the spec leaves it
/// open, otherwise the method's native size.
JSQ_API Target default_target(const MethodSpec& spec);

}  // namespace jsq
