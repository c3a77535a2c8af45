// The coder of small directories. That its codes are what SPEC.md says is held by samples/decode_frame.py,
// which reads golden frames that have such directories.
#include "formats/wire/mixing_coder.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace jsq::wire {
namespace {

std::string random_bytes(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(count, '\0');
  for (char& byte : bytes) byte = char(random());
  return bytes;
}

std::vector<std::string> texts() {
  std::string names;
  for (int layer = 0; layer < 40; ++layer)
    for (const char* end : {".weight", ".bias"})
      names += "\x16layers." + std::to_string(layer) + ".linear" + end;
  return {"",
          std::string(1, '\0'),
          "a",
          std::string(300, '\0'),
          std::string(300, '\xff'),
          "The quick brown fox jumps over the lazy dog.",
          names,
          random_bytes(1000, 1),
          std::string(directory_primer()),
          std::string(most_mixed_bytes, 'x')};
}

TEST(MixingCoder, GivesBackWhatItCoded) {
  for (const std::string& text : texts())
    for (const std::string_view primer : {directory_primer(), std::string_view()}) {
      const std::string code = encode_mixed(primer, text);
      EXPECT_EQ(decode_mixed(primer, code, text.size()), text) << text.substr(0, 40);
    }
}

TEST(MixingCoder, RandomBytesTakeLittleMoreThanThemselves) {
  const std::string text = random_bytes(4000, 2);
  EXPECT_LT(encode_mixed(directory_primer(), text).size(), text.size() + text.size() / 16);
}

TEST(MixingCoder, WhatThePrimerHasTakesFewBytes) {
  EXPECT_LT(encode_mixed(directory_primer(), directory_primer()).size(), directory_primer().size() / 40);
  const std::string text = "worker0/layer1/0/conv1/weight worker0/layer1/0/conv2/weight";
  EXPECT_LT(2 * encode_mixed(directory_primer(), text).size(), encode_mixed({}, text).size());
}

TEST(MixingCoder, ACodeThatIsCutIsAnotherAndOneThatGoesOnIsRefused) {
  for (const std::string& text : texts()) {
    if (text.size() > 2000) continue;
    const std::string code = encode_mixed(directory_primer(), text);
    for (size_t kept = 0; kept < code.size(); kept += 1 + code.size() / 20)
      EXPECT_NE(decode_mixed(directory_primer(), code.substr(0, kept), text.size()), text) << kept;
    for (const char more : {'\0', '\1', '\xff'})
      EXPECT_FALSE(decode_mixed(directory_primer(), code + more, text.size()));
  }
}

TEST(MixingCoder, ReadsOrRefusesAnyBytes) {
  std::mt19937 random(3);
  for (uint32_t seed = 0; seed < 30; ++seed) {
    const std::string code = random_bytes(random() % 100, 100 + seed);
    const auto text = decode_mixed(directory_primer(), code, random() % 400);
    if (text) {
      EXPECT_EQ(encode_mixed(directory_primer(), *text), code);
    }
  }
}

TEST(MixingCoder, DecodesNoFurtherThanTheCodeReaches) {
  // 64 KiB from no bytes at all would have to be what zeros mean.
  const auto text = decode_mixed(directory_primer(), "", most_mixed_bytes);
  EXPECT_FALSE(text);
}

/// The lines of the only block of SPEC.md that follows "**Primer.**", with \xNN taken as a byte.
std::string primer_of_spec() {
  std::ifstream file(JSQ_SOURCE_DIR "/formats/SPEC.md");
  const std::string spec(std::istreambuf_iterator<char>(file), {});
  const size_t begin = spec.find("```\n", spec.find("**Primer.**")) + 4, end = spec.find("```", begin);
  std::string primer;
  for (size_t i = begin; i < end; ++i) {
    if (spec[i] == '\n') continue;
    if (spec.compare(i, 2, "\\x") == 0) {
      primer.push_back(char(std::stoi(spec.substr(i + 2, 2), nullptr, 16)));
      i += 3;
    } else {
      primer.push_back(spec[i]);
    }
  }
  return primer;
}

TEST(MixingCoder, ThePrimerIsThatOfTheSpecification) {
  EXPECT_EQ(primer_of_spec(), directory_primer());
}

}  // namespace
}  // namespace jsq::wire
