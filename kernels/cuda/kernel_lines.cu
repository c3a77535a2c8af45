// A thread block takes whole kernels of a row, as many as a tile in shared memory holds: each thread makes a
// number from the line of places along an axis, axis after axis. What has the same place is stored together.
#include "kernels/cuda/kernel_lines.hpp"

#include <algorithm>
#include <array>

#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/user_memory.hpp"
#include "kernels/element/part_transform.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t threads = 256, tile = 2048;
constexpr uint32_t most_axes = 3;

struct Arguments {
  const float* kernels = nullptr;
  float* lines = nullptr;
  uint64_t columns = 0;
  uint32_t size = 1, each = 1, blocks_of_row = 1;  ///< each: kernels of a thread block
  uint32_t axes = 0;
  uint32_t extent[most_axes] = {}, stride[most_axes] = {}, table[most_axes] = {};
  const int32_t* tables = nullptr;
};

__global__ void __launch_bounds__(threads) lines_of_kernels(const __grid_constant__ Arguments a) {
  __shared__ double room[2][tile];
  const uint64_t row = blockIdx.x / a.blocks_of_row, first = uint64_t(blockIdx.x % a.blocks_of_row) * a.each;
  const auto kernels = uint32_t(a.columns - first < a.each ? a.columns - first : a.each);
  const uint32_t count = kernels * a.size;
  const float* const from = a.kernels + (row * a.columns + first) * a.size;
  for (uint32_t i = threadIdx.x; i < count; i += threads) room[0][i] = from[i];
  uint32_t turn = 0;
#pragma unroll
  for (uint32_t axis = 0; axis < most_axes; ++axis) {
    if (axis >= a.axes) break;
    __syncthreads();
    const uint32_t extent = a.extent[axis], stride = a.stride[axis];
    const int32_t* const table = a.tables + a.table[axis];
    for (uint32_t i = threadIdx.x; i < count; i += threads) {
      const uint32_t u = i / stride % extent;
      const double* const line = room[turn] + (i - u * stride);
      double sum = line[0] * table[u * extent];
      for (uint32_t k = 1; k < extent; ++k) sum += line[k * stride] * table[u * extent + k];
      room[turn ^ 1][i] = element::coefficient_of_sum(sum);
    }
    turn ^= 1;
  }
  __syncthreads();
  float* const lines = a.lines + row * a.size * a.columns + first;
  for (uint32_t i = threadIdx.x; i < count; i += threads) {
    const uint32_t place = i / kernels, c = i % kernels;
    lines[place * a.columns + c] = element::number_of_line(room[turn][c * a.size + place]);
  }
}

}  // namespace

KernelLines kernel_lines(PoolValues& pool, const KernelRows& kernels) {
  const float* const values = place_of(pool, kernels.tensor);
  const uint64_t row = kernels.columns * kernels.size, bytes = kernels.rows * row * sizeof(float);
  size_t free = 0, all = 0;
  check(cudaMemGetInfo(&free, &all), "asking for free device memory");
  if (values == nullptr || bytes == 0 || bytes > free / 2 || kernels.size > tile ||
      kernels.axes.size() > most_axes)
    return {};
  Arguments a;
  a.kernels = values + kernels.first;
  a.columns = kernels.columns;
  a.size = kernels.size;
  a.each = uint32_t(std::min<uint64_t>(tile / kernels.size, kernels.columns));
  a.blocks_of_row = uint32_t((kernels.columns + a.each - 1) / a.each);
  if (kernels.rows * a.blocks_of_row > INT32_MAX) return {};
  std::vector<int32_t> tables;
  for (const KernelAxis& axis : kernels.axes) {
    a.extent[a.axes] = axis.extent;
    a.stride[a.axes] = axis.stride;
    a.table[a.axes++] = uint32_t(tables.size());
    tables.insert(tables.end(), axis.table.begin(), axis.table.end());
  }
  const Stream stream;
  DeviceBuffer<int32_t> device_tables(tables.size() + 1);
  copy_to_device(device_tables.data(), tables.data(), tables.size(), stream);
  a.tables = device_tables.data();
  KernelLines lines{allocate_for_user(bytes), make_pool_values({{kernels.rows * row, 0}}, {})};
  a.lines = static_cast<float*>(lines.memory.get());
  lines_of_kernels<<<uint32_t(kernels.rows * a.blocks_of_row), threads, 0, stream>>>(a);
  check_launch("laying kernels out");
  stream.synchronize();
  use_in_place(*lines.values, 0, a.lines);
  return lines;
}

}  // namespace jsq::cuda
