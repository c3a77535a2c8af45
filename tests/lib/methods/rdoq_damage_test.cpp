// Damaged sets and streams of rdoq in all their forms, behind right checksums: dependent, exact and dithered
// levels, one sign, layers in the set, packs and transforms. Every flipped bit and every
// truncation is refused as damaged or decodes to finite numbers, and asks for no memory that the tensors do
// not justify.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <new>

#include "jsq/error.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "tests/kernels/data.hpp"

namespace {

/// The largest allocation of this thread since the last reset.
thread_local size_t largest_allocation = 0;

}  // namespace

// Not inlined: a compiler that sees into one side of a pair calls it mismatched.
[[gnu::noinline]] void* operator new(size_t bytes) {
  largest_allocation = std::max(largest_allocation, bytes);
  void* memory = bytes > (size_t(1) << 30) ? nullptr : std::malloc(bytes);
  if (!memory) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace jsq {
namespace {

/// The flags that a set begins with (SPEC.md).
enum : uint8_t { layers = 1, pack = 4, exact = 8, transforms = 16, dependent = 32, positive = 64 };

/// random: no two values are alike; kernels: those of a kernel are; product: lines are multiples of one.
enum class Likeness { random, kernels, product };

/// What is coded, and how.
struct Form {
  const char* name;
  const char* method;
  double bytes;
  int flags;                                  ///< of what this stores
  std::vector<std::vector<uint64_t>> shapes;  ///< one tensor each
  Rounding rounding = Rounding::automatic;
  std::vector<std::vector<uint64_t>> layers = {};  ///< of the first tensor
  size_t one_in = 1;                               ///< is not zero
  Likeness likeness = Likeness::random;
};

void PrintTo(const Form& form, std::ostream* out) {
  *out << form.name;
}

/// A pool, its set and its blocks, as a decoder gets them.
struct Stored {
  std::vector<std::vector<float>> values;
  std::vector<std::shared_ptr<const GradientSource>> sources;
  std::string parameters;
  std::vector<std::string> blocks;  ///< one a tensor; these tensors have no more
  std::vector<std::vector<float>> decoded;
  std::string refusal;
  size_t elements = 0;

  explicit Stored(const Form& form) {
    std::vector<PoolTensor> tensors;
    for (const std::vector<uint64_t>& shape : form.shapes) {
      TensorInfo info;
      info.shape = shape;
      std::vector<float>& own = values.emplace_back(test::make_data(test::Kind::heavy, info.elements(), 9));
      for (size_t i = 0; i < own.size(); ++i) {
        own[i] *= float(1 + i % 7);
        if (form.likeness == Likeness::kernels) {
          const auto inner = size_t(shape[2] * shape[3]);
          own[i] = own[i / inner * inner] + own[i] / 16;
        }
        if (form.likeness == Likeness::product) {
          const auto columns = size_t(shape.back());
          own[i] = std::sin(float(i / columns + 1)) * std::cos(float(2 * (i % columns))) + own[i] / 256;
        }
        if (form.flags & positive) own[i] = std::abs(own[i]);
        if (i % form.one_in != 0) own[i] = 0;
      }
      elements += own.size();
      sources.push_back(source_of(info, own));
      PoolTensor tensor;
      tensor.source = sources.back().get();
      tensor.info = &sources.back()->tensors()[0];
      tensor.number = uint32_t(tensors.size());
      if (tensors.empty()) tensor.layers = form.layers;
      tensors.push_back(tensor);
    }
    const TensorPool pool(std::move(tensors));
    EncoderContext context;
    context.rounding = form.rounding;
    const auto encoder = make_encoder(method_row("rdoq"), pool, parse_method(form.method), context);
    encoder->aim_bytes(uint64_t(form.bytes));
    parameters = encoder->stored_set(0).parameters;
    for (size_t t = 0; t < values.size(); ++t) {
      BlockSums sums;
      encoder->encode_block(t, 0, values[t], blocks.emplace_back(), sums);
    }
  }
  BlockPlace place(size_t t) const { return {uint32_t(t), 0, &sources[t]->tensors()[0], 0}; }

  /// Decodes everything to `decoded`; false where it is refused, which only damage may be: `refusal`.
  bool decodes(std::string_view set, const std::vector<std::string>& streams) {
    largest_allocation = 0;
    decoded.clear();
    bool whole = true;
    try {
      const auto decoder = method_row("rdoq").make_decoder(set, "set");
      std::vector<BlockPlace> places;
      for (size_t t = 0; t < values.size(); ++t) places.push_back(place(t));
      decoder->bind(places);
      for (size_t t = 0; t < values.size(); ++t) {
        std::vector<float>& back = decoded.emplace_back(values[t].size(), 7.0f);
        if (streams[t].empty())
          decoder->decode_empty(place(t), back);
        else
          decoder->decode_block(place(t), streams[t], back, "block");
        for (float value : back) EXPECT_TRUE(std::isfinite(value));
      }
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::damaged) << error.what();
      refusal = error.what();
      whole = false;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "not an Error: " << error.what();
      whole = false;
    }
    EXPECT_LE(largest_allocation, 64 * elements + (size_t(4) << 20));
    return whole;
  }
};

class DamagedRdoq : public testing::TestWithParam<Form> {};

TEST_P(DamagedRdoq, DecodesWhereNothingIsDamaged) {
  Stored stored(GetParam());
  EXPECT_EQ(int(uint8_t(stored.parameters[0])), GetParam().flags);
  EXPECT_TRUE(stored.decodes(stored.parameters, stored.blocks));
}

TEST_P(DamagedRdoq, IsRefusedOrDecodesToNumbersWhicheverBitIsFlipped) {
  Stored stored(GetParam());
  std::string set = stored.parameters;
  for (size_t bit = 0; bit < 8 * set.size() && !HasFailure(); ++bit) {
    SCOPED_TRACE("bit " + std::to_string(bit) + " of the set");
    set[bit / 8] = char(set[bit / 8] ^ (1 << bit % 8));
    stored.decodes(set, stored.blocks);
    set[bit / 8] = char(set[bit / 8] ^ (1 << bit % 8));
  }
  std::vector<std::string> blocks = stored.blocks;
  for (std::string& block : blocks)
    for (size_t bit = 0; bit < 8 * block.size() && !HasFailure(); ++bit) {
      SCOPED_TRACE("bit " + std::to_string(bit) + " of a block");
      block[bit / 8] = char(block[bit / 8] ^ (1 << bit % 8));
      stored.decodes(stored.parameters, blocks);
      block[bit / 8] = char(block[bit / 8] ^ (1 << bit % 8));
    }
}

TEST_P(DamagedRdoq, IsRefusedWhereverItEndsAndWithBytesBehind) {
  Stored stored(GetParam());
  for (size_t size = 0; size < stored.parameters.size() && !HasFailure(); ++size)
    EXPECT_FALSE(stored.decodes(stored.parameters.substr(0, size), stored.blocks))
        << size << " bytes of the set";
  EXPECT_FALSE(stored.decodes(stored.parameters + '\0', stored.blocks));
  std::vector<std::string> blocks = stored.blocks;
  for (size_t t = 0; t < blocks.size(); ++t) {
    for (size_t size = 1; size < stored.blocks[t].size() && !HasFailure(); ++size) {
      blocks[t] = stored.blocks[t].substr(0, size);
      EXPECT_FALSE(stored.decodes(stored.parameters, blocks)) << size << " bytes of a block";
    }
    blocks[t] = stored.blocks[t];
  }
}

TEST_P(DamagedRdoq, IsRefusedOrDecodesToNumbersWhereBytesAreOthers) {
  Stored stored(GetParam());
  test::Random random(7);
  for (int round = 0; round < 1500 && !HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::string set = stored.parameters;
    std::vector<std::string> blocks = stored.blocks;
    std::string& target = round % 2 || blocks[0].empty() ? set : blocks[0];
    for (size_t k = 1 + random.below(4); k > 0 && !target.empty(); --k) {
      const size_t at = random.below(target.size());
      const char byte = random.below(3) ? char(random.word()) : random.below(2) ? '\xff' : '\0';
      switch (random.below(4)) {
        case 0:
          target.insert(at, 1 + random.below(5), byte);
          break;
        case 1:
          target.erase(at, 1 + random.below(5));
          break;
        default:
          target[at] = byte;
      }
    }
    stored.decodes(set, blocks);
  }
}

constexpr Rounding automatic = Rounding::automatic;
const Form forms[] = {
    {"fast", "rdoq:preset=fast", 260, 0, {{24, 25}}},
    {"dct", "rdoq:transform=dct", 300, transforms, {{12, 8, 3, 3}}, automatic, {}, 1, Likeness::kernels},
    {"low_rank", "rdoq:transform=lowrank", 300, transforms, {{40, 30}}, automatic, {}, 1, Likeness::product},
    {"best", "rdoq:preset=best", 300, dependent, {{40, 30}}},
    {"dependent", "rdoq:levels=dependent,transform=none", 900, dependent, {{24, 25}}},
    {"dependent_at_low_rates", "rdoq:levels=dependent,transform=none", 300, dependent, {{1200}}},
    {"plain_instead_of_dependent", "rdoq:levels=dependent,transform=none", 120, 0, {{1200}}},
    {"stochastic", "rdoq:preset=fast", 400, 0, {{24, 25}}, Rounding::stochastic},
    {"exact", "rdoq:transform=none", 400, exact, {{40, 30}}, automatic, {}, 30},
    {"one_sign", "rdoq:transform=none", 300, positive, {{24, 25}}},
    {"dependent_of_one_sign", "rdoq:levels=dependent,transform=none", 700, dependent | positive, {{24, 25}}},
    {"exact_of_one_sign", "rdoq:transform=none", 400, exact | positive, {{1200}}, automatic, {}, 30},
    {"layers", "rdoq:transform=none", 300, layers, {{1092}}, automatic, {{20, 25}, {8}, {8}, {8, 8, 3, 3}}},
    {"pack", "rdoq:preset=best,levels=independent", 500, pack, {{20, 25}, {16}, {4, 4, 3, 3}, {1}}},
};

const Form& form_of(std::string_view name) {
  return *std::find_if(std::begin(forms), std::end(forms),
                       [&](const Form& form) { return form.name == name; });
}

TEST(DamagedRdoqSet, WhoseStepIsFarFromTheUnitOfItsFactorsIsRefused) {
  Stored stored(form_of("low_rank"));
  for (const int exponent : {-160, 128}) {
    std::string set = stored.parameters;
    set[3] = char(exponent);
    set[4] = char(exponent >> 8);
    EXPECT_FALSE(stored.decodes(set, stored.blocks)) << exponent;
    EXPECT_EQ(stored.refusal, "set is damaged: its factors have a unit far from the step");
  }
}

TEST(DamagedRdoqSet, WhosePackIsOfMoreThan2To20ElementsIsRefused) {
  const Stored stored(form_of("pack"));
  TensorInfo info;
  info.shape = {16};
  std::vector<BlockPlace> places((size_t(1) << 16) + 1);
  for (size_t t = 0; t < places.size(); ++t) places[t] = {uint32_t(t), 0, &info, 0};
  const auto decoder = method_row("rdoq").make_decoder(stored.parameters, "set");
  try {
    decoder->bind(places);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::damaged);
    EXPECT_STREQ(error.what(), "set is damaged: more packed elements than 2^20");
  }
}

// Of rdoq's blocks without bytes: a prediction is all that is known of the elements, otherwise nothing is.
TEST(RdoqBlocks, WithoutBytesAreWhatFactorsPredict) {
  Stored stored(form_of("low_rank"));
  ASSERT_TRUE(stored.decodes(stored.parameters, {""}));
  double squares = 0, errors = 0;
  for (size_t i = 0; i < stored.elements; ++i) {
    const double value = stored.values[0][i];
    squares += value * value;
    errors += (value - stored.decoded[0][i]) * (value - stored.decoded[0][i]);
  }
  EXPECT_LT(errors, squares / 10);
}

TEST(RdoqBlocks, WithoutBytesAreZerosWhereNothingPredicts) {
  for (const Form& form : forms) {
    if (form.flags & pack || form.likeness == Likeness::product) continue;
    Stored stored(form);
    ASSERT_TRUE(stored.decodes(stored.parameters, {""})) << form.name;
    EXPECT_EQ(stored.decoded[0], std::vector<float>(stored.elements)) << form.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Rdoq, DamagedRdoq, testing::ValuesIn(forms),
                         [](const testing::TestParamInfo<Form>& form) {
                           return std::string(form.param.name);
                         });

}  // namespace
}  // namespace jsq
