// A frame held against the dumps it was made from: the same structure, and the error of the values as they
// are written back. Used by compress --verify and test --against.
#pragma once

#include <vector>

#include "jsq/compress.hpp"
#include "jsq/frame.hpp"

namespace jsq::tools {

/// Error of decoded values, and how many elements kept their sign: -1, 0 or 1.
struct MeasuredError : Distortion {
  uint64_t same_sign = 0;

  void add(const MeasuredError& other) noexcept;
  /// same_sign / elements; 1 without elements.
  double sign_agreement() const noexcept;
};

/// What decoded f64 elements are held against. Other types have one reference only.
enum class Reference : uint8_t {
  stored,  ///< the values of the dump
  coded,   ///< the values as f32, which is what coding starts from and what compress reports
};

/// Error of tensor `tensor` of the frame against tensor `source_tensor` of the source, decoded to the stored
/// dtype, block by block on `threads` threads, summed left to right. Non-finite elements of the source count
/// as exact where the frame kept them and as 0 where it replaced them by 0. \pre equal numbers of elements.
/// \throws Error damaged; assertion_failed when a kept element has other bits.
MeasuredError measure_tensor(const FrameReader& frame, size_t tensor, const GradientSource& source,
                             size_t source_tensor, unsigned threads, Reference reference = Reference::stored);

/// Error of dump `dump` of the frame against `original`, one entry for each tensor.
/// \throws Error assertion_failed naming the first difference in number, names, shapes or dtypes of the
/// tensors.
std::vector<MeasuredError> measure_dump(const FrameReader& frame, size_t dump, const InputDump& original,
                                        unsigned threads, Reference reference = Reference::stored);

/// Decodes all of the frame and holds it against the inputs and against what compress reported.
/// \throws Error assertion_failed when a sum differs by more than 1e-12 of its size.
void verify_frame(const FrameReader& frame, const std::vector<InputDump>& inputs,
                  const CompressReport& report, unsigned threads);

}  // namespace jsq::tools
