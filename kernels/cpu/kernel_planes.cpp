#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/kernel_planes.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <limits>

#include "kernels/cpu/kernel_planes.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Lanes = hn::CappedTag<double, plane_lanes>;

/// Kernels of one element: a plane is the elements as they lie.
void gather_row(const float* HWY_RESTRICT row, size_t count, double* HWY_RESTRICT plane) {
  const Lanes d;
  const hn::Rebind<float, Lanes> f;
  size_t c = 0;
  for (; c + hn::Lanes(d) <= count; c += hn::Lanes(d))
    hn::StoreU(hn::PromoteTo(d, hn::LoadU(f, row + c)), d, plane + c);
  for (; c < count; ++c) plane[c] = double(row[c]);
  for (; c < padded_plane(count); ++c) plane[c] = 0;
}

HWY_INLINE void scatter_row(const double* HWY_RESTRICT plane, size_t count, double most, double factor,
                            float* HWY_RESTRICT row) {
  const Lanes d;
  const hn::Rebind<float, Lanes> f;
  constexpr double largest = double(std::numeric_limits<float>::max());
  const auto within = [&](auto x, double bound) {
    return hn::Min(hn::Max(x, hn::Set(d, -bound)), hn::Set(d, bound));
  };
  size_t c = 0;
  for (; c + hn::Lanes(d) <= count; c += hn::Lanes(d)) {
    const auto value = hn::Mul(within(hn::LoadU(d, plane + c), most), hn::Set(d, factor));
    hn::StoreU(hn::DemoteTo(f, within(value, largest)), f, row + c);
  }
  for (; c < count; ++c) {
    const double value = std::min(std::max(plane[c], -most), most) * factor;
    row[c] = float(std::min(std::max(value, -largest), largest));
  }
}

/// The same for a few kernels at a time, whose elements lie close together.
void gather(const float* HWY_RESTRICT kernels, Planes planes) {
  const size_t size = planes.size;
  if (size == 1) return gather_row(kernels, planes.kernels, planes.numbers);
  for (size_t c = 0; c < padded_plane(planes.kernels); c += plane_lanes) {
    const float* HWY_RESTRICT from = kernels + c * size;
    const size_t count = std::min(plane_lanes, planes.kernels - c);
    for (size_t k = 0; k < size; ++k) {
      double* HWY_RESTRICT to = planes.numbers + k * planes.stride + c;
      if (count == plane_lanes) {
        for (size_t l = 0; l < plane_lanes; ++l) to[l] = double(from[l * size + k]);
      } else {
        for (size_t l = 0; l < plane_lanes; ++l) to[l] = l < count ? double(from[l * size + k]) : 0;
      }
    }
  }
}

void scatter(Planes planes, double most, double factor, float* HWY_RESTRICT kernels) {
  const size_t size = planes.size;
  if (size == 1) return scatter_row(planes.numbers, planes.kernels, most, factor, kernels);
  for (size_t c = 0; c < planes.kernels; c += plane_lanes) {
    float* HWY_RESTRICT to = kernels + c * size;
    const size_t count = std::min(plane_lanes, planes.kernels - c);
    for (size_t k = 0; k < size; ++k) {
      float some[plane_lanes];
      scatter_row(planes.numbers + k * planes.stride + c, plane_lanes, most, factor, some);
      if (count == plane_lanes) {
        for (size_t l = 0; l < plane_lanes; ++l) to[l * size + k] = some[l];
      } else {
        for (size_t l = 0; l < count; ++l) to[l * size + k] = some[l];
      }
    }
  }
}

/// Planes become lines.
void lay_out(Planes planes, double most, double factor, float* HWY_RESTRICT lines, size_t stride) {
  for (size_t k = 0; k < planes.size; ++k)
    scatter_row(planes.numbers + k * planes.stride, planes.kernels, most, factor, lines + k * stride);
}

/// Calls change(vector of each place of a line) for all lines along an axis, a vector of kernels at a time.
template <size_t extent, class Change>
HWY_INLINE void for_each_line(uint32_t stride, Planes planes, Change change) {
  const Lanes d;
  for (size_t outer = 0; outer < planes.size; outer += extent * stride)
    for (size_t inner = 0; inner < stride; ++inner)
      for (size_t c = 0; c < planes.kernels; c += hn::Lanes(d)) {
        double* const at = planes.numbers + (outer + inner) * planes.stride + c;
        hn::Vec<Lanes> line[extent];
        for (size_t u = 0; u < extent; ++u) line[u] = hn::LoadU(d, at + u * stride * planes.stride);
        change(line, [=](size_t i, hn::Vec<Lanes> x) { hn::StoreU(x, d, at + i * stride * planes.stride); });
      }
}

template <size_t extent>
void forward_axis(const PlaneAxis& axis, Planes planes) {
  const Lanes d;
  for_each_line<extent>(axis.stride, planes, [&](const hn::Vec<Lanes>* line, auto store) {
    for (size_t u = 0; u < extent; ++u) {
      const int32_t* const row = axis.table + u * extent;
      auto sum = hn::Mul(line[0], hn::Set(d, row[0]));
      // Not fused: roundings are those of every SIMD level.
      for (size_t i = 1; i < extent; ++i) sum = hn::Add(sum, hn::Mul(line[i], hn::Set(d, row[i])));
      store(u, hn::Mul(sum, hn::Set(d, 0x1p-16)));
    }
  });
}

template <size_t extent>
void inverse_axis(const PlaneAxis& axis, Planes planes) {
  const Lanes d;
  for_each_line<extent>(axis.stride, planes, [&](const hn::Vec<Lanes>* line, auto store) {
    for (size_t i = 0; i < extent; ++i) {
      auto sum = hn::Set(d, 32768.0);
      for (size_t u = 0; u < extent; ++u)
        sum = hn::MulAdd(line[u], hn::Set(d, axis.table[u * extent + i]), sum);
      store(i, hn::Floor(hn::Mul(sum, hn::Set(d, 0x1p-16))));
    }
  });
}

template <class Call>
HWY_INLINE void with_extent(uint32_t extent, Call call) {
  switch (extent) {
    case 2:
      return call(std::integral_constant<size_t, 2>());
    case 3:
      return call(std::integral_constant<size_t, 3>());
    case 4:
      return call(std::integral_constant<size_t, 4>());
    case 5:
      return call(std::integral_constant<size_t, 5>());
    case 6:
      return call(std::integral_constant<size_t, 6>());
    default:
      return call(std::integral_constant<size_t, 7>());
  }
}

void forward(std::span<const PlaneAxis> axes, Planes planes) {
  for (const PlaneAxis& axis : axes)
    with_extent(axis.extent, [&](auto extent) { forward_axis<extent()>(axis, planes); });
}

/// Whether all magnitudes are at most most_plane; a NaN counts as more.
bool all_small(Planes planes) {
  const Lanes d;
  const auto most = hn::Set(d, most_plane);
  for (size_t k = 0; k < planes.size; ++k)
    for (size_t c = 0; c < planes.kernels; c += hn::Lanes(d))
      if (!hn::AllTrue(d, hn::Le(hn::Abs(hn::LoadU(d, planes.numbers + k * planes.stride + c)), most)))
        return false;
  return true;
}

template <class Change>
HWY_INLINE void change_all(Planes planes, Change change) {
  const Lanes d;
  for (size_t k = 0; k < planes.size; ++k)
    for (size_t c = 0; c < planes.kernels; c += hn::Lanes(d)) {
      double* const at = planes.numbers + k * planes.stride + c;
      hn::StoreU(change(hn::LoadU(d, at)), d, at);
    }
}

bool inverse(std::span<const PlaneAxis> axes, Planes planes) {
  const Lanes d;
  if (!all_small(planes)) return false;
  change_all(planes, [=](auto x) { return hn::Mul(x, hn::Set(d, 256.0)); });
  for (const PlaneAxis& axis : axes)
    with_extent(axis.extent, [&](auto extent) { inverse_axis<extent()>(axis, planes); });
  change_all(planes, [=](auto x) {
    return hn::Floor(hn::Mul(hn::Add(x, hn::Set(d, 128.0)), hn::Set(d, 1.0 / 256)));
  });
  return true;
}

/// `tile` vectors of values at a time stay in registers.
template <size_t tile>
HWY_INLINE void predict_tile(const float* HWY_RESTRICT left, size_t stride,
                             const double* HWY_RESTRICT weights, size_t rank, double factor,
                             double* HWY_RESTRICT values) {
  const Lanes d;
  const hn::Rebind<float, Lanes> f;
  hn::Vec<Lanes> sums[tile];
  for (size_t v = 0; v < tile; ++v) sums[v] = hn::Set(d, 32768.0);
  for (size_t j = 0; j < rank; ++j) {
    const auto weight = hn::Set(d, weights[j]);
    for (size_t v = 0; v < tile; ++v)
      sums[v] =
          hn::MulAdd(hn::PromoteTo(d, hn::LoadU(f, left + j * stride + v * hn::Lanes(d))), weight, sums[v]);
  }
  for (size_t v = 0; v < tile; ++v) {
    double* const at = values + v * hn::Lanes(d);
    const auto predicted = hn::Floor(hn::Mul(sums[v], hn::Set(d, 0x1p-16)));
    hn::StoreU(hn::Add(hn::LoadU(d, at), hn::Mul(predicted, hn::Set(d, factor))), d, at);
  }
}

void predict(const float* left, size_t stride, const double* weights, size_t rank, size_t count,
             double factor, double* values) {
  const size_t lanes = hn::Lanes(Lanes());
  size_t i = 0;
  // Eight sums at a time: as many as additions and multiplications take turns to finish.
  for (; i + 8 * lanes <= count; i += 8 * lanes)
    predict_tile<8>(left + i, stride, weights, rank, factor, values + i);
  for (; i + 4 * lanes <= count; i += 4 * lanes)
    predict_tile<4>(left + i, stride, weights, rank, factor, values + i);
  for (; i < count; i += lanes) predict_tile<1>(left + i, stride, weights, rank, factor, values + i);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(gather);
HWY_EXPORT(scatter);
HWY_EXPORT(lay_out);
HWY_EXPORT(forward);
HWY_EXPORT(inverse);
HWY_EXPORT(predict);

void planes_of_kernels(const float* kernels, Planes planes) {
  HWY_DYNAMIC_DISPATCH(gather)(kernels, planes);
}

void kernels_of_planes(Planes planes, double most, double factor, float* kernels) {
  HWY_DYNAMIC_DISPATCH(scatter)(planes, most, factor, kernels);
}

void lines_of_planes(Planes planes, float* lines, size_t stride) {
  HWY_DYNAMIC_DISPATCH(lay_out)(planes, std::numeric_limits<double>::max(), 1, lines, stride);
}

void forward_cosine(std::span<const PlaneAxis> axes, Planes planes) {
  HWY_DYNAMIC_DISPATCH(forward)(axes, planes);
}

bool inverse_cosine(std::span<const PlaneAxis> axes, Planes planes) {
  return HWY_DYNAMIC_DISPATCH(inverse)(axes, planes);
}

void add_predictions(const float* left, size_t stride, const double* weights, size_t rank, size_t count,
                     double factor, double* values) {
  HWY_DYNAMIC_DISPATCH(predict)(left, stride, weights, rank, count, factor, values);
}

}  // namespace jsq::cpu
#endif
