// rdoq on the device: its blocks decode to the processor's bits, with every layout of scales, number of
// lanes, escapes and low bits; damaged ones only where the processor decodes them.
#include "tests/gpu/damage.hpp"
#include "tests/gpu/device.hpp"
#include "tests/gpu/frame_parity.hpp"
#include "tests/kernels/data.hpp"

namespace jsq {
namespace {

using test::coded;
using test::decoded;
using test::Kind;
using test::make_data;
using test::Shapes;

class RdoqOnDevice : public test::OnDevice {};

size_t elements_of(const std::vector<uint64_t>& shape) {
  size_t elements = 1;
  for (uint64_t axis : shape) elements *= size_t(axis);
  return elements;
}

/// Frames of the processor, which both decode. Returns how many blocks have bytes.
size_t expect_same_values(const std::vector<std::vector<float>>& tensors, const Shapes& shapes,
                          const std::string& method, const std::string& target, DType dtype = DType::f32) {
  SCOPED_TRACE(method + " at " + target);
  const std::string frame =
      coded(tensors, Backend::cpu, method, target, NonFinitePolicy::error, dtype, Rounding::automatic, shapes)
          .bytes;
  const FrameReader reader = FrameReader::from_bytes(frame);
  size_t blocks = 0;
  for (size_t t = 0; t < tensors.size(); ++t) {
    for (uint64_t bytes : reader.tensors()[t].block_bytes) blocks += bytes > 0;
    const std::vector<float> by_cpu = decoded(frame, Backend::cpu, t, tensors[t].size());
    const std::vector<float> by_cuda = decoded(frame, Backend::cuda, t, tensors[t].size());
    for (size_t i = 0; i < by_cpu.size(); ++i)
      if (std::bit_cast<uint32_t>(by_cpu[i]) != std::bit_cast<uint32_t>(by_cuda[i])) {
        ADD_FAILURE() << "tensor " << t << " element " << i << ": " << by_cuda[i] << ", expected "
                      << by_cpu[i];
        return blocks;
      }
  }
  return blocks;
}

/// The same of tensors of these shapes.
size_t expect_same_values(Kind kind, const Shapes& shapes, const std::string& method,
                          const std::string& target, DType dtype = DType::f32) {
  std::vector<std::vector<float>> tensors;
  for (size_t t = 0; t < shapes.size(); ++t)
    tensors.push_back(make_data(kind, elements_of(shapes[t]), 1 + t));
  return expect_same_values(tensors, shapes, method, target, dtype);
}

const std::vector<std::string> methods = {"rdoq:transform=none,levels=independent",
                                          "rdoq:transform=none,levels=dependent"};

TEST_F(RdoqOnDevice, DecodesEveryLengthToTheProcessorsBits) {
  for (const std::string& method : methods)
    for (size_t n : {1, 31, 32, 33, 1000, 65535, 65536, 65537, 140000}) {
      SCOPED_TRACE(n);
      expect_same_values(Kind::heavy, {{n}}, method, n <= 1000 ? "bytes=200" : "bpw=1");
      expect_same_values(Kind::sparse, {{n}}, method, n <= 1000 ? "bytes=100" : "bpw=0.3");
    }
}

TEST_F(RdoqOnDevice, DecodesEveryRateToTheProcessorsBits) {
  size_t blocks = 0;
  for (const std::string& method : methods)
    for (const char* target :
         {"ratio=1000", "ratio=100", "ratio=8", "bpw=6", "bpw=11", "bpw=20", "nmse=1e-12"})
      for (Kind kind : {Kind::heavy, Kind::one_outlier})
        blocks += expect_same_values(kind, {{67000}}, method, target);
  EXPECT_GT(blocks, 20u);
}

TEST_F(RdoqOnDevice, DecodesEveryCompositionOfTensorsAndScalesCleanly) {
  size_t blocks = 0;
  for (const std::string& method : methods)
    for (const char* target : {"bpw=0.4", "bpw=2", "bpw=9"}) {
      // Rows, columns, inner elements; every second one in Fortran order; several blocks; small ones, packed.
      blocks += expect_same_values(Kind::heavy,
                                   {{70000},
                                    {0},
                                    {300, 257},
                                    {7},
                                    {64, 33, 3, 3},
                                    {1, 1},
                                    {3, 40001},
                                    {40001, 3},
                                    {2, 3, 5, 7},
                                    {9, 80, 5, 5, 3}},
                                   method, target);
      expect_same_values(Kind::f16_grid, {{300, 220}, {220, 300}}, method, target, DType::f16);
    }
  EXPECT_GE(blocks, 10u);
}

TEST_F(RdoqOnDevice, DecodesExactAndOneSidedLevels) {
  for (Kind kind : {Kind::ternary, Kind::constant, Kind::near_max, Kind::subnormal, Kind::one_nonzero,
                    Kind::zeros, Kind::f16_grid})
    for (const char* target : {"ratio=16", "ratio=2"})
      expect_same_values(kind, {{70000}, {300, 300}}, methods[0], target);
  std::vector<float> values = make_data(Kind::heavy, 100000);
  for (const float sign : {-1.0f, 1.0f}) {
    for (float& value : values) value = sign * std::abs(value);
    for (const std::string& method : methods)
      for (const char* target : {"bpw=0.5", "bpw=8"}) expect_same_values({values}, {}, method, target);
  }
}

/// Two outer products whose kernels are smooth bumps, and a little noise.
std::vector<float> smooth_of_low_rank(const std::vector<uint64_t>& shape, uint64_t seed) {
  test::Random random(seed);
  const size_t elements = elements_of(shape), rows = size_t(shape[0]), columns = size_t(shape[1]);
  const size_t inner = elements / rows / columns;
  std::vector<double> left(2 * rows), right(2 * columns);
  for (double& number : left) number = random.normal();
  for (double& number : right) number = random.normal();
  std::vector<float> values(elements);
  for (size_t i = 0; i < elements; ++i) {
    const size_t row = i / inner / columns, column = i / inner % columns, place = i % inner;
    const double bump = 1 + 0.2 * std::cos(0.7 * double(place));
    for (size_t j = 0; j < 2; ++j) values[i] += float(left[2 * row + j] * right[2 * column + j] * bump);
    values[i] = 0.01f * (values[i] + 0.1f * float(random.normal()));
  }
  return values;
}

TEST_F(RdoqOnDevice, UndoesTransformsAsTheProcessorDoesCleanly) {
  // With blocks that cut rows and kernels; kernels of one to three axes, and of none that has a cosine
  // transform; every second tensor in Fortran order; small ones, packed.
  const Shapes shapes = {{96, 90, 3, 3},   {260, 300}, {40, 30, 5, 5, 3}, {301, 227},
                         {30, 21, 11, 11}, {20, 20},   {9, 8, 7},         {20, 20, 3, 3}};
  std::vector<std::vector<float>> tensors;
  for (size_t t = 0; t < shapes.size(); ++t) tensors.push_back(smooth_of_low_rank(shapes[t], 1 + t));
  tensors.push_back(std::vector<float>(70 * 1000));  // predicted, perhaps, but never coded
  Shapes all = shapes;
  all.push_back({70, 1000});
  size_t blocks = 0;
  for (const char* method : {"rdoq:transform=dct", "rdoq:transform=lowrank,levels=dependent", "rdoq"})
    for (const char* target : {"bpw=0.3", "bpw=2", "bpw=8"})
      blocks += expect_same_values(tensors, all, method, target);
  EXPECT_GT(blocks, 20u);
  const std::string frame = coded(tensors, Backend::cpu, "rdoq", "bpw=2", NonFinitePolicy::error, DType::f32,
                                  Rounding::automatic, all)
                                .bytes;
  const FrameReader reader = FrameReader::from_bytes(frame);
  bool predicted = false, both = false;
  for (size_t t = 0; t < all.size(); ++t) {
    const std::optional<TensorCoding> coding = reader.coding_of(t);
    ASSERT_TRUE(coding);
    for (const LayerCoding& layer : coding->layers) {
      predicted = predicted || (layer.rank > 0 && !layer.cosine);
      both = both || (layer.rank > 0 && layer.cosine);
    }
  }
  EXPECT_TRUE(predicted && both);
}

TEST_F(RdoqOnDevice, WritesTheProcessorsFramesOfMatricesOnTheDeviceCleanly) {
  const Shapes shapes = {{150, 200}, {200, 150},        {24, 16, 3, 3}, {9000},
                         {90, 333},  {20, 30, 2, 5, 3}, {25, 40, 11},   {60, 300, 3, 1}};
  std::vector<std::vector<float>> tensors;
  for (size_t t = 0; t < shapes.size(); ++t)
    tensors.push_back(shapes[t].size() == 1 ? make_data(Kind::heavy, 9000)
                                            : smooth_of_low_rank(shapes[t], 1 + t));
  for (const char* target : {"bpw=0.5", "bpw=4", "nmse=0.01"})
    test::expect_parity(tensors, "rdoq", target, NonFinitePolicy::error, DType::f32, Rounding::automatic,
                        shapes);
  test::expect_parity(tensors, "rdoq:transform=lowrank", "bpw=2", NonFinitePolicy::error, DType::f16,
                      Rounding::automatic, shapes);
}

TEST_F(RdoqOnDevice, DecodesARealDumpWithItsTransforms) {
  const std::shared_ptr<const GradientSource> source =
      open_gradients(std::string(JSQ_SAMPLES_DIR) + "/resnet20_late_fc.weight.npy");
  std::vector<float> scratch;
  const auto values = source->read(0, 0, size_t(source->tensors()[0].elements()), scratch);
  expect_same_values({{values.begin(), values.end()}}, {source->tensors()[0].shape}, "rdoq", "ratio=8");
}

TEST_F(RdoqOnDevice, DecodesDamagedPredictionsOnlyWhereTheProcessorDoes) {
  const std::vector<uint64_t> shape = {96, 90, 3, 3};
  const std::vector<float> values = smooth_of_low_rank(shape, 3);
  const std::string sound = coded({values}, Backend::cpu, "rdoq:levels=independent", "bpw=4",
                                  NonFinitePolicy::error, DType::f32, Rounding::automatic, {shape})
                                .bytes;
  ASSERT_GT(FrameReader::from_bytes(sound).coding_of(0)->layers.at(0).rank, 0u);
  test::Random random(15);
  for (size_t round = 0; round < 12; round += std::min<size_t>(4, test::every()))
    test::expect_same_verdict(
        test::damaged_block(sound, random.below(1u << 20), uint8_t(1 + random.below(255))), values.size());
}

TEST_F(RdoqOnDevice, DecodesDamagedStreamsOnlyWhereTheProcessorDoes) {
  for (const std::string& method : methods)
    for (const char* target : {"bpw=0.05", "bpw=1", "bpw=10"}) {
      const std::vector<float> values = make_data(Kind::heavy, 70000);
      const std::string sound = coded({values}, Backend::cpu, method, target, NonFinitePolicy::error,
                                      DType::f32, Rounding::automatic, {{280, 250}})
                                    .bytes;
      test::Random random(13);
      for (size_t round = 0; round < 12; round += std::min<size_t>(4, test::every()))
        test::expect_same_verdict(
            test::damaged_block(sound, random.below(1u << 20), uint8_t(1 + random.below(255))),
            values.size());
    }
}

}  // namespace
}  // namespace jsq
