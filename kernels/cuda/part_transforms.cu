// Transforms of parts undone: a thread adds an element's prediction, a sum of products of integers; kernels
// that went through a cosine transform lie in shared memory, where all threads take one axis after the other.
#include "kernels/cuda/part_transforms.hpp"

#include <utility>
#include <vector>

#include "kernels/cuda/warp.cuh"
#include "kernels/element/part_transform.hpp"

namespace jsq::cuda {
namespace {

constexpr uint32_t threads = 256;
constexpr uint32_t tile = 1024;  ///< elements of a thread block, at most

/// A piece, and the first thread block that works on it.
struct PieceView {
  UnitPiece piece;
  uint32_t first_block = 0;
  uint32_t length = tile;  ///< elements of a thread block
};

struct Arguments {
  const PieceView* pieces;
  uint32_t piece_count;
  const PartTransform* transforms;
  const int32_t* factors;
  const int32_t* cosines;  ///< [extent][u][i]
  double unit;
  float* values;
};

__device__ const PieceView& piece_of_block(const Arguments& a) {
  uint32_t low = 0, count = a.piece_count;
  while (count > 1) {
    const uint32_t half = count / 2;
    if (a.pieces[low + half].first_block <= blockIdx.x) low += half;
    count -= half;
  }
  return a.pieces[low];
}

/// What factors predict for element `i` of a piece.
__device__ int64_t prediction(const Arguments& a, const PartTransform& transform, const UnitPiece& piece,
                              uint32_t i) {
  const uint32_t kernel = piece.column + i / piece.inner, place = i % piece.inner;
  const uint32_t row = piece.row + kernel / piece.columns, column = kernel % piece.columns;
  const int32_t* const left = a.factors + transform.left + column;
  const int32_t* const right =
      a.factors + transform.right + uint64_t(row * piece.inner + place) * transform.rank;
  int64_t sum = 0;
  for (uint32_t j = 0; j < transform.rank; ++j) sum += int64_t(left[uint64_t(j) * piece.columns]) * right[j];
  return element::prediction_of_sum(sum);
}

/// Elements without a cosine transform.
__global__ void __launch_bounds__(threads) finish_elements(const __grid_constant__ Arguments a) {
  const PieceView& view = piece_of_block(a);
  const UnitPiece& piece = view.piece;
  const uint32_t begin = (blockIdx.x - view.first_block) * tile;
  const uint32_t end = piece.count - begin < tile ? piece.count : begin + tile;
  float* const values = a.values + piece.first;
  if (piece.transform == no_transform) {
    for (uint32_t i = begin + threadIdx.x; i < end; i += threads)
      values[i] = element::value_of_units(values[i], a.unit);
    return;
  }
  const PartTransform& transform = a.transforms[piece.transform];
  for (uint32_t i = begin + threadIdx.x; i < end; i += threads)
    values[i] = element::value_of_units(double(__float2ll_rn(values[i]) + prediction(a, transform, piece, i)),
                                        a.unit);
}

/// Whole kernels of a piece, as many as a tile holds.
__global__ void __launch_bounds__(threads) finish_kernels(const __grid_constant__ Arguments a) {
  __shared__ int64_t room[2][tile];
  const PieceView& view = piece_of_block(a);
  const UnitPiece& piece = view.piece;
  const PartTransform transform = a.transforms[piece.transform];
  const uint32_t begin = (blockIdx.x - view.first_block) * view.length;
  const uint32_t count = piece.count - begin < view.length ? piece.count - begin : view.length;
  float* const values = a.values + piece.first + begin;
  for (uint32_t i = threadIdx.x; i < count; i += threads) {
    int64_t x = __float2ll_rn(values[i]);
    if (transform.rank > 0) x += prediction(a, transform, piece, begin + i);
    room[0][i] = element::cut_coefficient(x) * (1 << element::cosine_fraction_bits);
  }
  uint32_t turn = 0;
#pragma unroll
  for (uint32_t axis = 0; axis < most_axes; ++axis) {
    if (axis >= transform.axes) break;
    __syncthreads();
    const uint32_t extent = transform.extent[axis], stride = transform.stride[axis];
    const int32_t* const cosine = a.cosines + transform.cosines[axis];
    for (uint32_t i = threadIdx.x; i < count; i += threads) {
      const uint32_t place = i / stride % extent, first = i - place * stride;
      int64_t sum = 0;
      for (uint32_t u = 0; u < extent; ++u)
        sum += room[turn][first + u * stride] * cosine[u * extent + place];
      room[turn ^ 1][i] = element::element_of_sum(sum);
    }
    turn ^= 1;
  }
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += threads)
    values[i] = element::value_of_units(double(element::without_fraction(room[turn][i])), a.unit);
}

}  // namespace

struct TransformRun::State {
  DeviceBuffer<PartTransform> transforms;
  DeviceBuffer<int32_t> factors, cosines;
  DeviceBuffer<PieceView> views[2];
  std::vector<PieceView> host_views[2];
  std::vector<uint8_t> has_cosine;  ///< by transform
  double unit = 1;
};

TransformRun::TransformRun(const PartTransforms& transforms) : state_(std::make_unique<State>()) {
  const Stream stream;
  const auto put = [&](auto& buffer, const auto& from) {
    buffer.reserve(from.size());
    copy_to_device(buffer.data(), from.data(), from.size(), stream);
  };
  put(state_->transforms, transforms.parts);
  put(state_->factors, transforms.factors);
  put(state_->cosines, transforms.cosines);
  stream.synchronize();
  for (const PartTransform& part : transforms.parts) state_->has_cosine.push_back(part.axes > 0);
  state_->unit = transforms.unit;
}
TransformRun::~TransformRun() = default;

void TransformRun::launch(std::span<const UnitPiece> pieces, float* values, const Stream& stream) {
  State& s = *state_;
  uint32_t blocks[2] = {};
  for (auto& views : s.host_views) views.clear();
  for (const UnitPiece& piece : pieces) {
    const bool cosine = piece.transform != no_transform && s.has_cosine[piece.transform];
    PieceView view{piece, blocks[cosine]};
    if (cosine) view.length = tile / piece.inner * piece.inner;
    blocks[cosine] += (piece.count + view.length - 1) / view.length;
    s.host_views[cosine].push_back(view);
  }
  for (const bool cosine : {false, true}) {
    const std::vector<PieceView>& views = s.host_views[cosine];
    if (views.empty()) continue;
    s.views[cosine].reserve(views.size());
    copy_to_device(s.views[cosine].data(), views.data(), views.size(), stream);
    const Arguments a{s.views[cosine].data(),
                      uint32_t(views.size()),
                      s.transforms.data(),
                      s.factors.data(),
                      s.cosines.data(),
                      s.unit,
                      values};
    (cosine ? finish_kernels : finish_elements)<<<blocks[cosine], threads, 0, stream>>>(a);
    check_launch("undoing transforms");
  }
}

}  // namespace jsq::cuda
