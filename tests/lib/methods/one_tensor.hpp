// For the tests of methods: one tensor, coded by a scheme at its native size, block by block, and decoded
// again. No expectations live here.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq::test {

struct OneTensor {
  std::vector<float> values;
  std::shared_ptr<const GradientSource> source;
  std::unique_ptr<TensorPool> pool;
  const MethodRow* row = nullptr;
  std::unique_ptr<Scheme> scheme;
  std::vector<std::string> blocks;
  std::vector<float> decoded;  ///< as the encoder says
  BlockSums sums;

  OneTensor(std::vector<float> data, const std::string& method, Rounding rounding = Rounding::automatic,
            uint64_t seed = 0, std::vector<uint64_t> shape = {}, bool fortran_order = false)
      : values(std::move(data)) {
    TensorInfo info;
    info.name = "weight";
    info.shape = shape.empty() ? std::vector<uint64_t>{values.size()} : shape;
    info.fortran_order = fortran_order;
    source = source_of(info, values);
    PoolTensor tensor;
    tensor.source = source.get();
    tensor.info = &source->tensors()[0];
    pool = std::make_unique<TensorPool>(std::vector<PoolTensor>{tensor});
    const MethodSpec spec = parse_method(method);
    row = &method_row(spec.name);
    scheme = row->make_scheme(*pool, spec, {rounding, seed, seed, nullptr});
    scheme->set_size(scheme->sizes().native, false);
    encode();
  }

  BlockPlace place(size_t first) const { return {0, first, &source->tensors()[0], 0}; }
  std::string parameters() const { return scheme->stored_set(0).parameters; }
  std::unique_ptr<MethodDecoder> decoder() const { return row->make_decoder(parameters(), "parameters"); }

  void encode() {
    decoded.assign(values.size(), 0.0f);
    const size_t length = size_t(1) << scheme->block_log2();
    for (size_t at = 0; at < values.size(); at += length) {
      const size_t count = std::min(length, values.size() - at);
      BlockSums block_sums;
      blocks.emplace_back();
      scheme->encode(0, place(at), std::span<const float>(values).subspan(at, count), blocks.back(),
                     std::span(decoded).subspan(at, count), block_sums);
      sums.add(block_sums);
    }
  }

  /// What a reader makes of the parameters and the blocks.
  std::vector<float> read_back() const {
    std::vector<float> out(values.size());
    const auto reader = decoder();
    const size_t length = size_t(1) << scheme->block_log2();
    size_t at = 0;
    for (const std::string& block : blocks) {
      const auto part = std::span(out).subspan(at, std::min(length, out.size() - at));
      if (!block.empty()) reader->decode_block(place(at), block, part, "block");
      at += length;
    }
    return out;
  }
};

/// The code with which `method` is refused; internal when it is not.
inline Errc refusal_of(const std::string& method, std::vector<float> values = {1, -2, 3},
                       std::vector<uint64_t> shape = {}) {
  try {
    OneTensor(std::move(values), method, Rounding::automatic, 0, std::move(shape));
  } catch (const Error& error) {
    return error.code();
  }
  return Errc::internal;
}

/// Whether `read` refuses what it reads as damaged.
template <class Read>
bool is_refused_as_damaged(Read read) {
  try {
    read();
  } catch (const Error& error) {
    return error.code() == Errc::damaged;
  }
  return false;
}

/// check_vectors.py 0: the input and the uniforms of its worked vectors.
inline const std::vector<float> v8 = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f, 0.0f, 3.0f, -4.0f};
inline const std::vector<float> u8 = {0.5f, 0.25f, 0.75f, 0.125f, 0.625f, 0.375f, 0.9375f, 0.0625f};

}  // namespace jsq::test
