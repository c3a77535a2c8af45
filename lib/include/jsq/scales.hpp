// Which elements of a tensor share a row, a column or a run, and how large those are: gradients are close to
// a product of row and column scales. Used by statistics and by rate-distortion bounds.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/tensor.hpp"

namespace jsq {

/// The element at hand of a walk through a tensor in storage order. A tensor [rows, columns, ...] of 1024
/// elements or more has rows, and columns, wherever at least 16 elements share one; any other tensor has runs
/// of 256 elements, the last of which takes up a rest of fewer than 16.
class ScaleWalk {
 public:
  explicit ScaleWalk(const TensorInfo& info) : elements_(info.elements()), fortran_(info.fortran_order) {
    if (info.shape.size() < 2 || elements_ < 1024) return;
    const uint64_t rows = info.shape[0], columns = info.shape[1], rest = elements_ / (rows * columns);
    middle_ = columns;
    inner_ = fortran_ ? rows : rest;
    if (elements_ / rows >= fewest) rows_ = rows;
    if (elements_ / columns >= fewest) columns_ = columns;
  }

  uint64_t rows() const noexcept { return rows_; }        ///< 0: the tensor has none
  uint64_t columns() const noexcept { return columns_; }  ///< 0: the tensor has none
  uint64_t runs() const noexcept {
    if (rows_ > 0 || columns_ > 0 || elements_ == 0) return 0;
    return std::max<uint64_t>(1, elements_ / run + (elements_ % run >= fewest ? 1 : 0));
  }
  /// Neighbours that share a row, a column, a run, and after how many elements rows and columns come again.
  /// Only where there are such; the last run has all that is left.
  uint64_t row_length() const noexcept { return fortran_ ? 1 : elements_ / rows_; }
  uint64_t row_period() const noexcept { return fortran_ ? rows_ : elements_; }
  uint64_t column_length() const noexcept { return inner_; }
  uint64_t column_period() const noexcept { return middle_ * inner_; }
  static constexpr uint64_t run_length() noexcept { return run; }

  /// Where the element is. \pre the walk is within the tensor, and the tensor has such.
  uint64_t row_index() const noexcept { return fortran_ ? inner_at_ : outer_at_; }
  uint64_t column_index() const noexcept { return middle_at_; }
  uint64_t run_index() const noexcept { return std::min(at_ / run, runs() - 1); }

  void next() noexcept {
    ++at_;
    if (++inner_at_ < inner_) return;
    inner_at_ = 0;
    if (++middle_at_ < middle_) return;
    middle_at_ = 0;
    ++outer_at_;
  }

 private:
  static constexpr uint64_t fewest = 16, run = 256;
  uint64_t elements_;
  bool fortran_;
  uint64_t rows_ = 0, columns_ = 0;
  // Storage order as three nested loops, the outermost of which needs no end.
  uint64_t middle_ = 1, inner_ = 1;
  uint64_t outer_at_ = 0, middle_at_ = 0, inner_at_ = 0, at_ = 0;
};

namespace element {
struct Axis;
}

/// Mean |g| of each row, column and run (empty where the tensor has none). Non-finite elements count as
/// zeros.
struct ScaleMeans {
  std::vector<double> rows, columns, runs;
  double all = 0;
};

/// Gathers them in one pass. Memory: a double for each row, column and run. Every sum is that of the elements
/// of an index that lie side by side in a chunk of 65,536 elements, in 16 lanes, and of such parts in storage
/// order.
class JSQ_API ScaleSums {
 public:
  explicit ScaleSums(const TensorInfo& info);
  /// The next elements in storage order: whole chunks of 65,536 but for the last.
  void add(std::span<const float> values);
  /// \pre all elements were added.
  ScaleMeans means() const;

 private:
  friend class StatisticsReader;
  std::vector<element::Axis> axes() const;
  uint64_t elements_, added_ = 0;
  ScaleWalk walk_;
  double total_ = 0;
  std::vector<double> sums_[3];  ///< rows, columns, runs
};

/// Spread of scales: the standard deviation of log2 over the positive ones, in octaves. NaN without two of
/// them.
JSQ_API double scale_spread(std::span<const double> scales) noexcept;

}  // namespace jsq
