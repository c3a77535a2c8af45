// QSGD (Alistarh et al., NeurIPS 2017): stochastic rounding to s positive levels of a bucket's norm,
//   level_i = sign(g_i) floor(s |g_i| / N + u_i),   g^_i = N level_i / s,
// with N the bucket's largest magnitude (practice) or its L2 norm (the paper's theory). Levels are stored
// with b bits each, in one of the paper's two Elias layouts, or entropy-coded. Unbiased; E |g^ - g|^2 = (N /
// s)^2 sum f (1 - f).
#include "jsq/error.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"bits", "auto|2..16", "auto", "bits of a level with its sign, s = 2^(bits-1) - 1; auto: as levels says"},
    {"levels", "auto|1..32767", "auto",
     "positive levels s; auto: the most that meet the target, without a target 7 (4 bits)"},
    {"bucket", "0..65536", "512", "elements that share a norm; 0: the whole tensor"},
    {"norm", "linf|l2", "linf", "the bucket's norm N; l2 is the paper's theory"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "auto",
     "how levels are stored; auto: the smallest in each block"},
};

constexpr uint64_t most_levels = 32767;

class QsgdScheme final : public DitherScheme {
 public:
  QsgdScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, qsgd_row.info.wire_id) {
    const OptionReader read(spec);
    const auto bits = read.integer_or_auto("bits", 2, 16),
               levels = read.integer_or_auto("levels", 1, most_levels);
    if (bits && levels) read.bad("levels", "auto where bits is given, since bits names the levels");
    if (bits) sizes_ = {(1u << (*bits - 1)) - 1, (1u << (*bits - 1)) - 1, (1u << (*bits - 1)) - 1};
    if (levels) sizes_ = {*levels, *levels, *levels};
    plan_.bucket = read.integer("bucket", 0, 65536);
    plan_.norm = read.choice<ScaleNorm>("norm", {{"linf", ScaleNorm::linf}, {"l2", ScaleNorm::l2}});
    plan_.packer = read_coder(read);
    if (plan_.packer == LevelPacker::entropy) sizes_.most = std::min<uint64_t>(sizes_.most, 16383);
    if (sizes_.most < sizes_.least)
      read.bad("coder", "another coder than entropy for more than 16383 levels");
    plan_.nearest = context.rounding == Rounding::nearest;
    prepare_scales();
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override { plan_.grid.steps = uint32_t(size); }

 private:
  SizeRange sizes_{1, most_levels, 7};
};

}  // namespace

const MethodRow qsgd_row = {{.name = "qsgd",
                             .wire_id = 5,
                             .title = "QSGD: stochastic rounding to levels of a bucket's norm",
                             .source = "Alistarh et al., QSGD: Communication-Efficient SGD via Gradient "
                                       "Quantization and Encoding, NeurIPS 2017",
                             .bias = "unbiased",
                             .needs = "nothing",
                             .aggregation = "allgather",
                             .random_numbers = "one an element",
                             .nominal_bits = "the packed levels + 32 / bucket",
                             .honest_bits = "nominal + one byte a block",
                             .backends = "cpu, cuda",
                             .options = options,
                             .sizing = Sizing::stepped,
                             .size_option = "levels",
                             .unbiased = true},
                            [](const TensorPool& pool, const MethodSpec& spec,
                               const EncoderContext& context) -> std::unique_ptr<Scheme> {
                              return std::make_unique<QsgdScheme>(pool, spec, context);
                            },
                            nullptr,
                            dither_decoder_of<qsgd_row>};

}  // namespace jsq
