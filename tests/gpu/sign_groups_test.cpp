// Signs with means of groups on the device: sums in storage order, whatever part of a tensor is there at a
// time.
#include "kernels/cuda/sign_groups.hpp"

#include <array>
#include <bit>

#include "tests/gpu/device.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::Kind;
using test::make_data;

class SignGroupsOnDevice : public test::OnDevice {};

uint64_t bits_of(double number) {
  return std::bit_cast<uint64_t>(number);
}

TEST_F(SignGroupsOnDevice, AddInStorageOrderInStretchesThatCutGroups) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::gauss, 700),
                                                   make_data(Kind::heavy, 700001 * 3)};
  const std::vector<float>& values = tensors[1];
  const auto pool = test::pool_values(tensors, 1);
  for (const cuda::SignGroups& groups :
       {cuda::SignGroups{3, 700001, false}, cuda::SignGroups{3, 3, true}, cuda::SignGroups{700001, 3, false},
        cuda::SignGroups{700001, 700001, true}}) {
    std::vector<cuda::SignSums> expected(groups.groups);
    for (size_t i = 0; i < values.size(); ++i) {
      const size_t group = groups.interleaved ? i % groups.period : i / groups.period;
      expected[group].of[values[i] < 0] += double(values[i]);
      expected[group].negatives += values[i] < 0;
    }
    const std::vector<cuda::SignSums> found = cuda::group_sums(*pool, 1, groups);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t g = 0; g < found.size(); ++g) {
      ASSERT_EQ(bits_of(found[g].of[0]), bits_of(expected[g].of[0])) << "group " << g;
      ASSERT_EQ(bits_of(found[g].of[1]), bits_of(expected[g].of[1])) << "group " << g;
      ASSERT_EQ(found[g].negatives, expected[g].negatives) << "group " << g;
    }
  }
}

TEST_F(SignGroupsOnDevice, CodeBlocksAlikeInStretches) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 1400000)};
  std::vector<cuda::BlockRange> blocks;
  for (uint64_t first = 0; first < tensors[0].size(); first += 65536)
    blocks.push_back({0, first, size_t(std::min<uint64_t>(65536, tensors[0].size() - first))});
  const auto whole = test::pool_values(tensors), parts = test::pool_values(tensors, 1);
  cuda::SignGroups groups;
  groups.bucket = 1000;
  const std::vector<cuda::SignSums> sums = cuda::bucket_sums(*whole, groups.bucket, blocks);
  ASSERT_EQ(sums.size(), cuda::bucket_sums(*parts, groups.bucket, blocks).size());
  std::vector<cuda::SignMeans> means;
  for (const cuda::SignSums& own : sums) means.push_back({float(own.of[0] / 500), float(own.of[1] / 500)});
  const cuda::SignBlocks expected = cuda::code_signs(*whole, groups, means, blocks),
                         found = cuda::code_signs(*parts, groups, means, blocks);
  for (size_t b = 0; b < blocks.size(); ++b) {
    EXPECT_EQ(bits_of(found.sums[b].squared_error), bits_of(expected.sums[b].squared_error));
    EXPECT_EQ(found.sums[b].nonzeros, expected.sums[b].nonzeros);
    for (size_t i = 0; i < blocks[b].count; ++i) {
      const uint8_t byte =
          std::bit_cast<std::array<uint8_t, 4>>(found.bits[b * found.words + i / 32])[i / 8 % 4];
      ASSERT_EQ(byte >> (7 - i % 8) & 1, tensors[0][blocks[b].first + i] < 0) << "block " << b << ", " << i;
    }
  }
}

}  // namespace
}  // namespace jsq
