// What the methods that round every element to a grid share: scales of buckets or of the tensor, levels,
// level blocks. A method's file says which grid, norm and bucket its paper has; this file codes them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/methods/scheme.hpp"
#include "lib/packers/level_block.hpp"
#include "lib/quantizers/grid.hpp"

namespace jsq {

class OptionReader;

enum class ScaleNorm : uint8_t { none, linf, l2 };

/// How one tensor is dithered.
struct DitherPlan {
  Grid grid;
  uint64_t bucket = 0;  ///< elements that share a scale, counted from the start of each block; 0: the tensor
  ScaleNorm norm = ScaleNorm::linf;
  std::optional<LevelPacker> packer;  ///< empty: the smallest in each block
  bool nearest = false;
  double nominal_bits = 0;         ///< an element, as the paper counts; 0: the packed levels
  double nominal_scale_bits = 32;  ///< a scale, as the paper counts
};

class DitherScheme : public Scheme {
 public:
  DitherScheme(const TensorPool& pool, const EncoderContext& context, uint32_t wire_id)
      : pool_(pool), context_(context), wire_id_(wire_id) {}

  StoredSet stored_set(size_t t) const override;
  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override;
  bool deterministic() const override { return plan_.nearest; }
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;

 protected:
  /// The grid of tensor t; the default is the plan's.
  virtual Grid grid_of(size_t t) const;
  /// What magnitudes of tensor t are clipped to before they are coded (TernGrad does); the default is
  /// infinite.
  virtual float clipping_limit(size_t t) const;
  /// Scale of tensor t, for plans without buckets; the default is the plan's norm of the tensor.
  virtual float tensor_scale(size_t t) const;

  /// Finds the scales of plans without buckets; call when the plan's norm and bucket are set.
  void prepare_scales();

  DitherPlan plan_;
  const TensorPool& pool_;
  EncoderContext context_;

 private:
  /// encode() in one pass over the values, where levels of the fixed layout are all that is asked for.
  void encode_fixed(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                    BlockSums& sums) const;
  /// Whether encode_fixed() gives the same levels: it does not clip.
  bool fixed_alone(size_t t) const;
  /// Adds what the paper counts for a block of n elements beside its packed levels.
  void add_nominal_bits(uint64_t first, size_t n, BlockSums& sums) const;
  /// The same for the packed block, of this many bytes, and its entropy.
  void add_packed_bits(uint64_t first, size_t n, size_t bytes, double entropy_bits, BlockSums& sums) const;
  double scale_bits(uint64_t first, size_t n) const;

  uint32_t wire_id_;
  std::vector<float> tensor_scales_;
};

/// The f32 that stands for a norm: rounded, and at most the largest finite number.
float stored_scale(double norm);
/// The norm of a bucket as its scale.
float scale_of(ScaleNorm norm, std::span<const float> values);

/// The packer that the option `coder` names, empty for auto; base243 only for methods of three levels.
std::optional<LevelPacker> read_coder(const OptionReader& read, bool has_three_levels = false);

/// Decoder of every method that DitherScheme codes. `name` is the method's.
std::unique_ptr<MethodDecoder> make_dither_decoder(std::string_view name, std::string_view parameters,
                                                   std::string_view what);
/// Dithering rows' make_decoder.
template <const MethodRow& row>
std::unique_ptr<MethodDecoder> dither_decoder_of(std::string_view parameters, std::string_view what) {
  return make_dither_decoder(row.info.name, parameters, what);
}

}  // namespace jsq
