// Global-QSGD, exponential dithering (ECAI 2025, arXiv 2305.18627): with n workers and G their largest
// magnitude, y = (g / G) / (2n) is rounded without bias to +-2^-E, E = 1 .. 2^k - 1, or below the last of
// them to it or zero: natural compression of y. Codes of k + 1 bits are added on the way without being
// decoded (kernels/element/natural.hpp); the factor 2n keeps every partial sum of a power of two of workers
// below 2^-1. A message alone decodes to G (2n 2^-E).
#include "lib/collectives/grid.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"bits", "auto|1..7", "auto",
     "exponent bits k beside the sign, 2^k - 1 powers of two; auto: the most that meet the target, without a "
     "target 7"},
    {"workers", "1..1048576", "1", "n: messages of so many workers fit the range when they are added"},
    {"bucket", "0..65536", "0", "elements that share a scale; 0: the whole tensor"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "fixed",
     "how levels are stored; fixed: k + 1 bits each, as they are added"},
};

class GqsgdExpScheme final : public DitherScheme {
 public:
  GqsgdExpScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, gqsgd_exp_row.info.wire_id) {
    const OptionReader read(spec);
    const auto bits = read.integer_or_auto("bits", 1, 7);
    if (bits) sizes_ = {*bits, *bits, *bits};
    plan_.grid.kind = GridKind::shared_exponential;
    plan_.grid.workers = uint32_t(read.integer("workers", 1, 1048576));
    plan_.bucket = read.integer("bucket", 0, 65536);
    plan_.packer = read_coder(read);
    plan_.nearest = context.rounding == Rounding::nearest;
    prepare_scales();
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override {
    plan_.grid.steps = (1u << size) - 1;
    plan_.nominal_bits = double(size) + 1;
  }

 private:
  SizeRange sizes_{1, 7, 7};
};

std::unique_ptr<Endpoint> gqsgd_exp_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                             std::span<const float> values) {
  const OptionReader read(spec);
  Grid grid;
  grid.kind = GridKind::shared_exponential;
  grid.steps = (1u << read.integer_or_auto("bits", 1, 7).value_or(7)) - 1;
  grid.workers = context.workers;
  return make_grid_endpoint(grid, read.integer("bucket", 0, 65536), context.rounding == Rounding::nearest,
                            context, {values.begin(), values.end()});
}

}  // namespace

const MethodRow gqsgd_exp_row = {
    {.name = "gqsgd-exp",
     .wire_id = 19,
     .title = "Global-QSGD, exponential dithering: exponents that are added on the way",
     .source = "Global-QSGD: Allreduce-Compatible Quantization for Distributed Learning with Theoretical "
               "Guarantees, ECAI 2025, arXiv 2305.18627",
     .bias = "unbiased",
     .needs = "nothing",
     .aggregation = "allreduce: codes are added without bias where the workers share the scale",
     .random_numbers = "one an element, and one an element and addition",
     .nominal_bits = "1 + exponent bits + 32 a scale",
     .honest_bits = "nominal + one byte a block",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "bits",
     .unbiased = true,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<GqsgdExpScheme>(pool, spec, context); },
    nullptr,
    dither_decoder_of<gqsgd_exp_row>,
    gqsgd_exp_endpoint};

}  // namespace jsq
