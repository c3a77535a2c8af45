// Measured error of decoded values, and the ratios of a compress report.
#include <algorithm>
#include <cmath>

#include "jsq/compress.hpp"

namespace jsq {

double Distortion::nmse() const noexcept {
  if (energy > 0 || std::isnan(squared_error)) return squared_error / energy;
  return squared_error > 0 ? HUGE_VAL : 0.0;
}

double Distortion::cosine() const noexcept {
  if (std::isnan(dot)) return dot;
  if (energy <= 0 && decoded_energy <= 0) return 1.0;
  if (energy <= 0 || decoded_energy <= 0) return 0.0;
  return dot / (std::sqrt(energy) * std::sqrt(decoded_energy));
}

void Distortion::add(const Distortion& other) noexcept {
  elements += other.elements;
  energy += other.energy;
  squared_error += other.squared_error;
  dot += other.dot;
  decoded_energy += other.decoded_energy;
  error_sum += other.error_sum;
  max_error = std::max(max_error, other.max_error);
}

Distortion distortion(std::span<const float> original, std::span<const float> decoded) {
  Distortion total;
  constexpr size_t chunk = 65536, lanes = 16;
  for (size_t at = 0; at < original.size(); at += chunk) {
    const size_t n = std::min(chunk, original.size() - at);
    double energy[lanes] = {}, error[lanes] = {}, dot[lanes] = {}, decoded_energy[lanes] = {},
           sum[lanes] = {}, max[lanes] = {};
    for (size_t i = 0; i < n; ++i) {
      const double g = original[at + i], h = decoded[at + i], e = h - g;
      const size_t l = i % lanes;
      energy[l] += g * g;
      error[l] += e * e;
      dot[l] += g * h;
      decoded_energy[l] += h * h;
      sum[l] += e;
      max[l] = std::max(max[l], std::abs(e));
    }
    for (size_t half = lanes / 2; half > 0; half /= 2)
      for (size_t l = 0; l < half; ++l) {
        energy[l] += energy[l + half];
        error[l] += error[l + half];
        dot[l] += dot[l + half];
        decoded_energy[l] += decoded_energy[l + half];
        sum[l] += sum[l + half];
        max[l] = std::max(max[l], max[l + half]);
      }
    total.add({n, energy[0], error[0], dot[0], decoded_energy[0], sum[0], max[0]});
  }
  return total;
}

double CompressReport::file_ratio() const noexcept {
  return file_bytes ? double(input_bytes) / double(file_bytes) : 0.0;
}

double CompressReport::payload_ratio() const noexcept {
  uint64_t bits = 0;
  for (const PoolReport& pool : pools) bits += pool.payload_bits;
  return bits ? 8.0 * double(input_bytes) / double(bits) : HUGE_VAL;
}

double CompressReport::bits_per_element() const noexcept {
  return elements ? 8.0 * double(file_bytes) / double(elements) : 0.0;
}

double CompressReport::hprime() const noexcept {
  std::vector<double> energy(pools.size());
  double total = 0, noise = 0;
  for (const TensorReport& tensor : tensors) energy[tensor.pool] += tensor.distortion.energy;
  for (size_t p = 0; p < pools.size(); ++p) {
    total += energy[p];
    noise += energy[p] * pools[p].noise.per_element;
  }
  return total > 0 ? noise / total : 0.0;
}

}  // namespace jsq
