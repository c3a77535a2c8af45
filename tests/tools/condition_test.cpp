// Conditions of --fail-if: what they mean, what they refuse, and that a missing figure is neither true nor
// false.
#include "tools/condition.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>

#include "jsq/error.hpp"

namespace jsq::tools {
namespace {

const Vocabulary vocabulary = {{{"jointsq", "jointsq"},
                                {"jointsq:quant=mid", "jointsq"},
                                {"gqsgd-std", "gqsgd-std"},
                                {"qsgd:bits=4", "qsgd"},
                                {"topk:density=0.1", "topk"},
                                {"topk:density=0.01", "topk"}},
                               {"nmse", "file_ratio"}};

constexpr double unknown = NAN;

/// Method m has nmse m + 1 and file ratio 10 (m + 1); gqsgd-std has no file ratio.
std::optional<bool> judge(const std::string& text) {
  return Condition::parse(text, vocabulary).holds([](const Condition::Name& name) {
    if (name.method == 2 && name.measure == 1) return unknown;
    return double(name.method + 1) * (name.measure == 0 ? 1 : 10);
  });
}

std::string refusal(const std::string& text, Errc code = Errc::usage) {
  try {
    Condition::parse(text, vocabulary);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << text << ": " << error.what();
    return error.what();
  }
  ADD_FAILURE() << text << " was taken";
  return "";
}

TEST(Condition, ComparesNumbersAsArithmeticHasIt) {
  const std::map<std::string, bool> cases = {
      {"1 < 2", true},          {"2 < 1", false},           {"2 <= 2", true},
      {"2 >= 3", false},        {"2 == 2", true},           {"2 != 2", false},
      {"1 + 2 * 3 == 7", true}, {"(1 + 2) * 3 == 9", true}, {"8 / 4 / 2 == 1", true},
      {"5 - 3 - 1 == 1", true}, {"-2 < -1", true},          {"--2 == 2", true},
      {"1e-3 > .5", false},     {"1e3>999.5", true},        {"2 - -3 == 5", true}};
  for (const auto& [text, expected] : cases) EXPECT_EQ(judge(text), expected) << text;
}

TEST(Condition, AndBindsStrongerThanOrAndNotStrongest) {
  EXPECT_EQ(judge("1 < 2 or 1 < 2 and 2 < 1"), true);
  EXPECT_EQ(judge("(1 < 2 or 1 < 2) and 2 < 1"), false);
  EXPECT_EQ(judge("not 2 < 1 and 1 < 2"), true);
  EXPECT_EQ(judge("not (2 < 1 or 1 < 2)"), false);
  EXPECT_EQ(judge("!(2 < 1) && (1 < 2 || 2 < 1)"), true);
  EXPECT_EQ(judge("not not 1 < 2"), true);
}

TEST(Condition, NamesStandForTheFigureOfTheirMethod) {
  EXPECT_EQ(judge("jointsq.nmse == 1"), true);
  EXPECT_EQ(judge("jointsq:quant=mid.nmse == 2"), true);
  EXPECT_EQ(judge("qsgd.nmse == 4"), true) << "a name that one method has";
  EXPECT_EQ(judge("qsgd:bits=4.file_ratio == 40"), true);
  EXPECT_EQ(judge("topk:density=0.01.nmse == 6"), true) << "dots are part of a label";
}

TEST(Condition, AHyphenOfALabelIsNoMinus) {
  EXPECT_EQ(judge("gqsgd-std.nmse == 3"), true);
  EXPECT_EQ(judge("gqsgd-std.nmse-jointsq.nmse == 2"), true);
}

TEST(Condition, AMissingFigureMakesOnlyWhatHangsOnItUnknown) {
  EXPECT_EQ(judge("gqsgd-std.file_ratio > 1"), std::nullopt);
  EXPECT_EQ(judge("not gqsgd-std.file_ratio > 1"), std::nullopt);
  EXPECT_EQ(judge("gqsgd-std.file_ratio != gqsgd-std.file_ratio"), std::nullopt);
  EXPECT_EQ(judge("2 * gqsgd-std.file_ratio + 1 > 1"), std::nullopt);
  EXPECT_EQ(judge("gqsgd-std.file_ratio > 1 or 1 < 2"), true);
  EXPECT_EQ(judge("gqsgd-std.file_ratio > 1 or 2 < 1"), std::nullopt);
  EXPECT_EQ(judge("2 < 1 and gqsgd-std.file_ratio > 1"), false);
  EXPECT_EQ(judge("1 < 2 and gqsgd-std.file_ratio > 1"), std::nullopt);
}

TEST(Condition, RefusesWhatIsNoConditionAndPointsAtThePlace) {
  EXPECT_NE(refusal("jointsq.nmse > ").find("character 16"), std::string::npos);
  for (const char* text :
       {"", "1", "1 +", "1 < 2 < 3", "(1 < 2", "1 < 2)", "1 < 2 and 3", "1 and 2", "(1 < 2) + 1", "-(1 < 2)",
        "not 1", "1 <> 2", "1 < 2 andor 1 < 2", "1 = 2", "3x > 1", "nan > 1", "1 < 2; 1"})
    refusal(text);
}

TEST(Condition, RefusesNamesThatAreNotInTheRun) {
  EXPECT_NE(refusal("qsg.nmse > 1", Errc::unknown_name).find("no method 'qsg'"), std::string::npos);
  EXPECT_NE(refusal("jointsq.mse > 1", Errc::unknown_name).find("unknown measure 'mse'"), std::string::npos);
  EXPECT_NE(refusal("topk.nmse > 1").find("fits several methods"), std::string::npos);
}

TEST(Condition, RefusesNestingWithoutEnd) {
  refusal(std::string(100000, '(') + "1 < 2" + std::string(100000, ')'));
}

TEST(Condition, TellsEachOfItsNamesOnce) {
  const auto names = Condition::parse("qsgd.nmse > jointsq.nmse or qsgd.nmse > 1", vocabulary).names();
  EXPECT_EQ(names, (std::vector<Condition::Name>{{3, 0}, {0, 0}}));
}

}  // namespace
}  // namespace jsq::tools
