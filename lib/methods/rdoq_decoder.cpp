// Frames of rdoq: values from the streams of blocks, tensors that their parameter set holds, and what the
// bits of each tensor are for, measured while decoding.
#include "lib/methods/rdoq_decoder.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "lib/methods/rdoq_device_decoder.hpp"
#include "lib/methods/rdoq_parameters.hpp"

namespace jsq {
namespace {

class RdoqDecoder final : public MethodDecoder {
 public:
  RdoqDecoder(std::string_view parameters, std::string_view what)
      : parameters_(read_rdoq_parameters(parameters, what)), what_(what) {}

  void bind(std::span<const BlockPlace> tensors) override {
    if (parameters_.has_transforms) {
      for (const BlockPlace& place : tensors) {
        const std::vector<TransformSite> own = parameters_.sites(place.tensor, *place.info);
        sites_.insert(sites_.end(), own.begin(), own.end());
      }
      parameters_.transforms =
          read_transforms(parameters_.coder, sites_, parameters_.transform_stream, what_);
      if (!parameters_.transforms.prepare(parameters_.values))
        throw Error(Errc::damaged, what_ + " is damaged: its factors have a unit far from the step");
    }
    if (parameters_.packed_elements == 0) return;
    uint64_t total = 0;
    for (const BlockPlace& place : tensors) {
      const uint64_t elements = place.info->elements();
      if (elements == 0 || elements > parameters_.packed_elements) continue;
      packed_ranges_.push_back({place.tensor, place.info, 0, elements});
      first_packed_[place.tensor] = size_t(total);
      total += elements;
      if (total > uint64_t(1) << 20)
        throw Error(Errc::damaged, what_ + " is damaged: more packed elements than 2^20");
    }
    packed_.resize(size_t(total));
    decode_rdoq_stream(parameters_, packed_ranges_, parameters_.pack, packed_, what_);
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    return make_rdoq_device_decoder(parameters_, [this](const BlockPlace& place, size_t count) {
      const auto found = first_packed_.find(place.tensor);
      if (found == first_packed_.end()) return std::span<const float>();
      return std::span<const float>(packed_).subspan(found->second + size_t(place.first), count);
    });
  }

  void decode_empty(const BlockPlace& place, std::span<float> values) const override {
    const auto found = first_packed_.find(place.tensor);
    if (found == first_packed_.end()) {
      MethodDecoder::decode_empty(place, values);
      if (parameters_.has_transforms && parameters_.transforms.predicts(place.tensor))
        finish_range(
            checked_parts(parameters_, {place.tensor, place.info, place.first, values.size()}, what_),
            parameters_.transforms, parameters_.values, place.tensor, place.first, values);
      return;
    }
    std::copy_n(packed_.begin() + std::ptrdiff_t(found->second + place.first), values.size(), values.begin());
  }

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    const TensorRange range{place.tensor, place.info, place.first, values.size()};
    decode_rdoq_stream(parameters_, std::span(&range, 1), block, values, what);
  }
  std::string describe() const override {
    return !parameters_.values.exact && parameters_.coder.model().dependent() ? "rdoq:levels=dependent"
                                                                              : "rdoq";
  }

  bool tells_coding() const override { return true; }

  TensorCoding coding(const BlockPlace& tensor, uint8_t block_log2, std::span<const std::string_view> blocks,
                      std::string_view what) const override {
    TensorCoding coding;
    coding.table_bits = 8 * double(parameters_.table_bytes);
    coding.layers = parts_coding(tensor);
    const auto add = [&](const PieceBits& piece) {
      LayerCoding& layer = coding.layers[piece.place.second];
      layer.scale_bits += piece.scales;
      layer.residual_bits += piece.elements;
    };
    if (first_packed_.contains(tensor.tensor)) {
      for (const PieceBits& piece : measured().packed)
        if (piece.place.first == tensor.tensor) add(piece);
      return coding;
    }
    std::vector<float> values;
    for (size_t b = 0; b < blocks.size(); ++b) {
      if (blocks[b].empty()) continue;
      const uint64_t first = uint64_t(b) << block_log2;
      const TensorRange range{tensor.tensor, tensor.info, first,
                              std::min(uint64_t(1) << block_log2, tensor.info->elements() - first)};
      values.resize(size_t(range.count));
      std::vector<PieceBits> bits;
      decode_rdoq_stream(parameters_, std::span(&range, 1), blocks[b], values, what, &bits);
      for (const PieceBits& piece : bits) add(piece);
    }
    return coding;
  }

 private:
  /// What the parameter set says of the tensor's parts.
  std::vector<LayerCoding> parts_coding(const BlockPlace& tensor) const {
    const auto found = parameters_.layers.find(tensor.tensor);
    const std::vector<Shape> shapes =
        found == parameters_.layers.end() ? std::vector<Shape>{tensor.info->shape} : found->second;
    std::vector<LayerCoding> layers(shapes.size());
    for (uint32_t p = 0; p < layers.size(); ++p) {
      LayerCoding& layer = layers[p];
      const PartPlace place{tensor.tensor, p};
      layer.shape = shapes[p];
      if (const auto columns = parameters_.column_bits.find(place); columns != parameters_.column_bits.end())
        layer.scale_bits = columns->second;
      const PartTransform* transform = parameters_.transforms.find(tensor.tensor, p);
      if (!transform) continue;
      const TransformBits& bits = measured().transforms.at(place);
      layer.cosine = transform->dct().has_value();
      layer.rank = transform->factors() ? transform->factors()->factors.rank : 0;
      layer.scale_bits += bits.frequencies;
      layer.factor_bits = bits.factors;
    }
    return layers;
  }

  /// Ideal code lengths of what the parameter set holds of all tensors.
  struct SetBits {
    std::map<PartPlace, TransformBits> transforms;
    std::vector<PieceBits> packed;
  };
  /// For the first who asks.
  const SetBits& measured() const {
    std::call_once(is_measured_, [&] {
      const std::vector<TransformBits> bits = transform_bits(sites_, parameters_.transforms);
      for (size_t j = 0; j < sites_.size(); ++j) measured_.transforms[sites_[j].place] = bits[j];
      if (packed_ranges_.empty()) return;
      std::vector<float> values(packed_.size());
      decode_rdoq_stream(parameters_, packed_ranges_, parameters_.pack, values, what_, &measured_.packed);
    });
    return measured_;
  }

  RdoqParameters parameters_;
  std::string what_;
  std::map<uint32_t, size_t> first_packed_;  ///< by tensor number: where its values begin
  std::vector<float> packed_;
  std::vector<TensorRange> packed_ranges_;
  std::vector<TransformSite> sites_;
  mutable std::once_flag is_measured_;
  mutable SetBits measured_;
};

}  // namespace

std::unique_ptr<MethodDecoder> make_rdoq_decoder(std::string_view parameters, std::string_view what) {
  return std::make_unique<RdoqDecoder>(parameters, what);
}

}  // namespace jsq
