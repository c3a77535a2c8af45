// One block of a sparse method on its way to bytes: what is kept of it, what of that is sent, and how.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

#include "lib/methods/sparse.hpp"
#include "lib/methods/sparse_values.hpp"

namespace jsq {

/// One block on its way to bytes; a thread keeps its buffers.
struct SparseScheme::Block {
  std::vector<uint32_t> kept;                         ///< indices of the selected elements, ascending
  std::vector<float> kept_values;                     ///< beside them
  std::vector<float> decoded;                         ///< of the kept, before the stored type rounds
  std::vector<uint32_t> sent;                         ///< those of them that do not decode to zero
  std::vector<uint8_t> codes;                         ///< code words of the sent, or their signs
  std::string plane, map;                             ///< magnitudes of exact values; the class block
  std::vector<float> scaled, uniforms, level_values;  ///< of the kept
  std::vector<int32_t> levels, magnitudes;
  std::vector<uint8_t> classes;
  float scale = 0;   ///< levels
  size_t coded = 0;  ///< elements that do not decode to zero
  Moments moments;
  double value_entropy_bits = 0;

  void start(bool decodes) {
    decoded.assign(decodes ? kept.size() : 0, 0.0f);
    coded = 0;
    moments = {};
    value_entropy_bits = 0;
    sent.clear();
    codes.clear();
    plane.clear();
    map.clear();
  }
  /// The kept elements' own, from those of the whole block.
  void take_values(std::span<const float> all) {
    kept_values.resize(kept.size());
    for (size_t k = 0; k < kept.size(); ++k) kept_values[k] = all[kept[k]];
  }
  void send(uint32_t index, uint32_t code) {
    sent.push_back(index);
    codes.push_back(uint8_t(code));
  }
  /// Sends the signs of the kept that are not zero in the format.
  void send_signs(SparseValues format) {
    sent.resize(kept.size());
    codes.resize(kept.size());
    for (size_t k = 0; k < kept.size(); ++k) {
      sent[coded] = kept[k];
      codes[coded] = is_negative(kept_values[k]);
      coded += key_of(format, kept_values[k]) > 0;
    }
    sent.resize(coded);
    codes.resize(coded);
  }
  /// Sends the signs and magnitudes of the kept whose levels are not zero, without a branch that would depend
  /// on what was drawn.
  void send_levels() {
    sent.resize(kept.size());
    codes.resize(kept.size());
    magnitudes.resize(kept.size());
    const uint32_t* from = kept.data();
    uint32_t* to = sent.data();
    uint8_t* signs = codes.data();
    int32_t* sizes = magnitudes.data();
    size_t next = 0;
    for (const int32_t level : levels) {
      to[next] = *from++;
      signs[next] = level < 0;
      sizes[next] = std::abs(level) - 1;
      next += level != 0;
    }
    coded = next;
    sent.resize(next);
    codes.resize(next);
    magnitudes.resize(next);
  }
  /// Not inlined: the compiler would otherwise look the thread's copy up again inside the loops.
  [[gnu::noinline]] static Block& of_thread() {
    static thread_local Block block;
    return block;
  }
};

}  // namespace jsq
