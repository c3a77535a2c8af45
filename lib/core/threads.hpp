// Work on so many threads: what was asked for, but no more than the machine has (oneTBB would complain on
// standard error, and the bytes do not depend on it).
#pragma once

#include <tbb/info.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <utility>

namespace jsq {

/// \param threads 0 for all cores.
inline int arena_threads(unsigned threads) {
  return threads ? int(std::min(threads, unsigned(tbb::info::default_concurrency())))
                 : tbb::info::default_concurrency();
}

/// An arena of so many threads that nobody else uses meanwhile, from those that were used before: oneTBB
/// gives the memory of an arena back when its threads have been there, which for little work they may never
/// be.
class KeptArena {
 public:
  /// \param threads 0 for all cores.
  explicit KeptArena(unsigned threads);
  ~KeptArena();
  KeptArena(const KeptArena&) = delete;
  KeptArena& operator=(const KeptArena&) = delete;
  tbb::task_arena& operator*() const { return *arena_; }
  tbb::task_arena* operator->() const { return arena_; }

 private:
  tbb::task_arena* arena_;
  bool* used_;
};

/// What `work` returns, done in an arena of so many threads.
template <class Work>
decltype(auto) on_threads(unsigned threads, Work&& work) {
  const KeptArena arena(threads);
  return arena->execute(std::forward<Work>(work));
}

}  // namespace jsq
