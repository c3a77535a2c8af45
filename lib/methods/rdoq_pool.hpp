// How rdoq sees a pool: tensors as parts with scales, streams (one for the small tensors, one for each block
// of the others), and what coding them under a plan takes and loses. Which plan is searched by rdoq_within,
// rdoq_ways and rdoq_errors.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "lib/core/pool.hpp"
#include "lib/methods/rdoq_parameters.hpp"
#include "lib/methods/rdoq_stage.hpp"
#include "lib/methods/rdoq_training.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/quantizers/rd_quantizer.hpp"
#include "lib/quantizers/trellis_quantizer.hpp"

namespace jsq {

/// Unbiased rounding: levels go up as often as the fraction says, by uniforms of the worker's stream.
struct Dither {
  uint64_t stream = 0;
};

/// Tables, values and decisions.
struct RdoqPlan {
  ContextCoder coder;
  ContextCoder units;     ///< the same with values in 1/256 step; in use with transforms
  Transforms transforms;  ///< prepared for the step
  bool possible = true;   ///< whether the factors' unit suits the step
  RdQuantizer quantizer;
  RdQuantizer finer;  ///< for elements of a pool index below `cut`
  uint64_t cut = 0;
  uint64_t coded = UINT64_MAX;  ///< rows that reach this pool index are zeros
  std::shared_ptr<const TrellisQuantizer>
      trellis;                   ///< decides where the coder's levels are dependent; else null
  std::optional<Dither> dither;  ///< decides where it is there
  int octaves = 0;               ///< of the step
  std::vector<float>
      row_costs;  ///< [class][magnitude]: error + lambda bits in step^2, for choosing scales; or empty
  /// By unit, where they were chosen already; they hardly follow the weight of a bit.
  std::shared_ptr<const std::vector<std::vector<ScaledPiece>>> scales;

  /// Weight of a bit that levels are decided with, in step^2.
  double lambda() const { return trellis ? trellis->lambda() : quantizer.lambda(); }
};

/// The plan with another weight of a bit, and `finer` for elements of a pool index below `cut`.
RdoqPlan with_lambda(const RdoqPlan& plan, double lambda, double finer = 0, uint64_t cut = 0);

/// Thresholds and values of a plan whose levels follow from them alone; otherwise empty.
struct PlanCells {
  std::vector<cpu::LevelCells> usual, finer;  ///< of the plan's quantizers
};

/// What coding takes and loses.
struct RdoqOutcome {
  double bytes = 0;  ///< blocks and parameters
  double squared_error = 0;
  double max_error = 0;
  double dot = 0, decoded_energy = 0;  ///< of originals and decoded values; where every element was coded
};

class RdoqPool {
 public:
  /// `choose_scales`: scales of rows are chosen by cost, not by their means alone.
  RdoqPool(const TensorPool& pool, bool choose_scales);
  /// The pool as it is after the stage's transforms.
  RdoqPool(const std::shared_ptr<const TransformStage>& stage, bool choose_scales);

  /// For plans that drop nothing: columns far below the others would lift the scales of whole rows.  \pre
  /// before prepare
  void limit_columns() { least_column_ = -8; }
  /// No runs below this layout's: scales take time, too.  \pre before prepare
  void limit_runs(ScaleLayout least) { least_run_ = least; }
  /// Splits the pool for about so many bytes: block size, pack, training units, first layouts. False when
  /// nothing changed.
  bool prepare(double body_bytes);
  uint8_t block_log2() const { return block_log2_; }
  /// Whether the parameter set holds tensor t.
  bool is_packed(size_t t) const { return tensors_[t].packed; }
  /// Whether training sees every element.
  bool whole() const { return pool_.summary().elements <= whole_elements; }

  /// Measures scales under the present layouts, and the histogram to train on.
  void gather();
  /// The same with the scales that the plan chooses for rows, which tables should be trained for. \pre
  /// whole(), and the plan has row costs
  void gather_chosen(const RdoqPlan& plan);
  const std::vector<Atom>& atoms() const { return atoms_; }
  /// Takes for every part the layout with the least error + lambda bits under the plan; false when nothing
  /// changed.
  bool improve_layouts(const RdoqPlan& plan);
  /// Scales of runs where a part has one for all, so that some of it can be coded and the rest not.
  void take_runs();
  /// Back to the layouts that parts begin with.
  void begin_layouts() {
    for (size_t t = 0; t < tensors_.size(); ++t) plan_parts(t);
  }
  /// By tensor and part: error + lambda bits, in step^2, under its best layout.
  std::vector<std::vector<double>> part_costs(const RdoqPlan& plan) const;
  /// log2 of the elements of a tensor that are coded together.
  std::vector<uint8_t> cut_log2() const;
  double largest() const;
  /// Of the values, where they have one sign all (or are zero).
  LevelSigns signs() const { return signs_; }
  /// Codes every value exactly; nothing where that is known to take more than `bytes`.
  std::optional<RdoqPlan> exact_plan(double bytes) const;
  /// Bytes of blocks and parameters under an exact plan, of every element.
  double exact_bytes(const RdoqPlan& plan) const;

  RdoqPlan make_plan(const Trained& trained, double lambda) const;
  /// Chooses the scales that the plan codes units with, once for all that is measured with it and differs in
  /// its quantizers alone. Nothing in a large pool but what is packed.
  void fix_scales(RdoqPlan& plan) const;
  /// The same for tables that were trained dithered: no element is dropped.
  RdoqPlan dithered_plan(const Trained& trained, double lambda, uint64_t stream) const;
  /// The same with dependent levels, whose tables are trained on the paths that are best under `lambda`: the
  /// plan's step, layouts and contexts, and tables of two quantizers.
  RdoqPlan dependent_plan(const RdoqPlan& plan, double lambda) const;
  /// Expected bytes of a trained step, side information included.
  double expected_bytes(const Trained& trained) const;
  /// Codes the training units.
  RdoqOutcome measure(const RdoqPlan& plan) const;
  /// The same, with errors of every element where training sees a sample: what error targets are held to.
  RdoqOutcome measure_errors(const RdoqPlan& plan) const;

  /// Fixes the plan that encode_block codes with, and returns the parameter set.
  std::string use(RdoqPlan plan);
  size_t packed_bytes() const { return packed_bytes_; }
  const RdoqPlan& plan_in_use() const { return chosen_; }
  /// One block under the plan in use: its stream, if it has one, and the values that a decoder gives, unless
  /// `decoded` is empty.
  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    std::span<float> decoded) const;

 private:
  struct Part {
    ScaleLayout layout = one_scale;
    std::vector<int16_t> columns;  ///< measured; used with row_and_column_scales
  };
  struct Tensor {
    TensorParts parts;
    std::vector<Part> plans;
    bool packed = false;
  };
  /// A range of one tensor on its way.
  struct Work {
    std::vector<ScaledPiece> pieces;
    std::vector<ContextClass> classes;
    std::vector<uint16_t> ids;  ///< symbols of elements that are not active, where has_ids
    ActiveLevels active;
    bool has_ids = false;
    bool nonzero = false;
  };

  static constexpr uint64_t whole_elements = uint64_t(1)
                                             << 20;  ///< pools up to this size are trained and measured whole
  static constexpr uint64_t training_elements = uint64_t(1) << 19, training_unit = 4096;
  /// A sample has at least one of so many elements of a large pool: of more where next to nothing is coded,
  /// and that by chance.
  static constexpr uint64_t sample_divisor = 64, sparse_divisor = 16;
  static constexpr double sparse_bytes = 1.0 / 32;             ///< an element
  static constexpr uint64_t largest_pack = uint64_t(1) << 20;  ///< elements; what a decoder takes (SPEC.md)
  static constexpr double packed_bytes_at_most = 16384;  ///< larger tensors do not notice what a block costs

  static constexpr size_t layouts = 12;  ///< up to runs of a training unit
  /// The best layout, by tensor and part, has the least cost.
  std::vector<std::vector<std::array<double, layouts>>> layout_costs(const RdoqPlan& plan) const;
  RdoqPool(const TensorPool& pool, bool choose_scales, std::shared_ptr<const TransformStage> stage);
  std::span<const int16_t> frequencies(size_t t, size_t part) const;
  void decode_range(const RdoqPlan& plan, size_t t, uint64_t first, const Work& work,
                    std::span<float> decoded) const;
  /// From integers of coefficients to values, where there are transforms.
  void finish_decoded(const RdoqPlan& plan, size_t t, uint64_t first, std::span<float> decoded) const;
  std::string write_transform_stream() const;
  std::string transform_stream() const;
  std::vector<PoolBlock> all_blocks() const;
  std::optional<RdoqPlan> exact_plan(std::span<const PoolBlock> blocks, double most_bits) const;
  /// The scales of an exact copy: shares of elements that are not zero.
  std::vector<ScaledPiece> measure_exact(size_t t, uint64_t first, std::span<const float> values) const;
  /// The levels that name the values' bits.
  static void copy_levels(const Reconstruction& values, std::span<const float> originals,
                          ActiveLevels& active);
  /// Whether stretches of a sample tell what scales of the view's rows would be. In a row that is many times
  /// as long each has a scale of its own, and where most stretches keep nothing, that is finer than the
  /// row's.
  bool tells_rows(const ScaleView& view) const {
    return whole() || !sparse_ || view.row_elements() <= 4 * training_unit;
  }
  uint64_t choose_pack(double bytes_per_element) const;
  void choose_units();
  void plan_parts(size_t t);
  std::vector<ScaledPiece> measure_range(size_t t, uint64_t first, std::span<const float> values) const;
  ScaledPiece measure_piece(size_t t, const PartPiece& place, ScaleLayout layout,
                            std::span<const float> values) const;
  void match_magnitudes(std::vector<Atom>& sample) const;
  RdoqOutcome expect(const RdoqPlan& plan) const;
  /// Where stored scales lie against measured ones.
  struct ScaleOrigin {
    int lowest = 0;   ///< the lowest context with a table
    int octaves = 0;  ///< of the step
    bool dithered = false;
  };
  static ScaleOrigin origin_of(const RdoqPlan& plan) {
    return {plan.coder.model().lowest, plan.octaves, plan.dither.has_value()};
  }
  double side_bits(const ScaleOrigin& origin) const;
  static void count_piece(const ScaledPiece& scaled, std::span<const float> values, AtomCounter& counter);
  static void relate(const ScaleOrigin& origin, ScaledPiece& scaled);
  double choose_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const uint16_t> keys,
                     ScaleCodec codec, double patience) const;
  void improve_rows(const RdoqPlan& plan, ScaledPiece& scaled, std::span<const float> values,
                    const ScaleCodec& codec) const;
  void scale_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                   ScaleCodec& codec, SideWriter& side, Work& work) const;
  void scale_unit(const RdoqPlan& plan, size_t u, std::span<const float> values, ScaleCodec& codec,
                  SideWriter& side, Work& work) const;
  static void fill_unit_classes(const RdoqPlan& plan, size_t count, Work& work);
  PlanCells cells_of(const RdoqPlan& plan) const;
  /// Levels of a range that has its scales, and what a decoder makes of them: nothing where `decoded` is
  /// empty.
  void code_range(const RdoqPlan& plan, const PlanCells& cells, size_t t, uint64_t first,
                  std::span<const float> values, Work& work, std::span<float> decoded) const;
  static void encode_work(const RdoqPlan& plan, const SideWriter& side, Work& work, std::string& out);
  size_t finer_elements(const RdoqPlan& plan, size_t t, uint64_t first, size_t count) const;
  void quantize_range(const RdoqPlan& plan, size_t t, uint64_t first, std::span<const float> values,
                      Work& work) const;
  std::string encode_units(const RdoqPlan& plan, size_t begin, size_t end, std::vector<Work>& works) const;
  /// `packed`: of the packed units, if any are coded.
  RdoqParameters parameters_of(const RdoqPlan& plan, std::vector<Work>& packed) const;
  std::span<const float> read(const PoolBlock& unit, std::vector<float>& scratch) const {
    return pool_.read(unit.tensor, unit.first, unit.count, scratch);
  }

  std::shared_ptr<const TransformStage> stage_;  ///< null without transforms
  const TensorPool& pool_;                       ///< after transforms
  const TensorPool& original_;
  bool choose_scales_;
  int16_t least_column_ = -40;  ///< half octaves; the least that is measured
  ScaleLayout least_run_ = first_run_layout;
  LevelSigns signs_ = LevelSigns::both;
  std::vector<Tensor> tensors_;
  uint8_t block_log2_ = 0;
  uint64_t packed_limit_ = 0;
  bool sparse_ = false;  ///< less than sparse_bytes
  std::vector<PoolBlock>
      units_;  ///< packed tensors, then blocks (or stretches in a large pool) of the others
  size_t packed_units_ = 0;
  double weight_ = 1;                             ///< elements of the others / those of their units
  double blocks_ = 0;                             ///< of the others in the frame
  std::vector<std::vector<ScaledPiece>> scaled_;  ///< of units_, in absolute half octaves
  std::vector<Atom> atoms_;
  AtomCounter counter_;

  RdoqPlan chosen_;
  PlanCells chosen_cells_;
  std::vector<std::vector<ScaledPiece>> packed_pieces_;  ///< of the plan in use, by packed unit
  std::map<size_t, size_t> packed_unit_of_;              ///< by tensor of the pool
  std::map<std::pair<size_t, uint64_t>, size_t>
      unit_of_;  ///< by tensor and first element: units that are blocks
  size_t packed_bytes_ = 0;
  std::string transform_stream_;
};

}  // namespace jsq
