// A spool gives back what was appended, whatever is shrunk meanwhile and wherever it is kept.
#include "lib/core/spool.hpp"

#include <gtest/gtest.h>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

std::string contents(Spool& spool) {
  MemorySink sink;
  spool.copy_to(sink);
  return {reinterpret_cast<const char*>(sink.bytes.data()), sink.bytes.size()};
}

TEST(Spool, HoldsWhatWasAppendedAndNotShrunkAway) {
  test::Random random(17);
  for (const size_t memory_limit : {size_t(0), size_t(100), size_t(3) << 20, size_t(64) << 20}) {
    Spool spool(memory_limit);
    std::string expected;
    for (int step = 0; step < 200; ++step) {
      // Ends of pieces in memory are met exactly, and by all kinds of steps.
      const size_t sizes[] = {random.below(100), random.below(200000), 65536 - expected.size() % 65536};
      std::string bytes(sizes[random.below(3)], '\0');
      for (char& byte : bytes) byte = char(random.below(256));
      spool.append(bytes);
      expected += bytes;
      if (step % 40 == 39) {
        expected.resize(random.below(3) == 0 ? 65536 : random.below(expected.size() + 1));
        spool.shrink(expected.size());
      }
      ASSERT_EQ(spool.size(), expected.size());
      if (step % 50 != 49) continue;
      ASSERT_EQ(contents(spool), expected) << memory_limit;
    }
    Spool other(memory_limit / 2);
    spool.copy_to(other);
    ASSERT_EQ(contents(other), expected);
    spool.shrink(0);
    ASSERT_EQ(contents(spool), "");
  }
}

}  // namespace
}  // namespace jsq
