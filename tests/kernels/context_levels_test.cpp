// Levels by thresholds: each element has the symbol and the value of the last cell that begins at or below
// it, or is listed, at every SIMD level and length.
#include "kernels/cpu/context_levels.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

constexpr float infinite = std::numeric_limits<float>::infinity();

/// Class k has k mod 17 cells, every third class ends at a limit, and class 40 lists everything.
std::vector<cpu::LevelCells> cells_of_classes() {
  std::vector<cpu::LevelCells> all(64);
  for (size_t k = 0; k < all.size(); ++k) {
    cpu::LevelCells& cells = all[k];
    cells = {};
    cells.limit = k == 40 ? 0.0f : infinite;
    for (size_t j = 1; j < cpu::level_cells; ++j) {
      const bool there = j < k % 17 && k != 40;
      if (there) cells.last = uint32_t(j);
      cells.start[j] = there ? float(j) * 0.75f + float(k) / 128 : infinite;
      cells.twice_level[j] = there ? uint32_t(2 * j + (j > 3 ? 2 * (k % 2) : 0)) : 0;
      cells.magnitude[j] = there ? float(j) * 1.5f + float(k) / 32 : 0;
    }
    if (k % 3 == 0 && k % 17 > 2 && k != 40) cells.limit = cells.start[k % 17 - 1] + 0.25f;
  }
  return all;
}

TEST(LevelElements, GivesTheLastCellThatBeginsAtOrBelowAnElementAndListsWhatIsBeyondTheLimit) {
  test::for_each_simd_level([] {
    test::Random random(13);
    const std::vector<cpu::LevelCells> cells = cells_of_classes();
    for (size_t n : {0, 1, 7, 8, 15, 16, 17, 31, 33, 100, 1000, 4099})
      for (size_t run : {1, 5, 16, 64}) {
        std::vector<float> values(n);
        std::vector<uint8_t> classes(n);
        for (size_t i = 0; i < n; ++i) {
          classes[i] = i % run ? classes[i - 1] : uint8_t(random.below(64));
          const cpu::LevelCells& own = cells[classes[i]];
          const float start = own.start[1 + random.below(cpu::level_cells - 1)];
          // Many lie on a threshold or on the limit: times 0.5 they are exact.
          const float at = random.below(3) == 0 ? start : random.below(8) == 0 ? own.limit : infinite;
          values[i] = std::isfinite(at) ? 2 * at : float(random.below(1000)) / 64;
          if (random.below(2)) values[i] = -values[i];
        }
        std::vector<uint16_t> ids(n, 9999), expected_ids(n);
        std::vector<float> decoded(n, -7), expected(n);
        std::vector<uint32_t> listed(n), expected_listed;
        bool nonzero = false;
        for (size_t i = 0; i < n; ++i) {
          const cpu::LevelCells& own = cells[classes[i]];
          const float x = std::fabs(values[i]) * 0.5f;
          expected_ids[i] = uint16_t(32 * classes[i]);
          if (x >= own.limit) {
            expected_listed.push_back(uint32_t(i));
            continue;
          }
          size_t cell = 0;
          for (size_t j = 1; j < cpu::level_cells; ++j)
            if (x >= own.start[j]) cell = j;
          if (cell == 0) continue;
          nonzero = true;
          expected_ids[i] = uint16_t(expected_ids[i] + own.twice_level[cell] - (values[i] > 0));
          expected[i] = std::copysign(own.magnitude[cell], values[i]);
        }
        const cpu::LeveledCount count = cpu::level_elements(
            values.data(), classes.data(), n, 0.5f, cells.data(), ids.data(), decoded.data(), listed.data());
        listed.resize(count.listed);
        ASSERT_EQ(listed, expected_listed) << n << ' ' << run;
        ASSERT_EQ(count.nonzero, nonzero) << n << ' ' << run;
        ASSERT_EQ(ids, expected_ids) << n << ' ' << run;
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(decoded[i], expected[i]) << n << ' ' << run << ' ' << i;
          ASSERT_EQ(std::signbit(decoded[i]), expected[i] < 0) << n << ' ' << run << ' ' << i;
        }
      }
  });
}

}  // namespace
}  // namespace jsq
