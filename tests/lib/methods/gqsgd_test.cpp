// Global-QSGD: how many levels a worker gets, so that sums fit what is sent.
#include <gtest/gtest.h>

#include "lib/core/bytes.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/one_tensor.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;
using test::OneTensor;
using test::refusal_of;

TEST(GlobalQsgd, SendsTheAccumulatorsBitsForAnyNumberOfWorkers) {
  for (int workers : {1, 2, 3, 4, 7, 30, 63, 64, 100, 127}) {
    const OneTensor coded(make_data(Kind::gauss, 800), "gqsgd-std:bits=8,workers=" + std::to_string(workers));
    EXPECT_EQ(coded.blocks[0].size(), 1u + 800) << workers;
    EXPECT_EQ(coded.sums.nominal_bits, 8 * 800u + 32);
    EXPECT_EQ(coded.decoder()->describe(),
              "gqsgd-std:bits=8" + (workers > 1 ? ",workers=" + std::to_string(workers) : std::string()));
    const std::string stored = coded.parameters();
    ByteReader in(stored, "parameters");
    EXPECT_EQ(in.u8(), 0) << "a uniform grid";
    EXPECT_EQ(in.uvarint(), uint64_t(127 / workers)) << "its steps";
  }
}

TEST(GlobalQsgd, RefusesMoreWorkersThanTheAccumulatorHasLevels) {
  EXPECT_EQ(refusal_of("gqsgd-std:bits=8,workers=127"), Errc::internal);  // is not refused
  EXPECT_EQ(refusal_of("gqsgd-std:bits=8,workers=128"), Errc::usage);
  EXPECT_EQ(refusal_of("gqsgd-std:bits=8,workers=128,variant=code"), Errc::internal);
  EXPECT_EQ(refusal_of("gqsgd-std:workers=128"), Errc::internal);
  EXPECT_EQ(OneTensor({1}, "gqsgd-std:workers=128").scheme->sizes().native, 9u);
}

TEST(GlobalQsgd, EqualsQsgdForOneWorker) {
  const std::vector<float> values = make_data(Kind::heavy, 70000);
  EXPECT_EQ(OneTensor(values, "gqsgd-std:bits=5,bucket=512").decoded,
            OneTensor(values, "qsgd:bits=5,bucket=512,norm=linf").decoded);
}

TEST(GlobalQsgd, SendsOneSignBitMoreThanItsExponents) {
  for (int bits = 1; bits <= 7; ++bits) {
    const OneTensor coded(make_data(Kind::gauss, 800), "gqsgd-exp:workers=4,bits=" + std::to_string(bits));
    EXPECT_EQ(coded.blocks[0].size(), 1u + 100 * unsigned(bits + 1)) << bits;
    EXPECT_EQ(coded.sums.nominal_bits, 800u * unsigned(bits + 1) + 32);
  }
}

TEST(GlobalQsgd, RefusesOtherOptions) {
  for (const char* method :
       {"gqsgd-std:bits=1", "gqsgd-std:bits=17", "gqsgd-std:workers=0", "gqsgd-std:variant=x",
        "gqsgd-exp:bits=8", "gqsgd-exp:bits=0", "gqsgd-exp:workers=0", "gqsgd-exp:bucket=x"})
    EXPECT_EQ(refusal_of(method), Errc::usage) << method;
}

}  // namespace
}  // namespace jsq
