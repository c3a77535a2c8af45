// Signs as bits: each bit is what its sentence says, at every SIMD level and length.
#include "kernels/cpu/signs.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

TEST(Signs, AreOneBitAValueTheMostSignificantFirstAndZerosArePositive) {
  test::for_each_simd_level([] {
    for (test::Kind kind : test::all_kinds)
      for (size_t n : {0, 1, 7, 8, 9, 63, 64, 65, 127, 1000}) {
        std::vector<float> values = test::make_data(kind, n);
        if (n > 3) values[3] = -0.0f;
        const size_t bytes = (n + 7) / 8;
        std::vector<uint8_t> packed(bytes + 1, 170);
        size_t negatives = 0;
        const size_t found = cpu::pack_signs(values, packed.data());
        for (size_t i = 0; i < 8 * bytes; ++i) {
          const bool negative = i < n && values[i] < 0;
          ASSERT_EQ(packed[i / 8] >> (7 - i % 8) & 1, negative) << i << " of " << n;
          negatives += negative;
        }
        ASSERT_EQ(found, negatives);
        ASSERT_EQ(packed[bytes], 170u);
        for (float magnitude : {0.0f, 1.0f, 0x1p-149f, 3.25f}) {
          std::vector<float> decoded(n, 42.0f);
          cpu::values_of_signs(packed.data(), magnitude, decoded);
          for (size_t i = 0; i < n; ++i)
            ASSERT_EQ(std::bit_cast<uint32_t>(decoded[i]),
                      std::bit_cast<uint32_t>(values[i] < 0 ? -magnitude : magnitude));
        }
      }
  });
}

}  // namespace
}  // namespace jsq
