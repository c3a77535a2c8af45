// Top-k and the coder of sparse methods: exactly the k largest, of equals the first; every value type and map
// comes back as the scheme said; damage is refused or decodes to something finite.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/element/float_bits.hpp"
#include "tests/kernels/data.hpp"
#include "tests/lib/methods/coded_pool.hpp"

namespace jsq {
namespace {

using test::CodedPool;
using test::decodes;
using test::Kind;
using test::make_data;
using test::Random;
using test::refusal_of;
using test::v8;

/// Whether each element is one of the k largest of all tensors that are not zero: by sorting.
std::vector<std::vector<bool>> largest(const std::vector<std::vector<float>>& tensors, size_t k) {
  std::vector<std::pair<size_t, size_t>> order;
  for (size_t t = 0; t < tensors.size(); ++t)
    for (size_t i = 0; i < tensors[t].size(); ++i) order.emplace_back(t, i);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return std::fabs(tensors[a.first][a.second]) > std::fabs(tensors[b.first][b.second]);
  });
  std::vector<std::vector<bool>> kept;
  for (const std::vector<float>& values : tensors) kept.emplace_back(values.size());
  for (size_t n = 0; n < std::min(k, order.size()); ++n)
    if (tensors[order[n].first][order[n].second] != 0) kept[order[n].first][order[n].second] = true;
  return kept;
}

TEST(Topk, KeepsTheWorkedVectorsThreeLargest) {
  const CodedPool coded({v8}, "topk:k=3");
  const CodedPool::Result result = coded.code();
  EXPECT_EQ(result.values[0], (std::vector<float>{0, 0, 0, 2, 0, 0, 3, -4}));
  EXPECT_NEAR(coded.squared_error(result) / coded.energy(), 0.0437918599, 5e-11);
  EXPECT_EQ(result.sums.nominal_bits, 96u);
  EXPECT_TRUE(coded.scheme->deterministic());
}

TEST(Topk, TellsWhatItsBlocksTake) {
  const std::vector<std::vector<float>> tensors = {make_data(Kind::heavy, 400000),
                                                   make_data(Kind::gauss, 70000)};
  for (const char* method :
       {"topk:k=3000", "topk:k=40000", "topk:k=40000,values=bf16", "topk:k=40000,values=q4",
        "topk:k=40000,map=rice", "topk:k=40000,map=bitmap", "topk:k=40000,map=packed"}) {
    const CodedPool coded(tensors, method);
    const std::optional<double> told = coded.scheme->told_bytes();
    ASSERT_TRUE(told) << method;
    const auto bytes = double(coded.code().bytes);
    EXPECT_NEAR(*told, bytes, 0.003 * bytes) << method;
  }
}

TEST(Topk, KeepsExactlyTheLargestAcrossTensorsAndTheFirstOfEqualsWhateverTheData) {
  for (Kind kind : test::all_kinds)
    for (size_t k : {1, 2, 17, 500, 3000, 5000}) {
      const std::vector<std::vector<float>> tensors = {make_data(kind, 1500, 1), make_data(kind, 0, 2),
                                                       make_data(kind, 1, 3), make_data(kind, 2500, 4)};
      const CodedPool coded(tensors, "topk:k=" + std::to_string(k));
      const CodedPool::Result result = coded.code();
      const auto kept = largest(tensors, k);
      for (size_t t = 0; t < tensors.size(); ++t)
        for (size_t i = 0; i < tensors[t].size(); ++i)
          ASSERT_EQ(result.values[t][i], kept[t][i] ? tensors[t][i] : 0.0f)
              << test::kind_name(kind) << ' ' << k << ' ' << t << ' ' << i;
    }
}

// More elements than are indexed whole, so that the threshold comes from refined histograms.
TEST(Topk, IsExactInLargePoolsAndTheirTies) {
  for (Kind kind : {Kind::heavy, Kind::ternary, Kind::f16_grid}) {
    const std::vector<std::vector<float>> tensors = {make_data(kind, 400000, 5), make_data(kind, 300000, 6)};
    for (size_t k : {700, 70001, 350000}) {
      const CodedPool coded(tensors, "topk:k=" + std::to_string(k));
      const CodedPool::Result result = coded.code();
      const auto kept = largest(tensors, k);
      for (size_t t = 0; t < tensors.size(); ++t)
        for (size_t i = 0; i < tensors[t].size(); ++i)
          ASSERT_EQ(result.values[t][i], kept[t][i] ? tensors[t][i] : 0.0f)
              << test::kind_name(kind) << ' ' << k;
    }
  }
}

TEST(Topk, TakesDensityAsAShareOfAllElementsAndAtLeastOne) {
  const std::vector<float> values = make_data(Kind::gauss, 1000);
  for (const auto& [density, kept] : {std::pair("0.1", 100u), {"0.0159", 15u}, {"0", 1u}, {"1", 1000u}}) {
    const CodedPool coded({values}, std::string("topk:density=") + density);
    EXPECT_EQ(coded.code().sums.nominal_bits, 32u * kept) << density;
    EXPECT_EQ(coded.scheme->sizes().least, kept);
    EXPECT_EQ(coded.scheme->sizes().most, kept);
  }
  const CodedPool open({values}, "topk");
  EXPECT_EQ(open.scheme->sizes().least, 0u);
  EXPECT_EQ(open.scheme->sizes().most, 1000u);
  EXPECT_EQ(open.scheme->sizes().native, 10u);
}

TEST(Topk, KeepsNothingAtSizeZero) {
  CodedPool coded({make_data(Kind::heavy, 1000)}, "topk");
  coded.set_size(0);
  const CodedPool::Result result = coded.code();
  EXPECT_EQ(result.bytes, 0u);
  EXPECT_EQ(result.sums.nominal_bits, 0u);
  EXPECT_NEAR(coded.squared_error(result), coded.energy(), 1e-12 * coded.energy());
}

TEST(Topk, GivesBackEveryValueTypeThroughEveryMap) {
  Random random(7);
  for (const char* values : {"f32", "f16", "bf16", "q1", "q2", "q3", "q5", "q8"})
    for (const char* map : {"auto", "raw32", "packed", "bitmap", "rice", "entropy"})
      for (Kind kind : test::all_kinds) {
        const size_t n = 1 + random.below(5000);
        const std::string method = std::string("topk:values=") + values + ",map=" + map +
                                   ",k=" + std::to_string(1 + random.below(n));
        SCOPED_TRACE(method + ' ' + test::kind_name(kind));
        const CodedPool coded({make_data(kind, n, n)}, method);
        const CodedPool::Result result = coded.code();  // compares
        for (float value : result.values[0]) ASSERT_TRUE(std::isfinite(value));
        if (map != std::string("auto") && result.bytes > 0) {
          EXPECT_NE(coded.decoder()->describe().find(map), std::string::npos) << coded.decoder()->describe();
        }
      }
}

TEST(Topk, RoundsHalfPrecisionValuesToNearest) {
  const std::vector<float> values = make_data(Kind::heavy, 2000);
  const auto kept = largest({values}, 300);
  const std::vector<float> f16 = CodedPool({values}, "topk:values=f16,k=300").decoded();
  const std::vector<float> bf16 = CodedPool({values}, "topk:values=bf16,k=300").decoded();
  for (size_t i = 0; i < values.size(); ++i) {
    EXPECT_EQ(f16[i], kept[0][i] ? element::f16_to_f32(element::f32_to_f16_saturating(values[i])) : 0.0f);
    EXPECT_EQ(bf16[i], kept[0][i] ? element::bf16_to_f32(element::f32_to_bf16_saturating(values[i])) : 0.0f);
  }
}

TEST(Topk, QuantizesOnTheRangeOfTheKeptMagnitudes) {
  const std::vector<float> values = make_data(Kind::heavy, 3000);
  const auto kept = largest({values}, 400);
  float low = INFINITY, high = 0;
  for (size_t i = 0; i < values.size(); ++i)
    if (kept[0][i]) {
      low = std::min(low, std::fabs(values[i]));
      high = std::max(high, std::fabs(values[i]));
    }
  // Cells of width (high - low) / 8 and their centres; sym rounds to the nearest multiple of high / 7.
  const std::vector<float> cell = CodedPool({values}, "topk:values=q4,k=400").decoded();
  const std::vector<float> sym =
      CodedPool({values}, "topk:values=q4,quant=sym,k=400", 1, Rounding::nearest).decoded();
  for (size_t i = 0; i < values.size(); ++i) {
    if (!kept[0][i]) {
      ASSERT_EQ(cell[i], 0.0f);
      continue;
    }
    ASSERT_NEAR(cell[i], values[i], (high - low) / 16 * 1.0001f);
    ASSERT_NEAR(sym[i], values[i], high / 14 * 1.0001f);
  }
}

TEST(Topk, DecodesASingleBitToTheMeanMagnitude) {
  const std::vector<float> values = {1, -2, 0.5f, 6, -3, 0.25f};
  EXPECT_EQ(CodedPool({values}, "topk:values=q1,k=4").decoded(), (std::vector<float>{3, -3, 0, 3, -3, 0}));
}

TEST(Topk, ExpectsTheErrorThatStochasticRoundingHasOnAverage) {
  for (const char* quantizer : {"mid", "offmag", "sym"}) {
    const std::vector<float> values = make_data(Kind::gauss, 400);
    double sum = 0, expected = 0;
    constexpr int seeds = 400;
    for (uint64_t seed = 0; seed < seeds; ++seed) {
      const CodedPool coded({values}, std::string("topk:values=q3,k=100,quant=") + quantizer, seed);
      const CodedPool::Result result = coded.code();
      sum += coded.squared_error(result);
      expected = result.sums.expected_error;
    }
    EXPECT_NEAR(sum / seeds, expected, 0.02 * expected) << quantizer;
  }
}

TEST(Topk, SpendsNothingOnBitsThatADumpOfHalfPrecisionLeavesZero) {
  std::vector<float> values = make_data(Kind::heavy, 20000);
  for (float& g : values) g = element::f16_to_f32(element::f32_to_f16_saturating(g));
  const CodedPool as_f32({values}, "topk:k=1000"),
      as_f16({values}, "topk:k=1000", 1, Rounding::automatic, DType::f16);
  const CodedPool::Result wide = as_f32.code(), narrow = as_f16.code();
  EXPECT_EQ(wide.values, narrow.values);
  EXPECT_LT(narrow.bytes + 1000 * 13 / 8 - 8, wide.bytes);
}

TEST(Topk, TakesTheSmallestMapUnlessOneIsNamed) {
  for (double density : {0.001, 0.02, 0.3, 0.9})
    for (size_t n : {40, 3000, 100000}) {
      const std::vector<float> values = make_data(Kind::heavy, n);
      const std::string k = "k=" + std::to_string(1 + size_t(density * double(n)));
      size_t smallest = SIZE_MAX;
      const auto size = [&](const std::string& map) {
        const CodedPool coded({values}, "topk:map=" + map + ',' + k);
        return coded.code().bytes + coded.scheme->stored_set(0).parameters.size();
      };
      for (const char* map : {"raw32", "packed", "bitmap", "rice", "entropy"})
        smallest = std::min(smallest, size(map));
      EXPECT_LE(size("auto"), smallest + smallest / 50 + 8) << density << ' ' << n;
    }
}

// A draft codes stretches of the pool as if they were the pool: bytes and errors follow the whole's.
TEST(Topk, DraftsComeCloseToTheWhole) {
  for (Kind kind : {Kind::heavy, Kind::ternary, Kind::f16_grid}) {
    std::vector<std::vector<float>> tensors;
    for (uint64_t t = 0; t < 6; ++t) {
      tensors.push_back(make_data(kind, 200000, t + 1));
      for (float& g : tensors.back()) g *= float(1 << t);  // layers of different scale
    }
    CodedPool coded(tensors, "topk");
    const CodedPool::Result whole = coded.code();
    coded.scheme->set_size(coded.scheme->sizes().native, true);
    size_t bytes = 0, elements = 0;
    for (const PoolBlock& block :
         pool_blocks(*coded.pool, coded.scheme->block_log2(), Scheme::draft_elements)) {
      std::string code;
      std::vector<float> decoded(block.count);
      BlockSums sums;
      coded.scheme->encode(block.tensor, coded.place(block.tensor, block.first),
                           std::span(tensors[block.tensor]).subspan(block.first, block.count), code, decoded,
                           sums);
      bytes += code.size();
      elements += block.count;
    }
    const double estimate = double(bytes) * 1.2e6 / double(elements);
    EXPECT_NEAR(estimate, double(whole.bytes), 0.25 * double(whole.bytes)) << test::kind_name(kind);
  }
}

TEST(Topk, RefusesOrDecodesDamageAndNothingWorse) {
  Random random(11);
  for (const char* method :
       {"topk:values=f32", "topk:values=f16", "topk:values=bf16", "topk:values=q4", "topk:values=q1", "qlsgd",
        "qlsgd:select=randk", "randk", "randk:values=f16", "acsgd", "mcgq"})
    for (const char* map : {"raw32", "packed", "bitmap", "rice", "entropy"}) {
      std::string text = method;
      if (text.find("randk") == std::string::npos && text != "mcgq")
        text += (text.find(':') == std::string::npos ? ":map=" : ",map=") + std::string(map);
      SCOPED_TRACE(text);
      CodedPool coded({make_data(Kind::gauss, 700)}, text);
      coded.set_size(text.substr(0, 5) == "acsgd" ? 2000 : 100);
      const std::string block = coded.code().blocks[0][0];
      ASSERT_FALSE(block.empty());
      const auto decoder = coded.decoder();
      for (size_t length = 0; length < block.size(); ++length)
        EXPECT_FALSE(decodes(*decoder, coded.place(0, 0), block.substr(0, length), 700)) << length;
      EXPECT_FALSE(decodes(*decoder, coded.place(0, 0), block + '\0', 700));
      for (int round = 0; round < 300; ++round) {
        std::string flipped = block;
        flipped[random.below(flipped.size())] ^= char(1 << random.below(8));
        decodes(*decoder, coded.place(0, 0), flipped, 700);
        decodes(*decoder, coded.place(0, 0), block, 1 + random.below(2000));
      }
      const std::string parameters = coded.scheme->stored_set(0).parameters;
      for (size_t length = 0; length < parameters.size(); ++length)
        EXPECT_THROW(method_row(coded.spec.name).make_decoder(parameters.substr(0, length), "parameters"),
                     Error);
      for (int round = 0; round < 300; ++round) {
        std::string flipped = parameters;
        flipped[random.below(flipped.size())] ^= char(1 << random.below(8));
        try {
          const auto other = method_row(coded.spec.name).make_decoder(flipped, "parameters");
          EXPECT_FALSE(other->describe().empty());
          decodes(*other, coded.place(0, 0), block, 700);
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), Errc::damaged) << error.what();
        }
      }
    }
}

TEST(Topk, RefusesOptionsWithWhatIsExpected) {
  for (const char* method : {"topk:k=0",
                             "topk:k=x",
                             "topk:density=2",
                             "topk:density=-1",
                             "topk:k=3,density=0.1",
                             "topk:values=q9",
                             "topk:values=q0",
                             "topk:values=f64",
                             "topk:quant=best",
                             "topk:map=raw",
                             "topk:values=q1,quant=sym",
                             "randk:scale=2",
                             "dgc:threshold=all",
                             "dgc:momentum=2",
                             "dgc:nesterov=2",
                             "dgc:clip=-1",
                             "qlsgd:bits=1",
                             "qlsgd:select=all",
                             "qlsgd:scale-beta=2",
                             "acsgd:variant=x",
                             "acsgd:budget=0",
                             "mcgq:samples=65",
                             "mcgq:coder=base243"})
    EXPECT_EQ(refusal_of(method), Errc::usage) << method;
  EXPECT_EQ(refusal_of("topk:values=q4", Rounding::stochastic), Errc::usage);
}

}  // namespace
}  // namespace jsq
