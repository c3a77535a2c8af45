// NUQSGD (Ramezani-Kebrya et al., JMLR 2021): QSGD with exponential levels. With N the norm of a bucket,
// |g_i| / N is rounded without bias to a neighbour in {0, 2^-s, ..., 1/2, 1}: s + 1 positive levels, so that
// b bits with the sign hold s = 2^(b-1) - 2. E |g^ - g|^2 = N^2 sum (hi - y)(y - lo), y = |g_i| / N between
// lo and hi. With zero=off the grid is that of the published code (Tabrizian/learning-to-quantize): +-2^-s,
// ..., +-1 and no zero, where y below 2^-s goes to one of the smallest pair.
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"bits", "auto|2..8", "auto",
     "bits of a level with its sign, 2^(bits-1) - 1 positive levels (zero=off: 2^(bits-1)); auto: as levels "
     "says"},
    {"levels", "auto|1..127", "auto",
     "positive levels 1, 1/2, 1/4, ...; auto: the most that meet the target, without a target those of 4 "
     "bits"},
    {"bucket", "0..65536", "512", "elements that share a norm; 0: the whole tensor"},
    {"norm", "l2|linf", "l2", "the bucket's norm N"},
    {"zero", "on|off", "on", "off: the published code's grid, which has no zero"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "auto",
     "how levels are stored; auto: the smallest in each block"},
};

constexpr uint64_t most_levels = 127;

class NuqsgdScheme final : public DitherScheme {
 public:
  NuqsgdScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, nuqsgd_row.info.wire_id) {
    const OptionReader read(spec);
    const bool has_zero = read.flag("zero");
    const auto levels_of = [&](uint64_t bits) { return (uint64_t(1) << (bits - 1)) - (has_zero ? 1 : 0); };
    const auto bits = read.integer_or_auto("bits", 2, has_zero ? 8 : 7),
               levels = read.integer_or_auto("levels", 1, most_levels);
    if (bits && levels) read.bad("levels", "auto where bits is given, since bits names the levels");
    sizes_.native = levels_of(4);
    if (bits) sizes_ = {levels_of(*bits), levels_of(*bits), levels_of(*bits)};
    if (levels) sizes_ = {*levels, *levels, *levels};
    plan_.grid.kind = has_zero ? GridKind::exponential : GridKind::exponential_pairs;
    plan_.bucket = read.integer("bucket", 0, 65536);
    plan_.norm = read.choice<ScaleNorm>("norm", {{"l2", ScaleNorm::l2}, {"linf", ScaleNorm::linf}});
    plan_.packer = read_coder(read);
    plan_.nearest = context.rounding == Rounding::nearest;
    prepare_scales();
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override { plan_.grid.steps = uint32_t(size) - 1; }

 private:
  SizeRange sizes_{1, most_levels, 7};
};

}  // namespace

const MethodRow nuqsgd_row = {{.name = "nuqsgd",
                               .wire_id = 6,
                               .title = "NUQSGD: stochastic rounding to powers of two of a bucket's norm",
                               .source = "Ramezani-Kebrya et al., NUQSGD: Provably Communication-efficient "
                                         "Data-parallel SGD via Nonuniform Quantization, JMLR 2021",
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
                                return std::make_unique<NuqsgdScheme>(pool, spec, context);
                              },
                              nullptr,
                              dither_decoder_of<nuqsgd_row>};

}  // namespace jsq
