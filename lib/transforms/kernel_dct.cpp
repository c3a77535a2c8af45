#include "lib/transforms/kernel_dct.hpp"

#include <algorithm>
#include <vector>

namespace jsq {
namespace {

constexpr int32_t tables[] = {
    // k = 2
    46341, 46341, 46341, -46341,
    // k = 3
    37837, 37837, 37837, 46341, 0, -46341, 26755, -53510, 26755,
    // k = 4
    32768, 32768, 32768, 32768, 42813, 17734, -17734, -42813, 32768, -32768, -32768, 32768, 17734, -42813,
    42813, -17734,
    // k = 5
    29309, 29309, 29309, 29309, 29309, 39420, 24363, 0, -24363, -39420, 33533, -12808, -41449, -12808,
    33533,  //
    24363, -39420, 0, 39420, -24363, 12808, -33533, 41449, -33533, 12808,
    // k = 6
    26755, 26755, 26755, 26755, 26755, 26755, 36548, 26755, 9793, -9793, -26755, -36548,  //
    32768, 0, -32768, -32768, 0, 32768, 26755, -26755, -26755, 26755, 26755, -26755,      //
    18919, -37837, 18919, 18919, -37837, 18919, 9793, -26755, 36548, -36548, 26755, -9793,
    // k = 7
    24770, 24770, 24770, 24770, 24770, 24770, 24770, 34152, 27388, 15199, 0, -15199, -27388, -34152,    //
    31561, 7795, -21841, -35030, -21841, 7795, 31561, 27388, -15199, -34152, 0, 34152, 15199, -27388,   //
    21841, -31561, -7795, 35030, -7795, -31561, 21841, 15199, -34152, 27388, 0, -27388, 34152, -15199,  //
    7795, -21841, 31561, -35030, 31561, -21841, 7795};

/// Calls line(first, stride) for every line of a kernel along an axis.
template <class Line>
void for_each_line(size_t size, uint32_t extent, uint32_t stride, Line line) {
  for (size_t outer = 0; outer < size; outer += size_t(extent) * stride)
    for (uint32_t inner = 0; inner < stride; ++inner) line(outer + inner);
}

}  // namespace

std::span<const int32_t> dct_table(uint32_t k) {
  size_t first = 0;
  for (uint32_t smaller = least_dct; smaller < k; ++smaller) first += size_t(smaller) * smaller;
  return std::span(tables).subspan(first, size_t(k) * k);
}

bool KernelDct::applies(std::span<const uint64_t> extents) {
  const auto transformed = std::count_if(extents.begin(), extents.end(), [](uint64_t k) { return k != 1; });
  const bool in_range =
      std::all_of(extents.begin(), extents.end(), [](uint64_t k) { return k >= 1 && k <= most_dct; });
  return in_range && transformed >= 1 && transformed <= 3;
}

KernelDct::KernelDct(std::span<const uint64_t> extents) {
  for (uint64_t extent : extents) size_ *= size_t(extent);
  size_t stride = size_;
  for (uint64_t extent : extents) {
    stride /= size_t(extent);
    if (extent > 1)
      axes_[count_++] = {uint32_t(extent), uint32_t(stride), dct_table(uint32_t(extent)).data()};
  }
}

void KernelDct::forward(cpu::Planes planes) const {
  cpu::forward_cosine(plane_axes(), planes);
}

void KernelDct::forward(std::span<const float> kernels, float* lines, size_t stride) const {
  static thread_local std::vector<double> numbers;
  const size_t all = kernels.size() / size_, most = std::max<size_t>(cpu::plane_lanes, 4096 / size_);
  for (size_t at = cpu::forward_cosine_lines(plane_axes(), kernels.data(), all, lines, stride); at < all;
       at += most) {
    const size_t count = std::min(most, all - at);
    numbers.resize(cpu::padded_plane(count) * size_);
    const cpu::Planes planes{numbers.data(), cpu::padded_plane(count), count, size_};
    cpu::planes_of_kernels(kernels.data() + at * size_, planes);
    forward(planes);
    cpu::lines_of_planes(planes, lines + at, stride);
  }
}

void KernelDct::inverse(std::span<int64_t> kernels) const {
  for (size_t at = 0; at + size_ <= kernels.size(); at += size_) {
    int64_t* const kernel = kernels.data() + at;
    for (size_t i = 0; i < size_; ++i) kernel[i] *= 1 << element::cosine_fraction_bits;
    for (uint32_t a = 0; a < count_; ++a) {
      const cpu::PlaneAxis& axis = axes_[a];
      for_each_line(size_, axis.extent, axis.stride, [&](size_t first) {
        int64_t line[most_dct];
        for (uint32_t u = 0; u < axis.extent; ++u) line[u] = kernel[first + u * axis.stride];
        for (uint32_t i = 0; i < axis.extent; ++i) {
          int64_t sum = 0;
          for (uint32_t u = 0; u < axis.extent; ++u) sum += line[u] * axis.table[u * axis.extent + i];
          kernel[first + i * axis.stride] = element::element_of_sum(sum);
        }
      });
    }
    for (size_t i = 0; i < size_; ++i) kernel[i] = element::without_fraction(kernel[i]);
  }
}

void KernelDct::inverse(cpu::Planes planes) const {
  if (cpu::inverse_cosine(plane_axes(), planes)) return;
  std::array<int64_t, most_dct * most_dct * most_dct> kernel;
  for (size_t c = 0; c < planes.kernels; ++c) {
    double* const first = planes.numbers + c;
    for (size_t k = 0; k < size_; ++k) kernel[k] = int64_t(first[k * planes.stride]);
    inverse(std::span(kernel).first(size_));
    for (size_t k = 0; k < size_; ++k) first[k * planes.stride] = double(kernel[k]);
  }
}

}  // namespace jsq
