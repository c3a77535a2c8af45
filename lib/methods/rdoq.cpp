// rdoq: rate-distortion optimised quantization. One uniform quantizer step for all tensors of the pool (equal
// slope everywhere), levels without limit, entropy-coded with the scale that rows, columns or runs predict
// for each element, and chosen by true code lengths: the least |g - g^|^2 + lambda bits. Composition:
//   scale field (rows x columns, runs)  x  RD or trellis quantizer  x  context streams.
// This file holds the definition and what targets ask of it.
// Sources: entropy-constrained quantization, Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37 (1989); RDOQ as
// in the reference encoders of H.264 and HEVC; equal slopes, Shoham and Gersho, IEEE Trans. ASSP 36 (1988).

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <span>
#include <utility>

#include "jsq/error.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/rdoq_coding.hpp"
#include "lib/methods/rdoq_decoder.hpp"
#include "lib/methods/rdoq_errors.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_settings.hpp"
#include "lib/methods/rdoq_tail.hpp"
#include "lib/methods/rdoq_ways.hpp"
#include "lib/methods/rdoq_within.hpp"

namespace jsq {
namespace {

class RdoqEncoder final : public MethodEncoder {
 public:
  RdoqEncoder(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : pool_(pool), coding_(pool, read_rdoq_settings(spec, context)), ways_(coding_) {}

  void aim_native() override {
    throw Error(Errc::usage,
                "rdoq has no size of its own: give a target, such as ratio=32, bpw=1 or nmse=1e-3");
  }

  void shape_blocks(uint64_t body_bytes) override {
    if (codes_at(body_bytes)) coding_.prepare(double(body_bytes));
  }
  bool takes_blocks(size_t t) const override { return !coding_.plain().is_packed(t); }

  uint64_t aim_bytes(uint64_t body_bytes) override {
    RdoqAdapted& adapted = coding_.adapted;
    const bool whole = coding_.plain().whole();
    // What a sample expects may be a little off, and a frame too large costs a pass.
    const double wanted = double(body_bytes) * (whole ? 1.0 : learned_ ? *learned_ : 0.9975);
    if (!codes_at(body_bytes)) return drop_all();
    if (coding_.prepare(wanted)) adapted.trained.reset();
    exact_ = false;
    tail_.reset();
    if (std::optional<RdoqPlan> exact = coding_.plain().exact_plan(wanted)) {
      const double bytes = coding_.plain().exact_bytes(*exact);
      if (bytes <= double(body_bytes)) {
        coding_.drop_transforms();
        adapted.trained.reset();
        use(*std::move(exact));
        exact_ = true;
        return uint64_t(bytes);
      }
    }
    const bool again = adapted.trained && std::abs(wanted - aimed_) <= 0.05 * aimed_;
    aimed_ = wanted;
    std::optional<RdoqMeasured> best = ways_.best_within(wanted, again);
    if (!best) return drop_all();
    if (coding_.coded().whole() && !coding_.settings().dither && best->outcome.bytes < 0.995 * wanted) {
      RdoqMeasured fuller = trim(coding_, *best, wanted, HUGE_VAL);
      if (fuller.outcome.squared_error < best->outcome.squared_error) best = std::move(fuller);
    }
    if (coding_.takes_dependent(wanted)) {
      std::optional<RdoqMeasured> dependent = dependent_within(coding_, *best, wanted);
      if (dependent && dependent->outcome.squared_error < best->outcome.squared_error)
        best = std::move(dependent);
    }
    expected_ = best->outcome.bytes;
    use(std::move(best->plan));
    return uint64_t(std::ceil(expected_));
  }

  bool learn(uint64_t body_bytes) override {
    if (coding_.coded().whole() || dropped_ || exact_ || body_bytes == 0) return false;
    learned_ = std::clamp(expected_ / double(body_bytes), 0.5, 2.0);
    return true;
  }

  std::optional<size_t> aim_tail(double more, std::span<const TakenBlock> taken) override {
    if (coding_.coded().whole() || dropped_ || exact_ || coding_.settings().dither) return {};
    if (tail_) {
      tail_->try_again(more);
    } else {
      tail_.emplace(coding_, more, taken);
      if (!tail_->possible()) {
        tail_.reset();
        return {};
      }
    }
    if (!tail_->suffices()) return {};
    use(tail_->plan());
    return tail_->first();
  }

  void aim_payload_bits(uint64_t payload_bits) override {
    // Tables and scales of columns are no payload, and what they take depends on the aim.
    uint64_t apart = 64;
    for (int round = 0; round < 4; ++round) {
      const uint64_t allowed = payload_bits / 8 + apart, expected = aim_bytes(allowed);
      const uint64_t found = dropped_ ? 0 : coding_.parameters().size() - coding_.coded().packed_bytes();
      if (dropped_ || expected <= payload_bits / 8 + found) {
        if (dropped_ || found <= apart + payload_bits / 4096 || round == 3) return;
      }
      apart = found > 2 ? found - 2 : 0;
    }
    aim_bytes(payload_bits / 8);
  }

  void aim_error(const Target& target) override {
    if (target.kind == TargetKind::hprime)
      throw Error(Errc::usage, to_string(target) +
                                   ": hprime is the noise model of methods with width classes, such as "
                                   "jointsq; give rdoq an nmse, maxabs or cosine target");
    if (pool_.summary().max_key == 0) {
      drop_all();
      return;
    }
    coding_.prepare(double(pool_.summary().elements) / 8);
    ways_.chooser().forget();  // factors of another coarseness
    coding_.adapted.lambda = coding_.settings().lambda.value_or(usual_lambda);
    if (target.kind != TargetKind::maxabs)
      use(plan_for_loss(coding_, ways_.chooser(), target));
    else if (coding_.plain().largest() <= target.value)
      drop_all();
    else
      use(plan_for_largest_error(coding_, target));
  }

  StoredSet stored_set(size_t) const override {
    return {rdoq_row.info.wire_id, dropped_ ? no_levels() : coding_.parameters()};
  }
  uint8_t block_log2(size_t) const override { return coding_.block_log2(); }

  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    BlockSums& sums) const override {
    static thread_local std::vector<float> decoded_of_thread;
    std::vector<float>& decoded = decoded_of_thread;
    decoded.resize(values.size());
    const size_t before = out.size();
    if (dropped_)
      std::fill(decoded.begin(), decoded.end(), 0.0f);
    else
      coding_.coded().encode_block(t, first, values, out, decoded);
    round_to_stored(pool_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(values, decoded);
    sums.squared_error += errors.squared_error;
    sums.dot += errors.dot;
    sums.decoded_energy += errors.decoded_energy;
    sums.error_sum += errors.error_sum;
    sums.max_error = std::max(sums.max_error, errors.max_error);
    sums.nominal_bits += 8 * (out.size() - before);
    sums.entropy_bits += 8 * double(out.size() - before);
    sums.expected_error += errors.squared_error;
  }

  void encode_unmeasured(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                         BlockSums& sums) const override {
    const size_t before = out.size();
    if (!dropped_) coding_.coded().encode_block(t, first, values, out, {});
    sums.nominal_bits += 8 * (out.size() - before);
  }

  bool codes_on_processor() const override { return true; }

  PoolReport report(const BlockSums& total) const override {
    PoolReport report;
    report.noise.per_element = report.noise.eq6 = report.noise.eq6_nonzero = report.noise.uniform =
        std::numeric_limits<double>::quiet_NaN();
    const uint64_t packed = dropped_ ? 0 : 8 * coding_.coded().packed_bytes();
    report.payload_bits = total.nominal_bits + packed;
    report.entropy_bits = total.entropy_bits + double(packed);
    report.expected_squared_error = total.expected_error;
    return report;
  }

 private:
  void use(RdoqPlan plan) {
    dropped_ = false;
    coding_.use(std::move(plan));
  }

  /// Whether there is anything to code, and room for it.
  bool codes_at(uint64_t body_bytes) const { return pool_.summary().max_key > 0 && body_bytes >= 8; }

  uint64_t drop_all() {
    dropped_ = true;
    return no_levels().size();
  }

  /// Parameters of a pool that is all zeros.
  static std::string no_levels() { return write_rdoq_parameters({}); }

  const TensorPool& pool_;
  RdoqCoding coding_;
  RdoqWays ways_;
  std::optional<RdoqTail> tail_;
  double aimed_ = 0, expected_ = 0;  ///< bytes, of the last aim
  std::optional<double> learned_;    ///< of a sample: bytes expected / bytes that the last aim took
  bool dropped_ = true;
  bool exact_ = false;  ///< the last aim took an exact copy
};

}  // namespace

const MethodRow rdoq_row = {
    {"rdoq",
     24,
     "rdoq: rate-distortion optimised quantization with scale contexts",
     "jsq; quantization by rate and distortion: Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37, 1989; equal "
     "slopes: Shoham and Gersho, IEEE Trans. ASSP 36, 1988",
     "biased: decisions by rate and distortion shrink what is small; with stochastic rounding unbiased",
     "error feedback to converge",
     "allgather",
     "none",
     "all bits of the blocks",
     "nominal + step, tables and column scales, a few hundred bytes a frame",
     "cpu, cuda: compression on a device searches and codes on the processor; the device sums and multiplies "
     "matrices",
     rdoq_options,
     Sizing::continuous,
     {},
     false,
     Feedback::residual},
    nullptr,
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<MethodEncoder> { return std::make_unique<RdoqEncoder>(pool, spec, context); },
    make_rdoq_decoder,
    nullptr,
    true,
    true};

}  // namespace jsq
