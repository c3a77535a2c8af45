// The least rate + slope x distortion of one memoryless source, by Blahut and Arimoto's algorithm and its
// dual certificate.
#pragma once

#include "jsq/rate_distortion.hpp"

namespace jsq {

/// One point of a rate-distortion curve, for an element, in nats: L = min R + slope D.
struct Lagrangian {
  double lower = 0;       ///< of a feasible dual point: L is not below
  double upper = 0;       ///< of the reproduction distribution that was found: L is not above
  double distortion = 0;  ///< D of that distribution, in units of g^2: dL / dslope
};

/// Solves for one source at one slope (nats per unit of g^2, above 0) until lower and upper are within 2e-4
/// slope D, or the iterations are spent. A few hundred iterations over some hundred points. Deterministic.
Lagrangian least_lagrangian(const MagnitudeHistogram& source, double slope);

}  // namespace jsq
