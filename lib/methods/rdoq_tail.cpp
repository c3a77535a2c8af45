#include "lib/methods/rdoq_tail.hpp"

#include <algorithm>
#include <cmath>

namespace jsq {

RdoqTail::RdoqTail(const RdoqCoding& coding, double more, std::span<const TakenBlock> taken)
    : coding_(coding), blocks_(taken.begin(), taken.end()), wanted_(more) {
  const RdoqPlan& plan = coding_.coded().plan_in_use();
  tries_ = {{plan.lambda(), 0}};
  double whole = double(coding_.coded().packed_bytes());
  for (const TakenBlock& block : taken) whole += double(block.bytes);
  possible_ = plan.cut == 0 && std::abs(more) <= 0.04 * whole;
  // A tail that has to change by an eighth: then its slope is near that of the rest.
  if (possible_) begin(std::max(8 * std::abs(more), whole / 64));
}

void RdoqTail::try_again(double more) {
  const double found = wanted_ - more, share = found / wanted_;
  tries_.push_back({lambda_, found});
  // What is fine or coarse anyway hardly follows: then more of the pool has to.
  if (share < 0.4 && begins_ > 0)
    begin(bytes_ * std::min(1.5 / std::max(share, 1e-3), 1e3));
  else
    lambda_ = next();
}

RdoqPlan RdoqTail::plan() const {
  return with_lambda(coding_.coded().plan_in_use(), lambda_, tries_.front().first, begins_);
}

/// A tail of at least so many bytes, and the weight of a bit with which it should take what is wanted.
void RdoqTail::begin(double least) {
  uint64_t packed = 0;
  for (const TakenBlock& block : blocks_) packed += block.bytes == 0 ? elements_of(block) : 0;
  // Of packed tensors each element has its share of the pack.
  const double of_packed = packed ? double(coding_.coded().packed_bytes()) / double(packed) : 0;
  bytes_ = 0;
  for (first_ = blocks_.size(); first_ > 0 && bytes_ < least;) {
    const TakenBlock& block = blocks_[--first_];
    bytes_ += block.bytes ? double(block.bytes) : of_packed * double(elements_of(block));
  }
  begins_ = first_ > 0 && first_ < blocks_.size()
                ? coding_.pool().tensors()[blocks_[first_].tensor].first + blocks_[first_].first
                : 0;
  tries_.resize(1);
  lambda_ = lambda_for(with_lambda(coding_.coded().plan_in_use(), tries_[0].first),
                       1 + wanted_ / std::max(bytes_, 1.0));
}

uint64_t RdoqTail::elements_of(const TakenBlock& block) const {
  return std::min(uint64_t(1) << coding_.block_log2(),
                  coding_.pool().tensors()[block.tensor].info->elements() - block.first);
}

/// The weight of a bit with which the plan's blocks are expected to take `factor` times the bytes.
double RdoqTail::lambda_for(const RdoqPlan& plan, double factor) const {
  const double fixed = double(coding_.parameters().size());
  const auto bytes_at = [&](const RdoqPlan& tried) { return coding_.coded().measure(tried).bytes - fixed; };
  const double whole = bytes_at(plan);
  double before = plan.lambda(), bytes_before = whole, lambda = before * (factor > 1 ? 0.8 : 1.25);
  for (int round = 0;; ++round) {
    const double bytes = bytes_at(with_lambda(plan, lambda));
    const double slope = (bytes - bytes_before) / (lambda - before);
    if (round == 3 || !(slope < 0) || std::abs(bytes / whole - factor) < 2e-4) return lambda;
    before = lambda;
    bytes_before = bytes;
    lambda = std::clamp(lambda + (factor * whole - bytes) / slope, plan.lambda() / 8, 8 * plan.lambda());
    if (lambda == before) return lambda;
  }
}

/// The weight to try next: between the tries beside what is wanted, or beyond them all.
double RdoqTail::next() const {
  std::pair<double, double> over{0, HUGE_VAL}, under{HUGE_VAL, -HUGE_VAL};
  for (const auto& [weight, more] : tries_) {
    if (more > wanted_ && weight > over.first) over = {weight, more};
    if (more <= wanted_ && weight < under.first) under = {weight, more};
  }
  if (over.first > 0 && under.first < HUGE_VAL) {
    const double share = std::clamp((over.second - wanted_) / (over.second - under.second), 0.1, 0.9);
    return over.first + share * (under.first - over.first);
  }
  const auto& [a, of_a] = tries_[tries_.size() - 2];
  const auto& [b, of_b] = tries_.back();
  const double step = (wanted_ - of_b) / (of_b - of_a) * (b - a);
  return std::isfinite(step) ? std::clamp(b + step, b / 2, 2 * b) : b / 2;
}

}  // namespace jsq
