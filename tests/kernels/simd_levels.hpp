// Runs a test body once for every SIMD level that this processor has.
#pragma once

#include <gtest/gtest.h>

#include "kernels/cpu/simd.hpp"

namespace jsq::test {

template <class Body>
void for_each_simd_level(Body body) {
  for (const cpu::SimdLevel& level : cpu::simd_levels()) {
    if (!level.usable) continue;
    SCOPED_TRACE(level.name);
    ASSERT_TRUE(cpu::use_simd_level(level.name));
    body();
    if (testing::Test::HasFatalFailure()) break;
  }
  cpu::use_simd_level("auto");
}

}  // namespace jsq::test
