// The encoder's side of transforms: a pool as its parts are after their transforms, on which scales, training
// and coding work as on any other.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "lib/core/pool.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_transforms.hpp"

namespace jsq {

/// Where a tensor's parts may have transforms.
std::vector<TransformSite> transform_sites(const PoolTensor& tensor);

/// What the encoder may choose for one part.
struct TransformChoice {
  bool dct = false;
  std::shared_ptr<const PartFactors> factors;
  bool any() const { return dct || factors; }
};
/// A part of a pool that may have a transform.
struct PoolSite {
  size_t t = 0;
  uint64_t first = 0;  ///< element of the tensor
  TransformSite site;
};
std::vector<PoolSite> pool_sites(const TensorPool& pool);

/// Transforms as chosen, by site, with factors in kappas of `unit` and measured scales of frequencies. The
/// same for any number of threads.
Transforms make_transforms(const TensorPool& pool, std::span<const PoolSite> sites,
                           std::span<const TransformChoice> choices, const Reconstruction& unit);

class TransformStage {
 public:
  /// `cut_log2`: by tensor, log2 of the elements that are coded together; kernels across their borders stay
  /// as they are. The pool outlives the stage.
  TransformStage(const TensorPool& pool, Transforms transforms, std::vector<uint8_t> cut_log2);
  ~TransformStage();

  const TensorPool& pool() const { return *pool_; }
  const TensorPool& original() const { return original_; }
  const Transforms& transforms() const { return transforms_; }
  /// Empty without DCT.
  std::span<const int16_t> frequencies(size_t t, size_t part) const;

 private:
  class Source;
  friend class Source;
  void transform(size_t t, uint64_t first, std::span<float> out) const;
  void transform_kernels(size_t t, const PartPiece& place, const PartTransform& transform,
                         std::span<float> out) const;

  const TensorPool& original_;
  Transforms transforms_;
  std::vector<uint8_t> cut_log2_;
  std::vector<bool> has_transforms_;
  std::vector<TensorParts> parts_;
  std::vector<std::vector<float>> cache_;  ///< by tensor, in a small pool
  std::unique_ptr<Source> source_;
  std::unique_ptr<TensorPool> pool_;
};

}  // namespace jsq
