// How the bytes of a sequence are spread over its steps: evenly, rising or falling, or with a warm-up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/target.hpp"

namespace jsq {

enum class ScheduleKind : uint8_t {
  constant,    ///< every step has the target's size
  ramp_ratio,  ///< the ratio goes linearly from a start to the end that keeps the total (JointSQ, sec. 4.4)
  ramp_bits,   ///< the size goes linearly from a start to the end that keeps the total
  warmup,      ///< step e < E has ratio^((e + 1) / (E + 1)), later ones the target's (DGC)
};

struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  double start_ratio = 0;     ///< of the ramps: input bytes over bytes of the first step
  uint64_t warmup_steps = 0;  ///< E
};

/// "constant", "ramp-ratio:50", "ramp-bits:50", "warmup:5".  \throws Error usage.
JSQ_API Schedule parse_schedule(std::string_view text);
/// The reverse.
JSQ_API std::string to_string(const Schedule& schedule);

/// What a step of a sequence weighs.
struct StepSize {
  uint64_t input_bytes = 0, elements = 0;
};

/// The bytes that each of `steps` equal steps may take. The ramps take as many as the constant schedule in
/// all, to the byte. The same on every machine: products, quotients and bisection only. O(steps).
/// \pre the target is a size.  \throws Error usage: a start that no end can balance (both ends above zero
/// bytes); the message tells the range.
JSQ_API std::vector<uint64_t> scheduled_bytes(const Schedule& schedule, const Target& target, StepSize step,
                                              uint64_t steps);

}  // namespace jsq
