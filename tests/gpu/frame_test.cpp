// Whole frames: what --backend cuda writes is what the processor writes, to the byte, and each reads what the
// other wrote; the reports say the same.
#include <atomic>
#include <bit>
#include <fstream>
#include <thread>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"
#include "jsq/method.hpp"
#include "tests/gpu/damage.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::damaged_block;
using test::decoded;
using test::expect_parity;
using test::expect_same_verdict;
using test::Kind;
using test::make_data;
using test::Shapes;

class FrameOnDevice : public test::OnDevice {};

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForEveryLength) {
  for (size_t n : {0, 1, 31, 32, 33, 1000, 65535, 65536, 65537}) {
    SCOPED_TRACE(n);
    expect_parity({make_data(Kind::heavy, n)}, "jointsq", n < 1000 ? "bytes=4KiB" : "ratio=32");
  }
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForAMebielementAndMore) {
  expect_parity({make_data(Kind::heavy, 1u << 20)}, "jointsq", "ratio=32");
  expect_parity({make_data(Kind::heavy, (1u << 20) + 1)}, "jointsq", "ratio=400");
  for (const char* method : {"qsgd", "terngrad", "signsgd"})
    expect_parity({make_data(Kind::heavy, (1u << 20) + 1)}, method, "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfOnePool) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 70000),
                                                   {},
                                                   make_data(Kind::sparse, 300),
                                                   make_data(Kind::f16_grid, 131073),
                                                   make_data(Kind::zeros, 5000)};
  for (const char* method :
       {"jointsq", "jointsq:quant=mid", "jointsq:map=rice,values=planes", "jointsq:widths=248"})
    expect_parity(tensors, method, "ratio=6");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForDenseMethods) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 70001),    {},
      make_data(Kind::zeros, 65536),    make_data(Kind::near_max, 33),
      make_data(Kind::subnormal, 4097), make_data(Kind::negative_zeros, 31)};
  for (const char* method : {"fp32", "fp16", "bf16"})
    for (DType dtype : {DType::f32, DType::f16, DType::bf16})
      expect_parity(tensors, method, "", NonFinitePolicy::error, dtype);
}

/// Every grid, packer, norm and kind of bucket of the methods that store levels.
const std::vector<std::string> level_methods = {"qsgd",
                                                "qsgd:coder=fixed,bits=4",
                                                "qsgd:coder=elias-sparse,levels=1",
                                                "qsgd:coder=elias-dense,levels=40",
                                                "qsgd:coder=entropy,levels=7",
                                                "qsgd:coder=entropy,levels=100,bucket=1000",
                                                "qsgd:coder=entropy,levels=5000,norm=l2,bucket=0",
                                                "qsgd:bits=16,bucket=1",
                                                "qsgd:levels=1,norm=l2,bucket=65536",
                                                "nuqsgd",
                                                "nuqsgd:zero=off,levels=5,bucket=37",
                                                "nuqsgd:norm=linf,bucket=0,coder=elias-sparse",
                                                "natural",
                                                "natural:bits=3,coder=auto",
                                                "terngrad",
                                                "terngrad:coder=base243,clip=0",
                                                "terngrad:coder=auto",
                                                "gqsgd-std:workers=8",
                                                "gqsgd-std:variant=code,workers=3,bucket=300,coder=auto",
                                                "gqsgd-exp",
                                                "gqsgd-exp:bits=3,bucket=512,coder=entropy",
                                                "signsgd",
                                                "signsgd:scale=mean",
                                                "ef-signsgd",
                                                "onebit",
                                                "onebit:group=row",
                                                "onebit:group=bucket",
                                                "onebit:group=bucket,bucket=65536",
                                                "onebit:group=bucket,bucket=7"};

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfLevels) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 66001),    {},
      make_data(Kind::zeros, 5000),     make_data(Kind::near_max, 33),
      make_data(Kind::subnormal, 2000), make_data(Kind::negative_zeros, 31),
      make_data(Kind::one_nonzero, 700)};
  for (const std::string& method : level_methods) expect_parity(tensors, method, "");
}

/// Every width, table, norm, layout and kind of Hadamard block: of one element, within a tile, beyond it.
const std::vector<std::string> rotated_methods = {"thc",
                                                  "thc:bits=1,block=1,norm=block",
                                                  "thc:bits=2,block=2",
                                                  "thc:bits=3,block=16,norm=block,coder=fixed",
                                                  "thc:table=g34,block=512,p=1/4",
                                                  "thc:table=g42,norm=block,p=1/65536",
                                                  "thc:table=uniform,bits=4,block=4096",
                                                  "thc:bits=5,block=8192,norm=block,coder=entropy",
                                                  "thc:bits=6,block=65536,norm=block",
                                                  "thc:bits=7,block=65536",
                                                  "thc:bits=8,block=32,coder=entropy"};

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfRotations) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 70001),    {},
      make_data(Kind::zeros, 5000),     make_data(Kind::near_max, 33),
      make_data(Kind::subnormal, 2000), make_data(Kind::negative_zeros, 31),
      make_data(Kind::one_nonzero, 700)};
  for (size_t m = 0; m < rotated_methods.size(); m += (test::every() + 3) / 4)
    expect_parity(tensors, rotated_methods[m], "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForRotationsOfEveryLength) {
  for (size_t n : {0, 1, 31, 32, 33, 1000, 65535, 65536, 65537})
    for (const char* method : {"thc", "thc:norm=block,block=16", "thc:block=65536,bits=3"})
      expect_parity({make_data(Kind::heavy, n)}, method, "");
  expect_parity({make_data(Kind::heavy, (1u << 20) + 1)}, "thc", "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForRotationsRoundedToTheNearest) {
  for (const char* method : {"thc:norm=block", "thc:bits=2,block=8192"})
    for (DType dtype : {DType::bf16, DType::f16})
      expect_parity({make_data(Kind::f16_grid, 9000)}, method, "", NonFinitePolicy::error, dtype,
                    Rounding::nearest);
  expect_parity({make_data(Kind::heavy, 30001)}, "thc", "ratio=9");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForLevelsOfEveryLength) {
  for (size_t n : {0, 1, 31, 32, 33, 1000, 65535, 65536, 65537})
    for (const char* method : {"qsgd", "terngrad:coder=base243", "natural:coder=elias-dense", "signsgd"})
      expect_parity({make_data(Kind::heavy, n)}, method, "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForLevelsRoundedToTheNearest) {
  for (const char* method : {"qsgd:norm=l2", "nuqsgd:zero=off", "natural", "terngrad", "gqsgd-exp"})
    for (DType dtype : {DType::f32, DType::f16})
      expect_parity({make_data(Kind::f16_grid, 5000)}, method, "", NonFinitePolicy::error, dtype,
                    Rounding::nearest);
}

TEST_F(FrameOnDevice, MeetsTargetsOfLevelsWithTheSameBytes) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 70001),
                                                   make_data(Kind::gauss, 3000)};
  for (const char* target : {"ratio=9", "nmse=0.02", "bpw=3.5"}) expect_parity(tensors, "qsgd", target);
  expect_parity(tensors, "natural", "nmse=0.3");
}

/// Every kind of position, value and map of the methods that drop elements, and counts of samples.
const std::vector<std::string> sparse_methods = {"topk",
                                                 "topk:density=0.4,map=bitmap",
                                                 "topk:k=1,map=raw32",
                                                 "topk:values=f16,map=packed",
                                                 "topk:values=bf16,map=entropy,density=0.1",
                                                 "topk:values=q1,map=rice",
                                                 "topk:values=q8,quant=mid,density=0.2",
                                                 "topk:values=q3,quant=sym",
                                                 "dgc:density=0.05",
                                                 "dgc:threshold=sampled,density=0.1,values=f16",
                                                 "randk",
                                                 "randk:values=f16,scale=off",
                                                 "randk:values=bf16,density=0.4",
                                                 "qlsgd",
                                                 "qlsgd:bits=2,density=0.3",
                                                 "qlsgd:select=randk,bits=9,scale-beta=on",
                                                 "acsgd",
                                                 "acsgd:variant=author",
                                                 "acsgd:variant=jointsq",
                                                 "mcgq:samples=0.5",
                                                 "mcgq:samples=0.01,coder=elias-sparse",
                                                 "mcgq:samples=2,coder=fixed"};

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfKeptElements) {
  const std::vector<std::vector<float>> tensors = {
      make_data(Kind::heavy, 66001),    {},
      make_data(Kind::zeros, 5000),     make_data(Kind::near_max, 33),
      make_data(Kind::subnormal, 2000), make_data(Kind::negative_zeros, 31),
      make_data(Kind::f16_grid, 9001)};
  for (size_t m = 0; m < sparse_methods.size(); m += (test::every() + 3) / 4)
    expect_parity(tensors, sparse_methods[m], "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForKeptElementsOfEveryLength) {
  for (size_t n : {0, 1, 31, 32, 33, 1000, 65535, 65536, 65537})
    for (const char* method :
         {"topk:density=0.1", "randk:density=0.1", "qlsgd:density=0.1", "acsgd", "mcgq:samples=0.5"})
      expect_parity({make_data(Kind::heavy, n)}, method, "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForKeptElementsOfLargeBlocks) {
  for (const char* method : {"topk:density=0.001", "randk:density=0.001,values=f16", "acsgd:budget=20000",
                             "mcgq:samples=0.001", "dgc:threshold=sampled,density=0.003"})
    expect_parity({make_data(Kind::heavy, (1u << 20) + 70001)}, method, "", NonFinitePolicy::error,
                  DType::f16);
}

TEST_F(FrameOnDevice, SamplesThresholdsAndStoresShortValuesCleanly) {
  for (const char* method : {"dgc:threshold=sampled,density=0.01", "randk:density=0.01,values=f16"})
    expect_parity({make_data(Kind::heavy, 70001)}, method, "");
}

TEST_F(FrameOnDevice, MeetsTargetsOfKeptElementsWithTheSameBytes) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 70001),
                                                   make_data(Kind::gauss, 3000)};
  for (const char* target : {"ratio=40", "nmse=0.2", "bpw=1.5"}) expect_parity(tensors, "topk", target);
  expect_parity(tensors, "randk", "ratio=9");
  expect_parity(tensors, "dgc:threshold=sampled", "ratio=60");
  expect_parity(tensors, "mcgq", "ratio=20");
  expect_parity(tensors, "dgc:values=bf16", "ratio=100", NonFinitePolicy::error, DType::bf16);
}

/// As expect_parity, of heavy-tailed matrices.
void expect_parity_of_matrices(const Shapes& shapes, const std::string& method, const std::string& target,
                               DType dtype = DType::f32) {
  std::vector<std::vector<float>> tensors;
  for (const std::vector<uint64_t>& shape : shapes) {
    size_t elements = 1;
    for (uint64_t axis : shape) elements *= size_t(axis);
    tensors.push_back(make_data(dtype == DType::f32 ? Kind::heavy : Kind::f16_grid, elements));
  }
  expect_parity(tensors, method, target, NonFinitePolicy::error, dtype, Rounding::automatic, shapes);
}

const std::vector<std::string> low_rank_methods = {"powersgd", "powersgd:rank=3,iters=2,factor=f16",
                                                   "powersgd:rank=9,dense-below=0", "acpsgd",
                                                   "acpsgd:rank=7,factor=f16"};

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfFactors) {
  for (size_t m = 0; m < low_rank_methods.size(); m += (test::every() + 3) / 4)
    for (DType dtype : {DType::f32, DType::bf16})
      expect_parity_of_matrices({{130, 7, 3, 3}, {65, 33}, {31}, {9, 4097}, {1, 5}, {700, 1}, {0, 4}, {2, 2}},
                                low_rank_methods[m], "", dtype);
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForFactorsOfEveryShape) {
  for (const Shapes& shapes :
       {Shapes{{1, 1}, {31, 1}, {1, 32}, {33, 33}}, Shapes{{65535, 2}}, Shapes{{2, 65536}},
        Shapes{{3, 65537}, {65537, 3}}, Shapes{{1024, 1024}}, Shapes{{11, 140001}}})
    for (const char* method : {"powersgd:rank=2,dense-below=0", "acpsgd:rank=1,dense-below=0"})
      expect_parity_of_matrices(shapes, method, "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfGroups) {
  for (const char* method :
       {"onebit:group=row", "onebit:group=col", "onebit:group=bucket", "onebit:group=bucket,bucket=1000"})
    for (DType dtype : {DType::f32, DType::f16})
      expect_parity_of_matrices(
          {{130, 7, 3, 3}, {65, 33}, {31}, {9, 9001}, {1, 5}, {70000, 1}, {0, 4}, {2, 2}, {257, 300}}, method,
          "", dtype);
  expect_parity_of_matrices({{3, 400000}}, "onebit:group=row", "");
  expect_parity_of_matrices({{3, 400000}}, "onebit:group=col", "");
}

TEST_F(FrameOnDevice, DecodesDamagedGroupsOnlyWhereTheProcessorDoes) {
  const std::vector<float> values = make_data(Kind::heavy, 3000);
  for (const char* method : {"onebit:group=row", "onebit:group=bucket,bucket=100"}) {
    const std::string sound = coded({values}, Backend::cpu, method, "", NonFinitePolicy::error, DType::f32,
                                    Rounding::automatic, {{60, 50}})
                                  .bytes;
    test::Random random(14);
    for (size_t round = 0; round < 40; round += test::every())
      expect_same_verdict(damaged_block(sound, random.below(1u << 20), uint8_t(1 + random.below(255))),
                          values.size());
  }
}

TEST_F(FrameOnDevice, MeetsTargetsOfFactorsWithTheSameBytes) {
  expect_parity_of_matrices({{200, 90}, {64, 300}, {50}}, "powersgd", "ratio=9");
  expect_parity_of_matrices({{200, 90}, {64, 300}, {50}}, "acpsgd", "nmse=0.6");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForSeveralTensorsOfChosenSizes) {
  const Shapes shapes = {{150, 470}, {64, 40}, {}, {31}, {0, 3}, {65, 33}};
  for (const char* method : {"lgreco", "lgreco:base=thc", "lgreco:base=powersgd", "lgreco:base=acpsgd",
                             "lgreco:base=topk", "lgreco:base=natural,alpha=1.5"})
    expect_parity_of_matrices(shapes, method, "");
  expect_parity_of_matrices(shapes, "lgreco", "ratio=9");
  expect_parity_of_matrices({{90, 30}, {77}}, "lgreco:base=powersgd", "nmse=0.5", DType::f16);
  expect_parity_of_matrices({{70001}}, "lgreco", "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteForFactorsOfHugeTinyAndZeroMatrices) {
  for (Kind kind : {Kind::near_max, Kind::subnormal, Kind::zeros, Kind::one_nonzero})
    expect_parity({make_data(kind, 3000), make_data(Kind::heavy, 1200)}, "powersgd:rank=2", "",
                  NonFinitePolicy::error, DType::f32, Rounding::automatic, {{60, 50}, {30, 40}});
}

TEST_F(FrameOnDevice, DecodesDamagedFactorsOnlyWhereTheProcessorDoes) {
  const std::vector<float> values = make_data(Kind::heavy, 3000);
  for (const char* method : {"powersgd:rank=2", "acpsgd:rank=2,factor=f16"}) {
    const std::string sound = coded({values}, Backend::cpu, method, "", NonFinitePolicy::error, DType::f32,
                                    Rounding::automatic, {{60, 50}})
                                  .bytes;
    test::Random random(12);
    for (size_t round = 0; round < 40; round += test::every())
      expect_same_verdict(damaged_block(sound, random.below(1u << 20), uint8_t(1 + random.below(255))),
                          values.size());
  }
}

TEST_F(FrameOnDevice, DecodesDamagedLevelsOnlyWhereTheProcessorDoes) {
  for (const char* method :
       {"qsgd:coder=fixed,levels=5", "terngrad:coder=base243", "qsgd:coder=elias-sparse,levels=2",
        "qsgd:coder=elias-dense,levels=9", "qsgd:coder=entropy,levels=20", "topk:density=0.1",
        "topk:values=f16,map=rice", "topk:values=q4,density=0.2", "randk:density=0.2", "qlsgd:density=0.2",
        "qlsgd:select=randk,density=0.2", "acsgd:variant=jointsq", "mcgq", "mcgq:coder=elias-sparse",
        "thc:norm=block", "thc:coder=fixed"}) {
    const std::vector<float> values = make_data(Kind::heavy, 3000);
    const std::string sound = coded({values}, Backend::cpu, method, "").bytes;
    test::Random random(11);
    for (size_t round = 0; round < 40; round += test::every()) {
      const std::string damaged =
          damaged_block(sound, random.below(1u << 20), uint8_t(1 + random.below(255)));
      SCOPED_TRACE(method);
      expect_same_verdict(damaged, values.size());
    }
  }
}

TEST_F(FrameOnDevice, MeetsErrorTargetsWithTheSameBytes) {
  expect_parity({make_data(Kind::heavy, 90000)}, "jointsq", "nmse=0.05");
  expect_parity({make_data(Kind::gauss, 20000)}, "jointsq:quant=offmag", "maxabs=0.5");
}

TEST_F(FrameOnDevice, KeepsNonFiniteElementsAsTheProcessorDoes) {
  std::vector<float> values = make_data(Kind::heavy, 70000);
  values[5] = std::numeric_limits<float>::quiet_NaN();
  values[66000] = -std::numeric_limits<float>::infinity();
  expect_parity({values}, "jointsq", "ratio=20", NonFinitePolicy::keep);
  expect_parity({values}, "jointsq", "ratio=20", NonFinitePolicy::zero);
  EXPECT_THROW(coded({values}, Backend::cuda, "jointsq", "ratio=20"), Error);
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteOnARealDump) {
  const std::string path = std::string(JSQ_SAMPLES_DIR) + "/resnet20_mid.npy";
  const std::shared_ptr<const GradientSource> source = open_gradients(path);
  std::vector<float> scratch;
  const auto values = source->read(0, 0, size_t(source->tensors()[0].elements()), scratch);
  const std::vector<std::vector<float>> tensors = {{values.begin(), values.end()}};
  for (const char* target : {"ratio=8", "ratio=32", "ratio=100"}) expect_parity(tensors, "jointsq", target);
  for (const char* method : {"qsgd", "terngrad", "signsgd", "thc"}) expect_parity(tensors, method, "");
}

TEST_F(FrameOnDevice, IsTheProcessorsToTheByteOnARealMatrix) {
  const std::string path = std::string(JSQ_SAMPLES_DIR) + "/resnet20_late_fc.weight.npy";
  const std::shared_ptr<const GradientSource> source = open_gradients(path);
  const TensorInfo& info = source->tensors()[0];
  std::vector<float> scratch;
  const auto values = source->read(0, 0, size_t(info.elements()), scratch);
  for (const char* method : {"powersgd:rank=3", "acpsgd", "lgreco:base=powersgd", "thc:norm=block"})
    expect_parity({{values.begin(), values.end()}}, method, "", NonFinitePolicy::error, DType::f32,
                  Rounding::automatic, {info.shape});
}

TEST_F(FrameOnDevice, DecodesForSeveralThreadsAtOnce) {
  std::vector<std::vector<float>> tensors;
  for (size_t t = 0; t < 6; ++t) tensors.push_back(make_data(Kind::heavy, 40000 * t + 1000));
  for (const char* method : {"jointsq", "qsgd", "topk", "fp16", "rdoq"}) {
    SCOPED_TRACE(method);
    const Coded frame = coded(tensors, Backend::cpu, method, "");
    std::vector<std::vector<float>> expected;
    for (size_t t = 0; t < tensors.size(); ++t)
      expected.push_back(decoded(frame.bytes, Backend::cpu, t, tensors[t].size()));
    FrameReader reader = FrameReader::from_bytes(frame.bytes);
    reader.use(Backend::cuda);
    std::atomic<int> same = 0;
    const auto read_all = [&](size_t from) {
      for (size_t k = 0; k < tensors.size(); ++k) {
        const size_t t = (from + k) % tensors.size();
        std::vector<float> values(tensors[t].size());
        reader.read(t, 0, values, 1);
        same += values == expected[t];
      }
    };
    constexpr size_t threads = 4;
    std::vector<std::thread> readers;
    for (size_t i = 0; i < threads; ++i) readers.emplace_back(read_all, i);
    for (std::thread& one : readers) one.join();
    EXPECT_EQ(same, int(threads * tensors.size()));
  }
}

TEST_F(FrameOnDevice, TellsOfDamageInTheWordsOfTheProcessor) {
  Coded frame = coded({make_data(Kind::heavy, 140000)}, Backend::cpu, "jointsq", "ratio=16");
  FrameReader whole = FrameReader::from_bytes(frame.bytes);
  whole.use(Backend::cuda);
  EXPECT_TRUE(whole.test(false).empty());
  frame.bytes[frame.bytes.size() / 2] ^= 1;
  FrameReader cpu = FrameReader::from_bytes(frame.bytes), cuda = FrameReader::from_bytes(frame.bytes);
  cuda.use(Backend::cuda);
  const auto expected = cpu.test(false), found = cuda.test(false);
  ASSERT_EQ(found.size(), expected.size());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].message, expected[0].message);
}

TEST_F(FrameOnDevice, RefusesOptionsThatHaveNoPathThere) {
  try {
    // A count of 40,000 samples, which 16 bits do not hold.
    coded({make_data(Kind::one_nonzero, 40000)}, Backend::cuda, "mcgq:samples=1", "");
    FAIL() << "coded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::backend_unavailable);
    EXPECT_NE(std::string(error.what()).find("cpu only"), std::string::npos);
  }
}

}  // namespace
}  // namespace jsq
