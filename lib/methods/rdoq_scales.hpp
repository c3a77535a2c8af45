// The encoder's view of scales: mean magnitudes of rows, columns and runs, rounded to half octaves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lib/core/pool.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {

/// 2 log2(x) rounded to the nearest integer, from the bits of x; `octaves_of_zero` for 0.  \pre x is finite,
/// 0 or more
int half_octaves(float x);
constexpr int octaves_of_zero = -400;

/// log2(x) within 0.01, from the bits of x > 0: the same on every machine.
double coarse_log2(double x);

/// 2^(-b/2): what numbers of scale b are multiplied with to have scale 0.
float octave_weight(int b);

/// Scales of sums against their mean, within -40..40; 0 where all are 0.
std::vector<int16_t> relative_octaves(std::span<const double> sums);

/// Mean magnitude of every stretch of the piece, in half octaves; with columns, of |g| 2^(-b/2), b the
/// column's scale.
void measure_rows(std::span<const float> values, const Piece& piece, ScaleLayout layout,
                  std::span<const int16_t> columns, std::vector<int16_t>& rows);

/// The same of the share of elements that are not zero: what exact coding has contexts by.
void measure_shares(std::span<const float> values, const Piece& piece, ScaleLayout layout,
                    std::vector<int16_t>& rows);

/// Scale of every column of the part of tensor t that begins at `first`, against the part's mean, of rows
/// normalised to one scale, values divided by the scales of `frequencies` where there are any. Reads the part
/// once; the same for any number of threads.
std::vector<int16_t> measure_columns(const TensorPool& pool, size_t t, uint64_t first, const ScaleView& view,
                                     std::span<const int16_t> frequencies);

/// The values of a piece divided by the scales of their places in the kernels.  \pre frequencies has
/// view.inner entries
void divide_frequencies(std::span<const float> values, const Piece& piece,
                        std::span<const int16_t> frequencies, std::vector<float>& divided);

}  // namespace jsq
