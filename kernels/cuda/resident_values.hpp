// The values of a pool in device memory: which of them are there, how they come there, and the passes over
// them. The kernels are elsewhere; this file moves data and keeps order. Values come over on a stream of
// their own, a batch while kernels work on the one before; streams with kernels wait for what they read
// (await), and values that others take the place of for who reads them (leave). For files of this folder
// only.
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
/// Brought over between two launches: little where values stay, so that the first pass ends soon behind the
/// last copy; otherwise enough for many blocks at once.
constexpr uint64_t staying_batch = uint64_t(1) << 22, passing_batch = uint64_t(1) << 28;

/// Consecutive elements of one tensor, at `place` of the device's values.
struct Piece {
  size_t tensor = 0;
  uint64_t first = 0;
  size_t count = 0;
  uint64_t place = 0;
  const float* in_place = nullptr;  ///< where the values lie instead, in memory of the library's user
};

/// Pieces that come to the device together.
struct Batch {
  std::vector<Piece> pieces;
  uint64_t elements = 0;  ///< with padding
  size_t first_chunk = 0;
  uint32_t chunks = 0;
  bool there = false;
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

  /// Copies may still run.
  ~ResidentValues() override { (void)cudaStreamSynchronize(copy_); }

  /// Tensor t is in device memory already.
  void use_in_place(size_t t, const float* values) {
    in_place_[t] = values;
    make_batches();
  }

  /// Where tensor t stays, if it does.
  const float* place_of(size_t t) {
    if (in_place_[t] != nullptr) return in_place_[t];
    if (!stays_) return nullptr;
    for (size_t b = 0; b < batches_.size(); ++b) bring(b);
    join();
    await(compute_);
    compute_.synchronize();
    for (const Piece& piece : batches_[0].pieces)
      if (piece.tensor == t && piece.first == 0) return values_of(piece);
    return nullptr;
  }

  std::vector<element::ChunkSums> summarise(std::span<uint64_t> histogram) override {
    std::vector<element::ChunkSums> sums;
    DeviceBuffer<unsigned long long> bins(element::summary_bins);
    clear(bins.data(), bins.size(), compute_);
    DeviceBuffer<element::ChunkSums> device_sums;
    for_batches(
        [&](const Batch& batch) {
          device_sums.reserve(batch.chunks);
          clear(device_sums.data(), batch.chunks, compute_);
          launch_summary(chunks_of(batch), batch.chunks, device_sums.data(), bins.data(), compute_);
        },
        [&](const Batch& batch) { append(sums, device_sums, batch.chunks); });
    std::vector<unsigned long long> counted;
    append(counted, bins, bins.size());
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
      launch_refine(chunks_of(batch), batch.chunks, device_ranges.data(), uint32_t(ranges.size()),
                    device_counts.data(), compute_);
    });
    std::vector<unsigned long long> found;
    append(found, device_counts, device_counts.size());
    for (size_t r = 0; r < order.size(); ++r)
      for (uint32_t c = 0; c < element::cells_of_range; ++c)
        counts[element::cells_of_range * order[r] + c] += found[element::cells_of_range * r + c];
  }

  std::vector<uint32_t> count_key(uint32_t key) override {
    std::vector<uint32_t> equal;
    DeviceBuffer<uint32_t> device_equal;
    for_batches(
        [&](const Batch& batch) {
          device_equal.reserve(batch.chunks);
          launch_count_key(chunks_of(batch), batch.chunks, key, device_equal.data(), compute_);
        },
        [&](const Batch& batch) { append(equal, device_equal, batch.chunks); });
    return equal;
  }

  std::vector<double> squares_about(std::span<const double> centres) override {
    std::vector<double> squares, of_chunk;
    DeviceBuffer<double> device_squares, device_centres;
    for_batches(
        [&](const Batch& batch) {
          of_chunk.clear();
          for (const Piece& piece : batch.pieces)
            of_chunk.insert(of_chunk.end(), (piece.count + element::sum_chunk - 1) / element::sum_chunk,
                            centres[piece.tensor]);
          device_squares.reserve(batch.chunks);
          device_centres.reserve(batch.chunks);
          copy_to_device(device_centres.data(), of_chunk.data(), batch.chunks, compute_);
          launch_squares_about(chunks_of(batch), batch.chunks, device_centres.data(), device_squares.data(),
                               compute_);
        },
        [&](const Batch& batch) { append(squares, device_squares, batch.chunks); });
    return squares;
  }

  KeyCounts sorted_keys() override {
    KeyCounts result;
    uint64_t total = 0;
    for (const Tensor& tensor : tensors_) total += tensor.elements;
    if (total > uint64_t(1) << 30) throw DeviceError("sorting more than 2^30 keys at once is not supported");
    DeviceBuffer<uint32_t> keys(total), different(total), counts(total);
    DeviceBuffer<uint64_t> device_first;
    std::vector<uint64_t> first;
    uint64_t sorted_from = 0;
    for_batches(
        [&](const Batch& batch) {
          first.clear();
          for (const Piece& piece : batch.pieces)
            for (uint64_t at = 0; at < piece.count; at += element::sum_chunk) {
              first.push_back(sorted_from);
              sorted_from += std::min<uint64_t>(element::sum_chunk, piece.count - at);
            }
          device_first.reserve(first.size());
          copy_to_device(device_first.data(), first.data(), first.size(), compute_);
          launch_keys(chunks_of(batch), batch.chunks, device_first.data(), keys.data(), compute_);
        },
        [&](const Batch&) { compute_.synchronize(); });
    const uint32_t found =
        count_sorted_keys(keys.data(), uint32_t(total), different.data(), counts.data(), compute_);
    append(result.keys, different, found);
    append(result.counts, counts, found);
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
    for_blocks(
        blocks, UINT64_MAX,
        [&](size_t begin, std::vector<BlockView>& views) {
          for (size_t i = 0; i < views.size(); ++i) views[i].in_full = in_full[begin + i] != 0;
          device_blocks.reserve(views.size());
          device_results.reserve(views.size());
          copy_to_device(device_blocks.data(), views.data(), views.size(), compute_);
          clear(device_results.data(), views.size(), compute_);
          workspaces_[0].prepare(composition, largest(views), uint32_t(views.size()));
          launch_tally(composition, device_blocks.data(), uint32_t(views.size()), totals.data(),
                       totals.data() + 1, device_results.data(), workspaces_[0], compute_);
        },
        [&](size_t begin, const std::vector<BlockView>& views) {
          results.clear();
          append(results, device_results, views.size());
          for (size_t i = 0; i < results.size(); ++i)
            if (in_full[begin + i]) sums[begin + i] = results[i].sums;
        });
    std::vector<ClassCounts> found;
    append(found, totals, 2);
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
    uint64_t elements = 0;
    for (size_t t = 0; t < tensors_.size(); ++t)
      for (uint64_t at = 0; at < tensors_[t].elements && in_place_[t] == nullptr; at += piece_elements)
        elements += padded(std::min(piece_elements, tensors_[t].elements - at));
    stays_ = elements <= most_resident_;
    const uint64_t half = std::max(most_resident_ / 2 / piece_elements, uint64_t(1)) * piece_elements,
                   most = stays_ ? staying_batch : std::min(half, passing_batch);
    batches_.assign(1, {});
    uint64_t place = 0;
    for (size_t t = 0; t < tensors_.size(); ++t)
      for (uint64_t at = 0; at < tensors_[t].elements; at += piece_elements) {
        const auto count = size_t(std::min(piece_elements, tensors_[t].elements - at));
        const uint64_t room = in_place_[t] == nullptr ? padded(count) : 0;
        if (batches_.back().elements + room > most) {
          batches_.emplace_back();
          if (!stays_) place = (batches_.size() - 1) % 2 * most;  // two places in turn
        }
        batches_.back().pieces.push_back(
            {t, at, count, place, in_place_[t] == nullptr ? nullptr : in_place_[t] + at});
        batches_.back().elements += room;
        place += room;
      }
    room_ = stays_ ? elements : 2 * most;
    prepared_ = false;
  }
  const float* values_of(const Piece& piece) const {
    return piece.in_place != nullptr ? piece.in_place : values_.data() + piece.place;
  }

  static uint64_t padded(uint64_t elements) { return (elements + alignment - 1) / alignment * alignment; }

  /// Calls launch(batch) for every batch with something `wanted`, in order, which puts kernels on compute_;
  /// and collect(batch), which waits for what they find, when the next batch is on its way.
  template <class Wanted, class Launch, class Collect>
  void for_batches_with(Wanted wanted, Launch launch, Collect collect) {
    prepare();
    const auto next_from = [&](size_t b) {
      while (b < batches_.size() && !wanted(batches_[b])) ++b;
      if (b < batches_.size()) bring(b);
      return b;
    };
    for (size_t b = next_from(0); b < batches_.size();) {
      await(compute_);
      launch(batches_[b]);
      leave(b, compute_);
      const size_t next = next_from(b + 1);
      collect(batches_[b]);
      b = next;
    }
    join();
  }
  template <class Launch, class Collect>
  void for_batches(Launch launch, Collect collect) {
    for_batches_with([](const Batch&) { return true; }, launch, collect);
  }
  template <class Launch>
  void for_batches(Launch launch) {
    for_batches(launch, [](const Batch&) {});
  }
  /// The same for blocks that are on the device together, and have `most` elements or little more:
  /// launch(first block, views), collect likewise.
  template <class Launch, class Collect>
  void for_blocks(std::span<const BlockRange> blocks, uint64_t most, Launch launch, Collect collect) {
    size_t batch = 0, end = 0;
    const auto bring_next = [&] {
      while (batch < batches_.size() && end < blocks.size() && !holds(batches_[batch], blocks[end])) ++batch;
      if (batch == batches_.size() || end == blocks.size()) return false;
      bring(batch);
      return true;
    };
    std::vector<BlockView> views;
    for (bool more = bring_next(); more;) {
      const size_t begin = end;
      const Batch& there = batches_[batch];
      uint64_t elements = 0;
      views.clear();
      for (; end < blocks.size() && elements < most && holds(there, blocks[end]); ++end) {
        views.push_back(view_of(there, blocks[end]));
        elements += blocks[end].count;
      }
      await(compute_);
      launch(begin, views);
      leave(batch, compute_);
      more = bring_next();
      collect(begin, views);
    }
    join();
  }

  /// Appends what kernels on compute_ found.
  template <class T>
  void append(std::vector<T>& all, const DeviceBuffer<T>& found, size_t count) {
    const size_t before = all.size();
    all.resize(before + count);
    copy_to_host(all.data() + before, found.data(), count, compute_);
    compute_.synchronize();
  }

  /// Puts batch b on its way to the device: piece by piece through two pinned buffers, so that the host reads
  /// while the last piece is copied.
  void bring(size_t b) {
    Batch& batch = batches_[b];
    if (batch.there) return;
    prepare();
    if (!stays_) {
      if (size_t& before = occupants_[b % 2]; before != SIZE_MAX) batches_[before].there = false;
      occupants_[b % 2] = b;
      read_through_[b % 2].hold_back(copy_);
    }
    for (const Piece& piece : batch.pieces) {
      if (piece.in_place != nullptr) continue;
      Staging& staging = staging_[turn_ ^= 1];
      staging.copied.synchronize();
      staging.values.reserve(piece_elements);
      const std::span<const float> values = read_(piece.tensor, piece.first, piece.count, scratch_);
      std::copy(values.begin(), values.end(), staging.values.data());
      copy_to_device(values_.data() + piece.place, staging.values.data(), piece.count, copy_);
      staging.copied.record(copy_);
    }
    brought_.record(copy_);
    batch.there = true;
  }
  /// What is put on `stream` from now on finds the values that are on their way.
  void await(const Stream& stream) const { brought_.hold_back(stream); }
  /// What is on `stream` now is the last that reads batch b; only then others take its place.
  void leave(size_t b, const Stream& stream) {
    if (!stays_) read_through_[b % 2].record(stream);
  }
  /// Whether batch b and the one that holds `next` can be on the device together.
  bool has_place_beside(size_t b, const BlockRange& next) const {
    const size_t other = batch_of(next);
    return stays_ || other == b || other % 2 != b % 2;
  }

  /// Room for the values, and the descriptions of all chunks.
  void prepare() {
    if (prepared_) return;
    values_.reserve(room_);
    std::vector<ChunkView> views;
    for (Batch& batch : batches_) {
      batch.first_chunk = views.size();
      for (const Piece& piece : batch.pieces)
        for (uint64_t at = 0; at < piece.count; at += element::sum_chunk)
          views.push_back(
              {values_of(piece) + at, uint32_t(std::min<uint64_t>(element::sum_chunk, piece.count - at))});
      batch.chunks = uint32_t(views.size() - batch.first_chunk);
    }
    chunks_.reserve(views.size());
    copy_to_device(chunks_.data(), views.data(), views.size(), copy_);
    copy_.synchronize();  // `views` goes
    occupants_.fill(SIZE_MAX);
    prepared_ = true;
  }
  const ChunkView* chunks_of(const Batch& batch) const { return chunks_.data() + batch.first_chunk; }

  /// Makes one batch of those that stay, when all are there: later passes look at everything at once.
  void join() {
    if (!stays_ || batches_.size() == 1) return;
    Batch all;
    for (const Batch& batch : batches_) {
      if (!batch.there) return;
      all.pieces.insert(all.pieces.end(), batch.pieces.begin(), batch.pieces.end());
      all.elements += batch.elements;
      all.chunks += batch.chunks;
    }
    all.there = true;
    batches_.assign(1, std::move(all));
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
  /// \pre some batch holds `block`.
  size_t batch_of(const BlockRange& block) const {
    size_t b = 0;
    while (!holds(batches_[b], block)) ++b;
    return b;
  }

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
  bool stays_ = true;  ///< all values have places; otherwise batches take two in turn
  uint64_t room_ = 0;  ///< elements that have places
  bool prepared_ = false;
  Stream copy_, compute_;
  DeviceBuffer<float> values_;
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;
  std::vector<float> scratch_;
  Event brought_;
  std::array<Event, 2> read_through_;
  std::array<size_t, 2> occupants_{SIZE_MAX, SIZE_MAX};  ///< batches
  DeviceBuffer<ChunkView> chunks_;
  std::array<ClassWorkspace, 2> workspaces_;
};

}  // namespace jsq::cuda
