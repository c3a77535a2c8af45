// 1-bit SGD (Seide et al., Interspeech 2014): p = g + e, one bit [p >= 0] an element; the bits of a group
// decode to the means of their classes, mu+ = mean{p >= 0} and mu- = mean{p < 0}, which of all pairs makes
// the squared error of that split least. An empty class has mean 0. The paper's groups are the columns of a
// weight matrix; a tensor, its rows or buckets serve as well. Not done here: the second quantization of the
// aggregate.
//
// The matrix of a tensor of two or more dimensions is shape[0] x the rest; others are one group. Means of
// tensors, rows and columns, which cross blocks, are parameters: 8 bytes for each group, which the directory
// holds. Means of buckets, counted from the start of each block, are in the block. A block of zeros decodes
// to zeros.
#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>

#include "jsq/error.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cuda/sign_groups.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/device.hpp"
#include "lib/methods/level_device_blocks.hpp"
#include "lib/methods/level_device_decoder.hpp"
#include "lib/methods/options.hpp"
#include "lib/methods/passes.hpp"
#include "lib/methods/signs.hpp"
#include "lib/packers/level_device.hpp"
#include "lib/packers/level_histogram.hpp"
#include "lib/packers/levels.hpp"

namespace jsq {
namespace {

constexpr MethodOption options[] = {
    {"group", "tensor|row|col|bucket", "tensor",
     "elements that share two means; row, col: of the matrix shape[0] x the rest, 8 bytes each in the "
     "directory"},
    {"bucket", "1..65536", "512", "elements of a group, with group=bucket"},
};

/// The numbers are those of the wire format.
enum class Grouping : uint8_t { tensor = 0, row = 1, column = 2, bucket = 3 };
constexpr std::pair<std::string_view, Grouping> grouping_names[] = {{"tensor", Grouping::tensor},
                                                                    {"row", Grouping::row},
                                                                    {"col", Grouping::column},
                                                                    {"bucket", Grouping::bucket}};

constexpr uint64_t most_groups = 1u << 20;  ///< of a tensor, with means in the directory
constexpr uint64_t most_bucket = 65536;

/// Which group an element belongs to: storage index / period, or with `interleaved` modulo period.
struct GroupMap {
  uint64_t groups = 1;
  uint64_t period = UINT64_MAX;
  bool interleaved = false;
};

/// In C order the elements of a row are neighbours and those of a column `columns` apart; in Fortran order
/// those of a column are neighbours, columns counting as the order stores them, and those of a row are `rows`
/// apart.
GroupMap group_map(Grouping grouping, const TensorInfo& info) {
  const bool is_matrix = info.shape.size() >= 2 && info.elements() > 0;
  if (!is_matrix || (grouping != Grouping::row && grouping != Grouping::column)) return {};
  const uint64_t rows = info.shape[0], columns = info.elements() / rows;
  const uint64_t groups = grouping == Grouping::row ? rows : columns;
  const bool are_neighbours = (grouping == Grouping::row) != info.fortran_order;
  return {groups, are_neighbours ? info.elements() / groups : groups, !are_neighbours};
}

cuda::SignGroups device_groups(const GroupMap& map) {
  return {map.groups, map.period, map.interleaved};
}

/// The groups of consecutive elements.
class GroupWalk {
 public:
  GroupWalk(const GroupMap& map, uint64_t first)
      : map_(map), group_(map.interleaved ? 0 : first / map.period), within_(first % map.period) {}
  uint64_t next() {
    const uint64_t group = map_.interleaved ? within_ : group_;
    if (++within_ == map_.period) {
      within_ = 0;
      ++group_;
    }
    return group;
  }

 private:
  const GroupMap& map_;
  uint64_t group_, within_;
};

/// The values of one group's bits: of 0 and of 1, which is negative.
struct ClassMeans {
  float of[2] = {0, 0};
};

struct ClassSums {
  double sum[2] = {0, 0};
  uint64_t count[2] = {0, 0};
  void add(float g) {
    const size_t sign = g < 0 ? 1 : 0;
    sum[sign] += double(g);
    ++count[sign];
  }
  void add(const ClassSums& next) {
    for (size_t sign : {0, 1}) {
      sum[sign] += next.sum[sign];
      count[sign] += next.count[sign];
    }
  }
  ClassMeans means() const {
    ClassMeans result;
    for (size_t sign : {0, 1})
      if (count[sign]) result.of[sign] = float(sum[sign] / double(count[sign]));
    return result;
  }
};

/// mu- first, as the wire has it.
void write_means(const ClassMeans& means, ByteWriter& out) {
  out.f32(means.of[1]);
  out.f32(means.of[0]);
}

ClassMeans read_means(ByteReader& in) {
  ClassMeans means;
  means.of[1] = in.f32();
  means.of[0] = in.f32();
  if (!(means.of[1] <= 0) || !(means.of[0] >= 0) || !std::isfinite(means.of[0]) ||
      !std::isfinite(means.of[1]))
    in.damaged("a mean is not finite or has the wrong sign");
  return means;
}

ClassSums class_sums(const cuda::SignSums& sums, uint64_t elements) {
  return {{sums.of[0], sums.of[1]}, {elements - sums.negatives, sums.negatives}};
}

/// From sums in storage order; those of one group are formed in stretches of 65,536 elements, added in order.
std::vector<ClassMeans> means_of(const TensorPool& pool, size_t t, const GroupMap& map) {
  if (map.groups == 1) {
    ClassSums total;
    for (const ClassSums& block : per_block(pool, t, [](uint64_t, std::span<const float> values) {
           ClassSums sums;
           // (g +- |g|) / 2 is g or 0, exactly and without a branch.
           sums.sum[0] = lane_sum(values, [](float g) { return (double(g) + std::fabs(double(g))) * 0.5; });
           sums.sum[1] = lane_sum(values, [](float g) { return (double(g) - std::fabs(double(g))) * 0.5; });
           uint32_t negative = 0;
           for (float g : values) negative += g < 0 ? 1u : 0u;
           sums.count[1] = negative;
           sums.count[0] = values.size() - sums.count[1];
           return sums;
         }))
      total.add(block);
    return {total.means()};
  }
  std::vector<ClassSums> sums(size_t(map.groups));
  std::vector<float> scratch;
  GroupWalk walk(map, 0);
  const uint64_t elements = pool.tensors()[t].info->elements();
  for (uint64_t first = 0; first < elements; first += most_bucket) {
    const size_t count = size_t(std::min(most_bucket, elements - first));
    for (float g : pool.read(t, first, count, scratch)) sums[size_t(walk.next())].add(g);
  }
  std::vector<ClassMeans> means;
  for (const ClassSums& group : sums) means.push_back(group.means());
  return means;
}

/// Buffers of one block, reused by a thread.
struct Scratch {
  std::vector<int32_t> signs;
  std::vector<ClassMeans> means;
};
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

void decode_signs(std::span<const int32_t> signs, std::span<const ClassMeans> means, const GroupMap& map,
                  uint64_t first, std::span<float> values) {
  if (means.size() == 1) {
    for (size_t i = 0; i < signs.size(); ++i) values[i] = means[0].of[signs[i]];
    return;
  }
  GroupWalk walk(map, first);
  for (size_t i = 0; i < signs.size(); ++i) values[i] = means[size_t(walk.next())].of[signs[i]];
}

cuda::SignMeans device_means(const ClassMeans& means) {
  return {means.of[0], means.of[1]};
}

/// Blocks of one parameter set whose groups are told by `groups_of`; nothing where they do not fit it.
class OneBitDeviceDecoder final : public DeviceBlockDecoder {
 public:
  using GroupsOf = std::function<std::optional<cuda::SignGroups>(const BlockPlace& place)>;

  OneBitDeviceDecoder(std::span<const ClassMeans> means, GroupsOf groups_of)
      : groups_of_(std::move(groups_of)) {
    std::vector<cuda::SignMeans> all;
    for (const ClassMeans& own : means) all.push_back(device_means(own));
    decoder_ = on_device([&] { return cuda::make_sign_decoder(all); });
  }

  void decode(std::string_view bytes, std::span<const Block> blocks, std::span<float> values,
              std::span<uint8_t> sound) override {
    std::vector<cuda::SignDecoder::Block> wanted;
    for (const Block& block : blocks) {
      cuda::SignDecoder::Block& place = wanted.emplace_back();
      place.offset = block.offset;
      place.bytes = block.bytes;
      place.first = block.first;
      place.count = block.count;
      place.first_element = block.place.first;
      place.zero = block.bytes == 0;
      const std::optional<cuda::SignGroups> groups = groups_of_(block.place);
      place.sound = place.zero || groups;
      if (groups) place.groups = *groups;
    }
    on_device([&] { decoder_->decode(bytes, wanted, values, sound); });
  }

 private:
  GroupsOf groups_of_;
  std::unique_ptr<cuda::SignDecoder> decoder_;
};

class OneBitDecoder final : public MethodDecoder {
 public:
  OneBitDecoder(std::string_view parameters, std::string_view what) {
    ByteReader in(parameters, what);
    const uint8_t grouping = in.u8();
    if (grouping > uint8_t(Grouping::bucket)) in.damaged("unknown grouping " + std::to_string(grouping));
    grouping_ = Grouping(grouping);
    if (grouping_ == Grouping::bucket) {
      bucket_ = in.uvarint(most_bucket);
      if (bucket_ == 0) in.damaged("buckets without elements");
    } else {
      const uint64_t groups = in.uvarint(most_groups);
      if (groups == 0 || in.remaining() != 8 * groups) in.damaged("as many means as groups are expected");
      means_.resize(size_t(groups));
      for (ClassMeans& means : means_) means = read_means(in);
    }
    in.expect_end();
  }

  void decode_block(const BlockPlace& place, std::string_view block, std::span<float> values,
                    std::string_view what) const override {
    Scratch& s = scratch();
    ByteReader in(block, what);
    s.signs.resize(values.size());
    if (grouping_ == Grouping::bucket) {
      s.means.resize((values.size() + size_t(bucket_) - 1) / size_t(bucket_));
      for (ClassMeans& means : s.means) means = read_means(in);
      read_signs(in.raw(in.remaining()), s.signs, what);
      decode_signs(s.signs, s.means, {s.means.size(), bucket_, false}, 0, values);
      return;
    }
    GroupMap map;
    if (grouping_ != Grouping::tensor) map = group_map(grouping_, *place.info);
    if (map.groups != means_.size())
      in.damaged(fmt::format("{} groups have means, the tensor has {}", means_.size(), map.groups));
    read_signs(block, s.signs, what);
    decode_signs(s.signs, means_, map, place.first, values);
  }

  std::unique_ptr<DeviceBlockDecoder> device_decoder() const override {
    if (grouping_ != Grouping::tensor || means_.size() != 1)
      return std::make_unique<OneBitDeviceDecoder>(means_, [this](const BlockPlace& place) {
        std::optional<cuda::SignGroups> groups;
        if (grouping_ == Grouping::bucket) {
          groups.emplace().bucket = uint32_t(bucket_);
          return groups;
        }
        const GroupMap map = grouping_ == Grouping::tensor ? GroupMap{} : group_map(grouping_, *place.info);
        if (map.groups == means_.size()) groups = device_groups(map);
        return groups;
      });
    return std::make_unique<LevelDeviceDecoder>(
        sign_tensor(means_[0].of[0], means_[0].of[1]), 0,
        [](std::string_view, cuda::LevelDecoder::Block& head) { head.width = 1; });
  }

  std::string describe() const override {
    std::string text = fmt::format("onebit:group={}", choice_name(grouping_, grouping_names));
    if (grouping_ == Grouping::bucket) text += fmt::format(",bucket={}", bucket_);
    return text;
  }

 private:
  Grouping grouping_ = Grouping::tensor;
  uint64_t bucket_ = 0;
  std::vector<ClassMeans> means_;
};

class OneBitScheme final : public Scheme {
 public:
  OneBitScheme(const TensorPool& pool, const MethodSpec& spec) {
    const OptionReader read(spec);
    grouping_ = read.choice("group", grouping_names);
    bucket_ = read.integer("bucket", 1, most_bucket);
    if (grouping_ == Grouping::bucket) return;
    for (const PoolTensor& tensor : pool.tensors()) maps_.push_back(map_of(*tensor.info));
    means_.resize(maps_.size());
    if (pool.device() != nullptr) {
      find_means_on_device(pool);
      return;
    }
    tbb::parallel_for(size_t(0), maps_.size(), [&](size_t t) { means_[t] = means_of(pool, t, maps_[t]); });
  }

  SizeRange sizes() const override { return {}; }
  void set_size(uint64_t, bool) override {}
  bool deterministic() const override { return true; }

  StoredSet stored_set(size_t t) const override {
    ByteWriter out;
    out.u8(uint8_t(grouping_));
    if (grouping_ == Grouping::bucket) {
      out.uvarint(bucket_);
    } else {
      out.uvarint(means_[t].size());
      for (const ClassMeans& means : means_[t]) write_means(means, out);
    }
    return {onebit_row.info.wire_id, out.take()};
  }

  void encode(size_t t, const BlockPlace& place, std::span<const float> values, std::string& out,
              std::span<float> decoded, BlockSums& sums) const override {
    const bool has_buckets = grouping_ == Grouping::bucket;
    const size_t buckets = (values.size() + size_t(bucket_) - 1) / size_t(bucket_);
    const size_t groups = has_buckets ? buckets : place.first == 0 ? means_[t].size() : 0;
    sums.nominal_bits += values.size() + 64 * groups;
    if (cpu::max_magnitude(values) == 0) {
      std::fill(decoded.begin(), decoded.end(), 0.0f);
      return;
    }
    const bool measured = !decoded.empty();
    Scratch& s = scratch();
    s.signs.resize(values.size());
    signs_of(values, s.signs);
    if (has_buckets) {
      find_bucket_means(values, buckets, s.means);
      ByteWriter head;
      for (const ClassMeans& means : s.means) write_means(means, head);
      out.append(head.bytes());
      if (measured) decode_signs(s.signs, s.means, {buckets, bucket_, false}, 0, decoded);
    } else if (measured) {
      decode_signs(s.signs, means_[t], maps_[t], place.first, decoded);
    }
    write_signs(s.signs, out);
    if (measured) sums.entropy_bits += level_entropy_bits(s.signs) + 64.0 * double(groups);
  }
  std::unique_ptr<DeviceBlocks> encode_on_device(const TensorPool& pool) const override;

 private:
  GroupMap map_of(const TensorInfo& info) const {
    const GroupMap map = group_map(grouping_, info);
    if (map.groups <= most_groups) return map;
    throw Error(
        Errc::usage,
        fmt::format("onebit: tensor '{}' has {} groups with group={}, and 8 bytes would be stored for "
                    "each; at most {} are possible: use group=bucket",
                    info.name, map.groups, choice_name(grouping_, grouping_names), most_groups));
  }

  /// Of tensors that are one group each by chunks, of others by group.
  void find_means_on_device(const TensorPool& pool) {
    const auto found = on_device([&] { return cuda::sums_by_sign(*pool.device()); });
    auto chunk = found.begin();
    for (size_t t = 0; t < means_.size(); ++t) {
      if (maps_[t].groups > 1) {
        chunk += std::ptrdiff_t((pool.tensors()[t].info->elements() + element::sum_chunk - 1) /
                                element::sum_chunk);
        const auto sums =
            on_device([&] { return cuda::group_sums(*pool.device(), t, device_groups(maps_[t])); });
        for (uint64_t g = 0; g < sums.size(); ++g) {
          const uint64_t count = pool.tensors()[t].info->elements() / maps_[t].groups;
          means_[t].push_back(class_sums(sums[g], count).means());
        }
        continue;
      }
      ClassSums total;
      for (uint64_t first = 0, n = pool.tensors()[t].info->elements(); first < n;
           first += element::sum_chunk, ++chunk) {
        const uint64_t count = std::min<uint64_t>(element::sum_chunk, n - first);
        total.add(class_sums(*chunk, count));
      }
      means_[t] = {total.means()};
    }
  }

  void find_bucket_means(std::span<const float> values, size_t buckets,
                         std::vector<ClassMeans>& means) const {
    std::vector<ClassSums> totals(buckets);
    for (size_t i = 0; i < values.size(); ++i) totals[i / size_t(bucket_)].add(values[i]);
    means.clear();
    for (const ClassSums& total : totals) means.push_back(total.means());
  }

  Grouping grouping_ = Grouping::tensor;
  uint64_t bucket_ = 1;
  std::vector<GroupMap> maps_;
  std::vector<std::vector<ClassMeans>> means_;
};

/// Blocks of tensors with several groups, some blocks of a tensor at a time.
class OneBitDeviceBlocks final : public DeviceBlocks {
 public:
  /// `maps` and `means` by tensor, empty where groups are buckets; they outlive this.
  OneBitDeviceBlocks(const TensorPool& pool, uint64_t bucket, std::span<const GroupMap> maps,
                     std::span<const std::vector<ClassMeans>> means)
      : pool_(pool), bucket_(bucket), maps_(maps), means_(means), blocks_(pool_blocks(pool, 16)) {}

  void next(std::string& out, BlockSums& sums) override {
    if (taken_ == end_) code_some();
    const size_t b = taken_++ - begin_;
    const PoolBlock& block = blocks_[begin_ + b];
    const std::span<const cuda::SignMeans> own = bucket_means(b, block);
    const size_t groups = has_buckets() ? own.size() : block.first == 0 ? means_[block.tensor].size() : 0;
    sums.nominal_bits += block.count + 64 * groups;
    const cuda::LevelSums& found = coded_.sums[b];
    if (found.max_key == 0) return;
    const uint64_t nominal = sums.nominal_bits;
    sums = error_block_sums(found);
    sums.nominal_bits = nominal;
    sums.expected_error = found.other_error;
    histogram_.assign(0, std::array<uint32_t, 2>{uint32_t(block.count) - found.nonzeros, found.nonzeros});
    sums.entropy_bits = histogram_.entropy_bits() + 64.0 * double(groups);
    ByteWriter head;
    for (const cuda::SignMeans& means : own) write_means({{means.positive, means.negative}}, head);
    out.append(head.bytes());
    out.append(reinterpret_cast<const char*>(coded_.bits.data() + b * coded_.words), (block.count + 7) / 8);
  }

 private:
  bool has_buckets() const { return maps_.empty(); }
  std::span<const cuda::SignMeans> bucket_means(size_t b, const PoolBlock& block) {
    if (!has_buckets()) return {};
    const std::span<const cuda::SignMeans> all(some_means_);
    return all.subspan(first_mean_[b], size_t((block.count + bucket_ - 1) / bucket_));
  }

  void code_some() {
    constexpr size_t most = 64;  // blocks: what they are coded to waits here
    begin_ = end_;
    const size_t t = blocks_[begin_].tensor;
    while (end_ < blocks_.size() && blocks_[end_].tensor == t && end_ - begin_ < most) ++end_;
    const auto blocks = std::span<const PoolBlock>(blocks_).subspan(begin_, end_ - begin_);
    some_means_.clear();
    first_mean_.clear();
    on_device([&] {
      if (has_buckets())
        find_bucket_means(blocks);
      else
        for (const ClassMeans& means : means_[t]) some_means_.push_back(device_means(means));
      cuda::SignGroups groups;
      if (has_buckets())
        groups.bucket = uint32_t(bucket_);
      else
        groups = device_groups(maps_[t]);
      coded_ = cuda::code_signs(*pool_.device(), groups, some_means_, blocks);
    });
  }
  void find_bucket_means(std::span<const PoolBlock> blocks) {
    const auto found = cuda::bucket_sums(*pool_.device(), uint32_t(bucket_), blocks);
    auto sums = found.begin();
    for (const PoolBlock& block : blocks) {
      first_mean_.push_back(some_means_.size());
      for (uint64_t at = 0; at < block.count; at += bucket_)
        some_means_.push_back(
            device_means(class_sums(*sums++, std::min<uint64_t>(bucket_, block.count - at)).means()));
    }
  }

  const TensorPool& pool_;
  uint64_t bucket_;
  std::span<const GroupMap> maps_;
  std::span<const std::vector<ClassMeans>> means_;
  std::vector<PoolBlock> blocks_;
  size_t taken_ = 0, begin_ = 0, end_ = 0;  ///< of the blocks that are coded together
  std::vector<cuda::SignMeans> some_means_;
  std::vector<size_t> first_mean_;  ///< of each of their buckets
  cuda::SignBlocks coded_;
  LevelHistogram histogram_;
};

std::unique_ptr<DeviceBlocks> OneBitScheme::encode_on_device(const TensorPool& pool) const {
  if (grouping_ != Grouping::tensor)
    return std::make_unique<OneBitDeviceBlocks>(pool, bucket_, maps_, means_);
  cuda::LevelPlan plan;
  for (const std::vector<ClassMeans>& means : means_)
    plan.tensors.push_back(sign_tensor(means[0].of[0], means[0].of[1]));
  plan.nearest = true;
  const auto choose = [histogram = LevelHistogram()](const PoolBlock& block, const cuda::LevelSums& found,
                                                     std::span<const uint32_t> counts,
                                                     BlockSums& sums) mutable {
    cuda::LevelLayout layout = sign_layout(block.count, found, sums);
    const uint64_t groups = block.first == 0 ? 1 : 0;
    sums.nominal_bits = block.count + 64 * groups;
    if (layout.empty) return layout;
    histogram.assign(0, counts);
    sums.entropy_bits = histogram.entropy_bits() + 64.0 * double(groups);
    return layout;
  };
  return std::make_unique<LevelDeviceBlocks>(pool, 16, std::move(plan), choose);
}

}  // namespace

const MethodRow onebit_row = {
    {.name = "onebit",
     .wire_id = 11,
     .title = "1-bit SGD: one bit an element and two means a group",
     .source = "Seide et al., 1-Bit Stochastic Gradient Descent and its Application to Data-Parallel "
               "Distributed Training of Speech DNNs, Interspeech 2014",
     .bias = "biased; the mean of a group is kept",
     .needs = "error feedback to converge",
     .aggregation = "allgather",
     .random_numbers = "none",
     .nominal_bits = "1 + 64 a group",
     .honest_bits = "nominal",
     .backends = "cpu, cuda",
     .options = options,
     .feedback = Feedback::residual},
    [](const TensorPool& pool, const MethodSpec& spec, const EncoderContext&) -> std::unique_ptr<Scheme> {
      return std::make_unique<OneBitScheme>(pool, spec);
    },
    nullptr,
    [](std::string_view parameters, std::string_view what) -> std::unique_ptr<MethodDecoder> {
      return std::make_unique<OneBitDecoder>(parameters, what);
    }};

}  // namespace jsq
