// What JointSQ's noise models say of each way to allocate bits on a dump, all at one cost: the payload bits
// that a method spends when it meets its target. Nothing is encoded here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "jsq/allocation.hpp"
#include "jsq/compress.hpp"
#include "jsq/export.hpp"

namespace jsq {

/// Model noise of one allocator at c payload bits, on the whole dump or on one tensor of it.
struct ModelNoise {
  uint64_t payload_bits = 0;  ///< spent; at most c
  NoiseReport noise;  ///< of one tensor: no Eq. 3 (its co-compressor has the budget of the whole dump)
  std::vector<uint64_t> members;  ///< of each class; of one tensor only
  /// Eq. 9 for the step from Eq. 3's co-compressor to this allocation; of a whole dump only.
  std::optional<ExchangeReport> exchange;
};

struct AllocatorModel {
  std::string allocator;  ///< exact, literal, sampled, reallocated
  MethodSpec method;      ///< the method with this allocator
  bool as_given = false;  ///< that is the method as it was given
  ModelNoise model;
  std::vector<ModelNoise> tensors;  ///< the same allocation seen tensor by tensor
  std::vector<double> thresholds;   ///< smallest magnitude of each class; [0] is 0
};

struct AllocatorModelOptions {
  MethodSpec method;                ///< one with an option `alloc`
  std::vector<uint32_t> widths;     ///< of its classes (PoolReport::widths)
  uint64_t payload_bits = 0;        ///< c (PoolReport::payload_bits, summed)
  uint64_t seed = 0;                ///< of the sampled allocator
  uint64_t memory_limit_bytes = 0;  ///< 0: none
  std::string_view only;            ///< name of the one allocator that is wanted; "": all
};

/// True where a method allocates bits by classes, which the models are about.
JSQ_API bool allocates_bits(const MethodSpec& method);

/// The models of the allocators exact, literal and sampled, and of the paper's greedy with reallocation where
/// the widths are the paper's {0, 2, 4, 8}. The tensors of the dump share the budget. Holds them in memory,
/// five bytes an element. A handful of passes for each allocator. \throws Error usage (a method without
/// allocators), unknown_name (`only`), limit, read_failed.
JSQ_API std::vector<AllocatorModel> allocator_models(const InputDump& input,
                                                     const AllocatorModelOptions& options);

}  // namespace jsq
