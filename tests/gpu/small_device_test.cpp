// Pools that do not fit on the device, which the emulator is told to be so small: values come over batch by
// batch in every pass, and frames are the processor's to the byte. On a larger device values stay, and frames
// are the same.
#include "tests/gpu/device.hpp"
#include "tests/gpu/device_methods.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

class SmallDevice : public test::OnDevice, public testing::WithParamInterface<const MethodInfo*> {};

TEST_P(SmallDevice, WritesTheProcessorsFrames) {
  constexpr size_t rows = 2048, columns = 2176;  // 4 Mi elements have room, half of them at a time
  const std::vector<std::vector<float>> tensors = {test::make_data(test::Kind::gauss, rows * columns),
                                                   test::make_data(test::Kind::heavy, 9001)};
  const auto coded = [&](Backend backend) {
    return test::coded(tensors, backend, std::string(GetParam()->name), "", NonFinitePolicy::error,
                       DType::f32, Rounding::automatic, {{rows, columns}, {9001}})
        .bytes;
  };
  const std::string cpu = coded(Backend::cpu), cuda = coded(Backend::cuda);
  EXPECT_TRUE(cpu == cuda) << cpu.size() << " bytes by the processor, " << cuda.size() << " by the device";
}

/// lgreco has several pools beside one another, for which there is no room.
std::vector<const MethodInfo*> methods_of_one_pool() {
  std::vector<const MethodInfo*> found = test::methods_on_device();
  std::erase_if(found, [](const MethodInfo* method) { return method->name == "lgreco"; });
  return found;
}

INSTANTIATE_TEST_SUITE_P(Registry, SmallDevice, testing::ValuesIn(methods_of_one_pool()), test::row_name);

}  // namespace
}  // namespace jsq
