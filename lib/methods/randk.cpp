// Rand-k: a uniform k-subset that sender and receivers draw from the shared seed, so that values alone are
// sent. Scaled by d / k it is unbiased: E |g^ - g|^2 = (d / k - 1) |g|^2; unscaled it is a
// contraction: (1 - k / d) |g|^2. Workers keep the same elements, so that their messages can be added.
#include <algorithm>
#include <cfloat>

#include "lib/collectives/dense.hpp"
#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    k_option,
    density_option,
    {"values", "f32|f16|bf16", "f32", "what is sent of a kept element"},
    {"scale", "auto|on|off", "auto",
     "kept values times d / k; auto: on in a single shot, off with error feedback"},
};

SparseValues read_values(const OptionReader& read) {
  return read.choice<SparseValues>(
      "values", {{"f32", SparseValues::f32}, {"f16", SparseValues::f16}, {"bf16", SparseValues::bf16}});
}

class RandkScheme final : public SparseScheme {
 public:
  RandkScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, randk_row.info) {
    const OptionReader read(spec);
    sizes_ = kept_sizes(read, pool.summary().elements);
    plan_.positions = Positions::shared_random;
    plan_.values = read_values(read);
    plan_.nominal_value_bits = plan_.values == SparseValues::f32 ? 32 : 16;
    plan_.scaled = read.is("scale", "auto") ? context.state == nullptr : read.flag("scale");
  }
};

/// Values at the shared positions of one tensor are a dense message of their own.
class RandkEndpoint final : public Endpoint {
 public:
  RandkEndpoint(const MethodSpec& spec, const EndpointContext& context, std::span<const float> values) {
    const OptionReader read(spec);
    const uint64_t k = kept_sizes(read, values.size()).native;
    constexpr size_t length = 65536;
    std::vector<SubsetStretch> stretches;
    for (size_t first = 0; first < values.size(); first += length)
      stretches.push_back({context.tensor, first, std::min(length, values.size() - first)});
    list_subset(RandomSubset(context.seed, std::move(stretches)).cut(k), context.seed, context.tensor, 0,
                values.size(), kept_);
    if (k > 0 && (read.is("scale", "auto") || read.flag("scale")))
      gain_ = float(double(values.size()) / double(k));
    std::vector<float> sent(kept_.size());
    for (size_t i = 0; i < kept_.size(); ++i) sent[i] = values[kept_[i]];
    const SparseValues format = read_values(read);
    const DType dtype = format == SparseValues::f32   ? DType::f32
                        : format == SparseValues::f16 ? DType::f16
                                                      : DType::bf16;
    values_ = make_dense_endpoint(dtype, context, sent);
  }
  uint32_t rounds() const override { return values_->rounds(); }
  std::string message(uint32_t round) override { return values_->message(round); }
  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const override {
    return values_->add(round, into, from, edge);
  }
  uint64_t overflowed() const override { return values_->overflowed(); }
  void receive(uint32_t round, std::string_view sum) override { values_->receive(round, sum); }
  void mean(std::span<float> out) const override {
    std::vector<float> sent(kept_.size());
    values_->mean(sent);
    scatter(sent, out);
  }
  void own(std::span<float> out) const override {
    std::vector<float> sent(kept_.size());
    values_->own(sent);
    scatter(sent, out);
  }

 private:
  void scatter(std::span<const float> sent, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0f);
    for (size_t i = 0; i < kept_.size(); ++i) out[kept_[i]] = std::clamp(sent[i] * gain_, -FLT_MAX, FLT_MAX);
  }

  std::vector<uint32_t> kept_;
  float gain_ = 1;
  std::unique_ptr<Endpoint> values_;
};

}  // namespace

const MethodRow randk_row = {
    {.name = "randk",
     .wire_id = 13,
     .title = "Rand-k: values at random positions that the seed names",
     .source = "Wangni et al., NeurIPS 2018; Stich et al., Sparsified SGD with Memory, NeurIPS 2018",
     .bias = "unbiased with scale=on, otherwise a contraction",
     .needs = "nothing; error feedback with scale=off",
     .aggregation = "allreduce: values are added, positions are shared",
     .random_numbers = "one an element, for its position",
     .nominal_bits = "32 x density (or 16)",
     .honest_bits = "nominal",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::continuous,
     .size_option = "k|density",
     .unbiased = true,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<RandkScheme>(pool, spec, context); },
    nullptr,
    sparse_decoder_of<randk_row>,
    [](const MethodSpec& spec, const EndpointContext& context, std::span<const float> values)
        -> std::unique_ptr<Endpoint> { return std::make_unique<RandkEndpoint>(spec, context, values); }};

}  // namespace jsq
