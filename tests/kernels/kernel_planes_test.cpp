// Kernels side by side: at every SIMD level and every number of kernels, each number is what the stated sums
// make it one at a time.
#include "kernels/cpu/kernel_planes.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/kernels/data.hpp"
#include "tests/kernels/simd_levels.hpp"

namespace jsq {
namespace {

constexpr size_t counts[] = {1, 2, 7, 8, 9, 31, 32, 33, 100};

/// A kernel's places by axis, with tables of any numbers below 2^16.
struct Case {
  std::vector<cpu::PlaneAxis> axes;
  std::vector<std::vector<int32_t>> tables;
  size_t size = 1;
};
Case case_of(const std::vector<uint32_t>& extents, test::Random& random) {
  Case result;
  for (uint32_t k : extents) {
    auto& table = result.tables.emplace_back(size_t(k) * k);
    for (int32_t& b : table) b = int32_t(random.below(40001)) - 20000;
    result.size *= k;
  }
  size_t stride = result.size;
  for (size_t a = 0; a < extents.size(); ++a) {
    stride /= extents[a];
    result.axes.push_back({extents[a], uint32_t(stride), result.tables[a].data()});
  }
  return result;
}

const std::vector<uint32_t> kernels[] = {{2}, {3}, {3, 3}, {4, 5}, {6}, {7, 7}, {2, 3, 4}};

/// Calls change(line) for every line of one kernel along an axis.
template <class Number, class Change>
void along(const cpu::PlaneAxis& axis, std::vector<Number>& kernel, Change change) {
  std::vector<bool> done(kernel.size());
  for (size_t first = 0; first < kernel.size(); ++first) {
    if (done[first]) continue;
    std::vector<Number> line;
    for (size_t i = 0; i < axis.extent; ++i) line.push_back(kernel[first + i * axis.stride]);
    change(line);
    for (size_t i = 0; i < axis.extent; ++i) {
      kernel[first + i * axis.stride] = line[i];
      done[first + i * axis.stride] = true;
    }
  }
}

/// Planes of `count` kernels of numbers made by next().
template <class Next>
std::vector<double> planes_of(size_t size, size_t count, Next next) {
  std::vector<double> numbers(size * cpu::padded_plane(count));
  for (size_t k = 0; k < size; ++k)
    for (size_t c = 0; c < count; ++c) numbers[k * cpu::padded_plane(count) + c] = next();
  return numbers;
}

TEST(KernelPlanes, ForwardAddsRoundedProductsInOrder) {
  test::for_each_simd_level([] {
    test::Random random(1);
    for (const auto& extents : kernels)
      for (size_t count : counts) {
        const Case c = case_of(extents, random);
        const size_t stride = cpu::padded_plane(count);
        const std::vector<double> in = planes_of(c.size, count, [&] { return double(random.heavy()); });
        std::vector<double> out = in;
        cpu::forward_cosine(c.axes, {out.data(), stride, count, c.size});
        for (size_t k = 0; k < count; ++k) {
          std::vector<double> kernel;
          for (size_t i = 0; i < c.size; ++i) kernel.push_back(in[i * stride + k]);
          for (const cpu::PlaneAxis& axis : c.axes)
            along(axis, kernel, [&](std::vector<double>& line) {
              const std::vector<double> before = line;
              for (size_t u = 0; u < line.size(); ++u) {
                double sum = before[0] * axis.table[u * line.size()];
                for (size_t i = 1; i < line.size(); ++i) {
                  const double product = before[i] * axis.table[u * line.size() + i];
                  sum += product;
                }
                line[u] = sum / 65536;
              }
            });
          for (size_t i = 0; i < c.size; ++i) ASSERT_EQ(out[i * stride + k], kernel[i]);
        }
      }
  });
}

TEST(KernelPlanes, LinesAreWhatPlanesMakeOfThem) {
  test::for_each_simd_level([] {
    test::Random random(5);
    for (const auto& extents : kernels)
      for (size_t count : counts) {
        const Case c = case_of(extents, random);
        const size_t stride = count + 3;
        std::vector<float> values(c.size * count), expected(c.size * stride, 7.0f);
        for (float& x : values) x = random.heavy();
        std::vector<float> lines = expected;
        const size_t done = cpu::forward_cosine_lines(c.axes, values.data(), count, lines.data(), stride);
        ASSERT_LE(done, count);
        ASSERT_TRUE(c.size != 9 || done + cpu::plane_lanes > count);
        std::vector<double> numbers(c.size * cpu::padded_plane(count));
        const cpu::Planes planes{numbers.data(), cpu::padded_plane(count), count, c.size};
        cpu::planes_of_kernels(values.data(), planes);
        cpu::forward_cosine(c.axes, planes);
        for (size_t k = 0; k < c.size; ++k)
          for (size_t i = 0; i < done; ++i) expected[k * stride + i] = float(numbers[k * planes.stride + i]);
        ASSERT_EQ(lines, expected);
      }
  });
}

TEST(KernelPlanes, InverseIsThatOfIntegersAndLeavesLargeNumbersAlone) {
  test::for_each_simd_level([] {
    test::Random random(2);
    for (const auto& extents : kernels)
      for (size_t count : counts) {
        const Case c = case_of(extents, random);
        const size_t stride = cpu::padded_plane(count);
        const auto most = int64_t(cpu::most_plane);
        std::vector<double> in = planes_of(
            c.size, count, [&] { return double(int64_t(random.below(uint64_t(2 * most) + 1)) - most); });
        in[count - 1] = random.below(2) ? double(most) : -double(most);
        std::vector<double> out = in;
        ASSERT_TRUE(cpu::inverse_cosine(c.axes, {out.data(), stride, count, c.size}));
        for (size_t k = 0; k < count; ++k) {
          std::vector<int64_t> kernel;
          for (size_t i = 0; i < c.size; ++i) kernel.push_back(256 * int64_t(in[i * stride + k]));
          for (const cpu::PlaneAxis& axis : c.axes)
            along(axis, kernel, [&](std::vector<int64_t>& line) {
              const std::vector<int64_t> before = line;
              for (size_t i = 0; i < line.size(); ++i) {
                int64_t sum = 32768;
                for (size_t u = 0; u < line.size(); ++u) sum += before[u] * axis.table[u * line.size() + i];
                line[i] = sum >> 16;
              }
            });
          for (size_t i = 0; i < c.size; ++i)
            ASSERT_EQ(out[i * stride + k], double((kernel[i] + 128) >> 8)) << i;
        }
        in[count - 1] = double(most + 1);
        out = in;
        ASSERT_FALSE(cpu::inverse_cosine(c.axes, {out.data(), stride, count, c.size}));
        ASSERT_EQ(out, in);
      }
  });
}

TEST(KernelPlanes, PredictionsAreFlooredSumsOfIntegers) {
  test::for_each_simd_level([] {
    test::Random random(3);
    for (size_t rank : {0u, 1u, 2u, 7u, 64u})
      for (size_t count : counts) {
        const size_t stride = count + cpu::plane_lanes + 3;
        std::vector<float> left(rank * stride + cpu::plane_lanes);
        std::vector<double> weights(rank);
        for (float& u : left) u = float(int64_t(random.below(65535)) - 32767);
        for (double& w : weights) w = double(int64_t(random.below((1u << 29) + 1)) - (1 << 28));
        std::vector<double> values(cpu::padded_plane(count));
        for (size_t i = 0; i < count; ++i) values[i] = double(int64_t(random.below(2001)) - 1000);
        for (const double factor : {1.0, -0.1}) {
          std::vector<double> out = values;
          cpu::add_predictions(left.data(), stride, weights.data(), rank, count, factor, out.data());
          for (size_t i = 0; i < count; ++i) {
            int64_t sum = 32768;
            for (size_t j = 0; j < rank; ++j) sum += int64_t(left[j * stride + i]) * int64_t(weights[j]);
            ASSERT_EQ(out[i], values[i] + factor * double(sum >> 16));
          }
        }
      }
  });
}

TEST(KernelPlanes, ThereAndBackIsTheSameAndWhatIsTooLargeIsCut) {
  test::for_each_simd_level([] {
    test::Random random(4);
    for (size_t size : {1u, 4u, 9u, 343u})
      for (size_t count : counts) {
        std::vector<float> values(size * count), back(values.size());
        for (float& x : values) x = random.heavy();
        std::vector<double> numbers(size * cpu::padded_plane(count), -1);
        const cpu::Planes planes{numbers.data(), cpu::padded_plane(count), count, size};
        cpu::planes_of_kernels(values.data(), planes);
        for (size_t k = 0; k < size; ++k)
          for (size_t c = 0; c < count; ++c)
            ASSERT_EQ(numbers[k * planes.stride + c], double(values[c * size + k]));
        cpu::kernels_of_planes(planes, 1e9, 1, back.data());
        ASSERT_EQ(back, values);
        numbers[0] = 3e9;
        cpu::kernels_of_planes(planes, 1e9, 0.5, back.data());
        ASSERT_EQ(back[0], 5e8f);
        cpu::kernels_of_planes(planes, 1e9, 1e300, back.data());
        ASSERT_EQ(back[0], std::numeric_limits<float>::max());
      }
  });
}

}  // namespace
}  // namespace jsq
