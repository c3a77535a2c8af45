// The decoders of a directory's parameter sets, made when they are first used.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/wire/directory.hpp"
#include "lib/methods/method.hpp"

namespace jsq::wire {

class SetDecoders {
 public:
  /// The directory must outlive this, and its sets and tensors must not change.
  explicit SetDecoders(const Directory& directory);

  /// \throws Error damaged: the set is. Thread-safe.
  const MethodDecoder& of(uint32_t set) const;
  /// Whether blocks of the tensor without bytes are zeros, so that nobody looks at its parameters.
  bool empty_is_zero(const FrameTensor& tensor) const;
  /// The values of block b of tensor t from its payload, which is empty where a block takes no bytes.
  /// \throws Error damaged, naming `what`. Thread-safe.
  void decode(size_t t, size_t b, std::string_view payload, std::span<float> values,
              std::string_view what) const;
  /// A block, and where its values go.
  struct Block {
    size_t tensor, index;
    std::string_view payload;
    std::span<float> values;
    std::string_view what;
  };
  /// The same of each; neighbours of one parameter set are decoded side by side.
  void decode(std::span<const Block> blocks) const;
  /// How many blocks of tensor t had better be decoded at once.
  size_t blocks_together(size_t t) const;
  /// Of block b of tensor t.
  BlockPlace place(size_t t, size_t b) const;

 private:
  const Directory& directory_;
  std::vector<std::vector<uint32_t>> users_;  // tensors of each set
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<MethodDecoder>> decoders_;
};

}  // namespace jsq::wire
