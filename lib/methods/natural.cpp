// Natural compression (Horvath et al., MSML 2022): every element |g| = m 2^e, 1 <= m < 2, is rounded to
// 2^(e+1) with probability m - 1, else to 2^e; its sign and exponent are sent. Unbiased, no norm, E |g^ -
// g|^2 <= |g|^2 / 8. The paper sends the 8 exponent bits of f32 as they are. With k < 8 bits a tensor has 2^k
// - 1 exponents, counted down from that of its largest magnitude rounded up; what is below the last one goes
// to it or to zero, still without bias.
#include <cmath>

#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"bits", "auto|paper|1..8", "auto",
     "exponent bits k beside the sign: 2^k - 1 exponents below the tensor's largest; paper: those of f32's "
     "normal numbers; auto: the most that meet the target, at the top and without a target the paper's"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "fixed",
     "how levels are stored; fixed is the paper's, auto the smallest in each block"},
};

constexpr uint64_t most_bits = 8;
constexpr element::ExponentRange exponents_of_f32{-126, 127};

/// The exponent of a magnitude rounded up to a power of two, at most 127; -149 for 0.
int32_t exponent_rounded_up(float magnitude) {
  if (magnitude == 0) return -149;
  int exponent = 0;
  const float significand = std::frexp(magnitude, &exponent);  // in [1/2, 1)
  return std::min(significand == 0.5f ? exponent - 1 : exponent, 127);
}

class NaturalScheme final : public DitherScheme {
 public:
  NaturalScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, natural_row.info.wire_id) {
    const OptionReader read(spec);
    if (!read.is("bits", "paper")) {
      const auto bits = read.integer_or_auto("bits", 1, most_bits);
      if (bits) sizes_ = {*bits, *bits, *bits};
      paper_at_the_top_ = !bits;
    } else {
      sizes_ = {most_bits, most_bits, most_bits};
    }
    plan_.grid.kind = GridKind::natural;
    plan_.norm = ScaleNorm::none;
    plan_.packer = read_coder(read);
    plan_.nominal_scale_bits = 0;
    plan_.nearest = context.rounding == Rounding::nearest;
    for (size_t t = 0; t < pool.tensors().size(); ++t)
      highest_.push_back(exponent_rounded_up(max_magnitude(pool, t)));
    prepare_scales();
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override {
    exponents_ = (int32_t(1) << size) - 1;
    as_paper_ = paper_at_the_top_ && size == most_bits;
    plan_.nominal_bits = double(size) + 1;
  }

 protected:
  Grid grid_of(size_t t) const override {
    Grid grid = plan_.grid;
    grid.exponents = as_paper_
                         ? exponents_of_f32
                         : element::ExponentRange{std::max(-149, highest_[t] - exponents_ + 1), highest_[t]};
    return grid;
  }

 private:
  SizeRange sizes_{1, most_bits, most_bits};
  bool paper_at_the_top_ = true, as_paper_ = true;
  int32_t exponents_ = 255;
  std::vector<int32_t> highest_;  ///< exponent of each tensor's largest magnitude
};

}  // namespace

const MethodRow natural_row = {
    {.name = "natural",
     .wire_id = 7,
     .title = "Natural compression: stochastic rounding to powers of two",
     .source = "Horvath et al., Natural Compression for Distributed Deep Learning, MSML 2022",
     .bias = "unbiased up to 2^127",
     .needs = "nothing",
     .aggregation = "allgather",
     .random_numbers = "one an element",
     .nominal_bits = "9: sign and exponent bits",
     .honest_bits = "nominal + one byte a block + the exponents' offset, two bytes a tensor",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "bits",
     .unbiased = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<NaturalScheme>(pool, spec, context); },
    nullptr,
    dither_decoder_of<natural_row>};

}  // namespace jsq
