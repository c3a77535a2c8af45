// Pools so large that the processor counts only the largest magnitudes, and that come to the device in
// several batches that stay: the bytes are the same.
#include "lib/methods/method.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

class LargePoolOnDevice : public test::OnDevice {};

TEST_F(LargePoolOnDevice, IsTheProcessorsToTheByteWhereFewMagnitudesAreRanked) {
  constexpr size_t least_listed = size_t(1) << 24;  // of a pool of which few are counted
  const std::vector<std::vector<float>> tensors = {test::make_data(test::Kind::heavy, least_listed - 70001),
                                                   test::make_data(test::Kind::gauss, 70002)};
  EXPECT_LT(jointsq_row.ranked_share(parse_method("jointsq"), 1.0), 0.5);  // bits an element at 32x
  test::expect_parity(tensors, "jointsq", "ratio=32");
}

}  // namespace
}  // namespace jsq
