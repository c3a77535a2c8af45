// What a method's message of a real gradient takes: bytes, and seconds to make it and to take it apart.
#pragma once

#include <vector>

#include "jsq/aggregate.hpp"

namespace jsq::tools {

struct CodecCost {
  bool code_domain = false;  ///< messages are added
  double message_bytes = 0;  ///< all rounds
  double encode_seconds = 0, decode_seconds = 0;
};

/// Of one of `workers` workers, whose number decides how many bits a sum needs. Times are medians of
/// `repeat` runs.  \throws Error as AggregateWorker does: the method cannot hold the sum of so many, say.
CodecCost measure_codec(const std::vector<GradientView>& gradients, const AggregateOptions& options,
                        uint32_t workers, unsigned repeat);

}  // namespace jsq::tools
