#include "lib/transforms/line_source.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <span>

#include "kernels/cpu/single_products.hpp"
#include "lib/core/scattered.hpp"

namespace jsq {

bool LineSource::takes_single_products() const {
  return single_ || (group_ > 1 && lines_ * columns_ >= size_t(1) << 21);
}

namespace {

/// Elements of a panel: it stays in a cache while it meets one group of columns after the other.
constexpr size_t panel_elements = 65536;
/// Columns of sums that stay in the nearest cache while the lines of a panel are added to them.
constexpr size_t stretch = 256;

template <class Use>
void for_columns(size_t columns, Use use, size_t most = cpu::most_thin_columns) {
  for (size_t k = 0; k < columns; k += most) use(k, std::min(most, columns - k));
}

/// Columns of `rows` sums of a device, times scale.
template <class Multiply>
Eigen::MatrixXf from_device(const Eigen::MatrixXf& factor, size_t rows, double scale, Multiply multiply) {
  Eigen::MatrixXd sums(Eigen::Index(rows), factor.cols());
  const auto stride = size_t(factor.rows());
  for_columns(size_t(factor.cols()), [&](size_t k, size_t columns) {
    multiply(cpu::ThinFactor<const float>{factor.data() + k * stride, stride, columns},
             cpu::ThinFactor<double>{sums.data() + k * rows, rows, columns});
  });
  return (sums * scale).cast<float>();
}

}  // namespace

size_t LineSource::panel(size_t elements) const {
  const size_t wanted = elements / std::max<size_t>(columns_, 1) / group_ * group_;
  return std::max(wanted, group_);
}

void some_groups(const LineSource& matrix, size_t every, bool other, std::vector<float>& some) {
  const size_t group = matrix.group(), count = matrix.lines() / group / every;
  some.resize(count * group * matrix.columns());
  tbb::parallel_for(size_t(0), count, [&](size_t i) {
    static thread_local LineSource::Scratch scratch;
    const size_t place = i * every + (scattered_place(i, every) + (other ? every / 2 : 0)) % every;
    std::copy_n(matrix.read(place * group, group, scratch), group * matrix.columns(),
                some.data() + i * group * matrix.columns());
  });
}

Eigen::MatrixXf times(const LineSource& matrix, const Eigen::MatrixXf& factor, double scale) {
  if (matrix.is_on_device() && !matrix.takes_single_products())
    return from_device(factor, matrix.lines(), scale,
                       [&](auto in, auto sums) { matrix.times_on_device(in, sums); });
  Eigen::MatrixXf result(Eigen::Index(matrix.lines()), factor.cols());
  const size_t panel = matrix.panel(panel_elements), panels = (matrix.lines() + panel - 1) / panel;
  const auto stride = size_t(factor.rows());
  const bool single = matrix.takes_single_products();
  const size_t most = single ? cpu::most_single_columns : cpu::most_thin_columns;
  tbb::parallel_for(size_t(0), panels, [&](size_t p) {
    static thread_local LineSource::Scratch scratch;
    const size_t first = p * panel, count = std::min(panel, matrix.lines() - first);
    const float* const lines = matrix.read(first, count, scratch);
    std::vector<double> sums(count * most);
    const auto multiply = single ? cpu::single_rows_times_factor : cpu::rows_times_factor;
    for_columns(
        size_t(factor.cols()),
        [&](size_t k, size_t columns) {
          multiply(lines, count, matrix.columns(), {factor.data() + k * stride, stride, columns},
                   {sums.data(), count, columns});
          for (size_t c = 0; c < columns; ++c)
            for (size_t i = 0; i < count; ++i)
              result(Eigen::Index(first + i), Eigen::Index(k + c)) = float(sums[c * count + i] * scale);
        },
        most);
  });
  return result;
}

Eigen::MatrixXf transposed_times(const LineSource& matrix, const Eigen::MatrixXf& weights, double scale) {
  const size_t width = matrix.columns(), stride = size_t(weights.rows()),
               stretches = (width + stretch - 1) / stretch;
  if (matrix.is_on_device() && !matrix.takes_single_products())
    return from_device(weights, width, scale,
                       [&](auto in, auto sums) { matrix.transposed_times_on_device(in, sums); });
  Eigen::MatrixXd sums = Eigen::MatrixXd::Zero(Eigen::Index(width), weights.cols());
  LineSource::Scratch scratch;
  const bool single = matrix.takes_single_products();
  const auto add = single ? cpu::add_single_rows : cpu::add_weighted_rows;
  const size_t panel = matrix.panel(4 * panel_elements),
               most = single ? cpu::most_single_columns : cpu::most_thin_columns;
  for (size_t first = 0; first < matrix.lines(); first += panel) {
    const size_t count = std::min(panel, matrix.lines() - first);
    const float* const lines = matrix.read(first, count, scratch);
    tbb::parallel_for(size_t(0), stretches, [&](size_t s) {
      const size_t begin = s * stretch, n = std::min(stretch, width - begin);
      for_columns(
          size_t(weights.cols()),
          [&](size_t k, size_t columns) {
            add(lines + begin, count, n, width, {weights.data() + k * stride + first, stride, columns},
                {sums.data() + k * width + begin, width, columns});
          },
          most);
    });
  }
  return (sums * scale).cast<float>();
}

}  // namespace jsq
