// Reading, copying and computing overlap: kernels that read a batch of values wait for its copies and for
// nothing that brings the next one, and values that take the place of others wait for those that read them
// and for no one else. The linker puts this file between the program and the runtime (--wrap), which notes
// what waits for what: an emulator does everything in the order of the calls.
#include <cstddef>
#include <functional>
#include <future>
#include <thread>

#include "kernels/cuda/dense.hpp"
#include "kernels/cuda/sparse.hpp"
#include "lib/packers/class_device.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/device_order.hpp"
#include "tests/gpu/sign_levels.hpp"
#include "tests/gpu/wrapped_runtime.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/packers/class_coding.hpp"

namespace {

using jsq::test::DeviceOrder;
using Kind = DeviceOrder::Kind;

DeviceOrder order;
std::map<const char*, size_t> pinned;

bool is_pinned(const void* memory) {
  const auto* at = static_cast<const char*>(memory);
  const auto after = pinned.upper_bound(at);
  return after != pinned.begin() && at < std::prev(after)->first + std::prev(after)->second;
}

constexpr int to_device = 1, to_host = 2;
constexpr size_t least_values = size_t(1) << 20;  ///< bytes; descriptions are shorter

}  // namespace

extern "C" {
// NOLINTBEGIN: these names are the linker's
JSQ_WRAPPED(cudaMemcpyAsync, void* to, const void* from, size_t bytes, int kind, void* stream) {
  const bool waits = !is_pinned(kind == to_device ? from : to);
  if (waits && kind == to_device) order.host_waits_for(stream);
  const bool values = kind == to_device && bytes >= least_values;
  order.operation(values            ? Kind::values_in
                  : kind == to_host ? Kind::copy_out
                                    : Kind::other,
                  stream, kind == to_device ? to : from);
  if (waits && kind != to_device) order.host_waits_for(stream);
  return __real_cudaMemcpyAsync(to, from, bytes, kind, stream);
}
JSQ_WRAPPED(cudaMemsetAsync, void* memory, int value, size_t bytes, void* stream) {
  order.operation(Kind::other, stream, memory);
  return __real_cudaMemsetAsync(memory, value, bytes, stream);
}
JSQ_WRAPPED(__cudaLaunchKernel, const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
            void* stream) {
  order.operation(Kind::launch, stream, kernel);
  return __real___cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
JSQ_WRAPPED(cudaLaunchKernel, const void* kernel, Dim3 grid, Dim3 block, void** arguments, size_t shared,
            void* stream) {
  order.operation(Kind::launch, stream, kernel);
  return __real_cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}
JSQ_WRAPPED(cudaEventRecord, void* event, void* stream) {
  order.record(event, stream);
  return __real_cudaEventRecord(event, stream);
}
JSQ_WRAPPED(cudaEventSynchronize, void* event) {
  order.host_waits_for_event(event);
  return __real_cudaEventSynchronize(event);
}
JSQ_WRAPPED(cudaStreamSynchronize, void* stream) {
  order.host_waits_for(stream);
  return __real_cudaStreamSynchronize(stream);
}
JSQ_WRAPPED(cudaStreamWaitEvent, void* stream, void* event, unsigned flags) {
  order.hold_back(stream, event);
  return __real_cudaStreamWaitEvent(stream, event, flags);
}
// What allocates may wait for all that runs.
JSQ_WRAPPED(cudaMalloc, void** memory, size_t bytes) {
  order.host_waits_for_all();
  return __real_cudaMalloc(memory, bytes);
}
JSQ_WRAPPED(cudaFree, void* memory) {
  if (memory != nullptr) order.host_waits_for_all();
  return __real_cudaFree(memory);
}
JSQ_WRAPPED(cudaMallocHost, void** memory, size_t bytes) {
  order.host_waits_for_all();
  const int status = __real_cudaMallocHost(memory, bytes);
  pinned[static_cast<const char*>(*memory)] = bytes;
  return status;
}
JSQ_WRAPPED(cudaFreeHost, void* memory) {
  order.host_waits_for_all();
  pinned.erase(static_cast<const char*>(memory));
  return __real_cudaFreeHost(memory);
}
// NOLINTEND
}

namespace jsq {
namespace {

constexpr size_t batch = size_t(1) << 20, block = 65536;
/// Elements on the device where batches take two places in turn.
constexpr size_t resident = 2 * batch, batches = 6;
/// Batches of a run whose buffers grow, for which everything may wait.
constexpr size_t growing = 3;

class Overlap : public test::OnDevice {
 protected:
  Overlap() {
    const std::vector<float> values = test::make_data(test::Kind::heavy, batch);
    for (size_t b = 0; b < batches; ++b) tensors[0].insert(tensors[0].end(), values.begin(), values.end());
    for (size_t at = 0; at < batches * batch; at += block) blocks.push_back({0, at, block});
  }

  /// Of `wanted` batches, from batch `first` on.
  void expect_overlap(size_t wanted, size_t first = 0) {
    const std::vector<test::BroughtBatch> found = test::batches_of(order.operations());
    ASSERT_EQ(found.size(), wanted);
    for (size_t b = 0; b < found.size(); ++b) {
      SCOPED_TRACE("batch " + std::to_string(b));
      ASSERT_FALSE(found[b].readers.empty());
      for (const auto& reader : found[b].readers)
        for (const auto& copy : found[b].copies)
          EXPECT_TRUE(DeviceOrder::before(copy, reader)) << "a kernel does not wait for its values";
      for (size_t later = b + 1; later < found.size(); ++later)
        for (const auto& copy : found[later].copies)
          for (const auto& reader : found[b].readers) {
            const bool waits = DeviceOrder::before(reader, copy);
            const bool replaces =
                std::any_of(found[b].copies.begin(), found[b].copies.end(),
                            [&](const auto& replaced) { return replaced.what == copy.what; });
            EXPECT_FALSE(waits && later == b + 1 && b >= first)
                << "values wait for a kernel that reads others";
            EXPECT_FALSE(replaces && !waits) << "values go while a kernel reads them";
          }
    }
  }

  /// What is coded is copied out while a kernel reads the next batch.
  void expect_copying_out_overlaps() {
    const std::vector<test::BroughtBatch> found = test::batches_of(order.operations());
    for (size_t b = growing; b + 1 < found.size(); ++b) {
      const auto beside = [&](const DeviceOrder::Operation& operation) {
        const DeviceOrder::Operation& reader = found[b + 1].readers.front();
        return operation.kind == Kind::copy_out && operation.stream == found[b].readers.front().stream &&
               !DeviceOrder::before(operation, reader) && !DeviceOrder::before(reader, operation);
      };
      EXPECT_TRUE(std::any_of(order.operations().begin(), order.operations().end(), beside)) << "batch " << b;
    }
  }

  std::vector<std::vector<float>> tensors{1};
  std::vector<cuda::BlockRange> blocks;
};

TEST_F(Overlap, OfTheFirstPassOverValuesThatStay) {
  const auto pool = test::pool_values(tensors);
  order.clear();
  std::vector<uint64_t> histogram(element::summary_bins);
  pool->summarise(histogram);
  expect_overlap(2);  // of 4 Mi
  order.clear();
  pool->count_key(0);
  EXPECT_TRUE(test::batches_of(order.operations()).empty()) << "values come over that are there";
}

TEST_F(Overlap, OfPassesOverValuesThatComeInBatches) {
  const auto pool = test::pool_values(tensors, resident);
  std::vector<uint64_t> histogram(element::summary_bins);
  pool->summarise(histogram);
  const std::vector<element::KeyRange> ranges = {{0x3f800000, 8}};
  std::vector<uint64_t> counts(element::cells_of_range);
  const std::function<void()> passes[] = {[&] { pool->summarise(histogram); },
                                          [&] { pool->count_key(0); },
                                          [&] { pool->squares_about(std::vector<double>(1)); },
                                          [&] { pool->refine(ranges, counts); },
                                          [&] { pool->sorted_keys(); },
                                          [&] { cuda::strided_keys(*pool, 100, 7); },
                                          [&] { cuda::counts_from(*pool, 0x3f800000); }};
  for (const auto& pass : passes) {
    SCOPED_TRACE("pass " + std::to_string(&pass - passes));
    order.clear();
    pass();
    expect_overlap(batches);
  }
}

TEST_F(Overlap, OfTalliesAndCodingOfClassBlocks) {
  const test::Fitted fitted = test::fit({}, std::span(tensors[0]).first(batch), {.block_length = block});
  const cuda::ClassComposition composition = device_composition(fitted.coder);
  const auto pool = test::pool_values(tensors, resident);
  std::vector<cuda::ClassSums> sums(blocks.size());
  const std::vector<uint8_t> in_full(blocks.size(), 1);
  const auto tally = [&] {
    cuda::ClassCounts tallied, counted;
    pool->tally(composition, blocks, in_full, tallied, counted, sums);
  };
  tally();
  order.clear();
  tally();
  expect_overlap(batches);
  order.clear();
  const auto coded = pool->encode(composition, fitted.coder.symbols(), blocks);
  for (size_t b = 0; b < blocks.size(); ++b) ASSERT_GT(coded->next(sums[b]).size(), 0u);
  expect_overlap(batches, growing);
  expect_copying_out_overlaps();
}

TEST_F(Overlap, OfCodingDenseBlocks) {
  const auto pool = test::pool_values(tensors, resident);
  order.clear();
  const auto coded = cuda::encode_dense(*pool, cuda::DenseFormat::f16, blocks);
  cuda::DenseSums sums;
  for (size_t b = 0; b < blocks.size(); ++b) ASSERT_EQ(coded->next(sums).size(), 2 * block);
  expect_overlap(batches, growing);
  expect_copying_out_overlaps();
}

TEST_F(Overlap, OfCodingLevelBlocks) {
  const auto pool = test::pool_values(tensors, resident);
  order.clear();
  const auto coded = cuda::encode_levels(*pool, test::sign_plan(), blocks, test::sign_layout);
  for (size_t b = 0; b < blocks.size(); ++b) ASSERT_EQ(coded->next().size(), block / 8);
  expect_overlap(batches, growing);
  expect_copying_out_overlaps();
}

TEST_F(Overlap, OfListingKeptElements) {
  const auto pool = test::pool_values(tensors, resident);
  const auto list = [&] {
    cuda::Selection selection;
    selection.largest.threshold_key = element::magnitude_key(4.0f);
    return cuda::list_kept(*pool, selection, blocks, batches * batch);
  };
  list();
  order.clear();
  EXPECT_EQ(list().size(), blocks.size());
  expect_overlap(batches);
}

/// Of what two threads ask of a decoder each, one behind the other.
TEST_F(Overlap, OfDecodingWithCopyingOutWhatAnotherDecoded) {
  constexpr size_t elements = 2 * block;
  const std::string bytes(2 * elements, '\0');
  const std::vector<cuda::DenseDecoder::Block> stored = {{0, 0, block, false},
                                                         {2 * block, block, block, false}};
  std::vector<float> values(elements);
  std::vector<uint8_t> sound(stored.size());
  const std::unique_ptr<cuda::DenseDecoder> decoders[] = {cuda::make_dense_decoder(cuda::DenseFormat::f16),
                                                          cuda::make_dense_decoder(cuda::DenseFormat::f16)};
  const auto decode = [&] {
    std::promise<void> is_done;
    std::thread second([&] {
      is_done.get_future().wait();
      decoders[1]->decode(bytes, stored, values, sound);
    });
    std::thread first([&] {
      decoders[0]->decode(bytes, stored, values, sound);
      is_done.set_value();
    });
    first.join();
    second.join();
  };
  decode();
  order.clear();
  decode();
  const std::vector<DeviceOrder::Operation>& asked = order.operations();
  const auto find = [&](Kind kind, auto from) {
    return std::find_if(from, asked.end(), [&](const auto& operation) { return operation.kind == kind; });
  };
  const auto first = find(Kind::launch, asked.begin()), second = find(Kind::launch, first + 1),
             copied = find(Kind::copy_out, first);
  ASSERT_TRUE(second != asked.end() && copied < second);
  EXPECT_TRUE(DeviceOrder::before(*first, *copied));
  EXPECT_FALSE(DeviceOrder::before(*copied, *second) || DeviceOrder::before(*second, *copied));
}

}  // namespace
}  // namespace jsq
