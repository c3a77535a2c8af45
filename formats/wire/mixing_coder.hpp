// Short byte strings, such as directories of small frames, coded by context mixing: every bit is predicted
// from what followed the same contexts before, the predictions are mixed by weights that learn, and an
// arithmetic coder takes the bit at the mixed probability. Integers only, so that every machine predicts
// alike. SPEC.md, "Mixed bytes", is the definition. About a tenth of a microsecond a bit: not for large data.
// Sources: context mixing, Mahoney, Florida Tech. CS-2005-16 (2005); logistic mixing as in PAQ7.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace jsq::wire {

/// Longest text that is coded so: bounds what decoding a few bytes can cost.
constexpr size_t most_mixed_bytes = size_t(1) << 16;

/// A text in the manner of directories, which the coder has seen before it begins.
std::string_view directory_primer();

/// Code of `text` for a coder that has seen `primer`.  O(bytes of both).
std::string encode_mixed(std::string_view primer, std::string_view text);

/// The text of `size` bytes that `code` stands for; nothing where `code` is not what encode_mixed would leave
/// for it.
std::optional<std::string> decode_mixed(std::string_view primer, std::string_view code, size_t size);

}  // namespace jsq::wire
