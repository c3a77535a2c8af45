// When work goes to the device: always where that was asked for, and by itself where it gains.
#include "lib/core/device.hpp"

#include <optional>

#include "jsq/error.hpp"
#include "tests/gpu/device.hpp"

namespace jsq {
namespace {

class BackendOnDevice : public test::OnDevice {};

std::optional<Errc> refusal_of(Backend backend, const char* backends) {
  try {
    codes_on_device(backend, "a method", backends, device_pays_from);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(backends), std::string::npos) << error.what();
    return error.code();
  }
  return std::nullopt;
}

TEST_F(BackendOnDevice, CodesByItselfWhereThereIsEnoughOfWhatRunsThereWhole) {
  const auto codes = [](const char* backends, uint64_t elements) {
    return codes_on_device(Backend::automatic, "a method", backends, elements);
  };
  EXPECT_TRUE(codes("cpu, cuda", device_pays_from));
  EXPECT_FALSE(codes("cpu, cuda", device_pays_from - 1));
  EXPECT_FALSE(codes("cpu, cuda: all but sums", device_pays_from));
  EXPECT_FALSE(codes("cpu only: a reason", device_pays_from));
  EXPECT_FALSE(codes_on_device(Backend::cpu, "a method", "cpu, cuda", device_pays_from));
}

TEST_F(BackendOnDevice, DecodesWhereThatIsAskedFor) {
  EXPECT_TRUE(decodes_on_device(Backend::cuda, "a method", "cpu, cuda: all but sums"));
  EXPECT_FALSE(decodes_on_device(Backend::automatic, "a method", "cpu, cuda"));
  EXPECT_FALSE(decodes_on_device(Backend::cpu, "a method", "cpu, cuda"));
}

TEST_F(BackendOnDevice, RefusesWhatHasNoPathThereWithTheReason) {
  EXPECT_EQ(refusal_of(Backend::cuda, "cpu only: a reason"), Errc::backend_unavailable);
  EXPECT_EQ(refusal_of(Backend::automatic, "cpu only: a reason"), std::nullopt);
  EXPECT_EQ(refusal_of(Backend::cuda, "cpu, cuda"), std::nullopt);
}

}  // namespace
}  // namespace jsq
