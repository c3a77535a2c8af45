// Level blocks of the simplest kind: signs, one bit an element, between two values.
#pragma once

#include "kernels/cuda/levels.hpp"

namespace jsq::test {

/// For a pool of one tensor.
inline cuda::LevelPlan sign_plan() {
  cuda::LevelTensor signs;
  signs.signs = true;
  signs.symbols = 2;
  signs.scale = 1;
  signs.negative = -1;
  cuda::LevelPlan plan;
  plan.tensors = {signs};
  return plan;
}
/// For blocks of at most 65,536 elements.
inline cuda::LevelLayout sign_layout(size_t, const cuda::LevelSums&, std::span<const uint32_t>) {
  cuda::LevelLayout layout;
  layout.numbered = false;
  layout.width = 1;
  layout.most_bytes = 65536 / 8;
  return layout;
}

}  // namespace jsq::test
