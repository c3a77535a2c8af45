// How many threads an arena gets: what was asked for, but no more than the machine has (oneTBB would complain
// on standard error, and the bytes do not depend on it).
#pragma once

#include <tbb/info.h>
#include <tbb/task_arena.h>

#include <algorithm>

namespace jsq {

/// \param threads 0 for all cores.
inline int arena_threads(unsigned threads) {
  return threads ? int(std::min(threads, unsigned(tbb::info::default_concurrency())))
                 : tbb::task_arena::automatic;
}

}  // namespace jsq
