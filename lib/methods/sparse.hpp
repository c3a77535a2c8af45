// What the methods that keep some elements and drop the others share: which elements are kept, how their
// positions and values are coded, and the decoder of all of them. A method's file says which elements, values
// and size its paper has.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/element/sparse.hpp"
#include "lib/allocators/listed_elements.hpp"
#include "lib/allocators/magnitude_index.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"
#include "lib/methods/random_subset.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/packers/class_block.hpp"

namespace jsq {

/// What is sent of a kept element. The numbers are those of the wire format.
enum class SparseValues : uint8_t {
  f32 = 0,        ///< the value
  f16 = 1,        ///< the value in half precision, saturating
  bf16 = 2,       ///< the value in bfloat16, saturating
  quantized = 3,  ///< a code word of 1..8 bits, on the range of all kept magnitudes
  levels = 4,     ///< a level of a uniform grid that each block has the scale of
};

/// Which elements are kept.
enum class Positions : uint8_t {
  magnitude,      ///< the k largest
  shared_random,  ///< a random subset that the decoder draws too, from the frame's seed
  own_random,     ///< a random subset of the worker's own
};

enum class ScaleBeta : uint8_t { off, on, automatic };

struct SparsePlan {
  Positions positions = Positions::magnitude;
  SparseValues values = SparseValues::f32;
  std::optional<MapPacker> map;  ///< empty: the smallest; of no use with shared_random
  uint32_t width = 0;            ///< quantized: bits of a code word
  element::ClassQuantizer quantizer = element::ClassQuantizer::cell;
  uint32_t steps = 1;              ///< levels: s
  ScaleNorm norm = ScaleNorm::l2;  ///< levels: of a tensor's kept values
  ScaleBeta beta =
      ScaleBeta::off;   ///< levels: decoded values are divided by 1 + beta, beta = min(k / s^2, sqrt(k) / s)
  bool scaled = false;  ///< random positions: kept values are multiplied by elements / k
  bool stochastic = false;         ///< quantized and levels
  double nominal_value_bits = 32;  ///< a kept element, as the paper counts
  double nominal_tensor_bits = 0;  ///< a tensor, as the paper counts
};

using element::MagnitudeCut;

/// The k largest of a population, of equals those of the lower index; zeros are never among them.
MagnitudeCut largest_magnitudes(MagnitudeIndex& index, uint64_t k);

class SparseScheme : public Scheme {
 public:
  SparseScheme(const TensorPool& pool, const EncoderContext& context, const MethodInfo& info);
  ~SparseScheme() override;

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool draft) override { keep(size, draft); }
  void outline(uint64_t size) override;
  StoredSet stored_set(size_t t) const override;
  uint8_t block_log2() const override { return block_log2_; }
  double fixed_bytes(bool draft) const override;
  std::optional<double> told_bytes() const override;
  bool deterministic() const override;
  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override;
  /// The device lists what is kept, while up to most_device_listed elements are, and sums errors.
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;
  void describe(PoolReport& report) const override;

 protected:
  /// Prepares coding of k elements with the plan as it is.
  void keep(uint64_t k, bool draft);
  /// The cut of `index`, in indices of its population; by default the k largest.
  virtual MagnitudeCut select(MagnitudeIndex& index, uint64_t k) const;
  /// Whether that asks about the k largest alone.
  virtual bool selects_largest() const { return true; }

  const TensorPool& pool_;
  EncoderContext context_;
  SparsePlan plan_;
  SizeRange sizes_;

 private:
  struct Draft;
  struct Block;
  struct Scale {
    float norm = 0;    ///< what values are divided by
    float stored = 0;  ///< what levels are multiplied with
  };

  struct BlockShape {
    uint8_t log2;
    uint32_t lanes;  ///< of its coder
  };
  BlockShape block_shape(uint64_t k, bool draft) const;
  void choose_positions(uint64_t k, Draft* draft);
  void list_largest(uint64_t k);
  void choose_value_range(uint64_t k, Draft* draft);
  void choose_mean(std::span<const PoolBlock> blocks);
  void choose_scales(std::span<const PoolBlock> blocks, double share);
  void choose_packers(std::span<const PoolBlock> blocks);
  Draft& draft_of(uint8_t block_log2);
  template <class Use>
  void for_blocks(std::span<const PoolBlock> blocks, Use use) const;
  std::string write_parameters(uint32_t shift) const;
  bool stores_map() const { return plan_.positions != Positions::shared_random; }
  float gain() const;
  double share_kept() const;

  /// Of the kept elements of a block.
  struct Moments {
    double energy = 0;    ///< sum of g^2
    double error = 0;     ///< expectation of (g^ - g)^2
    double variance = 0;  ///< of g^
  };
  /// What list_kept found in a block, and for levels what was drawn for it; the passes of one size share it.
  struct KeptList {
    bool known = false, drawn = false;
    std::vector<uint32_t> indices;
    std::vector<float> values;  ///< where a device listed them
    std::vector<int32_t> levels;
    Moments moments;
  };
  static constexpr uint64_t most_listed = uint64_t(1) << 22;         ///< elements: 16 MiB
  static constexpr uint64_t most_device_listed = uint64_t(1) << 27;  ///< 1 GiB of indices and values
  void forget_lists(bool draft);
  void select_in_block(size_t t, uint64_t first, std::span<const float> values, Block& block) const;
  /// Of n elements, whose values are not looked at where they are listed already.
  void list_kept(size_t t, uint64_t first, size_t n, std::span<const float> values, Block& block) const;
  /// Whether what is kept is taken from the largest elements, which are listed.
  bool takes_listed() const;
  KeptList* list_of(size_t t, uint64_t first) const;
  void code_values(size_t t, const BlockPlace& place, size_t n, Block& block, bool decodes) const;
  void code_exact(size_t t, Block& block) const;
  void code_quantized(const BlockPlace& place, Block& block) const;
  void code_levels(size_t t, const BlockPlace& place, size_t n, Block& block) const;
  void draw_levels(size_t t, const BlockPlace& place, size_t n, Block& block) const;
  void pack(const BlockPlace& place, size_t n, Block& block, std::string& out, BlockSums& sums) const;
  /// What the expected error of a block depends on beside what is kept.
  struct Energy {
    double values = 0;             ///< sum of g^2
    double random_sent_error = 0;  ///< of half-precision values at random positions
  };
  Energy energy_of(std::span<const float> values) const;
  double expected_error(const Energy& energy, const Moments& kept) const;

  friend class SparseDeviceBlocks;
  bool lists_on_device() const { return pool_.device() != nullptr && k_ <= most_device_listed; }
  void list_on_device(std::span<const PoolBlock> blocks);
  /// Draws the random words of a pool's blocks on the device.
  RandomSubset::Lister words_on_device(uint64_t seed) const;
  BlockPlace place_of(const PoolBlock& block) const;

  const MethodInfo& info_;
  std::unique_ptr<ListedElements> largest_;  ///< of a large pool, where few of its elements are kept
  std::unique_ptr<MagnitudeIndex> index_;    ///< of those, or of the pool
  std::unique_ptr<RandomSubset> subset_;
  std::map<uint8_t, std::unique_ptr<Draft>> drafts_;
  std::vector<uint32_t> shifts_;  ///< low bits of the tensors' keys that are always zero

  struct Prepared {
    uint64_t k = 0;
    uint32_t steps = 0;
    bool draft = false;
    bool operator==(const Prepared&) const = default;
  };
  std::optional<Prepared> prepared_;
  bool outlining_ = false, on_draft_ = false;
  uint64_t k_ = 0;
  uint8_t block_log2_ = 16;
  MagnitudeCut cut_;
  SubsetCut subset_cut_;
  const RandomSubset* cut_subset_ = nullptr;  ///< that it is a cut of
  uint32_t least_key_ = 0, most_key_ = 0;     ///< of the kept, before a shift; in the value format's bits
  mutable std::vector<KeptList> lists_;       ///< by block of the pool; empty: not kept
  bool on_device_ = false;                    ///< they are from a device, with values
  std::vector<size_t> first_list_;            ///< by tensor
  std::vector<Scale> scales_;
  ClassCoder coder_;
  double map_bits_ = 0, value_bits_ = 0, told_bytes_ = 0;
};

/// Options that sparse methods share.
constexpr std::pair<std::string_view, MapPacker> sparse_map_names[] = {{"raw32", MapPacker::index32},
                                                                       {"packed", MapPacker::packed},
                                                                       {"bitmap", MapPacker::bitmap},
                                                                       {"rice", MapPacker::rice},
                                                                       {"entropy", MapPacker::entropy}};
constexpr MethodOption k_option = {"k", "auto|1..2^62", "auto",
                                   "kept elements, at most all; auto: as density says"};
constexpr MethodOption density_option = {
    "density", "auto|0..1", "auto",
    "share of the elements that is kept, at least one; auto: what the target allows, without a target 0.01"};
constexpr MethodOption map_option = {"map", "auto|raw32|packed|bitmap|rice|entropy", "auto",
                                     "how positions are stored; raw32: 32 bits an index as published code "
                                     "sends, packed: ceil(log2 block); auto: the smallest"};

/// Sizes of the options k and density over `elements` elements.
SizeRange kept_sizes(const OptionReader& read, uint64_t elements, double native_density = 0.01);
std::optional<MapPacker> read_map(const OptionReader& read);

/// Decoder of every method that SparseScheme codes. `name` is the method's.
std::unique_ptr<MethodDecoder> make_sparse_decoder(std::string_view name, std::string_view parameters,
                                                   std::string_view what);
/// Sparse rows' make_decoder.
template <const MethodRow& row>
std::unique_ptr<MethodDecoder> sparse_decoder_of(std::string_view parameters, std::string_view what) {
  return make_sparse_decoder(row.info.name, parameters, what);
}

}  // namespace jsq
