// The leading subspace: exact for a matrix of low rank, near the singular value decomposition for others, and
// harmless for matrices that have none.
#include "lib/transforms/subspace.hpp"

#include <gtest/gtest.h>

#include <Eigen/SVD>
#include <cmath>

#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

MatrixF random_matrix(test::Random& random, Eigen::Index rows, Eigen::Index columns) {
  MatrixF matrix(rows, columns);
  for (Eigen::Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = float(random.below(2001)) / 1000 - 1;
  return matrix;
}

void expect_orthonormal(const Eigen::MatrixXf& columns) {
  const Eigen::MatrixXf gram = columns.transpose() * columns;
  EXPECT_LT((gram - Eigen::MatrixXf::Identity(gram.rows(), gram.cols())).norm(),
            1e-3 * double(gram.rows() + 1));
}

TEST(LeadingSubspace, HoldsAMatrixOfLowRankWhole) {
  test::Random random(1);
  for (const auto& [rows, columns] : {std::pair{60, 90}, {90, 60}, {5, 400}, {400, 5}}) {
    const MatrixF matrix = random_matrix(random, rows, 3) * random_matrix(random, 3, columns) * 1e-20f;
    const Subspace found = leading_subspace(matrix, {});
    ASSERT_GE(found.singular.size(), 3);
    expect_orthonormal(found.left.leftCols(3));
    const MatrixF rest = matrix - found.left.leftCols(3) * found.right.leftCols(3).transpose();
    EXPECT_LT(rest.cwiseAbs().maxCoeff(), 1e-5 * matrix.cwiseAbs().maxCoeff());
  }
}

TEST(LeadingSubspace, IsNearTheSingularValueDecomposition) {
  test::Random random(2);
  MatrixF matrix = random_matrix(random, 80, 120);
  for (Eigen::Index i = 0; i < 80; ++i) matrix.row(i) *= std::pow(0.9f, float(i));
  const Eigen::JacobiSVD<Eigen::MatrixXf> exact(matrix);
  const Subspace found = leading_subspace(matrix, {.rank = 8, .oversampling = 4, .iterations = 2});
  ASSERT_EQ(found.singular.size(), 8);
  expect_orthonormal(found.left);
  for (Eigen::Index j = 0; j < 8; ++j) {
    EXPECT_LE(found.singular[j], exact.singularValues()[j] * 1.001);
    EXPECT_GE(found.singular[j], exact.singularValues()[j] * 0.97);
  }
}

TEST(LeadingSubspace, LooksNoFurtherThanIsUseful) {
  test::Random random(4);
  MatrixF matrix = random_matrix(random, 200, 300) * 0.05f;
  for (int j = 0; j < 24; ++j)
    matrix += std::pow(0.9f, float(j)) * random_matrix(random, 200, 1) * random_matrix(random, 1, 300);
  const Eigen::JacobiSVD<Eigen::MatrixXf> exact(matrix);
  const auto found = [&](uint32_t useful, bool sparing) {
    return leading_subspace(
        matrix,
        {.rank = 64,
         .iterations = 2,
         .first = 16,
         .useful = [=](const Subspace& some) { return std::min(useful, uint32_t(some.singular.size())); },
         .sparing = sparing});
  };
  // Sixteen and four were looked at first, of which twelve are useful: these are found well, with a few more.
  for (const bool sparing : {false, true}) {
    const Subspace few = found(12, sparing);
    EXPECT_LE(few.singular.size(), 20);
    ASSERT_GE(few.singular.size(), 12);
    for (Eigen::Index j = 0; j < 12; ++j) EXPECT_GE(few.singular[j], exact.singularValues()[j] * 0.99);
  }
  // All of a first look are useful: it goes on until some are not.
  const Subspace more = found(24, true);
  ASSERT_GE(more.singular.size(), 24);
  EXPECT_LT(more.singular.size(), 64);
  for (Eigen::Index j = 0; j < 24; ++j) EXPECT_GE(more.singular[j], exact.singularValues()[j] * 0.99);
  // Where hardly any is, the first look does.
  EXPECT_EQ(found(2, true).singular.size(), 20);
}

TEST(LeadingSubspace, FindsInSomeLinesWhatTheWholeHas) {
  test::Random random(5);
  MatrixF matrix = random_matrix(random, 1200, 150) * 0.05f;
  for (int j = 0; j < 30; ++j)
    matrix += std::pow(0.9f, float(j)) * random_matrix(random, 1200, 1) * random_matrix(random, 1, 150);
  const Eigen::JacobiSVD<Eigen::MatrixXf> exact(matrix);
  std::vector<float> some, others;
  some_groups(MatrixLines(matrix), 4, false, some);
  some_groups(MatrixLines(matrix), 4, true, others);
  const MatrixLines sample(some, 150), judge(others, 150);
  // Twelve are useful of the twenty that a first look finds; or thirty, which it is too narrow for, and of
  // which the whole is asked where the sample holds back some.
  for (const auto& [useful, of_sample] : {std::pair{12u, 12u}, {30u, 30u}, {30u, 12u}}) {
    const Subspace found = leading_subspace(
        MatrixLines(matrix), {.rank = 64,
                              .iterations = 2,
                              .first = 16,
                              .useful =
                                  [&, useful = useful, of_sample = of_sample](const Subspace& looked_at) {
                                    const uint32_t most = looked_at.left.rows() == 1200 ? useful : of_sample;
                                    // As long as in the whole: a sample does not flatter what it was not made
                                    // from.
                                    EXPECT_NEAR(looked_at.singular[0], exact.singularValues()[0],
                                                0.2 * looked_at.singular[0]);
                                    return std::min(most, uint32_t(looked_at.singular.size()));
                                  },
                              .sparing = true,
                              .sample = &sample,
                              .judge = &judge});
    ASSERT_GE(found.singular.size(), useful);
    expect_orthonormal(found.left);
    for (Eigen::Index j = 0; j < Eigen::Index(std::min(useful, 24u)); ++j)  // the last drown in the noise
      EXPECT_GE(found.singular[j], exact.singularValues()[j] * 0.98) << j << " of " << useful;
    if (useful == 12) {
      EXPECT_LT((matrix.transpose() * found.left - found.right).norm(), 1e-4 * found.right.norm());
    }
  }
}

TEST(LineSource, SomeGroupsAreLinesOfTheMatrixAndOthersAreOthers) {
  MatrixF matrix(100, 2);
  for (Eigen::Index i = 0; i < 100; ++i) matrix.row(i) << float(i), float(-i);
  for (const size_t every : {1u, 2u, 3u, 7u}) {
    std::vector<float> some, others;
    some_groups(MatrixLines(matrix), every, false, some);
    some_groups(MatrixLines(matrix), every, true, others);
    ASSERT_EQ(some.size(), 100 / every * 2);
    ASSERT_EQ(others.size(), some.size());
    for (size_t i = 0; i < some.size(); i += 2) {
      for (const std::vector<float>& lines : {some, others}) {
        ASSERT_EQ(lines[i + 1], -lines[i]);
        ASSERT_EQ(size_t(lines[i]) / every, i / 2);
      }
      ASSERT_EQ(some[i] == others[i], every == 1);
    }
  }
}

TEST(LeadingSubspace, OfZerosIsEmptyAndOfOneRowIsThatRow) {
  EXPECT_EQ(leading_subspace(MatrixF::Zero(4, 7), {}).singular.size(), 0);
  EXPECT_EQ(leading_subspace(MatrixF(0, 7), {}).singular.size(), 0);
  MatrixF row(1, 3);
  row << 3, 0, -4;
  for (float scale : {1.0f, 1e-38f, 1e37f}) {
    const Subspace found = leading_subspace(row * scale, {});
    ASSERT_EQ(found.singular.size(), 1);
    EXPECT_NEAR(found.singular[0] / double(scale), 5, 1e-4);
    EXPECT_NEAR(std::abs(found.left(0, 0)), 1, 1e-5);
    EXPECT_NEAR(found.left(0, 0) * found.right(2, 0) / scale, -4, 1e-4);
  }
}

TEST(LeadingSubspace, DependsOnTheSeedOnlyInTheLastDigits) {
  test::Random random(3);
  const MatrixF matrix = random_matrix(random, 40, 4) * random_matrix(random, 4, 50);
  const Subspace a = leading_subspace(matrix, {.rank = 4, .seed = 1}),
                 b = leading_subspace(matrix, {.rank = 4, .seed = 2});
  for (Eigen::Index j = 0; j < 4; ++j) EXPECT_NEAR(a.singular[j], b.singular[j], 1e-3 * a.singular[j]);
}

}  // namespace
}  // namespace jsq
