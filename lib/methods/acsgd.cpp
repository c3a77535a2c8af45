// AC-SGD (Yan et al., JSAC 2022): a random k-subset scaled by d / k, then QSGD of b bits on the L2 norm, with
// b and k from a budget of C bits in closed form. The variance (d / k)(1 + k 4^-b) under k b = C is
// stationary where 4^b = 2 ln2 C:
//   paper    b* = log2(2 ln2 C) / 2, b = floor(b*), k = floor(C / b*); indices are not counted
//   author   b = floor(log2(C) / 2 + 1/4), k = floor((C - 32) / (b + log2 d)), the indices counted; the
//   published code
//            draws its subset by dropout, so that k is its mean
//   jointsq  the re-implementation that JointSQ compares with: top-k in place of the subset, 2^(b-1) levels
//   of the
//            largest magnitude, b and k as paper; biased, with error feedback
#include <algorithm>
#include <cmath>

#include "lib/methods/sparse.hpp"

namespace jsq {
namespace {

enum class Variant : uint8_t { paper, author, jointsq };

constexpr MethodOption options[] = {
    {"variant", "paper|author|jointsq", "paper",
     "paper: random positions, their bits not in the budget; author: counted in it, as in the published "
     "code; jointsq: "
     "top-k, largest magnitude, as JointSQ re-implemented it"},
    {"budget", "auto|1..2^62", "auto",
     "C in bits for all elements; auto: what the target allows, without a target 1.024 an element"},
    map_option,
};

constexpr double two_ln2 = 1.3862943611198906;
constexpr uint32_t most_bits = 16;

/// log2 by arithmetic alone, so that every machine plans alike.  \pre x is normal and above 0.
double log2_of(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // in [1/2, 1)
  if (mantissa < 0.70710678118654752) {
    mantissa *= 2;
    --exponent;
  }
  // ln m = 2 artanh z
  const double z = (mantissa - 1) / (mantissa + 1), square = z * z;
  double power = z, sum = 0;
  for (int n = 1; n < 31; n += 2) {
    sum += power / n;
    power *= square;
  }
  return double(exponent) + 2.8853900817779268 * sum;  // 2 / ln 2
}

class AcsgdScheme final : public SparseScheme {
 public:
  AcsgdScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : SparseScheme(pool, context, acsgd_row.info) {
    const OptionReader read(spec);
    variant_ = read.choice<Variant>(
        "variant", {{"paper", Variant::paper}, {"author", Variant::author}, {"jointsq", Variant::jointsq}});
    const uint64_t elements = pool.summary().elements;
    const auto budget = read.integer_or_auto("budget", 1, uint64_t(1) << 62);
    sizes_ = {0, 64 * elements, elements + elements / 125 * 3 + elements % 125 * 3 / 125};
    if (budget) sizes_ = {*budget, *budget, *budget};
    plan_.map = read_map(read);
    plan_.values = SparseValues::levels;
    plan_.stochastic = context.rounding != Rounding::nearest;
    plan_.nominal_tensor_bits = 32;
    plan_.positions = variant_ == Variant::jointsq ? Positions::magnitude : Positions::own_random;
    plan_.scaled = variant_ != Variant::jointsq;
    plan_.norm = variant_ == Variant::jointsq ? ScaleNorm::linf : ScaleNorm::l2;
  }

  void set_size(uint64_t budget_bits, bool draft) override {
    const auto budget = double(budget_bits), elements = double(pool_.summary().elements);
    double kept = 0, bits = 2;
    if (budget_bits > 1) {
      const double optimum = std::max(0.5, 0.5 * log2_of(two_ln2 * budget));
      bits = std::floor(optimum);
      kept = budget / optimum;
      plan_.nominal_value_bits = 0;
      if (variant_ == Variant::author) {
        bits = std::floor(0.5 * log2_of(budget) + 0.25);
        plan_.nominal_value_bits = log2_of(std::max(1.0, elements));
        kept = std::max(0.0, (budget - 32) / (std::max(bits, 2.0) + plan_.nominal_value_bits));
      }
    }
    bits = std::clamp(bits, 2.0, double(most_bits));
    plan_.nominal_value_bits += bits;
    plan_.steps = 1u << (uint32_t(bits) - 1);
    if (variant_ != Variant::jointsq) --plan_.steps;
    keep(uint64_t(std::min(kept, elements)), draft);
  }

 private:
  Variant variant_ = Variant::paper;
};

}  // namespace

const MethodRow acsgd_row = {{.name = "acsgd",
                              .wire_id = 16,
                              .title = "AC-SGD: rand-k and QSGD, both sized by one budget of bits",
                              .source = "Yan et al., AC-SGD: Adaptively Compressed SGD for "
                                        "Communication-Efficient Distributed Learning, JSAC 2022",
                              .bias = "unbiased; variant=jointsq is biased",
                              .needs = "nothing; error feedback with variant=jointsq",
                              .aggregation = "allgather",
                              .random_numbers = "one an element for its position, one a kept element",
                              .nominal_bits = "budget / elements",
                              .honest_bits = "positions and levels of the elements that do not round to 0",
                              .backends = "cpu, cuda",
                              .options = options,
                              .sizing = Sizing::stepped,
                              .size_option = "budget",
                              .unbiased = true},
                             [](const TensorPool& pool, const MethodSpec& spec,
                                const EncoderContext& context) -> std::unique_ptr<Scheme> {
                               return std::make_unique<AcsgdScheme>(pool, spec, context);
                             },
                             nullptr,
                             sparse_decoder_of<acsgd_row>};

}  // namespace jsq
