#include "lib/methods/rdoq_device_decoder.hpp"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "jsq/error.hpp"
#include "lib/core/device.hpp"
#include "lib/packers/context_device.hpp"

namespace jsq {
namespace {

/// Transforms of a parameter set, numbered.
struct NumberedTransforms {
  std::map<PartPlace, uint32_t> numbers;
  cuda::PartTransforms all;
};

cuda::PartTransform device_transform(const PartTransform& transform, std::span<const uint32_t> cosines_at,
                                     std::vector<int32_t>& factors) {
  cuda::PartTransform found;
  if (const FactorPrediction* prediction = transform.prediction()) {
    const IntegerFactors& stored = transform.factors()->factors;
    found.rank = prediction->rank();
    found.left = factors.size();
    for (uint32_t j = 0; j < found.rank; ++j)
      for (size_t row = 0; row < stored.rows; ++row) factors.push_back(prediction->left(row, j));
    found.right = factors.size();
    for (size_t column = 0; column < stored.columns; ++column)
      for (uint32_t j = 0; j < found.rank; ++j) factors.push_back(prediction->right(column, j));
  }
  if (const std::optional<KernelDct>& dct = transform.dct()) {
    found.axes = dct->axes();
    for (uint32_t axis = 0; axis < found.axes; ++axis) {
      found.extent[axis] = dct->extent(axis);
      found.stride[axis] = dct->stride(axis);
      found.cosines[axis] = cosines_at[dct->extent(axis)];
    }
  }
  return found;
}

NumberedTransforms numbered_transforms(const RdoqParameters& parameters) {
  NumberedTransforms found;
  std::array<uint32_t, most_dct + 1> cosines_at{};
  for (uint32_t extent = least_dct; extent <= most_dct; ++extent) {
    cosines_at[extent] = uint32_t(found.all.cosines.size());
    const std::span<const int32_t> table = dct_table(extent);
    found.all.cosines.insert(found.all.cosines.end(), table.begin(), table.end());
  }
  for (const auto& [place, transform] : parameters.transforms.parts) {
    found.numbers[place] = uint32_t(found.all.parts.size());
    found.all.parts.push_back(device_transform(transform, cosines_at, found.all.factors));
  }
  found.all.unit = parameters.values.step() / 256;
  return found;
}

class RdoqDeviceDecoder final : public DeviceBlockDecoder {
 public:
  RdoqDeviceDecoder(const RdoqParameters& parameters, PackedValues packed)
      : parameters_(parameters),
        packed_(std::move(packed)),
        transforms_(numbered_transforms(parameters)),
        decoder_(on_device([&] {
          return cuda::make_context_decoder(device_tables(parameters.coder),
                                            parameters.has_transforms ? &transforms_.all : nullptr);
        })) {
    transforms_.all = {};
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<Head> heads(blocks.size());
    // On its own: a thread that waits takes up nothing else, whose buffers are the thread's.
    tbb::this_task_arena::isolate([&] {
      tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) { read_head(bytes, blocks[b], heads[b]); });
    });
    std::vector<cuda::ContextDecoder::Block> wanted;
    cuda::ContextDecoder::Contexts contexts;
    for (Head& head : heads) {
      wanted.push_back(head.block);
      contexts.append(head.contexts);
    }
    on_device([&] { decoder_->decode(bytes, wanted, contexts, values, sound); });
  }

 private:
  struct Head {
    cuda::ContextDecoder::Block block;
    cuda::ContextDecoder::Contexts contexts;
  };

  /// What precedes a block's elements.
  void read_head(std::string_view bytes, const Block& block, Head& head) const {
    head.block.offset = block.offset;
    head.block.bytes = block.bytes;
    head.block.first = block.first;
    head.block.count = block.count;
    head.block.zero = block.bytes == 0;
    try {
      const TensorRange range{block.place.tensor, block.place.info, block.place.first, block.count};
      if (block.bytes == 0) {
        head.block.given = packed_(block.place, block.count);
        if (head.block.given.empty() && parameters_.transforms.predicts(range.tensor))
          add_units(range, block.first, head.contexts.units);
        return;
      }
      const std::string_view stream = bytes.substr(size_t(block.offset), size_t(block.bytes));
      ContextReader in(parameters_.coder, stream, "the block");
      ScaleCodec codec;
      size_t at = block.first;
      read_pieces(parameters_, range, in, codec, "the block", [&](const StoredPiece& stored) {
        add_device_piece(head.contexts, at, stored.piece, stored.layout, stored.rows, stored.columns,
                         stored.frequencies);
        at += stored.piece.count;
      });
      if (parameters_.has_transforms) add_units(range, block.first, head.contexts.units);
      head.block.lanes = uint32_t(in.states().size());
      std::copy(in.states().begin(), in.states().end(), head.block.states);
      // Words that were read beyond the end are missing.
      head.block.sound = in.position() <= stream.size();
      head.block.words_at = uint32_t(in.position());
    } catch (const Error&) {
      head.block.sound = false;  // the processor's decoder tells what is wrong
    }
    if (!head.block.sound) head.contexts = {};
  }

  /// What is to be finished of a range whose values begin at `first`.
  void add_units(const TensorRange& range, size_t first, std::vector<cuda::UnitPiece>& units) const {
    const TensorParts parts = checked_parts(parameters_, range, "the block");
    const auto add = [&](size_t at, size_t count) -> cuda::UnitPiece* {
      if (count == 0) return nullptr;
      units.push_back({at, uint32_t(count)});
      return &units.back();
    };
    for (const PartPiece& place : pieces_of(parts, range.first, range.count)) {
      const Piece& piece = place.piece;
      const auto found = transforms_.numbers.find({range.tensor, uint32_t(place.part)});
      if (found == transforms_.numbers.end()) {
        add(first, piece.count);
      } else {
        // Kernels that the range cuts were not transformed.
        const auto [begin, end] = whole_kernels(piece);
        add(first, begin);
        if (cuda::UnitPiece* const unit = add(first + begin, end - begin)) {
          const uint64_t kernel = (piece.first + begin) / piece.view.inner;
          unit->transform = found->second;
          unit->row = uint32_t(kernel / piece.view.columns);
          unit->column = uint32_t(kernel % piece.view.columns);
          unit->columns = uint32_t(piece.view.columns);
          unit->inner = uint32_t(piece.view.inner);
        }
        add(first + end, piece.count - end);
      }
      first += piece.count;
    }
  }

  const RdoqParameters& parameters_;
  PackedValues packed_;
  NumberedTransforms transforms_;
  std::unique_ptr<cuda::ContextDecoder> decoder_;
};

}  // namespace

std::unique_ptr<DeviceBlockDecoder> make_rdoq_device_decoder(const RdoqParameters& parameters,
                                                             PackedValues packed) {
  return std::make_unique<RdoqDeviceDecoder>(parameters, std::move(packed));
}

}  // namespace jsq
