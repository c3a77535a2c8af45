// Saved states: they come back as they were, and frames that are none, or damaged ones, are refused with the
// reason.
#include "jsq/state.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <functional>
#include <string>

#include "formats/wire/directory.hpp"
#include "jsq/error.hpp"
#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

State some_state() {
  State state;
  state.method = "dgc";
  state.step = 41;
  state.set("fc/weight", "u", {1.5f, -0.0f, 0x1p-149f, 3e38f, 0, 0});
  state.set("fc/weight", "v", {0, 0, 0, 0, 0, 0});
  state.set_number("fc/weight", "rank", 3);
  return state;
}

std::string saved(const State& state) {
  MemorySink sink;
  state.save(sink);
  return sink.bytes;
}

/// The frame with another directory under right checksums.
std::string changed(const std::string& frame, const std::function<void(wire::Directory&)>& change) {
  ByteReader footer(std::string_view(frame).substr(frame.size() - wire::footer_bytes), "footer");
  const size_t stored = footer.u32(), begin = frame.size() - wire::footer_bytes - stored;
  wire::Directory directory =
      wire::read_directory(std::string_view(frame).substr(begin, stored), begin, "frame");
  change(directory);
  const std::string written = wire::write_directory(directory);
  return frame.substr(0, begin) + written +
         wire::write_footer(std::string_view(frame).substr(0, wire::header_bytes), written);
}

/// The error of loading, "" where there is none.
std::string refusal(const std::string& frame, Errc expected) {
  try {
    State::from_bytes(frame);
  } catch (const Error& error) {
    EXPECT_EQ(error_name(error.code()), error_name(expected)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "it was read";
  return "";
}

void set_metadata(wire::Directory& directory, std::string_view part_of_key, const std::string& value) {
  bool found = false;
  for (auto& [key, old] : directory.metadata)
    if (key.find(part_of_key) != std::string::npos) {
      old = value;
      found = true;
    }
  ASSERT_TRUE(found) << part_of_key;
}

TEST(State, ComesBackBitForBit) {
  State state;
  TensorInfo info;
  info.name = "fc/weight";
  info.shape = {2, 3};
  state.bind("dgc", {&info});
  state.step = 41;
  const std::vector<float> values = {1.5f, -0.0f, 0x1p-149f, 3e38f, 0, -7};
  state.set("fc/weight", "u", values);
  state.set("fc/weight", "v", std::vector<float>(6));
  state.set_number("fc/weight", "rank", 3);
  const State again = State::from_bytes(saved(state));
  EXPECT_EQ(again.step, 41u);
  EXPECT_EQ(again.method, "dgc");
  ASSERT_EQ(again.tensors().size(), 1u);
  EXPECT_EQ(again.tensors().at("fc/weight").shape, (std::vector<uint64_t>{2, 3}));
  const std::vector<float>* u = again.find("fc/weight", "u");
  ASSERT_TRUE(u != nullptr && u->size() == 6);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(std::bit_cast<uint32_t>((*u)[i]), std::bit_cast<uint32_t>(values[i])) << i;
  EXPECT_EQ(again.number("fc/weight", "rank"), 3u);
  EXPECT_EQ(again.number("fc/weight", "parity"), std::nullopt);
  EXPECT_EQ(again.number("fc/bias", "rank"), std::nullopt);
  EXPECT_EQ(again.find("fc/weight", "e"), nullptr);
  EXPECT_EQ(again.find("fc/bias", "u"), nullptr);
}

TEST(State, OfAnotherMethodOrOtherTensorsIsRefused) {
  TensorInfo a, b, again;
  a.name = again.name = "a";
  b.name = "b";
  a.shape = {2, 3};
  b.shape = {4};
  again.shape = {3, 2};
  const auto refused = [&](const std::string& method,
                           const std::vector<const TensorInfo*>& tensors) -> std::string {
    State state;
    state.bind("dgc", {&a, &b});
    try {
      state.bind(method, tensors);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refused("dgc", {&a, &b}), "");
  EXPECT_NE(refused("topk", {&a, &b}).find("belongs to the method dgc"), std::string::npos);
  EXPECT_NE(refused("dgc", {&a, &a}).find("two tensors are named 'a'"), std::string::npos);
  EXPECT_NE(refused("dgc", {&again, &b}).find("shape [2, 3] in the state, but [3, 2]"), std::string::npos);
  EXPECT_NE(refused("dgc", {&a}).find("'b' is missing"), std::string::npos);
  State small;
  small.bind("dgc", {&a});
  EXPECT_THROW(small.bind("dgc", {&a, &b}), Error);
}

TEST(HostileState, IsRefusedWithTheReason) {
  const std::string good = saved(some_state());
  const auto with = [&](std::string_view key, const std::string& value) {
    return changed(good, [&](wire::Directory& directory) { set_metadata(directory, key, value); });
  };
  EXPECT_NO_THROW(State::from_bytes(good));
  EXPECT_NE(
      refusal(changed(good, [](wire::Directory& directory) { directory.metadata.clear(); }), Errc::usage)
          .find("no state"),
      std::string::npos);
  EXPECT_NE(refusal(with("step", "four"), Errc::damaged).find("expected a number, found 'four'"),
            std::string::npos);
  EXPECT_NE(refusal(with("step", "18446744073709551616"), Errc::damaged).find("expected a number"),
            std::string::npos);
  EXPECT_NE(refusal(with("state", "2"), Errc::newer_format).find("a state of version 2"), std::string::npos);
  EXPECT_NE(refusal(with("rank", "-1"), Errc::damaged).find("number in the state"), std::string::npos);
  EXPECT_NE(refusal(changed(good, [](wire::Directory& directory) { directory.tensors[0].info.name = "u"; }),
                    Errc::damaged)
                .find("'u' is not an array"),
            std::string::npos);
}

TEST(HostileState, ThatClaimsATrillionZerosIsRefusedBeforeTheyAreMade) {
  State state;
  state.method = "dgc";
  state.set("a", "e", std::vector<float>(8));
  const std::string claim = changed(saved(state), [](wire::Directory& directory) {
    FrameTensor& tensor = directory.tensors[0];
    ASSERT_EQ(tensor.block_bytes, std::vector<uint64_t>{0});
    tensor.info.shape = {uint64_t(1) << 40};
    tensor.block_log2 = 20;
    tensor.block_bytes.assign(size_t(1) << 20, 0);
  });
  EXPECT_LT(claim.size(), 1024u);
  EXPECT_NE(refusal(claim, Errc::limit).find("1099511627776 elements"), std::string::npos);
}

}  // namespace
}  // namespace jsq
