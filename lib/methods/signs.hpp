// What the methods of one bit an element share: the bits of a block, and the scheme of signSGD and
// EF-signSGD, whose signs have one magnitude a tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/levels.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq {

/// signs[i] = 1 where values[i] < 0, else 0: zeros of either sign count as positive.
void signs_of(std::span<const float> values, std::span<int32_t> signs);
/// Appends one bit for each sign, the first in the highest bit of a byte, padded with zeros.
void write_signs(std::span<const int32_t> signs, std::string& out);
/// Reads exactly signs.size() bits from exactly `bytes`.  \throws Error damaged, naming `what`.
void read_signs(std::string_view bytes, std::span<int32_t> signs, std::string_view what);

/// Signs on the device: levels 0 and 1, and what they decode to.
cuda::LevelTensor sign_tensor(float positive, float negative);
/// The layout of a block of signs there, empty where all its elements are zero, which leaves `sums` alone.
cuda::LevelLayout sign_layout(size_t elements, const cuda::LevelSums& found, BlockSums& sums);

/// What a sign decodes to.
enum class SignScale : uint8_t {
  none,  ///< 1
  mean,  ///< the mean magnitude of the tensor
};

class SignScheme final : public Scheme {
 public:
  SignScheme(const TensorPool& pool, uint32_t wire_id, SignScale scale);
  SizeRange sizes() const override { return {}; }
  void set_size(uint64_t, bool) override {}
  bool deterministic() const override { return true; }
  StoredSet stored_set(size_t t) const override;
  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override;
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;

 private:
  /// Adds what the paper counts for a block of n elements, and unless all are zero the entropy of their
  /// signs.
  void add_nominal_bits(uint64_t first, size_t n, BlockSums& sums) const;
  void add_entropy_bits(uint64_t first, size_t n, uint64_t negatives, BlockSums& sums) const;

  uint32_t wire_id_;
  SignScale scale_;
  std::vector<float> magnitudes_;  ///< of each tensor's signs
};

/// Decoder of what SignScheme codes. `name` is the method's.
std::unique_ptr<MethodDecoder> make_sign_decoder(std::string_view name, std::string_view parameters,
                                                 std::string_view what);

}  // namespace jsq
