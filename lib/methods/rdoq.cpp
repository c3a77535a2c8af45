// rdoq: rate-distortion optimised quantization. One uniform quantizer step for all tensors of the pool (equal slope
// everywhere), levels without limit, entropy-coded with the scale that rows, columns or runs predict for each element, and
// chosen by true code lengths: the least |g - g^|^2 + lambda bits. Composition:
//   scale field (rows x columns, runs)  x  RD quantizer  x  context streams.
// This file holds the definition and the search for the step that meets a target.
// Sources: entropy-constrained quantization, Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37 (1989); RDOQ as in the
// reference encoders of H.264 and HEVC; equal slopes, Shoham and Gersho, IEEE Trans. ASSP 36 (1988).
#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>

#include "jsq/error.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_scales.hpp"
#include "lib/methods/rdoq_training.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/quantizers/rd_quantizer.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"preset", "fast|default|best", "default", "how much time the encoder may take"},
    {"lambda", "auto|0..1", "auto", "weight of a bit in squared steps; auto takes the best of several"},
};

enum class Preset : uint8_t { fast, balanced, best };
constexpr std::pair<std::string_view, Preset> presets[] = {
    {"fast", Preset::fast}, {"default", Preset::balanced}, {"best", Preset::best}};

/// How one tensor is coded.
struct TensorPlan {
  ScaleView view;
  ScaleLayout layout = one_scale;
  std::vector<int16_t> columns;  ///< measured for every matrix; used with row_and_column_scales
  bool packed = false;
};

/// One way to code the whole pool.
struct Plan {
  ContextCoder coder;
  RdQuantizer quantizer;
  int octaves = 0;  ///< of the step
};

/// What coding with a plan takes and loses.
struct Outcome {
  double bytes = 0;  ///< blocks and parameters
  double squared_error = 0;
  double max_error = 0;
};

void round_to_dtype(DType dtype, std::span<float> values) {
  if (dtype != DType::f16 && dtype != DType::bf16) return;
  static thread_local std::vector<std::byte> stored;
  stored.resize(values.size() * dtype_bytes(dtype));
  encode_elements(dtype, values, stored.data());
  decode_elements(dtype, false, stored.data(), values);
}

class RdoqEncoder final : public MethodEncoder {
 public:
  RdoqEncoder(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context) : pool_(pool) {
    const OptionReader read(spec);
    preset_ = read.choice("preset", presets);
    if (!read.is("lambda", "auto")) fixed_lambda_ = read.number("lambda", 0, 1, "auto or a number of 0..1");
    if (context.rounding == Rounding::stochastic)
      throw Error(Errc::usage, "rdoq: decisions by rate and distortion are deterministic; for stochastic rounding use qsgd or jointsq:quant=mid");
    for (const PoolTensor& tensor : pool.tensors()) {
      TensorPlan plan;
      plan.view = scale_view(*tensor.info);
      tensors_.push_back(std::move(plan));
    }
  }

  void aim_native() override {
    throw Error(Errc::usage, "rdoq has no size of its own: give a target, such as ratio=32, bpw=1 or nmse=1e-3");
  }

  uint64_t aim_bytes(uint64_t body_bytes) override {
    const double wanted = double(body_bytes);
    if (pool_.summary().max_key == 0 || body_bytes < 8) return drop_all();
    prepare(wanted);
    if (!trained_ || std::abs(wanted - aimed_) > 0.05 * aimed_) {
      choose_layouts(wanted);
      choose_lambda(wanted);
    }
    aimed_ = wanted;
    const double correction_before = correction_;
    std::optional<std::pair<Plan, Outcome>> best;
    for (int attempt = 0; attempt < 4; ++attempt) {
      trained_ = step_for(wanted * correction_, lambda_);
      Plan plan = make_plan(*trained_, trained_->lambda);
      const Outcome outcome = measure(plan);
      if (getenv("DBG")) fprintf(stderr, "attempt %d wanted %.0f corr %.4f lambda %.3f step %.4g tables %zu lowest %d est.D %.5g  bytes %.0f D %.5g  est.bytes %.0f\n", attempt, wanted, correction_, lambda_, trained_->values.step(), trained_->model.tables.size(), trained_->model.lowest, trained_->squared_error/pool_.summary().energy, outcome.bytes, outcome.squared_error/pool_.summary().energy, expected_bytes(*trained_));
      if (outcome.bytes <= wanted && (!best || outcome.bytes > best->second.bytes)) best.emplace(plan, outcome);
      const double off = outcome.bytes / wanted;
      if (off > 0.9985 && off <= 1) break;
      if (off > 0.985 && off < 1.015) {
        std::optional<std::pair<Plan, Outcome>> trimmed = trim(plan, outcome, wanted);
        if (trimmed && (!best || trimmed->second.bytes > best->second.bytes)) best = std::move(trimmed);
        if (best && best->second.bytes > 0.998 * wanted) break;
      }
      correction_ *= 0.9993 / off;
      correction_ = std::clamp(correction_, 0.2, 2.0);
    }
    if (!best) {
      correction_ = correction_before;
      return drop_all();
    }
    use(std::move(best->first));
    return uint64_t(std::ceil(best->second.bytes));
  }

  void aim_payload_bits(uint64_t payload_bits) override { aim_bytes(payload_bits / 8); }

  void aim_error(const Target& target) override {
    if (target.kind == TargetKind::hprime)
      throw Error(Errc::usage, to_string(target) + ": hprime is the noise model of methods with width classes, such as jointsq; give rdoq an nmse or maxabs target");
    if (pool_.summary().max_key == 0) {
      drop_all();
      return;
    }
    prepare(double(pool_.summary().elements) / 8);
    lambda_ = fixed_lambda_ ? *fixed_lambda_ : 0.13;
    if (target.kind == TargetKind::maxabs) aim_largest_error(target.value);
    else aim_nmse(target);
  }

  StoredSet stored_set(size_t) const override { return {rdoq_row.info.wire_id, parameters_}; }
  uint8_t block_log2(size_t) const override { return block_log2_; }

  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out, BlockSums& sums) const override {
    static thread_local Work work_of_thread;
    static thread_local std::vector<float> decoded_of_thread;
    Work& work = work_of_thread;
    std::vector<float>& decoded = decoded_of_thread;
    decoded.resize(values.size());
    const size_t before = out.size();
    if (dropped_) {
      std::fill(decoded.begin(), decoded.end(), 0.0f);
    } else {
      quantize_piece(chosen_, t, first, values, work);
      if (!tensors_[t].packed && work.nonzero) {
        encode_alone(chosen_, work, out);
      }
      chosen_.coder.reconstruct(work.classes, work.active, decoded);
    }
    round_to_dtype(pool_.tensors()[t].info->dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(values, decoded);
    sums.squared_error += errors.squared_error;
    sums.dot += errors.dot;
    sums.decoded_energy += errors.decoded_energy;
    sums.error_sum += errors.error_sum;
    sums.max_error = std::max(sums.max_error, errors.max_error);
    sums.nominal_bits += 8 * (out.size() - before);
    sums.entropy_bits += 8 * double(out.size() - before);
    sums.expected_error += errors.squared_error;
  }

  PoolReport report(const BlockSums& total) const override {
    PoolReport report;
    report.noise.per_element = report.noise.eq6 = report.noise.eq6_nonzero = report.noise.uniform =
        std::numeric_limits<double>::quiet_NaN();
    report.payload_bits = total.nominal_bits + 8 * packed_bytes_;
    report.entropy_bits = total.entropy_bits + 8 * double(packed_bytes_);
    report.expected_squared_error = total.expected_error;
    return report;
  }

 private:
  static constexpr uint64_t whole_elements = uint64_t(1) << 20;  ///< pools up to this size are trained and measured whole
  static constexpr uint64_t training_elements = uint64_t(1) << 19;
  static constexpr uint64_t largest_pack = uint64_t(1) << 20;  ///< elements; what a decoder takes (SPEC.md)
  static constexpr double packed_bytes_at_most = 16384;        ///< larger tensors do not notice what a block costs

  /// A piece on its way.
  struct Work {
    ScaledPiece scaled;
    std::vector<ContextClass> classes;
    ActiveLevels active;
    bool nonzero = false;
  };

  // --- Preparation ---------------------------------------------------------------------------------------------------

  /// Block size, pack, training pieces, first layouts and columns.
  void prepare(double body_bytes) {
    const uint64_t elements = pool_.summary().elements;
    const double bytes_per_element = body_bytes / double(elements);
    uint8_t log2 = 16;
    while (log2 < 20 && (std::ldexp(bytes_per_element, log2) < 16384 || elements <= whole_elements / 2)) ++log2;
    const uint64_t limit = choose_pack(bytes_per_element);
    if (log2 == block_log2_ && limit == packed_limit_ && !pieces_.empty()) return;
    block_log2_ = log2;
    packed_limit_ = limit;
    for (size_t t = 0; t < tensors_.size(); ++t) {
      TensorPlan& plan = tensors_[t];
      const uint64_t count = pool_.tensors()[t].info->elements();
      plan.packed = count > 0 && count <= packed_limit_;
      if (!plan.columns.empty() || count == 0) continue;
      const bool matrix = plan.view.rows > 1 && plan.view.columns > 1;
      if (matrix && plan.view.columns * 4 <= count && plan.view.columns <= (1u << 20))
        plan.columns = measure_columns(pool_, t, plan.view);
      plan.layout = !plan.columns.empty() && count >= 256 ? row_and_column_scales : count > 64 ? ScaleLayout(6) : one_scale;
    }
    choose_pieces();
    trained_.reset();
  }

  /// Small tensors share one stream: each would cost a checksum, a length and the states of its own. Returns the largest
  /// number of elements of a tensor in it, 0 for no pack.
  uint64_t choose_pack(double bytes_per_element) const {
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

  /// Everything packed, and blocks of the other tensors: all of them in a small pool, every n-th in a large one.
  void choose_pieces() {
    pieces_.clear();
    std::vector<PoolBlock> others;
    uint64_t elements = 0;
    for (const PoolBlock& block : pool_blocks(pool_, block_log2_)) {
      if (tensors_[block.tensor].packed) {
        pieces_.push_back(block);
        continue;
      }
      others.push_back(block);
      elements += block.count;
    }
    packed_pieces_ = pieces_.size();
    const double share = pool_.summary().elements <= whole_elements ? 1 : std::min(1.0, double(training_elements) / double(elements));
    double quota = 0;
    uint64_t seen = 0;
    for (const PoolBlock& block : others) {
      quota += share * double(block.count);
      if (share < 1 && quota < double(block.count) && !(seen == 0 && &block == &others.back())) continue;
      quota -= double(block.count);
      seen += block.count;
      pieces_.push_back(block);
    }
    weight_ = seen ? double(elements) / double(seen) : 1;
  }

  std::span<const float> read(const PoolBlock& block, std::vector<float>& scratch) const {
    return pool_.read(block.tensor, block.first, block.count, scratch);
  }

  /// Row scales of a piece, in absolute half octaves, under a layout.
  void measure_piece(size_t t, ScaleLayout layout, uint64_t first, std::span<const float> values, ScaledPiece& scaled) const {
    const TensorPlan& plan = tensors_[t];
    scaled.piece = {plan.view, first, values.size()};
    scaled.layout = layout;
    scaled.columns.clear();
    if (layout == row_and_column_scales) scaled.columns = plan.columns;
    measure_rows(values, scaled.piece, layout, scaled.columns, scaled.rows);
  }

  void count_piece(const ScaledPiece& scaled, std::span<const float> values, AtomCounter& counter) const {
    const Stretches stretches = stretches_of(scaled.piece, scaled.layout);
    size_t at = 0;
    const size_t inner = size_t(scaled.piece.view.inner);
    for (size_t r = 0; r < stretches.number; ++r) {
      const size_t length = std::min(r == 0 ? stretches.first : stretches.other, values.size() - at);
      if (scaled.layout != row_and_column_scales) {
        counter.add(values.subspan(at, length), scaled.rows[r]);
      } else {
        const uint64_t in_row = (scaled.piece.first + at) % scaled.piece.view.row_elements();
        size_t column = size_t(in_row / inner), left = inner - size_t(in_row % inner);
        for (size_t done = 0; done < length;) {
          const size_t n = std::min(left, length - done);
          counter.add(values.subspan(at + done, n), scaled.rows[r] + scaled.columns[column]);
          done += n;
          ++column;
          left = inner;
        }
      }
      at += length;
    }
  }

  /// Atoms of the pool under the layouts chosen, and its row scales.
  void gather() {
    scaled_.resize(pieces_.size());
    std::vector<float> scratch;
    atoms_.clear();
    for (size_t p = 0; p < pieces_.size(); ++p) {
      const std::span<const float> values = read(pieces_[p], scratch);
      measure_piece(pieces_[p].tensor, tensors_[pieces_[p].tensor].layout, pieces_[p].first, values, scaled_[p]);
      count_piece(scaled_[p], values, counter_);
      if (p + 1 == packed_pieces_) atoms_ = counter_.take();
    }
    const std::vector<Atom> others = counter_.take(weight_);
    atoms_.insert(atoms_.end(), others.begin(), others.end());
  }

  // --- Coding of a piece -----------------------------------------------------------------------------------------------

  /// Measured scales become what the stream stores: relative to the step, and equal where they are too low to matter.
  void relate(const Plan& plan, ScaledPiece& scaled) const {
    int most = 0;
    for (int16_t b : scaled.columns) most = std::max<int>(most, b);
    const int floor = std::max(least_scale, plan.coder.model().lowest - 1 - most);
    for (int16_t& r : scaled.rows) r = int16_t(std::clamp(int(r) - plan.octaves, floor, most_scale));
  }

  void quantize_piece(const Plan& plan, size_t t, uint64_t first, std::span<const float> values, Work& work) const {
    measure_piece(t, tensors_[t].layout, first, values, work.scaled);
    relate(plan, work.scaled);
    work.classes.resize(values.size());
    fill_classes(plan.coder, work.scaled.piece, work.scaled.layout, work.scaled.rows, work.scaled.columns, work.classes);
    plan.quantizer.quantize(values, work.classes, work.active);
    work.nonzero = std::any_of(work.active.levels.begin(), work.active.levels.end(), [](int32_t level) { return level != 0; });
  }

  Plan make_plan(const Trained& trained, double lambda) const {
    Plan plan;
    plan.coder = ContextCoder(trained.model, trained.values);
    plan.quantizer = RdQuantizer(plan.coder, lambda);
    plan.octaves = trained.values.step_octaves();
    return plan;
  }

  // --- Search ------------------------------------------------------------------------------------------------------------

  TrainingOptions training_options(double lambda) const {
    TrainingOptions training;
    training.lambda = lambda;
    training.open = pool_.summary().elements > whole_elements;
    return training;
  }

  /// Bytes that a trained step is expected to take, side information included.
  double expected_bytes(const Trained& trained) const {
    const Plan plan = make_plan(trained, trained.lambda);
    double packed_bits = 0, bits = 0, headers = 8;
    ScaleCodec pack;
    for (size_t p = 0; p < pieces_.size(); ++p) {
      ScaledPiece scaled = scaled_[p];
      relate(plan, scaled);
      SideWriter side;
      if (p < packed_pieces_) {
        write_scales(scaled, true, pack, side);
        packed_bits += double(side.bits_q16()) / 65536;
      } else {
        ScaleCodec own;
        write_scales(scaled, false, own, side);
        bits += double(side.bits_q16()) / 65536;
        headers += 4 * weight_;
      }
    }
    return (trained.bits + double(trained.table_bits) + packed_bits + bits * weight_ + column_bits()) / 8 + headers;
  }

  double column_bits() const {
    SideWriter side;
    ScaleCodec codec;
    for (const TensorPlan& plan : tensors_)
      if (plan.layout == row_and_column_scales && !plan.packed) codec.write(side, plan.columns, true);
    return double(side.bits_q16()) / 65536;
  }

  /// The step whose expected bytes are nearest to `wanted` from below.
  Trained step_for(double wanted, double lambda) const {
    const TrainingOptions training = training_options(lambda);
    const double largest = double(element::magnitude_of_key(pool_.summary().max_key));
    double high = 2 * largest, low = std::max(largest * 0x1p-30, 0x1p-119);  // bytes at `high` fit
    Trained best = train(atoms_, stored_step(high), training);
    double guess = step_guess_ > low && step_guess_ < high ? step_guess_ : std::sqrt(low * high);
    double reach = 1.02;
    for (int round = 0; round < 40 && high > low * 1.0003; ++round) {
      Trained trained = train(atoms_, stored_step(guess), training);
      const double bytes = expected_bytes(trained);
      if (bytes <= wanted) {
        high = guess;
        best = std::move(trained);
        guess = std::max(low, guess / reach);
      } else {
        low = guess;
        guess = std::min(high, guess * reach);
      }
      reach = reach * reach;
      if (!(guess > low * 1.0001 && guess < high * 0.9999)) guess = std::sqrt(low * high);
    }
    step_guess_ = high;
    return best;
  }

  void choose_layouts(double wanted) {
    gather();
    step_guess_ = 0;
    correction_ = 1;
    trained_ = step_for(wanted, 0.13);
    for (int round = 0; round < 2; ++round) {
      const bool changed = improve_layouts(*trained_);
      if (!changed) break;
      gather();
      trained_ = step_for(wanted, 0.13);
    }
  }

  /// Takes for every tensor the layout with the least error + lambda bits under the given tables.
  bool improve_layouts(const Trained& trained) {
    const Plan plan = make_plan(trained, trained.lambda);
    const double step = trained.values.step(), square = step * step;
    bool changed = false;
    std::vector<float> scratch;
    AtomCounter counter;
    for (size_t begin = 0, end = 0; begin < pieces_.size(); begin = end) {
      const size_t t = pieces_[begin].tensor;
      while (end < pieces_.size() && pieces_[end].tensor == t) ++end;
      const uint64_t count = pool_.tensors()[t].info->elements();
      double least = HUGE_VAL;
      ScaleLayout chosen = tensors_[t].layout;
      for (int layout = 0; layout <= 10; ++layout) {
        if (layout == row_and_column_scales && tensors_[t].columns.empty()) continue;
        if (layout == row_scales && tensors_[t].view.rows < 2) continue;
        if (layout >= first_run_layout && run_elements(ScaleLayout(layout)) >= count) continue;
        double bits = 0;
        for (size_t k = begin; k < end; ++k) {
          const std::span<const float> values = read(pieces_[k], scratch);
          ScaledPiece scaled;
          measure_piece(t, ScaleLayout(layout), pieces_[k].first, values, scaled);
          count_piece(scaled, values, counter);
          relate(plan, scaled);
          SideWriter side;
          ScaleCodec codec;
          write_scales(scaled, false, codec, side);
          bits += double(side.bits_q16()) / 65536;
        }
        double error = 0;
        for (const Atom& atom : counter.take()) {
          const ContextClass k = plan.coder.class_of(atom.octaves - plan.octaves);
          const double x = atom.mean / step;
          const int32_t level = plan.quantizer.level(float(x), k);
          const double value = double(plan.coder.values().points(plan.coder.use(k), uint32_t(level))) / 256;
          error += atom.count * (x - value) * (x - value) + atom.spread / square;
          bits += atom.count * plan.quantizer.bits(level, k);
        }
        if (layout == row_and_column_scales) {
          SideWriter side;
          ScaleCodec codec;
          codec.write(side, tensors_[t].columns, true);
          bits += double(side.bits_q16()) / 65536 / (tensors_[t].packed ? 1 : weight_);
        }
        const double cost = error + trained.lambda * bits;
        if (cost < least) {
          least = cost;
          chosen = ScaleLayout(layout);
        }
      }
      changed = changed || chosen != tensors_[t].layout;
      tensors_[t].layout = chosen;
    }
    return changed;
  }

  /// The weight of a bit: the slope of the best quantizer is near 0.13 step^2 and varies with the rate.
  void choose_lambda(double wanted) {
    lambda_ = fixed_lambda_ ? *fixed_lambda_ : 0.13;
    if (fixed_lambda_ || preset_ == Preset::fast) return;
    double least = HUGE_VAL;
    for (double lambda : {0.07, 0.1, 0.13, 0.17, 0.22}) {
      const Trained trained = step_for(wanted, lambda);
      if (getenv("DBG")) fprintf(stderr, "lambda %.3f D %.5g bytes %.0f step %.4g\n", lambda, trained.squared_error/pool_.summary().energy, expected_bytes(trained), trained.values.step());
      if (trained.squared_error >= least) continue;
      least = trained.squared_error;
      lambda_ = lambda;
    }
  }

  /// Codes the training pieces.
  Outcome measure(const Plan& plan) const {
    std::vector<Outcome> parts(pieces_.size());
    tbb::parallel_for(size_t(0), pieces_.size(), [&](size_t p) {
      static thread_local Work work;
      static thread_local std::vector<float> scratch, decoded;
      const std::span<const float> values = read(pieces_[p], scratch);
      quantize_piece(plan, pieces_[p].tensor, pieces_[p].first, values, work);
      std::string out;
      if (work.nonzero && p >= packed_pieces_) encode_alone(plan, work, out);
      decoded.resize(values.size());
      plan.coder.reconstruct(work.classes, work.active, decoded);
      round_to_dtype(pool_.tensors()[pieces_[p].tensor].info->dtype, decoded);
      const cpu::ErrorSums errors = cpu::error_sums(values, decoded);
      parts[p] = {out.empty() ? 0.0 : double(out.size()), errors.squared_error, errors.max_error};
    });
    Outcome total;
    for (size_t p = 0; p < pieces_.size(); ++p) {
      const double weight = p < packed_pieces_ ? 1 : weight_;
      total.bytes += parts[p].bytes * weight;
      total.squared_error += parts[p].squared_error * weight;
      total.max_error = std::max(total.max_error, parts[p].max_error);
    }
    total.bytes += double(write_rdoq_parameters(parameters_of(plan)).size());
    return total;
  }

  static void encode_alone(const Plan& plan, const Work& work, std::string& out) {
    SideWriter side;
    ScaleCodec codec;
    write_scales(work.scaled, false, codec, side);
    plan.coder.encode(side.symbols(), work.classes, work.active, out);
  }

  /// All packed tensors in one stream.
  std::string encode_pack(const Plan& plan) const {
    std::vector<ContextClass> classes;
    ActiveLevels active;
    std::vector<float> scratch;
    SideWriter side;
    ScaleCodec codec;
    Work work;
    for (size_t p = 0; p < packed_pieces_; ++p) {
      quantize_piece(plan, pieces_[p].tensor, pieces_[p].first, read(pieces_[p], scratch), work);
      write_scales(work.scaled, true, codec, side);
      for (uint32_t position : work.active.positions) active.positions.push_back(uint32_t(classes.size()) + position);
      active.levels.insert(active.levels.end(), work.active.levels.begin(), work.active.levels.end());
      classes.insert(classes.end(), work.classes.begin(), work.classes.end());
    }
    std::string out;
    plan.coder.encode(side.symbols(), classes, active, out);
    return out;
  }

  /// Moves the weight of a bit until the bytes meet the budget: tables and step stay.
  std::optional<std::pair<Plan, Outcome>> trim(const Plan& plan, const Outcome& outcome, double wanted) const {
    std::optional<std::pair<Plan, Outcome>> best;
    if (outcome.bytes <= wanted) best.emplace(plan, outcome);
    double fits = 0, exceeds = 0, lambda = plan.quantizer.lambda();
    (outcome.bytes <= wanted ? fits : exceeds) = lambda;
    for (int round = 0; round < 7; ++round) {
      if (fits > 0 && exceeds > 0) lambda = 0.5 * (fits + exceeds);
      else lambda *= exceeds > 0 ? 1.06 : 1 / 1.06;
      Plan candidate = plan;
      candidate.quantizer = RdQuantizer(plan.coder, lambda);
      const Outcome result = measure(candidate);
      if (getenv("DBG")) fprintf(stderr, "  trim lambda %.4f bytes %.0f D %.5g\n", lambda, result.bytes, result.squared_error/pool_.summary().energy);
      if (result.bytes > wanted) {
        exceeds = lambda;
        continue;
      }
      fits = lambda;
      if (!best || result.bytes > best->second.bytes) best.emplace(std::move(candidate), result);
      if (result.bytes > 0.9995 * wanted) break;
    }
    return best;
  }

  void aim_nmse(const Target& target) {
    const double wanted = target.value * pool_.summary().energy;
    const double largest = double(element::magnitude_of_key(pool_.summary().max_key));
    gather();
    const TrainingOptions training = training_options(lambda_);
    const auto at_step = [&](double step) { return train(atoms_, stored_step(step), training); };
    double correction = 1;
    for (int pass = 0; pass < 6; ++pass) {
      double low = std::max(largest * 0x1p-30, 0x1p-119), high = 4 * largest;
      for (int round = 0; round < 48 && high > low * 1.0002; ++round) {
        const double middle = std::sqrt(low * high);
        (at_step(middle).squared_error <= wanted * correction ? low : high) = middle;
      }
      trained_ = at_step(low);
      if (pass < 2 && improve_layouts(*trained_)) {
        gather();
        continue;
      }
      Plan plan = make_plan(*trained_, lambda_);
      const Outcome outcome = measure(plan);
      use(std::move(plan));
      if (outcome.squared_error <= wanted && outcome.squared_error >= 0.993 * wanted) return;
      if (outcome.squared_error > wanted && low <= largest * 0x1p-29)
        throw Error(Errc::unreachable_target, fmt::format("{} is not reachable by rdoq; the nearest is nmse={:.6g}", to_string(target),
                                                          outcome.squared_error / pool_.summary().energy * (1 + 5e-6)));
      if (pass >= 4 && outcome.squared_error <= wanted) return;
      correction *= 0.997 * wanted / std::max(outcome.squared_error, 1e-300);
    }
  }

  void aim_largest_error(double wanted) {
    gather();
    TrainingOptions training = training_options(0);
    training.uniform = true;
    double step = 2 * wanted;
    for (int attempt = 0; attempt < 8; ++attempt) {
      trained_ = train(atoms_, stored_step(step), training);
      if (attempt == 0 && improve_layouts(*trained_)) {
        gather();
        continue;
      }
      Plan plan = make_plan(*trained_, 0);
      const Outcome outcome = measure(plan);
      use(std::move(plan));
      if (outcome.max_error <= wanted) return;
      step *= attempt < 3 ? 0.9999 : 0.5;
    }
    throw Error(Errc::unreachable_target, fmt::format("maxabs={} is not reachable by rdoq", wanted));
  }

  // --- Result --------------------------------------------------------------------------------------------------------------

  RdoqParameters parameters_of(const Plan& plan) const {
    RdoqParameters parameters;
    parameters.coder = plan.coder;
    if (plan.coder.model().tables.empty()) return parameters;
    for (size_t t = 0; t < tensors_.size(); ++t)
      if (tensors_[t].layout == row_and_column_scales && !tensors_[t].packed)
        parameters.columns[pool_.tensors()[t].number] = tensors_[t].columns;
    if (packed_limit_ > 0) {
      parameters.packed_elements = packed_limit_;
      parameters.pack = encode_pack(plan);
    }
    return parameters;
  }

  void use(Plan plan) {
    dropped_ = false;
    chosen_ = std::move(plan);
    const RdoqParameters parameters = parameters_of(chosen_);
    packed_bytes_ = parameters.pack.size();
    parameters_ = write_rdoq_parameters(parameters);
  }

  uint64_t drop_all() {
    dropped_ = true;
    packed_bytes_ = 0;
    parameters_ = write_rdoq_parameters({});
    return parameters_.size();
  }

  const TensorPool& pool_;
  Preset preset_ = Preset::balanced;
  std::optional<double> fixed_lambda_;
  std::vector<TensorPlan> tensors_;
  std::vector<PoolBlock> pieces_;      ///< what is trained on: packed tensors, then blocks of others
  size_t packed_pieces_ = 0;
  double weight_ = 1;                  ///< elements of other tensors / those of their pieces
  std::vector<ScaledPiece> scaled_;    ///< of pieces_, in absolute half octaves
  std::vector<Atom> atoms_;
  AtomCounter counter_;
  std::optional<Trained> trained_;
  Plan chosen_;
  std::string parameters_ = write_rdoq_parameters({});
  double aimed_ = 0, lambda_ = 0.13, correction_ = 1;
  mutable double step_guess_ = 0;
  uint8_t block_log2_ = 16;
  uint64_t packed_limit_ = 0, packed_bytes_ = 0;
  bool dropped_ = true;
};

class RdoqDecoder final : public MethodDecoder {
 public:
  RdoqDecoder(std::string_view parameters, std::string_view what)
      : parameters_(read_rdoq_parameters(parameters, what)), what_(what) {}

  void bind(std::span<const BlockPlace> tensors) override {
    if (parameters_.packed_elements == 0) return;
    std::vector<ScaleView> views;
    uint64_t total = 0;
    for (const BlockPlace& place : tensors) {
      const uint64_t elements = place.info->elements();
      if (elements == 0 || elements > parameters_.packed_elements) continue;
      views.push_back(scale_view(*place.info));
      first_packed_[place.tensor] = size_t(total);
      total += elements;
      if (total > uint64_t(1) << 20) throw Error(Errc::damaged, what_ + " is damaged: more packed elements than 2^20");
    }
    packed_.resize(size_t(total));
    decode_rdoq_pack(parameters_, views, packed_, what_);
  }

  void decode_empty(const BlockPlace& place, std::span<float> values) const override {
    const auto found = first_packed_.find(place.tensor);
    if (found == first_packed_.end()) return MethodDecoder::decode_empty(place, values);
    std::copy_n(packed_.begin() + std::ptrdiff_t(found->second + place.first), values.size(), values.begin());
  }

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values, std::string_view what) const override {
    decode_rdoq_block(parameters_, place.tensor, {scale_view(*place.info), place.first, values.size()}, block, values, what);
  }
  std::string describe() const override {
    return fmt::format("rdoq:step={:.4g},contexts={}", parameters_.coder.values().step(), parameters_.coder.model().tables.size());
  }

 private:
  RdoqParameters parameters_;
  std::string what_;
  std::map<uint32_t, size_t> first_packed_;  ///< by tensor number: where its values begin
  std::vector<float> packed_;
};

}  // namespace

const MethodRow rdoq_row = {
    {"rdoq", 24, "rdoq: rate-distortion optimised quantization with scale contexts",
     "jsq; quantization by rate and distortion: Chou, Lookabaugh and Gray, IEEE Trans. ASSP 37, 1989; equal slopes: Shoham and Gersho, IEEE Trans. ASSP 36, 1988",
     "biased: decisions by rate and distortion shrink what is small", "error feedback to converge", "allgather", "none",
     "all bits of the blocks", "nominal + step, tables and column scales, a few hundred bytes a frame", "cpu", options,
     Sizing::continuous, {}, false, Feedback::residual},
    nullptr,
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context) -> std::unique_ptr<MethodEncoder> {
      return std::make_unique<RdoqEncoder>(pool, spec, context);
    },
    [](std::string_view parameters, std::string_view what) -> std::unique_ptr<MethodDecoder> {
      return std::make_unique<RdoqDecoder>(parameters, what);
    },
    nullptr, true};

}  // namespace jsq
