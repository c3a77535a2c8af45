#include "lib/methods/rdoq_stage.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>

#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

namespace {

/// What is computed once and kept; of larger pools, ranges are transformed whenever they are read.
constexpr uint64_t most_cached = uint64_t(1) << 22;

TensorParts parts_of_member(const PoolTensor& tensor) {
  return tensor.layers.empty() ? parts_of(*tensor.info) : parts_of(tensor.layers);
}

}  // namespace

std::vector<TransformSite> transform_sites(const PoolTensor& tensor) {
  std::vector<TransformSite> sites;
  const auto add = [&](uint32_t part, std::span<const uint64_t> shape, bool fortran_order) {
    if (auto site = transform_site({tensor.number, part}, shape, fortran_order))
      sites.push_back(*std::move(site));
  };
  if (tensor.layers.empty())
    add(0, tensor.info->shape, tensor.info->fortran_order);
  else
    for (size_t p = 0; p < tensor.layers.size(); ++p) add(uint32_t(p), tensor.layers[p], false);
  return sites;
}

namespace {

/// Offsets of the scales of every place in a kernel, in half octaves against their mean, of coefficients less
/// their prediction and with rows brought to one scale.
std::vector<int16_t> measure_frequencies(const TensorPool& pool, const PoolSite& place,
                                         const PartTransform& transform, double unit) {
  const ScaleView& view = place.site.view;
  const auto inner = size_t(view.inner);
  std::vector<double> sums(inner), row_sums(inner);
  std::vector<float> scratch, coefficients;
  // Of a part with many rows, some at even distances tell.
  const uint64_t every = std::max<uint64_t>(1, view.rows * view.row_elements() >> 16);
  const uint64_t length = std::max<uint64_t>(1, 65536 / inner) * inner;
  for (uint64_t r = 0; r < view.rows; r += every) {
    std::fill(row_sums.begin(), row_sums.end(), 0.0);
    for (uint64_t at = 0; at < view.row_elements(); at += length) {
      const auto count = size_t(std::min(length, view.row_elements() - at));
      const uint64_t begin = r * view.row_elements() + at;
      coefficients.resize(count);
      transform.forward(view, begin, unit, pool.read(place.t, place.first + begin, count, scratch),
                        coefficients);
      for (size_t i = 0; i < count; i += inner)
        for (size_t k = 0; k < inner; ++k) row_sums[k] += double(std::abs(coefficients[i + k]));
    }
    double row = 0;
    for (double sum : row_sums) row += sum;
    if (row > 0)
      for (size_t k = 0; k < inner; ++k) sums[k] += row_sums[k] / row;
  }
  return relative_octaves(sums);
}

}  // namespace

std::vector<PoolSite> pool_sites(const TensorPool& pool) {
  std::vector<PoolSite> sites;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    // Coefficients of values near the end of the range would leave it, and squares of the smallest vanish.
    const double energy = pool.statistics(t).energy;
    if (!(energy > 0x1p-180 && energy < 0x1p+180)) continue;
    const TensorParts parts = parts_of_member(pool.tensors()[t]);
    for (TransformSite& site : transform_sites(pool.tensors()[t])) {
      const uint64_t first = parts.first[site.place.second];
      sites.push_back({t, first, std::move(site)});
    }
  }
  return sites;
}

Transforms make_transforms(const TensorPool& pool, std::span<const PoolSite> sites,
                           std::span<const TransformChoice> choices, const Reconstruction& unit) {
  std::vector<PartTransform> parts(sites.size());
  tbb::parallel_for(size_t(0), sites.size(), [&](size_t j) {
    const TransformChoice& choice = choices[j];
    if (!choice.any()) return;
    const auto even =
        choice.dct ? std::make_shared<const std::vector<int16_t>>(size_t(sites[j].site.view.inner)) : nullptr;
    parts[j] = PartTransform(sites[j].site, even, choice.factors);
    parts[j].prepare(unit, unit);
    if (choice.dct)
      parts[j] = parts[j].with_frequencies(measure_frequencies(pool, sites[j], parts[j], unit.step()));
  });
  Transforms transforms;
  transforms.unit_mantissa = unit.mantissa;
  transforms.unit_exponent = unit.exponent;
  for (size_t j = 0; j < sites.size(); ++j)
    if (parts[j].any()) transforms.parts.emplace(sites[j].site.place, std::move(parts[j]));
  return transforms;
}

/// The pool's tensors in the domain of their transforms, as f32.
class TransformStage::Source final : public GradientSource {
 public:
  explicit Source(const TransformStage& stage) : stage_(stage) {
    for (const PoolTensor& tensor : stage.original_.tensors()) {
      infos_.push_back(*tensor.info);
      infos_.back().dtype = DType::f32;
      infos_.back().big_endian = false;
    }
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    if (!stage_.has_transforms_[t]) return stage_.original_.read(t, first, count, scratch);
    if (!stage_.cache_.empty()) return std::span<const float>(stage_.cache_[t]).subspan(size_t(first), count);
    scratch.resize(count);
    stage_.transform(t, first, scratch);
    return scratch;
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    std::vector<float> scratch;
    encode_elements(DType::f32, read(t, first, count, scratch), out);
  }

 private:
  const TransformStage& stage_;
  DumpInfo dump_;
  std::vector<TensorInfo> infos_;
};

TransformStage::TransformStage(const TensorPool& pool, Transforms transforms, std::vector<uint8_t> cut_log2)
    : original_(pool), transforms_(std::move(transforms)), cut_log2_(std::move(cut_log2)) {
  const size_t tensors = pool.tensors().size();
  has_transforms_.resize(tensors);
  for (size_t t = 0; t < tensors; ++t) {
    const uint32_t number = pool.tensors()[t].number;
    const auto found = transforms_.parts.lower_bound({number, 0});
    has_transforms_[t] = found != transforms_.parts.end() && found->first.first == number;
    parts_.push_back(parts_of_member(pool.tensors()[t]));
  }
  if (pool.summary().elements <= most_cached) {
    std::vector<std::vector<float>> cache(tensors);
    tbb::parallel_for(size_t(0), tensors, [&](size_t t) {
      if (!has_transforms_[t]) return;
      cache[t].resize(size_t(pool.tensors()[t].info->elements()));
      transform(t, 0, cache[t]);
    });
    cache_ = std::move(cache);
  }
  source_ = std::make_unique<Source>(*this);
  std::vector<PoolTensor> inner(pool.tensors());
  for (size_t t = 0; t < tensors; ++t) {
    inner[t].source = source_.get();
    inner[t].tensor = t;
    inner[t].info = &source_->tensors()[t];
    inner[t].drop_nonfinite = false;
  }
  pool_ = std::make_unique<TensorPool>(std::move(inner), HistogramPass::of_a_sample);
}

TransformStage::~TransformStage() = default;

std::span<const int16_t> TransformStage::frequencies(size_t t, size_t part) const {
  const PartTransform* found = transforms_.find(original_.tensors()[t].number, part);
  return found ? found->frequencies() : std::span<const int16_t>();
}

void TransformStage::transform(size_t t, uint64_t first, std::span<float> out) const {
  static thread_local std::vector<float> scratch;
  size_t at = 0;
  for (const PartPiece& place : pieces_of(parts_[t], first, out.size())) {
    const std::span<float> own = out.subspan(at, place.piece.count);
    if (const PartTransform* found = transforms_.find(original_.tensors()[t].number, place.part)) {
      transform_kernels(t, place, *found, own);
    } else {
      const std::span<const float> values = original_.read(t, first + at, own.size(), scratch);
      std::copy(values.begin(), values.end(), own.begin());
    }
    at += own.size();
  }
}

void TransformStage::transform_kernels(size_t t, const PartPiece& place, const PartTransform& transform,
                                       std::span<float> out) const {
  static thread_local std::vector<float> scratch, coefficients;
  const uint64_t inner = place.piece.view.inner, first = parts_[t].first[place.part];
  const uint64_t begin = place.piece.first / inner * inner,
                 end = (place.piece.first + out.size() + inner - 1) / inner * inner;
  const std::span<const float> values = original_.read(t, first + begin, size_t(end - begin), scratch);
  const bool whole = values.size() == out.size();
  if (!whole) coefficients.resize(values.size());
  const std::span<float> made = whole ? out : std::span(coefficients);
  transform.forward(place.piece.view, begin, transforms_.unit().step(), values, made);
  // Kernels that a border cuts stay as they are.
  const uint64_t length = uint64_t(1) << cut_log2_[t];
  for (uint64_t cut = ((first + begin) / length + 1) * length; cut < first + end; cut += length) {
    const uint64_t kernel = (cut - first - begin) / inner * inner;
    if ((cut - first) % inner == 0) continue;
    std::copy_n(values.begin() + std::ptrdiff_t(kernel), inner, made.begin() + std::ptrdiff_t(kernel));
  }
  if (!whole)
    std::copy_n(coefficients.begin() + std::ptrdiff_t(place.piece.first - begin), out.size(), out.begin());
}

}  // namespace jsq
