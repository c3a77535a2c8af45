// What rows say about their options is what options do: every value they list is taken and leads to a sound
// frame, any other is refused by name; and what users read about methods names them all.
#include <cctype>
#include <charconv>
#include <fstream>
#include <sstream>

#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  std::stringstream stream{std::string(text)};
  for (std::string part; std::getline(stream, part, '|');) parts.push_back(part);
  return parts;
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// "auto|2..16" as what it promises: words, and the two ends of a range. "METHOD" is every method with a size
/// option. Prose ("ascending digits") promises nothing.
struct Listed {
  std::vector<std::string> words;
  std::string low, high;  ///< empty without a range
  bool open = false;      ///< "1/4|1/8|..|1/64", "0..": not every value is there
};
Listed listed(std::string_view values) {
  Listed found;
  if (values == "METHOD") {
    for (const MethodInfo* method : methods())
      if (!method->size_option.empty()) found.words.emplace_back(method->name);
    return found;
  }
  for (const std::string& part : split(values)) {
    const size_t dots = part.find("..");
    if (part.find(' ') != std::string::npos) continue;
    if (part == "..") {
      found.open = true;
      continue;
    }
    if (dots == std::string::npos) {
      found.words.push_back(part);
      continue;
    }
    found.low = part.substr(0, dots);
    found.high = part.substr(dots + 2);
    found.open = found.high.empty();
  }
  return found;
}

class Options : public EveryMethod {
 protected:
  Coded tried(const std::string& option, const std::string& value, const Target& target) const {
    CompressOptions options = this->options(target);
    options.method.options = {{option, value}};
    return coded(test::one_tensor(values_, {24, 40}), options);
  }
  void expect_taken(const MethodOption& option, const std::string& value) const {
    SCOPED_TRACE(std::string(info().name) + ':' + std::string(option.name) + '=' + value);
    try {
      const Coded result = tried(std::string(option.name), value, sized(values_.size()).target);
      const auto source = test::one_tensor(values_, {24, 40});
      const FrameReader reader = FrameReader::from_bytes(result.bytes);
      EXPECT_TRUE(reader.test(false).empty());
      test::expect_true(result.report, test::truth_of(*source, reader));
      EXPECT_EQ(method_named(parse_method(reader.method_of(0)).name).wire_id, reader.tensors()[0].method_id)
          << reader.method_of(0);
    } catch (const Error& error) {
      ADD_FAILURE() << error.what();
    }
  }
  void expect_refused(const MethodOption& option, const std::string& value) const {
    const Error error =
        test::error_of([&] { tried(std::string(option.name), value, sized(values_.size()).target); });
    EXPECT_NE(std::string_view(error.what()).find(value), std::string_view::npos) << error.what();
    if (option.values == "METHOD") {
      EXPECT_EQ(error.code(), Errc::unknown_name) << error.what();
      return;
    }
    EXPECT_EQ(error.code(), Errc::usage) << option.name << '=' << value << ": " << error.what();
    for (std::string_view part : {info().name, option.name})
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
  }
  const std::vector<float> values_ = make_data(Kind::heavy, 24 * 40);
};

TEST_P(Options, ExplainThemselves) {
  for (std::string_view text :
       {info().name, info().title, info().source, info().bias, info().needs, info().aggregation,
        info().random_numbers, info().nominal_bits, info().honest_bits, info().backends})
    EXPECT_FALSE(text.empty());
  for (const MethodOption& option : info().options)
    for (std::string_view text : {option.name, option.values, option.default_value, option.help})
      EXPECT_FALSE(text.empty()) << option.name;
}

TEST_P(Options, AreTakenInEveryValueThatTheirRowLists) {
  for (const MethodOption& option : info().options) {
    expect_taken(option, std::string(option.default_value));
    const Listed values = listed(option.values);
    for (const std::string& word : values.words) expect_taken(option, word);
    // An end such as 2^62 is for readers.
    for (const std::string& end : {values.low, values.high})
      if (number(end)) expect_taken(option, end);
  }
}

TEST_P(Options, HaveADefaultThatTheirRowLists) {
  for (const MethodOption& option : info().options) {
    const Listed values = listed(option.values);
    if (values.open || (values.words.empty() && values.low.empty())) continue;
    const bool word = std::count(values.words.begin(), values.words.end(), option.default_value) > 0;
    const auto low = number(values.low), high = number(values.high), value = number(option.default_value);
    EXPECT_TRUE(word || (low && high && value && *low <= *value && *value <= *high))
        << option.name << ": " << option.default_value << " of " << option.values;
  }
}

TEST_P(Options, AreRefusedByNameInAnyOtherValue) {
  for (const MethodOption& option : info().options) {
    for (const char* wrong : {"no-such-value", "-1", "nan", "1e999"}) expect_refused(option, wrong);
    const Listed values = listed(option.values);
    if (!values.open) expect_refused(option, "99999999999999999999999");
    const auto low = number(values.low), high = number(values.high);
    if (!low || !high) continue;
    const bool whole =
        values.low.find('.') == std::string::npos && values.high.find('.') == std::string::npos;
    const auto text = [&](double value) {
      return whole ? std::to_string(int64_t(value)) : std::to_string(value);
    };
    expect_refused(option, text(*high + (whole ? 1 : 0.5)));
    if (*low >= 1) expect_refused(option, text(*low - 1));
  }
}

TEST_P(Options, ThatFixTheSizeLeaveNothingToATarget) {
  for (const std::string& name : split(info().size_option)) {
    SCOPED_TRACE(name);
    const MethodOption* size = nullptr;
    for (const MethodOption& option : info().options)
      if (option.name == name) size = &option;
    ASSERT_NE(size, nullptr);
    EXPECT_EQ(size->default_value, "auto");
    EXPECT_NE(info().sizing, Sizing::fixed);
    const Listed values = listed(size->values);
    const std::string fixed = number(values.low) ? values.low : values.words.back();
    MethodSpec named = spec();
    named.options = {{name, fixed}};
    EXPECT_EQ(default_target(named).kind, TargetKind::native);
    // A budget with room to spare changes nothing, and one that is too small is refused.
    const Coded native = tried(name, fixed, {TargetKind::native, 0});
    EXPECT_EQ(tried(name, fixed, {TargetKind::bytes, 1e6}).bytes, native.bytes);
    const double bytes = double(native.bytes.size());
    EXPECT_EQ(tried(name, fixed, {TargetKind::bytes, bytes}).bytes, native.bytes);
    const Error tight = test::error_of([&] { tried(name, fixed, {TargetKind::bytes, bytes - 1}); });
    EXPECT_EQ(tight.code(), Errc::unreachable_target) << tight.what();
  }
}

TEST_P(Options, OfRoundingAreTakenOrRefusedWithAReason) {
  const auto source = test::one_tensor(values_, {24, 40});
  for (Rounding rounding : {Rounding::automatic, Rounding::nearest, Rounding::stochastic}) {
    CompressOptions options = sized(values_.size());
    options.rounding = rounding;
    try {
      const Coded result = coded(source, options);
      test::expect_true(result.report, test::truth_of(*source, result.bytes));
    } catch (const Error& error) {
      EXPECT_NE(rounding, Rounding::automatic) << error.what();
      EXPECT_EQ(error.code(), Errc::usage) << error.what();
      EXPECT_NE(std::string_view(error.what()).find(info().name), std::string_view::npos) << error.what();
    }
  }
}

/// The name stands in the file as a word of its own, a hyphen being part of a word.
bool mentions(const std::string& path, std::string_view name) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  const std::string whole = text.str();
  const auto part_of_word = [&](size_t at) {
    return at < whole.size() &&
           (std::isalnum((unsigned char)whole[at]) || whole[at] == '-' || whole[at] == '_');
  };
  for (size_t at = whole.find(name); at != std::string::npos; at = whole.find(name, at + 1))
    if (!(at > 0 && part_of_word(at - 1)) && !part_of_word(at + name.size())) return true;
  return false;
}

TEST_P(Options, BelongToAMethodThatTheReadmeAndTheManualName) {
  EXPECT_TRUE(mentions(JSQ_SOURCE_DIR "/README.md", info().name));
  EXPECT_TRUE(mentions(JSQ_SOURCE_DIR "/man/jsq-methods.1.scd", info().name));
}

INSTANTIATE_TEST_SUITE_P(Registry, Options, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
