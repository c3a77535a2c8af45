// A method coded several times with other seeds: how far its error varies, and how it splits into bias and
// variance. Everything is measured on decoded values.
#pragma once

#include <cstdint>
#include <vector>

#include "jsq/compress.hpp"

namespace jsq::tools {

/// An estimate with the half width of its 95 % confidence interval (Student's t; jackknife over the trials).
struct Estimate {
  double value = 0;
  double half_width = 0;  ///< NaN for one trial
};

/// All in units of |g|^2, over the seeds seed, seed + 1, ...
struct Trials {
  unsigned count = 0;          ///< trials that were made: 2 where the seed changes nothing
  bool deterministic = false;  ///< all decoded to the same values
  Estimate nmse;
  /// |E g^ - g|^2: the mean of <e_s, e_t> over pairs of trials, e = g^ - g, so variance does not leak into
  /// it. It may come out below zero for an unbiased method. NaN for one trial.
  Estimate bias;
  Estimate variance;  ///< E |g^ - E g^|^2 = nmse - bias. NaN for one trial.
};

/// The same trials seen as a whole and tensor by tensor, each tensor in units of its own |g|^2 and
/// deterministic where its own values do not change.
struct DumpTrials {
  Trials whole;
  std::vector<Trials> tensors;  ///< in the input's order
};

/// Codes `input` `count` times from options.seed on. Memory: eight bytes an element and the frames;
/// `memory_limit_bytes` (0: none) bounds the former.
/// \throws Error as compress does, and limit.
DumpTrials run_trials(const InputDump& input, const CompressOptions& options, unsigned count,
                      uint64_t memory_limit_bytes);

}  // namespace jsq::tools
