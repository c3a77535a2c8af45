// signSGD (Bernstein et al., ICML 2018, 2019): the sign of every element, one bit; zero counts as positive.
// Workers' signs are put to a majority vote, with the gradient replaced by its running mean m <- beta m + (1
// - beta) g where momentum is kept (Signum). The paper's sign has no magnitude: it decodes to +-1, so that
// only the direction means something and the cosine is its measure. With scale=mean it decodes to the
// tensor's mean magnitude, which of all magnitudes makes the squared error least. A block of zeros decodes to
// zeros.
#include "lib/collectives/votes.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/signs.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"scale", "none|mean", "none",
     "magnitude that a sign decodes to: none: 1, direction only; mean: the tensor's mean magnitude"},
    {"momentum", "0..1", "0.9", "beta of Signum's running mean, in a sequence"},
    {"tie", "zero|plus|random", "zero", "what a majority vote without majority gives"},
};

constexpr std::pair<std::string_view, SignScale> scales[] = {{"none", SignScale::none},
                                                             {"mean", SignScale::mean}};
constexpr std::pair<std::string_view, TieRule> ties[] = {
    {"zero", TieRule::zero}, {"plus", TieRule::plus}, {"random", TieRule::random}};

/// Every option is checked also where it is not used.
SignScale read_options(const MethodSpec& spec) {
  const OptionReader read(spec);
  read.choice("tie", ties);
  read.number("momentum", 0, 1, "a number of 0..1");
  return read.choice("scale", scales);
}

}  // namespace

const MethodRow signsgd_row = {
    {.name = "signsgd",
     .wire_id = 9,
     .title = "signSGD: one bit an element",
     .source = "Bernstein et al., signSGD: Compressed Optimisation for Non-Convex Problems, ICML 2018; with "
               "majority vote, ICLR 2019",
     .bias = "biased; direction only: with scale=none the squared error means nothing, the cosine does",
     .needs = "momentum (Signum) helps to converge",
     .aggregation = "majority vote",
     .random_numbers = "none",
     .nominal_bits = "1 (+ 32 a tensor with scale=mean)",
     .honest_bits = "nominal + 32 a tensor",
     .backends = "cpu, cuda",
     .options = options,
     .feedback = Feedback::momentum,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<SignScheme>(pool, signsgd_row.info.wire_id, read_options(spec));
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) {
      return make_sign_decoder(signsgd_row.info.name, parameters, what);
    },
    [](const MethodSpec& spec, const EndpointContext& context, std::span<const float> values) {
      return make_vote_endpoint(read_options(spec) == SignScale::mean, OptionReader(spec).choice("tie", ties),
                                context, values);
    }};

}  // namespace jsq
