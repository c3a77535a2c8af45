// The blocks of a pool, coded group by group: class blocks on two streams in turn, dense blocks.
#include "kernels/cuda/dense_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"

namespace jsq::cuda {

/// Codes groups of blocks on two streams in turn: while the device codes one, the values of the next come
/// over, and while the host takes the blocks of one, the device codes the next.
class CodingRun final : public CodedBlocks {
 public:
  CodingRun(ResidentValues& pool, const ClassComposition& composition,
            std::span<const element::RansSymbol> symbols, std::span<const BlockRange> blocks)
      : pool_(pool),
        composition_(composition),
        symbols_(element::coding_tables * element::rans_max_symbols),
        blocks_(blocks.begin(), blocks.end()) {
    if (composition.lanes > 8)
      throw DeviceError("more than 8 interleaved states are not supported on a device");
    clear(symbols_.data(), symbols_.size(), pool_.compute_);  // a model without tables hands over none
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
      Group &group = groups_[turn_], &other = groups_[turn_ ^ 1];
      const bool more = launched_ < blocks_.size() && pool_.has_place_beside(group.batch, blocks_[launched_]);
      const bool first = group.begin == 0;  // it tells how much room the others need
      if (more && first) pool_.bring(pool_.batch_of(blocks_[launched_]));
      if (more && !first) launch(other);  // meanwhile
      finish(group);
      if (more && first) launch(other);
    }
    const Group& group = groups_[turn_];
    const BlockResult& result = group.results[taken_++ - group.begin];
    sums = result.sums;
    return {group.coded.data() + result.offset, size_t(result.bytes)};
  }

 private:
  /// Two blocks of 2^18 for each of 128 processors, since the entropy coder of a block is one chain.
  static constexpr uint64_t group_elements = uint64_t(1) << 26;

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

  void launch(Group& group) {
    const size_t batch = group.batch = pool_.batch_of(blocks_[launched_]);
    pool_.bring(batch);
    group.begin = group.end = launched_;
    group.host_views.clear();
    uint64_t elements = 0;
    while (group.end < blocks_.size() && elements < group_elements &&
           pool_.holds(pool_.batches_[batch], blocks_[group.end])) {
      group.host_views.push_back(pool_.view_of(pool_.batches_[batch], blocks_[group.end]));
      elements += blocks_[group.end++].count;
    }
    launched_ = group.end;
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
    clear(group.device_results.data(), count, group.stream);
    pool_.await(group.stream);
    launch_encode(composition_, symbols_.data(), group.views.data(), count, group.out.data(),
                  group.out.size() * sizeof(uint32_t), group.used.data(), group.device_results.data(),
                  workspace, group.stream);
    pool_.leave(group.batch, group.stream);
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
  size_t taken_ = 0, launched_ = 0, turn_ = 0;
  double guess_ = 0.15;  ///< words of output an element
};

std::unique_ptr<CodedBlocks> ResidentValues::encode(const ClassComposition& composition,
                                                    std::span<const element::RansSymbol> symbols,
                                                    std::span<const BlockRange> blocks) {
  return std::make_unique<CodingRun>(*this, composition, symbols, blocks);
}

/// Codes groups of dense blocks on two streams in turn.
class DenseRun final : public DenseBlocks {
 public:
  DenseRun(ResidentValues& pool, DenseFormat format, std::span<const BlockRange> blocks)
      : pool_(pool),
        format_(format),
        size_(format == DenseFormat::whole ? 4 : 2),
        blocks_(blocks.begin(), blocks.end()) {}
  ~DenseRun() override {
    // Kernels may still run on buffers that go now.
    for (const Group& group : groups_) (void)cudaStreamSynchronize(group.stream);
  }

  std::string_view next(DenseSums& sums) override {
    if (taken_ == groups_[turn_].end) {
      if (started_ == taken_) start(groups_[turn_ ^ 1]);
      turn_ ^= 1;
      const Group& group = groups_[turn_];
      if (started_ < blocks_.size() && pool_.has_place_beside(group.batch, blocks_[started_]))
        start(groups_[turn_ ^ 1]);  // meanwhile
      group.stream.synchronize();
    }
    const Group& group = groups_[turn_];
    const size_t k = taken_++ - group.begin;
    sums = group.sums[k];
    return {group.coded.data() + group.first[k] * size_, blocks_[taken_ - 1].count * size_};
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 24;

  struct Group {
    Stream stream;
    size_t begin = 0, end = 0, batch = 0;
    std::vector<BlockView> views;
    std::vector<uint64_t> first;
    DeviceBuffer<BlockView> device_views;
    DeviceBuffer<uint64_t> device_first;
    DeviceBuffer<DenseSums> device_sums;
    DeviceBuffer<uint32_t> out;
    PinnedBuffer<DenseSums> sums;
    PinnedBuffer<char> coded;
  };

  void start(Group& group) {
    const size_t batch = group.batch = pool_.batch_of(blocks_[started_]);
    pool_.bring(batch);
    group.begin = group.end = started_;
    group.views.clear();
    group.first.clear();
    uint64_t elements = 0;
    for (; group.end < blocks_.size() && elements < group_elements &&
           pool_.holds(pool_.batches_[batch], blocks_[group.end]);
         ++group.end) {
      group.views.push_back(pool_.view_of(pool_.batches_[batch], blocks_[group.end]));
      group.first.push_back(elements);
      elements += blocks_[group.end].count;
    }
    started_ = group.end;
    const size_t blocks = group.views.size();
    group.device_views.reserve(blocks);
    group.device_first.reserve(blocks);
    group.device_sums.reserve(blocks);
    group.out.reserve(elements * size_ / sizeof(uint32_t) + 1);
    group.sums.reserve(blocks);
    group.coded.reserve(elements * size_);
    copy_to_device(group.device_views.data(), group.views.data(), blocks, group.stream);
    copy_to_device(group.device_first.data(), group.first.data(), blocks, group.stream);
    clear(group.device_sums.data(), blocks, group.stream);
    pool_.await(group.stream);
    launch_dense_encode(format_, group.device_views.data(), uint32_t(blocks), group.device_first.data(),
                        group.out.data(), group.device_sums.data(), group.stream);
    pool_.leave(batch, group.stream);
    copy_to_host(group.sums.data(), group.device_sums.data(), blocks, group.stream);
    copy_to_host(group.coded.data(), reinterpret_cast<const char*>(group.out.data()), elements * size_,
                 group.stream);
  }

  ResidentValues& pool_;
  DenseFormat format_;
  size_t size_;
  std::vector<BlockRange> blocks_;
  std::array<Group, 2> groups_;
  size_t taken_ = 0, started_ = 0, turn_ = 0;
};

std::unique_ptr<PoolValues> make_pool_values(std::vector<PoolValues::Tensor> tensors, PoolValues::Read read,
                                             uint64_t most_resident) {
  return std::make_unique<ResidentValues>(std::move(tensors), std::move(read), most_resident);
}

std::unique_ptr<DenseBlocks> encode_dense(PoolValues& pool, DenseFormat format,
                                          std::span<const BlockRange> blocks) {
  return std::make_unique<DenseRun>(static_cast<ResidentValues&>(pool), format, blocks);
}

}  // namespace jsq::cuda
