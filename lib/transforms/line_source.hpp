// A matrix that is read some lines at a time, and its products with a few columns: what the leading
// directions of a matrix need that is too large to be copied.
#pragma once

#include <cstddef>
#include <vector>

#include <Eigen/Core>

#include "kernels/cpu/thin_products.hpp"

namespace jsq {

using MatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

class LineSource {
 public:
  struct Scratch {
    std::vector<float> lines, values;
  };

  /// `group`: lines that are read together. `single`: sums in f32 do, however few lines there are.
  LineSource(size_t lines, size_t columns, size_t group = 1, bool single = false)
      : lines_(lines), columns_(columns), group_(group), single_(single) {}
  virtual ~LineSource() = default;

  size_t lines() const { return lines_; }
  size_t columns() const { return columns_; }
  /// Lines first .. first + count - 1, row-major, in the scratch or elsewhere. Thread-safe. \pre both are
  /// multiples of group()
  virtual const float* read(size_t first, size_t count, Scratch& scratch) const = 0;
  size_t group() const { return group_; }
  /// Whether sums are formed in f32: those of samples, and of large matrices whose lines come in groups,
  /// since what is sought in them needs few digits. No device forms such sums.
  bool takes_single_products() const;
  /// Whether the lines are on a device that forms sums of all of them, in the same order.
  virtual bool is_on_device() const { return false; }
  virtual void times_on_device(cpu::ThinFactor<const float>, cpu::ThinFactor<double>) const {}
  virtual void transposed_times_on_device(cpu::ThinFactor<const float>, cpu::ThinFactor<double>) const {}
  /// Lines of one panel of about so many elements, but at least one group.
  size_t panel(size_t elements) const;

 private:
  size_t lines_, columns_, group_;
  bool single_;
};

/// Lines in memory, which outlives it.
class MatrixLines final : public LineSource {
 public:
  explicit MatrixLines(const MatrixF& matrix)
      : LineSource(size_t(matrix.rows()), size_t(matrix.cols())), lines_(matrix.data()) {}
  /// Of a sample, which sums in f32 do for.
  MatrixLines(const std::vector<float>& sample, size_t columns)
      : LineSource(columns > 0 ? sample.size() / columns : 0, columns, 1, true), lines_(sample.data()) {}
  const float* read(size_t first, size_t, Scratch&) const override { return lines_ + first * columns(); }

 private:
  const float* lines_;
};

/// One of `every` groups of lines, at scattered places, so that no period of the lines meets that of the
/// choice, one after another into `some`. `other`: none of these, where every > 1. \pre every >= 1
void some_groups(const LineSource& matrix, size_t every, bool other, std::vector<float>& some);

/// matrix factor scale, lines x columns of the factor. Sums are exact products in double, in an order that
/// follows from the shape alone (kernels/cpu/thin_products.hpp), and are rounded to f32 once; where the
/// matrix takes them, they are sums in f32 (kernels/cpu/single_products.hpp).
Eigen::MatrixXf times(const LineSource& matrix, const Eigen::MatrixXf& factor, double scale);
/// matrix^T weights scale. Sums take the lines in their order.
Eigen::MatrixXf transposed_times(const LineSource& matrix, const Eigen::MatrixXf& weights, double scale);

}  // namespace jsq
