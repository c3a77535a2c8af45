// The level blocks of a pool, coded group by group: rounded on the device, their layouts chosen by the host
// from sums and counts, packed on the device.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/element/hadamard.hpp"

namespace jsq::cuda {

class LevelRun final : public LevelBlocks {
 public:
  LevelRun(ResidentValues& pool, LevelPlan plan, std::span<const BlockRange> blocks, ChooseLayout choose)
      : pool_(pool),
        plan_(std::move(plan)),
        blocks_(blocks.begin(), blocks.end()),
        choose_(std::move(choose)) {
    for (const LevelTensor& tensor : plan_.tensors)
      if (tensor.low < INT16_MIN || int64_t(tensor.low) + tensor.symbols - 1 > INT16_MAX)
        throw DeviceError("levels of more than 16 bits are not supported on a device");
  }

  std::string_view next() override {
    if (taken_ == end_) code_group();
    const size_t k = taken_++ - begin_;
    return {coded_.data() + out_at_[k], bytes_[k]};
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 24;
  static constexpr uint64_t most_counts = uint64_t(1) << 25;  ///< counters of a group
  static constexpr uint64_t out_alignment = 32;
  static constexpr uint64_t words_alignment = 64;  ///< of an entropy coder's words: a cache line

  /// Of a block, with the padding of a rotation.
  uint32_t levels_of(const RoundView& view) const {
    if (!plan_.rotation) return view.block.count;
    return uint32_t(element::padded_length(view.block.count, plan_.rotation->block_log2));
  }

  void code_group() {
    begin_ = end_;
    while (!pool_.holds(pool_.batches_[batch_], blocks_[begin_])) ++batch_;
    pool_.bring(batch_);
    const Batch& batch = pool_.batches_[batch_];
    round_.clear();
    level_at_.clear();
    uint64_t elements = 0, scales = 0, counts = 0;
    uint32_t most_symbols = 1;
    std::vector<uint64_t> scales_at, counts_at;
    for (; end_ < blocks_.size() && elements < group_elements && counts < most_counts &&
           pool_.holds(batch, blocks_[end_]);
         ++end_) {
      RoundView view;
      view.block = pool_.view_of(batch, blocks_[end_]);
      view.tensor = plan_.tensors[blocks_[end_].tensor];
      level_at_.push_back(elements);
      scales_at.push_back(scales);
      counts_at.push_back(counts);
      elements += ResidentValues::padded(levels_of(view));
      if (plan_.bucket) scales += (view.block.count + plan_.bucket - 1) / plan_.bucket;
      counts += view.tensor.symbols;
      most_symbols = std::max(most_symbols, view.tensor.symbols);
      round_.push_back(view);
    }
    const size_t blocks = round_.size();
    levels_.reserve(elements);
    scales_.reserve(scales + 1);
    counts_.reserve(counts);
    host_counts_.reserve(counts);
    round_views_.reserve(blocks);
    sums_.reserve(blocks);
    host_sums_.reserve(blocks);
    for (size_t i = 0; i < blocks; ++i) {
      round_[i].levels = levels_.data() + level_at_[i];
      round_[i].scales = scales_.data() + scales_at[i];
      round_[i].counts = counts_.data() + counts_at[i];
    }
    const Stream& stream = pool_.compute_;
    copy_to_device(round_views_.data(), round_.data(), blocks, stream);
    clear(counts_.data(), counts, stream);
    if (plan_.samples) {
      count_samples(stream);
    } else {
      const RoundPlan plan{plan_.bucket, plan_.norm, plan_.nearest, plan_.count_gaps, plan_.stream};
      if (plan_.rotation)
        launch_rotate(*plan_.rotation, plan, round_views_.data(), uint32_t(blocks), sums_.data(),
                      rotation_room_, stream);
      else
        launch_round(plan, round_views_.data(), uint32_t(blocks), most_symbols, sums_.data(), stream);
      copy_to_host(host_sums_.data(), sums_.data(), blocks, stream);
    }
    copy_to_host(host_counts_.data(), counts_.data(), counts, stream);
    stream.synchronize();
    pack_group(counts_at);
  }

  /// Levels of the group's blocks as counts of samples; a block's sums are those of its pieces, left to
  /// right.
  void count_samples(const Stream& stream) {
    std::vector<PieceView> pieces;
    std::vector<size_t> block_of;
    for (size_t b = 0; b < round_.size(); ++b) {
      const BlockRange& range = blocks_[begin_ + b];
      for (uint32_t first = 0; first < round_[b].block.count; first += uint32_t(element::sum_chunk)) {
        PieceView piece;
        piece.values = round_[b].block.values + first;
        piece.count = std::min(uint32_t(element::sum_chunk), round_[b].block.count - first);
        piece.first = first;
        piece.levels = round_[b].levels + first;
        piece.counts = round_[b].counts;
        piece.start = plan_.samples->starts[range.tensor][size_t((range.first + first) / element::sum_chunk)];
        piece.tensor = round_[b].tensor;
        piece.stored = round_[b].block.stored;
        pieces.push_back(piece);
        block_of.push_back(b);
      }
    }
    pieces_.reserve(pieces.size());
    piece_sums_.reserve(pieces.size());
    std::vector<PieceSums> found(pieces.size());
    copy_to_device(pieces_.data(), pieces.data(), pieces.size(), stream);
    launch_sample(pieces_.data(), uint32_t(pieces.size()), plan_.samples->rate, piece_sums_.data(), stream);
    copy_to_host(found.data(), piece_sums_.data(), found.size(), stream);
    stream.synchronize();
    for (size_t b = 0; b < round_.size(); ++b) host_sums_[b] = {};
    uint32_t last = 0;
    for (size_t p = 0; p < found.size(); ++p) {
      if (pieces[p].first == 0) last = 0;
      add_piece(host_sums_[block_of[p]], found[p], last);
    }
  }
  void add_piece(LevelSums& sums, const PieceSums& piece, uint32_t& last) const {
    sums.squared_error += piece.sums.squared_error;
    sums.dot += piece.sums.dot;
    sums.decoded_energy += piece.sums.decoded_energy;
    sums.error_sum += piece.sums.error_sum;
    sums.max_error = std::max(sums.max_error, piece.sums.max_error);
    sums.expected_error += piece.sums.expected_error * plan_.samples->unit * plan_.samples->unit;
    sums.other_error += piece.sums.other_error;
    sums.nonzeros += piece.sums.nonzeros;
    sums.gap_bits += piece.sums.gap_bits;
    if (piece.first == 0) return;
    sums.gap_bits += element::omega_code(piece.first - last).length;
    last = piece.last;
  }

  void pack_group(const std::vector<uint64_t>& counts_at) {
    const size_t blocks = round_.size();
    const Stream& stream = pool_.compute_;
    std::vector<LevelLayout> layouts;
    std::vector<PackView> views;
    std::vector<size_t> of_view;
    std::string heads;
    uint64_t out = 0, words = 0;
    bytes_.assign(blocks, 0);
    out_at_.assign(blocks, 0);
    std::vector<uint64_t> words_at, heads_at;
    for (size_t i = 0; i < blocks; ++i) {
      layouts.push_back(
          choose_(begin_ + i, host_sums_[i], {host_counts_.data() + counts_at[i], round_[i].tensor.symbols}));
      const LevelLayout& layout = layouts.back();
      if (layout.empty) continue;
      PackView view;
      view.levels = round_[i].levels;
      view.scales = round_[i].scales;
      view.count = levels_of(round_[i]);
      view.scale_count = plan_.bucket ? (round_[i].block.count + plan_.bucket - 1) / plan_.bucket : 0;
      view.nonzeros = host_sums_[i].nonzeros;
      view.low = round_[i].tensor.low;
      view.packer = layout.packer;
      view.numbered = layout.numbered;
      view.width = layout.width;
      view.scheme = layout.scheme;
      view.lanes = layout.lanes;
      view.signs = layout.signs;
      std::copy(std::begin(layout.symbols), std::end(layout.symbols), view.symbols);
      view.head_bytes = uint32_t(layout.head.size());
      view.most_words =
          uint32_t((layout.most_words + words_alignment - 1) / words_alignment * words_alignment);
      view.most_bytes = uint32_t((layout.most_bytes + out_alignment - 1) / out_alignment * out_alignment);
      out_at_[i] = out;
      words_at.push_back(words);
      heads_at.push_back(heads.size());
      heads += layout.head;
      out += view.most_bytes;
      words += view.most_words;
      of_view.push_back(i);
      views.push_back(view);
    }
    if (views.empty()) return;
    out_.reserve(out / sizeof(uint32_t));
    words_.reserve(words + 1);
    heads_.reserve(heads.size() + 1);
    for (size_t v = 0; v < views.size(); ++v) {
      views[v].out = out_.data() + out_at_[of_view[v]] / sizeof(uint32_t);
      views[v].words = words_.data() + words_at[v];
      views[v].head = reinterpret_cast<const uint8_t*>(heads_.data()) + heads_at[v];
    }
    pack_views_.reserve(views.size());
    packed_bytes_.reserve(views.size());
    coded_.reserve(out);
    copy_to_device(heads_.data(), heads.data(), heads.size(), stream);
    copy_to_device(pack_views_.data(), views.data(), views.size(), stream);
    launch_pack(pack_views_.data(), uint32_t(views.size()), packed_bytes_.data(), stream);
    std::vector<uint32_t> packed(views.size());
    copy_to_host(packed.data(), packed_bytes_.data(), packed.size(), stream);
    copy_to_host(coded_.data(), reinterpret_cast<const char*>(out_.data()), out, stream);
    stream.synchronize();
    for (size_t v = 0; v < views.size(); ++v) {
      if (packed[v] > views[v].most_bytes)
        throw DeviceError("a block took more bytes than were foreseen; this is a bug in jsq");
      bytes_[of_view[v]] = packed[v];
    }
  }

  ResidentValues& pool_;
  LevelPlan plan_;
  std::vector<BlockRange> blocks_;
  ChooseLayout choose_;
  size_t taken_ = 0, begin_ = 0, end_ = 0, batch_ = 0;
  std::vector<RoundView> round_;
  std::vector<uint64_t> level_at_, out_at_;
  std::vector<uint32_t> bytes_;
  RotationRoom rotation_room_;
  DeviceBuffer<int16_t> levels_;
  DeviceBuffer<float> scales_;
  DeviceBuffer<uint32_t> counts_, out_, packed_bytes_;
  DeviceBuffer<uint16_t> words_;
  DeviceBuffer<char> heads_;
  DeviceBuffer<RoundView> round_views_;
  DeviceBuffer<PackView> pack_views_;
  DeviceBuffer<LevelSums> sums_;
  DeviceBuffer<PieceView> pieces_;
  DeviceBuffer<PieceSums> piece_sums_;
  PinnedBuffer<LevelSums> host_sums_;
  PinnedBuffer<uint32_t> host_counts_;
  PinnedBuffer<char> coded_;
};

std::unique_ptr<LevelBlocks> encode_levels(PoolValues& pool, LevelPlan plan,
                                           std::span<const BlockRange> blocks, ChooseLayout choose) {
  return std::make_unique<LevelRun>(static_cast<ResidentValues&>(pool), std::move(plan), blocks,
                                    std::move(choose));
}

}  // namespace jsq::cuda
