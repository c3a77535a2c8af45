// Damaged frames of every method: each truncation and each flipped bit is found by the checksums; and behind
// the checksums, where a hostile file has made them right, decoders refuse or decode, but never crash, never
// ask for memory that the tensor does not justify, and remember nothing.
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "tests/hostile_fields.hpp"
#include "tests/largest_allocation.hpp"
#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;

/// What a decoder may ask for at once: the values a few times over, and tables.
constexpr size_t justified(size_t elements) {
  return 64 * elements + (size_t(4) << 20);
}

class DamagedFrame : public EveryMethod {
 protected:
  /// The smallest of some matrices whose frame has 200 bytes and more.
  std::string small_frame() const {
    std::string frame;
    for (size_t rows = 3; rows <= 400 && frame.size() < 200; rows += 1 + rows / 4) {
      const std::vector<float> values = make_data(Kind::heavy, rows * 16, 9);
      frame = coded(test::one_tensor(values, {rows, 16}), sized(values.size())).bytes;
    }
    return frame;
  }

  /// Opening or testing the bytes finds damage.
  static bool found_damaged(const std::string& bytes) {
    try {
      return !FrameReader::from_bytes(bytes).test(false, 1).empty();
    } catch (const Error& error) {
      EXPECT_TRUE(error.code() == Errc::damaged || error.code() == Errc::newer_format ||
                  error.code() == Errc::unsupported_format || error.code() == Errc::limit)
          << error.what();
      return true;
    }
  }
};

TEST_P(DamagedFrame, IsRefusedWhereverItIsTruncatedAndWithBytesAfterIt) {
  const std::string frame = small_frame();
  ASSERT_GE(frame.size(), 60u);
  EXPECT_FALSE(found_damaged(frame));
  for (size_t size = 0; size < frame.size(); ++size)
    ASSERT_TRUE(found_damaged(frame.substr(0, size))) << size << " of " << frame.size();
  for (size_t more = 1; more <= 64; ++more)
    EXPECT_TRUE(found_damaged(frame + std::string(more, '\0'))) << more;
  EXPECT_TRUE(found_damaged(frame + frame));
}

TEST_P(DamagedFrame, IsFoundWhicheverBitIsFlipped) {
  std::string frame = small_frame();
  for (size_t bit = 0; bit < 8 * frame.size(); ++bit) {
    frame[bit / 8] = char(frame[bit / 8] ^ (1 << bit % 8));
    ASSERT_TRUE(found_damaged(frame))
        << "bit " << bit % 8 << " of byte " << bit / 8 << " of " << frame.size();
    frame[bit / 8] = char(frame[bit / 8] ^ (1 << bit % 8));
  }
}

/// The parameters and the block of one small tensor, as a decoder gets them.
struct Stored {
  TensorInfo info;
  StoredSet set;
  std::string block;
  uint64_t seed = 11;
  BlockPlace place() const { return {0, 0, &info, seed}; }
};

class HostileBytes : public EveryMethod {
 protected:
  Stored stored(const std::vector<uint64_t>& shape, Kind kind = Kind::heavy) const {
    Stored made;
    made.info.shape = shape;
    const std::vector<float> values = make_data(kind, made.info.elements(), 9);
    const auto source = source_of(made.info, values);
    std::vector<PoolTensor> tensors(1);
    tensors[0].source = source.get();
    tensors[0].info = &source->tensors()[0];
    const TensorPool pool(std::move(tensors));
    EncoderContext context;
    context.seed = context.stream = made.seed;
    const auto encoder = make_encoder(method_row(info().name), pool, spec(), context);
    if (has_native_size())
      encoder->aim_native();
    else
      encoder->aim_bytes(values.size());
    made.set = encoder->stored_set(0);
    BlockSums sums;
    encoder->encode_block(0, 0, values, made.block, sums);
    return made;
  }

  /// Decodes `elements` values; empty where the bytes are refused, which only damage may be.
  std::optional<std::vector<float>> decoded(const Stored& stored, std::string_view parameters,
                                            std::string_view block, size_t elements, float before = 0) const {
    std::vector<float> values(elements, before);
    // Exact copies on the heap, so that a sanitizer sees a read beyond them.
    const std::vector<char> exact_parameters(parameters.begin(), parameters.end()),
        exact_block(block.begin(), block.end());
    test::largest_allocation = 0;
    bool refused = false;
    try {
      const auto decoder =
          method_with_id(stored.set.method_id)
              .make_decoder({exact_parameters.data(), exact_parameters.size()}, "parameters");
      EXPECT_TRUE(decoder->describe().starts_with(method_with_id(stored.set.method_id).info.name))
          << decoder->describe();
      decoder->decode_block(stored.place(), {exact_block.data(), exact_block.size()}, values, "block");
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::damaged) << error.what();
      refused = true;
    } catch (const std::exception& error) {
      ADD_FAILURE() << "not an Error: " << error.what();
      refused = true;
    }
    EXPECT_LE(test::largest_allocation, justified(elements));
    if (refused) return std::nullopt;
    return values;
  }

  /// Decoding the bytes as they were written gives the same bits as ever.
  void expect_unmoved(const Stored& stored, const std::vector<float>& expected) const {
    const auto again = decoded(stored, stored.set.parameters, stored.block, expected.size(), 7);
    ASSERT_TRUE(again.has_value());
    EXPECT_TRUE(test::same_bits(*again, expected)) << "a refused block changed what the next one decodes to";
  }
};

const std::vector<uint64_t> shapes[] = {{24, 25}, {601}, {1}};

TEST_P(HostileBytes, AsWrittenDecodeToTheSameWhateverStoodInTheValues) {
  for (const auto& shape : shapes) {
    const Stored stored = this->stored(shape);
    if (stored.block.empty()) continue;
    const size_t n = stored.info.elements();
    const auto zeros = decoded(stored, stored.set.parameters, stored.block, n, 0.0f),
               other = decoded(stored, stored.set.parameters, stored.block, n, std::nanf(""));
    ASSERT_TRUE(zeros && other);
    EXPECT_TRUE(test::same_bits(*zeros, *other)) << "an element was not written";
  }
}

TEST_P(HostileBytes, FlippedAnywhereAreRefusedOrDecodeToSomething) {
  for (const auto& shape : shapes) {
    const Stored stored = this->stored(shape);
    if (stored.block.empty()) continue;
    const size_t n = stored.info.elements();
    const auto expected = decoded(stored, stored.set.parameters, stored.block, n);
    ASSERT_TRUE(expected);
    std::string parameters = stored.set.parameters, block = stored.block;
    const auto flip = [](std::string& bytes, size_t bit) {
      bytes[bit / 8] = char(bytes[bit / 8] ^ (1 << bit % 8));
    };
    for (size_t bit = 0; bit < 8 * parameters.size() && !HasFailure(); ++bit) {
      SCOPED_TRACE("parameter bit " + std::to_string(bit));
      flip(parameters, bit);
      decoded(stored, parameters, block, n);
      flip(parameters, bit);
    }
    for (size_t bit = 0; bit < 8 * block.size() && !HasFailure(); ++bit) {
      SCOPED_TRACE("block bit " + std::to_string(bit));
      flip(block, bit);
      decoded(stored, parameters, block, n);
      flip(block, bit);
    }
    expect_unmoved(stored, *expected);
  }
}

TEST_P(HostileBytes, WithAnyIntegerSetToAnExtremeAreRefusedOrDecodeToSomething) {
  for (const auto& shape : shapes) {
    const Stored stored = this->stored(shape);
    if (stored.block.empty()) continue;
    const size_t n = stored.info.elements();
    const auto expected = decoded(stored, stored.set.parameters, stored.block, n);
    ASSERT_TRUE(expected);
    test::for_each_hostile_field(stored.set.parameters, [&](const std::string& parameters) {
      if (!HasFailure()) decoded(stored, parameters, stored.block, n);
    });
    test::for_each_hostile_field(stored.block, [&](const std::string& block) {
      if (!HasFailure()) decoded(stored, stored.set.parameters, block, n);
    });
    expect_unmoved(stored, *expected);
  }
}

TEST_P(HostileBytes, TruncatedOrFollowedByMoreAreRefused) {
  for (const auto& shape : shapes) {
    const Stored stored = this->stored(shape);
    if (stored.block.empty()) continue;
    const size_t n = stored.info.elements();
    const std::string &parameters = stored.set.parameters, &block = stored.block;
    for (size_t size = 0; size < parameters.size() && !HasFailure(); ++size)
      EXPECT_FALSE(decoded(stored, parameters.substr(0, size), block, n)) << size << " bytes of parameters";
    for (size_t size = 1; size < block.size() && !HasFailure(); ++size)
      EXPECT_FALSE(decoded(stored, parameters, block.substr(0, size), n)) << size << " of " << block.size();
    EXPECT_FALSE(decoded(stored, parameters + '\0', block, n));
    EXPECT_FALSE(decoded(stored, parameters, block + '\0', n));
  }
}

TEST_P(HostileBytes, OfManyKindsOfNoiseAreRefusedOrDecodeToSomething) {
  const Stored stored = this->stored({24, 25});
  const size_t n = stored.info.elements();
  test::Random random(3);
  for (int round = 0; round < 3000 && !HasFailure(); ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::string parameters = stored.set.parameters, block = stored.block;
    std::string& target = round % 3 == 0 && !parameters.empty() ? parameters : block;
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
    decoded(stored, parameters, block, n);
  }
}

TEST_P(HostileBytes, ForATensorOfAnotherSizeAreRefusedOrDecodeToSomething) {
  for (const auto& [mine, yours] : {std::pair(std::vector<uint64_t>{24, 25}, std::vector<uint64_t>{24, 24}),
                                    {{24, 25}, {23, 26}},
                                    {{24, 25}, {1, 1}},
                                    {{24, 25}, {7}},
                                    {{601}, {40000}},
                                    {{601}, {200, 300}},
                                    {{1}, {2}}}) {
    Stored stored = this->stored(mine);
    stored.info.shape = yours;
    decoded(stored, stored.set.parameters, stored.block, std::min<size_t>(stored.info.elements(), 65536));
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, DamagedFrame, testing::ValuesIn(methods()), test::row_name);
INSTANTIATE_TEST_SUITE_P(Registry, HostileBytes, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
