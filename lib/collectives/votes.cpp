#include "lib/collectives/votes.hpp"

#include <algorithm>
#include <vector>

#include "kernels/cpu/dither.hpp"
#include "kernels/element/philox.hpp"
#include "lib/collectives/packed_levels.hpp"

namespace jsq {
namespace {

class VoteEndpoint final : public Endpoint {
 public:
  VoteEndpoint(bool scaled, TieRule tie, const EndpointContext& context, std::span<const float> values)
      : scaled_(scaled), tie_(tie), context_(context), signs_(values.size()) {
    for (size_t i = 0; i < values.size(); ++i) signs_[i] = values[i] < 0 ? -1 : 1;
    if (scaled && !values.empty())
      own_magnitude_ = float(cpu::sum_magnitudes(values) / double(values.size()));
    magnitude_ = own_magnitude_;
  }
  uint32_t rounds() const override { return scaled_ ? 2 : 1; }
  std::string message(uint32_t round) override {
    if (is_scale(round)) return pack_scale(own_magnitude_ / float(context_.workers));
    return pack_message(signs_, range());
  }
  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t) const override {
    if (!is_scale(round)) return add_messages(into, from, range(), signs_.size());
    into = pack_scale(unpack_scale(into) + unpack_scale(from));
    return 0;
  }
  bool any_order(uint32_t round) const override { return !is_scale(round); }
  void receive(uint32_t round, std::string_view sum) override {
    if (is_scale(round))
      magnitude_ = unpack_scale(sum);
    else
      votes_ = unpack_message(sum, range(), signs_.size());
  }
  void mean(std::span<float> out) const override {
    for (size_t i = 0; i < out.size(); ++i)
      out[i] = votes_[i] == 0 ? tied(i) : votes_[i] < 0 ? -magnitude_ : magnitude_;
  }
  void own(std::span<float> out) const override {
    for (size_t i = 0; i < out.size(); ++i) out[i] = float(signs_[i]) * own_magnitude_;
  }

 private:
  bool is_scale(uint32_t round) const { return scaled_ && round == 0; }
  LevelRange range() const { return {-int32_t(context_.workers), int32_t(context_.workers)}; }
  float tied(size_t i) const {
    if (tie_ == TieRule::zero) return 0;
    if (tie_ == TieRule::plus) return magnitude_;
    const uint32_t word =
        element::random_word(context_.seed, i, context_.tensor, element::RandomPurpose::transit);
    return element::uniform_of_word(word) < 0.5f ? magnitude_ : -magnitude_;
  }

  bool scaled_;
  TieRule tie_;
  EndpointContext context_;
  float own_magnitude_ = 1, magnitude_ = 1;
  std::vector<int32_t> signs_, votes_;
};

}  // namespace

std::unique_ptr<Endpoint> make_vote_endpoint(bool scaled, TieRule tie, const EndpointContext& context,
                                             std::span<const float> values) {
  return std::make_unique<VoteEndpoint>(scaled, tie, context, values);
}

}  // namespace jsq
