// compress(): inputs -> pools -> encoders -> blocks -> one frame, never larger than a size target allows.
#include "jsq/compress.hpp"

#include <fmt/format.h>
#include <tbb/parallel_pipeline.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "formats/wire/directory.hpp"
#include "formats/wire/exceptions.hpp"
#include "formats/wire/set_decoders.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "jsq/state.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "kernels/element/float_bits.hpp"
#include "lib/core/device.hpp"
#include "lib/core/pool.hpp"
#include "lib/core/scattered.hpp"
#include "lib/core/seeds.hpp"
#include "lib/core/size_limit.hpp"
#include "lib/core/spool.hpp"
#include "lib/core/stored_values.hpp"
#include "lib/core/threads.hpp"
#include "lib/methods/feedback.hpp"
#include "lib/methods/method.hpp"

namespace jsq {
namespace {

/// One tensor on its way into the frame.
struct Job {
  PoolTensor pool_tensor;
  size_t pool = 0;  // which pool
  size_t index_in_pool = 0;
};

/// Tensors that share a budget, and their encoder.
struct Pool {
  std::unique_ptr<TensorPool> tensors;
  std::unique_ptr<MethodEncoder> encoder;
  uint64_t input_bytes = 0;
};

std::string index_text(const TensorInfo& info, uint64_t storage_index) {
  std::string text;
  std::vector<uint64_t> index(info.shape.size());
  for (size_t k = 0; k < index.size(); ++k) {
    const size_t axis = info.fortran_order ? k : index.size() - 1 - k;
    index[axis] = storage_index % info.shape[axis];
    storage_index /= info.shape[axis];
  }
  for (uint64_t i : index) text += (text.empty() ? "" : ",") + std::to_string(i);
  return "[" + text + "]";
}

/// A block, or the exceptions behind a tensor's last one, as it was coded.
struct CodedBlock {
  size_t job = 0;
  uint64_t first = 0;
  uint64_t bytes = 0;
  bool exceptions = false;
  BlockSums sums;
  uint64_t stored_bytes() const { return bytes > 0 ? bytes + wire::checksum_bytes : 0; }
};

/// One encoded frame body and the directory that goes with it.
struct Encoded {
  Spool blocks;
  std::vector<CodedBlock> coded;
  wire::Directory directory;
  std::string stored_directory;
  std::vector<uint64_t> tensor_bytes;
  std::vector<BlockSums> tensor_sums;
  double squared_error() const {
    double sum = 0;
    for (const BlockSums& sums : tensor_sums) sum += sums.squared_error;
    return sum;
  }
  uint64_t total() const {
    return wire::header_bytes + blocks.size() + stored_directory.size() + wire::footer_bytes;
  }
  /// What is neither in blocks nor, as it would be unpacked, in parameter sets.
  uint64_t overhead() const {
    uint64_t body = 0;
    for (const CodedBlock& block : coded) body += block.exceptions ? 0 : block.bytes;
    for (const wire::ParameterSet& set : directory.sets) body += set.bytes.size();
    return total() - std::min(body, total());
  }
};

class Compressor {
 public:
  Compressor(const std::vector<InputDump>& inputs, const CompressOptions& options)
      : options_(options), row_(method_row(options.method.name)), measured_(options.measure) {
    collect(inputs);
    make_pools();
    refuse_nonfinite();
  }

  /// Leaves what encoders keep for the next step.
  void save(State& state) const {
    for (const Pool& pool : pools_) pool.encoder->save(state);
  }

  CompressReport run(ByteSink& out) {
    const auto start = std::chrono::steady_clock::now();
    const std::string header = wire::write_header();
    if (!has_budget()) aim_once();
    // Only a frame that may be too large waits for its end.
    Encoded encoded = has_budget() ? encode_within_budget() : Encoded();
    out.write(std::as_bytes(std::span(header)));
    if (!has_budget()) encoded = encode(&out);
    encoded.blocks.copy_to(out);
    out.write(std::as_bytes(std::span(encoded.stored_directory)));
    const std::string footer = wire::write_footer(header, encoded.stored_directory);
    out.write(std::as_bytes(std::span(footer)));
    CompressReport result = report(encoded);
    result.seconds =
        setup_seconds_ + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
  }

 private:
  void collect(const std::vector<InputDump>& inputs) {
    for (const InputDump& input : inputs) {
      FrameDump dump;
      dump.path = input.path;
      dump.dump = input.source->dump();
      dump.first_tensor = jobs_.size();
      const auto& infos = input.source->tensors();
      for (size_t i = 0; i < (input.all ? infos.size() : input.tensors.size()); ++i) {
        const size_t t = input.all ? i : input.tensors[i];
        Job job;
        job.pool_tensor.source = input.source.get();
        job.pool_tensor.tensor = t;
        job.pool_tensor.info = &infos[t];
        job.pool_tensor.number = uint32_t(jobs_.size());
        job.pool_tensor.drop_nonfinite = options_.nonfinite != NonFinitePolicy::error;
        if (const auto layers = input.layers.find(t); layers != input.layers.end())
          job.pool_tensor.layers = checked_layers(input, infos[t], layers->second);
        jobs_.push_back(job);
        input_bytes_ += infos[t].stored_bytes();
        elements_ += infos[t].elements();
      }
      dump.tensor_count = jobs_.size() - dump.first_tensor;
      dumps_.push_back(std::move(dump));
    }
    nonfinite_.resize(jobs_.size());
  }

  static std::span<const std::vector<uint64_t>> checked_layers(
      const InputDump& input, const TensorInfo& info, const std::vector<std::vector<uint64_t>>& layers) {
    uint64_t elements = 0;
    bool possible = !layers.empty() && layers.size() <= (size_t(1) << 20) && info.elements() > 0;
    for (const std::vector<uint64_t>& shape : layers) {
      uint64_t size = 1;
      for (uint64_t extent : shape) {
        possible = possible && extent > 0 && extent <= info.elements() / size && shape.size() <= 32;
        size = possible ? size * extent : size;
      }
      elements += size;
      possible = possible && elements <= info.elements();
    }
    if (!possible || elements != info.elements())
      throw Error(Errc::usage, fmt::format("{}: the layers given for '{}' are not its {} elements",
                                           input.path, info.name, info.elements()));
    return layers;
  }

  /// What all workers draw from in this step, and what decoders know: the user's seed in the first step.
  uint64_t shared_seed() const { return step_seed(options_.seed, options_.state ? options_.state->step : 0); }

  void make_pools() {
    const auto start = std::chrono::steady_clock::now();
    const bool on_device = codes_on_device(options_.backend, row_.info.name, row_.info.backends, elements_);
    const HistogramPass pass = row_.ranks ? HistogramPass::with_summary : HistogramPass::when_asked;
    std::vector<std::vector<PoolTensor>> groups;
    if (options_.scope == Scope::archive || jobs_.empty()) groups.emplace_back();
    for (Job& job : jobs_) {
      if (options_.scope == Scope::tensor) groups.emplace_back();
      job.pool = groups.size() - 1;
      job.index_in_pool = groups.back().size();
      groups.back().push_back(job.pool_tensor);
    }
    for (std::vector<PoolTensor>& group : groups) {
      Pool pool;
      for (const PoolTensor& tensor : group) pool.input_bytes += tensor.info->stored_bytes();
      if (options_.nonfinite != NonFinitePolicy::error) note_nonfinite(group);
      pool.tensors = std::make_unique<TensorPool>(std::move(group), pass, on_device, ranked_share());
      if (options_.nonfinite == NonFinitePolicy::error)
        for (size_t t = 0; t < pool.tensors->tensors().size(); ++t)
          nonfinite_[pool.tensors->tensors()[t].number].count = pool.tensors->statistics(t).nonfinite();
      pools_.push_back(std::move(pool));
    }
    if (options_.nonfinite == NonFinitePolicy::error) refuse_nonfinite();
    make_encoders();
    setup_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  /// Of the elements of a pool, by what the target leaves for each.
  double ranked_share() const {
    if (row_.ranked_share == nullptr || !has_budget()) return 1;
    return row_.ranked_share(options_.method,
                             8 * double(budget_bytes()) / double(std::max<uint64_t>(1, elements_)));
  }

  void make_encoders() {
    const EncoderContext context{options_.rounding, shared_seed(),
                                 stream_seed(shared_seed(), options_.worker), options_.state};
    for (Pool& pool : pools_) pool.encoder = make_encoder(row_, *pool.tensors, options_.method, context);
  }

  struct NonFinite {
    uint64_t count = 0;
    wire::Exceptions kept;
  };

  /// One pass that lists the non-finite elements (to keep them, or to say how many became zero).
  void note_nonfinite(const std::vector<PoolTensor>& group) {
    constexpr size_t chunk = 65536;
    std::vector<float> scratch;
    for (const PoolTensor& tensor : group) {
      NonFinite& found = nonfinite_[tensor.number];
      const uint64_t elements = tensor.info->elements();
      const size_t size = dtype_bytes(tensor.info->dtype);
      for (uint64_t first = 0; first < elements; first += chunk) {
        const auto values = tensor.source->read(tensor.tensor, first,
                                                size_t(std::min<uint64_t>(chunk, elements - first)), scratch);
        for (size_t i = 0; i < values.size(); ++i) {
          if (element::magnitude_key(values[i]) < element::first_nonfinite_key) continue;
          ++found.count;
          if (options_.nonfinite != NonFinitePolicy::keep) continue;
          std::byte bits[8];
          tensor.source->read_stored(tensor.tensor, first + i, 1, bits);
          found.kept.index.push_back(first + i);
          found.kept.bits.append(reinterpret_cast<const char*>(bits), size);
        }
      }
    }
  }

  void refuse_nonfinite() const {
    if (options_.nonfinite != NonFinitePolicy::error) return;
    for (const Job& job : jobs_) {
      const TensorStatistics& statistics = pools_[job.pool].tensors->statistics(job.index_in_pool);
      if (statistics.nonfinite() == 0) continue;
      std::string found;
      const auto note = [&](uint64_t count, const char* name) {
        if (count) found += fmt::format("{}{} {}", found.empty() ? "" : ", ", count, name);
      };
      note(statistics.nan, "NaN");
      note(statistics.positive_infinite, "+Inf");
      note(statistics.negative_infinite, "-Inf");
      const TensorInfo& info = *job.pool_tensor.info;
      const FrameDump& dump = *std::find_if(dumps_.begin(), dumps_.end(), [&](const FrameDump& d) {
        return job.pool_tensor.number < d.first_tensor + d.tensor_count;
      });
      throw Error(Errc::non_finite,
                  fmt::format("{}{}{}: {} among {} values{}, first at {}; use --nonfinite keep to store them "
                              "exactly, or zero to drop them",
                              dump.path, info.name.empty() ? "" : "::", info.name, found, info.elements(),
                              info.dtype == DType::f64 ? " (magnitudes beyond f32 count as infinite)" : "",
                              index_text(info, statistics.first_nonfinite)));
    }
  }

  bool has_budget() const { return options_.target.is_size() && options_.ratio_kind == RatioKind::file; }
  uint64_t budget_bytes() const { return size_limit(options_.target, input_bytes_, elements_); }

  /// Four digits that can be asked for.
  static std::string rounded_down(double ratio) {
    const double unit = std::pow(10.0, std::floor(std::log10(std::max(ratio, 1e-300))) - 4);
    return fmt::format("{:.5g}", std::floor(ratio / unit * (1 - 1e-9)) * unit);
  }

  [[noreturn]] void unreachable(uint64_t budget, uint64_t smallest) const {
    throw UnreachableTarget(
        fmt::format(
            "{} allows {} bytes, but the smallest frame of {} for this input has {} bytes (ratio {}); "
            "ask for that or less compression",
            to_string(options_.target), budget, options_.method.name, smallest,
            rounded_down(double(input_bytes_) / double(smallest))),
        {TargetKind::bytes, double(smallest)});
  }

  Encoded encode_within_budget() {
    std::optional<Encoded> encoded = search_budget();
    if (encoded) return *std::move(encoded);
    measured_ = true;
    make_encoders();
    return *search_budget();
  }

  /// Aims, encodes, compares with the budget and aims again until the frame fits and is close to it. Nothing
  /// where two frames have to be compared by errors that are not measured.
  std::optional<Encoded> search_budget() {
    const uint64_t budget = budget_bytes();
    // Small pools can afford to come closer.
    const bool small = elements_ <= (uint64_t(1) << 22);
    const double enough = elements_ <= (uint64_t(1) << 19) ? 0.998 : 0.991;
    const int attempts = small ? 10 : 4;
    std::optional<Encoded> best;
    for (Pool& pool : pools_) pool.encoder->shape_blocks(share_of(pool, double(budget)));
    uint64_t overhead = frame_overhead(), smallest = UINT64_MAX, stuck_at = 0;
    const auto net_of = [&] { return budget > overhead ? double(budget - overhead) : 0.0; };
    double net = net_of();
    double body = net;
    double largest_body = HUGE_VAL;
    for (int attempt = 0; attempt < attempts || !best; ++attempt) {
      const double expected = aim(body);
      Encoded encoded = encode();
      const bool tail_failed = !improve_tail(encoded, budget);
      const uint64_t total = encoded.total();
      // Where many blocks are empty, there is more room than was thought.
      if (const uint64_t own = encoded.overhead();
          attempt == 0 && double(own) + 0.005 * double(budget) < double(overhead)) {
        overhead = own;
        net = net_of();
      }
      const bool learned = pools_.size() == 1 && pools_[0].encoder->learn(total - std::min(total, overhead));
      // What learned from frames knows when nothing fits: then the smallest frame tells what does.
      const bool nothing_fits = learned && expected > 1.05 * body + 8;
      smallest = std::min(smallest, total);
      if (total <= budget) {
        // The fullest is best, unless another way to code, which the aim found meanwhile, loses less in fewer
        // bytes.
        const bool first = !best;
        const bool much_smaller = !first && !learned && double(total) < 0.95 * double(best->total());
        if (much_smaller && !measured_) return std::nullopt;
        const bool other_way = much_smaller && encoded.squared_error() < 0.98 * best->squared_error();
        const bool better = first || total > best->total() || other_way;
        const uint64_t before = first ? 0 : best->total();
        if (better) best = std::move(encoded);
        // Where bytes hardly follow what a tail can change, the whole frame is aimed once more.
        if (double(total) >= (tail_failed && learned && attempt == 0 ? 0.998 : enough) * double(budget))
          break;
        if (!learned && expected < 0.97 * body && total + uint64_t(0.02 * double(budget)) < budget)
          break;                               // the method wants no more
        if (!first && total <= before) break;  // the method has nothing between
        if (!learned) body = std::min(body + double(budget - total) * 0.98, (body + largest_body) / 2);
      } else {
        if (body <= 0) unreachable(budget, smallest);
        largest_body = std::min(largest_body, body);
        const double surplus = double(total - budget);
        body = std::max(0.0, body - surplus * (1.02 + 0.1 * attempt) - 2);
        // A method of a few sizes gives the same frame for many bodies: leave its step.
        if (total == stuck_at) body = std::min(body, 0.999 * expected - 1);
        if (attempt >= 20 || nothing_fits) body = 0;
        body = std::max(0.0, body);
        stuck_at = total;
      }
      if (learned && !(nothing_fits && !best)) body = net * (1 - 0.2 * (1 - enough) * (1 + attempt));
    }
    return best;
  }

  /// Codes the last blocks again where that brings the frame closer to the budget; false where it should and
  /// does not.
  bool improve_tail(Encoded& encoded, uint64_t budget) {
    const auto meets = [&](uint64_t total) {
      return total <= budget && double(total) >= 0.998 * double(budget);
    };
    const auto is_block = [](const CodedBlock& block) { return !block.exceptions; };
    if (pools_.size() != 1 || meets(encoded.total())) return true;
    Encoded tail;
    uint64_t total = encoded.total();
    std::vector<CodedBlock> coded = encoded.coded;
    for (int attempt = 0; attempt < 5; ++attempt) {
      std::vector<MethodEncoder::TakenBlock> taken;
      for (const CodedBlock& block : coded)
        if (is_block(block)) taken.push_back({jobs_[block.job].index_in_pool, block.first, block.bytes});
      const std::optional<size_t> stay =
          pools_[0].encoder->aim_tail(0.9993 * double(budget) - double(total), taken);
      if (!stay) return attempt == 0;
      size_t kept = 0;  // of all that is stored, exceptions too
      for (size_t blocks = 0; blocks < *stay || !is_block(coded[kept]); ++kept)
        blocks += is_block(coded[kept]);
      tail = encode(nullptr, kept);
      uint64_t kept_bytes = 0;
      for (size_t i = 0; i < kept; ++i) kept_bytes += coded[i].stored_bytes();
      coded.resize(kept);
      coded.insert(coded.end(), tail.coded.begin(), tail.coded.end());
      tail.coded = coded;
      finish(tail);
      total = tail.total() + kept_bytes;
      if (!meets(total)) continue;
      encoded.blocks.shrink(kept_bytes);
      tail.blocks.copy_to(encoded.blocks);
      std::swap(encoded.blocks, tail.blocks);
      encoded = std::move(tail);
      return true;
    }
    return false;
  }

  /// Aims every pool at its share of the bytes; returns what is expected in all.
  double aim(double body) {
    double expected = 0;
    for (Pool& pool : pools_) expected += double(pool.encoder->aim_bytes(share_of(pool, body)));
    return expected;
  }

  /// A pool's share of the bytes.
  uint64_t share_of(const Pool& pool, double bytes) const {
    const double share =
        pools_.size() == 1 ? 1.0 : double(pool.input_bytes) / double(std::max<uint64_t>(1, input_bytes_));
    return uint64_t(bytes * share);
  }

  void aim_once() {
    for (Pool& pool : pools_) {
      if (options_.target.kind == TargetKind::native) {
        pool.encoder->aim_native();
        continue;
      }
      if (!options_.target.is_size()) {
        pool.encoder->aim_error(options_.target);
        continue;
      }
      const double share = double(pool.input_bytes) / double(std::max<uint64_t>(1, input_bytes_));
      pool.encoder->aim_payload_bits(uint64_t(double(budget_bytes()) * 8 * share));
    }
  }

  /// Directory bytes before any block is coded, with blocks of the average length that the target asks for.
  /// Their lengths differ as blocks' do: the directory's coder makes next to nothing of equal ones.
  uint64_t frame_overhead() const {
    wire::Directory directory = make_directory();
    for (wire::ParameterSet& set : directory.sets) set.bytes.clear();
    uint64_t blocks = 0;
    for (size_t j = 0; j < jobs_.size(); ++j) {
      FrameTensor& tensor = directory.tensors[j];
      tensor.block_bytes.resize(size_t(wire::block_count(tensor.info.elements(), tensor.block_log2)));
      if (takes_blocks(jobs_[j])) blocks += tensor.block_bytes.size();
    }
    const uint64_t average = budget_bytes() / std::max<uint64_t>(1, blocks),
                   checksums = wire::checksum_bytes * blocks;
    uint64_t number = 0;
    for (size_t j = 0; j < jobs_.size(); ++j)
      for (uint64_t& bytes : directory.tensors[j].block_bytes)
        if (takes_blocks(jobs_[j]))
          bytes = 1 + scattered_place(number++, std::min<uint64_t>(2 * average, UINT32_MAX));
    return wire::header_bytes + wire::footer_bytes + wire::write_directory(directory).size() + checksums;
  }

  bool takes_blocks(const Job& job) const {
    return pools_[job.pool].encoder->takes_blocks(job.index_in_pool);
  }

  wire::Directory make_directory() const {
    wire::Directory directory;
    directory.seed = shared_seed();
    directory.metadata = options_.metadata;
    directory.dumps = dumps_;
    std::map<std::pair<uint32_t, std::string>, uint32_t> sets;  // equal ones are stored once
    for (const Job& job : jobs_) {
      FrameTensor tensor;
      tensor.info = *job.pool_tensor.info;
      const MethodEncoder& encoder = *pools_[job.pool].encoder;
      StoredSet stored = encoder.stored_set(job.index_in_pool);
      tensor.method_id = stored.method_id;
      const auto [set, fresh] = sets.emplace(std::pair(stored.method_id, std::move(stored.parameters)),
                                             uint32_t(directory.sets.size()));
      if (fresh) directory.sets.push_back({set->first.first, set->first.second});
      tensor.parameter_set = set->second;
      tensor.block_log2 = encoder.block_log2(job.index_in_pool);
      const NonFinite& nonfinite = nonfinite_[job.pool_tensor.number];
      if (nonfinite.count > 0) {
        tensor.nonfinite_policy = uint8_t(options_.nonfinite);
        tensor.nonfinite_count = nonfinite.count;
      }
      directory.tensors.push_back(std::move(tensor));
    }
    return directory;
  }

  /// Directory and sums of what was coded.
  void finish(Encoded& encoded) const {
    encoded.directory = make_directory();
    encoded.tensor_bytes.assign(jobs_.size(), 0);
    encoded.tensor_sums.assign(jobs_.size(), {});
    for (const CodedBlock& block : encoded.coded) {
      FrameTensor& tensor = encoded.directory.tensors[block.job];
      if (block.exceptions)
        tensor.exception_bytes = block.bytes;
      else
        tensor.block_bytes.push_back(block.bytes);
      encoded.tensor_bytes[block.job] += block.stored_bytes();
      encoded.tensor_sums[block.job].add(block.sums);
    }
    encoded.stored_directory = wire::write_directory(encoded.directory);
  }

  /// Elements of the block that come back bit for bit, and not as they were coded.
  std::span<const uint64_t> kept_in(size_t job, uint64_t first, size_t count) const {
    const std::vector<uint64_t>& index = nonfinite_[job].kept.index;
    const auto begin = std::lower_bound(index.begin(), index.end(), first);
    return {begin, std::lower_bound(begin, index.end(), first + count)};
  }

  /// Measures a block with kept elements again: coded as zeros, they may decode to something else, which
  /// nobody will see.
  void leave_out_kept(std::span<const uint64_t> kept, uint64_t first, std::span<const float> values,
                      std::vector<float> decoded, DType dtype, BlockSums& sums) const {
    std::vector<float> original(values.begin(), values.end());
    for (uint64_t index : kept) original[size_t(index - first)] = decoded[size_t(index - first)] = 0;
    round_to_stored(dtype, decoded);
    const cpu::ErrorSums errors = cpu::error_sums(original, decoded);
    sums.squared_error = errors.squared_error;
    sums.dot = errors.dot;
    sums.decoded_energy = errors.decoded_energy;
    sums.error_sum = errors.error_sum;
    sums.max_error = errors.max_error;
  }

  /// Codes all blocks but the first `skipped`, to `direct` where it is given.
  Encoded encode(ByteSink* direct = nullptr, size_t skipped = 0) {
    Encoded encoded;
    if (direct != nullptr) encoded.blocks.forward_to(*direct);
    const wire::Directory directory = make_directory();
    const wire::SetDecoders decoders(directory);
    struct Block {
      size_t job = 0;
      size_t index = 0;
      uint64_t first = 0;
      size_t count = 0;
      bool exceptions = false;
      std::string bytes;
      BlockSums sums;
      Block* beside = nullptr;  ///< the next of its group
    };
    size_t j = 0;
    uint64_t at = 0, done = 0;
    size_t index = 0;
    // Blocks go round, so that their buffers are allocated once. The pipeline only points at them: one that
    // fails forgets what is on its way.
    std::mutex mutex;
    std::deque<Block> all_blocks;
    std::vector<Block*> unused;
    const auto fresh_block = [&] {
      Block* block = nullptr;
      {
        const std::lock_guard lock(mutex);
        if (unused.empty()) {
          block = &all_blocks.emplace_back();
        } else {
          block = unused.back();
          unused.pop_back();
        }
      }
      block->beside = nullptr;
      block->count = 0;
      block->exceptions = false;
      block->bytes.clear();
      block->sums = {};
      return block;
    };
    // Pools on a device hand their blocks over in order; others are coded here, by all threads.
    std::vector<std::unique_ptr<DeviceBlocks>> from_device(pools_.size());
    for (size_t p = 0; p < pools_.size(); ++p) {
      if (pools_[p].tensors->device() == nullptr) continue;
      from_device[p] = pools_[p].encoder->encode_on_device();
      if (!from_device[p] && options_.backend == Backend::cuda && !pools_[p].encoder->codes_on_processor())
        throw Error(
            Errc::backend_unavailable,
            fmt::format(
                "backend 'cuda' cannot be used: {} with these options is cpu only; use --backend cpu or auto",
                row_.info.name));
    }
    const auto next_block = [&]() -> Block* {
      for (; j < jobs_.size(); ++j, at = 0, index = 0) {
        const FrameTensor& tensor = directory.tensors[j];
        const uint64_t elements = tensor.info.elements(), length = uint64_t(1) << tensor.block_log2;
        for (; skipped > 0 && at < elements; --skipped, ++index) at += std::min(length, elements - at);
        if (at < elements) {
          Block* const block = fresh_block();
          block->job = j;
          block->index = index++;
          block->first = at;
          block->count = size_t(std::min(length, elements - at));
          at += block->count;
          const size_t pool = jobs_[j].pool;
          if (from_device[pool]) {
            const auto there = pools_[pool].tensors->go_to_device();
            from_device[pool]->next(block->bytes, block->sums);
          }
          return block;
        }
        if (!nonfinite_[j].kept.index.empty() && at == elements) {
          if (skipped > 0) {
            --skipped;
            continue;
          }
          Block* const block = fresh_block();
          block->job = j;
          block->index = index;
          block->exceptions = true;
          ++at;
          return block;
        }
      }
      return nullptr;
    };
    // A group is neighbouring blocks of a tensor that are coded side by side, or those of some short tensors
    // of a pool, by its first; anything else is one alone.
    const auto is_short = [&](const Block& block) {
      return !block.exceptions && !from_device[jobs_[block.job].pool] &&
             directory.tensors[block.job].info.elements() <= wire::short_tensor_elements;
    };
    Block* following = nullptr;
    const auto threads = size_t(tbb::this_task_arena::max_concurrency());
    const auto most_of_job = [&](size_t number) -> size_t {
      constexpr uint64_t most_held = uint64_t(1) << 20;  // elements that each thread has a copy of
      const Job& job = jobs_[number];
      const FrameTensor& tensor = directory.tensors[number];
      const size_t blocks = size_t(wire::block_count(tensor.info.elements(), tensor.block_log2));
      const size_t most = std::clamp<size_t>(blocks / threads, 1,
                                             pools_[job.pool].encoder->blocks_together(job.index_in_pool)),
                   few = std::max<size_t>(1, most_held >> tensor.block_log2);
      return most <= few || pools_[job.pool].tensors->lies_in_memory(job.index_in_pool) ? most : few;
    };
    size_t job_of_most = SIZE_MAX, most_of_this_job = 1;
    const auto most_together = [&](const Block& block) -> size_t {
      if (block.exceptions || from_device[jobs_[block.job].pool]) return 1;
      if (std::exchange(job_of_most, block.job) != block.job) most_of_this_job = most_of_job(block.job);
      return most_of_this_job;
    };
    const auto next_group = [&](tbb::flow_control& control) -> Block* {
      Block* const first = following ? following : next_block();
      following = nullptr;
      if (!first) {
        control.stop();
        return nullptr;
      }
      Block* last = first;
      const bool of_short = is_short(*first);
      for (size_t more = (of_short ? wire::short_tensors_together : most_together(*first)) - 1; more > 0;
           --more) {
        following = next_block();
        if (!following || following->exceptions) break;
        if (of_short ? !is_short(*following) || jobs_[following->job].pool != jobs_[first->job].pool
                     : following->job != first->job)
          break;
        last = last->beside = std::exchange(following, nullptr);
      }
      return first;
    };
    const auto code = [&](Block* const first) {
      if (first->exceptions) {
        first->bytes =
            wire::write_exceptions(nonfinite_[first->job].kept, jobs_[first->job].pool_tensor.info->dtype);
        return first;
      }
      static thread_local std::vector<std::vector<float>> scratch;
      const Pool& pool = pools_[jobs_[first->job].pool];
      const auto read = [&](const Block& block, std::vector<float>& buffer) {
        return pool.tensors->read(jobs_[block.job].index_in_pool, block.first, block.count, buffer);
      };
      if (!from_device[jobs_[first->job].pool]) {
        std::vector<MethodEncoder::Uncoded> group;
        for (Block* block = first; block; block = block->beside) {
          if (scratch.size() == group.size()) scratch.emplace_back();
          group.push_back({jobs_[block->job].index_in_pool, block->first, read(*block, scratch[group.size()]),
                           &block->bytes, &block->sums});
        }
        const size_t together = pool.encoder->blocks_together(group.front().tensor);
        for (size_t i = 0; i < group.size(); i += together)
          pool.encoder->encode_together(std::span(group).subspan(i, std::min(together, group.size() - i)),
                                        measured_);
      }
      for (Block* block = measured_ ? first : nullptr; block; block = block->beside) {
        const std::span<const uint64_t> kept = kept_in(block->job, block->first, block->count);
        if (kept.empty()) continue;
        if (scratch.empty()) scratch.emplace_back();
        std::vector<float> decoded(block->count);
        decoders.decode(block->job, block->index, block->bytes, decoded, "a block that was just coded");
        leave_out_kept(kept, block->first, read(*block, scratch[0]), std::move(decoded),
                       jobs_[block->job].pool_tensor.info->dtype, block->sums);
      }
      return first;
    };
    const auto store_block = [&](Block* block) {
      encoded.coded.push_back(
          {block->job, block->first, block->bytes.size(), block->exceptions, block->sums});
      if (!block->bytes.empty()) {
        const uint32_t checksum = wire::block_checksum(block->bytes, block->job, block->index);
        encoded.blocks.append({reinterpret_cast<const char*>(&checksum), sizeof checksum});
        encoded.blocks.append(block->bytes);
      }
      done += block->count;
      {
        const std::lock_guard lock(mutex);
        unused.push_back(block);
      }
      if (options_.progress) options_.progress(done, elements_);
    };
    const auto store = [&](Block* first) {
      for (Block* block = first; block;) {
        Block* const beside = block->beside;
        store_block(block);
        block = beside;
      }
    };
    tbb::parallel_pipeline(threads * 2,
                           tbb::make_filter<void, Block*>(tbb::filter_mode::serial_in_order, next_group) &
                               tbb::make_filter<Block*, Block*>(tbb::filter_mode::parallel, code) &
                               tbb::make_filter<Block*, void>(tbb::filter_mode::serial_in_order, store));
    finish(encoded);
    return encoded;
  }

  /// Whatever was found on the way, a report without errors has none.
  static void leave_out_errors(CompressReport& report) {
    constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
    const auto leave_out = [](Distortion& error) {
      error.squared_error = error.dot = error.decoded_energy = error.error_sum = error.max_error = unknown;
    };
    leave_out(report.distortion);
    for (TensorReport& tensor : report.tensors) leave_out(tensor.distortion);
    for (PoolReport& pool : report.pools) pool.expected_squared_error = pool.entropy_bits = unknown;
  }

  CompressReport report(const Encoded& encoded) const {
    CompressReport result;
    result.elements = elements_;
    result.input_bytes = input_bytes_;
    result.file_bytes = encoded.total();
    if (has_budget()) result.budget_bytes = budget_bytes();
    for (const wire::ParameterSet& set : encoded.directory.sets) result.parameter_bytes += set.bytes.size();
    uint64_t payload = 0;
    std::vector<BlockSums> pool_sums(pools_.size());
    for (size_t j = 0; j < jobs_.size(); ++j) pool_sums[jobs_[j].pool].add(encoded.tensor_sums[j]);
    for (size_t p = 0; p < pools_.size(); ++p)
      result.pools.push_back(pools_[p].encoder->report(pool_sums[p]));
    for (size_t j = 0; j < jobs_.size(); ++j) {
      const Job& job = jobs_[j];
      TensorReport tensor;
      tensor.name = job.pool_tensor.info->name;
      tensor.shape = job.pool_tensor.info->shape;
      tensor.dtype = job.pool_tensor.info->dtype;
      tensor.input_bytes = job.pool_tensor.info->stored_bytes();
      tensor.block_bytes = encoded.tensor_bytes[j];
      for (uint64_t bytes : encoded.directory.tensors[j].block_bytes) tensor.code_bytes += bytes;
      tensor.nonfinite = nonfinite_[j].count;
      tensor.pool = uint32_t(job.pool);
      const BlockSums& sums = encoded.tensor_sums[j];
      tensor.distortion = {job.pool_tensor.info->elements(),
                           pools_[job.pool].tensors->statistics(job.index_in_pool).energy,
                           sums.squared_error,
                           sums.dot,
                           sums.decoded_energy,
                           sums.error_sum,
                           sums.max_error};
      result.distortion.add(tensor.distortion);
      for (uint64_t bytes : encoded.directory.tensors[j].block_bytes) payload += bytes;
      result.tensors.push_back(std::move(tensor));
    }
    if (!options_.measure) leave_out_errors(result);
    result.frame_bytes =
        result.file_bytes - payload - std::min(result.parameter_bytes, result.file_bytes - payload);
    return result;
  }

  const CompressOptions& options_;
  const MethodRow& row_;
  bool measured_;  ///< errors, with the blocks
  std::vector<Job> jobs_;
  std::vector<FrameDump> dumps_;
  std::vector<Pool> pools_;
  std::vector<NonFinite> nonfinite_;
  uint64_t input_bytes_ = 0, elements_ = 0;
  double setup_seconds_ = 0;
};

/// A dump whose values are what feedback made of them; everything else is the original's.
class CodedSource final : public GradientSource {
 public:
  CodedSource(std::shared_ptr<const GradientSource> original, size_t tensors)
      : original_(std::move(original)), coded(tensors) {}
  const DumpInfo& dump() const override { return original_->dump(); }
  const std::vector<TensorInfo>& tensors() const override { return original_->tensors(); }
  std::span<const float> read(size_t t, uint64_t first, size_t count, std::vector<float>&) const override {
    return std::span<const float>(coded[t]).subspan(size_t(first), count);
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    original_->read_stored(t, first, count, out);
  }

 private:
  std::shared_ptr<const GradientSource> original_;

 public:
  std::vector<std::vector<float>> coded;  ///< of the tensors that are taken
};

/// One step of a sequence: feedback, coding, and the state that the next step starts from.
CompressReport compress_step(const std::vector<InputDump>& inputs, const CompressOptions& options,
                             ByteSink& out) {
  const FeedbackRule rule = feedback_rule(options);
  std::vector<std::pair<size_t, size_t>> taken;  // input, tensor of its source
  std::vector<const TensorInfo*> infos;
  for (size_t i = 0; i < inputs.size(); ++i)
    for (size_t k = 0; k < (inputs[i].all ? inputs[i].source->tensors().size() : inputs[i].tensors.size());
         ++k) {
      taken.emplace_back(i, inputs[i].all ? k : inputs[i].tensors[k]);
      infos.push_back(&inputs[i].source->tensors()[taken.back().second]);
    }
  State next = *options.state;
  next.bind(options.method.name, infos);

  std::vector<InputDump> coded = inputs;
  std::vector<std::shared_ptr<CodedSource>> sources;
  for (InputDump& input : coded) {
    sources.push_back(std::make_shared<CodedSource>(input.source, input.source->tensors().size()));
    input.source = sources.back();
  }
  std::vector<FeedbackStep> steps;
  std::vector<float> scratch;
  double energy = 0;
  for (size_t j = 0; j < taken.size() && rule.clip > 0; ++j)
    for (float g :
         inputs[taken[j].first].source->read(taken[j].second, 0, size_t(infos[j]->elements()), scratch))
      energy += std::isfinite(g) ? double(g) * double(g) : 0.0;
  const float factor = clipping_factor(rule, energy);
  for (size_t j = 0; j < taken.size(); ++j) {
    const auto [i, t] = taken[j];
    const std::span<const float> gradient =
        inputs[i].source->read(t, 0, size_t(infos[j]->elements()), scratch);
    steps.push_back(before_coding(rule, next, infos[j]->name, gradient, factor));
    sources[i]->coded[t] = steps.back().coded;
  }

  MemorySink frame;
  Compressor compressor(coded, options);
  CompressReport report = compressor.run(frame);
  const FrameReader reader = FrameReader::from_bytes(frame.bytes);
  for (size_t j = 0; j < taken.size(); ++j) {
    std::vector<float> decoded(size_t(infos[j]->elements()));
    reader.read(j, 0, decoded, options.threads);
    after_coding(rule, next, infos[j]->name, std::move(steps[j]), decoded);
  }
  compressor.save(next);
  ++next.step;
  out.write(std::as_bytes(std::span(frame.bytes)));
  *options.state = std::move(next);
  return report;
}

}  // namespace

CompressReport compress(const std::vector<InputDump>& inputs, const CompressOptions& options, ByteSink& out) {
  return on_threads(options.threads, [&] {
    return options.state != nullptr ? compress_step(inputs, options, out)
                                    : Compressor(inputs, options).run(out);
  });
}

}  // namespace jsq
