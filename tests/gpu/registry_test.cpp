// Every method of the registry that has a path on the device: its frames are the processor's for the lengths
// where blocks, warps and words end, and a mebielement; each decodes what the other coded.
#include "jsq/method.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/device_methods.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

class RegistryOnDevice : public test::OnDevice, public testing::WithParamInterface<const MethodInfo*> {
 protected:
  static std::string method() { return std::string(GetParam()->name); }
};

/// Why a method does not code a tensor; empty where it does.
std::string refusal(const std::vector<float>& values, const std::string& method, Backend backend) {
  try {
    test::coded({values}, backend, method, "");
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

TEST_P(RegistryOnDevice, WritesTheProcessorsFramesForEveryLength) {
  for (size_t n : {0, 1, 31, 32, 33, 65535, 65536, 65537, 1 << 20}) {
    SCOPED_TRACE(n);
    const std::vector<float> values = test::make_data(test::Kind::heavy, n);
    const std::string reason = n < 1000 ? refusal(values, method(), Backend::cpu) : "";
    if (reason.empty())
      test::expect_parity({values}, method(), "");
    else  // too short for the target, in the same words
      EXPECT_EQ(refusal(values, method(), Backend::cuda), reason);
  }
}

TEST_P(RegistryOnDevice, RunsEveryCompositionOfTensorsCleanly) {
  test::expect_parity(
      {test::make_data(test::Kind::heavy, 9001), {}, test::make_data(test::Kind::sparse, 64 * 129)}, method(),
      "", NonFinitePolicy::error, DType::f32, Rounding::automatic, {{9001}, {0}, {64, 129}});
}

INSTANTIATE_TEST_SUITE_P(Registry, RegistryOnDevice, testing::ValuesIn(test::methods_on_device()),
                         test::row_name);

}  // namespace
}  // namespace jsq
