// What jointsq stores beside a tensor's blocks, and its decoder.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lib/methods/method.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq {

/// How options and descriptions call quantizers and maps.
inline constexpr std::pair<std::string_view, element::ClassQuantizer> joint_quantizers[] = {
    {"cell", element::ClassQuantizer::cell},
    {"mid", element::ClassQuantizer::mid},
    {"offmag", element::ClassQuantizer::offmag},
    {"sym", element::ClassQuantizer::sym}};
inline constexpr std::pair<std::string_view, MapPacker> joint_maps[] = {{"raw", MapPacker::raw},
                                                                        {"bitmap", MapPacker::bitmap},
                                                                        {"rice", MapPacker::rice},
                                                                        {"entropy", MapPacker::entropy}};

/// The stored form of a coder (SPEC.md, "Class parameters").
struct JointSqParameters {
  ClassCoder coder;
  std::vector<uint32_t> widths;
  uint8_t provenance = 0;  // allocator, reallocation << 4
};

/// Their bytes, with the ranges of the classes that are present.
std::string write_parameters(const JointSqParameters& stored,
                             const std::array<bool, element::max_classes>& present);
/// Bytes that write_parameters() gives.
size_t size_of_parameters(const element::ClassPlan& plan,
                          const std::array<bool, element::max_classes>& present, const EntropyModel& model);

std::unique_ptr<MethodDecoder> make_jointsq_decoder(std::string_view parameters, std::string_view what);

}  // namespace jsq
