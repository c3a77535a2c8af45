// Data for the tests: a small generator of its own, and the kinds of gradients that the promises name. No
// expectations live here.
#pragma once

#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace jsq::test {

/// SplitMix64: a bijection of a counter, so that every test has its own stream from one number.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t word() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  /// 0..limit-1.
  uint64_t below(uint64_t limit) { return word() % limit; }
  /// [0, 1) with 53 bits.
  double uniform() { return double(word() >> 11) * 0x1p-53; }
  double normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(6.283185307179586 * uniform());
  }
  /// Symmetric, with a tail like real gradients: a normal whose spread is log-normal.
  float heavy(double spread = 1.5) { return float(0.01 * normal() * std::exp(spread * normal())); }
  float laplace() {
    const double u = uniform() - 0.5;
    return float(u < 0 ? std::log(1 + 2 * u) : -std::log(1 - 2 * u));
  }
  /// Any finite f32, every exponent alike.
  float any_finite() {
    for (;;) {
      const float g = std::bit_cast<float>(uint32_t(word()));
      if (std::isfinite(g)) return g;
    }
  }

 private:
  uint64_t state_;
};

enum class Kind {
  zeros,
  negative_zeros,
  constant,
  one_nonzero,
  signed_zeros,
  subnormal,
  near_max,
  one_outlier,
  heavy,
  gauss,
  ternary,
  f16_grid,
  sparse
};
constexpr Kind all_kinds[] = {Kind::zeros,        Kind::negative_zeros, Kind::constant, Kind::one_nonzero,
                              Kind::signed_zeros, Kind::subnormal,      Kind::near_max, Kind::one_outlier,
                              Kind::heavy,        Kind::gauss,          Kind::ternary,  Kind::f16_grid,
                              Kind::sparse};
inline const char* kind_name(Kind kind) {
  constexpr const char* names[] = {
      "zeros",       "negative_zeros", "constant", "one_nonzero", "signed_zeros", "subnormal", "near_max",
      "one_outlier", "heavy",          "gauss",    "ternary",     "f16_grid",     "sparse"};
  return names[size_t(kind)];
}

inline std::vector<float> make_data(Kind kind, size_t n, uint64_t seed = 1) {
  Random random(seed * 1000 + uint64_t(kind));
  std::vector<float> values(n);
  const size_t place = n ? size_t(random.below(n)) : 0;
  for (size_t i = 0; i < n; ++i) {
    switch (kind) {
      case Kind::zeros:
        values[i] = 0.0f;
        break;
      case Kind::negative_zeros:
        values[i] = -0.0f;
        break;
      case Kind::constant:
        values[i] = 0.37f;
        break;
      case Kind::one_nonzero:
        values[i] = i == place ? -2.5f : 0.0f;
        break;
      case Kind::signed_zeros:
        values[i] = random.below(2) ? 0.0f : -0.0f;
        if (i == place) values[i] = 1;
        break;
      case Kind::subnormal:
        values[i] = std::bit_cast<float>(uint32_t(random.below(0x800000) | (random.below(2) << 31)));
        break;
      case Kind::near_max:
        values[i] = float((random.uniform() * 2 - 1) * double(FLT_MAX));
        if (i == place) values[i] = FLT_MAX;
        break;
      case Kind::one_outlier:
        values[i] = i == place ? 3.0e30f : float(random.normal());
        break;
      case Kind::heavy:
        values[i] = random.heavy();
        break;
      case Kind::gauss:
        values[i] = float(random.normal());
        break;
      case Kind::ternary:
        values[i] = float(int(random.below(3)) - 1) * 0.25f;
        break;
      case Kind::f16_grid:
        values[i] = float(std::round(random.normal() * 64) / 1024);
        break;
      case Kind::sparse:
        values[i] = random.below(50) == 0 ? random.heavy() : 0.0f;
        break;
    }
  }
  return values;
}

}  // namespace jsq::test
