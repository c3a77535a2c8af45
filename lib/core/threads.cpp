#include "lib/core/threads.hpp"

#include <list>
#include <mutex>

namespace jsq {
namespace {

struct Kept {
  explicit Kept(int threads) : arena(threads) {}
  tbb::task_arena arena;
  bool used = true;
};

/// Every arena so far. Kept until the process ends: oneTBB may be gone before.
struct AllArenas {
  std::mutex mutex;
  std::list<Kept> list;
};

AllArenas& all_arenas() {
  static auto* const all = new AllArenas;
  return *all;
}

}  // namespace

KeptArena::KeptArena(unsigned threads) {
  const int wanted = arena_threads(threads);
  AllArenas& all = all_arenas();
  const std::lock_guard lock(all.mutex);
  auto kept = std::find_if(all.list.begin(), all.list.end(), [&](const Kept& one) {
    return !one.used && one.arena.max_concurrency() == wanted;
  });
  if (kept == all.list.end()) kept = all.list.emplace(kept, wanted);
  kept->used = true;
  arena_ = &kept->arena;
  used_ = &kept->used;
}

KeptArena::~KeptArena() {
  const std::lock_guard lock(all_arenas().mutex);
  *used_ = false;
}

}  // namespace jsq
