// A program that has several devices, and its threads on any of them: what a thread asks for is done on the
// device that it has, whichever threads do it. The linker puts this file between the
// program and the runtime (--wrap), and pretends that there are two devices.
#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "tests/gpu/device.hpp"
#include "tests/gpu/device_methods.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/gpu/wrapped_runtime.hpp"
#include "tests/kernels/data.hpp"

namespace {

thread_local int device_of_this_thread = 0;
std::atomic<int> misplaced = 0, placed = 0;
std::mutex mutex;
std::map<const void*, int> device_of_stream;

void use(const void* stream) {
  const std::lock_guard lock(mutex);
  ++(device_of_stream[stream] == device_of_this_thread ? placed : misplaced);
}

}  // namespace

extern "C" {
// NOLINTBEGIN: these names are the linker's
JSQ_WRAPPED(cudaGetDevice, int* device) {
  const int status = __real_cudaGetDevice(device);
  *device = device_of_this_thread;
  return status;
}
JSQ_WRAPPED(cudaSetDevice, int device) {
  device_of_this_thread = device;
  return __real_cudaSetDevice(0);
}
JSQ_WRAPPED(cudaGetDeviceCount, int* count) {
  const int status = __real_cudaGetDeviceCount(count);
  if (*count > 0) *count = 2;
  return status;
}
JSQ_WRAPPED(cudaDeviceGetAttribute, int* value, int attribute, int) {
  return __real_cudaDeviceGetAttribute(value, attribute, 0);
}
JSQ_WRAPPED(cudaStreamCreateWithFlags, void** stream, unsigned flags) {
  const int status = __real_cudaStreamCreateWithFlags(stream, flags);
  const std::lock_guard lock(mutex);
  device_of_stream[*stream] = device_of_this_thread;
  return status;
}
JSQ_WRAPPED(cudaMemcpyAsync, void* to, const void* from, size_t bytes, int kind, void* stream) {
  use(stream);
  return __real_cudaMemcpyAsync(to, from, bytes, kind, stream);
}
JSQ_WRAPPED(__cudaLaunchKernel, const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
            void* stream) {
  use(stream);
  return __real___cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
// NOLINTEND
}

namespace jsq {
namespace {

class DeviceOfThread : public test::OnDevice {};

TEST_F(DeviceOfThread, IsThatOfTheDecodersWhileTheyDecode) {
  std::vector<std::vector<float>> tensors;
  for (size_t t = 0; t < 4; ++t) tensors.push_back(test::make_data(test::Kind::heavy, 70000));
  const test::Coded frame = test::coded(tensors, Backend::cpu, "jointsq", "ratio=16");
  FrameReader reader = FrameReader::from_bytes(frame.bytes);
  device_of_this_thread = 1;
  reader.use(Backend::cuda);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < tensors.size(); ++t)
    threads.emplace_back([&, t] {
      std::vector<float> values(tensors[t].size());
      reader.read(t, 0, values);
      EXPECT_EQ(device_of_this_thread, 0) << "a thread of the user does not get its device back";
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(device_of_this_thread, 1);
  EXPECT_GT(placed, 0);
  EXPECT_EQ(misplaced, 0);
  for (const auto& [stream, device] : device_of_stream) EXPECT_EQ(device, 1);
}

class DeviceOfCompression : public test::OnDevice, public testing::WithParamInterface<const MethodInfo*> {};

TEST_P(DeviceOfCompression, IsThatOfItsThread) {
  const std::vector<std::vector<float>> tensors = {test::make_data(test::Kind::gauss, 512 * 512),
                                                   test::make_data(test::Kind::gauss, 3 * 70000)};
  device_of_stream.clear();
  placed = misplaced = 0;
  device_of_this_thread = 1;
  test::coded(tensors, Backend::cuda, std::string(GetParam()->name), "", NonFinitePolicy::error, DType::f32,
              Rounding::automatic, {{512, 512}, {3, 70000}});
  EXPECT_EQ(device_of_this_thread, 1);
  device_of_this_thread = 0;
  EXPECT_GT(placed, 0);
  EXPECT_EQ(misplaced, 0);
  for (const auto& [stream, device] : device_of_stream) EXPECT_EQ(device, 1);
}

INSTANTIATE_TEST_SUITE_P(Registry, DeviceOfCompression, testing::ValuesIn(test::methods_on_device()),
                         test::row_name);

}  // namespace
}  // namespace jsq
