// Work on so many threads: the threads asked for, errors of the work, work inside of work, and memory that
// does not grow with how often there is some.
#include "lib/core/threads.hpp"

#include <gtest/gtest.h>
#include <tbb/parallel_for.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace jsq {
namespace {

size_t resident_bytes() {
  size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * size_t(::sysconf(_SC_PAGESIZE));
}

TEST(OnThreads, RunsOnNoMoreThanAskedForAndReturnsWhatTheWorkDoes) {
  for (const unsigned threads : {0u, 1u, 2u, 5u}) {
    const int found = on_threads(threads, [] { return tbb::this_task_arena::max_concurrency(); });
    EXPECT_EQ(found, threads ? int(std::min(threads, unsigned(tbb::info::default_concurrency())))
                             : tbb::info::default_concurrency());
  }
}

TEST(OnThreads, PassesErrorsOnAndGoesOnAfterThem) {
  for (int i = 0; i < 3; ++i) {
    EXPECT_THROW(on_threads(2, [] { throw std::runtime_error("of the work"); }), std::runtime_error);
    EXPECT_EQ(on_threads(2, [] { return 7; }), 7);
  }
}

// A thread that waits for work inside must not begin more of the work around it, whose scratch it holds.
TEST(OnThreads, WaitsInsideForTheWorkInsideAlone) {
  std::atomic<int> entered_twice = 0;
  on_threads(2, [&] {
    tbb::parallel_for(0, 200, [&](int) {
      static thread_local bool within = false;
      if (within) ++entered_twice;
      within = true;
      on_threads(2, [] { tbb::parallel_for(0, 20, [](int) { std::this_thread::yield(); }); });
      within = false;
    });
  });
  EXPECT_EQ(entered_twice, 0);
}

TEST(OnThreads, TakesNoMoreMemoryHoweverOften) {
  const auto often = [](int times) {
    for (int i = 0; i < times; ++i) on_threads(2, [] { tbb::parallel_for(0, 8, [](int) {}); });
  };
  often(1000);
  const size_t before = resident_bytes();
  often(10000);
  EXPECT_LT(resident_bytes(), before + (size_t(8) << 20));
}

}  // namespace
}  // namespace jsq
