// The values of a pool in device memory: which of them are there, how they come there, and the passes over
// them. The kernels are elsewhere; this file moves data and keeps order.
#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cuda/class_encode.hpp"
#include "kernels/cuda/dense_kernels.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/memory.hpp"
#include "kernels/cuda/primitives.hpp"
#include "kernels/cuda/summary.hpp"

namespace jsq::cuda {
namespace {

constexpr uint64_t piece_elements = uint64_t(1)
                                    << 20;  ///< brought over in one copy; a multiple of every block and chunk
constexpr uint64_t alignment = 32;          ///< of tensors in device memory, in elements: a cache line

/// Consecutive elements of one tensor, at `place` of the device's values.
struct Piece {
  size_t tensor = 0;
  uint64_t first = 0;
  size_t count = 0;
  uint64_t place = 0;
};

/// Pieces that are on the device together.
struct Batch {
  std::vector<Piece> pieces;
  uint64_t elements = 0;  ///< with padding
};

class ResidentValues final : public PoolValues {
 public:
  ResidentValues(std::vector<Tensor> tensors, Read read, uint64_t most_resident)
      : tensors_(std::move(tensors)), read_(std::move(read)) {
    uint64_t total = 0, first = 0;
    for (const Tensor& tensor : tensors_) {
      pool_first_.push_back(first);
      first += tensor.elements;
      total += padded(tensor.elements);
    }
    if (most_resident == 0) {
      size_t free = 0, all = 0;
      check(cudaMemGetInfo(&free, &all), "asking for free device memory");
      most_resident = uint64_t(free) / 2 / sizeof(float);  // the rest is for scratch and output
    }
    most_resident = std::max(most_resident / piece_elements, uint64_t(1)) * piece_elements;
    batches_.emplace_back();
    for (size_t t = 0; t < tensors_.size(); ++t)
      for (uint64_t at = 0; at < tensors_[t].elements; at += piece_elements) {
        const auto count = size_t(std::min(piece_elements, tensors_[t].elements - at));
        if (batches_.back().elements + padded(count) > most_resident) batches_.emplace_back();
        Batch& batch = batches_.back();
        batch.pieces.push_back({t, at, count, batch.elements});
        batch.elements += padded(count);
      }
    uint64_t largest = 0;
    for (const Batch& batch : batches_) largest = std::max(largest, batch.elements);
    values_.reserve(largest);
  }

  std::vector<element::ChunkSums> summarise(std::span<uint64_t> histogram) override {
    std::vector<element::ChunkSums> sums;
    DeviceBuffer<unsigned long long> bins(element::summary_bins);
    clear(bins.data(), bins.size(), compute_);
    DeviceBuffer<element::ChunkSums> device_sums;
    for_batches([&](const Batch& batch) {
      const uint32_t count = put_chunks(batch);
      device_sums.reserve(count);
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
    std::vector<float> scratch;
    for (const Piece& piece : batches_[b].pieces) {
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
        views.push_back({values_.data() + piece.place + at,
                         uint32_t(std::min<uint64_t>(element::sum_chunk, piece.count - at))});
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
    view.values = values_.data() + piece.place + (block.first - piece.first);
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
  std::vector<Batch> batches_;
  size_t resident_ = SIZE_MAX;
  Stream copy_, compute_;
  DeviceBuffer<float> values_;
  std::array<Staging, 2> staging_;
  DeviceBuffer<ChunkView> chunks_;
  std::array<ClassWorkspace, 2> workspaces_;
};

/// Codes groups of blocks on two streams in turn: while the host takes the blocks of one, the device codes
/// the next.
class CodingRun final : public CodedBlocks {
 public:
  CodingRun(ResidentValues& pool, const ClassComposition& composition,
            std::span<const element::RansSymbol> symbols, std::span<const BlockRange> blocks)
      : pool_(pool),
        composition_(composition),
        symbols_(symbols.size()),
        blocks_(blocks.begin(), blocks.end()) {
    if (composition.lanes > 8)
      throw DeviceError("more than 8 interleaved states are not supported on a device");
    copy_to_device(symbols_.data(), symbols.data(), symbols.size(), pool_.compute_);
    pool_.compute_.synchronize();
  }
  ~CodingRun() override {
    // Kernels may still run on buffers that go now.
    for (const Group& group : groups_) (void)cudaStreamSynchronize(group.stream);
  }

  std::string_view next(ClassSums& sums) override {
    if (taken_ == groups_[turn_].end) {
      if (launched_ == taken_) launch(groups_[turn_ ^ 1]);
      turn_ ^= 1;
      Group& group = groups_[turn_];
      finish(group);
      if (launched_ < blocks_.size() && same_batch(group)) launch(groups_[turn_ ^ 1]);
    }
    const Group& group = groups_[turn_];
    const BlockResult& result = group.results[taken_++ - group.begin];
    sums = result.sums;
    return {group.coded.data() + result.offset, size_t(result.bytes)};
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 25;

  struct Group {
    Stream stream;
    size_t begin = 0, end = 0;
    size_t batch = 0;
    DeviceBuffer<BlockView> views;
    DeviceBuffer<BlockResult> device_results;
    DeviceBuffer<uint32_t> out;
    DeviceBuffer<unsigned long long> used;
    std::vector<BlockView> host_views;
    PinnedBuffer<BlockResult> results;
    PinnedBuffer<unsigned long long> host_used;
    PinnedBuffer<char> coded;
  };

  /// Whether the next blocks are on the device together with those of `group`, so that both can be coded at
  /// once.
  bool same_batch(const Group& group) const {
    return pool_.holds(pool_.batches_[group.batch], blocks_[launched_]);
  }

  void launch(Group& group) {
    size_t batch = launched_ == 0 ? 0 : last_batch_;
    while (!pool_.holds(pool_.batches_[batch], blocks_[launched_])) ++batch;
    pool_.bring(batch);
    group.batch = last_batch_ = batch;
    group.begin = group.end = launched_;
    group.host_views.clear();
    uint64_t elements = 0;
    while (group.end < blocks_.size() && elements < group_elements &&
           pool_.holds(pool_.batches_[batch], blocks_[group.end])) {
      group.host_views.push_back(pool_.view_of(pool_.batches_[batch], blocks_[group.end]));
      elements += blocks_[group.end++].count;
    }
    launched_ = group.end;
    pool_.compute_.synchronize();
    // A guess of the output: half of the input at most where the ratio is low; finish() comes back when it
    // was too little.
    group.out.reserve(std::max<uint64_t>(size_t(guess_ * double(elements)), 64 * group.host_views.size()));
    group.views.reserve(group.host_views.size());
    group.device_results.reserve(group.host_views.size());
    group.results.reserve(group.host_views.size());
    group.used.reserve(1);
    group.host_used.reserve(1);
    copy_to_device(group.views.data(), group.host_views.data(), group.host_views.size(), group.stream);
    code(group);
  }

  void code(Group& group) {
    const auto count = uint32_t(group.host_views.size());
    ClassWorkspace& workspace = pool_.workspaces_[&group - groups_.data()];
    workspace.prepare(composition_, ResidentValues::largest(group.host_views), count);
    clear(group.used.data(), 1, group.stream);
    launch_encode(composition_, symbols_.data(), group.views.data(), count, group.out.data(),
                  group.out.size() * sizeof(uint32_t), group.used.data(), group.device_results.data(),
                  workspace, group.stream);
    copy_to_host(group.host_used.data(), group.used.data(), 1, group.stream);
    copy_to_host(group.results.data(), group.device_results.data(), count, group.stream);
  }

  /// Waits for a group and fetches its bytes.
  void finish(Group& group) {
    group.stream.synchronize();
    const uint64_t used = group.host_used[0];
    if (used > group.out.size() * sizeof(uint32_t)) {
      group.out.reserve(size_t(used / sizeof(uint32_t)) + 1);
      code(group);
      group.stream.synchronize();
    }
    uint64_t elements = 1;
    for (const BlockView& view : group.host_views) elements += view.count;
    guess_ = std::max(guess_, 1.1 * double(used) / sizeof(uint32_t) / double(elements));
    group.coded.reserve(size_t(used));
    copy_to_host(group.coded.data(), reinterpret_cast<const char*>(group.out.data()), size_t(used),
                 group.stream);
    group.stream.synchronize();
  }

  ResidentValues& pool_;
  ClassComposition composition_;
  DeviceBuffer<element::RansSymbol> symbols_;
  std::vector<BlockRange> blocks_;
  std::array<Group, 2> groups_;
  size_t taken_ = 0, launched_ = 0, turn_ = 0, last_batch_ = 0;
  double guess_ = 0.15;  ///< words of output an element
};

std::unique_ptr<CodedBlocks> ResidentValues::encode(const ClassComposition& composition,
                                                    std::span<const element::RansSymbol> symbols,
                                                    std::span<const BlockRange> blocks) {
  return std::make_unique<CodingRun>(*this, composition, symbols, blocks);
}

/// Codes groups of dense blocks, one after the other.
class DenseRun final : public DenseBlocks {
 public:
  DenseRun(ResidentValues& pool, DenseFormat format, std::span<const BlockRange> blocks)
      : pool_(pool),
        format_(format),
        size_(format == DenseFormat::whole ? 4 : 2),
        blocks_(blocks.begin(), blocks.end()) {}

  std::string_view next(DenseSums& sums) override {
    if (taken_ == end_) code_group();
    const size_t k = taken_++ - begin_;
    sums = sums_[k];
    return {coded_.data() + first_[k] * size_, blocks_[taken_ - 1].count * size_};
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 24;

  void code_group() {
    begin_ = end_;
    while (!pool_.holds(pool_.batches_[batch_], blocks_[begin_])) ++batch_;
    pool_.bring(batch_);
    const Batch& batch = pool_.batches_[batch_];
    std::vector<BlockView> views;
    first_.clear();
    uint64_t elements = 0;
    for (; end_ < blocks_.size() && elements < group_elements && pool_.holds(batch, blocks_[end_]); ++end_) {
      views.push_back(pool_.view_of(batch, blocks_[end_]));
      first_.push_back(elements);
      elements += blocks_[end_].count;
    }
    device_views_.reserve(views.size());
    device_first_.reserve(views.size());
    device_sums_.reserve(views.size());
    out_.reserve(elements * size_ / sizeof(uint32_t) + 1);
    sums_.reserve(views.size());
    coded_.reserve(elements * size_);
    copy_to_device(device_views_.data(), views.data(), views.size(), pool_.compute_);
    copy_to_device(device_first_.data(), first_.data(), first_.size(), pool_.compute_);
    launch_dense_encode(format_, device_views_.data(), uint32_t(views.size()), device_first_.data(),
                        out_.data(), device_sums_.data(), pool_.compute_);
    copy_to_host(sums_.data(), device_sums_.data(), views.size(), pool_.compute_);
    copy_to_host(coded_.data(), reinterpret_cast<const char*>(out_.data()), elements * size_, pool_.compute_);
    pool_.compute_.synchronize();
  }

  ResidentValues& pool_;
  DenseFormat format_;
  size_t size_;
  std::vector<BlockRange> blocks_;
  size_t taken_ = 0, begin_ = 0, end_ = 0, batch_ = 0;
  std::vector<uint64_t> first_;
  DeviceBuffer<BlockView> device_views_;
  DeviceBuffer<uint64_t> device_first_;
  DeviceBuffer<DenseSums> device_sums_;
  DeviceBuffer<uint32_t> out_;
  PinnedBuffer<DenseSums> sums_;
  PinnedBuffer<char> coded_;
};

}  // namespace

std::unique_ptr<PoolValues> make_pool_values(std::vector<PoolValues::Tensor> tensors, PoolValues::Read read,
                                             uint64_t most_resident) {
  return std::make_unique<ResidentValues>(std::move(tensors), std::move(read), most_resident);
}

std::unique_ptr<DenseBlocks> encode_dense(PoolValues& pool, DenseFormat format,
                                          std::span<const BlockRange> blocks) {
  return std::make_unique<DenseRun>(static_cast<ResidentValues&>(pool), format, blocks);
}

}  // namespace jsq::cuda
