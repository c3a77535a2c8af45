// The level blocks of a pool, coded group by group: rounded on the device, their layouts chosen by the host
// from sums and counts, packed on the device.
#include "kernels/cuda/level_kernels.hpp"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/element/hadamard.hpp"

namespace jsq::cuda {

/// Codes groups of blocks on two streams in turn: while the device rounds one, the values of the next come
/// over, and while the host takes the blocks of one, the device rounds the next.
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

  ~LevelRun() override {
    // Kernels may still run on buffers that go now.
    for (const Group& group : groups_) (void)cudaStreamSynchronize(group.stream);
  }

  std::string_view next() override {
    if (taken_ == groups_[turn_].end) {
      if (started_ == taken_) start(groups_[turn_ ^ 1]);
      turn_ ^= 1;
      Group& group = groups_[turn_];
      if (started_ < blocks_.size() && pool_.has_place_beside(group.batch, blocks_[started_]))
        start(groups_[turn_ ^ 1]);  // meanwhile
      finish(group);
    }
    const Group& group = groups_[turn_];
    const size_t k = taken_++ - group.begin;
    return {group.coded.data() + group.out_at[k], group.bytes[k]};
  }

 private:
  static constexpr uint64_t group_elements = uint64_t(1) << 24;
  static constexpr uint64_t most_counts = uint64_t(1) << 25;  ///< counters of a group
  static constexpr uint64_t out_alignment = 32;
  static constexpr uint64_t words_alignment = 64;  ///< of an entropy coder's words: a cache line

  /// Blocks that are on the device together, and room for them.
  struct Group {
    Stream stream;
    size_t begin = 0, end = 0, batch = 0;
    std::vector<RoundView> round;
    std::vector<uint64_t> counts_at, out_at;
    std::vector<uint32_t> bytes;
    RotationRoom rotation_room;
    DeviceBuffer<int16_t> levels;
    DeviceBuffer<float> scales;
    DeviceBuffer<uint32_t> counts, out, packed_bytes;
    DeviceBuffer<uint16_t> words;
    DeviceBuffer<char> heads;
    DeviceBuffer<RoundView> round_views;
    DeviceBuffer<PackView> pack_views;
    DeviceBuffer<LevelSums> sums;
    std::vector<PieceView> pieces;
    std::vector<size_t> block_of_piece;
    DeviceBuffer<PieceView> device_pieces;
    DeviceBuffer<PieceSums> piece_sums;
    PinnedBuffer<PieceSums> host_piece_sums;
    PinnedBuffer<LevelSums> host_sums;
    PinnedBuffer<uint32_t> host_counts, host_packed_bytes;
    PinnedBuffer<char> coded;
  };

  /// Of a block, with the padding of a rotation.
  uint32_t levels_of(const RoundView& view) const {
    if (!plan_.rotation) return view.block.count;
    return uint32_t(element::padded_length(view.block.count, plan_.rotation->block_log2));
  }

  /// Puts the rounding of the next blocks, and the copies of what it counts, on the group's stream.
  void start(Group& group) {
    const size_t batch = group.batch = pool_.batch_of(blocks_[started_]);
    pool_.bring(batch);
    group.begin = group.end = started_;
    group.round.clear();
    group.counts_at.clear();
    uint64_t elements = 0, scales = 0, counts = 0;
    uint32_t most_symbols = 1;
    std::vector<uint64_t> level_at, scales_at;
    for (; group.end < blocks_.size() && elements < group_elements && counts < most_counts &&
           pool_.holds(pool_.batches_[batch], blocks_[group.end]);
         ++group.end) {
      RoundView view;
      view.block = pool_.view_of(pool_.batches_[batch], blocks_[group.end]);
      view.tensor = plan_.tensors[blocks_[group.end].tensor];
      level_at.push_back(elements);
      scales_at.push_back(scales);
      group.counts_at.push_back(counts);
      elements += ResidentValues::padded(levels_of(view));
      if (plan_.bucket) scales += (view.block.count + plan_.bucket - 1) / plan_.bucket;
      counts += view.tensor.symbols;
      most_symbols = std::max(most_symbols, view.tensor.symbols);
      group.round.push_back(view);
    }
    started_ = group.end;
    const size_t blocks = group.round.size();
    group.levels.reserve(elements);
    group.scales.reserve(scales + 1);
    group.counts.reserve(counts);
    group.host_counts.reserve(counts);
    group.round_views.reserve(blocks);
    group.sums.reserve(blocks);
    group.host_sums.reserve(blocks);
    for (size_t i = 0; i < blocks; ++i) {
      group.round[i].levels = group.levels.data() + level_at[i];
      group.round[i].scales = group.scales.data() + scales_at[i];
      group.round[i].counts = group.counts.data() + group.counts_at[i];
    }
    const Stream& stream = group.stream;
    copy_to_device(group.round_views.data(), group.round.data(), blocks, stream);
    clear(group.counts.data(), counts, stream);
    if (plan_.samples) {
      start_samples(group);
    } else {
      pool_.await(stream);
      const RoundPlan plan{plan_.bucket, plan_.norm, plan_.nearest, plan_.count_gaps, plan_.stream};
      if (plan_.rotation)
        launch_rotate(*plan_.rotation, plan, group.round_views.data(), uint32_t(blocks), group.sums.data(),
                      group.rotation_room, stream);
      else
        launch_round(plan, group.round_views.data(), uint32_t(blocks), most_symbols, group.sums.data(),
                     stream);
      copy_to_host(group.host_sums.data(), group.sums.data(), blocks, stream);
    }
    pool_.leave(batch, stream);
    copy_to_host(group.host_counts.data(), group.counts.data(), counts, stream);
  }

  /// Levels of the group's blocks as counts of samples, piece by piece.
  void start_samples(Group& group) {
    group.pieces.clear();
    group.block_of_piece.clear();
    for (size_t b = 0; b < group.round.size(); ++b) {
      const BlockRange& range = blocks_[group.begin + b];
      const RoundView& round = group.round[b];
      for (uint32_t first = 0; first < round.block.count; first += uint32_t(element::sum_chunk)) {
        PieceView piece;
        piece.values = round.block.values + first;
        piece.count = std::min(uint32_t(element::sum_chunk), round.block.count - first);
        piece.first = first;
        piece.levels = round.levels + first;
        piece.counts = round.counts;
        piece.start = plan_.samples->starts[range.tensor][size_t((range.first + first) / element::sum_chunk)];
        piece.tensor = round.tensor;
        piece.stored = round.block.stored;
        group.pieces.push_back(piece);
        group.block_of_piece.push_back(b);
      }
    }
    const size_t pieces = group.pieces.size();
    group.device_pieces.reserve(pieces);
    group.piece_sums.reserve(pieces);
    group.host_piece_sums.reserve(pieces);
    copy_to_device(group.device_pieces.data(), group.pieces.data(), pieces, group.stream);
    pool_.await(group.stream);
    launch_sample(group.device_pieces.data(), uint32_t(pieces), plan_.samples->rate, group.piece_sums.data(),
                  group.stream);
    copy_to_host(group.host_piece_sums.data(), group.piece_sums.data(), pieces, group.stream);
  }

  /// Waits for what start() put on the stream, and packs the group's blocks.
  void finish(Group& group) {
    group.stream.synchronize();
    if (plan_.samples) {  // a block's sums are those of its pieces, left to right
      for (size_t b = 0; b < group.round.size(); ++b) group.host_sums[b] = {};
      uint32_t last = 0;
      for (size_t p = 0; p < group.pieces.size(); ++p) {
        if (group.pieces[p].first == 0) last = 0;
        add_piece(group.host_sums[group.block_of_piece[p]], group.host_piece_sums[p], last);
      }
    }
    pack(group);
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

  void pack(Group& group) {
    const size_t blocks = group.round.size();
    const Stream& stream = group.stream;
    std::vector<LevelLayout> layouts;
    std::vector<PackView> views;
    std::vector<size_t> of_view;
    std::string heads;
    uint64_t out = 0, words = 0;
    group.bytes.assign(blocks, 0);
    group.out_at.assign(blocks, 0);
    std::vector<uint64_t> words_at, heads_at;
    for (size_t i = 0; i < blocks; ++i) {
      layouts.push_back(
          choose_(group.begin + i, group.host_sums[i],
                  {group.host_counts.data() + group.counts_at[i], group.round[i].tensor.symbols}));
      const LevelLayout& layout = layouts.back();
      if (layout.empty) continue;
      PackView view;
      view.levels = group.round[i].levels;
      view.scales = group.round[i].scales;
      view.count = levels_of(group.round[i]);
      view.scale_count = plan_.bucket ? (group.round[i].block.count + plan_.bucket - 1) / plan_.bucket : 0;
      view.nonzeros = group.host_sums[i].nonzeros;
      view.low = group.round[i].tensor.low;
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
      group.out_at[i] = out;
      words_at.push_back(words);
      heads_at.push_back(heads.size());
      heads += layout.head;
      out += view.most_bytes;
      words += view.most_words;
      of_view.push_back(i);
      views.push_back(view);
    }
    if (views.empty()) return;
    group.out.reserve(out / sizeof(uint32_t));
    group.words.reserve(words + 1);
    group.heads.reserve(heads.size() + 1);
    for (size_t v = 0; v < views.size(); ++v) {
      views[v].out = group.out.data() + group.out_at[of_view[v]] / sizeof(uint32_t);
      views[v].words = group.words.data() + words_at[v];
      views[v].head = reinterpret_cast<const uint8_t*>(group.heads.data()) + heads_at[v];
    }
    group.pack_views.reserve(views.size());
    group.packed_bytes.reserve(views.size());
    group.coded.reserve(out);
    copy_to_device(group.heads.data(), heads.data(), heads.size(), stream);
    copy_to_device(group.pack_views.data(), views.data(), views.size(), stream);
    clear(group.out.data(), out / sizeof(uint32_t), stream);  // no block fills its room
    launch_pack(group.pack_views.data(), uint32_t(views.size()), group.packed_bytes.data(), stream);
    PinnedBuffer<uint32_t>& packed = group.host_packed_bytes;
    packed.reserve(views.size());
    copy_to_host(packed.data(), group.packed_bytes.data(), views.size(), stream);
    copy_to_host(group.coded.data(), reinterpret_cast<const char*>(group.out.data()), out, stream);
    stream.synchronize();
    for (size_t v = 0; v < views.size(); ++v) {
      if (packed[v] > views[v].most_bytes)
        throw DeviceError("a block took more bytes than were foreseen; this is a bug in jsq");
      group.bytes[of_view[v]] = packed[v];
    }
  }

  ResidentValues& pool_;
  LevelPlan plan_;
  std::vector<BlockRange> blocks_;
  ChooseLayout choose_;
  std::array<Group, 2> groups_;
  size_t taken_ = 0, started_ = 0, turn_ = 0;
};

std::unique_ptr<LevelBlocks> encode_levels(PoolValues& pool, LevelPlan plan,
                                           std::span<const BlockRange> blocks, ChooseLayout choose) {
  return std::make_unique<LevelRun>(static_cast<ResidentValues&>(pool), std::move(plan), blocks,
                                    std::move(choose));
}

}  // namespace jsq::cuda
