// THC, tensor homomorphic compression (Li et al., NSDI 2024): a tensor of norm N is rotated by random signs D
// and Walsh-Hadamard transforms H of blocks of B elements, so that its coordinates are nearly N(0, N^2 / d2),
// and those are rounded stochastically to a table T of integers 0..g that is spread over t_p deviations:
//   z = (H D x / N) sqrt(d2 / B),   x_ = (clamp(z, -t_p, t_p) + t_p) g / (2 t_p),   T[i] <= x_ <= T[i + 1],
//   x^ = D H (2 T[i] - g) (t_p / g) N / sqrt(d2 B).
// Table entries of workers with one norm add as integers. d2 is the padded length: whole blocks, and a last
// one that is padded with zeros to the next power of two of what is left, so by less than a block. Rounding
// goes straight to a neighbour in the table; the published code does so over a fine grid, with the same mean.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cfloat>
#include <cmath>
#include <optional>
#include <vector>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/hadamard.hpp"
#include "kernels/cpu/table_rounding.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "kernels/element/hadamard.hpp"
#include "lib/collectives/endpoint.hpp"
#include "lib/collectives/packed_levels.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/level_device_blocks.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/scheme.hpp"
#include "lib/packers/level_block.hpp"
#include "lib/packers/level_device.hpp"

namespace jsq {
namespace {

constexpr uint32_t most_bits = 8;  // so that rotating (2 T - g) back is exact: 255 x 65,536 < 2^24
constexpr uint32_t least_clip_log2 = 2, most_clip_log2 = 16;

/// t_p = Phi^-1(1 - p / 2) for p = 2^-2 .. 2^-16.
constexpr double clamps[] = {1.150349380376008,  1.5341205443525463, 1.8627318674216515, 2.1538746940614564,
                             2.4175590162365053, 2.6600674686174597, 2.8856349124267573, 3.0972690781987846,
                             3.2971933456919635, 3.4871041041144313, 3.668329285121323,  3.841930685501911,
                             4.008772594168585,  4.169569323349106,  4.324919040826046};

enum class Table : uint8_t { uniform = 0, g30 = 30, g34 = 34, g42 = 42 };
constexpr std::pair<std::string_view, Table> table_names[] = {
    {"uniform", Table::uniform}, {"g30", Table::g30}, {"g34", Table::g34}, {"g42", Table::g42}};

/// The symmetric tables of 4 bits that round a normal variable with the least variance for p = 1/32.
using Entries = uint8_t[element::table_entries];
constexpr Entries entries30 = {0, 3, 5, 7, 9, 11, 13, 14, 16, 17, 19, 21, 23, 25, 27, 30};
constexpr Entries entries34 = {0, 3, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 31, 34};
constexpr Entries entries42 = {0, 4, 7, 10, 13, 16, 18, 20, 22, 24, 26, 29, 32, 35, 38, 42};

/// How one tensor is coded; a frame's parameters are its fields.
struct ThcPlan {
  uint32_t block_log2 = 10;
  uint32_t bits = 4;
  Table table = Table::uniform;
  uint32_t clip_log2 = 5;  ///< p = 2^-clip_log2
  bool norm_of_block = false;
  float norm = 0;  ///< N of the tensor

  size_t block() const { return size_t(1) << block_log2; }
  uint32_t last() const { return (1u << bits) - 1; }
  uint32_t granularity() const { return table == Table::uniform ? last() : uint32_t(table); }
  double clamp() const { return clamps[clip_log2 - least_clip_log2]; }
  /// None of the uniform table.
  const Entries* entries() const {
    switch (table) {
      case Table::uniform:
        break;
      case Table::g30:
        return &entries30;
      case Table::g34:
        return &entries34;
      case Table::g42:
        return &entries42;
    }
    return nullptr;
  }
  /// T[index].
  int32_t entry(uint32_t index) const {
    const Entries* all = entries();
    return all ? (*all)[index] : int32_t(index);
  }
  cpu::RoundingTable rounding_table() const {
    cpu::RoundingTable rounding;
    rounding.last = int32_t(last());
    rounding.middle = int32_t(1u << (bits - 1));
    if (const Entries* all = entries()) rounding.set_entries(*all);
    return rounding;
  }
  /// Of Hadamard blocks of `size` elements of a tensor that has `length` with padding.
  element::RotationShape shape(size_t size, double length) const {
    return element::rotation_shape(clamp(), int32_t(granularity()), double(size),
                                   norm_of_block ? double(size) : length);
  }
  LevelRange levels() const { return {-int32_t(1u << (bits - 1)), int32_t(1u << (bits - 1)) - 1}; }
  size_t norms(size_t elements) const { return norm_of_block ? (elements + block() - 1) / block() : 0; }
  cuda::Rotation rotation(uint64_t seed) const {
    cuda::Rotation rotation;
    rotation.block_log2 = block_log2;
    rotation.table = rounding_table();
    rotation.granularity = int32_t(granularity());
    rotation.clamp = clamp();
    rotation.norm_of_block = norm_of_block;
    rotation.seed = seed;
    return rotation;
  }
  /// Elements with the padding of the last Hadamard block.
  uint64_t padded(uint64_t elements) const { return element::padded_length(elements, block_log2); }
};

std::string write_parameters(const ThcPlan& plan) {
  ByteWriter out;
  out.u8(uint8_t(plan.block_log2));
  out.u8(uint8_t(plan.bits));
  out.u8(uint8_t(plan.table));
  out.u8(uint8_t(plan.clip_log2));
  out.u8(uint8_t(plan.norm_of_block));
  if (!plan.norm_of_block) out.f32(plan.norm);
  return out.take();
}

ThcPlan read_parameters(std::string_view bytes, std::string_view what) {
  ThcPlan plan;
  ByteReader in(bytes, what);
  plan.block_log2 = in.u8();
  if (plan.block_log2 > 16) in.damaged("a Hadamard block of more than 65536 elements");
  plan.bits = in.u8();
  if (plan.bits < 1 || plan.bits > most_bits) in.damaged("impossible bits of an index");
  plan.table = Table(in.u8());
  if (plan.table != Table::uniform && plan.table != Table::g30 && plan.table != Table::g34 &&
      plan.table != Table::g42)
    in.damaged("unknown table " + std::to_string(uint32_t(plan.table)));
  if (plan.table != Table::uniform && plan.bits != 4) in.damaged("a table of 16 entries with other bits");
  plan.clip_log2 = in.u8();
  if (plan.clip_log2 < least_clip_log2 || plan.clip_log2 > most_clip_log2)
    in.damaged("impossible share of clamped coordinates");
  const uint8_t norm = in.u8();
  if (norm > 1) in.damaged("unknown norm " + std::to_string(norm));
  plan.norm_of_block = norm == 1;
  if (!plan.norm_of_block) {
    plan.norm = in.magnitude("the norm");
  }
  in.expect_end();
  return plan;
}

float stored_norm(double norm) {
  return norm >= double(FLT_MAX) ? FLT_MAX : float(norm);
}

/// visit(first, count, padded count, number) of the Hadamard blocks of a frame's block of `elements`.
template <class Visit>
void for_each_rotation(const ThcPlan& plan, size_t elements, Visit visit) {
  size_t number = 0;
  for (size_t first = 0; first < elements; first += plan.block(), ++number) {
    const size_t count = std::min(plan.block(), elements - first);
    visit(first, count, std::bit_ceil(count), number);
  }
}

/// visit(place, first, count) of the tiles of a frame's block, whole Hadamard blocks whose buffers stay in
/// cache.
template <class Visit>
void for_each_tile(const ThcPlan& plan, const BlockPlace& place, size_t elements, Visit visit) {
  const size_t length = std::max<size_t>(plan.block(), 2048);
  for (size_t first = 0; first < elements; first += length) {
    BlockPlace at = place;
    at.first += first;
    visit(at, first, std::min(length, elements - first));
  }
}

/// Buffers of a thread: `levels` and `norms` of one block, the others of a tile of it.
struct Scratch {
  std::vector<float> rotated, position, uniforms, norms;
  std::vector<uint32_t> signs;  ///< random signs of a tile, in bit 31
  std::vector<int32_t> levels;
};
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

/// Values of a tile from 2 T - g of its rotated coordinates, which are overwritten. `signs` are those of
/// D.
void rotate_back(const ThcPlan& plan, const BlockPlace& place, std::span<const float> norms,
                 std::span<float> rotated, std::span<const uint32_t> signs, std::span<float> values) {
  const double length = double(plan.padded(place.info->elements()));
  for_each_rotation(plan, values.size(), [&](size_t first, size_t count, size_t padded, size_t number) {
    const std::span<float> part = rotated.subspan(first, padded), out = values.subspan(first, count);
    const std::span<const uint32_t> words = signs.subspan(first, count);
    cpu::walsh_hadamard(part);
    const double unit =
        element::restored_unit(plan.shape(padded, length), plan.norm_of_block ? norms[number] : plan.norm);
    if (unit < FLT_MAX / 0x1p24) return cpu::scale_bounded_with_signs(part, unit, words, out);
    cpu::scale_finite(part.first(count), unit, out);
    cpu::apply_random_signs(out, words);
  });
}

void draw_signs(const BlockPlace& place, size_t count, std::vector<uint32_t>& signs) {
  signs.resize(count);
  cpu::fill_random_signs(place.seed, place.first, place.tensor, signs);
}

/// What the indices of a tile decode to. `s` has the signs of its elements.
void restore(const ThcPlan& plan, const BlockPlace& place, std::span<const int32_t> levels,
             std::span<const float> norms, Scratch& s, std::span<float> values) {
  s.rotated.resize(levels.size());
  cpu::centred_entries(plan.rounding_table(), int32_t(plan.granularity()), levels, s.rotated);
  rotate_back(plan, place, norms, s.rotated, s.signs, values);
}

/// Blocks of one parameter set on the device. Frames have one seed, so that one decoder serves all.
class ThcDeviceDecoder final : public DeviceBlockDecoder {
 public:
  explicit ThcDeviceDecoder(const ThcPlan& plan) : plan_(plan) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    if (blocks.empty()) return;
    std::vector<cuda::RotationDecoder::Block> heads;
    for (const Block& block : blocks) {
      cuda::RotationDecoder::Block& head = heads.emplace_back();
      head.first = block.first;
      head.count = block.count;
      head.tensor = block.place.tensor;
      head.first_element = block.place.first;
      head.length = double(plan_.padded(block.place.info->elements()));
      head.levels.offset = block.offset;
      head.levels.bytes = block.bytes;
      head.levels.count = size_t(plan_.padded(block.count));
      head.levels.zero = block.bytes == 0;
      if (!head.levels.zero)
        read_level_head(bytes.substr(size_t(block.offset), size_t(block.bytes)), plan_.levels(),
                        plan_.norms(block.count), head.levels);
    }
    const uint64_t seed = blocks[0].place.seed;
    on_device([&] {
      if (!decoder_ || seed != seed_)
        decoder_ = cuda::make_rotation_decoder(plan_.rotation(seed), plan_.norm);
      decoder_->decode(bytes, heads, values, sound);
    });
    seed_ = seed;
  }

 private:
  ThcPlan plan_;
  uint64_t seed_ = 0;
  std::unique_ptr<cuda::RotationDecoder> decoder_;
};

class ThcDecoder final : public MethodDecoder {
 public:
  ThcDecoder(std::string_view parameters, std::string_view what) : plan_(read_parameters(parameters, what)) {}

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    Scratch& s = scratch();
    s.norms.resize(plan_.norms(values.size()));
    s.levels.resize(size_t(plan_.padded(values.size())));
    read_level_block(block, plan_.levels(), s.norms, s.levels, what);
    for_each_tile(plan_, place, values.size(), [&](const BlockPlace& at, size_t first, size_t count) {
      const size_t norm = plan_.norm_of_block ? first / plan_.block() : 0;
      draw_signs(at, count, s.signs);
      restore(plan_, at, std::span(s.levels).subspan(first, size_t(plan_.padded(count))),
              std::span(s.norms).subspan(norm), s, values.subspan(first, count));
    });
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<ThcDeviceDecoder>(plan_);
  }

  std::string describe() const override {
    return fmt::format("thc:bits={},table={},p=1/{},block={},norm={}", plan_.bits,
                       choice_name(plan_.table, table_names), 1u << plan_.clip_log2, plan_.block(),
                       plan_.norm_of_block ? "block" : "tensor");
  }

 private:
  ThcPlan plan_;
};

constexpr MethodOption options[] = {
    {"bits", "auto|1..8", "auto",
     "bits of a table index; auto: the most that meet the target, without a target 4"},
    {"table", "auto|uniform|g30|g34|g42", "auto",
     "table entries: 0..2^bits - 1, or 16 integers of 0..g; auto: g30, the paper's, for 4 bits, else "
     "uniform"},
    {"p", "1/4|1/8|..|1/65536", "1/32", "share of coordinates that clamping to +-t_p moves, a power of two"},
    {"block", "1..65536", "1024", "elements of a Hadamard block, a power of two"},
    {"norm", "tensor|block", "tensor", "what the L2 norm N is of; block: each Hadamard block has its own"},
    {"coder", "auto|fixed|entropy", "auto", "how indices are stored; auto: the smallest in each block"},
};

class ThcScheme final : public Scheme {
 public:
  ThcScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
      : pool_(pool), context_(context) {
    const OptionReader read(spec);
    const auto bits = read.integer_or_auto("bits", 1, most_bits);
    if (bits) sizes_ = {*bits, *bits, *bits};
    if (!read.is("table", "auto")) {
      table_ = read.choice("table", table_names);
      if (*table_ != Table::uniform) {
        if (bits.value_or(4) != 4) read.bad("table", "uniform where bits is not 4");
        sizes_ = {4, 4, 4};
      }
    }
    plan_.clip_log2 = clip_log2(read);
    const uint64_t block = read.integer("block", 1, 65536);
    if (!std::has_single_bit(block)) read.bad("block", "a power of two of 1..65536");
    plan_.block_log2 = uint32_t(std::countr_zero(block));
    plan_.norm_of_block = read.choice<bool>("norm", {{"tensor", false}, {"block", true}});
    if (!read.is("coder", "auto"))
      packer_ = read.choice<LevelPacker>("coder",
                                         {{"fixed", LevelPacker::fixed}, {"entropy", LevelPacker::entropy}});
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t size, bool) override {
    plan_.bits = uint32_t(size);
    plan_.table = table_.value_or(size == 4 ? Table::g30 : Table::uniform);
  }
  StoredSet stored_set(size_t t) const override {
    return {thc_row.info.wire_id, write_parameters(plan_of(t))};
  }

  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override {
    const ThcPlan plan = plan_of(t);
    const size_t padded = size_t(plan.padded(values.size()));
    sums.nominal_bits += nominal_bits(plan, place.first, values.size());
    if (std::all_of(values.begin(), values.end(), [](float g) { return g == 0; })) return;
    Scratch& s = scratch();
    s.norms.clear();
    s.levels.resize(padded);
    for_each_tile(plan, place, values.size(), [&](const BlockPlace& at, size_t first, size_t count) {
      const std::span<int32_t> levels = std::span(s.levels).subspan(first, size_t(plan.padded(count)));
      const size_t norm = s.norms.size();
      code_tile(plan, at, values.subspan(first, count), context_.rounding, context_.stream, s, levels, sums);
      if (!decoded.empty())
        restore(plan, at, levels, std::span(s.norms).subspan(norm), s, decoded.subspan(first, count));
    });
    sums.entropy_bits +=
        write_level_block(s.norms, s.levels, plan.levels(), packer_, out) + 32.0 * double(s.norms.size());
  }

 private:
  static uint32_t clip_log2(const OptionReader& read) {
    const std::string_view text = read.text("p");
    for (uint32_t k = least_clip_log2; k <= most_clip_log2; ++k)
      if (text == "1/" + std::to_string(1u << k)) return k;
    read.bad("p", "1/4, 1/8, .. or 1/65536, a power of two");
  }

  /// Of a block.
  static uint64_t nominal_bits(const ThcPlan& plan, uint64_t first, size_t elements) {
    const size_t norms = plan.norm_of_block ? plan.norms(elements) : first == 0 ? 1 : 0;
    return plan.bits * plan.padded(elements) + 32 * norms;
  }

 public:
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override {
    cuda::LevelPlan levels;
    for (size_t t = 0; t < pool.tensors().size(); ++t) {
      const ThcPlan plan = plan_of(t);
      cuda::LevelTensor& tensor = levels.tensors.emplace_back();
      tensor.low = plan.levels().low;
      tensor.symbols = uint32_t(plan.levels().symbols());
      tensor.scale = plan.norm;
      tensor.length = double(plan.padded(pool.tensors()[t].info->elements()));
    }
    levels.rotation = plan_.rotation(context_.seed);
    levels.bucket = plan_.norm_of_block ? uint32_t(plan_.block()) : 0;
    levels.norm = cuda::BucketNorm::l2;
    levels.nearest = context_.rounding == Rounding::nearest;
    levels.count_gaps = !packer_;
    levels.stream = context_.stream;
    const auto choose = [plan = plan_, packer = packer_, histogram = LevelHistogram()](
                            const PoolBlock& block, const cuda::LevelSums& found,
                            std::span<const uint32_t> counts, BlockSums& sums) mutable {
      cuda::LevelLayout empty;
      empty.empty = true;
      if (found.max_key != 0) sums = error_block_sums(found);
      sums.nominal_bits = nominal_bits(plan, block.first, block.count);
      if (found.max_key == 0) return empty;
      sums.expected_error = found.expected_error;
      histogram.assign(plan.levels().low, counts);
      const size_t norms = plan.norms(block.count);
      sums.entropy_bits = histogram.entropy_bits() + 32.0 * double(norms);
      return level_layout(histogram, plan.levels(), packer, found.gap_bits, norms);
    };
    return std::make_unique<LevelDeviceBlocks>(pool, 16, std::move(levels), choose);
  }
  ThcPlan plan_of(size_t t) const {
    ThcPlan plan = plan_;
    if (!plan.norm_of_block) plan.norm = stored_norm(std::sqrt(pool_.statistics(t).energy));
    return plan;
  }

  /// The levels of a tile; the norms of its Hadamard blocks are appended to s.norms, where each has its own.
  static void code_tile(const ThcPlan& plan, const BlockPlace& place, std::span<const float> values,
                        Rounding rounding, uint64_t stream, Scratch& s, std::span<int32_t> levels,
                        BlockSums& sums) {
    const size_t norm = s.norms.size();
    rotate(plan, place, values, s);
    s.uniforms.resize(rounding == Rounding::nearest ? 0 : levels.size());
    cpu::fill_uniforms(stream, place.first, place.tensor, element::RandomPurpose::rounding, s.uniforms);
    quantize(plan, place, values.size(), std::span<const float>(s.norms).subspan(norm), s, levels, sums);
  }

  /// s.rotated <- H D x of every Hadamard block, divided by the power of two in its norm so that nothing
  /// overflows; the norms of the blocks are appended to s.norms, where each has its own.
  static void rotate(const ThcPlan& plan, const BlockPlace& place, std::span<const float> values,
                     Scratch& s) {
    s.rotated.resize(size_t(plan.padded(values.size())));
    draw_signs(place, values.size(), s.signs);
    for_each_rotation(plan, values.size(), [&](size_t first, size_t count, size_t padded, size_t) {
      const std::span<const float> part = values.subspan(first, count);
      const std::span<float> rotated = std::span(s.rotated).subspan(first, padded);
      float norm = plan.norm;
      if (plan.norm_of_block) {
        norm = stored_norm(std::sqrt(cpu::sum_squares(part)));
        s.norms.push_back(norm);
      }
      const double down = element::norm_divisor(norm);
      if (down >= 0x1p-120 && down <= 0x1p120) {  // by a power of two, so as exact as in double
        cpu::scale_with_signs(part, float(down), std::span(s.signs).subspan(first, count), rotated);
      } else {
        cpu::scale_finite(part, down, rotated);
        cpu::apply_random_signs(rotated.first(count), std::span(s.signs).subspan(first, count));
      }
      std::fill(rotated.begin() + std::ptrdiff_t(count), rotated.end(), 0.0f);
      cpu::walsh_hadamard(rotated);
    });
  }

  /// Rotated coordinates of s to levels, with their expected error.
  static void quantize(const ThcPlan& plan, const BlockPlace& place, size_t elements,
                       std::span<const float> norms, Scratch& s, std::span<int32_t> all_levels,
                       BlockSums& sums) {
    const cpu::RoundingTable table = plan.rounding_table();
    const double length = double(plan.padded(place.info->elements()));
    s.position.resize(s.rotated.size());
    for_each_rotation(plan, elements, [&](size_t first, size_t count, size_t padded, size_t number) {
      const float norm = plan.norm_of_block ? norms[number] : plan.norm;
      const std::span<float> rotated = std::span(s.rotated).subspan(first, padded),
                             position = std::span(s.position).subspan(first, padded);
      const std::span<int32_t> levels = all_levels.subspan(first, padded);
      if (norm == 0) {
        std::fill(levels.begin(), levels.end(), 0);
        return;
      }
      const element::RotationShape shape = plan.shape(padded, length);
      cpu::place_in_table(element::table_placer(shape, norm), rotated, position);
      const std::span<const float> uniforms(s.uniforms);
      const double rounding = cpu::round_to_table(
          table, position, uniforms.empty() ? uniforms : uniforms.subspan(first, padded), levels);
      if (count < padded) cpu::walsh_hadamard(rotated);  // what clamping added, but for the padding
      const double clamped = cpu::sum_squares(rotated.first(count)) / (count < padded ? double(padded) : 1.0);
      sums.expected_error +=
          element::rotation_error(shape, norm, rounding, clamped, uint32_t(count), uint32_t(padded));
    });
  }

 private:
  const TensorPool& pool_;
  EncoderContext context_;
  SizeRange sizes_{1, most_bits, 4};
  ThcPlan plan_;
  std::optional<Table> table_;
  std::optional<LevelPacker> packer_;
};

/// Workers share the largest norm, and add table entries.
class ThcEndpoint final : public Endpoint {
 public:
  ThcEndpoint(const MethodSpec& spec, const EndpointContext& context, std::span<const float> values)
      : context_(context), values_(values.begin(), values.end()) {
    if (spec.option("norm") == "block")
      OptionReader(spec).bad("norm", "tensor where messages are added: workers share one norm");
    const TensorPool pool(*context.info, values);
    ThcScheme scheme(pool, spec,
                     {.rounding = context.rounding, .seed = context.seed, .stream = context.stream});
    scheme.set_size(scheme.sizes().native, false);
    plan_ = scheme.plan_of(0);
  }
  uint32_t rounds() const override { return 2; }
  std::string message(uint32_t round) override {
    if (round == 0) return pack_scale(plan_.norm);
    Scratch& s = scratch();
    for_blocks([&](const BlockPlace& place, size_t count, size_t padded) {
      s.levels.assign(padded, 0);
      BlockSums unused;
      if (plan_.norm > 0)
        for_each_tile(plan_, place, count, [&](const BlockPlace& at, size_t first, size_t elements) {
          ThcScheme::code_tile(plan_, at, std::span<const float>(values_).subspan(size_t(at.first), elements),
                               context_.rounding, context_.stream, s,
                               std::span(s.levels).subspan(first, size_t(plan_.padded(elements))), unused);
        });
      for (int32_t level : s.levels) entries_.push_back(plan_.entry(uint32_t(level - plan_.levels().low)));
    });
    return pack_message(entries_, range());
  }
  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t) const override {
    if (round == 1) return add_messages(into, from, range(), coordinates());
    max_scales(into, from);
    return 0;
  }
  bool any_order(uint32_t) const override { return true; }
  void receive(uint32_t round, std::string_view sum) override {
    if (round == 0)
      plan_.norm = unpack_scale(sum);
    else
      sums_ = unpack_message(sum, range(), coordinates());
  }
  void mean(std::span<float> out) const override { decode(sums_, context_.workers, out); }
  void own(std::span<float> out) const override { decode(entries_, 1, out); }

 private:
  /// Sums of the entries of all workers.
  LevelRange range() const { return {0, int32_t(context_.workers * plan_.granularity())}; }
  size_t coordinates() const { return size_t(plan_.padded(values_.size())); }
  template <class Use>
  void for_blocks(Use use) const {
    constexpr size_t length = 65536;
    for (size_t first = 0; first < values_.size(); first += length) {
      const size_t count = std::min(length, values_.size() - first);
      use(BlockPlace{context_.tensor, first, context_.info, context_.seed}, count,
          size_t(plan_.padded(count)));
    }
  }
  void decode(const std::vector<int32_t>& sums, uint32_t workers, std::span<float> out) const {
    std::vector<float> rotated;
    size_t at = 0;
    for_blocks([&](const BlockPlace& place, size_t count, size_t padded) {
      rotated.clear();
      for (size_t j = 0; j < padded; ++j)
        rotated.push_back(float(2 * double(sums[at + j]) / workers - double(plan_.granularity())));
      at += padded;
      draw_signs(place, count, scratch().signs);
      rotate_back(plan_, place, {}, rotated, scratch().signs, out.subspan(size_t(place.first), count));
    });
    if (plan_.norm == 0) std::fill(out.begin(), out.end(), 0.0f);
  }

  EndpointContext context_;
  std::vector<float> values_;
  ThcPlan plan_;
  std::vector<int32_t> entries_, sums_;
};

}  // namespace

const MethodRow thc_row = {
    {.name = "thc",
     .wire_id = 20,
     .title = "THC: random rotation, clamping, and a table of integers that add",
     .source = "Li et al., THC: Accelerating Distributed Deep Learning Using Tensor Homomorphic Compression, "
               "NSDI 2024",
     .bias = "biased by the clamping of a share p of the rotated coordinates",
     .needs = "error feedback",
     .aggregation = "allreduce: table entries of workers with one norm are added",
     .random_numbers = "one an element and one of its padding, and a bit for its sign",
     .nominal_bits = "bits a padded element + 32 a norm",
     .honest_bits = "nominal + one byte a block",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped,
     .size_option = "bits",
     .feedback = Feedback::residual,
     .sums = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<ThcScheme>(pool, spec, context); },
    nullptr,
    [](std::string_view parameters, std::string_view what) -> std::unique_ptr<MethodDecoder> {
      return std::make_unique<ThcDecoder>(parameters, what);
    },
    [](const MethodSpec& spec, const EndpointContext& context, std::span<const float> values)
        -> std::unique_ptr<Endpoint> { return std::make_unique<ThcEndpoint>(spec, context, values); }};

}  // namespace jsq
