// DGC's selection: the worked steps' largest residuals, and the published sampled threshold with its cut at
// the end.
#include <algorithm>
#include <cmath>

#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::Kind;
using test::make_data;

TEST(Dgc, SendsTheLargestResidualOfTheWorkedSteps) {
  EXPECT_EQ(CodedPool({{1, -0.2f, 0.3f, 0.1f}}, "dgc:k=1").decoded(), (std::vector<float>{1, 0, 0, 0}));
  EXPECT_EQ(CodedPool({{0.5f, -0.78f, 0.67f, 0.39f}}, "dgc:k=1").decoded(),
            (std::vector<float>{0, -0.78f, 0, 0}));
}

TEST(Dgc, KeepsOneOfAThousandByDefault) {
  EXPECT_EQ(CodedPool({make_data(Kind::heavy, 5500)}, "dgc").scheme->sizes().native, 5u);
}

TEST(DgcSampled, KeepsAtMostKAndOfThoseAboveItsThresholdTheFirst) {
  for (Kind kind : test::all_kinds)
    for (size_t n : {1, 50, 5000, 200000})
      for (double density : {0.001, 0.01, 0.3}) {
        const size_t k = std::max<size_t>(1, size_t(density * double(n)));
        const std::vector<float> values = make_data(kind, n);
        const CodedPool coded({values}, "dgc:threshold=sampled,k=" + std::to_string(k), n);
        const std::vector<float> decoded = coded.decoded();
        float threshold = INFINITY;
        size_t kept = 0, last = 0;
        for (size_t i = 0; i < n; ++i) {
          if (decoded[i] == 0) continue;
          ASSERT_EQ(decoded[i], values[i]);
          threshold = std::min(threshold, std::fabs(values[i]));
          last = i;
          ++kept;
        }
        SCOPED_TRACE(test::kind_name(kind) + std::string(" ") + std::to_string(n) + ' ' + std::to_string(k));
        ASSERT_LE(kept, k);
        // Up to the last one nothing as large is missing; behind it only when there are k.
        for (size_t i = 0; i < n; ++i) {
          if (std::fabs(values[i]) < threshold || (std::fabs(values[i]) == threshold && kept == k)) continue;
          if (i <= last || kept < k) {
            ASSERT_NE(decoded[i], 0.0f) << i;
          }
        }
      }
}

TEST(DgcSampled, KeepsMostOfKOnSmoothData) {
  const CodedPool coded({make_data(Kind::gauss, 300000)}, "dgc:threshold=sampled,k=3000");
  const uint64_t kept = coded.code().sums.nominal_bits / 32;
  EXPECT_GE(kept, 2400u);
  EXPECT_LE(kept, 3000u);
}

}  // namespace
}  // namespace jsq
