// Tensors in the memory of the device, through the C++ and the C interface: the frames are those of the same
// values in host memory, and values and bytes come back to the device.
#include <bit>
#include <cstring>
#include <limits>

#include "jsq/compress.hpp"
#include "jsq/device.hpp"
#include "jsq/error.hpp"
#include "jsq/jsq.h"
#include "jsq/method.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

class DeviceMemory : public test::OnDevice {};

/// Floats on the device, `shift` of them behind the beginning of an allocation.
struct OnTheDevice {
  explicit OnTheDevice(const std::vector<float>& values, size_t shift = 0)
      : memory(cuda::allocate_for_user((values.size() + shift + 1) * sizeof(float))),
        data(static_cast<float*>(memory.get()) + shift),
        count(values.size()) {
    cuda::copy_to_user(data, values.data(), count * sizeof(float), nullptr);
  }
  std::vector<float> values() const {
    std::vector<float> result(count);
    cuda::copy_from_user(result.data(), data, count * sizeof(float));
    return result;
  }
  std::shared_ptr<void> memory;
  float* data;
  size_t count;
};

TensorInfo info_of(const std::string& name, size_t elements) {
  TensorInfo info;
  info.name = name;
  info.shape = {elements};
  return info;
}

std::string frame_of(const std::vector<InputDump>& inputs, const std::string& method,
                     const std::string& target, Backend backend,
                     NonFinitePolicy nonfinite = NonFinitePolicy::error) {
  CompressOptions options;
  options.method = parse_method(method);
  options.target = target.empty() ? default_target(options.method) : parse_target(target);
  options.backend = backend;
  options.nonfinite = nonfinite;
  options.seed = 3;
  MemorySink sink;
  compress(inputs, options, sink);
  return sink.bytes;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

TEST_F(DeviceMemory, GivesTheFramesOfHostMemoryForSeveralTensors) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 70001), make_data(Kind::gauss, 3000), {}};
  for (size_t shift : {0, 1}) {
    std::vector<InputDump> there, here;
    std::vector<OnTheDevice> kept;
    for (size_t t = 0; t < tensors.size(); ++t) {
      const TensorInfo info = info_of("t" + std::to_string(t), tensors[t].size());
      kept.emplace_back(tensors[t], shift);
      there.push_back({info.name + ".npy", device_source({{info, kept.back().data}}, nullptr), {}, true});
      here.push_back({info.name + ".npy", source_of(info, tensors[t]), {}, true});
    }
    for (const char* method : {"jointsq", "qsgd", "fp16", "signsgd", "thc", "lgreco"}) {
      SCOPED_TRACE(method);
      const std::string expected = frame_of(here, method, "", Backend::cpu);
      EXPECT_TRUE(frame_of(there, method, "", Backend::cuda) == expected);
      EXPECT_TRUE(frame_of(there, method, "", Backend::cpu) == expected) << "read by the processor";
    }
    for (size_t t = 0; t < tensors.size(); ++t) EXPECT_TRUE(same_bits(kept[t].values(), tensors[t]));
  }
}

TEST_F(DeviceMemory, LeavesWhatIsNotFiniteToThePolicyAsHostMemoryDoes) {
  std::vector<float> values = make_data(Kind::heavy, 5000);
  values[77] = HUGE_VALF;
  const OnTheDevice there(values);
  const TensorInfo info = info_of("g", values.size());
  const std::vector<InputDump> on_device =
                                   {{"g.npy", device_source({{info, there.data}}, nullptr), {}, true}},
                               on_host = {{"g.npy", source_of(info, values), {}, true}};
  EXPECT_THROW(frame_of(on_device, "qsgd", "", Backend::cuda), Error);
  EXPECT_TRUE(frame_of(on_device, "qsgd", "", Backend::cuda, NonFinitePolicy::keep) ==
              frame_of(on_host, "qsgd", "", Backend::cpu, NonFinitePolicy::keep));
}

TEST_F(DeviceMemory, TakesFramesAndValuesBack) {
  const std::vector<float> values = make_data(Kind::heavy, 66000);
  const TensorInfo info = info_of("g", values.size());
  const std::string frame =
      frame_of({{"g.npy", source_of(info, values), {}, true}}, "qsgd", "", Backend::cpu);
  FrameReader reader = FrameReader::from_bytes(frame);
  std::vector<float> expected(1000);
  reader.read(0, 65000, expected);
  reader.use(Backend::cuda);
  const OnTheDevice room(std::vector<float>(1000, 42.0f));
  read_to_device(reader, 0, 65000, 1000, room.data, nullptr);
  EXPECT_TRUE(same_bits(room.values(), expected));
  const std::shared_ptr<void> bytes = cuda::allocate_for_user(frame.size());
  copy_to_device(frame, bytes.get(), nullptr);
  std::string back(frame.size(), ' ');
  cuda::copy_from_user(back.data(), bytes.get(), back.size());
  EXPECT_EQ(back, frame);
}

/// Ranges of a tensor of three blocks: whole, within a block, across borders, and at the end.
constexpr std::pair<uint64_t, uint64_t> ranges[] = {{0, 140000},    {0, 65536},     {1, 65535},  {100, 7},
                                                    {65000, 70000}, {65536, 74464}, {139999, 1}, {5, 0}};

TEST_F(DeviceMemory, TakesTheValuesOfEveryRangeThatIsDecodedThere) {
  TensorInfo info = info_of("g", 140000);
  info.shape = {350, 400};
  const std::vector<float> values = make_data(Kind::heavy, info.elements());
  for (DType dtype : {DType::f32, DType::f16})
    for (const char* method :
         {"jointsq", "fp16", "qsgd", "thc", "topk", "powersgd", "randk", "rdoq:preset=fast"}) {
      SCOPED_TRACE(method);
      info.dtype = dtype;
      const std::string frame =
          frame_of({{"g.npy", source_of(info, values), {}, true}}, method, "", Backend::cpu);
      const FrameReader reader = FrameReader::from_bytes(frame);
      for (const auto& [first, count] : ranges) {
        std::vector<float> expected(count);
        reader.read(0, first, expected);
        const OnTheDevice room(std::vector<float>(count + 2, 42.0f), 1);  // whose neighbours stay as they are
        read_to_device(reader, 0, first, count, room.data + 1, nullptr);
        expected.insert(expected.begin(), 42.0f);
        expected.push_back(42.0f);
        EXPECT_TRUE(same_bits(room.values(), expected)) << first << " and " << count;
      }
      EXPECT_THROW(read_to_device(reader, 0, 140000, 1, nullptr, nullptr), Error);
    }
}

TEST_F(DeviceMemory, TellsOfDamageAndKeepsNonFiniteElementsWhenItTakesValues) {
  std::vector<float> values = make_data(Kind::heavy, 66000);
  values[65999] = std::numeric_limits<float>::infinity();
  const TensorInfo info = info_of("g", values.size());
  const std::string frame = frame_of({{"g.npy", source_of(info, values), {}, true}}, "qsgd", "", Backend::cpu,
                                     NonFinitePolicy::keep);
  const OnTheDevice room(std::vector<float>(values.size()));
  read_to_device(FrameReader::from_bytes(frame), 0, 0, values.size(), room.data, nullptr);
  EXPECT_EQ(room.values()[65999], values[65999]);
  std::string damaged = frame_of({{"g.npy", source_of(info, make_data(Kind::heavy, 66000)), {}, true}},
                                 "jointsq", "", Backend::cpu);
  damaged[1000] ^= 1;
  EXPECT_THROW(read_to_device(FrameReader::from_bytes(damaged), 0, 0, values.size(), room.data, nullptr),
               Error);
}

TEST_F(DeviceMemory, GivesTheFramesOfHostMemoryForHalfPrecision) {
  const std::vector<uint16_t> stored = [] {
    test::Random random(5);
    std::vector<uint16_t> words(70001);
    for (uint16_t& word : words) {
      word = uint16_t(random.below(65536));
      if ((word & 0x7c00u) == 0x7c00u || (word & 0x7f80u) == 0x7f80u) word &= 0x83ffu;  // finite in both
    }
    return words;
  }();
  for (DType dtype : {DType::f16, DType::bf16}) {
    TensorInfo info = info_of("g", stored.size());
    info.dtype = dtype;
    const std::shared_ptr<void> memory = cuda::allocate_for_user(stored.size() * sizeof(uint16_t));
    cuda::copy_to_user(memory.get(), stored.data(), stored.size() * sizeof(uint16_t), nullptr);
    std::vector<float> values(stored.size());
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = dtype == DType::f16 ? element::f16_to_f32(stored[i]) : element::bf16_to_f32(stored[i]);
    const std::vector<InputDump> there =
                                     {{"g.npy", device_source({{info, memory.get()}}, nullptr), {}, true}},
                                 here = {{"g.npy", source_of(info, values), {}, true}};
    for (const char* method : {"jointsq", "qsgd", "topk", "thc:norm=block"})
      EXPECT_TRUE(frame_of(there, method, "", Backend::cuda) == frame_of(here, method, "", Backend::cpu))
          << method;
    EXPECT_TRUE(frame_of(there, "qsgd", "", Backend::cpu) == frame_of(here, "qsgd", "", Backend::cpu));
  }
}

TEST_F(DeviceMemory, RefusesOtherTypesAndNullPointers) {
  TensorInfo info = info_of("g", 10);
  EXPECT_THROW(device_source({{info, nullptr}}, nullptr), Error);
  info.dtype = DType::f64;
  const OnTheDevice there(std::vector<float>(10));
  try {
    device_source({{info, there.data}}, nullptr);
    FAIL() << "f64 was taken";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::unsupported_dtype);
  }
}

TEST_F(DeviceMemory, GivesTheSameFramesThroughC) {
  const std::vector<float> values = make_data(Kind::heavy, 40000);
  const OnTheDevice there(values);
  const uint64_t shape[] = {values.size()};
  jsq_array array = {values.data(), JSQ_F32, 1, shape, "g", 0, 0};
  jsq_options options = {};
  options.size = sizeof options;
  options.method = "qsgd:bits=5";
  options.seed = 9;
  void *expected = nullptr, *found = nullptr;
  size_t expected_size = 0, found_size = 0;
  ASSERT_EQ(jsq_compress(&array, 1, &options, &expected, &expected_size, nullptr), JSQ_OK);
  array.data = there.data;
  jsq_report report = {};
  report.size = sizeof report;
  ASSERT_EQ(jsq_compress_device(&array, 1, &options, nullptr, &found, &found_size, &report), JSQ_OK)
      << jsq_last_error();
  EXPECT_EQ(report.file_bytes, found_size);
  ASSERT_EQ(found_size, expected_size);
  EXPECT_EQ(std::memcmp(found, expected, found_size), 0);

  jsq_frame* frame = nullptr;
  ASSERT_EQ(jsq_open_memory(found, found_size, &frame), JSQ_OK);
  std::vector<float> decoded(values.size());
  ASSERT_EQ(jsq_read(frame, 0, 0, values.size(), decoded.data()), JSQ_OK);
  const OnTheDevice room(std::vector<float>(values.size(), 1.0f));
  ASSERT_EQ(jsq_read_device(frame, 0, 0, values.size(), room.data, nullptr), JSQ_OK) << jsq_last_error();
  EXPECT_TRUE(same_bits(room.values(), decoded));
  ASSERT_EQ(jsq_copy_to_device(decoded.data(), 40, there.data, nullptr), JSQ_OK);
  EXPECT_EQ(std::bit_cast<uint32_t>(there.values()[9]), std::bit_cast<uint32_t>(decoded[9]));
  options.method = "mcgq:samples=1";  // a count of 40,000 samples, which 16 bits do not hold
  const OnTheDevice one(make_data(Kind::one_nonzero, values.size()));
  array.data = one.data;
  EXPECT_EQ(jsq_compress_device(&array, 1, &options, nullptr, &found, &found_size, nullptr),
            JSQ_BACKEND_UNAVAILABLE);
  jsq_close(frame);
  jsq_free(expected);
  jsq_free(found);
}

TEST_F(DeviceMemory, HasAClockThatRunsForward) {
  DeviceClock clock;
  clock.start();
  const OnTheDevice there(make_data(Kind::gauss, 1000));
  EXPECT_GE(clock.seconds(), 0.0);
}

}  // namespace
}  // namespace jsq
