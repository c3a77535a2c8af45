// Thin products in a defined order. Along the runs eight lanes hold a dot product and take several runs at
// once, so that a number of the factor is read once for all of them; across the runs a thread has a column of
// the matrix. A matrix is read in what is on the device together: sums that a border cuts are carried over.
#include "kernels/cuda/low_rank.hpp"

#include "kernels/cuda/block_sums.cuh"
#include "kernels/cuda/copy_out.hpp"
#include "kernels/cuda/resident_values.hpp"
#include "kernels/element/outer_product.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t warps = 8, threads = warps * warp_size;
constexpr uint32_t dot_lanes = 8;
constexpr uint32_t runs_each = 4;    ///< dot products side by side in the same lanes
constexpr uint32_t dot_columns = 4;  ///< of one pass along the runs

/// Elements [first, first + count) of a tensor, in one place.
struct Stretch {
  const float* values = nullptr;
  uint64_t first = 0, count = 0;
  uint64_t width = 0, runs = 0;
  uint64_t first_run = 0, last_run = 0;  ///< that it has elements of
};

struct DotArguments {
  Stretch stretch;
  uint64_t panel = 0, panels = 0;
  const float* factor = nullptr;   ///< [k][width]
  double* products = nullptr;      ///< [k][run][panel]
  const double* before = nullptr;  ///< lanes of the panel that the last stretch did not finish: [k][lane]
  double* after = nullptr;
};

/// Panel blockIdx.y of runs: eight lanes take `runs_each` of them.
template <uint32_t columns>
__global__ void __launch_bounds__(threads) dot_panels(const __grid_constant__ DotArguments a) {
  const Stretch& s = a.stretch;
  const uint32_t lane = threadIdx.x % dot_lanes;
  const uint64_t p = blockIdx.y, panel_first = p * a.panel;
  const auto length = uint32_t(s.width - panel_first < a.panel ? s.width - panel_first : a.panel);
  const uint64_t group = (uint64_t(blockIdx.x) * threads + threadIdx.x) / dot_lanes;
  const float* factor = a.factor + panel_first;
  double sum[columns][runs_each] = {};
  const float* values[runs_each];
  uint32_t from[runs_each], to[runs_each], least = length, most = 0;
#pragma unroll
  for (uint32_t r = 0; r < runs_each; ++r) {
    const uint64_t run = s.first_run + group * runs_each + r, begin = run * s.width + panel_first,
                   end = begin + length, stretch_end = s.first + s.count;
    from[r] = to[r] = 0;
    values[r] = s.values;
    if (run > s.last_run || begin >= stretch_end || end <= s.first) continue;
    from[r] = begin < s.first ? uint32_t(s.first - begin) : 0;
    to[r] = end > stretch_end ? uint32_t(stretch_end - begin) : length;
    values[r] = s.values + (begin - s.first);  // may be in front of the stretch; only what is in it is read
    least = least < from[r] ? least : from[r];
    most = most > to[r] ? most : to[r];
    if (from[r] > 0)
#pragma unroll
      for (uint32_t k = 0; k < columns; ++k) sum[k][r] = a.before[k * dot_lanes + lane];
  }
  for (uint32_t i = least / dot_lanes * dot_lanes + lane; i < most; i += dot_lanes) {
    double number[columns];
#pragma unroll
    for (uint32_t k = 0; k < columns; ++k) number[k] = factor[k * s.width + i];
#pragma unroll
    for (uint32_t r = 0; r < runs_each; ++r) {
      if (i < from[r] || i >= to[r]) continue;
      const double value = values[r][i];
#pragma unroll
      for (uint32_t k = 0; k < columns; ++k) sum[k][r] += value * number[k];
    }
  }
  __syncwarp();
#pragma unroll
  for (uint32_t r = 0; r < runs_each; ++r) {
    const uint64_t run = s.first_run + group * runs_each + r;
#pragma unroll
    for (uint32_t k = 0; k < columns; ++k) {
      double folded = sum[k][r];
      for (uint32_t half = dot_lanes / 2; half > 0; half /= 2)
        folded += __shfl_down_sync(all_lanes, folded, half, int(dot_lanes));
      if (to[r] == 0) continue;
      if (to[r] < length)
        a.after[k * dot_lanes + lane] = sum[k][r];
      else if (lane == 0)
        a.products[(k * s.runs + run) * a.panels + p] = folded;
    }
  }
}

struct WeightArguments {
  Stretch stretch;
  uint64_t group = 0;              ///< runs
  const float* weights = nullptr;  ///< [k][run]
  double* sums = nullptr;          ///< [group][k][width]
};

/// Group blockIdx.y; a thread has one element of every run.
template <uint32_t columns>
__global__ void __launch_bounds__(threads) add_weighted(const __grid_constant__ WeightArguments a) {
  constexpr uint32_t unroll = 4;
  const Stretch& s = a.stretch;
  const uint64_t i = uint64_t(blockIdx.x) * threads + threadIdx.x, g = blockIdx.y;
  if (i >= s.width) return;
  // Runs whose element i lies in the stretch.
  const uint64_t end = s.first + s.count;
  uint64_t from = s.first > i ? (s.first - i + s.width - 1) / s.width : 0,
           to = end > i ? (end - i + s.width - 1) / s.width : 0;
  from = from > g * a.group ? from : g * a.group;
  to = to < (g + 1) * a.group ? to : (g + 1) * a.group;
  to = to < s.runs ? to : s.runs;
  if (from >= to) return;
  double* sums = a.sums + g * columns * s.width + i;
  double sum[columns];
#pragma unroll
  for (uint32_t k = 0; k < columns; ++k) sum[k] = sums[k * s.width];
  const float* value = s.values + (from * s.width + i - s.first);
  uint64_t run = from;
  for (; run + unroll <= to; run += unroll, value += unroll * s.width) {
    float v[unroll];
#pragma unroll
    for (uint32_t o = 0; o < unroll; ++o) v[o] = value[o * s.width];
#pragma unroll
    for (uint32_t o = 0; o < unroll; ++o)
#pragma unroll
      for (uint32_t k = 0; k < columns; ++k) sum[k] += double(v[o]) * double(a.weights[k * s.runs + run + o]);
  }
  for (; run < to; ++run, value += s.width)
#pragma unroll
    for (uint32_t k = 0; k < columns; ++k) sum[k] += double(*value) * double(a.weights[k * s.runs + run]);
#pragma unroll
  for (uint32_t k = 0; k < columns; ++k) sums[k * s.width] = sum[k];
}

/// sums[0] += sums[1], ...: the groups in order.
__global__ void __launch_bounds__(threads) add_groups(double* sums, uint64_t each, uint64_t groups) {
  const uint64_t i = uint64_t(blockIdx.x) * threads + threadIdx.x;
  if (i >= each) return;
  double sum = sums[i];
  for (uint64_t g = 1; g < groups; ++g) sum += sums[g * each + i];
  sums[i] = sum;
}

/// A block of a product of factors: its elements from the rows of one factor and the columns of the other.
struct OuterView {
  const float* rows = nullptr;  ///< number (row, k) at row x row_stride + k x column_stride
  uint64_t row_stride = 0, column_stride = 0;
  uint64_t offset = 0;  ///< of its first element in its first run
  uint32_t count = 0;
  bool zero = false;
};
struct OuterColumns {
  const float* inner = nullptr;  ///< [k][width]
  uint64_t width = 0;
  uint32_t rank = 0;
  element::OuterScale scale;
};

/// Element i: products in order, in f32.
__device__ float outer_value(const OuterView& view, const OuterColumns& columns, uint32_t i) {
  if (view.zero) return 0;
  uint64_t row, column;
  if (columns.width <= INT32_MAX) {
    const uint32_t at = uint32_t(view.offset) + i, width = uint32_t(columns.width);
    row = at / width;
    column = at % width;
  } else {
    const uint64_t at = view.offset + i;
    row = at >= columns.width;
    column = row ? at - columns.width : at;
  }
  const float* weight = view.rows + row * view.row_stride;
  const float* factor = columns.inner + column;
  float sum = weight[0] * factor[0];
  for (uint32_t k = 1; k < columns.rank; ++k)
    sum += weight[k * view.column_stride] * factor[k * columns.width];
  return element::scaled_outer(columns.scale, sum);
}

constexpr uint32_t tile = threads;
struct Tile {
  float g[tile], coded[tile], decoded[tile];
};

/// One thread block sums a block: all warps decode a tile while half warps sum the one before.
__global__ void __launch_bounds__(threads)
    sum_outer(const BlockView* blocks, const OuterView* views, const __grid_constant__ OuterColumns columns,
              OuterSums* sums) {
  __shared__ Tile tiles[2];
  const BlockView block = blocks[blockIdx.x];
  const OuterView view = views[blockIdx.x];
  const uint32_t which = threadIdx.x / element::sum_lanes, coded_error = ErrorLane::none;
  ErrorLane errors;
  double coded_squared_error = 0;
  uint32_t turn = 0;
  for (uint32_t at = 0; at < block.count; at += tile, turn ^= 1) {
    Tile& values = tiles[turn];
    const uint32_t index = at + threadIdx.x;
    if (index < block.count) {
      const float coded = outer_value(view, columns, index);
      values.g[threadIdx.x] = block.values[index];
      values.coded[threadIdx.x] = coded;
      values.decoded[threadIdx.x] = element::round_to_stored(block.stored, coded);
    }
    __syncthreads();
    // The other tile is written next, and this one again only behind the next barrier.
    if (which > coded_error) continue;
    const uint32_t count = block.count - at < tile ? block.count - at : tile;
    for (uint32_t i = threadIdx.x % element::sum_lanes; i < count; i += element::sum_lanes) {
      const double g = values.g[i];
      if (which < coded_error) {
        errors.add(ErrorLane::Which(which), g, values.decoded[i]);
      } else {
        const double off = double(values.coded[i]) - g;
        coded_squared_error += off * off;
      }
    }
  }
  if (warp_of() > coded_error / 2) return;
  LevelSums found;
  errors.finish(ErrorLane::Which(which), found);
  coded_squared_error = fold_lanes(coded_squared_error);
  if (threadIdx.x % element::sum_lanes != 0) return;
  OuterSums& out = sums[blockIdx.x];
  if (which == ErrorLane::squared_error) out.squared_error = found.squared_error;
  if (which == ErrorLane::dot) out.dot = found.dot;
  if (which == ErrorLane::decoded_energy) out.decoded_energy = found.decoded_energy;
  if (which == ErrorLane::error_sum) {
    out.error_sum = found.error_sum;
    out.max_error = found.max_error;
  }
  if (which == coded_error) out.coded_squared_error = coded_squared_error;
}

struct DecodeView {
  OuterView outer;
  float* values = nullptr;
};

/// blockIdx.x: block; blockIdx.y: part of it.
__global__ void __launch_bounds__(threads)
    decode_outer(const DecodeView* views, const __grid_constant__ OuterColumns columns) {
  const DecodeView view = views[blockIdx.x];
  for (uint32_t i = blockIdx.y * threads + threadIdx.x; i < view.outer.count; i += gridDim.y * threads)
    view.values[i] = outer_value(view.outer, columns, i);
}

uint32_t blocks_for(uint64_t work) {
  const uint64_t blocks = (work + threads - 1) / threads;
  if (blocks > INT32_MAX)
    throw DeviceError("a matrix of this shape has too many rows or columns for a device");
  return uint32_t(blocks);
}

/// A launch of kernel<columns>.
template <template <uint32_t> class Launch, class... Arguments>
void launch_columns(size_t columns, Arguments&&... arguments) {
  switch (columns) {
    case 1:
      return Launch<1>::run(arguments...);
    case 2:
      return Launch<2>::run(arguments...);
    case 3:
      return Launch<3>::run(arguments...);
    case 4:
      return Launch<4>::run(arguments...);
    case 5:
      return Launch<5>::run(arguments...);
    case 6:
      return Launch<6>::run(arguments...);
    case 7:
      return Launch<7>::run(arguments...);
    default:
      return Launch<8>::run(arguments...);
  }
}
template <uint32_t columns>
struct LaunchDot {
  static void run(const DotArguments& a, dim3 grid, const Stream& stream) {
    if constexpr (columns <= dot_columns) dot_panels<columns><<<grid, threads, 0, stream>>>(a);
    check_launch("multiplying along runs");
  }
};
template <uint32_t columns>
struct LaunchWeighted {
  static void run(const WeightArguments& a, dim3 grid, const Stream& stream) {
    add_weighted<columns><<<grid, threads, 0, stream>>>(a);
    check_launch("multiplying across runs");
  }
};

}  // namespace

/// Passes over one tensor of a pool.
class ThinPass {
 public:
  ThinPass(PoolValues& pool, const StoredRuns& runs)
      : pool_(static_cast<ResidentValues&>(pool)), runs_(runs) {}

  std::vector<double> dots(uint64_t panel, const ThinColumns& factor) {
    const uint64_t panels = (runs_.width + panel - 1) / panel, each = runs_.count * panels;
    if (panels > UINT16_MAX) throw DeviceError("a matrix with runs this long is not supported on a device");
    std::vector<double> products(factor.columns * each);
    DeviceBuffer<double> room(dot_columns * each), carried(2 * dot_columns * dot_lanes);
    DeviceBuffer<float> numbers(dot_columns * runs_.width);
    for (size_t k = 0; k < factor.columns; k += dot_columns) {
      const size_t columns = std::min<size_t>(dot_columns, factor.columns - k);
      put({factor.numbers + k * factor.stride, factor.stride, columns}, runs_.width, numbers);
      size_t turn = 0;
      for_stretches([&](const Stretch& stretch) {
        DotArguments a;
        a.stretch = stretch;
        a.panel = panel;
        a.panels = panels;
        a.factor = numbers.data();
        a.products = room.data();
        a.before = carried.data() + turn * dot_columns * dot_lanes;
        a.after = carried.data() + (turn ^ 1) * dot_columns * dot_lanes;
        turn ^= 1;
        const uint64_t groups = (stretch.last_run - stretch.first_run) / runs_each + 1;
        launch_columns<LaunchDot>(columns, a, dim3(blocks_for(groups * dot_lanes), uint32_t(panels)),
                                  pool_.compute_);
      });
      copy_to_host(products.data() + k * each, room.data(), columns * each, pool_.compute_);
      pool_.compute_.synchronize();
    }
    return products;
  }

  std::vector<double> weighted(uint64_t group, const ThinColumns& weights) {
    const uint64_t groups = (runs_.count + group - 1) / group, each = weights.columns * runs_.width;
    if (groups > UINT16_MAX) throw DeviceError("too many groups of runs");
    DeviceBuffer<double> sums(groups * each);
    DeviceBuffer<float> numbers(weights.columns * runs_.count);
    put(weights, runs_.count, numbers);
    clear(sums.data(), groups * each, pool_.compute_);
    for_stretches([&](const Stretch& stretch) {
      WeightArguments a;
      a.stretch = stretch;
      a.group = group;
      a.weights = numbers.data();
      a.sums = sums.data();
      launch_columns<LaunchWeighted>(weights.columns, a, dim3(blocks_for(runs_.width), uint32_t(groups)),
                                     pool_.compute_);
    });
    add_groups<<<blocks_for(each), threads, 0, pool_.compute_>>>(sums.data(), each, groups);
    check_launch("adding groups of runs");
    std::vector<double> all(each);
    copy_to_host(all.data(), sums.data(), each, pool_.compute_);
    pool_.compute_.synchronize();
    return all;
  }

  std::vector<OuterSums> errors(const OuterProduct& product, std::span<const float> outer,
                                std::span<const BlockRange> blocks, std::span<const uint8_t> zero) {
    std::vector<OuterSums> sums;
    DeviceBuffer<float> inner_numbers(product.inner.size() + 1), outer_numbers(outer.size() + 1);
    copy_to_device(inner_numbers.data(), product.inner.data(), product.inner.size(), pool_.compute_);
    copy_to_device(outer_numbers.data(), outer.data(), outer.size(), pool_.compute_);
    OuterColumns columns;
    columns.inner = inner_numbers.data();
    columns.width = product.width;
    columns.rank = uint32_t(product.rank);
    columns.scale = element::outer_scale(product.exponent);
    DeviceBuffer<BlockView> device_blocks;
    DeviceBuffer<OuterView> device_views;
    DeviceBuffer<OuterSums> device_sums;
    std::vector<OuterView> views;
    const auto launch = [&](size_t begin, const std::vector<BlockView>& values) {
      views.clear();
      for (size_t b = begin; b < begin + values.size(); ++b) {
        const BlockRange& block = blocks[b];
        OuterView view;
        view.rows = outer_numbers.data() + block.first / product.width;
        view.row_stride = 1;
        view.column_stride = runs_.count;
        view.offset = block.first % product.width;
        view.count = uint32_t(block.count);
        view.zero = zero[b] != 0;
        views.push_back(view);
      }
      device_blocks.reserve(values.size());
      device_views.reserve(views.size());
      device_sums.reserve(views.size());
      copy_to_device(device_blocks.data(), values.data(), values.size(), pool_.compute_);
      copy_to_device(device_views.data(), views.data(), views.size(), pool_.compute_);
      sum_outer<<<uint32_t(views.size()), threads, 0, pool_.compute_>>>(
          device_blocks.data(), device_views.data(), columns, device_sums.data());
      check_launch("summing errors of a product");
    };
    pool_.for_blocks(blocks, UINT64_MAX, launch, [&](size_t, const std::vector<BlockView>& values) {
      pool_.append(sums, device_sums, values.size());
    });
    return sums;
  }

 private:
  /// Columns side by side on the device.
  void put(const ThinColumns& columns, uint64_t rows, DeviceBuffer<float>& numbers) {
    for (size_t k = 0; k < columns.columns; ++k)
      copy_to_device(numbers.data() + k * rows, columns.numbers + k * columns.stride, rows, pool_.compute_);
  }

  /// use(stretch) for all that is on the device together, in order.
  template <class Use>
  void for_stretches(Use use) {
    pool_.for_batches_with([&](const Batch& batch) { return stretch_of(batch).count > 0; },
                           [&](const Batch& batch) { use(stretch_of(batch)); }, [](const Batch&) {});
  }
  /// What of the runs a batch holds; its count is 0 where it holds none.
  Stretch stretch_of(const Batch& batch) const {
    Stretch stretch;
    stretch.count = 0;
    const std::vector<Piece>& pieces = batch.pieces;
    const auto first = std::find_if(pieces.begin(), pieces.end(),
                                    [&](const Piece& piece) { return piece.tensor == runs_.tensor; });
    if (first == pieces.end()) return stretch;
    // Pieces of a tensor lie side by side: all but its last are whole.
    uint64_t there = first->first;
    for (auto piece = first; piece != pieces.end() && piece->tensor == runs_.tensor; ++piece)
      there += piece->count;
    const uint64_t begin = std::max(first->first, runs_.first),
                   end = std::min(there, runs_.first + runs_.width * runs_.count);
    if (begin >= end) return stretch;
    stretch.values = pool_.values_of(*first) + (begin - first->first);
    stretch.first = begin - runs_.first;
    stretch.count = end - begin;
    stretch.width = runs_.width;
    stretch.runs = runs_.count;
    stretch.first_run = stretch.first / runs_.width;
    stretch.last_run = (stretch.first + stretch.count - 1) / runs_.width;
    return stretch;
  }

  ResidentValues& pool_;
  StoredRuns runs_;
};

std::vector<double> panel_products(PoolValues& pool, const StoredRuns& runs, uint64_t panel,
                                   const ThinColumns& factor) {
  return ThinPass(pool, runs).dots(panel, factor);
}

std::vector<double> weighted_runs(PoolValues& pool, const StoredRuns& runs, uint64_t group,
                                  const ThinColumns& weights) {
  return ThinPass(pool, runs).weighted(group, weights);
}

std::vector<OuterSums> sum_outer_errors(PoolValues& pool, const OuterProduct& product,
                                        std::span<const float> outer, uint64_t runs,
                                        std::span<const BlockRange> blocks, std::span<const uint8_t> zero) {
  if (blocks.empty()) return {};
  return ThinPass(pool, {blocks[0].tensor, product.width, runs}).errors(product, outer, blocks, zero);
}

namespace {

/// From and to host memory.
class OuterRun final : public OuterDecoder {
 public:
  void decode(const OuterProduct& product, std::span<const float> numbers, std::span<const Block> blocks,
              std::span<float> values) override {
    inner_.reserve(product.inner.size() + 1);
    numbers_.reserve(numbers.size() + 1);
    values_.reserve(values.size());
    copy_to_device(inner_.data(), product.inner.data(), product.inner.size(), stream_);
    copy_to_device(numbers_.data(), numbers.data(), numbers.size(), stream_);
    std::vector<DecodeView> views;
    uint32_t most = 1;
    for (const Block& block : blocks) {
      DecodeView view;
      view.outer.rows = numbers_.data() + block.numbers;
      view.outer.row_stride = product.rank;
      view.outer.column_stride = 1;
      view.outer.offset = product.width ? block.first_element % product.width : 0;
      view.outer.count = uint32_t(block.count);
      view.outer.zero = block.zero;
      view.values = values_.data() + block.first;
      most = std::max(most, view.outer.count);
      views.push_back(view);
    }
    OuterColumns columns;
    columns.inner = inner_.data();
    columns.width = product.width;
    columns.rank = uint32_t(product.rank);
    columns.scale = element::outer_scale(product.exponent);
    views_.reserve(views.size());
    copy_to_device(views_.data(), views.data(), views.size(), stream_);
    constexpr uint32_t elements_each = 4 * threads;
    decode_outer<<<dim3(uint32_t(views.size()), (most + elements_each - 1) / elements_each), threads, 0,
                   stream_>>>(views_.data(), columns);
    check_launch("decoding a product");
    // What lies side by side comes back together.
    for (size_t b = 0, next = 0; b < blocks.size(); b = next) {
      size_t count = 0;
      for (next = b; next < blocks.size() && blocks[next].first == blocks[b].first + count; ++next)
        count += blocks[next].count;
      copy_out(values.data() + blocks[b].first, values_.data() + blocks[b].first, count, stream_);
    }
    stream_.synchronize();
  }

 private:
  Stream stream_;
  DeviceBuffer<float> inner_, numbers_, values_;
  DeviceBuffer<DecodeView> views_;
};

}  // namespace

std::unique_ptr<OuterDecoder> make_outer_decoder() {
  return std::make_unique<OuterRun>();
}

}  // namespace jsq::cuda
