// What the tests of the device have in common: they are skipped, with the reason, where there is none. An
// emulator of the CUDA runtime counts as a device.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "kernels/cuda/device.hpp"

namespace jsq::test {

/// A fixture whose tests need a device.
class OnDevice : public testing::Test {
 protected:
  void SetUp() override {
    const cuda::DeviceProbe probe = cuda::probe_device();
    if (!probe.found) GTEST_SKIP() << "no CUDA device: " << probe.detail;
  }
};

/// Of long lists of cases, every so many are taken: all of them, unless JSQ_TEST_EVERY says otherwise (for
/// runs with slow checks).
inline size_t every() {
  const char* every = std::getenv("JSQ_TEST_EVERY");
  return every == nullptr ? 1 : size_t(std::max(1, std::atoi(every)));
}

/// The values of tensors in memory, as a pool on the device.
inline std::unique_ptr<cuda::PoolValues> pool_values(
    const std::vector<std::vector<float>>& tensors, uint64_t most_resident = 0,
    element::StoredFloat stored = element::StoredFloat::whole) {
  std::vector<cuda::PoolValues::Tensor> infos;
  for (size_t t = 0; t < tensors.size(); ++t) infos.push_back({tensors[t].size(), uint32_t(t), stored});
  return cuda::make_pool_values(
      infos,
      [&tensors](size_t t, uint64_t first, size_t count, std::vector<float>&) {
        return std::span<const float>(tensors[t]).subspan(size_t(first), count);
      },
      most_resident);
}

}  // namespace jsq::test
