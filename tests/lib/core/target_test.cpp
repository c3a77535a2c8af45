// Targets and sizes as text, and error codes as exit codes.
#include "jsq/target.hpp"

#include <gtest/gtest.h>

#include <set>

#include "jsq/error.hpp"

namespace jsq {
namespace {

TEST(ParseTarget, ReadsEveryKindAndWritesItBack) {
  const std::tuple<const char*, TargetKind, double> rows[] = {
      {"ratio=32", TargetKind::ratio, 32},         {"bpw=1", TargetKind::bpw, 1},
      {"bytes=65536", TargetKind::bytes, 65536},   {"nmse=0.001", TargetKind::nmse, 0.001},
      {"maxabs=0.0001", TargetKind::maxabs, 1e-4}, {"hprime=0.1", TargetKind::hprime, 0.1},
      {"cosine=0.99", TargetKind::cosine, 0.99},   {"ratio=1000.5", TargetKind::ratio, 1000.5}};
  for (const auto& [text, kind, value] : rows) {
    const Target target = parse_target(text);
    EXPECT_EQ(target.kind, kind);
    EXPECT_EQ(target.value, value);
    EXPECT_EQ(to_string(target), text);
  }
  EXPECT_EQ(parse_target("32").kind, TargetKind::ratio);
  EXPECT_EQ(parse_target("nmse=1e-3").value, 1e-3);
  EXPECT_EQ(parse_target("bytes=64KiB").value, 65536);
  EXPECT_TRUE(parse_target("bytes=1").is_size());
  EXPECT_FALSE(parse_target("maxabs=1").is_size());
}

TEST(ParseTarget, RefusesWhatIsNotATargetAndSaysWhatIs) {
  for (const char* text :
       {"",           "=",      "ratio",    "ratio=",    "ratio=x", "ratio=32x",   "ratio= 32", "ratio=-1",
        "ratio=0",    "nmse=0", "nmse=nan", "ratio=inf", "rat=3",   "ratio=1e400", "cosine=1",  "cosine=0",
        "bytes=12XB", "bytes=", "bytes=-5", "32,5",      "bytes=0", "RATIO=3",     "ratio==3"}) {
    try {
      const Target target = parse_target(text);
      ADD_FAILURE() << "'" << text << "' was read as " << to_string(target);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::usage);
      EXPECT_NE(std::string(error.what()).find("expected"), std::string::npos) << error.what();
    }
  }
}

TEST(NmseWithin, IsTheSquaredErrorThatKeepsTheAngle) {
  // The furthest within a ball of radius sin(a): cos 60 = 0.5, sin^2 60 = 0.75.
  EXPECT_EQ(nmse_within({TargetKind::cosine, 0.5}).kind, TargetKind::nmse);
  EXPECT_DOUBLE_EQ(nmse_within({TargetKind::cosine, 0.5}).value, 0.75);
  EXPECT_DOUBLE_EQ(nmse_within({TargetKind::cosine, 0.8}).value, 0.36);
}

TEST(ParseSize, KnowsDecimalAndBinaryUnits) {
  const std::pair<const char*, uint64_t> rows[] = {
      {"0", 0},           {"65536", 65536},    {"12B", 12},          {"1KB", 1000},
      {"64KiB", 65536},   {"1.5KiB", 1536},    {"2MiB", 2097152},    {"3MB", 3000000},
      {"1GiB", 1u << 30}, {"2GB", 2000000000}, {"1TiB", 1ull << 40}, {"1TB", 1000000000000}};
  for (const auto& [text, bytes] : rows) EXPECT_EQ(parse_size(text, "x"), bytes) << text;
  for (const char* text : {"", "KiB", "x", "1 KiB", "-1", "1e30", "nan", "1KiBB", "0x10"})
    EXPECT_THROW(parse_size(text, "x"), Error) << text;
}

TEST(Errors, HaveTheDocumentedExitCodesAndDistinctNames) {
  const std::pair<Errc, int> rows[] = {{Errc::usage, 2},
                                       {Errc::unknown_name, 2},
                                       {Errc::not_found, 3},
                                       {Errc::read_failed, 3},
                                       {Errc::unsupported_format, 4},
                                       {Errc::unsupported_dtype, 4},
                                       {Errc::non_finite, 4},
                                       {Errc::damaged, 5},
                                       {Errc::refused, 6},
                                       {Errc::write_failed, 7},
                                       {Errc::unreachable_target, 8},
                                       {Errc::limit, 9},
                                       {Errc::backend_unavailable, 10},
                                       {Errc::assertion_failed, 11},
                                       {Errc::newer_format, 12},
                                       {Errc::internal, 70}};
  std::set<std::string> names;
  for (const auto& [code, exit] : rows) {
    EXPECT_EQ(exit_code(code), exit);
    names.insert(error_name(code));
  }
  EXPECT_EQ(names.size(), std::size(rows));
  EXPECT_STREQ(error_name(Errc::unreachable_target), "unreachable_target");
}

}  // namespace
}  // namespace jsq
