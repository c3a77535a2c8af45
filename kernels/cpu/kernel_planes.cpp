#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/kernel_planes.cpp"
#include <hwy/cache_control.h>
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

#if HWY_CAP_GE256

/// Rows become columns.
using Eight = hn::CappedTag<float, plane_lanes>;
HWY_INLINE void transpose(hn::Vec<Eight>* rows) {
  const Eight d;
  const hn::RepartitionToWide<Eight> pairs;
  const auto interleave = [&](hn::Vec<Eight> a, hn::Vec<Eight> b, auto& low, auto& high) {
    low = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
    high = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
  };
  hn::Vec<decltype(pairs)> twos[8];
  for (size_t i = 0; i < 4; ++i) interleave(rows[2 * i], rows[2 * i + 1], twos[2 * i], twos[2 * i + 1]);
  hn::Vec<Eight> fours[8];  // of rows 0 to 3 and 4 to 7, places i and i + 4
  for (size_t half = 0; half < 2; ++half)
    for (size_t i = 0; i < 2; ++i) {
      const auto a = twos[4 * half + i], b = twos[4 * half + 2 + i];
      fours[4 * half + 2 * i] = hn::BitCast(d, hn::InterleaveLower(pairs, a, b));
      fours[4 * half + 2 * i + 1] = hn::BitCast(d, hn::InterleaveUpper(pairs, a, b));
    }
  for (size_t i = 0; i < 4; ++i) {
    rows[i] = hn::ConcatLowerLower(d, fours[4 + i], fours[i]);
    rows[4 + i] = hn::ConcatUpperUpper(d, fours[4 + i], fours[i]);
  }
}

#endif

/// Elements that kernels are asked for beforehand: they are read at many places at once, which the processor
/// does not foresee.
constexpr size_t ahead = 2048;

/// Calls visit(k, numbers of place k) for eight whole kernels: eight places at a time, the last eight again
/// for those that are left.
template <class Visit>
HWY_INLINE void for_each_place(const float* HWY_RESTRICT from, size_t size, Visit visit) {
  for (size_t i = 0; i < plane_lanes * size; i += 16) hwy::Prefetch(from + ahead + i);
  alignas(64) float numbers[plane_lanes];
  size_t k = 0;
#if HWY_CAP_GE256
  const Eight d;
  const auto visit_from = [&](size_t first, size_t begin) HWY_ATTR {
    hn::Vec<Eight> rows[plane_lanes];
    for (size_t l = 0; l < plane_lanes; ++l) rows[l] = hn::LoadU(d, from + l * size + first);
    transpose(rows);
    for (size_t j = begin; j < plane_lanes; ++j) {
      hn::Store(rows[j], d, numbers);
      visit(first + j, numbers);
    }
  };
  for (; k + plane_lanes <= size; k += plane_lanes) visit_from(k, 0);
  if (size >= plane_lanes && k < size) return visit_from(size - plane_lanes, k + plane_lanes - size);
#endif
  for (; k < size; ++k) {
    for (size_t l = 0; l < plane_lanes; ++l) numbers[l] = from[l * size + k];
    visit(k, numbers);
  }
}

HWY_INLINE void gather_eight(const float* HWY_RESTRICT from, size_t size, double* HWY_RESTRICT to,
                             size_t stride) {
  const Lanes d;
  const hn::Rebind<float, Lanes> f;
  for_each_place(from, size, [&](size_t k, const float* numbers) HWY_ATTR {
    for (size_t l = 0; l < plane_lanes; l += hn::Lanes(d))
      hn::StoreU(hn::PromoteTo(d, hn::Load(f, numbers + l)), d, to + k * stride + l);
  });
}

/// The same for a few kernels at a time, whose elements lie close together.
void gather(const float* HWY_RESTRICT kernels, Planes planes) {
  const size_t size = planes.size;
  if (size == 1) return gather_row(kernels, planes.kernels, planes.numbers);
  for (size_t c = 0; c < padded_plane(planes.kernels); c += plane_lanes) {
    const float* HWY_RESTRICT from = kernels + c * size;
    const size_t count = std::min(plane_lanes, planes.kernels - c);
    double* HWY_RESTRICT to = planes.numbers + c;
    if (count == plane_lanes) {
      if (size == 9)  // as a constant
        gather_eight(from, 9, to, planes.stride);
      else
        gather_eight(from, size, to, planes.stride);
      continue;
    }
    for (size_t k = 0; k < size; ++k)
      for (size_t l = 0; l < plane_lanes; ++l)
        to[k * planes.stride + l] = l < count ? double(from[l * size + k]) : 0;
  }
}

void scatter(Planes planes, double most, double factor, float* HWY_RESTRICT kernels) {
  const size_t size = planes.size;
  if (size == 1) return scatter_row(planes.numbers, planes.kernels, most, factor, kernels);
  for (size_t c = 0; c < planes.kernels; c += plane_lanes) {
    float* HWY_RESTRICT to = kernels + c * size;
    const size_t count = std::min(plane_lanes, planes.kernels - c);
    size_t k = 0;
#if HWY_CAP_GE256
    const Eight d;
    for (; count == plane_lanes && k + plane_lanes <= size; k += plane_lanes) {
      hn::Vec<Eight> rows[plane_lanes];
      for (size_t j = 0; j < plane_lanes; ++j) {
        alignas(64) float some[plane_lanes];
        scatter_row(planes.numbers + (k + j) * planes.stride + c, plane_lanes, most, factor, some);
        rows[j] = hn::Load(d, some);
      }
      transpose(rows);
      for (size_t l = 0; l < plane_lanes; ++l) hn::StoreU(rows[l], d, to + l * size + k);
    }
#endif
    for (; k < size; ++k) {
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

/// The sum of a line's places, each times its entry of the table's row, not fused: roundings are those of
/// every SIMD level.
template <size_t extent>
HWY_INLINE hn::Vec<Lanes> cosine_of(const double* row, const hn::Vec<Lanes>* line, size_t apart) {
  const Lanes d;
  auto sum = hn::Mul(line[0], hn::Set(d, row[0]));
  for (size_t i = 1; i < extent; ++i) sum = hn::Add(sum, hn::Mul(line[i * apart], hn::Set(d, row[i])));
  return hn::Mul(sum, hn::Set(d, 0x1p-16));
}

/// The table in double, so that no loop converts it.
template <size_t extent>
struct CosineTable {
  double rows[extent * extent];
  explicit CosineTable(const PlaneAxis& axis) {
    for (size_t i = 0; i < extent * extent; ++i) rows[i] = axis.table[i];
  }
};

template <size_t extent>
void forward_axis(const PlaneAxis& axis, Planes planes) {
  const CosineTable<extent> table(axis);
  for_each_line<extent>(axis.stride, planes, [&](const hn::Vec<Lanes>* line, auto store) HWY_ATTR {
    for (size_t u = 0; u < extent; ++u) store(u, cosine_of<extent>(table.rows + u * extent, line, 1));
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

/// Kernels of 3 x 3, which stay in registers.
bool are_three_by_three(std::span<const PlaneAxis> axes) {
  return axes.size() == 2 && axes[0].extent == 3 && axes[1].extent == 3;
}

HWY_INLINE void three_by_three(const CosineTable<3>* axes, hn::Vec<Lanes>* kernel) {
  hn::Vec<Lanes> half[9];
  for (size_t u = 0; u < 3; ++u)
    for (size_t i = 0; i < 3; ++i) half[3 * u + i] = cosine_of<3>(axes[0].rows + 3 * u, kernel + i, 3);
  for (size_t o = 0; o < 9; o += 3)
    for (size_t u = 0; u < 3; ++u) kernel[o + u] = cosine_of<3>(axes[1].rows + 3 * u, half + o, 1);
}

void forward(std::span<const PlaneAxis> axes, Planes planes) {
  if (are_three_by_three(axes)) {
    const Lanes d;
    const CosineTable<3> tables[] = {CosineTable<3>(axes[0]), CosineTable<3>(axes[1])};
    for (size_t c = 0; c < planes.kernels; c += hn::Lanes(d)) {
      double* const at = planes.numbers + c;
      hn::Vec<Lanes> kernel[9];
      for (size_t k = 0; k < 9; ++k) kernel[k] = hn::LoadU(d, at + k * planes.stride);
      three_by_three(tables, kernel);
      for (size_t k = 0; k < 9; ++k) hn::StoreU(kernel[k], d, at + k * planes.stride);
    }
    return;
  }
  for (const PlaneAxis& axis : axes)
    with_extent(axis.extent, [&](auto extent) { forward_axis<extent()>(axis, planes); });
}

size_t forward_lines(std::span<const PlaneAxis> axes, const float* kernels, size_t count, float* lines,
                     size_t stride) {
  if (!are_three_by_three(axes)) return 0;
  const CosineTable<3> tables[] = {CosineTable<3>(axes[0]), CosineTable<3>(axes[1])};
  const Lanes d;
  const hn::Rebind<float, Lanes> f;
  const auto largest = hn::Set(d, double(std::numeric_limits<float>::max()));
  size_t c = 0;
  for (; c + plane_lanes <= count; c += plane_lanes) {
    alignas(64) float places[9][plane_lanes];
    for_each_place(kernels + 9 * c, 9, [&](size_t k, const float* numbers) HWY_ATTR {
      for (size_t l = 0; l < plane_lanes; l += hn::Lanes(d))
        hn::Store(hn::Load(f, numbers + l), f, places[k] + l);
    });
    for (size_t l = 0; l < plane_lanes; l += hn::Lanes(d)) {
      hn::Vec<Lanes> kernel[9];
      for (size_t k = 0; k < 9; ++k) kernel[k] = hn::PromoteTo(d, hn::Load(f, places[k] + l));
      three_by_three(tables, kernel);
      for (size_t k = 0; k < 9; ++k) {
        const auto within = hn::Min(hn::Max(kernel[k], hn::Neg(largest)), largest);
        hn::StoreU(hn::DemoteTo(f, within), f, lines + k * stride + c + l);
      }
    }
  }
  return c;
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
HWY_EXPORT(forward_lines);
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

size_t forward_cosine_lines(std::span<const PlaneAxis> axes, const float* kernels, size_t count, float* lines,
                            size_t stride) {
  return HWY_DYNAMIC_DISPATCH(forward_lines)(axes, kernels, count, lines, stride);
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
