// Any scheme as a MethodEncoder: the search for the size that meets a target, by encoding and measuring.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "lib/methods/scheme.hpp"

namespace jsq {

class SizedEncoder final : public MethodEncoder {
 public:
  /// `context` as it was given to the scheme; `name` is for messages.
  SizedEncoder(const TensorPool& pool, std::unique_ptr<Scheme> scheme, std::string name,
               const EncoderContext& context);

  void aim_native() override;
  uint64_t aim_bytes(uint64_t body_bytes) override;
  bool learn(uint64_t body_bytes) override;
  void aim_payload_bits(uint64_t payload_bits) override;
  void aim_error(const Target& target) override;
  StoredSet stored_set(size_t t) const override { return scheme_->stored_set(t); }
  uint8_t block_log2(size_t) const override { return scheme_->block_log2(); }
  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    BlockSums& sums) const override;
  void encode_unmeasured(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                         BlockSums& sums) const override;
  std::unique_ptr<DeviceBlocks> encode_on_device() const override {
    return pool_.device() != nullptr ? scheme_->encode_on_device(pool_) : nullptr;
  }
  PoolReport report(const BlockSums& total) const override;
  void save(State& state) const override { scheme_->save(state); }

 private:
  /// What coding at a size takes and loses; of a draft, scaled to the whole pool.
  struct Measurement {
    double bytes = 0;  ///< blocks and parameter sets
    BlockSums sums;    ///< of errors, and the energy, only if they were asked for
    double energy = 0;
    bool with_errors = true;
    double nmse() const;
    double cosine() const;
  };
  enum class Asked : uint8_t { size, errors };
  const Measurement& measure(uint64_t size, bool draft, Asked asked);
  void code_block(size_t t, uint64_t first, std::span<const float> values, std::string& out, BlockSums& sums,
                  bool with_errors) const;
  /// Of the whole pool.
  Measurement measure_on_device(DeviceBlocks& coded) const;
  void set(uint64_t size);
  uint64_t stored_bytes() const;
  /// The largest size of which `amount` is at most `wanted`, or the least size; `amount` does not fall with
  /// the size.
  template <class Amount>
  uint64_t largest_within(double wanted, bool draft, Amount amount);
  /// Bytes by size.
  using Taken = std::map<uint64_t, uint64_t>;
  /// The size that should take `body_bytes`, from what other sizes take.
  uint64_t size_from(const Taken& taken, double body_bytes) const;
  /// Moves the size until what it is told to take is close below `body_bytes`, where the scheme tells; the
  /// last told, or `expected`.
  double follow_told(double body_bytes, double expected);
  /// The smallest size in [low, high] whose `error` is at most `target`; `high` when none is.
  template <class ErrorOf>
  uint64_t smallest_within(double target, bool draft, uint64_t low, uint64_t high, ErrorOf error);

  const TensorPool& pool_;
  std::unique_ptr<Scheme> scheme_;
  std::string name_;
  EncoderContext context_;
  std::map<std::pair<uint64_t, bool>, Measurement> measured_;
  Taken taken_;  ///< by real encodes
  uint64_t size_ = 0, guess_ = 0;
  bool whole_draft_ = false;  ///< the pool is its own draft
};

}  // namespace jsq
