// Cosine transforms and low-rank predictions of many convolution kernels side by side. Kernels lie in planes:
// plane k holds place k of every kernel, so that neighbours in memory go the same way. All inverse arithmetic
// is that of integers, held exactly in double: the same numbers at every SIMD level.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace jsq::cpu {

/// Planes begin a multiple of this apart, and are readable and writable up to it.
constexpr size_t plane_lanes = 8;
constexpr size_t padded_plane(size_t kernels) {
  return (kernels + plane_lanes - 1) / plane_lanes * plane_lanes;
}

struct Planes {
  double* numbers = nullptr;
  size_t stride = 0;  ///< from plane to plane
  size_t kernels = 0;
  size_t size = 1;  ///< planes
};

/// One axis of a kernel: lines of `extent` places `stride` apart, and the table B[u][i] of its transform, in
/// 1/2^16. \pre extent 2..7
struct PlaneAxis {
  uint32_t extent = 0, stride = 0;
  const int32_t* table = nullptr;
};

/// planes(k, c) = kernels[c * size + k].
void planes_of_kernels(const float* kernels, Planes planes);
/// The other way, each number as float(clamp(clamp(x, most) factor, the largest binary32)).
void kernels_of_planes(Planes planes, double most, double factor, float* kernels);
/// lines[k * stride + c] = planes(k, c), as float of at most the largest binary32.
void lines_of_planes(Planes planes, float* lines, size_t stride);

/// x_u <- (x_0 B[u][0] + x_1 B[u][1] + ...) / 2^16, products rounded and added in this order.
void forward_cosine(std::span<const PlaneAxis> axes, Planes planes);

/// planes_of_kernels, forward_cosine and lines_of_planes in one, where kernels are 3 x 3: of as many of the
/// first `count` kernels as are returned, which may be none.
size_t forward_cosine_lines(std::span<const PlaneAxis> axes, const float* kernels, size_t count, float* lines,
                            size_t stride);

/// Largest magnitude for which inverse_cosine is exact.
constexpr double most_plane = 1 << 24;
/// x <- 256 x; along every axis x_i <- floor((x_0 B[0][i] + x_1 B[1][i] + ... + 2^15) / 2^16); x <- floor((x
/// + 128) / 256). Numbers are integers. False, and nothing is changed, if one exceeds most_plane.
bool inverse_cosine(std::span<const PlaneAxis> axes, Planes planes);

/// values[i] += factor floor((2^15 + sum over j < rank of left[j * stride + i] weights[j]) / 2^16): integers
/// all of them, but for `factor`, and all sums below 2^52; product and sum are rounded apart. \pre `values`
/// has room for padded_plane(count), and so have rows of `left`
void add_predictions(const float* left, size_t stride, const double* weights, size_t rank, size_t count,
                     double factor, double* values);

}  // namespace jsq::cpu
