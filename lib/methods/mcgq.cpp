// MCGQ, Monte Carlo gradient quantization (Mordido et al., CVPR workshops 2020): N samples of the elements by
// importance |g_i| / |g|_1, taken systematically at (j + r) / N with one random r, so that element i gets
// floor or ceil of N |g_i| / |g|_1 of them. Decoded: sign(g_i) |g|_1 (c_i / N). Unbiased; the
// variance of an element is
// (|g|_1 / N)^2 f (1 - f). The population is the pool: norm and samples are those of all its tensors.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/systematic.hpp"
#include "kernels/element/philox.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/dithering.hpp"
#include "lib/methods/level_device_blocks.hpp"
#include "lib/methods/level_device_decoder.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"
#include "lib/packers/level_block.hpp"
#include "lib/packers/level_device.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"samples", "auto|0..64", "auto",
     "samples as a share of the elements (the paper's K); auto: what the target allows, without a target "
     "0.5"},
    {"coder", "auto|fixed|elias-sparse|elias-dense|entropy", "auto",
     "how counts are stored; auto: the smallest in each block"},
};

constexpr uint64_t most_samples = uint64_t(1) << 30;
constexpr double most_share = 64;
constexpr size_t piece = 65536;  ///< elements whose magnitudes are summed together

struct StoredSamples {
  uint64_t samples = 1;
  float norm = 0;
  int32_t most_count = 0;
  LevelRange range() const { return {-most_count, most_count}; }
};

std::vector<int32_t>& thread_levels() {
  static thread_local std::vector<int32_t> levels;
  return levels;
}

class McgqScheme final : public Scheme {
 public:
  McgqScheme(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context) : pool_(pool) {
    const OptionReader read(spec);
    const uint64_t elements = pool.summary().elements;
    const auto of_share = [&](double share) {
      return std::min(most_samples, std::max<uint64_t>(1, uint64_t(share * double(elements))));
    };
    sizes_ = {0, of_share(most_share), of_share(0.5)};
    if (!read.is("samples", "auto"))
      sizes_.least = sizes_.most = sizes_.native =
          of_share(read.number("samples", 0, most_share, "auto or a share of 0..64"));
    if (!read.is("coder", "auto")) {
      packer_ = read.choice("coder", level_packer_names);
      if (*packer_ == LevelPacker::base243)
        read.bad("coder", "auto, fixed, elias-sparse, elias-dense or entropy");
    }
    nearest_ = context.rounding == Rounding::nearest;
    if (!nearest_ && !pool.tensors().empty())
      offset_ = double(element::uniform_of_word(element::random_word(
          context.stream, 0, pool.tensors()[0].number, element::RandomPurpose::sampling)));
    std::vector<double> found;  // all tensors' pieces
    if (pool.device() != nullptr) found = on_device([&] { return cuda::sums_in_fours(*pool.device()); });
    size_t next = 0;
    for (size_t t = 0; t < pool.tensors().size(); ++t) {
      starts_.emplace_back();
      if (pool.device() == nullptr)
        found = per_block(pool, t,
                          [](uint64_t, std::span<const float> values) { return cpu::sum_in_fours(values); });
      if (pool.device() == nullptr) next = 0;
      const uint64_t pieces = (pool.tensors()[t].info->elements() + piece - 1) / piece;
      for (uint64_t p = 0; p < pieces; ++p) {
        starts_[t].push_back(total_);
        total_ += found[next++];
      }
    }
    stored_.norm = stored_scale(total_);
  }

  SizeRange sizes() const override { return sizes_; }
  void set_size(uint64_t samples, bool draft) override {
    samples_ = double(samples);
    stored_.samples = std::max<uint64_t>(1, samples);
    // The share of the largest element, and room for the rounding of the sums.
    const double largest = double(
        element::magnitude_of_key(std::min(pool_.summary().max_key, element::first_nonfinite_key - 1)));
    const double count = total_ > 0 ? std::floor(samples_ * (largest / total_)) + 2 : 0;
    stored_.most_count = int32_t(std::min(count, samples_));
    if (packer_ && !packer_allows(*packer_, stored_.range()))
      throw Error(
          Errc::unreachable_target,
          fmt::format("mcgq: counts of up to {} are too many for the coder; use coder=auto or fewer samples",
                      stored_.most_count));
    const double bytes = std::min(1.0, samples_ / double(std::max<uint64_t>(1, pool_.summary().elements)));
    block_log2_ = 16;
    while (!draft && block_log2_ < 20 && std::ldexp(bytes, block_log2_) < 16384) ++block_log2_;
  }
  uint8_t block_log2() const override { return block_log2_; }
  bool deterministic() const override { return nearest_ || samples_ == 0; }

  /// Samples fall in proportion to magnitudes, and so, about, do the bytes that they take.
  double draft_weight(std::span<const PoolBlock> draft) const override {
    double mass = 0, elements = 0;
    for (const PoolBlock& block : draft) {
      const std::vector<double>& starts = starts_[block.tensor];
      const size_t first = size_t(block.first / piece), behind = first + (block.count + piece - 1) / piece;
      double end = behind < starts.size() ? starts[behind] : total_;
      for (size_t t = block.tensor + 1; behind >= starts.size() && t < starts_.size(); ++t)
        if (!starts_[t].empty()) {
          end = starts_[t].front();
          break;
        }
      mass += end - starts[first];
      elements += double(block.count);
    }
    const double average = total_ / double(std::max<uint64_t>(1, pool_.summary().elements)) * elements;
    return mass > 0 && average > 0 ? mass / average : 1;
  }

  StoredSet stored_set(size_t) const override {
    ByteWriter out;
    out.uvarint(stored_.samples);
    out.f32(stored_.norm);
    out.uvarint(uint64_t(stored_.most_count));
    return {mcgq_row.info.wire_id, out.take()};
  }

  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override {
    std::vector<int32_t>& levels = thread_levels();
    levels.resize(values.size());
    double variance = 0;
    for (size_t at = 0; at < values.size(); at += piece) {
      const size_t count = std::min(piece, values.size() - at);
      variance += sample(starts_[t][size_t((place.first + at) / piece)], values.subspan(at, count),
                         std::span(levels).subspan(at, count));
    }
    if (!decoded.empty()) cpu::uniform_values(levels, stored_.norm, float(stored_.samples), decoded);
    if (!deterministic()) sums.expected_error += variance;
    if (place.first == 0 && t == 0) sums.nominal_bits += 32;
    if (std::all_of(levels.begin(), levels.end(), [](int32_t level) { return level == 0; })) return;
    const size_t before = out.size();
    sums.entropy_bits += write_level_block({}, levels, stored_.range(), packer_, out);
    sums.nominal_bits += 8 * (out.size() - before - 1);
  }
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;

 private:
  /// Counts of a piece whose first element has `start` before it; returns the sum of the elements' variances.
  double sample(double start, std::span<const float> values, std::span<int32_t> levels) const {
    if (!(total_ > 0)) {
      std::fill(levels.begin(), levels.end(), 0);
      return 0;
    }
    return cpu::count_samples(values, start, rate(), offset_, levels) * step() * step();
  }
  /// Samples a unit of magnitude.
  double rate() const { return total_ > 0 ? samples_ / total_ : 0.0; }
  /// The magnitudes that a sample stands for.
  double step() const { return total_ / std::max(samples_, 1.0); }

  const TensorPool& pool_;
  SizeRange sizes_;
  std::optional<LevelPacker> packer_;
  bool nearest_ = false;
  double offset_ = 0.5;                      ///< r
  std::vector<std::vector<double>> starts_;  ///< [tensor][piece]: the sum of all magnitudes before it
  double total_ = 0, samples_ = 0;
  StoredSamples stored_;
  uint8_t block_log2_ = 16;
};

cuda::LevelTensor level_tensor(const StoredSamples& stored) {
  cuda::LevelTensor tensor;
  tensor.rule.steps = uint32_t(stored.samples);
  tensor.low = stored.range().low;
  tensor.symbols = uint32_t(stored.range().symbols());
  tensor.scale = stored.norm;
  return tensor;
}

std::unique_ptr<DeviceBlocks> McgqScheme::encode_on_device(const TensorPool& pool) const {
  if (stored_.most_count > INT16_MAX) return nullptr;  // levels have 16 bits there
  cuda::LevelPlan plan;
  plan.tensors.assign(pool.tensors().size(), level_tensor(stored_));
  plan.count_gaps = !packer_ || packer_ == LevelPacker::elias_sparse;
  plan.samples = {{rate(), offset_}, step(), starts_};
  const auto choose = [this, histogram = LevelHistogram()](
                          const PoolBlock& block, const cuda::LevelSums& found,
                          std::span<const uint32_t> counts, BlockSums& sums) mutable {
    sums = error_block_sums(found);
    sums.expected_error = deterministic() ? found.other_error : found.expected_error;
    if (block.tensor == 0 && block.first == 0) sums.nominal_bits = 32;
    cuda::LevelLayout empty;
    empty.empty = true;
    if (found.nonzeros == 0) return empty;
    const LevelRange range = stored_.range();
    histogram.assign(range.low, counts);
    sums.entropy_bits = histogram.entropy_bits();
    return level_layout(histogram, range, packer_, found.gap_bits, 0);
  };
  const auto finish = [](const PoolBlock&, size_t bytes, BlockSums& sums) {
    sums.nominal_bits += 8 * (bytes - 1);
  };
  return std::make_unique<LevelDeviceBlocks>(pool, block_log2(), std::move(plan), choose, finish);
}

class McgqDecoder final : public MethodDecoder {
 public:
  McgqDecoder(std::string_view parameters, std::string_view what) {
    ByteReader in(parameters, what);
    stored_.samples = in.uvarint(most_samples);
    if (stored_.samples == 0) in.damaged("no samples");
    stored_.norm = in.magnitude("the norm");
    stored_.most_count = int32_t(in.uvarint(stored_.samples));
    in.expect_end();
  }

  void decode_block(const BlockPlace&, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    std::vector<int32_t>& levels = thread_levels();
    levels.resize(values.size());
    read_level_block(block, stored_.range(), {}, levels, what);
    cpu::uniform_values(levels, stored_.norm, float(stored_.samples), values);
  }
  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return std::make_unique<LevelDeviceDecoder>(
        level_tensor(stored_), 0,
        [stored = stored_](std::string_view block, cuda::LevelDecoder::Block& head) {
          read_level_head(block, stored.range(), 0, head);
        });
  }
  std::string describe() const override { return "mcgq"; }

 private:
  StoredSamples stored_;
};

}  // namespace

const MethodRow mcgq_row = {
    {.name = "mcgq",
     .wire_id = 17,
     .title = "MCGQ: Monte Carlo gradient quantization, importance samples counted",
     .source = "Mordido et al., Monte Carlo Gradient Quantization, CVPR workshops 2020",
     .bias = "unbiased",
     .needs = "nothing",
     .aggregation = "allgather",
     .random_numbers = "one a pool of tensors",
     .nominal_bits = "the packed counts + 32 a pool; the paper leaves it open",
     .honest_bits = "nominal + one byte a block",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::continuous,
     .size_option = "samples",
     .unbiased = true},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<Scheme> { return std::make_unique<McgqScheme>(pool, spec, context); },
    nullptr,
    [](std::string_view parameters, std::string_view what) -> std::unique_ptr<MethodDecoder> {
      return std::make_unique<McgqDecoder>(parameters, what);
    }};

}  // namespace jsq
