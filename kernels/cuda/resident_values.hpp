// The values of a pool in device memory: which of them are there, how they come there, and the passes over
// them. The kernels are elsewhere; this file moves data and keeps order. For files of this folder only.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/primitives.hpp"
#include "kernels/cuda/summary.hpp"

namespace jsq::cuda {

constexpr uint64_t piece_elements = uint64_t(1)
                                    << 20;  ///< brought over in one copy; a multiple of every block and chunk
constexpr uint64_t alignment = 32;          ///< of tensors in device memory, in elements: a cache line

/// Consecutive elements of one tensor, at `place` of the device's values.
struct Piece {
  size_t tensor = 0;
  uint64_t first = 0;
  size_t count = 0;
  uint64_t place = 0;
  const float* in_place = nullptr;  ///< where the values lie instead, in memory of the library's user
};

/// Pieces that are on the device together.
struct Batch {
  std::vector<Piece> pieces;
  uint64_t elements = 0;  ///< with padding
};

class ResidentValues final : public PoolValues {
 public:
  ResidentValues(std::vector<Tensor> tensors, Read read, uint64_t most_resident)
      : tensors_(std::move(tensors)),
        read_(std::move(read)),
        in_place_(tensors_.size()),
        most_resident_(most_resident) {
    uint64_t first = 0;
    for (const Tensor& tensor : tensors_) {
      pool_first_.push_back(first);
      first += tensor.elements;
    }
    if (most_resident_ == 0) {
      size_t free = 0, all = 0;
      check(cudaMemGetInfo(&free, &all), "asking for free device memory");
      most_resident_ = uint64_t(free) / 2 / sizeof(float);  // the rest is for scratch and output
    }
    most_resident_ = std::max(most_resident_ / piece_elements, uint64_t(1)) * piece_elements;
    make_batches();
  }

  /// Tensor t is in device memory already.
  void use_in_place(size_t t, const float* values) {
    in_place_[t] = values;
    make_batches();
  }

  /// Where tensor t stays, if it does.
  const float* place_of(size_t t) {
    if (in_place_[t] != nullptr) return in_place_[t];
    if (batches_.size() > 1) return nullptr;
    bring(0);
    compute_.synchronize();  // which waits for the copies
    for (const Piece& piece : batches_[0].pieces)
      if (piece.tensor == t && piece.first == 0) return values_of(piece);
    return nullptr;
  }

  std::vector<element::ChunkSums> summarise(std::span<uint64_t> histogram) override {
    std::vector<element::ChunkSums> sums;
    DeviceBuffer<unsigned long long> bins(element::summary_bins);
    clear(bins.data(), bins.size(), compute_);
    DeviceBuffer<element::ChunkSums> device_sums;
    for_batches([&](const Batch& batch) {
      const uint32_t count = put_chunks(batch);
      device_sums.reserve(count);
      clear(device_sums.data(), count, compute_);
      launch_summary(chunks_.data(), count, device_sums.data(), bins.data(), compute_);
      const size_t before = sums.size();
      sums.resize(before + count);
      copy_to_host(sums.data() + before, device_sums.data(), count, compute_);
      compute_.synchronize();
    });
    std::vector<unsigned long long> counted(element::summary_bins);
    copy_to_host(counted.data(), bins.data(), counted.size(), compute_);
    compute_.synchronize();
    for (uint32_t b = 0; b < element::summary_bins; ++b) histogram[b] += counted[b];
    return sums;
  }

  void refine(std::span<const element::KeyRange> ranges, std::span<uint64_t> counts) override {
    if (ranges.empty()) return;
    std::vector<size_t> order(ranges.size());
    for (size_t r = 0; r < order.size(); ++r) order[r] = r;
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return ranges[a].low < ranges[b].low; });
    std::vector<element::KeyRange> ascending;
    for (size_t r : order) ascending.push_back(ranges[r]);
    DeviceBuffer<element::KeyRange> device_ranges(ranges.size());
    DeviceBuffer<unsigned long long> device_counts(ranges.size() * element::cells_of_range);
    copy_to_device(device_ranges.data(), ascending.data(), ascending.size(), compute_);
    clear(device_counts.data(), device_counts.size(), compute_);
    for_batches([&](const Batch& batch) {
      launch_refine(chunks_.data(), put_chunks(batch), device_ranges.data(), uint32_t(ranges.size()),
                    device_counts.data(), compute_);
      compute_.synchronize();
    });
    std::vector<unsigned long long> found(device_counts.size());
    copy_to_host(found.data(), device_counts.data(), ranges.size() * element::cells_of_range, compute_);
    compute_.synchronize();
    for (size_t r = 0; r < order.size(); ++r)
      for (uint32_t c = 0; c < element::cells_of_range; ++c)
        counts[element::cells_of_range * order[r] + c] += found[element::cells_of_range * r + c];
  }

  std::vector<uint32_t> count_key(uint32_t key) override {
    std::vector<uint32_t> equal;
    DeviceBuffer<uint32_t> device_equal;
    for_batches([&](const Batch& batch) {
      const uint32_t count = put_chunks(batch);
      device_equal.reserve(count);
      launch_count_key(chunks_.data(), count, key, device_equal.data(), compute_);
      const size_t before = equal.size();
      equal.resize(before + count);
      copy_to_host(equal.data() + before, device_equal.data(), count, compute_);
      compute_.synchronize();
    });
    return equal;
  }

  std::vector<double> squares_about(std::span<const double> centres) override {
    std::vector<double> squares;
    DeviceBuffer<double> device_squares, device_centres;
    for_batches([&](const Batch& batch) {
      const uint32_t count = put_chunks(batch);
      std::vector<double> of_chunk;
      for (const Piece& piece : batch.pieces)
        of_chunk.insert(of_chunk.end(), (piece.count + element::sum_chunk - 1) / element::sum_chunk,
                        centres[piece.tensor]);
      device_squares.reserve(count);
      device_centres.reserve(count);
      copy_to_device(device_centres.data(), of_chunk.data(), count, compute_);
      launch_squares_about(chunks_.data(), count, device_centres.data(), device_squares.data(), compute_);
      const size_t before = squares.size();
      squares.resize(before + count);
      copy_to_host(squares.data() + before, device_squares.data(), count, compute_);
      compute_.synchronize();
    });
    return squares;
  }

  KeyCounts sorted_keys() override {
    KeyCounts result;
    uint64_t total = 0;
    for (const Tensor& tensor : tensors_) total += tensor.elements;
    if (total > uint64_t(1) << 30) throw DeviceError("sorting more than 2^30 keys at once is not supported");
    DeviceBuffer<uint32_t> keys(total), different(total), counts(total);
    uint64_t sorted_from = 0;
    for_batches([&](const Batch& batch) {
      const uint32_t count = put_chunks(batch);
      std::vector<uint64_t> first;
      for (const Piece& piece : batch.pieces)
        for (uint64_t at = 0; at < piece.count; at += element::sum_chunk) {
          first.push_back(sorted_from);
          sorted_from += std::min<uint64_t>(element::sum_chunk, piece.count - at);
        }
      DeviceBuffer<uint64_t> device_first(first.size());
      copy_to_device(device_first.data(), first.data(), first.size(), compute_);
      launch_keys(chunks_.data(), count, device_first.data(), keys.data(), compute_);
      compute_.synchronize();
    });
    const uint32_t found =
        count_sorted_keys(keys.data(), uint32_t(total), different.data(), counts.data(), compute_);
    result.keys.resize(found);
    result.counts.resize(found);
    copy_to_host(result.keys.data(), different.data(), found, compute_);
    copy_to_host(result.counts.data(), counts.data(), found, compute_);
    compute_.synchronize();
    return result;
  }

  void tally(const ClassComposition& composition, std::span<const BlockRange> blocks,
             std::span<const uint8_t> in_full, ClassCounts& tallied, ClassCounts& counted,
             std::span<ClassSums> sums) override {
    DeviceBuffer<ClassCounts> totals(2);
    clear(totals.data(), 2, compute_);
    DeviceBuffer<BlockView> device_blocks;
    DeviceBuffer<BlockResult> device_results;
    std::vector<BlockResult> results;
    size_t next = 0;
    for_batches([&](const Batch& batch) {
      const size_t begin = next;
      std::vector<BlockView> views;
      for (; next < blocks.size() && holds(batch, blocks[next]); ++next) {
        views.push_back(view_of(batch, blocks[next]));
        views.back().in_full = in_full[next] != 0;
      }
      if (views.empty()) return;
      device_blocks.reserve(views.size());
      device_results.reserve(views.size());
      copy_to_device(device_blocks.data(), views.data(), views.size(), compute_);
      clear(device_results.data(), views.size(), compute_);
      workspaces_[0].prepare(composition, largest(views), uint32_t(views.size()));
      launch_tally(composition, device_blocks.data(), uint32_t(views.size()), totals.data(),
                   totals.data() + 1, device_results.data(), workspaces_[0], compute_);
      results.resize(views.size());
      copy_to_host(results.data(), device_results.data(), results.size(), compute_);
      compute_.synchronize();
      for (size_t i = 0; i < results.size(); ++i)
        if (in_full[begin + i]) sums[begin + i] = results[i].sums;
    });
    std::vector<ClassCounts> found(2);
    copy_to_host(found.data(), totals.data(), 2, compute_);
    compute_.synchronize();
    tallied = found[0];
    counted = found[1];
  }

  std::unique_ptr<CodedBlocks> encode(const ClassComposition& composition,
                                      std::span<const element::RansSymbol> symbols,
                                      std::span<const BlockRange> blocks) override;

 private:
  friend class CodingRun;
  friend class DenseRun;
  friend class LevelRun;
  friend class ChunkPass;
  friend class SignPass;
  friend class SparsePass;
  friend class TensorPass;
  friend class ThinPass;

  void make_batches() {
    batches_.assign(1, {});
    for (size_t t = 0; t < tensors_.size(); ++t)
      for (uint64_t at = 0; at < tensors_[t].elements; at += piece_elements) {
        const auto count = size_t(std::min(piece_elements, tensors_[t].elements - at));
        if (in_place_[t] != nullptr) {
          batches_.back().pieces.push_back({t, at, count, 0, in_place_[t] + at});
          continue;
        }
        if (batches_.back().elements + padded(count) > most_resident_) batches_.emplace_back();
        Batch& batch = batches_.back();
        batch.pieces.push_back({t, at, count, batch.elements, nullptr});
        batch.elements += padded(count);
      }
  }
  const float* values_of(const Piece& piece) const {
    return piece.in_place != nullptr ? piece.in_place : values_.data() + piece.place;
  }

  static uint64_t padded(uint64_t elements) { return (elements + alignment - 1) / alignment * alignment; }

  /// Calls use(batch) for every batch, in order, when its values are on the device. Kernels go to compute_.
  template <class Use>
  void for_batches(Use use) {
    for (size_t b = 0; b < batches_.size(); ++b) {
      bring(b);
      use(batches_[b]);
    }
  }

  /// Batch b on the device: piece by piece through two pinned buffers, so that the host reads while the last
  /// piece is copied.
  void bring(size_t b) {
    if (resident_ == b) return;
    compute_.synchronize();  // nobody looks at the values that go
    resident_ = SIZE_MAX;
    size_t turn = 0;
    values_.reserve(batches_[b].elements);
    std::vector<float> scratch;
    for (const Piece& piece : batches_[b].pieces) {
      if (piece.in_place != nullptr) continue;
      Staging& staging = staging_[turn ^= 1];
      staging.copied.synchronize();
      staging.values.reserve(piece_elements);
      const std::span<const float> values = read_(piece.tensor, piece.first, piece.count, scratch);
      std::copy(values.begin(), values.end(), staging.values.data());
      copy_to_device(values_.data() + piece.place, staging.values.data(), piece.count, copy_);
      staging.copied.record(copy_);
    }
    for (Staging& staging : staging_) staging.copied.hold_back(compute_);
    resident_ = b;
  }

  uint32_t put_chunks(const Batch& batch) {
    std::vector<ChunkView> views;
    for (const Piece& piece : batch.pieces)
      for (uint64_t at = 0; at < piece.count; at += element::sum_chunk)
        views.push_back(
            {values_of(piece) + at, uint32_t(std::min<uint64_t>(element::sum_chunk, piece.count - at))});
    chunks_.reserve(views.size());
    copy_to_device(chunks_.data(), views.data(), views.size(), compute_);
    compute_.synchronize();  // `views` goes
    return uint32_t(views.size());
  }

  /// The piece of `block` in `batch`, or none.
  static const Piece* piece_of(const Batch& batch, const BlockRange& block) {
    const auto after = std::upper_bound(
        batch.pieces.begin(), batch.pieces.end(), block, [](const BlockRange& wanted, const Piece& piece) {
          return std::pair(wanted.tensor, wanted.first) < std::pair(piece.tensor, piece.first);
        });
    if (after == batch.pieces.begin()) return nullptr;
    const Piece& piece = *(after - 1);
    return piece.tensor == block.tensor && block.first < piece.first + piece.count ? &piece : nullptr;
  }
  static bool holds(const Batch& batch, const BlockRange& block) { return piece_of(batch, block) != nullptr; }

  BlockView view_of(const Batch& batch, const BlockRange& block) const {
    const Piece& piece = *piece_of(batch, block);
    const Tensor& tensor = tensors_[block.tensor];
    BlockView view;
    view.values = values_of(piece) + (block.first - piece.first);
    view.count = uint32_t(block.count);
    view.tensor = tensor.number;
    view.first_pool_index = pool_first_[block.tensor] + block.first;
    view.first_element = block.first;
    view.stored = tensor.stored;
    return view;
  }

  static uint32_t largest(const std::vector<BlockView>& views) {
    uint32_t most = 1;
    for (const BlockView& view : views) most = std::max(most, view.count);
    return most;
  }

  struct Staging {
    PinnedBuffer<float> values;
    Event copied;
  };

  std::vector<Tensor> tensors_;
  Read read_;
  std::vector<uint64_t> pool_first_;
  std::vector<const float*> in_place_;  ///< by tensor; null: brought over
  uint64_t most_resident_ = 0;
  std::vector<Batch> batches_;
  size_t resident_ = SIZE_MAX;
  Stream copy_, compute_;
  DeviceBuffer<float> values_;
  std::array<Staging, 2> staging_;
  DeviceBuffer<ChunkView> chunks_;
  std::array<ClassWorkspace, 2> workspaces_;
};

}  // namespace jsq::cuda
