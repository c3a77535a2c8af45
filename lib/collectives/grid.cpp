#include "lib/collectives/grid.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/uniforms.hpp"
#include "lib/collectives/packed_levels.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/seeds.hpp"

namespace jsq {
namespace {

class GridEndpoint final : public Endpoint {
 public:
  GridEndpoint(const Grid& grid, uint64_t bucket, bool nearest, const EndpointContext& context,
               std::vector<float> values)
      : grid_(grid),
        bucket_(bucket ? size_t(bucket) : std::max<size_t>(values.size(), 1)),
        nearest_(nearest),
        context_(context),
        values_(std::move(values)) {
    for (size_t at = 0; at < values_.size(); at += bucket_)
      scales_.push_back(cpu::max_magnitude(part(values_, at)));
  }

  uint32_t rounds() const override { return 2; }

  std::string message(uint32_t round) override {
    if (round == 0) return pack_scales(scales_);
    std::vector<float> uniforms(nearest_ ? 0 : values_.size());
    cpu::fill_uniforms(context_.stream, 0, context_.tensor, element::RandomPurpose::rounding, uniforms);
    levels_.resize(values_.size());
    for (size_t at = 0, b = 0; at < values_.size(); at += bucket_, ++b)
      grid_.quantize(part(values_, at), scales_[b], nearest_ ? std::span<const float>() : part(uniforms, at),
                     std::span<int32_t>(levels_).subspan(at, part(values_, at).size()));
    return pack_message(levels_, grid_.range());
  }

  uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const override {
    if (round == 0) {
      std::vector<float> scales = unpack_scales(into);
      const std::vector<float> more = unpack_scales(from);
      for (size_t b = 0; b < scales.size(); ++b) scales[b] = std::max(scales[b], more[b]);
      into = pack_scales(scales);
      return 0;
    }
    if (grid_.kind != GridKind::shared_exponential)
      return add_messages(into, from, grid_.range(), values_.size());
    std::vector<int32_t> sums = unpack_message(into, grid_.range(), values_.size());
    const std::vector<int32_t> codes = unpack_message(from, grid_.range(), values_.size());
    std::vector<float> uniforms(values_.size());
    cpu::fill_uniforms(transit_seed(context_.seed, edge), 0, context_.tensor, element::RandomPurpose::transit,
                       uniforms);
    const uint64_t saturated = cpu::add_exponential_codes(sums, codes, uniforms);
    into = pack_message(sums, grid_.range());
    return saturated;
  }

  bool any_order(uint32_t round) const override { return round == 0 || grid_.kind == GridKind::uniform; }

  void receive(uint32_t round, std::string_view sum) override {
    if (round == 0)
      scales_ = unpack_scales(sum);
    else
      sums_ = unpack_message(sum, grid_.range(), values_.size());
  }

  void mean(std::span<float> out) const override {
    // The grid of the sum divided by n.
    Grid mean_grid = grid_;
    mean_grid.workers = 1;
    if (grid_.kind == GridKind::uniform) mean_grid.steps = grid_.steps * grid_.workers;
    if (grid_.kind == GridKind::uniform_undivided) mean_grid.kind = GridKind::uniform;
    decode(mean_grid, sums_, out);
  }
  void own(std::span<float> out) const override { decode(grid_, levels_, out); }

 private:
  template <class Value>
  std::span<const Value> part(const std::vector<Value>& array, size_t at) const {
    return std::span<const Value>(array).subspan(at, std::min(bucket_, array.size() - at));
  }
  void decode(const Grid& grid, const std::vector<int32_t>& levels, std::span<float> out) const {
    for (size_t at = 0, b = 0; at < out.size(); at += bucket_, ++b)
      grid.dequantize(part(levels, at), scales_[b], out.subspan(at, std::min(bucket_, out.size() - at)));
  }
  static std::string pack_scales(const std::vector<float>& scales) {
    ByteWriter out;
    for (float scale : scales) out.f32(scale);
    return out.take();
  }
  std::vector<float> unpack_scales(std::string_view message) const {
    ByteReader in(message, "message of scales");
    std::vector<float> scales(scales_.size());
    for (float& scale : scales) scale = in.magnitude("a scale");
    in.expect_end();
    return scales;
  }

  Grid grid_;
  size_t bucket_;
  bool nearest_;
  EndpointContext context_;
  std::vector<float> values_, scales_;
  std::vector<int32_t> levels_, sums_;
};

}  // namespace

std::unique_ptr<Endpoint> make_grid_endpoint(const Grid& grid, uint64_t bucket, bool nearest,
                                             const EndpointContext& context, std::vector<float> values) {
  return std::make_unique<GridEndpoint>(grid, bucket, nearest, context, std::move(values));
}

}  // namespace jsq
