// Reallocation (JointSQ, section 3.3.2) as bit-neutral steps of the class counts, with adaptive R (Eqs. 15,
// 16). Only for the paper's widths {0, 2, 4, 8}. Moves: A takes 8 bits down to 4 and buys a 4 and a 2; B
// takes a 4 down to 2 and buys a 2; A' and B' are their inverses. k = kept elements changes by exactly one
// with each.
#include <algorithm>
#include <array>
#include <cmath>

#include "jsq/error.hpp"
#include "lib/allocators/allocator.hpp"

namespace jsq {
namespace {

/// Walks ranks by small steps; energy(rank) costs O(1) amortised.
class EnergyOfRank {
 public:
  explicit EnergyOfRank(const MagnitudeIndex& index) : index_(index) {}
  double operator()(uint64_t rank) {
    while (cell_ + 1 < index_.cells().size() && rank > index_.before(cell_ + 1)) ++cell_;
    while (cell_ > 0 && rank <= index_.before(cell_)) --cell_;
    return index_.cells()[cell_].energy();
  }

 private:
  const MagnitudeIndex& index_;
  size_t cell_ = 0;
};

constexpr double profit[4] = {0, 15.0 / 16, 15.0 / 256, 255.0 / 65536};

class Reallocator {
 public:
  Reallocator(const MagnitudeIndex& index, const WidthSet& widths, ClassCounts state)
      : state_(std::move(state)),
        add_{EnergyOfRank(index), EnergyOfRank(index), EnergyOfRank(index), EnergyOfRank(index)},
        drop_(add_) {
    for (const MagnitudeIndex::Cell& cell : index.cells()) total_ += double(cell.count) * cell.energy();
    noise_ = modelled_noise(widths, state_, index);
  }

  uint64_t kept() const { return state_[1]; }
  double noise() const { return noise_; }
  const ClassCounts& state() const { return state_; }

  /// Moves k one by one towards `target` while a move lowers the noise. Returns whether any was accepted.
  bool move_towards(uint64_t target) {
    bool moved = false;
    while (kept() != target) {
      const int direction = target > kept() ? 1 : -1;
      const double a = change(direction, 1, -1), b = change(direction, -1, 0);
      const bool choose_a = a <= b;
      const double fall = choose_a ? a : b;
      const double next = noise_ + fall;
      if (!(next < noise_ * (1 - 1e-12))) break;
      state_[1] += uint64_t(int64_t(direction));
      state_[2] += uint64_t(int64_t(direction * (choose_a ? 1 : -1)));
      if (choose_a) state_[3] -= uint64_t(int64_t(direction));
      noise_ = next;
      moved = true;
    }
    return moved;
  }

 private:
  /// Change of h' by (n1 + d, n2 + d s2, n3 + d s3); +infinity when the move is not possible.
  double change(int d, int s2, int s3) {
    const int step[4] = {0, d, d * s2, d * s3};
    int64_t n[4];
    for (int j = 0; j < 4; ++j) n[j] = int64_t(state_[size_t(j)]) + step[j];
    if (n[3] < 0 || n[2] < n[3] || n[1] < n[2] || n[0] < n[1]) return HUGE_VAL;
    if (total_ <= 0) return HUGE_VAL;
    double fall = 0;
    for (size_t j = 1; j < 4; ++j) {
      if (step[j] > 0) fall += profit[j] * add_[j](state_[j] + 1);
      if (step[j] < 0) fall -= profit[j] * drop_[j](state_[j]);
    }
    return -fall / total_;
  }

  ClassCounts state_;
  std::array<EnergyOfRank, 4> add_;
  std::array<EnergyOfRank, 4> drop_;
  double total_ = 0;
  double noise_ = 0;
};

}  // namespace

ClassCounts reallocate(MagnitudeIndex& index, const WidthSet& widths, ClassCounts start,
                       ReallocationKind kind, uint32_t rounds, std::vector<ReallocationStep>* log) {
  if (widths.widths() != std::vector<uint32_t>{0, 2, 4, 8})
    throw Error(Errc::usage,
                "reallocation is defined for the widths 0,2,4,8 only; use realloc=none with other widths");
  // Small populations are indexed key by key and walked exactly; large ones with the histogram's 1/128
  // octave, far finer than a class.
  const uint64_t bits = payload_bits_of(widths, start);
  if (bits == 0) return start;
  const ClassCounts first = start;
  Reallocator state(index, widths, std::move(start));
  const auto record = [&] {
    if (log) log->push_back({8.0 * double(state.kept()) / double(bits), state.noise(), state.kept()});
  };
  record();
  const uint64_t least = (bits + 7) / 8;
  const uint64_t most = std::min(index.elements(), bits / 2);

  if (kind == ReallocationKind::hill) {
    uint64_t step = std::max<uint64_t>(1, uint64_t(std::llround(0.05 * double(state.kept()))));
    int direction = 1, failures = 0;
    for (uint32_t round = 0; round < rounds && step > 0; ++round) {
      const uint64_t k = state.kept();
      const uint64_t target =
          direction > 0 ? std::min(most, k + step) : std::max(least, k > step ? k - step : 0);
      const bool moved = target != k && state.move_towards(target);
      record();
      failures = moved ? 0 : failures + 1;
      if (!moved) direction = -direction;
      if (failures == 2) {
        step /= 2;
        failures = 0;
      }
    }
  } else {
    // R_i = R_{i-1} + delta (h'_i - h'_{i-1}), delta = R_0 / h'_0 so that relative changes match (the paper
    // leaves it open).
    const double r0 = 8.0 * double(state.kept()) / double(bits);
    const double delta = r0 / std::max(state.noise(), 1e-30);
    double r = r0, before = state.noise();
    // h'_0 - h'_{-1} does not exist; the first round asks for 5 % less, downwards as the rule can only go.
    double change = -0.05 * before;
    for (uint32_t round = 0; round < rounds; ++round) {
      r += delta * change;
      const double wanted = std::round(r * double(bits) / 8);
      const uint64_t target = std::clamp(wanted > 0 ? uint64_t(wanted) : 0, least, std::max(least, most));
      if (target == state.kept() || !state.move_towards(target)) break;
      change = state.noise() - before;
      before = state.noise();
      record();
    }
  }
  return state.noise() <= modelled_noise(widths, first, index) ? state.state() : first;
}

}  // namespace jsq
