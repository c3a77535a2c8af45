// What takes a pool block by block allocates nothing while it does: room is made for the first groups of
// blocks, on two streams in turn, and serves all others. The linker puts this file between the program and
// the runtime's allocations (--wrap), which are counted.
#include <cstddef>

#include "kernels/cuda/dense.hpp"
#include "lib/packers/class_device.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/sign_levels.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/packers/class_coding.hpp"

namespace {

size_t allocations = 0;

}  // namespace

extern "C" {
// Weak: a build without CUDA has none.  NOLINTBEGIN: these names are the linker's
int __real_cudaMalloc(void** memory, size_t bytes) __attribute__((weak));
int __real_cudaMallocHost(void** memory, size_t bytes) __attribute__((weak));
int __real_cudaHostAlloc(void** memory, size_t bytes, unsigned flags) __attribute__((weak));
int __wrap_cudaMalloc(void** memory, size_t bytes);
int __wrap_cudaMallocHost(void** memory, size_t bytes);
int __wrap_cudaHostAlloc(void** memory, size_t bytes, unsigned flags);

int __wrap_cudaMalloc(void** memory, size_t bytes) {
  ++allocations;
  return __real_cudaMalloc(memory, bytes);
}
int __wrap_cudaMallocHost(void** memory, size_t bytes) {
  ++allocations;
  return __real_cudaMallocHost(memory, bytes);
}
int __wrap_cudaHostAlloc(void** memory, size_t bytes, unsigned flags) {
  ++allocations;
  return __real_cudaHostAlloc(memory, bytes, flags);
}
// NOLINTEND
}

namespace jsq {
namespace {

constexpr size_t batch = size_t(1) << 20;  ///< elements of the least pool that goes in batches
constexpr size_t batches = 5, block = 65536, blocks_of_batch = batch / block;

class Allocations : public test::OnDevice {
 protected:
  /// A pool whose batches all hold the same values, each batch a group of blocks.
  Allocations() {
    const std::vector<float> values = test::make_data(test::Kind::heavy, batch);
    for (size_t b = 0; b < batches; ++b) tensors[0].insert(tensors[0].end(), values.begin(), values.end());
    for (size_t at = 0; at < batches * batch; at += block) blocks.push_back({0, at, block});
  }

  /// Allocations while all blocks are taken by `next`, and of them those behind the first two groups.
  template <class Next>
  void expect_none_later(Next next) {
    const size_t before = allocations;
    for (size_t b = 0; b < 2 * blocks_of_batch + 1; ++b) ASSERT_GT(next(), 0u);
    const size_t warm = allocations;
    EXPECT_GT(warm, before) << "this test does not see what is allocated";
    for (size_t b = 2 * blocks_of_batch + 1; b < blocks.size(); ++b) ASSERT_GT(next(), 0u);
    EXPECT_EQ(allocations, warm);
  }

  std::vector<std::vector<float>> tensors{1};
  std::vector<cuda::BlockRange> blocks;
};

TEST_F(Allocations, AreNoneInTheLoopOverClassBlocks) {
  const test::Fitted fitted = test::fit({}, std::span(tensors[0]).first(batch), {.block_length = block});
  const auto pool = test::pool_values(tensors, batch);
  const auto coded = pool->encode(device_composition(fitted.coder), fitted.coder.symbols(), blocks);
  expect_none_later([&] {
    cuda::ClassSums sums;
    return coded->next(sums).size();
  });
}

TEST_F(Allocations, AreNoneInTheLoopOverDenseBlocks) {
  const auto pool = test::pool_values(tensors, batch);
  const auto coded = cuda::encode_dense(*pool, cuda::DenseFormat::f16, blocks);
  expect_none_later([&] {
    cuda::DenseSums sums;
    return coded->next(sums).size();
  });
}

TEST_F(Allocations, AreNoneInTheLoopOverLevelBlocks) {
  const auto pool = test::pool_values(tensors, batch);
  const auto coded = cuda::encode_levels(*pool, test::sign_plan(), blocks, test::sign_layout);
  expect_none_later([&] { return coded->next().size(); });
}

TEST_F(Allocations, AreNoneWhereADecoderHasDecodedAsMuchBefore) {
  const test::Fitted fitted = test::fit({}, std::span(tensors[0]).first(batch), {.block_length = block});
  const auto pool = test::pool_values(tensors, batch);
  const auto coded = pool->encode(device_composition(fitted.coder), fitted.coder.symbols(), blocks);
  std::string bytes;
  std::vector<cuda::ClassDecoder::Block> stored;
  for (size_t b = 0; b < blocks_of_batch; ++b) {
    cuda::ClassSums sums;
    const std::string_view found = coded->next(sums);
    stored.push_back({bytes.size(), found.size(), b * block, block});
    bytes += found;
  }
  std::vector<float> values(batch);
  std::vector<uint8_t> sound(stored.size());
  const auto decoder = make_device_decoder(fitted.coder);
  decoder->decode(bytes, stored, values, sound);
  const size_t warm = allocations;
  decoder->decode(bytes, stored, values, sound);
  EXPECT_EQ(allocations, warm);
  for (uint8_t ok : sound) EXPECT_TRUE(ok);
}

}  // namespace
}  // namespace jsq
