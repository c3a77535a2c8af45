// L-GreCo (Alimohammadi et al., MLSys 2024): another method's size, chosen for each tensor. Every tensor is
// coded with some sizes around the base's own; of one size of each tensor the sum of bytes is made least
// while the sum of errors stays within alpha times that of the base's own size, or, under a budget, the sum
// of errors least while the bytes stay within it. Both are solved exactly (allocators/multiple_choice.hpp).
//
// The paper sums L2 norms of errors, discretised to 10,000 steps; squared errors, which add up to that of the
// whole, are the default here, and nothing is discretised, so the base's own size is always within the limit.
// Sizes of a tensor of more than 65,536 elements are tried on that many of them where the target is none that
// the whole has to meet; what then differs from the base's own size is confirmed on the whole.
// Frames hold the base's tensors with their own parameters; this method's number never stands in one.
#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "jsq/error.hpp"
#include "lib/allocators/multiple_choice.hpp"
#include "lib/core/bytes.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/sized_encoder.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"base", "qsgd|thc|powersgd|acpsgd", "qsgd",
     "the method whose size is chosen, with its defaults; any other one with a size option is taken too"},
    {"alpha", "0..1000000", "1",
     "native target: the error allowed, as a multiple of that of the base's own size"},
    {"metric", "squared|l2sum", "squared", "a tensor's error: squared, or the L2 norm of the paper"},
};

constexpr uint64_t few_sizes = 16;  // that are all tried
constexpr int searches = 32, refinements = 12, confirmations = 3;
constexpr double close_enough = 0.998;  // of a limit
constexpr double enough_gain = 0.998;   // of the cost, for one more refinement

/// What coding a tensor at one size came to.
struct Tried {
  double bytes = 0, nominal_bits = 0, squared_error = 0, max_error = 0;
};

/// One tensor, alone in its pool.
struct Layer {
  std::unique_ptr<TensorPool> own_pool;  // where others are beside it
  const TensorPool* pool = nullptr;
  Scheme* scheme = nullptr;  // the encoder's
  std::unique_ptr<SizedEncoder> encoder;
  SizeRange sizes;
  std::map<uint64_t, Tried> tried;
  std::set<uint64_t> confirmed;  ///< of those that were tried on a draft, the ones tried on the whole since
  uint64_t size = 0;

  bool drafted() const { return scheme->drafts() && pool->summary().elements > Scheme::draft_elements; }
};

/// The sizes that are tried first: few all, ranks from half to double the native one, others on a geometric
/// grid around it.
std::vector<uint64_t> first_sizes(const SizeRange& range, std::string_view size_option) {
  std::set<uint64_t> sizes = {range.native};
  const auto add = [&](double size) {
    sizes.insert(uint64_t(std::clamp(size, double(range.least), double(range.most))));
  };
  if (range.most - range.least < few_sizes) {
    for (uint64_t size = range.least; size <= range.most; ++size) sizes.insert(size);
  } else if (size_option == "rank") {
    for (uint64_t size = range.native / 2; size <= 2 * range.native; ++size) add(double(size));
  } else {
    double up = double(range.native), down = up;
    for (int step = 0; step < 6; ++step) {
      add(std::floor(up *= std::sqrt(2.0)));
      add(std::floor(down /= std::sqrt(2.0)));
    }
  }
  return {sizes.begin(), sizes.end()};
}

/// The blocks of all layers from the device, layer by layer.
class LayerBlocks final : public DeviceBlocks {
 public:
  struct Part {
    std::unique_ptr<DeviceBlocks> coded;
    size_t left = 0;  ///< blocks
  };
  explicit LayerBlocks(std::vector<Part> parts) : parts_(std::move(parts)) {}

  void next(std::string& out, BlockSums& sums) override {
    Part& part = parts_[at_];
    part.coded->next(out, sums);
    if (--part.left > 0) return;
    part.coded.reset();
    ++at_;
  }

 private:
  std::vector<Part> parts_;
  size_t at_ = 0;
};

class LGrecoEncoder final : public MethodEncoder {
 public:
  LGrecoEncoder(const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context) : pool_(pool) {
    const OptionReader read(spec);
    alpha_ = read.number("alpha", 0, 1e6, "a number of 0..1000000");
    l2_ = read.choice<bool>("metric", {{"squared", false}, {"l2sum", true}});
    const MethodRow& base = base_of(read);
    size_option_ = base.info.size_option;
    MethodSpec base_spec;
    base_spec.name = std::string(base.info.name);
    for (size_t t = 0; t < pool.tensors().size(); ++t) {
      Layer layer;
      if (pool.tensors().size() > 1)
        layer.own_pool = std::make_unique<TensorPool>(
            pool, t, base.ranks ? HistogramPass::with_summary : HistogramPass::when_asked);
      layer.pool = layer.own_pool ? layer.own_pool.get() : &pool;
      auto scheme = base.make_scheme(*layer.pool, base_spec, context);
      layer.scheme = scheme.get();
      layer.encoder = std::make_unique<SizedEncoder>(*layer.pool, std::move(scheme), base_spec.name, context);
      layer.sizes = layer.scheme->sizes();
      layer.size = layer.sizes.native;
      layers_.push_back(std::move(layer));
    }
  }

  void aim_native() override {
    // A tensor alone has none to trade errors with.
    if (layers_.size() == 1 && alpha_ == 1) return settle();
    try_on_drafts(true);
    try_first_sizes();
    for (int round = 0;; ++round) {
      double limit = 0;
      for (const Layer& layer : layers_) limit += error(layer.tried.at(layer.sizes.native));
      solve(
          bytes, [this](const Tried& t) { return error(t); }, alpha_ * limit);
      // What a layer at its native size adds to both sides cancels, unless the limit is a multiple of it.
      if (!confirm(alpha_ != 1)) break;
      if (round == confirmations) forget_drafts();
    }
    settle();
  }

  uint64_t aim_bytes(uint64_t body_bytes) override {
    try_on_drafts(true);
    search([this](const Tried& t) { return error(t); }, bytes, double(body_bytes), Lighter::smaller);
    settle();
    return stored_bytes();
  }

  void aim_payload_bits(uint64_t payload_bits) override {
    try_on_drafts(false);
    const auto nominal = [](const Tried& t) { return t.nominal_bits; };
    if (!search([this](const Tried& t) { return error(t); }, nominal, double(payload_bits), Lighter::smaller))
      throw Error(Errc::unreachable_target,
                  fmt::format("a payload of {} bits is below the {:.0f} that lgreco needs at least for {} "
                              "elements; ask for less compression",
                              payload_bits, sum_of(nominal), pool_.summary().elements));
    settle();
  }

  void aim_error(const Target& asked) override {
    // Errors of layers add up, cosines do not: a squared error that keeps the angle.
    const Target target = asked.kind == TargetKind::cosine ? nmse_within(asked) : asked;
    if (target.kind == TargetKind::hprime)
      throw Error(Errc::usage,
                  fmt::format("{}: hprime is the noise model of methods with width classes, such as "
                              "jointsq; give lgreco an nmse or maxabs target",
                              to_string(target)));
    try_on_drafts(false);
    if (target.kind == TargetKind::maxabs) {
      const auto exceeds = [&](const Tried& t) { return t.max_error > target.value ? 1.0 : 0.0; };
      if (!search(bytes, exceeds, 0.5, Lighter::larger)) {
        double largest = 0;
        for (const Layer& layer : layers_) largest = std::max(largest, layer.tried.at(layer.size).max_error);
        throw UnreachableTarget::below(largest, target, "lgreco");
      }
    } else {
      double energy = 0;
      for (size_t t = 0; t < pool_.tensors().size(); ++t) energy += pool_.statistics(t).energy;
      const auto squared = [](const Tried& t) { return t.squared_error; };
      // The report adds the same numbers in another order.
      if (!search(bytes, squared, target.value * energy * (1 - 1e-12), Lighter::larger))
        throw UnreachableTarget::below(energy > 0 ? sum_of(squared) / energy : 0, target, "lgreco");
    }
    settle();
  }

  StoredSet stored_set(size_t t) const override { return layers_[t].encoder->stored_set(0); }
  uint8_t block_log2(size_t t) const override { return layers_[t].encoder->block_log2(0); }
  void encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                    BlockSums& sums) const override {
    layers_[t].encoder->encode_block(0, first, values, out, sums);
  }
  void encode_unmeasured(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                         BlockSums& sums) const override {
    layers_[t].encoder->encode_unmeasured(0, first, values, out, sums);
  }
  std::unique_ptr<DeviceBlocks> encode_on_device() const override {
    std::vector<LayerBlocks::Part> parts;
    for (const Layer& layer : layers_) {
      if (layer.pool->summary().elements == 0) continue;
      parts.push_back({layer.scheme->encode_on_device(*layer.pool),
                       pool_blocks(*layer.pool, layer.encoder->block_log2(0)).size()});
      if (!parts.back().coded) return nullptr;
    }
    return std::make_unique<LayerBlocks>(std::move(parts));
  }

  PoolReport report(const BlockSums& total) const override {
    PoolReport report;
    report.noise.per_element = report.noise.eq6 = report.noise.eq6_nonzero = report.noise.uniform =
        std::numeric_limits<double>::quiet_NaN();
    report.payload_bits = total.nominal_bits;
    report.entropy_bits = total.entropy_bits;
    report.expected_squared_error = total.expected_error;
    for (const Layer& layer : layers_) layer.scheme->describe(report);
    return report;
  }
  void save(State& state) const override {
    for (const Layer& layer : layers_) layer.scheme->save(state);
  }

 private:
  using Amount = std::function<double(const Tried&)>;
  enum class Lighter : uint8_t { smaller, larger };  ///< which sizes weigh less

  static double bytes(const Tried& tried) { return tried.bytes; }
  double error(const Tried& tried) const {
    return l2_ ? std::sqrt(tried.squared_error) : tried.squared_error;
  }

  static const MethodRow& base_of(const OptionReader& read) {
    for (const MethodInfo* info : methods()) {
      if (info->name != read.text("base") || info->size_option.empty()) continue;
      const MethodRow& row = method_row(info->name);
      if (row.make_scheme) return row;
    }
    read.bad("base", "a method with a size option, such as qsgd or powersgd");
  }

  /// work(t) of all layers: side by side, or where they share a device one after the other.
  template <class Work>
  void for_layers(Work work) {
    if (pool_.device() == nullptr) return tbb::parallel_for(size_t(0), layers_.size(), work);
    for (size_t t = 0; t < layers_.size(); ++t) work(t);
  }

  double sum_of(const Amount& amount) const {
    double sum = 0;
    for (const Layer& layer : layers_) sum += amount(layer.tried.at(layer.size));
    return sum;
  }

  /// Whether sizes are tried on a draft of a large tensor: enough to choose by, and for a frame's bytes,
  /// which are counted when it is coded; not for limits that nobody checks again.
  void try_on_drafts(bool drafts) {
    if (drafts_ == drafts) return;
    drafts_ = drafts;
    for (Layer& layer : layers_) {
      layer.tried.clear();
      layer.confirmed.clear();
    }
  }

  /// Tries the chosen sizes on the whole, and the native one of a layer beside them or, with `natives`, of
  /// all. Returns whether one had been tried on a draft alone.
  bool confirm(bool natives) {
    std::vector<uint8_t> fresh(layers_.size());
    for_layers([&](size_t t) {
      Layer& layer = layers_[t];
      if (!layer.drafted() || (layer.size == layer.sizes.native && !natives)) return;
      for (uint64_t size : {layer.sizes.native, layer.size}) {
        if (!layer.confirmed.insert(size).second) continue;
        const Tried whole = try_size(layer, size, false), draft = layer.tried.at(size);
        // The other drafts are as far off as the first, about.
        const bool first = layer.confirmed.size() == 1 && draft.bytes > 0 && draft.squared_error > 0;
        for (auto& [other, tried] : layer.tried) {
          if (!first) break;
          tried.bytes *= whole.bytes / draft.bytes;
          tried.squared_error *= whole.squared_error / draft.squared_error;
        }
        layer.tried.at(size) = whole;
        fresh[t] = 1;
      }
    });
    return std::any_of(fresh.begin(), fresh.end(), [](uint8_t is) { return is != 0; });
  }

  /// Leaves layers with confirmed sizes these alone, the native one among them.
  void forget_drafts() {
    for (Layer& layer : layers_)
      if (!layer.confirmed.empty())
        std::erase_if(layer.tried, [&](const auto& tried) { return !layer.confirmed.contains(tried.first); });
  }

  static Tried try_size(Layer& layer, uint64_t size, bool draft) {
    const uint64_t elements = layer.pool->summary().elements;
    layer.scheme->set_size(size, draft);
    const std::vector<PoolBlock> blocks =
        pool_blocks(*layer.pool, layer.encoder->block_log2(0), draft ? Scheme::draft_elements : UINT64_MAX);
    std::vector<BlockSums> sums(blocks.size());
    std::vector<size_t> sizes(blocks.size());
    std::unique_ptr<DeviceBlocks> from_device;
    if (!draft && layer.pool->device() != nullptr) from_device = layer.scheme->encode_on_device(*layer.pool);
    for (size_t b = 0; from_device && b < blocks.size(); ++b) {
      std::string code;
      from_device->next(code, sums[b]);
      sizes[b] = code.size();
    }
    tbb::parallel_for(size_t(0), from_device ? 0 : blocks.size(), [&](size_t b) {
      static thread_local std::vector<float> scratch;
      std::string code;
      const auto values = layer.pool->read(0, blocks[b].first, blocks[b].count, scratch);
      layer.encoder->encode_block(0, blocks[b].first, values, code, sums[b]);
      sizes[b] = code.size();
    });
    Tried tried;
    uint64_t coded = 0;
    for (size_t b = 0; b < blocks.size(); ++b) {
      tried.bytes += double(sizes[b]);
      tried.nominal_bits += double(sums[b].nominal_bits);
      tried.squared_error += sums[b].squared_error;
      tried.max_error = std::max(tried.max_error, sums[b].max_error);
      coded += blocks[b].count;
    }
    if (draft) {
      const double scale = double(elements) / double(std::max<uint64_t>(1, coded));
      tried.bytes =
          scale * (tried.bytes - layer.scheme->fixed_bytes(true)) + layer.scheme->fixed_bytes(false);
      tried.nominal_bits *= scale;
      tried.squared_error *= scale;
    }
    tried.bytes += double(layer.encoder->stored_set(0).parameters.size());
    return tried;
  }

  /// Tries the wanted sizes of each layer. Returns whether one was new.
  bool try_sizes(const std::vector<std::vector<uint64_t>>& wanted) {
    std::vector<uint8_t> fresh(layers_.size());
    for_layers([&](size_t t) {
      for (uint64_t size : wanted[t]) {
        if (layers_[t].tried.contains(size)) continue;
        layers_[t].tried.emplace(size, try_size(layers_[t], size, drafts_ && layers_[t].drafted()));
        fresh[t] = 1;
      }
    });
    return std::any_of(fresh.begin(), fresh.end(), [](uint8_t is) { return is != 0; });
  }

  void try_first_sizes() {
    std::vector<std::vector<uint64_t>> wanted;
    for (const Layer& layer : layers_) wanted.push_back(first_sizes(layer.sizes, size_option_));
    try_sizes(wanted);
  }

  /// Chooses among the sizes that were tried. Returns false where nothing is within the limit.
  bool solve(const Amount& cost, const Amount& weight, double limit) {
    std::vector<std::vector<WeighedOption>> items;
    for (const Layer& layer : layers_) {
      items.emplace_back();
      for (const auto& [size, tried] : layer.tried) items.back().push_back({cost(tried), weight(tried)});
    }
    const auto choice = cheapest_choice(items, limit);
    if (!choice) return false;
    for (size_t t = 0; t < layers_.size(); ++t)
      layers_[t].size = std::next(layers_[t].tried.begin(), std::ptrdiff_t((*choice)[t]))->first;
    return true;
  }

  /// Solves, and tries more sizes where they may help: lighter ones while nothing fits, beyond the chosen
  /// ones while these are the last that were tried, then between them and their neighbours. Returns false,
  /// with the lightest sizes chosen, where nothing fits.
  bool search(const Amount& cost, const Amount& weight, double limit, Lighter lighter) {
    try_first_sizes();
    double cost_before = std::numeric_limits<double>::infinity();
    for (int round = 0, refined = 0;; ++round) {
      const bool fits = solve(cost, weight, limit);
      const bool more = try_sizes(beyond(fits, lighter));
      if (!fits && !more) return false;
      if (more && (!fits || round < searches)) continue;
      const double cost_now = sum_of(cost);
      const bool settled = cost_now > enough_gain * cost_before && sum_of(weight) >= close_enough * limit;
      if (settled || ++refined > refinements) return true;
      cost_before = cost_now;
      if (!try_sizes(between())) return true;
    }
  }

  /// Sizes past the chosen ones where these are the last that were tried; lighter ones only while nothing
  /// fits, with the lightest that were tried as the choice.
  std::vector<std::vector<uint64_t>> beyond(bool fits, Lighter lighter) {
    std::vector<std::vector<uint64_t>> wanted(layers_.size());
    for (size_t t = 0; t < layers_.size(); ++t) {
      Layer& layer = layers_[t];
      const uint64_t first = layer.tried.begin()->first, last = layer.tried.rbegin()->first;
      if (!fits) layer.size = lighter == Lighter::smaller ? first : last;
      if (layer.size == first && (fits || lighter == Lighter::smaller))
        wanted[t].push_back(std::max(layer.sizes.least, first / 2));
      if (layer.size == last && (fits || lighter == Lighter::larger))
        wanted[t].push_back(last > layer.sizes.most / 2 ? layer.sizes.most : std::max<uint64_t>(1, 2 * last));
    }
    return wanted;
  }

  /// Half way from the chosen sizes to the next ones that were tried.
  std::vector<std::vector<uint64_t>> between() const {
    std::vector<std::vector<uint64_t>> wanted(layers_.size());
    for (size_t t = 0; t < layers_.size(); ++t) {
      const Layer& layer = layers_[t];
      const auto chosen = layer.tried.find(layer.size), above = std::next(chosen);
      if (chosen != layer.tried.begin()) {
        const uint64_t below = std::prev(chosen)->first;
        if (layer.size - below > 1) wanted[t].push_back(below + (layer.size - below) / 2);
      }
      if (above != layer.tried.end() && above->first - layer.size > 1)
        wanted[t].push_back(layer.size + (above->first - layer.size) / 2);
    }
    return wanted;
  }

  /// Prepares every layer for coding at its size.
  void settle() {
    for_layers([&](size_t t) { layers_[t].scheme->set_size(layers_[t].size, false); });
  }

  uint64_t stored_bytes() const {
    std::set<std::pair<uint32_t, std::string>> sets;
    double sum = 0;
    for (const Layer& layer : layers_) {
      StoredSet set = layer.encoder->stored_set(0);
      const double parameters = double(set.parameters.size());
      sum += layer.tried.at(layer.size).bytes;
      if (!sets.emplace(set.method_id, std::move(set.parameters)).second) sum -= parameters;
    }
    return uint64_t(sum);
  }

  const TensorPool& pool_;
  double alpha_ = 1;
  bool l2_ = false;
  bool drafts_ = false;  ///< what was tried, was tried on drafts
  std::string_view size_option_;
  std::vector<Layer> layers_;
};

}  // namespace

const MethodRow lgreco_row = {
    {.name = "lgreco",
     .wire_id = 23,
     .title = "L-GreCo: another method's size for each tensor, by dynamic programming",
     .source =
         "Alimohammadi et al., L-GreCo: Layerwise-Adaptive Gradient Compression for Efficient Data-parallel "
         "Deep Learning, MLSys 2024",
     .bias = "that of the base",
     .needs = "what the base needs",
     .aggregation = "that of the base",
     .random_numbers = "those of the base",
     .nominal_bits = "those of the base",
     .honest_bits = "those of the base, with its parameters for each tensor",
     .backends = "cpu, cuda",
     .options = options,
     .sizing = Sizing::stepped},
    nullptr,
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext& context)
        -> std::unique_ptr<MethodEncoder> { return std::make_unique<LGrecoEncoder>(pool, spec, context); },
    [](std::string_view parameters, std::string_view what) -> std::unique_ptr<MethodDecoder> {
      ByteReader(parameters, what).damaged("lgreco stores its base's method, never its own number");
    }};

}  // namespace jsq
