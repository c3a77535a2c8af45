#include "lib/methods/rdoq_pool.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/scattered.hpp"
#include "lib/methods/rdoq_estimates.hpp"
#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

namespace {

/// The sign that no value of the pool opposes, if there is one.
LevelSigns signs_of(const TensorPool& pool) {
  // Sums of values and of magnitudes are added in one order: they differ unless signs agree, or what opposes
  // is lost in rounding, which a look at the values tells.
  const Summary& summary = pool.summary();
  if (summary.sum == 0 || std::abs(summary.sum) != summary.sum_abs) return LevelSigns::both;
  const bool positive = summary.sum > 0;
  std::atomic<bool> opposed = false;
  pool.visit([&](uint64_t, std::span<const float> values) {
    if (!opposed &&
        std::any_of(values.begin(), values.end(), [&](float g) { return positive ? g < 0 : g > 0; }))
      opposed = true;
  });
  if (opposed) return LevelSigns::both;
  return positive ? LevelSigns::positive : LevelSigns::negative;
}

}  // namespace

RdoqPool::RdoqPool(const TensorPool& pool, bool choose_scales) : RdoqPool(pool, choose_scales, nullptr) {}

RdoqPool::RdoqPool(const std::shared_ptr<const TransformStage>& stage, bool choose_scales)
    : RdoqPool(stage->original(), choose_scales, stage) {}

RdoqPool::RdoqPool(const TensorPool& pool, bool choose_scales, std::shared_ptr<const TransformStage> stage)
    : stage_(std::move(stage)),
      pool_(stage_ ? stage_->pool() : pool),
      original_(pool),
      choose_scales_(choose_scales) {
  for (const PoolTensor& tensor : pool.tensors()) {
    Tensor planned;
    planned.parts = tensor.layers.empty() ? parts_of(*tensor.info) : parts_of(tensor.layers);
    planned.plans.resize(planned.parts.views.size());
    tensors_.push_back(std::move(planned));
  }
  if (stage_ && !stage_->transforms().empty()) transform_stream_ = write_transform_stream();
  if (!stage_) signs_ = signs_of(pool);
}

double RdoqPool::largest() const {
  return double(element::magnitude_of_key(pool_.summary().max_key));
}

std::vector<uint8_t> RdoqPool::cut_log2() const {
  std::vector<uint8_t> result;
  for (const Tensor& tensor : tensors_) result.push_back(tensor.packed ? uint8_t(62) : block_log2_);
  return result;
}

std::span<const int16_t> RdoqPool::frequencies(size_t t, size_t part) const {
  return stage_ ? stage_->frequencies(t, part) : std::span<const int16_t>();
}

// --- Units
// ---------------------------------------------------------------------------------------------------------------

bool RdoqPool::prepare(double body_bytes) {
  const uint64_t elements = pool_.summary().elements;
  const double bytes_per_element = body_bytes / double(elements);
  uint8_t log2 = 16;
  while (log2 < 20 && (std::ldexp(bytes_per_element, log2) < 16384 || elements <= whole_elements / 2)) ++log2;
  const uint64_t limit = choose_pack(bytes_per_element);
  if (log2 == block_log2_ && limit == packed_limit_) return false;
  block_log2_ = log2;
  packed_limit_ = limit;
  sparse_ = bytes_per_element < sparse_bytes;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const uint64_t count = pool_.tensors()[t].info->elements();
    tensors_[t].packed = count > 0 && count <= packed_limit_;
    plan_parts(t);
  }
  choose_units();
  return true;
}

/// Small tensors share one stream: each would cost a checksum, a length and the states of its own. Returns
/// the largest number of elements of a tensor in it, 0 for no pack.
uint64_t RdoqPool::choose_pack(double bytes_per_element) const {
  std::vector<uint64_t> sizes;
  for (const PoolTensor& tensor : pool_.tensors())
    if (tensor.info->elements() > 0) sizes.push_back(tensor.info->elements());
  std::sort(sizes.begin(), sizes.end());
  uint64_t total = 0, limit = 0;
  size_t packed = 0;
  for (size_t i = 0; i < sizes.size();) {
    size_t end = i;
    while (end < sizes.size() && sizes[end] == sizes[i]) ++end;
    total += sizes[i] * (end - i);
    if (total > largest_pack || double(sizes[i]) * bytes_per_element > packed_bytes_at_most) break;
    limit = sizes[i];
    packed = end;
    i = end;
  }
  return packed > 1 ? limit : 0;
}

/// First layouts; columns are measured once.
void RdoqPool::plan_parts(size_t t) {
  Tensor& tensor = tensors_[t];
  for (size_t p = 0; p < tensor.plans.size(); ++p) {
    const ScaleView& view = tensor.parts.views[p];
    const uint64_t count = view.rows * view.row_elements();
    Part& part = tensor.plans[p];
    const bool matrix =
        view.rows > 1 && view.columns > 1 && view.columns * 4 <= count && view.columns <= (uint64_t(1) << 20);
    if (matrix && part.columns.empty() && count > 0) {
      part.columns = measure_columns(pool_, t, tensor.parts.first[p], view, frequencies(t, p));
      for (int16_t& column : part.columns) column = std::max(column, least_column_);
    }
    // Where nearly every element has a scale of its own, nothing is left for elements, and no way back is
    // found.
    const bool affordable = count >= 256 && view.rows + view.columns <= count / 4;
    part.layout = !part.columns.empty() && affordable && tells_rows(view) ? row_and_column_scales
                  : count > 64                                            ? ScaleLayout(6)
                                                                          : one_scale;
  }
}

/// Everything packed, and blocks of the other tensors: all of them in a small pool, short stretches at even
/// distances in a large one.
void RdoqPool::choose_units() {
  units_.clear();
  packed_unit_of_.clear();
  unit_of_.clear();
  std::vector<PoolBlock> others;
  uint64_t elements = 0;
  blocks_ = 0;
  for (const PoolBlock& block : pool_blocks(pool_, block_log2_)) {
    if (tensors_[block.tensor].packed) {
      packed_unit_of_[block.tensor] = units_.size();
      units_.push_back(block);
      continue;
    }
    elements += block.count;
    blocks_ += 1;
    if (whole()) {
      others.push_back(block);
      continue;
    }
    for (uint64_t at = 0; at < block.count; at += training_unit)
      others.push_back(
          {block.tensor, block.first + at, size_t(std::min<uint64_t>(training_unit, block.count - at))});
  }
  packed_units_ = units_.size();
  // One of each group, at scattered places, so that no period of the data meets that of the sample.
  const size_t group = whole() ? 1
                               : size_t(std::clamp<uint64_t>(elements / training_elements, 1,
                                                             sparse_ ? sparse_divisor : sample_divisor));
  uint64_t seen = 0;
  for (size_t i = 0; i * group < others.size(); ++i) {
    const size_t place = i * group + size_t(scattered_place(i, group));
    const PoolBlock& unit = others[std::min(place, others.size() - 1)];
    seen += unit.count;
    if (whole()) unit_of_[{unit.tensor, unit.first}] = units_.size();
    units_.push_back(unit);
  }
  weight_ = seen ? double(elements) / double(seen) : 1;
}

// --- Scales
// --------------------------------------------------------------------------------------------------------------

/// Scales of a piece in absolute half octaves; `values` are the piece's.
ScaledPiece RdoqPool::measure_piece(size_t t, const PartPiece& place, ScaleLayout layout,
                                    std::span<const float> values) const {
  ScaledPiece scaled;
  scaled.part = place.part;
  scaled.piece = place.piece;
  scaled.layout = layout;
  if (layout == row_and_column_scales) scaled.columns = tensors_[t].plans[place.part].columns;
  scaled.frequencies = frequencies(t, place.part);
  static thread_local std::vector<float> divided;
  if (!scaled.frequencies.empty()) {
    divide_frequencies(values, place.piece, scaled.frequencies, divided);
    values = divided;
  }
  measure_rows(values, scaled.piece, layout, scaled.columns, scaled.rows);
  return scaled;
}

std::vector<ScaledPiece> RdoqPool::measure_range(size_t t, uint64_t first,
                                                 std::span<const float> values) const {
  std::vector<ScaledPiece> pieces;
  size_t at = 0;
  for (const PartPiece& place : pieces_of(tensors_[t].parts, first, values.size())) {
    pieces.push_back(
        measure_piece(t, place, tensors_[t].plans[place.part].layout, values.subspan(at, place.piece.count)));
    at += place.piece.count;
  }
  return pieces;
}

void RdoqPool::count_piece(const ScaledPiece& scaled, std::span<const float> values, AtomCounter& counter) {
  for_each_run(scaled.piece, scaled.layout, [&](size_t at, size_t n, size_t row, size_t column) {
    const int scale = scaled.rows[row] + (scaled.columns.empty() ? 0 : scaled.columns[column]);
    if (scaled.frequencies.empty()) return counter.add(values.subspan(at, n), scale);
    const size_t inner = scaled.frequencies.size(), first = size_t((scaled.piece.first + at) % inner);
    for (size_t k = 0; k < std::min(inner, n); ++k)
      counter.add(values.subspan(at + k, n - k), scale + scaled.frequencies[(first + k) % inner], inner);
  });
}

void RdoqPool::gather() {
  scaled_.resize(units_.size());
  std::vector<float> scratch;
  atoms_.clear();
  for (size_t u = 0; u < units_.size(); ++u) {
    const std::span<const float> values = read(units_[u], scratch);
    scaled_[u] = measure_range(units_[u].tensor, units_[u].first, values);
    size_t at = 0;
    for (const ScaledPiece& scaled : scaled_[u]) {
      count_piece(scaled, values.subspan(at, scaled.piece.count), counter_);
      at += scaled.piece.count;
    }
    if (u + 1 == packed_units_) atoms_ = counter_.take();
  }
  std::vector<Atom> others = counter_.take(weight_);
  if (!whole()) match_magnitudes(others);
  atoms_.insert(atoms_.end(), others.begin(), others.end());
}

void RdoqPool::gather_chosen(const RdoqPlan& plan) {
  std::vector<float> scratch;
  atoms_.clear();
  Work work;
  SideWriter side;
  ScaleCodec pack;
  for (size_t u = 0; u < units_.size(); ++u) {
    const std::span<const float> values = read(units_[u], scratch);
    ScaleCodec own;
    scale_range(plan, units_[u].tensor, units_[u].first, values, u < packed_units_ ? pack : own, side, work);
    size_t at = 0;
    for (ScaledPiece& scaled : work.pieces) {
      for (int16_t& r : scaled.rows) r = int16_t(r + plan.octaves);
      count_piece(scaled, values.subspan(at, scaled.piece.count), counter_);
      at += scaled.piece.count;
    }
    scaled_[u] = work.pieces;
  }
  atoms_ = counter_.take();
}

/// Gives a sample's atoms the magnitudes that the whole pool has: its histogram is exact, and what varies
/// from sample to sample is mostly how many large elements were met.
void RdoqPool::match_magnitudes(std::vector<Atom>& sample) const {
  constexpr uint32_t shift = 21;  // quarters of an octave
  const auto group_of = [](const Atom& atom) { return element::magnitude_key(float(atom.mean)) >> shift; };
  std::vector<double> wanted(0x7f800000u >> shift), found(wanted.size());
  for (size_t bin = 0; bin < pool_.histogram().size(); ++bin)
    wanted[bin >> (shift - 16)] += double(pool_.histogram()[bin]);
  double zeros = double(pool_.summary().zeros), zeros_found = 0;
  for (const Atom& atom : atoms_) (atom.mean > 0 ? wanted[group_of(atom)] : zeros) -= atom.count;
  for (const Atom& atom : sample) (atom.mean > 0 ? found[group_of(atom)] : zeros_found) += atom.count;
  for (Atom& atom : sample) {
    const double have = atom.mean > 0 ? found[group_of(atom)] : zeros_found,
                 want = atom.mean > 0 ? wanted[group_of(atom)] : zeros;
    const double factor = std::max(want, 0.0) / have;
    atom.count *= factor;
    atom.spread *= factor;
  }
}

// --- Coding
// --------------------------------------------------------------------------------------------------------------

RdoqPlan RdoqPool::make_plan(const Trained& trained, double lambda) const {
  RdoqPlan plan;
  plan.coder = ContextCoder(trained.model, trained.values);
  plan.quantizer = RdQuantizer(plan.coder, lambda);
  plan.octaves = trained.values.step_octaves();
  if (stage_) {
    plan.units = ContextCoder(trained.model, in_units(trained.values));
    plan.transforms = stage_->transforms();
    plan.possible = plan.transforms.prepare(trained.values);
  }
  if (choose_scales_ && !trained.model.tables.empty())
    plan.row_costs = make_row_costs(plan.coder, plan.quantizer);
  return plan;
}

RdoqPlan RdoqPool::dithered_plan(const Trained& trained, double lambda, uint64_t stream) const {
  RdoqPlan plan = make_plan(trained, lambda);
  plan.row_costs.clear();
  plan.dither = Dither{stream};
  return plan;
}

std::vector<PoolBlock> RdoqPool::all_blocks() const {
  std::vector<PoolBlock> blocks(units_.begin(), units_.begin() + std::ptrdiff_t(packed_units_));
  for (const PoolBlock& block : pool_blocks(pool_, block_log2_))
    if (!tensors_[block.tensor].packed) blocks.push_back(block);
  return blocks;
}

/// The scales that a range is coded with, as side symbols of its stream.
void RdoqPool::scale_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                           ScaleCodec& codec, SideWriter& side, Work& work) const {
  size_t at = 0;
  work.pieces = plan.coder.values().exact ? measure_exact(t, first, values) : measure_range(t, first, values);
  for (ScaledPiece& scaled : work.pieces) {
    relate(origin_of(plan), scaled);
    if (!plan.row_costs.empty()) improve_rows(plan, scaled, values.subspan(at, scaled.piece.count), codec);
    const uint64_t index = pool_.tensors()[t].first + first + at;
    if (index + scaled.piece.count > plan.coded)
      for_each_run(scaled.piece, scaled.layout, [&](size_t begin, size_t n, size_t row, size_t) {
        if (index + begin + n > plan.coded) scaled.rows[row] = least_scale;
      });
    write_scales(scaled, codec, side);
    at += scaled.piece.count;
  }
}

void RdoqPool::scale_unit(const RdoqPlan& plan, size_t u, std::span<const float> values, ScaleCodec& codec,
                          SideWriter& side, Work& work) const {
  if (!plan.scales || u >= plan.scales->size())
    return scale_range(plan, units_[u].tensor, units_[u].first, values, codec, side, work);
  work.pieces = (*plan.scales)[u];
  for (const ScaledPiece& scaled : work.pieces) write_scales(scaled, codec, side);
}

void RdoqPool::fix_scales(RdoqPlan& plan) const {
  plan.scales.reset();
  const size_t units = whole() ? units_.size() : packed_units_;
  auto scales = std::make_shared<std::vector<std::vector<ScaledPiece>>>(units);
  const auto choose = [&](size_t u, ScaleCodec& codec) {
    static thread_local std::vector<float> scratch;
    SideWriter side;
    Work work;
    scale_unit(plan, u, read(units_[u], scratch), codec, side, work);
    (*scales)[u] = std::move(work.pieces);
  };
  ScaleCodec pack;
  for (size_t u = 0; u < packed_units_; ++u) choose(u, pack);
  tbb::parallel_for(packed_units_, std::max(packed_units_, units), [&](size_t u) {
    ScaleCodec own;
    choose(u, own);
  });
  plan.scales = std::move(scales);
}

namespace {

/// Levels floor(x) or one more, the latter when the element's uniform is below the fraction.
void round_dithered(const RdoqPlan& plan, uint32_t tensor, uint64_t first, std::span<const float> values,
                    std::span<const ContextClass> classes, ActiveLevels& active) {
  static thread_local std::vector<float> uniforms;
  uniforms.resize(values.size());
  cpu::fill_uniforms(plan.dither->stream, first, tensor, element::RandomPurpose::rounding, uniforms);
  const double inverse = 1 / plan.coder.values().step();
  for (size_t i = 0; i < values.size(); ++i) {
    if (classes[i] == 0) continue;
    const double x = std::min(std::abs(double(values[i])) * inverse, double(largest_level - 1));
    const auto below = int32_t(x);
    const int32_t level = below + (double(uniforms[i]) < x - below);
    if (level == 0 && plan.coder.use(classes[i]).raw_bits == 0) continue;
    active.positions.push_back(uint32_t(i));
    active.levels.push_back(values[i] < 0 ? -level : level);
  }
}

}  // namespace

/// Classes of a range of `count` elements from its pieces.
void RdoqPool::fill_unit_classes(const RdoqPlan& plan, size_t count, Work& work) {
  work.classes.resize(count);
  size_t at = 0;
  for (const ScaledPiece& scaled : work.pieces) {
    fill_classes(plan.coder, scaled.piece, scaled.layout, scaled.rows, scaled.columns, scaled.frequencies,
                 std::span(work.classes).subspan(at, scaled.piece.count));
    at += scaled.piece.count;
  }
}

/// How many elements of a range the finer quantizer takes.
size_t RdoqPool::finer_elements(const RdoqPlan& plan, size_t t, uint64_t first, size_t count) const {
  const uint64_t index = pool_.tensors()[t].first + first;
  return plan.cut > index ? size_t(std::min<uint64_t>(plan.cut - index, count)) : 0;
}

PlanCells RdoqPool::cells_of(const RdoqPlan& plan) const {
  if (plan.dither || plan.trellis || plan.coder.values().exact) return {};
  const ContextCoder& values = stage_ ? plan.units : plan.coder;
  return {plan.quantizer.level_cells(values),
          plan.cut > 0 ? plan.finer.level_cells(values) : std::vector<cpu::LevelCells>()};
}

void RdoqPool::code_range(const RdoqPlan& plan, const PlanCells& cells, size_t t, uint64_t first,
                          std::span<const float> values, Work& work, std::span<float> decoded) const {
  work.has_ids = !cells.usual.empty();
  const bool decodes = !decoded.empty();
  if (!work.has_ids) {
    quantize_range(plan, t, first, values, work);
    if (decodes) decode_range(plan, t, first, work, decoded);
    return;
  }
  static thread_local std::vector<float> unasked;
  if (!decodes) {
    unasked.resize(values.size());
    decoded = unasked;
  }
  fill_unit_classes(plan, values.size(), work);
  work.active.positions.clear();
  work.active.levels.clear();
  work.ids.resize(values.size());
  const size_t finer = finer_elements(plan, t, first, values.size());
  const std::span<const ContextClass> classes = work.classes;
  const std::span<uint16_t> ids = work.ids;
  work.nonzero = plan.finer.quantize(values.first(finer), classes, cells.finer, ids, decoded, 0, work.active);
  work.nonzero |= plan.quantizer.quantize(values.subspan(finer), classes.subspan(finer), cells.usual,
                                          ids.subspan(finer), decoded.subspan(finer), finer, work.active);
  if (!decodes) return;
  (stage_ ? plan.units : plan.coder).put_values(classes, work.active, decoded);
  finish_decoded(plan, t, first, decoded);
}

void RdoqPool::encode_work(const RdoqPlan& plan, const SideWriter& side, Work& work, std::string& out) {
  if (work.has_ids)
    plan.coder.encode(side.symbols(), work.classes, work.ids, work.active, out);
  else
    plan.coder.encode(side.symbols(), work.classes, work.active, out);
}

void RdoqPool::quantize_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                              Work& work) const {
  fill_unit_classes(plan, values.size(), work);
  work.active.positions.clear();
  work.active.levels.clear();
  if (plan.coder.values().exact) {
    copy_levels(plan.coder.values(), values, work.active);
    work.nonzero = !work.active.levels.empty();
    return;
  }
  const size_t finer = finer_elements(plan, t, first, values.size());
  if (plan.dither) {
    round_dithered(plan, pool_.tensors()[t].number, first, values, work.classes, work.active);
    work.nonzero = std::any_of(work.active.levels.begin(), work.active.levels.end(),
                               [](int32_t level) { return level != 0; });
    return;
  }
  if (plan.trellis) {
    plan.trellis->quantize(values, work.classes, finer, work.active);
    work.nonzero = std::any_of(work.active.levels.begin(), work.active.levels.end(),
                               [](int32_t level) { return level != 0; });
    return;
  }
  if (finer > 0) plan.finer.quantize(values.first(finer), work.classes, 0, work.active);
  plan.quantizer.quantize(values, work.classes, finer, work.active);
  work.nonzero = std::any_of(work.active.levels.begin(), work.active.levels.end(),
                             [](int32_t level) { return level != 0; });
}

/// Units begin .. end - 1 as one stream.
std::string RdoqPool::encode_units(const RdoqPlan& plan, size_t begin, size_t end,
                                   std::vector<Work>& works) const {
  std::vector<ContextClass> classes;
  ActiveLevels active;
  std::vector<float> scratch;
  SideWriter side;
  ScaleCodec codec;
  works.resize(end - begin);
  for (size_t u = begin; u < end; ++u) {
    const std::span<const float> values = read(units_[u], scratch);
    Work& work = works[u - begin];
    scale_unit(plan, u, values, codec, side, work);
    quantize_range(plan, units_[u].tensor, units_[u].first, values, work);
    if (u > begin) active.begins.push_back(uint32_t(classes.size()));
    for (uint32_t position : work.active.positions)
      active.positions.push_back(uint32_t(classes.size()) + position);
    active.levels.insert(active.levels.end(), work.active.levels.begin(), work.active.levels.end());
    classes.insert(classes.end(), work.classes.begin(), work.classes.end());
  }
  std::string out;
  plan.coder.encode(side.symbols(), classes, active, out);
  return out;
}

std::string RdoqPool::write_transform_stream() const {
  std::vector<TransformSite> sites;
  for (const PoolTensor& tensor : pool_.tensors()) {
    if (tensor.number < stage_->transforms().parts.begin()->first.first) continue;
    const std::vector<TransformSite> own = transform_sites(tensor);
    sites.insert(sites.end(), own.begin(), own.end());
  }
  return write_transforms(ContextCoder(), sites, stage_->transforms());
}

RdoqParameters RdoqPool::parameters_of(const RdoqPlan& plan, std::vector<Work>& packed) const {
  RdoqParameters parameters;
  parameters.coder = plan.coder;
  parameters.values = plan.coder.values();
  if (stage_ && !stage_->transforms().empty()) {
    parameters.has_transforms = true;
    parameters.first_transformed = stage_->transforms().parts.begin()->first.first;
    parameters.transform_stream = transform_stream_;
  }
  const bool empty = plan.coder.model().tables.empty();
  if (empty && !parameters.has_transforms) return parameters;
  for (size_t t = 0; t < tensors_.size(); ++t) {
    const PoolTensor& tensor = pool_.tensors()[t];
    if (!tensor.layers.empty())
      parameters.layers[tensor.number].assign(tensor.layers.begin(), tensor.layers.end());
    if (tensors_[t].packed || empty) continue;
    for (size_t p = 0; p < tensors_[t].plans.size(); ++p) {
      const Part& part = tensors_[t].plans[p];
      const ScaleView& view = tensors_[t].parts.views[p];
      const uint64_t first = tensors_[t].parts.first[p], count = view.rows * view.row_elements();
      // A part that lies in one block has its columns there.
      if (plan.coder.values().exact || part.layout != row_and_column_scales ||
          first >> block_log2_ == (first + count - 1) >> block_log2_)
        continue;
      parameters.columns[{tensor.number, uint32_t(p)}] = part.columns;
    }
  }
  if (packed_limit_ > 0 && !empty) {
    parameters.packed_elements = packed_limit_;
    parameters.pack = encode_units(plan, 0, packed_units_, packed);
  }
  return parameters;
}

std::string RdoqPool::use(RdoqPlan plan) {
  chosen_ = std::move(plan);
  chosen_cells_ = cells_of(chosen_);
  std::vector<Work> packed;
  const RdoqParameters parameters = parameters_of(chosen_, packed);
  packed_pieces_.clear();
  for (Work& work : packed) packed_pieces_.push_back(std::move(work.pieces));
  packed_bytes_ =
      parameters.pack.size() + parameters.transform_stream.size();  // all that says what elements are
  return write_rdoq_parameters(parameters);
}

void RdoqPool::decode_range(const RdoqPlan& plan, size_t t, uint64_t first, const Work& work,
                            std::span<float> decoded) const {
  (stage_ ? plan.units : plan.coder).reconstruct(work.classes, work.active, decoded);
  finish_decoded(plan, t, first, decoded);
}

void RdoqPool::finish_decoded(const RdoqPlan& plan, size_t t, uint64_t first,
                              std::span<float> decoded) const {
  if (stage_)
    finish_range(tensors_[t].parts, plan.transforms, plan.coder.values(), pool_.tensors()[t].number, first,
                 decoded);
}

void RdoqPool::encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                            std::span<float> decoded) const {
  static thread_local std::vector<float> scratch;
  if (stage_) values = pool_.read(t, first, values.size(), scratch);
  static thread_local Work work_of_thread;
  Work& work = work_of_thread;
  const auto packed = packed_unit_of_.find(t);
  SideWriter side;
  ScaleCodec codec;
  const auto unit = unit_of_.find({t, first});
  if (unit != unit_of_.end())  // with the scales that it was measured with
    scale_unit(chosen_, unit->second, values, codec, side, work);
  else if (packed == packed_unit_of_.end())
    scale_range(chosen_, t, first, values, codec, side, work);
  else if (packed->second < packed_pieces_.size())
    work.pieces = packed_pieces_[packed->second];
  else
    work.pieces = measure_range(t, first, values);  // no tables: everything is zero
  code_range(chosen_, chosen_cells_, t, first, values, work, decoded);
  if (packed == packed_unit_of_.end() && work.nonzero) encode_work(chosen_, side, work, out);
}

}  // namespace jsq
