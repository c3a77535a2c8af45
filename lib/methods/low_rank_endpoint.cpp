#include "lib/methods/low_rank_endpoint.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/thin_products.hpp"
#include "lib/collectives/packed_levels.hpp"
#include "lib/core/bytes.hpp"

namespace jsq {
namespace {

/// r columns of `length` numbers, one after another.
struct Factor {
  size_t length = 0, columns = 0;
  std::vector<float> numbers;
};

Factor rounded(size_t length, size_t columns, const std::vector<double>& numbers) {
  return {length, columns, {numbers.begin(), numbers.end()}};
}

Factor orthonormal(const Factor& factor) {
  std::vector<double> columns(factor.numbers.begin(), factor.numbers.end());
  orthonormalise(columns, factor.length, 0);
  return rounded(factor.length, factor.columns, columns);
}

class LowRankEndpoint final : public Endpoint {
 public:
  LowRankEndpoint(LowRankAlgorithm algorithm, uint64_t rank, unsigned iterations,
                  const EndpointContext& context, std::span<const float> values)
      : alternating_(algorithm == LowRankAlgorithm::acpsgd),
        iterations_(alternating_ ? 1 : iterations),
        context_(context),
        view_(*matrix_view(*context.info)),
        rank_(size_t(std::min({rank, view_.rows, view_.columns}))),
        matrix_(values.begin(), values.end()),
        largest_(cpu::max_magnitude(values)) {
    std::vector<double> start(size_t(view_.columns) * rank_);
    for (size_t k = 0; k < rank_; ++k)
      start_column(context.seed, context.tensor, k,
                   std::span(start).subspan(k * size_t(view_.columns), size_t(view_.columns)));
    q_ = rounded(size_t(view_.columns), rank_, start);
    if (alternating_) q_ = orthonormal(q_);
  }

  uint32_t rounds() const override { return alternating_ ? 2 : 1 + 2 * iterations_; }

  std::string message(uint32_t round) override {
    if (round == 0) return pack_scale(largest_);
    own_ = sends_p(round) ? times_columns(q_) : times_rows(p_);
    std::vector<float> share = own_.numbers;
    for (float& number : share) number /= float(context_.workers);
    return pack(share);
  }

  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t) const override {
    if (round == 0) {
      max_scales(into, from);
      return 0;
    }
    const size_t count = numbers_of(round);
    std::vector<float> sum = unpack(into, count);
    const std::vector<float> more = unpack(from, count);
    for (size_t i = 0; i < count; ++i) sum[i] += more[i];
    into = pack(sum);
    return 0;
  }

  bool any_order(uint32_t round) const override { return round == 0; }

  void receive(uint32_t round, std::string_view sum) override {
    if (round == 0) {
      const float largest = unpack_scale(sum);
      exponent_ = largest > 0 ? std::ilogb(largest) : 0;
      for (float& value : matrix_) value = float(std::ldexp(double(value), -exponent_));
      return;
    }
    Factor& factor = sends_p(round) ? p_ : q_;
    factor = {size_t(sends_p(round) ? view_.rows : view_.columns), rank_, unpack(sum, numbers_of(round))};
    if (sends_p(round) && !alternating_) p_ = orthonormal(p_);
  }

  void mean(std::span<float> out) const override { multiply(p_, q_, out); }
  void own(std::span<float> out) const override {
    if (alternating_)
      multiply(own_, q_, out);
    else
      multiply(p_, own_, out);
  }

 private:
  bool sends_p(uint32_t round) const { return round % 2 == 1; }
  size_t numbers_of(uint32_t round) const {
    return rank_ * size_t(sends_p(round) ? view_.rows : view_.columns);
  }

  static std::string pack(std::span<const float> numbers) {
    ByteWriter out;
    out.raw(std::as_bytes(numbers));
    return out.take();
  }
  static std::vector<float> unpack(std::string_view message, size_t count) {
    ByteReader in(message, "message of factors");
    std::vector<float> numbers(count);
    for (float& number : numbers) number = in.f32();
    in.expect_end();
    return numbers;
  }

  /// M Q and M^T P.
  Factor times_columns(const Factor& q) const { return view_.by_columns ? along_runs(q) : across_runs(q); }
  Factor times_rows(const Factor& p) const { return view_.by_columns ? across_runs(p) : along_runs(p); }

  /// One number for each stored run: its product with the factor's columns.
  Factor across_runs(const Factor& factor) const {
    const size_t outer = size_t(view_.outer()), inner = size_t(view_.inner());
    std::vector<double> products(outer * rank_);
    for_columns([&](size_t k, size_t columns) {
      cpu::rows_times_factor(matrix_.data(), outer, inner,
                             {factor.numbers.data() + k * inner, inner, columns},
                             {products.data() + k * outer, outer, columns});
    });
    return rounded(outer, rank_, products);
  }
  /// One number for each place in a run: the runs weighted by the factor's columns.
  Factor along_runs(const Factor& factor) const {
    const size_t outer = size_t(view_.outer()), inner = size_t(view_.inner());
    std::vector<double> sums(inner * rank_, 0.0);
    for_columns([&](size_t k, size_t columns) {
      cpu::add_weighted_rows(matrix_.data(), outer, inner, inner,
                             {factor.numbers.data() + k * outer, outer, columns},
                             {sums.data() + k * inner, inner, columns});
    });
    return rounded(inner, rank_, sums);
  }
  template <class Use>
  void for_columns(Use use) const {
    for (size_t k = 0; k < rank_; k += cpu::most_thin_columns)
      use(k, std::min(cpu::most_thin_columns, rank_ - k));
  }

  /// P Q^T, back at its scale.
  void multiply(const Factor& p, const Factor& q, std::span<float> out) const {
    const Factor &outer = view_.by_columns ? q : p, &inner = view_.by_columns ? p : q;
    const size_t length = inner.length;
    std::vector<float> weights(rank_);
    for (size_t o = 0; o < outer.length; ++o) {
      for (size_t k = 0; k < rank_; ++k) weights[k] = outer.numbers[k * outer.length + o];
      const std::span<float> run = out.subspan(o * length, length);
      cpu::outer_product_sum(weights, {inner.numbers.data(), length, rank_}, 1, run);
      for (float& value : run)
        value = float(std::clamp(std::ldexp(double(value), exponent_), -double(FLT_MAX), double(FLT_MAX)));
    }
  }

  bool alternating_;
  unsigned iterations_;
  EndpointContext context_;
  MatrixView view_;
  size_t rank_;
  std::vector<float> matrix_;  ///< divided by 2^exponent after round 0
  float largest_;
  int exponent_ = 0;
  Factor p_, q_, own_;
};

}  // namespace

std::unique_ptr<Endpoint> make_low_rank_endpoint(LowRankAlgorithm algorithm, uint64_t rank,
                                                 unsigned iterations, const EndpointContext& context,
                                                 std::span<const float> values) {
  return std::make_unique<LowRankEndpoint>(algorithm, rank, iterations, context, values);
}

}  // namespace jsq
