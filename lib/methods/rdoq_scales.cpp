#include "lib/methods/rdoq_scales.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/context_passes.hpp"
#include "kernels/cpu/cost_sums.hpp"

namespace jsq {

int half_octaves(float x) {
  if (!(x > 0)) return octaves_of_zero;
  uint32_t bits = std::bit_cast<uint32_t>(x);
  int shift = 0;
  if (bits < 0x00800000u) {  // subnormal
    bits = std::bit_cast<uint32_t>(x * 0x1p64f);
    shift = 64;
  }
  const uint32_t mantissa = bits & 0x7fffff;
  // Mantissas of 2^(1/4) and 2^(3/4).
  return 2 * (int(bits >> 23) - 127 - shift) + (mantissa >= 0x1837f0u) + (mantissa >= 0x5744fdu);
}

double coarse_log2(double x) {
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  const double m = std::bit_cast<double>((bits & ((uint64_t(1) << 52) - 1)) | uint64_t(1023) << 52);
  return double(int(bits >> 52) - 1023) + (m * 2 - m * m / 3 - 5.0 / 3);
}

float octave_weight(int b) {
  const float octave = std::bit_cast<float>(uint32_t(127 - (b >= 0 ? b / 2 : -((1 - b) / 2))) << 23);
  return b & 1 ? octave * 0.70710678f : octave;
}

std::vector<int16_t> relative_octaves(std::span<const double> sums) {
  double total = 0;
  for (double sum : sums) total += sum;
  std::vector<int16_t> scales(sums.size());
  for (size_t j = 0; j < scales.size() && total > 0; ++j)
    scales[j] = int16_t(std::clamp(half_octaves(float(sums[j] * double(scales.size()) / total)), -40, 40));
  return scales;
}

namespace {

int16_t mean_octaves(double sum, size_t count) {
  return int16_t(half_octaves(float(sum / double(std::max<size_t>(1, count)))));
}

}  // namespace

void measure_rows(std::span<const float> values, const Piece& piece, ScaleLayout layout,
                  std::span<const int16_t> columns, std::vector<int16_t>& rows) {
  const Stretches stretches = stretches_of(piece, layout);
  rows.clear();
  rows.reserve(stretches.number);
  static thread_local std::vector<float> weights;
  if (layout == row_and_column_scales) {
    weights.resize(size_t(piece.view.row_elements()));
    for (size_t j = 0; j < columns.size(); ++j)
      std::fill_n(weights.data() + j * size_t(piece.view.inner), size_t(piece.view.inner),
                  octave_weight(columns[j]));
  }
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
    const std::span<const float> row = values.subspan(at, length);
    if (layout != row_and_column_scales) {
      if (length == stretches.other && length % 16 == 0) {
        // All that are whole, some hundred at a time.
        double sums[256];
        const size_t whole = std::min((piece.count - at) / length, std::size(sums));
        cpu::row_magnitudes(row.data(), whole, length, sums);
        for (size_t i = 0; i < whole; ++i) rows.push_back(mean_octaves(sums[i], length));
        r += whole - 1;
        at += (whole - 1) * length;
      } else {
        rows.push_back(mean_octaves(cpu::row_magnitude(row.data(), length), length));
      }
    } else {
      const float* weight = weights.data() + (piece.first + at) % piece.view.row_elements();
      rows.push_back(mean_octaves(cpu::weighted_row_magnitude(row.data(), weight, length), length));
    }
    at += length;
  }
}

void measure_shares(std::span<const float> values, const Piece& piece, ScaleLayout layout,
                    std::vector<int16_t>& rows) {
  const Stretches stretches = stretches_of(piece, layout);
  rows.clear();
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, piece.count - at);
    size_t nonzero = 0;
    for (float g : values.subspan(at, length)) nonzero += g != 0;
    rows.push_back(int16_t(half_octaves(float(nonzero) / float(length))));
    at += length;
  }
}

std::vector<int16_t> measure_columns(const TensorPool& pool, size_t t, uint64_t begin, const ScaleView& view,
                                     std::span<const int16_t> frequencies) {
  const size_t columns = size_t(view.columns), inner = size_t(view.inner);
  constexpr uint64_t length = 65536;
  const uint64_t elements = view.rows * view.row_elements();
  // Of a part with many rows, some at even distances tell.
  const uint64_t every =
      std::clamp<uint64_t>(elements >> 19, 1, std::max<uint64_t>(view.rows * view.inner >> 8, 1));
  const uint64_t together =
      every == 1 ? elements : std::max<uint64_t>(length / view.row_elements(), 1) * view.row_elements();
  std::vector<std::pair<uint64_t, size_t>> blocks;
  for (uint64_t group = 0; group < elements; group += every * together)
    for (uint64_t at = group, end = std::min(group + together, elements); at < end; at += length)
      blocks.emplace_back(at, size_t(std::min(length, end - at)));
  std::vector<double> sums(columns);
  // A few blocks at a time, added in order, so that memory stays bounded and sums do not depend on threads.
  constexpr size_t at_once = 32;
  std::vector<std::vector<double>> partial(at_once);
  const auto add_block = [&](std::pair<uint64_t, size_t> block, std::vector<double>& sums_of_block) {
    const uint64_t first = block.first;
    static thread_local std::vector<float> scratch, divided;
    std::span<const float> values = pool.read(t, begin + first, block.second, scratch);
    const Piece piece{view, first, values.size()};
    if (!frequencies.empty()) {
      divide_frequencies(values, piece, frequencies, divided);
      values = divided;
    }
    const Stretches stretches = stretches_of(piece, row_scales);
    sums_of_block.assign(columns, 0.0);
    size_t at = 0;
    for (size_t r = 0; r < stretches.number; ++r) {
      const size_t count = std::min(r == 0 ? stretches.first : stretches.other, values.size() - at);
      const double mean = cpu::row_magnitude(values.data() + at, count) / double(count);
      if (mean > 0) {
        const double weight = 1 / mean;
        size_t column = size_t((first + at) % view.row_elements()) / inner,
               left = inner - size_t((first + at) % inner);
        if (inner == 1) {
          double* const own = sums_of_block.data() + column;
          const float* const numbers = values.data() + at;
          cpu::add_magnitudes(numbers, count, weight, own);
          at += count;
          continue;
        }
        for (size_t i = 0; i < count; ++column, left = inner) {
          double sum = sums_of_block[column];
          for (const size_t end = std::min(i + left, count); i < end; ++i)
            sum += double(std::abs(values[at + i])) * weight;
          sums_of_block[column] = sum;
        }
      }
      at += count;
    }
  };
  for (size_t first = 0; first < blocks.size(); first += at_once) {
    const size_t count = std::min(at_once, blocks.size() - first);
    tbb::parallel_for(size_t(0), count, [&](size_t b) { add_block(blocks[first + b], partial[b]); });
    for (size_t b = 0; b < count; ++b)
      for (size_t j = 0; j < columns; ++j) sums[j] += partial[b][j];
  }
  return relative_octaves(sums);
}

void divide_frequencies(std::span<const float> values, const Piece& piece,
                        std::span<const int16_t> frequencies, std::vector<float>& divided) {
  static thread_local std::vector<float> own, weights;
  own.clear();
  for (int16_t b : frequencies) own.push_back(octave_weight(b));
  // Over and over, so that a pass over them is long enough for vectors.
  const size_t inner = own.size(), length = inner * (1 + 512 / inner);
  weights.resize(length);
  for (size_t i = 0, place = size_t(piece.first % inner); i < length; ++i) {
    weights[i] = own[place];
    place = place + 1 == inner ? 0 : place + 1;
  }
  divided.resize(values.size());
  for (size_t begin = 0; begin < values.size(); begin += length) {
    const float* const from = values.data() + begin;
    const float* const weight = weights.data();
    float* const to = divided.data() + begin;
    const size_t count = std::min(length, values.size() - begin);
    for (size_t i = 0; i < count; ++i) to[i] = from[i] * weight[i];
  }
}

}  // namespace jsq
