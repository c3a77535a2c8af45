// A pool of tensors in memory coded by one method, block by block, and decoded again: what the tests of the
// methods share.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "lib/core/pool.hpp"
#include "lib/methods/method.hpp"
#include "lib/methods/scheme.hpp"

namespace jsq::test {

struct CodedPool {
  std::vector<std::vector<float>> tensors;
  MethodSpec spec;
  EncoderContext context;
  std::vector<std::shared_ptr<const GradientSource>> sources;
  std::unique_ptr<TensorPool> pool;
  std::unique_ptr<Scheme> scheme;

  CodedPool(std::vector<std::vector<float>> data, const std::string& method, uint64_t seed = 1,
            Rounding rounding = Rounding::automatic, DType dtype = DType::f32)
      : tensors(std::move(data)), spec(parse_method(method)), context{rounding, seed, seed + 1000, nullptr} {
    std::vector<PoolTensor> members;
    for (const std::vector<float>& values : tensors) {
      TensorInfo info;
      info.dtype = dtype;
      info.shape = {values.size()};
      sources.push_back(source_of(info, values));
      PoolTensor tensor;
      tensor.source = sources.back().get();
      tensor.info = &sources.back()->tensors()[0];
      tensor.number = uint32_t(members.size());
      members.push_back(tensor);
    }
    pool = std::make_unique<TensorPool>(std::move(members));
    scheme = method_row(spec.name).make_scheme(*pool, spec, context);
    set_size(scheme->sizes().native);
  }
  void set_size(uint64_t size) { scheme->set_size(size, false); }

  BlockPlace place(size_t t, uint64_t first) const {
    return {uint32_t(t), first, pool->tensors()[t].info, context.seed};
  }
  std::unique_ptr<MethodDecoder> decoder(size_t t = 0) const {
    return method_row(spec.name).make_decoder(scheme->stored_set(t).parameters, "parameters");
  }

  struct Result {
    std::vector<std::vector<float>> values;  ///< as the decoder gives them
    std::vector<std::vector<std::string>> blocks;
    BlockSums sums;
    size_t bytes = 0;
  };
  /// Codes every block; what the scheme says it decodes to has to be what the decoder gives, bit by bit.
  Result code() const {
    Result result;
    uint64_t unmeasured_bits = 0;
    const uint64_t length = uint64_t(1) << scheme->block_log2();
    for (size_t t = 0; t < tensors.size(); ++t) {
      result.values.emplace_back(tensors[t].size());
      result.blocks.emplace_back();
      for (uint64_t first = 0; first < tensors[t].size(); first += length) {
        const size_t count = size_t(std::min<uint64_t>(length, tensors[t].size() - first));
        std::vector<float> claimed(count, 42.0f);
        std::string block = "before";  // is appended to
        scheme->encode(t, place(t, first), std::span(tensors[t]).subspan(first, count), block, claimed,
                       result.sums);
        block.erase(0, 6);
        // Whoever asks for no errors gets the same bytes.
        std::string unmeasured;
        BlockSums counted;
        scheme->encode(t, place(t, first), std::span(tensors[t]).subspan(first, count), unmeasured, {},
                       counted);
        EXPECT_EQ(unmeasured == block, true) << to_string(spec) << " tensor " << t << " from " << first;
        unmeasured_bits += counted.nominal_bits;
        const std::span<float> out = std::span(result.values[t]).subspan(first, count);
        if (!block.empty()) decoder(t)->decode_block(place(t, first), block, out, "block");
        for (size_t i = 0; i < count; ++i)
          EXPECT_EQ(std::bit_cast<uint32_t>(out[i]), std::bit_cast<uint32_t>(claimed[i]))
              << to_string(spec) << " tensor " << t << " element " << first + i << ": " << out[i] << ' '
              << claimed[i];
        result.bytes += block.size();
        result.blocks[t].push_back(std::move(block));
      }
    }
    EXPECT_EQ(unmeasured_bits, result.sums.nominal_bits) << to_string(spec);
    return result;
  }

  /// What the first tensor decodes to.
  std::vector<float> decoded() const { return code().values[0]; }

  double energy() const {
    double sum = 0;
    for (const std::vector<float>& values : tensors)
      for (float g : values) sum += double(g) * double(g);
    return sum;
  }
  double squared_error(const Result& result) const {
    double sum = 0;
    for (size_t t = 0; t < tensors.size(); ++t)
      for (size_t i = 0; i < tensors[t].size(); ++i) {
        const double error = double(result.values[t][i]) - double(tensors[t][i]);
        sum += error * error;
      }
    return sum;
  }
};

/// The code of what making a coded pool throws; internal for nothing.
inline Errc refusal_of(const std::string& method, Rounding rounding = Rounding::automatic) {
  try {
    CodedPool({{1, 2, 3}}, method, 1, rounding);
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(parse_method(method).name), std::string::npos) << error.what();
    return error.code();
  }
  return Errc::internal;
}

/// Decodes the block where that is possible, and says whether it was; anything but Error damaged fails the
/// test.
inline bool decodes(const MethodDecoder& decoder, const BlockPlace& place, const std::string& block,
                    size_t count) {
  std::vector<float> values(count);
  try {
    decoder.decode_block(place, block, values, "block");
    for (float value : values) EXPECT_TRUE(std::isfinite(value));
    return true;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::damaged) << error.what();
    return false;
  }
}

inline const std::vector<float> v8 = {0.5f, -1.0f, 0.25f, 2.0f, -0.125f, 0.0f, 3.0f, -4.0f};

}  // namespace jsq::test
