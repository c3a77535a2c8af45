// Passes over classes: each is what its sentence says, at every SIMD level and length.
#include "kernels/cpu/context_passes.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

constexpr size_t lengths[] = {0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 100, 1000, 4099};

TEST(RowMagnitude, AddsInSixteenLanesThatAreFoldedByHalving) {
  test::for_each_simd_level([] {
    test::Random random(10);
    for (size_t n : lengths) {
      std::vector<float> values(n), weights(n);
      std::vector<double> lane(16), weighted(16);
      for (size_t i = 0; i < n; ++i) {
        values[i] =
            (float(random.below(1u << 24)) - float(1 << 23)) * std::ldexp(1.0f, -int(random.below(40)));
        weights[i] = float(random.below(1000)) / 999;
        lane[i % 16] += double(std::fabs(values[i]));
        weighted[i % 16] += double(std::fabs(values[i]) * weights[i]);
      }
      const auto folded = [](const std::vector<double>& l, auto& self) -> double {
        if (l.size() == 1) return l[0];
        std::vector<double> half(l.size() / 2);
        for (size_t i = 0; i < half.size(); ++i) half[i] = l[i] + l[i + half.size()];
        return self(half, self);
      };
      ASSERT_EQ(cpu::row_magnitude(values.data(), n), folded(lane, folded)) << n;
      ASSERT_EQ(cpu::weighted_row_magnitude(values.data(), weights.data(), n), folded(weighted, folded)) << n;
    }
  });
}

TEST(RowMagnitude, IsTheSameOfRowsThatLieOneAfterAnother) {
  test::for_each_simd_level([] {
    test::Random random(14);
    for (size_t length : {16, 32, 48, 64, 1024})
      for (size_t rows : {0, 1, 2, 5, 33}) {
        std::vector<float> values(rows * length);
        for (float& value : values)
          value = (float(random.below(1u << 24)) - float(1 << 23)) * std::ldexp(1.0f, -int(random.below(40)));
        std::vector<double> sums(rows, -1.0);
        cpu::row_magnitudes(values.data(), rows, length, sums.data());
        for (size_t r = 0; r < rows; ++r)
          ASSERT_EQ(sums[r], cpu::row_magnitude(values.data() + r * length, length)) << length << ' ' << r;
      }
  });
}

TEST(ListAbove, ListsInOrderWhatReachesTheThresholdOfItsClass) {
  test::for_each_simd_level([] {
    test::Random random(11);
    std::vector<float> thresholds(256, std::numeric_limits<float>::infinity());
    for (size_t k = 1; k < 256; ++k) thresholds[k] = k % 5 == 0 ? 0.0f : float(k) / 64;
    for (size_t n : lengths)
      for (bool runs : {false, true}) {
        std::vector<float> values(n);
        std::vector<uint8_t> classes(n);
        for (size_t i = 0; i < n; ++i) {
          classes[i] = runs && i % 40 != 0 ? classes[i - 1] : uint8_t(random.below(256));
          // Every fourth lies on its threshold: 0.5 x and 2 are exact.
          const float least = thresholds[classes[i]];
          values[i] =
              random.below(4) == 0 && std::isfinite(least) ? 2 * least : float(random.below(1000)) / 100;
          if (random.below(2)) values[i] = -values[i];
          if (random.below(50) == 0) values[i] = std::numeric_limits<float>::quiet_NaN();
        }
        for (size_t begin : {size_t(0), n / 3, n}) {
          std::vector<uint32_t> expected, found(n - begin + cpu::list_slack);
          for (size_t i = begin; i < n; ++i)
            if (std::fabs(values[i]) * 0.5f >= thresholds[classes[i]]) expected.push_back(uint32_t(i));
          found.resize(cpu::list_above(values.data(), classes.data(), begin, n, 0.5f, thresholds.data(),
                                       found.data()));
          ASSERT_EQ(found, expected) << n << ' ' << begin;
        }
      }
  });
}

TEST(ShiftClasses, MultipliesByAPowerOfTwo) {
  test::for_each_simd_level([] {
    test::Random random(12);
    for (size_t n : lengths) {
      std::vector<uint8_t> classes(n);
      for (uint8_t& k : classes) k = uint8_t(random.below(256));
      std::vector<uint16_t> ids(n);
      cpu::shift_classes(classes.data(), n, 5, ids.data());
      for (size_t i = 0; i < n; ++i) ASSERT_EQ(ids[i], classes[i] * 32);
    }
  });
}

}  // namespace
}  // namespace jsq
