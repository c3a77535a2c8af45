// The registry of methods: names, wire ids, options and the text form of a choice.
#include <gtest/gtest.h>

#include <set>

#include "jsq/error.hpp"
#include "jsq/method.hpp"
#include "lib/methods/method.hpp"

namespace jsq {
namespace {

Errc code_of(const std::string& text, std::string* message = nullptr) {
  try {
    parse_method(text);
  } catch (const Error& error) {
    if (message) *message = error.what();
    return error.code();
  }
  return Errc::internal;
}

TEST(Registry, HasDistinctNamesAndWireIdsAndEveryRowExplainsItself) {
  std::set<std::string_view> names;
  std::set<uint32_t> ids;
  for (const MethodInfo* info : methods()) {
    EXPECT_TRUE(names.insert(info->name).second) << info->name;
    EXPECT_TRUE(ids.insert(info->wire_id).second) << info->wire_id;
    EXPECT_GT(info->wire_id, 0u);
    EXPECT_EQ(&method_named(info->name), info);
    EXPECT_EQ(&method_with_id(info->wire_id).info, info);
    for (std::string_view text :
         {info->title, info->source, info->bias, info->needs, info->aggregation, info->random_numbers,
          info->nominal_bits, info->honest_bits, info->backends})
      EXPECT_FALSE(text.empty()) << info->name;
    std::set<std::string_view> keys;
    for (const MethodOption& option : info->options) {
      EXPECT_TRUE(keys.insert(option.name).second) << option.name;
      for (std::string_view text : {option.values, option.default_value, option.help})
        EXPECT_FALSE(text.empty()) << option.name;
      EXPECT_EQ(MethodSpec{std::string(info->name)}.option(option.name), option.default_value);
    }
  }
  EXPECT_EQ(method_named("jointsq").wire_id, 1u);  // never changes
}

TEST(MethodWithId, SendsAnUnknownIdToANewerJsq) {
  for (uint32_t id : {0u, 999999u, UINT32_MAX}) {
    try {
      method_with_id(id);
      ADD_FAILURE() << id;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::newer_format);
    }
  }
}

TEST(ParseMethod, ReadsNamesWithAndWithoutOptionsAndWritesThemBack) {
  for (const char* text : {"jointsq", "jointsq:quant=mid", "jointsq:alloc=literal,realloc=hill,rounds=3"})
    EXPECT_EQ(to_string(parse_method(text)), text);
  const MethodSpec spec = parse_method("jointsq:quant=mid,widths=013");
  EXPECT_EQ(spec.option("quant"), "mid");
  EXPECT_EQ(spec.option("widths"), "013");
  EXPECT_EQ(spec.option("alloc"), "exact");
  EXPECT_EQ(MethodSpec().name, "jointsq");
}

TEST(ParseMethod, NamesTheNearestNameWhenOneIsUnknown) {
  std::string message;
  EXPECT_EQ(code_of("jointsk", &message), Errc::unknown_name);
  EXPECT_NE(message.find("'jointsq'"), std::string::npos) << message;
  EXPECT_EQ(code_of("jointsq:qant=mid", &message), Errc::unknown_name);
  EXPECT_NE(message.find("'quant'"), std::string::npos) << message;
  EXPECT_EQ(code_of("", &message), Errc::unknown_name);
  EXPECT_EQ(code_of(":quant=mid", &message), Errc::unknown_name);
}

TEST(ParseMethod, RefusesMalformedOptions) {
  for (const char* text :
       {"jointsq:quant", "jointsq:quant=", "jointsq:=mid", "jointsq:quant=mid,,alloc=exact",
        "jointsq:quant=mid,quant=sym", "jointsq:,", "jointsq:quant=mid,"})
    EXPECT_EQ(code_of(text), Errc::usage) << text;
}

}  // namespace
}  // namespace jsq
