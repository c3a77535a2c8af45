// A build without nvcc: the device is never found, with the reason.
#include "kernels/cuda/context.hpp"
#include "kernels/cuda/dense.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/kernel_lines.hpp"
#include "kernels/cuda/levels.hpp"
#include "kernels/cuda/low_rank.hpp"
#include "kernels/cuda/sign_groups.hpp"
#include "kernels/cuda/sparse.hpp"
#include "kernels/cuda/statistics.hpp"
#include "kernels/cuda/user_memory.hpp"

namespace jsq::cuda {
namespace {

constexpr const char* reason = "this build has no CUDA support (built without nvcc, or with JSQ_CUDA=OFF)";

}  // namespace

// Signatures are those of the device, which keeps what it is given.
// NOLINTBEGIN(performance-unnecessary-value-param)
DeviceProbe probe_device() {
  return {false, reason};
}

std::unique_ptr<PoolValues> make_pool_values(std::vector<PoolValues::Tensor>, PoolValues::Read, uint64_t) {
  throw DeviceError(reason);
}

std::unique_ptr<ClassDecoder> make_class_decoder(const ClassComposition&, std::span<const uint32_t>,
                                                 std::span<const float>) {
  throw DeviceError(reason);
}

std::unique_ptr<DenseBlocks> encode_dense(PoolValues&, DenseFormat, std::span<const BlockRange>) {
  throw DeviceError(reason);
}

std::unique_ptr<DenseDecoder> make_dense_decoder(DenseFormat) {
  throw DeviceError(reason);
}

std::unique_ptr<LevelBlocks> encode_levels(PoolValues&, LevelPlan, std::span<const BlockRange>,
                                           ChooseLayout) {
  throw DeviceError(reason);
}

std::vector<double> sums_in_fours(PoolValues&) {
  throw DeviceError(reason);
}

std::vector<SignSums> sums_by_sign(PoolValues&) {
  throw DeviceError(reason);
}

std::vector<KeptElements> list_kept(PoolValues&, const Selection&, std::span<const BlockRange>, uint64_t) {
  throw DeviceError(reason);
}

std::vector<uint32_t> strided_keys(PoolValues&, uint64_t, uint64_t) {
  throw DeviceError(reason);
}

std::vector<uint32_t> counts_from(PoolValues&, uint32_t) {
  throw DeviceError(reason);
}

std::vector<SparseSums> sum_sparse_errors(PoolValues&, std::span<const BlockRange>,
                                          std::span<const SparseDecoded>, const SparseExpectation&) {
  throw DeviceError(reason);
}

std::unique_ptr<SparseDecoder> make_sparse_decoder(const SparseFormat&, const ClassComposition&,
                                                   std::span<const uint32_t>, std::span<const float>) {
  throw DeviceError(reason);
}

int device_of_thread() {
  return 0;
}
DeviceOfThread::DeviceOfThread(int) : before_(0) {}
DeviceOfThread::~DeviceOfThread() {}

void wait_for(void*) {
  throw DeviceError(reason);
}

void copy_from_user(void*, const void*, size_t) {
  throw DeviceError(reason);
}

void copy_to_user(void*, const void*, size_t, void*) {
  throw DeviceError(reason);
}

void copy_within(void*, const void*, size_t, void*) {
  throw DeviceError(reason);
}

std::shared_ptr<void> allocate_for_user(size_t) {
  throw DeviceError(reason);
}

std::shared_ptr<void> widen(const void*, element::StoredFloat, uint64_t) {
  throw DeviceError(reason);
}

void use_in_place(PoolValues&, size_t, const float*) {
  throw DeviceError(reason);
}

const float* place_of(PoolValues&, size_t) {
  throw DeviceError(reason);
}

std::unique_ptr<Clock> make_clock() {
  throw DeviceError(reason);
}

std::unique_ptr<LevelDecoder> make_level_decoder(const LevelTensor&, uint32_t) {
  throw DeviceError(reason);
}

std::unique_ptr<RotationDecoder> make_rotation_decoder(const Rotation&, float) {
  throw DeviceError(reason);
}

std::unique_ptr<ContextDecoder> make_context_decoder(const ContextTables&, const PartTransforms*) {
  throw DeviceError(reason);
}

std::vector<double> panel_products(PoolValues&, const StoredRuns&, uint64_t, const ThinColumns&) {
  throw DeviceError(reason);
}

std::vector<double> weighted_runs(PoolValues&, const StoredRuns&, uint64_t, const ThinColumns&) {
  throw DeviceError(reason);
}

std::vector<OuterSums> sum_outer_errors(PoolValues&, const OuterProduct&, std::span<const float>, uint64_t,
                                        std::span<const BlockRange>, std::span<const uint8_t>) {
  throw DeviceError(reason);
}

KernelLines kernel_lines(PoolValues&, const KernelRows&) {
  throw DeviceError(reason);
}

std::unique_ptr<OuterDecoder> make_outer_decoder() {
  throw DeviceError(reason);
}

std::vector<SignSums> group_sums(PoolValues&, size_t, const SignGroups&) {
  throw DeviceError(reason);
}

std::vector<SignSums> bucket_sums(PoolValues&, uint32_t, std::span<const BlockRange>) {
  throw DeviceError(reason);
}

SignBlocks code_signs(PoolValues&, const SignGroups&, std::span<const SignMeans>,
                      std::span<const BlockRange>) {
  throw DeviceError(reason);
}

std::unique_ptr<SignDecoder> make_sign_decoder(std::span<const SignMeans>) {
  throw DeviceError(reason);
}

TensorSums tensor_sums(PoolValues&, size_t, std::span<const element::Axis>, std::span<uint64_t>) {
  throw DeviceError(reason);
}

std::vector<element::LargestSums> largest_sums(PoolValues&, size_t, const element::LargestCuts&,
                                               std::span<uint64_t>) {
  throw DeviceError(reason);
}
// NOLINTEND(performance-unnecessary-value-param)

}  // namespace jsq::cuda
