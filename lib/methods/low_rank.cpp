#include "lib/methods/low_rank.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <Eigen/Core>
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <mutex>

#include "jsq/error.hpp"
#include "jsq/state.hpp"
#include "kernels/cpu/thin_products.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/float_bits.hpp"
#include "kernels/element/outer_product.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/low_rank_device.hpp"
#include "lib/methods/low_rank_factors.hpp"
#include "lib/methods/options.hpp"

namespace jsq {
namespace {

// Eigen holds the factors and does what works on each number alone. Its products and sums are not used: their
// order depends on instruction sets and on the sizes of caches, and bytes must not.
using Columns = Eigen::MatrixXd;
using StoredColumns = Eigen::MatrixXf;

constexpr uint64_t stretch = 65536;      ///< elements that are read at a time
constexpr uint64_t widest_panel = 8192;  ///< elements of a run whose sums are formed together
constexpr uint64_t most_ranks = 65536;
constexpr uint64_t most_seeded = 1u << 22;  ///< numbers of a factor that decoders draw from the seed
constexpr int exponent_bias = 300;
constexpr int f16_shift = 14;  ///< f16 factors are stored times 2^14, away from subnormals
constexpr size_t cached_factors = 8;

constexpr uint8_t flag_f16 = 1, flag_seeded = 2;

double dot(const double* a, const double* b, size_t n) {
  constexpr size_t lanes = 8;
  double lane[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (size_t l = 0; l < lanes; ++l) lane[l] += a[i + l] * b[i + l];
  for (size_t l = 0; i + l < n; ++l) lane[l] += a[i + l] * b[i + l];
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) lane[l] += lane[l + half];
  return lane[0];
}

/// What is left of a number once it is stored.
float as_stored(double number, FactorType type) {
  const float rounded = float(number);
  return type == FactorType::f16 ? element::f16_to_f32(element::f32_to_f16_saturating(rounded)) : rounded;
}

void write_number(float number, FactorType type, ByteWriter& out) {
  if (type == FactorType::f16)
    out.u16(element::f32_to_f16_saturating(number));
  else
    out.f32(number);
}

// Products with the matrix, which is read in stretches.

/// out(:, first..) <- M times the columns of `factor` along the runs: one dot product for each run.
void runs_times(const TensorPool& pool, size_t t, const MatrixView& view, cpu::ThinFactor<const float> factor,
                cpu::ThinFactor<double> out) {
  if (pool.device() != nullptr) return runs_times_on_device(pool, t, view, stretch, factor, out);
  const uint64_t width = view.inner(), runs = view.outer();
  if (width <= stretch) {
    const uint64_t together = stretch / width;
    tbb::parallel_for(uint64_t(0), (runs + together - 1) / together, [&](uint64_t s) {
      static thread_local std::vector<float> scratch;
      const uint64_t run = s * together, count = std::min(together, runs - run);
      const auto values = pool.read(t, run * width, size_t(count * width), scratch);
      cpu::rows_times_factor(values.data(), size_t(count), size_t(width), factor,
                             {out.numbers + run, out.stride, out.columns});
    });
    return;
  }
  // A run in panels, whose products are added from left to right.
  const uint64_t panels = (width + stretch - 1) / stretch;
  Columns partial(Eigen::Index(panels * runs), Eigen::Index(out.columns));
  tbb::parallel_for(uint64_t(0), panels * runs, [&](uint64_t s) {
    static thread_local std::vector<float> scratch;
    const uint64_t run = s / panels, first = s % panels * stretch, count = std::min(stretch, width - first);
    const auto values = pool.read(t, run * width + first, size_t(count), scratch);
    cpu::rows_times_factor(values.data(), 1, size_t(count),
                           {factor.numbers + first, factor.stride, factor.columns},
                           {partial.data() + s, size_t(panels * runs), out.columns});
  });
  for (size_t k = 0; k < out.columns; ++k)
    for (uint64_t run = 0; run < runs; ++run) {
      double sum = 0;
      for (uint64_t p = 0; p < panels; ++p) sum += partial(Eigen::Index(run * panels + p), Eigen::Index(k));
      out.numbers[k * out.stride + run] = sum;
    }
}

/// out <- the transpose of the runs times the columns of `factor` across them: a weighted sum of the runs, in
/// up to 8 groups of consecutive ones, which are added in order.
void across_runs(const TensorPool& pool, size_t t, const MatrixView& view,
                 cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> out) {
  const uint64_t width = view.inner(), runs = view.outer();
  const uint64_t panel = std::min(width, widest_panel), panels = (width + panel - 1) / panel;
  const uint64_t groups = std::clamp<uint64_t>(runs / 64, 1, 8), group = (runs + groups - 1) / groups;
  if (pool.device() != nullptr) return across_runs_on_device(pool, t, view, group, factor, out);
  for (size_t k = 0; k < out.columns; ++k) std::fill_n(out.numbers + k * out.stride, width, 0.0);
  std::vector<Columns> partial(groups - 1);
  for (Columns& sums : partial) sums = Columns::Zero(Eigen::Index(width), Eigen::Index(out.columns));
  tbb::parallel_for(uint64_t(0), groups * panels, [&](uint64_t task) {
    static thread_local std::vector<float> scratch;
    const uint64_t g = task / panels, first = task % panels * panel, count = std::min(panel, width - first);
    const uint64_t end = std::min((g + 1) * group, runs);
    double* sums = g == 0 ? out.numbers : partial[g - 1].data();
    const size_t stride = g == 0 ? out.stride : size_t(width);
    const uint64_t together = panels == 1 ? stretch / width : 1;
    for (uint64_t run = g * group; run < end; run += together) {
      const uint64_t number = std::min(together, end - run);
      const auto values =
          pool.read(t, run * width + first, size_t(panels == 1 ? number * width : count), scratch);
      cpu::add_weighted_rows(values.data(), size_t(number), size_t(count), size_t(count),
                             {factor.numbers + run, factor.stride, factor.columns},
                             {sums + first, stride, out.columns});
    }
  });
  for (const Columns& sums : partial)
    for (size_t k = 0; k < out.columns; ++k)
      for (uint64_t i = 0; i < width; ++i)
        out.numbers[k * out.stride + i] += sums(Eigen::Index(i), Eigen::Index(k));
}

enum class Side : uint8_t { rows, columns };

/// Columns [from, to) of M factor (to_side rows), or of M^T factor (to_side columns).
void multiply(const TensorPool& pool, size_t t, const MatrixView& view, Side to_side,
              const StoredColumns& factor, Eigen::Index from, Eigen::Index to, Columns& out) {
  const bool along_runs = (to_side == Side::rows) != view.by_columns;
  for (Eigen::Index k = from; k < to; k += Eigen::Index(cpu::most_thin_columns)) {
    const size_t count = std::min(size_t(to - k), cpu::most_thin_columns);
    const cpu::ThinFactor<const float> part{factor.data() + k * factor.rows(), size_t(factor.rows()), count};
    const cpu::ThinFactor<double> products{out.data() + k * out.rows(), size_t(out.rows()), count};
    if (along_runs)
      runs_times(pool, t, view, part, products);
    else
      across_runs(pool, t, view, part, products);
  }
}

/// As many f32 columns as `source` has from `from` on, divided by one power of two so that products with them
/// stay far from the limits of f32. Directions, not lengths, are what a start or a basis is about.
void scaled_copy(const Columns& source, Eigen::Index from, StoredColumns& target) {
  for (Eigen::Index k = from; k < source.cols(); ++k) {
    const double largest = source.rows() ? source.col(k).cwiseAbs().maxCoeff() : 0.0;
    const double down = largest > 0 ? std::ldexp(1.0, -std::ilogb(largest)) : 1.0;
    target.col(k) = (source.col(k) * down).cast<float>();
  }
}

/// Both factors of one matrix, grown column by column.
class Factors {
 public:
  Factors(const TensorPool& pool, size_t t, const MatrixView& view, const LowRankPlan& plan,
          const EncoderContext& context)
      : pool_(pool), t_(t), view_(view), plan_(plan), seed_(context.seed) {
    load(context.state);
    const unsigned rounds = plan.algorithm == LowRankAlgorithm::powersgd ? plan.iterations : 1;
    orthonormal_.assign(rounds, Columns(side(basis_side()), 0));
    basis_.assign(rounds, StoredColumns(side(basis_side()), 0));
    free_.assign(rounds, Columns(side(free_side()), 0));
  }

  Side basis_side() const {
    return plan_.algorithm == LowRankAlgorithm::acpsgd && step_ % 2 == 0 ? Side::columns : Side::rows;
  }
  Side free_side() const { return basis_side() == Side::rows ? Side::columns : Side::rows; }
  /// Whether decoders can draw the basis: it comes from the seed and not from a step before.
  bool basis_from_seed() const {
    return plan_.algorithm == LowRankAlgorithm::acpsgd && step_ == 0 && given_.cols() == 0;
  }
  uint64_t step() const { return step_; }

  void grow(Eigen::Index rank) {
    const Eigen::Index done = basis_.back().cols();
    if (rank <= done) return;
    StoredColumns start(side(start_side()), rank);
    fill_start(start, done);
    for (size_t round = 0; round < orthonormal_.size(); ++round) {
      Columns &orthonormal = orthonormal_[round], &free = free_[round];
      StoredColumns& basis = basis_[round];
      orthonormal.conservativeResize(Eigen::NoChange, rank);
      basis.conservativeResize(Eigen::NoChange, rank);
      free.conservativeResize(Eigen::NoChange, rank);
      if (plan_.algorithm == LowRankAlgorithm::powersgd)
        multiply(pool_, t_, view_, Side::rows, start, done, rank, orthonormal);
      else
        for (Eigen::Index k = done; k < rank; ++k) orthonormal.col(k) = start.col(k).cast<double>();
      orthonormalise({orthonormal.data(), size_t(orthonormal.size())}, size_t(orthonormal.rows()),
                     size_t(done));
      const bool last = round + 1 == orthonormal_.size();
      const FactorType type = last ? plan_.factor : FactorType::f32;
      const double shift = type == FactorType::f16 ? std::ldexp(1.0, f16_shift) : 1.0;
      for (Eigen::Index k = done; k < rank; ++k)
        for (Eigen::Index i = 0; i < basis.rows(); ++i)
          basis(i, k) = as_stored(orthonormal(i, k) * shift, type);
      multiply(pool_, t_, view_, free_side(), basis, done, rank, free);
      if (!last) scaled_copy(free, done, start);
    }
  }

  const StoredColumns& basis() const { return basis_.back(); }
  const Columns& free() const { return free_.back(); }

 private:
  Eigen::Index side(Side which) const {
    return Eigen::Index(which == Side::rows ? view_.rows : view_.columns);
  }
  Side start_side() const {
    return plan_.algorithm == LowRankAlgorithm::powersgd ? Side::columns : basis_side();
  }
  const TensorInfo& info() const { return *pool_.tensors()[t_].info; }

  /// The start factor that the step before left, if it fits the matrix.
  void load(const State* state) {
    if (!state) return;
    const std::string& name = info().name;
    if (plan_.algorithm == LowRankAlgorithm::acpsgd) step_ = state->number(name, "step").value_or(0);
    const std::vector<float>* found = state->find(name, start_side() == Side::rows ? "p" : "q");
    const Eigen::Index length = side(start_side());
    if (!found || found->empty() || found->size() % size_t(length) != 0) return;
    given_ = Eigen::Map<const StoredColumns>(found->data(), length, Eigen::Index(found->size()) / length);
  }

  /// Columns [from, ..) of the start: what the step before left, otherwise what the seed gives. A column of
  /// zeros would stay one for ever and is drawn anew.
  void fill_start(StoredColumns& start, Eigen::Index from) const {
    std::vector<double> drawn(size_t(start.rows()));
    for (Eigen::Index k = from; k < start.cols(); ++k) {
      if (k < given_.cols() && !given_.col(k).isZero(0)) {
        start.col(k) = given_.col(k);
        continue;
      }
      start_column(seed_, pool_.tensors()[t_].number, uint64_t(k), drawn);
      start.col(k) = Eigen::Map<const Eigen::VectorXd>(drawn.data(), start.rows()).cast<float>();
    }
  }

  const TensorPool& pool_;
  size_t t_;
  MatrixView view_;
  const LowRankPlan& plan_;
  uint64_t seed_;
  uint64_t step_ = 0;
  StoredColumns given_;
  // Of each round of PowerSGD; ACP-SGD has one.
  std::vector<Columns> orthonormal_;
  std::vector<StoredColumns> basis_;  ///< as stored, and in f16 times 2^14
  std::vector<Columns> free_;
};

/// Elements [first, first + values.size()) from the rows of the outer factor that they touch, row by row.
void restore(const MatrixView& view, uint64_t first, size_t rank, int exponent, std::span<const float> rows,
             std::span<const float> inner, std::span<float> values) {
  const uint64_t width = view.inner();
  const element::OuterScale scale = element::outer_scale(exponent);
  for (uint64_t at = 0, row = 0; at < values.size(); ++row) {
    const uint64_t begin = (first + at) % width, count = std::min(width - begin, values.size() - at);
    cpu::outer_product_sum(rows.subspan(size_t(row) * rank, rank),
                           {inner.data() + begin, size_t(width), rank}, scale.scale,
                           values.subspan(size_t(at), size_t(count)));
    at += count;
  }
  if (scale.in_range) return;
  for (float& value : values) value = element::scaled_finite(value, scale.factor);
}

/// The basis that the seed gives: `rank` orthonormal columns of `length`.
std::vector<float> seeded_basis(uint64_t seed, uint32_t tensor, size_t length, size_t rank, FactorType type) {
  std::vector<double> columns(length * rank);
  for (size_t k = 0; k < rank; ++k) {
    const std::span<double> column = std::span(columns).subspan(k * length, length);
    start_column(seed, tensor, k, column);
    for (double& number : column) number = double(float(number));
  }
  orthonormalise(columns, length, 0);
  const double shift = type == FactorType::f16 ? std::ldexp(1.0, f16_shift) : 1.0;
  std::vector<float> stored(columns.size());
  for (size_t i = 0; i < columns.size(); ++i) stored[i] = as_stored(columns[i] * shift, type);
  return stored;
}

StoredFactors read_parameters(std::string_view name, std::string_view bytes, std::string_view what) {
  StoredFactors stored;
  ByteReader in(bytes, what);
  const uint8_t flags = in.u8();
  if (flags & ~(flag_f16 | flag_seeded) || (flags & flag_seeded && name != "acpsgd"))
    in.damaged("unknown flags " + std::to_string(flags));
  stored.type = flags & flag_f16 ? FactorType::f16 : FactorType::f32;
  stored.seeded = flags & flag_seeded;
  stored.rank = size_t(in.uvarint(most_ranks));
  if (stored.rank > 0) {
    stored.exponent = int(in.uvarint(2 * exponent_bias)) - exponent_bias;
    if (!stored.seeded) {
      const size_t numbers = in.remaining() / number_bytes(stored.type);
      if (numbers == 0 || numbers % stored.rank != 0) in.damaged("a factor whose columns differ in length");
      stored.inner.resize(numbers);
      for (float& number : stored.inner) number = read_number(stored.type, in);
    }
  }
  in.expect_end();
  return stored;
}

std::string write_parameters(const StoredFactors& stored) {
  ByteWriter out;
  out.u8(uint8_t((stored.type == FactorType::f16 ? flag_f16 : 0) | (stored.seeded ? flag_seeded : 0)));
  out.uvarint(stored.rank);
  if (stored.rank == 0) return out.take();
  out.uvarint(uint64_t(stored.exponent + exponent_bias));
  if (!stored.seeded)
    for (float number : stored.inner) write_number(number, stored.type, out);
  return out.take();
}

class LowRankDecoder final : public MethodDecoder {
 public:
  LowRankDecoder(std::string_view name, std::string_view parameters, std::string_view what)
      : name_(name), stored_(read_parameters(name, parameters, what)) {}

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    ByteReader in(block, what);
    const auto view = matrix_view(*place.info);
    if (!view) in.damaged("low-rank factors of a tensor that is no matrix");
    if (stored_.rank == 0) in.damaged("a block of a matrix of rank 0");
    const uint64_t rows = touched_runs(*view, place.first, values.size());
    if (in.remaining() != rows * stored_.rank * number_bytes(stored_.type))
      in.damaged(
          fmt::format("expected {} rows of rank {}, found {} bytes", rows, stored_.rank, in.remaining()));
    static thread_local std::vector<float> numbers;
    numbers.resize(size_t(rows) * stored_.rank);
    for (float& number : numbers) number = read_number(stored_.type, in);
    if (!fits(*view))
      in.damaged(stored_.seeded ? "a factor from the seed that no encoder leaves out"
                                : "the factor in the parameters does not fit the tensor");
    if (!stored_.seeded) {
      restore(*view, place.first, stored_.rank, stored_.exponent, numbers, stored_.inner, values);
      return;
    }
    const auto inner = seeded(place, size_t(view->inner()));
    restore(*view, place.first, stored_.rank, stored_.exponent, numbers, *inner, values);
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return make_low_rank_device_decoder(
        stored_, [this](const BlockPlace& place) -> std::shared_ptr<const std::vector<float>> {
          const MatrixView view = *matrix_view(*place.info);
          if (!fits(view)) return nullptr;
          if (stored_.seeded) return seeded(place, size_t(view.inner()));
          return {std::shared_ptr<const void>(), &stored_.inner};  // the decoder owns it
        });
  }

  std::string describe() const override {
    return fmt::format("{}:rank={},factor={}", name_, stored_.rank, choice_name(stored_.type, factor_names));
  }

 private:
  struct Drawn {
    uint32_t tensor = 0;
    uint64_t seed = 0;
    size_t length = 0;
    std::shared_ptr<const std::vector<float>> numbers;
  };

  /// Whether the inner factor is one of the matrix.
  bool fits(const MatrixView& view) const {
    if (!stored_.seeded) return stored_.inner.size() / stored_.rank == view.inner();
    return !view.by_columns && view.inner() <= most_seeded / stored_.rank && stored_.rank <= view.inner();
  }

  /// The seed's factor of a tensor, drawn once for the tensors that were decoded last.
  std::shared_ptr<const std::vector<float>> seeded(const BlockPlace& place, size_t length) const {
    const std::lock_guard lock(mutex_);
    for (const Drawn& drawn : drawn_)
      if (drawn.tensor == place.tensor && drawn.seed == place.seed && drawn.length == length)
        return drawn.numbers;
    if (drawn_.size() == cached_factors) drawn_.erase(drawn_.begin());
    drawn_.push_back({place.tensor, place.seed, length,
                      std::make_shared<const std::vector<float>>(
                          seeded_basis(place.seed, place.tensor, length, stored_.rank, stored_.type))});
    return drawn_.back().numbers;
  }

  std::string_view name_;
  StoredFactors stored_;
  mutable std::mutex mutex_;
  mutable std::vector<Drawn> drawn_;
};

const MethodRow& dense_row(DType dtype) {
  return dtype == DType::f16 ? fp16_row : dtype == DType::bf16 ? bf16_row : fp32_row;
}

DenseScheme dense_scheme(DType dtype) {
  const bool half = dtype == DType::f16 || dtype == DType::bf16;
  return DenseScheme(half ? dtype : DType::f32, dense_row(dtype).info.wire_id);
}

/// The part of `whole` that elements [first, first + count) of `elements` have; parts add up to it.
uint64_t share(uint64_t whole, uint64_t first, uint64_t count, uint64_t elements) {
  using Wide = unsigned __int128;
  return uint64_t(Wide(whole) * (first + count) / elements) - uint64_t(Wide(whole) * first / elements);
}

}  // namespace

std::optional<MatrixView> matrix_view(const TensorInfo& info) {
  if (info.shape.size() < 2 || info.elements() == 0) return std::nullopt;
  return MatrixView{info.shape[0], info.elements() / info.shape[0], info.fortran_order};
}

void start_column(uint64_t seed, uint32_t tensor, uint64_t column, std::span<double> numbers) {
  constexpr size_t words_each = 6, batch = 256;
  uint32_t words[words_each * batch];
  for (size_t at = 0; at < numbers.size(); at += batch) {
    const size_t count = std::min(batch, numbers.size() - at);
    cpu::fill_words(seed, words_each * (column * numbers.size() + at), tensor, element::RandomPurpose::start,
                    {words, words_each * count});
    for (size_t i = 0; i < count; ++i) {
      int32_t sum = 0;
      for (size_t w = 0; w < words_each; ++w)
        sum += int32_t(words[words_each * i + w] & 0xffff) + int32_t(words[words_each * i + w] >> 16);
      numbers[at + i] = double(sum - 6 * 65535) * 0x1p-16;
    }
  }
}

void orthonormalise(std::span<double> columns, size_t length, size_t done) {
  if (length == 0) return;
  using Column = Eigen::Map<Eigen::VectorXd>;
  const size_t count = columns.size() / length;
  for (size_t k = done; k < count; ++k) {
    Column column(columns.data() + k * length, Eigen::Index(length));
    double before = std::sqrt(dot(column.data(), column.data(), length));
    const double least = 1e-16 * before;
    double after = before;
    for (bool again = k > 0 && before > 0; again;) {
      for (size_t j = 0; j < k; ++j) {
        const Column other(columns.data() + j * length, Eigen::Index(length));
        column -= dot(other.data(), column.data(), length) * other;
      }
      after = std::sqrt(dot(column.data(), column.data(), length));
      again = after > least && after < 0.5 * before;
      before = after;
    }
    if (after > least)
      column /= after;
    else
      column.setZero();
  }
}

struct LowRankScheme::Tensor {
  std::optional<MatrixView> view;
  std::unique_ptr<Factors> factors;
  bool dense = true;
  uint64_t rank = 0;  ///< min(rank, n, m)
  StoredFactors stored;
};

LowRankScheme::LowRankScheme(const TensorPool& pool, const LowRankPlan& plan, const EncoderContext& context)
    : pool_(pool), plan_(plan), context_(context) {
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    auto tensor = std::make_unique<Tensor>();
    tensor->view = matrix_view(*pool.tensors()[t].info);
    if (tensor->view) tensor->factors = std::make_unique<Factors>(pool, t, *tensor->view, plan_, context_);
    tensors_.push_back(std::move(tensor));
  }
}

LowRankScheme::~LowRankScheme() = default;

bool LowRankScheme::goes_dense(const Tensor& tensor, uint64_t rank) const {
  if (!tensor.view) return true;
  const double n = double(tensor.view->rows), m = double(tensor.view->columns);
  const double r = std::min({double(rank), n, m});
  return (n + m) * r * double(number_bytes(plan_.factor)) * plan_.dense_below >= n * m * 4;
}

SizeRange LowRankScheme::sizes() const {
  if (plan_.rank) return {*plan_.rank, *plan_.rank, *plan_.rank};
  uint64_t most = 1;
  for (const auto& tensor : tensors_) {
    if (!tensor->view) continue;
    // The rank from which on nothing changes: the matrix is dense, or whole.
    uint64_t low = 1, high = std::min({tensor->view->rows, tensor->view->columns, most_ranks});
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2;
      if (goes_dense(*tensor, middle))
        high = middle;
      else
        low = middle + 1;
    }
    most = std::max(most, high);
  }
  return {1, most, std::min(plan_.native_rank, most)};
}

void LowRankScheme::set_size(uint64_t rank, bool) {
  if (rank == rank_) return;
  rank_ = rank;
  const auto factor = [&](size_t t) {
    Tensor& tensor = *tensors_[t];
    tensor.dense = goes_dense(tensor, rank);
    tensor.stored = {};
    tensor.stored.type = plan_.factor;
    if (tensor.dense) return;
    tensor.rank = std::min({rank, tensor.view->rows, tensor.view->columns});
    if (pool_.statistics(t).energy == 0) return;
    Factors& factors = *tensor.factors;
    factors.grow(Eigen::Index(tensor.rank));
    // Columns that came out as zeros at the end say nothing.
    Eigen::Index kept = Eigen::Index(tensor.rank);
    while (kept > 0 && factors.free().col(kept - 1).isZero(0)) --kept;
    if (kept == 0) return;
    const auto free = factors.free().leftCols(kept);
    const bool f16 = plan_.factor == FactorType::f16;
    const int top = std::ilogb(free.cwiseAbs().maxCoeff());
    const double down = std::ldexp(1.0, (f16 ? f16_shift : 0) - top);
    StoredFactors& stored = tensor.stored;
    stored.rank = size_t(kept);
    stored.exponent =
        top - (f16 ? 3 * f16_shift : 0);  // of the basis, of `free` that came of it, and of `down`
    std::vector<float> scaled(size_t(free.size())),
        basis(factors.basis().data(), factors.basis().data() + factors.basis().rows() * kept);
    for (Eigen::Index i = 0; i < free.size(); ++i)
      scaled[size_t(i)] = as_stored(factors.free().data()[i] * down, plan_.factor);
    const bool basis_is_inner = (factors.basis_side() == Side::columns) != tensor.view->by_columns;
    stored.inner = std::move(basis);
    stored.outer = std::move(scaled);
    if (!basis_is_inner) std::swap(stored.inner, stored.outer);
    stored.seeded = factors.basis_from_seed() && !tensor.view->by_columns && basis_is_inner &&
                    tensor.view->inner() <= most_seeded / uint64_t(kept);
  };
  if (pool_.device() != nullptr)  // one pass at a time
    for (size_t t = 0; t < tensors_.size(); ++t) factor(t);
  else
    tbb::parallel_for(size_t(0), tensors_.size(), factor);
}

StoredSet LowRankScheme::stored_set(size_t t) const {
  const Tensor& tensor = *tensors_[t];
  if (tensor.dense) return {dense_row(pool_.tensors()[t].info->dtype).info.wire_id, {}};
  return {plan_.wire_id, write_parameters(tensor.stored)};
}

void LowRankScheme::encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
                           std::span<float> decoded, BlockSums& sums) const {
  const Tensor& tensor = *tensors_[t];
  if (tensor.dense) {
    dense_scheme(place.info->dtype).encode(t, place, values, out, decoded, sums);
    return;
  }
  const StoredFactors& stored = tensor.stored;
  const std::vector<float> numbers = pack(t, place.first, values.size(), out, sums);
  if (decoded.empty()) return;
  if (numbers.empty())
    std::fill(decoded.begin(), decoded.end(), 0.0f);
  else
    restore(*tensor.view, place.first, stored.rank, stored.exponent, numbers, stored.inner, decoded);
}

std::vector<float> LowRankScheme::pack(size_t t, uint64_t first, size_t count, std::string& out,
                                       BlockSums& sums) const {
  const Tensor& tensor = *tensors_[t];
  const MatrixView& view = *tensor.view;
  const StoredFactors& stored = tensor.stored;
  const uint64_t elements = view.rows * view.columns;
  uint64_t sent = view.rows + view.columns;
  if (plan_.algorithm == LowRankAlgorithm::acpsgd)
    sent = tensor.factors->free_side() == Side::rows ? view.rows : view.columns;
  sums.nominal_bits += share(8 * number_bytes(plan_.factor) * tensor.rank * sent, first, count, elements);
  std::vector<float> numbers;
  const uint64_t first_run = first / view.inner(), runs = touched_runs(view, first, count);
  for (uint64_t run = 0; run < runs && stored.rank > 0; ++run)
    for (size_t k = 0; k < stored.rank; ++k)
      numbers.push_back(stored.outer[size_t(k * view.outer() + first_run + run)]);
  if (std::all_of(numbers.begin(), numbers.end(), [](float number) { return number == 0; })) return {};
  ByteWriter block;
  for (float number : numbers) write_number(number, stored.type, block);
  out += block.bytes();
  const uint64_t parameter_bits = stored.seeded ? 0 : 8 * number_bytes(stored.type) * stored.inner.size();
  sums.entropy_bits += 8.0 * double(block.size()) + double(share(parameter_bits, first, count, elements));
  return numbers;
}

std::unique_ptr<DeviceBlocks> LowRankScheme::encode_on_device(const TensorPool& pool) const {
  std::vector<LowRankTensor> tensors;
  for (const auto& tensor : tensors_)
    tensors.push_back(tensor->dense ? LowRankTensor{} : LowRankTensor{&*tensor->view, &tensor->stored});
  return low_rank_blocks_on_device(pool, std::move(tensors),
                                   [this](const PoolBlock& block, std::string& out, BlockSums& sums) {
                                     pack(block.tensor, block.first, block.count, out, sums);
                                   });
}

void LowRankScheme::describe(PoolReport& report) const {
  for (const auto& tensor : tensors_) report.dense_tensors += tensor->dense;
}

void LowRankScheme::save(State& state) const {
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const Tensor& tensor = *tensors_[t];
    // A gradient of zeros takes no step: what the one before left stays.
    if (tensor.dense || tensor.factors->basis().cols() < Eigen::Index(tensor.rank)) continue;
    const std::string& name = pool_.tensors()[t].info->name;
    // Lengths of columns do not matter to the next step, so they are left near 1.
    const Eigen::Index rank = Eigen::Index(tensor.rank);
    const Columns free = tensor.factors->free().leftCols(rank);
    StoredColumns scaled(free.rows(), rank);
    scaled_copy(free, 0, scaled);
    const auto as_vector = [](const StoredColumns& columns) {
      return std::vector<float>(columns.data(), columns.data() + columns.size());
    };
    const bool rows_are_free = tensor.factors->free_side() == Side::rows;
    state.set(name, rows_are_free ? "p" : "q", as_vector(scaled));
    if (plan_.algorithm != LowRankAlgorithm::acpsgd) continue;
    state.set(name, rows_are_free ? "q" : "p", as_vector(tensor.factors->basis().leftCols(rank)));
    state.set_number(name, "step", tensor.factors->step() + 1);
  }
}

LowRankPlan low_rank_plan(const MethodSpec& spec, LowRankPlan plan) {
  const OptionReader read(spec);
  plan.rank = read.integer_or_auto("rank", 1, most_ranks);
  plan.factor = read.choice("factor", factor_names);
  plan.dense_below = read.number("dense-below", 0, 1e6, "a number of 0..1000000");
  return plan;
}

std::unique_ptr<MethodDecoder> make_low_rank_decoder(std::string_view name, std::string_view parameters,
                                                     std::string_view what) {
  return std::make_unique<LowRankDecoder>(name, parameters, what);
}

}  // namespace jsq
