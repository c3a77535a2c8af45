// The cosine transform of convolution kernels: smooth kernels become a few large coefficients. Orthonormal
// DCT-II along every axis of a kernel, with one table of integers for both directions, so that decoding needs
// no floating point. Source: Ahmed, Natarajan and Rao, IEEE Trans. Computers 23 (1974).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "kernels/cpu/kernel_planes.hpp"
#include "kernels/element/part_transform.hpp"

namespace jsq {

/// Extents that have a transform; 1 is left alone.
constexpr uint32_t least_dct = 2, most_dct = 7;

/// B[u][i] = round(2^16 sqrt((1 + [u > 0]) / k) cos(pi (2 i + 1) u / (2 k))), u, i < k.  \pre least_dct <= k
/// <= most_dct
std::span<const int32_t> dct_table(uint32_t k);

/// A kernel as it is stored: its extents, the slowest axis first.
class KernelDct {
 public:
  /// Whether kernels of these extents have a transform: at most three axes of more than one element, none of
  /// more than 7, one of more than 1.
  static bool applies(std::span<const uint64_t> extents);
  /// \pre applies
  explicit KernelDct(std::span<const uint64_t> extents);

  /// Elements of a kernel.
  size_t size() const { return size_; }
  uint32_t axes() const { return count_; }
  uint32_t extent(uint32_t axis) const { return axes_[axis].extent; }
  /// Elements from one to the next along an axis.
  uint32_t stride(uint32_t axis) const { return axes_[axis].stride; }

  /// Coefficients of kernels, in double along one axis after the other, the slowest first. Equal on every
  /// machine.
  void forward(cpu::Planes planes) const;
  /// Of whole kernels one after the other, with coefficient k of kernel c at lines[k * stride + c].
  void forward(std::span<const float> kernels, float* lines, size_t stride) const;

  /// Coefficients become elements, in place and in the same unit: x <- 256 x; along every axis, the slowest
  /// first, x_i <- floor((sum over u of x_u B[u][i] + 2^15) / 2^16); x <- floor((x + 128) / 256). \pre |x| <=
  /// most_coefficient
  void inverse(std::span<int64_t> kernels) const;
  /// The same of integers in planes: side by side where all are small.
  void inverse(cpu::Planes planes) const;
  static constexpr int64_t most_coefficient = element::most_coefficient;

 private:
  std::span<const cpu::PlaneAxis> plane_axes() const { return std::span(axes_).first(count_); }

  std::array<cpu::PlaneAxis, 3> axes_{};
  uint32_t count_ = 0;
  size_t size_ = 1;
};

}  // namespace jsq
