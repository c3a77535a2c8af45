// Products of a matrix that is read by lines: the sums of plain loops, for any grouping of lines, and the
// same bits on any number of threads.
#include "lib/transforms/line_source.hpp"

#include <gtest/gtest.h>
#include <tbb/task_arena.h>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

MatrixF matrix_of(size_t lines, size_t columns, uint64_t seed) {
  const std::vector<float> values = test::make_data(test::Kind::heavy, lines * columns, seed);
  return Eigen::Map<const MatrixF>(values.data(), Eigen::Index(lines), Eigen::Index(columns));
}

Eigen::MatrixXf factor_of(size_t rows, size_t columns, uint64_t seed) {
  return matrix_of(rows, columns, seed);
}

/// Copies lines, which come in groups.
class GroupedLines final : public LineSource {
 public:
  GroupedLines(const MatrixF& matrix, size_t group)
      : LineSource(size_t(matrix.rows()), size_t(matrix.cols()), group), matrix_(matrix) {}
  const float* read(size_t first, size_t count, Scratch& scratch) const override {
    EXPECT_EQ(first % group(), 0u);
    EXPECT_EQ(count % group(), 0u);
    scratch.lines.assign(matrix_.data() + first * columns(), matrix_.data() + (first + count) * columns());
    return scratch.lines.data();
  }

 private:
  const MatrixF& matrix_;
};

/// The same on a device whose sums would be wrong.
class GroupedDeviceLines final : public LineSource {
 public:
  explicit GroupedDeviceLines(const LineSource& lines)
      : LineSource(lines.lines(), lines.columns(), lines.group()), lines_(lines) {}
  const float* read(size_t first, size_t count, Scratch& scratch) const override {
    return lines_.read(first, count, scratch);
  }
  bool is_on_device() const override { return true; }

 private:
  const LineSource& lines_;
};

constexpr double down = 0x1p-7;

struct Case {
  size_t lines, columns, factor;
};
constexpr Case cases[] = {{1, 1, 1}, {6, 3, 20}, {300, 700, 9}, {1200, 257, 4}, {12, 70000, 17}};

TEST(LineSource, SumsInF32AreTheProcessorsWhereverTheLinesAre) {
  const MatrixF matrix = matrix_of(2048, 1024, 5);
  const Eigen::MatrixXf factor = factor_of(1024, 3, 6), weights = factor_of(2048, 3, 7);
  const GroupedLines grouped(matrix, 4);
  const GroupedDeviceLines on_device(grouped);
  ASSERT_TRUE(grouped.takes_single_products());
  EXPECT_EQ(times(on_device, factor, down), times(grouped, factor, down));
  EXPECT_EQ(transposed_times(on_device, weights, down), transposed_times(grouped, weights, down));
}

TEST(LineSource, ProductsAreThoseOfPlainLoops) {
  for (const auto& [lines, columns, wide] : cases) {
    const MatrixF matrix = matrix_of(lines, columns, 1);
    const Eigen::MatrixXf factor = factor_of(columns, wide, 2), weights = factor_of(lines, wide, 3);
    const Eigen::MatrixXd exact = matrix.cast<double>();
    const Eigen::MatrixXd forth = exact * factor.cast<double>() * down,
                          back = exact.transpose() * weights.cast<double>() * down;
    const Eigen::MatrixXd forth_size = exact.cwiseAbs() * factor.cast<double>().cwiseAbs() * down,
                          back_size = exact.cwiseAbs().transpose() * weights.cast<double>().cwiseAbs() * down;
    const MatrixLines whole(matrix);
    const auto near = [](const Eigen::MatrixXf& found, const Eigen::MatrixXd& expected,
                         const Eigen::MatrixXd& size) {
      ASSERT_EQ(found.rows(), expected.rows());
      ASSERT_EQ(found.cols(), expected.cols());
      const Eigen::MatrixXd off = (found.cast<double>() - expected).cwiseAbs() - 1e-7 * size;
      EXPECT_LE(off.maxCoeff(), 0.0);
    };
    near(times(whole, factor, down), forth, forth_size);
    near(transposed_times(whole, weights, down), back, back_size);
  }
}

TEST(LineSource, NeitherGroupsNorThreadsChangeABit) {
  const MatrixF matrix = matrix_of(1200, 257, 4);
  const Eigen::MatrixXf factor = factor_of(257, 11, 5), weights = factor_of(1200, 11, 6);
  const Eigen::MatrixXf forth = times(MatrixLines(matrix), factor, 1),
                        back = transposed_times(MatrixLines(matrix), weights, 1);
  for (const size_t group : {1, 3, 400, 1200})
    for (const int threads : {1, 3}) {
      tbb::task_arena(threads).execute([&] {
        EXPECT_EQ(times(GroupedLines(matrix, group), factor, 1), forth) << group;
        EXPECT_EQ(transposed_times(GroupedLines(matrix, group), weights, 1), back) << group;
      });
    }
}

/// In f32: the rounding of a few hundred additions.
TEST(LineSource, ProductsOfLargeMatricesInGroupsAreNearThoseOfPlainLoopsOnAnyNumberOfThreads) {
  const MatrixF matrix = matrix_of(3600, 600, 7);
  const Eigen::MatrixXf factor = factor_of(600, 27, 8), weights = factor_of(3600, 27, 9);
  const GroupedLines grouped(matrix, 9);
  const Eigen::MatrixXf forth = times(grouped, factor, down), back = transposed_times(grouped, weights, down);
  const Eigen::MatrixXd exact = matrix.cast<double>();
  const auto near = [](const Eigen::MatrixXf& found, const Eigen::MatrixXd& expected,
                       const Eigen::MatrixXd& size) {
    const Eigen::MatrixXd off = (found.cast<double>() - expected).cwiseAbs() - 1e-5 * size;
    EXPECT_LE(off.maxCoeff(), 0.0);
  };
  near(forth, exact * factor.cast<double>() * down,
       exact.cwiseAbs() * factor.cast<double>().cwiseAbs() * down);
  near(back, exact.transpose() * weights.cast<double>() * down,
       exact.cwiseAbs().transpose() * weights.cast<double>().cwiseAbs() * down);
  tbb::task_arena(3).execute([&] {
    EXPECT_EQ(times(grouped, factor, down), forth);
    EXPECT_EQ(transposed_times(grouped, weights, down), back);
  });
}

}  // namespace
}  // namespace jsq
