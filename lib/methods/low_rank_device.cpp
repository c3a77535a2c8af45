#include "lib/methods/low_rank_device.hpp"

#include <algorithm>

#include "jsq/error.hpp"
#include "kernels/cuda/low_rank.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/dense.hpp"

namespace jsq {
namespace {

cuda::StoredRuns stored_runs(size_t t, const MatrixView& view) {
  return {t, view.inner(), view.outer()};
}

cuda::OuterProduct outer_product(const MatrixView& view, const StoredFactors& stored,
                                 std::span<const float> inner) {
  return {view.inner(), stored.rank, stored.exponent, inner};
}

/// Tensor by tensor: errors of one that goes as factors are summed when its first block is asked for.
class LowRankDeviceBlocks final : public DeviceBlocks {
 public:
  using Pack = std::function<void(const PoolBlock&, std::string&, BlockSums&)>;
  LowRankDeviceBlocks(const TensorPool& pool, std::vector<LowRankTensor> tensors, Pack pack)
      : pool_(pool), tensors_(std::move(tensors)), pack_(std::move(pack)), blocks_(pool_blocks(pool, 16)) {}

  void next(std::string& out, BlockSums& sums) override {
    if (taken_ == end_) begin_tensor();
    const size_t b = taken_++ - begin_;
    if (dense_) return dense_->next(out, sums);
    const Packed& block = packed_[b];
    out.append(block.bytes);
    sums = block.sums;
    const cuda::OuterSums& found = errors_[b];
    sums.expected_error += found.coded_squared_error;
    sums.squared_error += found.squared_error;
    sums.dot += found.dot;
    sums.decoded_energy += found.decoded_energy;
    sums.error_sum += found.error_sum;
    sums.max_error = std::max(sums.max_error, found.max_error);
  }

 private:
  struct Packed {
    std::string bytes;
    BlockSums sums;
  };

  void begin_tensor() {
    begin_ = end_;
    const size_t t = blocks_[begin_].tensor;
    while (end_ < blocks_.size() && blocks_[end_].tensor == t) ++end_;
    const auto blocks = std::span(blocks_).subspan(begin_, end_ - begin_);
    const LowRankTensor& tensor = tensors_[t];
    dense_.reset();
    packed_.assign(blocks.size(), {});
    if (tensor.view == nullptr) {
      dense_ = dense_blocks_on_device(pool_, pool_.tensors()[t].info->dtype, blocks);
      return;
    }
    std::vector<uint8_t> zero;
    for (size_t b = 0; b < blocks.size(); ++b) {
      pack_(blocks[b], packed_[b].bytes, packed_[b].sums);
      zero.push_back(packed_[b].bytes.empty());
    }
    const StoredFactors& stored = *tensor.stored;
    errors_ = on_device([&] {
      return cuda::sum_outer_errors(*pool_.device(), outer_product(*tensor.view, stored, stored.inner),
                                    stored.outer, tensor.view->outer(), blocks, zero);
    });
  }

  const TensorPool& pool_;
  std::vector<LowRankTensor> tensors_;
  Pack pack_;
  std::vector<PoolBlock> blocks_;
  size_t taken_ = 0, begin_ = 0, end_ = 0;  ///< of the tensor's blocks
  std::unique_ptr<DeviceBlocks> dense_;
  std::vector<Packed> packed_;
  std::vector<cuda::OuterSums> errors_;
};

/// Numbers of the outer factor are read and judged here, a few for each of many values.
class LowRankDeviceDecoder final : public DeviceBlockDecoder {
 public:
  LowRankDeviceDecoder(const StoredFactors& stored, InnerOf inner_of)
      : stored_(stored),
        inner_of_(std::move(inner_of)),
        decoder_(on_device([] { return cuda::make_outer_decoder(); })) {}

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    for (size_t begin = 0, end = 0; begin < blocks.size(); begin = end) {
      while (end < blocks.size() && blocks[end].place.tensor == blocks[begin].place.tensor) ++end;
      decode_tensor(bytes, blocks.subspan(begin, end - begin), values, sound.subspan(begin, end - begin));
    }
  }

 private:
  void decode_tensor(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
                     std::span<uint8_t> sound) {
    const auto view = matrix_view(*blocks[0].place.info);
    const bool any = std::any_of(blocks.begin(), blocks.end(), [](const Block& b) { return b.bytes > 0; });
    const auto inner = any && view && stored_.rank > 0 ? inner_of_(blocks[0].place) : nullptr;
    std::vector<float> numbers;
    std::vector<cuda::OuterDecoder::Block> wanted;
    for (size_t b = 0; b < blocks.size(); ++b) {
      const Block& block = blocks[b];
      cuda::OuterDecoder::Block& place =
          wanted.emplace_back(cuda::OuterDecoder::Block{block.place.first, block.first, block.count});
      place.zero = block.bytes == 0;
      place.numbers = numbers.size();
      sound[b] = place.zero || (inner && read_rows(bytes.substr(size_t(block.offset), size_t(block.bytes)),
                                                   *view, block, numbers));
      if (!sound[b]) place.count = 0;
    }
    cuda::OuterProduct product;
    if (inner) product = outer_product(*view, stored_, *inner);
    on_device([&] { decoder_->decode(product, numbers, wanted, values); });
  }

  /// Appends the block's numbers; whether they are what they should be.
  bool read_rows(std::string_view bytes, const MatrixView& view, const Block& block,
                 std::vector<float>& numbers) const {
    const uint64_t rows = touched_runs(view, block.place.first, block.count);
    if (bytes.size() != rows * stored_.rank * number_bytes(stored_.type)) return false;
    try {
      ByteReader in(bytes, "the block");
      for (uint64_t i = 0; i < rows * stored_.rank; ++i) numbers.push_back(read_number(stored_.type, in));
    } catch (const Error&) {
      return false;  // the processor's decoder tells what is wrong
    }
    return true;
  }

  const StoredFactors& stored_;
  InnerOf inner_of_;
  std::unique_ptr<cuda::OuterDecoder> decoder_;
};

}  // namespace

void runs_times_on_device(const TensorPool& pool, size_t t, const MatrixView& view, uint64_t panel,
                          cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> out) {
  const std::vector<double> products = on_device([&] {
    return cuda::panel_products(*pool.device(), stored_runs(t, view), panel,
                                {factor.numbers, factor.stride, factor.columns});
  });
  const uint64_t panels = (view.inner() + panel - 1) / panel;
  auto product = products.begin();
  for (size_t k = 0; k < out.columns; ++k)
    for (uint64_t run = 0; run < view.outer(); ++run) {
      double sum = *product++;
      for (uint64_t p = 1; p < panels; ++p) sum += *product++;
      out.numbers[k * out.stride + run] = sum;
    }
}

void across_runs_on_device(const TensorPool& pool, size_t t, const MatrixView& view, uint64_t group,
                           cpu::ThinFactor<const float> factor, cpu::ThinFactor<double> out) {
  const std::vector<double> sums = on_device([&] {
    return cuda::weighted_runs(*pool.device(), stored_runs(t, view), group,
                               {factor.numbers, factor.stride, factor.columns});
  });
  for (size_t k = 0; k < out.columns; ++k)
    std::copy_n(sums.begin() + std::ptrdiff_t(k * view.inner()), view.inner(), out.numbers + k * out.stride);
}

std::unique_ptr<DeviceBlocks> low_rank_blocks_on_device(const TensorPool& pool,
                                                        std::vector<LowRankTensor> tensors,
                                                        LowRankDeviceBlocks::Pack pack) {
  return std::make_unique<LowRankDeviceBlocks>(pool, std::move(tensors), std::move(pack));
}

std::unique_ptr<DeviceBlockDecoder> make_low_rank_device_decoder(const StoredFactors& stored,
                                                                 InnerOf inner_of) {
  return std::make_unique<LowRankDeviceDecoder>(stored, std::move(inner_of));
}

}  // namespace jsq
