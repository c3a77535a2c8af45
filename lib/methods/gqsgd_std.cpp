// Global-QSGD, standard dithering (ECAI 2025, arXiv 2305.18627): all workers round to one grid, so that their
// integers can be added on the way. With n workers, G their largest magnitude and an accumulator of a bits,
//   q = SR(s g / G), s = floor((2^(a-1) - 1) / n);  the mean is G (sum of q) / (n s).
// The sum of n levels fits the accumulator; a message has levels of a bits each, of which the range of one
// worker takes only a part. For n = 1 it is QSGD with the L-infinity norm. variant=code is the published grid
// s = (2^(a-1) - 1) / n, not rounded down: finer, but sums of levels that were rounded up may overflow.
#include "jsq/error.hpp"
#include "lib/collectives/grid.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"bits", "auto|2..16", "auto",
     "bits of the accumulator a; auto: the most that meet the target, without a target 8"},
    {"workers", "1..32767", "1", "n: messages of so many workers fit the accumulator when they are added"},
    {"bucket", "0..65536", "0", "elements that share a scale; 0: the whole tensor"},
    {"variant", "paper|code", "paper", "code: the published grid; may overflow when added"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "fixed",
     "how levels are stored; fixed: a bits each, as they are added"},
};

uint64_t largest_sum(uint64_t bits) {
  return (uint64_t(1) << (bits - 1)) - 1;
}

/// The grid of an accumulator of `bits`; no steps where there are more workers than it has levels.
Grid accumulator_grid(uint64_t bits, uint32_t workers, bool as_published) {
  Grid grid;
  grid.kind = as_published ? GridKind::uniform_undivided : GridKind::uniform;
  grid.workers = workers;
  grid.steps = uint32_t(largest_sum(bits) / (as_published ? 1 : workers));
  return grid;
}

class GqsgdStdScheme final : public DitherScheme {
 public:
  GqsgdStdScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : DitherScheme(pool, context, gqsgd_std_row.info.wire_id) {
    const OptionReader read(spec);
    const auto bits = read.integer_or_auto("bits", 2, 16);
    if (bits) sizes_ = {*bits, *bits, *bits};
    const uint64_t workers = read.integer("workers", 1, 32767);
    plan_.grid.workers = uint32_t(workers);
    const bool as_published = read.choice<bool>("variant", {{"paper", false}, {"code", true}});
    plan_.grid.kind = as_published ? GridKind::uniform_undivided : GridKind::uniform;
    while (!as_published && sizes_.least <= sizes_.most && largest_sum(sizes_.least) < workers)
      ++sizes_.least;
    if (sizes_.least > sizes_.most)
      read.bad("workers", "at most 2^(bits-1) - 1, so that each has a level; give more bits");
    sizes_.native = std::max(sizes_.native, sizes_.least);
    plan_.bucket = read.integer("bucket", 0, 65536);
    plan_.packer = read_coder(read);
    plan_.nearest = context.rounding == Rounding::nearest;
    prepare_scales();
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override {
    plan_.nominal_bits = double(size);
    plan_.grid = accumulator_grid(size, plan_.grid.workers, plan_.grid.kind == GridKind::uniform_undivided);
  }

 private:
  SizeRange sizes_{2, 16, 8};
};

std::unique_ptr<Endpoint> gqsgd_std_endpoint(const MethodSpec& spec, const EndpointContext& context,
                                             std::span<const float> values) {
  const OptionReader read(spec);
  const uint64_t bits = read.integer_or_auto("bits", 2, 16).value_or(8);
  if (largest_sum(bits) < context.workers)
    throw Error(Errc::usage, "gqsgd-std: sums of " + std::to_string(context.workers) +
                                 " workers do not fit " + std::to_string(bits) + " bits; give more bits");
  const Grid grid = accumulator_grid(bits, context.workers, read.is("variant", "code"));
  return make_grid_endpoint(grid, read.integer("bucket", 0, 65536), context.rounding == Rounding::nearest,
                            context, {values.begin(), values.end()});
}

}  // namespace

const MethodRow gqsgd_std_row = {
    {.name = "gqsgd-std",
     .wire_id = 18,
     .title = "Global-QSGD, standard dithering: levels that are added on the way",
     .source = "Global-QSGD: Allreduce-Compatible Quantization for Distributed Learning with Theoretical "
               "Guarantees, ECAI 2025, arXiv 2305.18627",
     .bias = "unbiased",
     .needs = "nothing",
     .aggregation = "allreduce: levels are added where the workers share the scale",
     .random_numbers = "one an element",
     .nominal_bits = "the accumulator's bits + 32 a scale",
     .honest_bits = "nominal + one byte a block",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "bits",
     .unbiased = true,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<GqsgdStdScheme>(pool, spec, context); },
    nullptr,
    dither_decoder_of<gqsgd_std_row>,
    gqsgd_std_endpoint};

}  // namespace jsq
