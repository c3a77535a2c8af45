#include "lib/methods/rdoq_pool.hpp"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cpu/error_sums.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/methods/rdoq_estimates.hpp"
#include "lib/methods/rdoq_scales.hpp"

namespace jsq {

RdoqPool::RdoqPool(const TensorPool& pool, bool choose_scales) : RdoqPool(pool, choose_scales, nullptr) {}

RdoqPool::RdoqPool(std::shared_ptr<const TransformStage> stage, bool choose_scales)
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
    part.layout = !part.columns.empty() && count >= 256 ? row_and_column_scales
                  : count > 64                          ? ScaleLayout(6)
                                                        : one_scale;
  }
}

/// Everything packed, and blocks of the other tensors: all of them in a small pool, short stretches at even
/// distances in a large one.
void RdoqPool::choose_units() {
  units_.clear();
  packed_unit_of_.clear();
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
  const size_t group =
      whole() ? 1 : size_t(std::clamp<uint64_t>(elements / training_elements, 1, sample_divisor));
  uint64_t seen = 0;
  for (size_t i = 0; i * group < others.size(); ++i) {
    const size_t place = i * group + size_t((uint64_t(uint32_t(i * 2654435769u)) * group) >> 32);
    const PoolBlock& unit = others[std::min(place, others.size() - 1)];
    seen += unit.count;
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
    for (size_t i = at; i < at + n; ++i)
      counter.add(values.subspan(i, 1),
                  scale + scaled.frequencies[size_t((scaled.piece.first + i) % scaled.frequencies.size())]);
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

std::vector<std::vector<std::array<double, RdoqPool::layouts>>> RdoqPool::layout_costs(
    const RdoqPlan& plan) const {
  const double step = plan.coder.values().step(), square = step * step, lambda = plan.quantizer.lambda();
  std::vector<std::vector<std::array<double, layouts>>> costs(tensors_.size());
  for (size_t t = 0; t < tensors_.size(); ++t) costs[t].resize(tensors_[t].plans.size());
  std::vector<float> scratch;
  AtomCounter counter;
  // Of a large sample some units are enough to tell; every tensor that has units keeps its first.
  uint64_t sampled = 0;
  for (const PoolBlock& unit : units_) sampled += unit.count;
  const size_t every = size_t(std::max<uint64_t>(1, sampled / training_elements));
  for (size_t u = 0; u < units_.size(); ++u) {
    const size_t t = units_[u].tensor;
    if (u >= packed_units_ && u % every != 0 && u > 0 && units_[u - 1].tensor == t) continue;
    const std::span<const float> values = read(units_[u], scratch);
    size_t at = 0;
    for (const PartPiece& place : pieces_of(tensors_[t].parts, units_[u].first, values.size())) {
      const std::span<const float> own = values.subspan(at, place.piece.count);
      at += place.piece.count;
      const ScaleView& view = place.piece.view;
      for (size_t layout = 0; layout < layouts; ++layout) {
        double& cost = costs[t][place.part][layout];
        const bool possible = layout == one_scale    ? true
                              : layout == row_scales ? view.rows > 1
                              : layout == row_and_column_scales
                                  ? !tensors_[t].plans[place.part].columns.empty()
                                  : run_elements(ScaleLayout(layout)) < view.rows * view.row_elements();
        if (!possible) {
          cost = HUGE_VAL;
          continue;
        }
        ScaledPiece scaled = measure_piece(t, place, ScaleLayout(layout), own);
        count_piece(scaled, own, counter);
        relate(plan, scaled);
        SideWriter side;
        ScaleCodec codec;
        write_scales(scaled, codec, side);
        double bits = double(side.bits_q16()) / 65536, error = 0;
        for (const Atom& atom : counter.take()) {
          const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
          const double x = atom.mean / step;
          const int32_t level = plan.quantizer.level(float(x), k);
          const double value = double(plan.coder.values().points(plan.coder.use(k), uint32_t(level))) / 256;
          error += level == 0 ? atom.count * x * x + atom.spread / square
                              : atom_error(atom, (x - value) * (x - value), square) / square;
          bits += atom.count * plan.quantizer.bits(level, k);
        }
        cost += error + lambda * bits;
      }
    }
  }
  for (size_t t = 0; t < tensors_.size(); ++t)
    for (size_t p = 0; p < tensors_[t].plans.size(); ++p) {
      const Part& part = tensors_[t].plans[p];
      if (part.columns.empty() || !(costs[t][p][row_and_column_scales] > 0)) continue;
      // Columns in the parameter set are paid once, whatever share of the part was looked at.
      SideWriter side;
      ScaleCodec codec;
      codec.write(side, part.columns, true);
      const bool in_stream = tensors_[t].packed || pool_.tensors()[t].info->elements() <= uint64_t(1)
                                                                                              << block_log2_;
      if (!in_stream)
        costs[t][p][row_and_column_scales] +=
            lambda * double(side.bits_q16()) / 65536 / (weight_ * double(every));
    }
  return costs;
}

bool RdoqPool::improve_layouts(const RdoqPlan& plan) {
  const auto costs = layout_costs(plan);
  bool changed = false;
  for (size_t t = 0; t < tensors_.size(); ++t)
    for (size_t p = 0; p < tensors_[t].plans.size(); ++p) {
      Part& part = tensors_[t].plans[p];
      const auto& cost = costs[t][p];
      const auto least = std::min_element(cost.begin(), cost.end());
      const auto chosen = ScaleLayout(least - cost.begin());
      if (cost[part.layout] <= *least || chosen == part.layout) continue;
      part.layout = chosen;
      changed = true;
    }
  return changed;
}

std::vector<std::vector<double>> RdoqPool::part_costs(const RdoqPlan& plan) const {
  std::vector<std::vector<double>> result;
  for (const auto& tensor : layout_costs(plan)) {
    auto& least = result.emplace_back();
    for (const auto& cost : tensor) least.push_back(*std::min_element(cost.begin(), cost.end()));
  }
  return result;
}

namespace {

/// What columns and frequencies add to the scale of a row at most, if anything.
int most_offset(const ScaledPiece& scaled) {
  int of_columns = 0, of_frequencies = 0;
  for (int16_t b : scaled.columns) of_columns = std::max<int>(of_columns, b);
  for (int16_t b : scaled.frequencies) of_frequencies = std::max<int>(of_frequencies, b);
  return of_columns + of_frequencies;
}

}  // namespace

namespace {

/// What columns and frequencies add to the scale of a row at least.
int least_offset(const ScaledPiece& scaled) {
  int least = 0;
  for (const std::span<const int16_t> offsets :
       {std::span<const int16_t>(scaled.columns), scaled.frequencies})
    if (!offsets.empty()) least += std::min<int>(0, *std::min_element(offsets.begin(), offsets.end()));
  return least;
}

}  // namespace

/// Measured scales become what the stream stores: relative to the step, and equal where they are too low to
/// matter.
void RdoqPool::relate(const RdoqPlan& plan, ScaledPiece& scaled) const {
  const int lowest = plan.coder.model().lowest,
            floor = std::max(least_scale, lowest - 1 - most_offset(scaled));
  // With dither every element that is not zero needs a table; rows of zeros need none.
  const int lifted = std::max(floor, lowest - least_offset(scaled));
  for (int16_t& r : scaled.rows)
    r = int16_t(
        std::clamp(int(r) - plan.octaves, plan.dither && r > octaves_of_zero ? lifted : floor, most_scale));
}

/// Each row in turn takes a scale near its own with the least error + lambda bits, where bits of scales count
/// `patience` times: a scale that differs spoils the prediction of the next ones. Returns the cost of the
/// piece, scales included.
double RdoqPool::choose_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const uint16_t> keys,
                             ScaleCodec codec, double patience) const {
  const Stretches stretches = stretches_of(scaled.piece, scaled.layout);
  const double lambda = plan.quantizer.lambda() / 65536;
  const int most = most_offset(scaled);
  const int floor = std::max(least_scale, plan.coder.model().lowest - 1 - most);
  SideWriter ignored;
  double total = 0;
  size_t at = 0;
  for (size_t r = 0; r < stretches.number; ++r) {
    const size_t length = std::min(r == 0 ? stretches.first : stretches.other, scaled.piece.count - at);
    const auto error_and_bits = [&](int scale) {
      double cost = 0;
      const auto add_run = [&](size_t first, size_t n, int of_run) {
        if (scaled.frequencies.empty()) {
          const float* costs = plan.row_costs.data() + plan.coder.class_of(of_run) * cost_keys;
          for (size_t i = first; i < first + n; ++i) cost += double(costs[keys[i]]);
          return;
        }
        for (size_t i = first; i < first + n; ++i) {
          const int frequency =
              scaled.frequencies[size_t((scaled.piece.first + i) % scaled.frequencies.size())];
          cost += double(plan.row_costs[plan.coder.class_of(of_run + frequency) * cost_keys + keys[i]]);
        }
      };
      if (scaled.layout != row_and_column_scales) {
        add_run(at, length, scale);
        return cost;
      }
      const ScaleView& view = scaled.piece.view;
      const uint64_t in_row = (scaled.piece.first + at) % view.row_elements();
      size_t column = size_t(in_row / view.inner), left = size_t(view.inner - in_row % view.inner);
      for (size_t done = 0; done < length;) {
        const size_t n = std::min(left, length - done);
        add_run(at + done, n, scale + scaled.columns[column]);
        done += n;
        ++column;
        left = size_t(view.inner);
      }
      return cost;
    };
    const int own = scaled.rows[r];
    double least = HUGE_VAL, paid = 0;
    int chosen = own;
    const auto consider = [&](int scale) {
      const double cost = error_and_bits(scale), side = lambda * codec.cost_q16(scale, false);
      if (cost + patience * side >= least) return;
      least = cost + patience * side;
      paid = cost + side;
      chosen = scale;
    };
    if (patience == 0) {
      consider(own);
    } else {
      for (int scale = std::max(floor, own - 2); scale <= std::min(most_scale, own + 2); ++scale)
        consider(scale);
      if (own - 2 > floor) consider(floor);
    }
    total += paid;
    const auto taken = int16_t(chosen);
    scaled.rows[r] = taken;
    codec.write(ignored, std::span(&taken, 1), false);
    at += length;
  }
  return total;
}

/// The best of the measured scales and of two choices.
void RdoqPool::improve_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const float> values,
                            const ScaleCodec& codec) const {
  const float inverse = float(1 / plan.coder.values().step());
  std::vector<uint16_t> keys(values.size());
  for (size_t i = 0; i < values.size(); ++i) keys[i] = uint16_t(cost_key(values[i] * inverse));
  ScaledPiece best = scaled;
  double least = HUGE_VAL;
  for (const double patience : {0.0, 1.5, 3.0}) {
    ScaledPiece candidate = scaled;
    const double cost = choose_rows(plan, candidate, keys, codec, patience);
    if (cost >= least) continue;
    least = cost;
    best = std::move(candidate);
  }
  scaled = std::move(best);
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

namespace {

/// Runs that an exact copy has shares of zeros by.
constexpr ScaleLayout exact_layout = 5;  // 64 elements

uint32_t exact_level(float g, const Reconstruction& values) {
  const uint32_t key = element::magnitude_key(g);
  return key == 0 ? 0 : (key >> values.shift) - values.base + 1;
}

}  // namespace

std::optional<RdoqPlan> RdoqPool::exact_plan(double bytes) const {
  const Summary& summary = pool_.summary();
  if (double(summary.elements - summary.zeros) > 8 * bytes) return {};
  if (whole()) return exact_plan(units_, 8 * bytes);
  // A sample tells most pools that are nothing for it.
  if (!exact_plan(units_, 1.5 * 8 * bytes / weight_)) return {};
  return exact_plan(all_blocks(), 8 * bytes);
}

std::vector<PoolBlock> RdoqPool::all_blocks() const {
  std::vector<PoolBlock> blocks(units_.begin(), units_.begin() + std::ptrdiff_t(packed_units_));
  for (const PoolBlock& block : pool_blocks(pool_, block_log2_))
    if (!tensors_[block.tensor].packed) blocks.push_back(block);
  return blocks;
}

/// The plan for these blocks, if they take no more than so many bits.
std::optional<RdoqPlan> RdoqPool::exact_plan(std::span<const PoolBlock> blocks, double most_bits) const {
  // Trailing zeros that all keys share, and the smallest key.
  uint32_t any = 0, smallest = UINT32_MAX;
  std::vector<float> scratch;
  for (const PoolBlock& unit : blocks)
    for (float g : read(unit, scratch)) {
      const uint32_t key = element::magnitude_key(g);
      any |= key;
      if (key > 0) smallest = std::min(smallest, key);
      // -0 is +0 here: its bits are not kept.
    }
  if (any == 0) return {};
  RdoqPlan plan;
  Reconstruction values;
  values.exponent = -15;
  values.exact = true;
  values.shift = uint8_t(std::countr_zero(any));
  values.base = smallest >> values.shift;
  // Levels by context, and how long escapes are, for up to 1, 2, .. rungs: counted with all of them, then
  // with those kept.
  ContextModel model;
  for (int round = 0; round < 2; ++round) {
    std::vector<MagnitudeCounts> counts(15);
    EscapeCounts escapes{};
    double bits = 0;
    for (const PoolBlock& unit : blocks) {
      if (bits > most_bits) return {};
      const std::span<const float> block = read(unit, scratch);
      std::vector<int16_t> rows;
      size_t at = 0;
      for (const PartPiece& place : pieces_of(tensors_[unit.tensor].parts, unit.first, block.size())) {
        const std::span<const float> own = block.subspan(at, place.piece.count);
        measure_shares(own, place.piece, exact_layout, rows);
        const Stretches stretches = stretches_of(place.piece, exact_layout);
        for (size_t r = 0, i = 0; r < stretches.number; ++r)
          for (size_t end = std::min(own.size(), i + (r == 0 ? stretches.first : stretches.other)); i < end;
               ++i) {
            if (rows[r] < -14) continue;
            const uint32_t level = exact_level(own[i], values);
            const size_t t = size_t(rows[r] + 14);
            ++counts[t][std::min(level, most_rungs)];
            const uint32_t rungs = round == 0                ? most_rungs
                                   : t < model.tables.size() ? model.tables[t].rungs
                                                             : 1;
            if (level >= rungs) {
              const auto length = uint32_t(std::bit_width(level - rungs + 1)) - 1;
              ++escapes[length];
              bits += length + 1;
            }
          }
        at += place.piece.count;
      }
    }
    if (bits > most_bits) return {};
    if (round == 0) fit_tables(model, -14, counts, false);
    fit_escapes(model, escapes, true);
  }
  plan.coder = ContextCoder(std::move(model), std::move(values));
  plan.octaves = 0;
  return plan;
}

/// The scales that a range is coded with, as side symbols of its stream.
void RdoqPool::scale_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                           ScaleCodec& codec, SideWriter& side, Work& work) const {
  size_t at = 0;
  if (plan.coder.values().exact) {
    work.pieces.clear();
    for (const PartPiece& place : pieces_of(tensors_[t].parts, first, values.size())) {
      ScaledPiece& scaled =
          work.pieces.emplace_back(ScaledPiece{place.part, place.piece, exact_layout, {}, {}, {}});
      measure_shares(values.subspan(at, place.piece.count), place.piece, exact_layout, scaled.rows);
      at += place.piece.count;
    }
    at = 0;
  } else {
    work.pieces = measure_range(t, first, values);
  }
  for (ScaledPiece& scaled : work.pieces) {
    relate(plan, scaled);
    if (!plan.row_costs.empty()) improve_rows(plan, scaled, values.subspan(at, scaled.piece.count), codec);
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

void RdoqPool::quantize_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                              Work& work) const {
  fill_unit_classes(plan, values.size(), work);
  work.active.positions.clear();
  work.active.levels.clear();
  if (plan.coder.values().exact) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto level = int32_t(exact_level(values[i], plan.coder.values()));
      if (level == 0) continue;
      work.active.positions.push_back(uint32_t(i));
      work.active.levels.push_back(values[i] < 0 ? -level : level);
    }
    work.nonzero = !work.active.levels.empty();
    return;
  }
  const uint64_t index = pool_.tensors()[t].first + first;
  const size_t finer = plan.cut > index ? size_t(std::min<uint64_t>(plan.cut - index, values.size())) : 0;
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

double RdoqPool::expected_bytes(const Trained& trained) const {
  RdoqPlan plan;
  plan.coder = ContextCoder(trained.model, trained.values);
  plan.octaves = trained.values.step_octaves();
  return (trained.bits + double(trained.table_bits) + side_bits(plan)) / 8 + 10 * blocks_ + 12 +
         double(transform_stream_.size());
}

RdoqOutcome RdoqPool::measure(const RdoqPlan& plan) const {
  if (!plan.possible) return {HUGE_VAL, HUGE_VAL, HUGE_VAL, 0, 0};
  std::vector<RdoqOutcome> parts(units_.size());
  std::vector<Work> packed;
  const RdoqParameters parameters = parameters_of(plan, packed);
  // Of a large pool the units are a sample: what its atoms cost is closer than what the sample does.
  // Paths have no atoms.
  const bool coded = whole() || plan.trellis || plan.dither;
  const size_t alone = coded ? units_.size() : 0;
  RdoqOutcome total;
  if (!coded) total = expect(plan);
  tbb::parallel_for(size_t(0), alone, [&](size_t u) {
    static thread_local Work work_of_thread;
    static thread_local std::vector<float> scratch, original_scratch, decoded;
    Work& work = u < packed.size() ? packed[u] : work_of_thread;
    const auto [t, first, count] = units_[u];
    std::string out;
    if (u >= packed.size()) {
      const std::span<const float> values = read(units_[u], scratch);
      SideWriter side;
      ScaleCodec codec;
      scale_unit(plan, u, values, codec, side, work);
      quantize_range(plan, t, first, values, work);
      if (work.nonzero && u >= packed_units_)
        plan.coder.encode(side.symbols(), work.classes, work.active, out);
    }
    decoded.resize(count);
    decode_range(plan, t, first, work, decoded);
    round_to_stored(original_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(original_.read(t, first, count, original_scratch), decoded);
    parts[u] = {double(out.size()), errors.squared_error, errors.max_error, errors.dot,
                errors.decoded_energy};
  });
  for (size_t u = 0; u < alone; ++u) {
    const double weight = u < packed_units_ ? 1 : weight_;
    total.bytes += parts[u].bytes * weight;
    total.squared_error += parts[u].squared_error * weight;
    total.dot += parts[u].dot * weight;
    total.decoded_energy += parts[u].decoded_energy * weight;
    total.max_error = std::max(total.max_error, parts[u].max_error);
  }
  total.bytes += double(write_rdoq_parameters(parameters).size());
  if (!coded) total.bytes -= double(parameters.pack.size());  // its atoms were counted
  return total;
}

double RdoqPool::exact_bytes(const RdoqPlan& plan) const {
  if (whole()) return measure(plan).bytes;
  const std::vector<PoolBlock> blocks = all_blocks();
  std::vector<double> bytes(blocks.size());
  tbb::parallel_for(packed_units_, blocks.size(), [&](size_t b) {
    static thread_local std::vector<float> scratch;
    Work work;
    SideWriter side;
    ScaleCodec codec;
    const std::span<const float> values = read(blocks[b], scratch);
    scale_range(plan, blocks[b].tensor, blocks[b].first, values, codec, side, work);
    quantize_range(plan, blocks[b].tensor, blocks[b].first, values, work);
    std::string out;
    if (work.nonzero) plan.coder.encode(side.symbols(), work.classes, work.active, out);
    bytes[b] = double(out.size());
  });
  std::vector<Work> packed;
  double total = double(write_rdoq_parameters(parameters_of(plan, packed)).size());
  for (double of_block : bytes) total += of_block;
  return total;
}

RdoqOutcome RdoqPool::measure_errors(const RdoqPlan& plan) const {
  RdoqOutcome total = measure(plan);
  if (whole()) return total;
  const std::vector<PoolBlock> blocks = all_blocks();  // packed tensors are coded whole
  std::vector<RdoqOutcome> parts(blocks.size());
  tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) {
    std::vector<float> scratch, original_scratch;
    const auto [t, first, count] = blocks[b];
    const std::span<const float> values = read(blocks[b], scratch);
    Work work;
    SideWriter side;
    ScaleCodec codec;
    scale_range(plan, t, first, values, codec, side, work);
    quantize_range(plan, t, first, values, work);
    std::vector<float> decoded(values.size());
    decode_range(plan, t, first, work, decoded);
    round_to_stored(original_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(original_.read(t, first, count, original_scratch), decoded);
    parts[b] = {0, errors.squared_error, errors.max_error, errors.dot, errors.decoded_energy};
  });
  total.squared_error = total.dot = total.decoded_energy = 0;
  for (const RdoqOutcome& part : parts) {
    total.squared_error += part.squared_error;
    total.dot += part.dot;
    total.decoded_energy += part.decoded_energy;
    total.max_error = std::max(total.max_error, part.max_error);
  }
  return total;
}

/// Blocks and pack as the atoms and the measured scales tell.
RdoqOutcome RdoqPool::expect(const RdoqPlan& plan) const {
  RdoqOutcome outcome;
  const double step = plan.coder.values().step(), square = step * step;
  double bits = 0;
  const auto add = [&](const Atom& atom) {
    const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
    const double x = std::min(atom.mean / step, 2e9);
    const int32_t level = plan.quantizer.level(float(x), k);
    const double value = double(plan.coder.values().points(plan.coder.use(k), uint32_t(level))) / 256;
    outcome.squared_error += level == 0 ? atom.spread + atom.count * x * x * square
                                        : atom_error(atom, (x - value) * (x - value), square);
    bits += atom.count * plan.quantizer.bits(level, k);
  };
  constexpr double half_width = 1.0 / 90;  // of an atom, 1/32 octave
  for (const Atom& atom : atoms_) {
    const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
    const double x = std::min(atom.mean / step, 1e9);
    // A threshold within an atom splits it: as a whole it would turn up or away at once, and bytes with it.
    if (plan.quantizer.level(float(x * (1 - half_width)), k) ==
        plan.quantizer.level(float(x * (1 + half_width)), k)) {
      add(atom);
      continue;
    }
    for (int part = -7; part <= 7; part += 2)
      add({atom.octaves, atom.count / 8, atom.mean * (1 + part * half_width / 8), atom.spread / 8 / 64});
  }
  outcome.bytes = (bits * 1.001 + side_bits(plan)) / 8 + 24 * blocks_;
  return outcome;
}

/// Bits of the scales of blocks and pack.
double RdoqPool::side_bits(const RdoqPlan& plan) const {
  double packed_bits = 0, bits = 0;
  ScaleCodec pack, others;
  // This is asked for every step that is tried: of a large sample a few hundred units tell.
  const size_t samples = units_.size() - packed_units_,
               every = whole() ? 1 : std::max<size_t>(1, samples / 256);
  for (size_t u = 0; u < units_.size(); ++u) {
    if (u >= packed_units_ && (u - packed_units_) % every != 0) continue;
    SideWriter side;
    ScaleCodec own;
    for (ScaledPiece scaled : scaled_[u]) {
      relate(plan, scaled);
      write_scales(scaled, u < packed_units_ ? pack : whole() ? own : others, side);
    }
    (u < packed_units_ ? packed_bits : bits) += double(side.bits_q16()) / 65536;
  }
  return packed_bits +
         bits * weight_ * double(samples) / double(std::max<size_t>(1, (samples + every - 1) / every));
}

std::string RdoqPool::use(RdoqPlan plan) {
  chosen_ = std::move(plan);
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
  if (packed == packed_unit_of_.end())
    scale_range(chosen_, t, first, values, codec, side, work);
  else if (packed->second < packed_pieces_.size())
    work.pieces = packed_pieces_[packed->second];
  else
    work.pieces = measure_range(t, first, values);  // no tables: everything is zero
  quantize_range(chosen_, t, first, values, work);
  if (packed == packed_unit_of_.end() && work.nonzero)
    chosen_.coder.encode(side.symbols(), work.classes, work.active, out);
  decode_range(chosen_, t, first, work, decoded);
}

}  // namespace jsq
