// Rand-k: a uniform k-subset that sender and receivers draw from the shared seed, so that values alone are
// sent (methods.md 9). Scaled by d / k it is unbiased: E |g^ - g|^2 = (d / k - 1) |g|^2; unscaled it is a
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

/// The kept values as a dense message; the positions are drawn by every worker.
class RandkEndpoint final : public Endpoint {
 public:
  RandkEndpoint(const MethodSpec& spec, const EndpointContext& context, std::span<const float> values) {
    const OptionReader read(spec);
    const uint64_t elements = context.info->elements(), k = kept_sizes(read, elements).native;
    if (k > 0 && !read.is("scale", "off")) gain_ = float(double(elements) / double(k));
    const TensorPool pool(*context.info, values);
    const SubsetCut cut = RandomSubset(pool, context.seed, pool_blocks(pool, 16)).cut(k);
    std::vector<uint32_t> kept;
    for (const PoolBlock& block : pool_blocks(pool, 16)) {
      list_subset(cut, context.seed, context.tensor, block.first, block.count, kept);
      for (uint32_t i : kept) positions_.push_back(block.first + i);
    }
    std::vector<float> kept_values;
    for (uint64_t i : positions_) kept_values.push_back(values[size_t(i)]);
    const SparseValues type = read_values(read);
    const DType dtype = type == SparseValues::f16    ? DType::f16
                        : type == SparseValues::bf16 ? DType::bf16
                                                     : DType::f32;
    dense_ = make_dense_endpoint(dtype, context, kept_values);
  }
  uint32_t rounds() const override { return dense_->rounds(); }
  std::string message(uint32_t round) override { return dense_->message(round); }
  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const override {
    return dense_->add(round, into, from, edge);
  }
  void receive(uint32_t round, std::string_view sum) override { dense_->receive(round, sum); }
  void mean(std::span<float> out) const override {
    std::vector<float> kept(positions_.size());
    dense_->mean(kept);
    scatter(kept, out);
  }
  void own(std::span<float> out) const override {
    std::vector<float> kept(positions_.size());
    dense_->own(kept);
    scatter(kept, out);
  }

 private:
  void scatter(const std::vector<float>& kept, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0f);
    for (size_t j = 0; j < kept.size(); ++j)
      out[size_t(positions_[j])] =
          float(std::clamp(double(kept[j]) * double(gain_), -double(FLT_MAX), double(FLT_MAX)));
  }
  float gain_ = 1;
  std::vector<uint64_t> positions_;
  std::unique_ptr<Endpoint> dense_;
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
     .backends = "cpu",
     .options = options,
     .sizing = Sizing::continuous,
     .size_option = "k",
     .unbiased = true,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<RandkScheme>(pool, spec, context); },
    nullptr,
    sparse_decoder_of<randk_row>,
    [](const MethodSpec& spec, const EndpointContext& context, std::span<const float> values)
        -> std::unique_ptr<Endpoint> { return std::make_unique<RandkEndpoint>(spec, context, values); }};

}  // namespace jsq
