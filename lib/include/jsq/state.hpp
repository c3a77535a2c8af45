// What a worker keeps from one step of a sequence to the next: residuals, momenta, low-rank factors. A value
// that is saved as a frame of the method fp32 and loaded again exactly, so that `jsq list`, `test` and
// `decompress` work on it too.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

class FrameReader;

class JSQ_API State {
 public:
  /// A tensor that the state knows, by name, with its shape and what is kept for it.
  struct Tensor {
    std::vector<uint64_t> shape;
    std::map<std::string, std::vector<float>> arrays;  ///< by name: "e", "u", "v", "q"
    std::map<std::string, uint64_t> numbers;           ///< by name: "parity", "rank"
  };

  /// Steps done; random numbers differ from step to step.
  uint64_t step = 0;
  /// The method that the state belongs to, without its options; "" before the first step.
  std::string method;

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  /// The array, or null.
  const std::vector<float>* find(const std::string& tensor, const std::string& array) const;
  void set(const std::string& tensor, const std::string& array, std::vector<float> values);
  std::optional<uint64_t> number(const std::string& tensor, const std::string& key) const;
  void set_number(const std::string& tensor, const std::string& key, uint64_t value);

  /// Makes the state that of `method` for tensors of these names and shapes; a fresh state takes them over.
  /// \throws Error usage when it belongs to another method, a name occurs twice, or names or shapes differ
  /// from those it has; the message tells both.
  void bind(const std::string& method, const std::vector<const TensorInfo*>& tensors);

  /// Writes the state as a frame.  \throws Error write_failed.
  void save(ByteSink& out) const;
  /// \throws Error not_found, damaged, and usage for a frame that is no state.
  static State load(const std::string& path);
  /// The same from memory, which is read during the call only.
  static State from_bytes(std::string_view bytes);

 private:
  static State of_frame(const FrameReader& frame, const std::string& path);

  std::map<std::string, Tensor> tensors_;
};

}  // namespace jsq
