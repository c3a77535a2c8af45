#include "kernels/cuda/primitives.hpp"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_run_length_encode.cuh>

namespace jsq::cuda {

uint32_t count_sorted_keys(uint32_t* keys, uint32_t count, uint32_t* different, uint32_t* counts,
                           const Stream& stream) {
  constexpr int key_bits = 31;
  if (count == 0) return 0;
  DeviceBuffer<uint32_t> sorted(count), runs(1);
  size_t sort_bytes = 0, encode_bytes = 0;
  check(cub::DeviceRadixSort::SortKeys(nullptr, sort_bytes, keys, sorted.data(), count, 0, key_bits, stream),
        "sorting keys");
  check(cub::DeviceRunLengthEncode::Encode(nullptr, encode_bytes, sorted.data(), different, counts,
                                           runs.data(), int(count), stream),
        "counting keys");
  DeviceBuffer<char> room(sort_bytes > encode_bytes ? sort_bytes : encode_bytes);
  check(cub::DeviceRadixSort::SortKeys(room.data(), sort_bytes, keys, sorted.data(), count, 0, key_bits,
                                       stream),
        "sorting keys");
  check(cub::DeviceRunLengthEncode::Encode(room.data(), encode_bytes, sorted.data(), different, counts,
                                           runs.data(), int(count), stream),
        "counting keys");
  uint32_t found = 0;
  copy_to_host(&found, runs.data(), 1, stream);
  stream.synchronize();
  return found;
}

}  // namespace jsq::cuda
