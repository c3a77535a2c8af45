#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/table_rounding.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/table_rounding.hpp"
#include "kernels/element/hadamard.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr size_t lanes = 16;
static_assert(lanes == element::table_entries);

void place(const TablePlacer& p, float* HWY_RESTRICT coordinates, float* HWY_RESTRICT positions,
           size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const float z = element::deviations_of(p, coordinates[i]), inside = element::clamped_deviations(p, z);
    coordinates[i] = inside - z;
    positions[i] = element::table_position(p, inside);
  }
}

/// The cells of sixteen positions, whose whole parts are below 16 `parts`.
template <bool has_entries>
HWY_INLINE void find_cells(const RoundingTable& t, [[maybe_unused]] int32_t parts,
                           const float* HWY_RESTRICT positions, int32_t* HWY_RESTRICT index,
                           float* HWY_RESTRICT low, float* HWY_RESTRICT high) {
  const hn::CappedTag<float, lanes> d;
  const hn::RebindToSigned<decltype(d)> di;
  for (size_t l = 0; l < lanes; l += hn::Lanes(d)) {
    const auto position = hn::LoadU(d, positions + l);
    if constexpr (has_entries) {
      auto cell = hn::Zero(di);
#if HWY_TARGET <= HWY_AVX3
      // Entries are whole numbers, so that the whole part of a position tells its cell.
      const auto entries = hn::LoadU(d, t.entries);
      const auto whole = hn::ConvertTo(di, position);
      const auto at = hn::IndicesFromVec(di, hn::And(whole, hn::Set(di, int32_t(lanes) - 1)));
      for (int32_t part = 0; part < parts; ++part) {
        const int32_t first = part * int32_t(lanes);
        const auto found = hn::TableLookupLanes(hn::LoadU(di, t.cells + first), at);
        cell = hn::IfThenElse(hn::Lt(whole, hn::Set(di, first)), cell, found);
      }
      hn::StoreU(cell, di, index + l);
      hn::StoreU(hn::TableLookupLanes(entries, hn::IndicesFromVec(d, cell)), d, low + l);
      hn::StoreU(hn::TableLookupLanes(entries, hn::IndicesFromVec(d, hn::Add(cell, hn::Set(di, 1)))), d,
                 high + l);
      continue;
#endif
      auto below = hn::Set(d, t.entries[0]), above = hn::Set(d, t.entries[1]);
      for (size_t e = 1; e + 1 < lanes; ++e) {
        const auto entry = hn::Set(d, t.entries[e]);
        const auto reached = hn::Ge(position, entry);
        cell = hn::Sub(cell, hn::VecFromMask(di, hn::RebindMask(di, reached)));
        below = hn::IfThenElse(reached, entry, below);
        above = hn::IfThenElse(reached, hn::Set(d, t.entries[e + 1]), above);
      }
      hn::StoreU(cell, di, index + l);
      hn::StoreU(below, d, low + l);
      hn::StoreU(above, d, high + l);
    } else {
      const auto cell = hn::Min(hn::ConvertTo(di, position), hn::Set(di, t.last - 1));
      hn::StoreU(cell, di, index + l);
      hn::StoreU(hn::ConvertTo(d, cell), d, low + l);
      hn::StoreU(hn::ConvertTo(d, hn::Add(cell, hn::Set(di, 1))), d, high + l);
    }
  }
}

template <bool has_entries, bool stochastic>
HWY_INLINE void round_sixteen(const RoundingTable& t, int32_t parts, const float* HWY_RESTRICT positions,
                              const float* HWY_RESTRICT uniforms, int32_t* HWY_RESTRICT levels,
                              double* HWY_RESTRICT errors) {
  int32_t index[lanes];
  float low[lanes], high[lanes];
  find_cells<has_entries>(t, parts, positions, index, low, high);
  float from[lanes], gap[lanes];
  for (size_t l = 0; l < lanes; ++l) {
    from[l] = positions[l] - low[l];
    gap[l] = high[l] - low[l];
  }
  for (size_t l = 0; l < lanes; ++l) {
    const float way = element::table_way(from[l], gap[l]);
    if constexpr (stochastic) {
      levels[l] = index[l] + (uniforms[l] < way ? 1 : 0) - t.middle;
    } else {
      levels[l] = index[l] + (way >= 0.5f ? 1 : 0) - t.middle;
    }
  }
  for (size_t l = 0; l < lanes; ++l) {
    if constexpr (stochastic) {
      errors[l] += element::table_rounding_error(from[l], gap[l]);
    } else {
      errors[l] += element::table_distance(positions[l], levels[l] + t.middle > index[l] ? high[l] : low[l]);
    }
  }
}

template <bool has_entries, bool stochastic>
double round_all(const RoundingTable& table, const float* positions, const float* uniforms, int32_t* levels,
                 size_t count) {
  const RoundingTable t = table;  // nobody else's, so that it stays in registers
  const int32_t parts = int32_t(t.entries[lanes - 1]) / int32_t(lanes) + 1;
  double errors[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    round_sixteen<has_entries, stochastic>(t, parts, positions + i, stochastic ? uniforms + i : nullptr,
                                           levels + i, errors);
  if (i < count) {
    // A position of 0 lies on an entry: its error is 0.
    float last_positions[lanes] = {}, last_uniforms[lanes] = {};
    int32_t last_levels[lanes];
    for (size_t l = 0; i + l < count; ++l) last_positions[l] = positions[i + l];
    for (size_t l = 0; stochastic && i + l < count; ++l) last_uniforms[l] = uniforms[i + l];
    round_sixteen<has_entries, stochastic>(t, parts, last_positions, last_uniforms, last_levels, errors);
    for (size_t l = 0; i + l < count; ++l) levels[i + l] = last_levels[l];
  }
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) errors[l] += errors[l + half];
  return errors[0];
}

double round_positions(const RoundingTable& t, const float* positions, const float* uniforms, int32_t* levels,
                       size_t count) {
  if (t.has_entries)
    return uniforms ? round_all<true, true>(t, positions, uniforms, levels, count)
                    : round_all<true, false>(t, positions, nullptr, levels, count);
  return uniforms ? round_all<false, true>(t, positions, uniforms, levels, count)
                  : round_all<false, false>(t, positions, nullptr, levels, count);
}

void centred(const RoundingTable& t, int32_t g, const int32_t* HWY_RESTRICT levels,
             float* HWY_RESTRICT values, size_t count) {
  if (!t.has_entries) {
    for (size_t i = 0; i < count; ++i) values[i] = element::centred_entry(float(levels[i] + t.middle), g);
    return;
  }
  const hn::CappedTag<float, lanes> d;
  const hn::RebindToSigned<decltype(d)> di;
  float doubled[lanes];
  for (size_t e = 0; e < lanes; ++e) doubled[e] = element::centred_entry(t.entries[e], g);
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
    const auto index = hn::Add(hn::LoadU(di, levels + i), hn::Set(di, t.middle));
#if HWY_TARGET <= HWY_AVX3
    hn::StoreU(hn::TableLookupLanes(hn::LoadU(d, doubled), hn::IndicesFromVec(d, index)), d, values + i);
    continue;
#endif
    auto value = hn::Set(d, doubled[0]);
    for (size_t e = 1; e < lanes; ++e)
      value = hn::IfThenElse(hn::RebindMask(d, hn::Eq(index, hn::Set(di, int32_t(e)))),
                             hn::Set(d, doubled[e]), value);
    hn::StoreU(value, d, values + i);
  }
  for (; i < count; ++i) values[i] = doubled[levels[i] + t.middle];
}

/// `in` may be `out`: sixteen are read before any of them is written.
void scale(const float* in, double unit, float* out, size_t count) {
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    float x[lanes];
    for (size_t l = 0; l < lanes; ++l) x[l] = in[i + l];
    for (size_t l = 0; l < lanes; ++l) x[l] = element::scaled_finite(x[l], unit);
    for (size_t l = 0; l < lanes; ++l) out[i + l] = x[l];
  }
  for (; i < count; ++i) out[i] = element::scaled_finite(in[i], unit);
}

void scale_signs(const float* HWY_RESTRICT in, float unit, const uint32_t* HWY_RESTRICT words,
                 float* HWY_RESTRICT out, size_t count) {
  for (size_t i = 0; i < count; ++i) out[i] = element::with_random_sign(in[i] * unit, words[i]);
}

void scale_bounded(const float* HWY_RESTRICT in, double unit, const uint32_t* HWY_RESTRICT words,
                   float* HWY_RESTRICT out, size_t count) {
  for (size_t i = 0; i < count; ++i)
    out[i] = element::with_random_sign(float(double(in[i]) * unit), words[i]);
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(place);
HWY_EXPORT(round_positions);
HWY_EXPORT(centred);
HWY_EXPORT(scale);
HWY_EXPORT(scale_signs);
HWY_EXPORT(scale_bounded);

void place_in_table(const TablePlacer& placer, std::span<float> coordinates, std::span<float> positions) {
  HWY_DYNAMIC_DISPATCH(place)(placer, coordinates.data(), positions.data(), coordinates.size());
}

double round_to_table(const RoundingTable& table, std::span<const float> positions,
                      std::span<const float> uniforms, std::span<int32_t> levels) {
  return HWY_DYNAMIC_DISPATCH(round_positions)(
      table, positions.data(), uniforms.empty() ? nullptr : uniforms.data(), levels.data(), positions.size());
}

void centred_entries(const RoundingTable& table, int32_t g, std::span<const int32_t> levels,
                     std::span<float> values) {
  HWY_DYNAMIC_DISPATCH(centred)(table, g, levels.data(), values.data(), levels.size());
}

void scale_finite(std::span<const float> in, double unit, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(scale)(in.data(), unit, out.data(), in.size());
}

void scale_with_signs(std::span<const float> in, float unit, std::span<const uint32_t> words,
                      std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(scale_signs)(in.data(), unit, words.data(), out.data(), in.size());
}

void scale_bounded_with_signs(std::span<const float> in, double unit, std::span<const uint32_t> words,
                              std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(scale_bounded)(in.data(), unit, words.data(), out.data(), out.size());
}

}  // namespace jsq::cpu
#endif
