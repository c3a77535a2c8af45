// Philox over arrays: the ten rounds run on `counters` blocks side by side, compiled once per SIMD level.
// Compilers spend most of a plain loop shuffling the halves of its products (3.7 ns a word), so this one says
// which halves it multiplies.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/uniforms.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "kernels/cpu/uniforms.hpp"

HWY_BEFORE_NAMESPACE();
namespace jsq::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int rounds = 10;

struct Stream {
  uint64_t seed;
  uint32_t tensor, purpose;
};

/// The keys of all rounds, which a vector loop reads where it needs them.
struct RoundKeys {
  uint64_t first[rounds], second[rounds];
  explicit RoundKeys(uint64_t seed) {
    uint32_t key0 = uint32_t(seed), key1 = uint32_t(seed >> 32);
    for (int round = 0; round < rounds; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
      first[round] = key0;
      second[round] = key1;
    }
  }
};

#if HWY_TARGET == HWY_SCALAR

constexpr size_t counters = 1;

void random_batch(const Stream& stream, const RoundKeys&, uint64_t quad, uint32_t* HWY_RESTRICT words) {
  const element::PhiloxBlock block =
      element::philox4x32_10({{uint32_t(quad), uint32_t(quad >> 32), stream.tensor, stream.purpose}},
                             uint32_t(stream.seed), uint32_t(stream.seed >> 32));
  for (size_t i = 0; i < 4; ++i) words[i] = block.word[i];
}

#else

constexpr size_t counters = 16;

/// The words of `counters` consecutive blocks from `quad` on, in the order of their elements. A 64-bit lane
/// holds a word of one counter in its lower half; the upper half holds anything, and the multiplication
/// ignores it.
void random_batch(const Stream& stream, const RoundKeys& keys, uint64_t quad, uint32_t* HWY_RESTRICT words) {
  const hn::CappedTag<uint64_t, counters> d64;
  const hn::Repartition<uint32_t, decltype(d64)> d32;
  const auto product = [&](auto a, auto b)
                           HWY_ATTR { return hn::MulEven(hn::BitCast(d32, a), hn::BitCast(d32, b)); };
  const auto multiplier0 = hn::Set(d64, 0xD2511F53u), multiplier1 = hn::Set(d64, 0xCD9E8D57u);
  for (size_t l = 0; l < counters; l += hn::Lanes(d64)) {
    auto c0 = hn::Add(hn::Set(d64, quad + l), hn::Iota(d64, 0));
    auto c1 = hn::ShiftRight<32>(c0);
    auto c2 = hn::Set(d64, stream.tensor), c3 = hn::Set(d64, stream.purpose);
    for (int round = 0; round < rounds; ++round) {
      const auto product0 = product(multiplier0, c0), product1 = product(multiplier1, c2);
      c0 = hn::Xor3(hn::ShiftRight<32>(product1), c1, hn::Set(d64, keys.first[round]));
      c1 = product1;
      c2 = hn::Xor3(hn::ShiftRight<32>(product0), c3, hn::Set(d64, keys.second[round]));
      c3 = product0;
    }
    const auto lower = hn::Set(d64, 0xffffffffu);
    const auto first_two = hn::Or(hn::And(c0, lower), hn::ShiftLeft<32>(c1));
    const auto last_two = hn::Or(hn::And(c2, lower), hn::ShiftLeft<32>(c3));
    hn::StoreInterleaved2(first_two, last_two, d64, reinterpret_cast<uint64_t*>(words + 4 * l));
  }
}

#endif

constexpr size_t words_of_batch = 4 * counters;

void store(const uint32_t* words, size_t count, uint32_t* out) {
  for (size_t i = 0; i < count; ++i) out[i] = words[i];
}
void store(const uint32_t* words, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) out[i] = float(int32_t(words[i] >> 8)) * 0x1p-24f;  // as uniform_of_word
}

template <class Number>
void fill(const Stream& stream, uint64_t first_element, Number* out, size_t count) {
  HWY_ALIGN uint32_t words[words_of_batch];
  const RoundKeys keys(stream.seed);
  uint64_t quad = first_element / 4;
  size_t skipped = size_t(first_element % 4), done = 0;
  for (; done < count; quad += counters) {
    random_batch(stream, keys, quad, words);
    const size_t n = count - done < words_of_batch - skipped ? count - done : words_of_batch - skipped;
    if (n == words_of_batch)
      store(words, words_of_batch, out + done);
    else
      store(words + skipped, n, out + done);
    done += n;
    skipped = 0;
  }
}

void words_of(uint64_t seed, uint64_t first_element, uint32_t tensor, uint32_t purpose, uint32_t* out,
              size_t count) {
  fill(Stream{seed, tensor, purpose}, first_element, out, count);
}
void uniforms_of(uint64_t seed, uint64_t first_element, uint32_t tensor, uint32_t purpose, float* out,
                 size_t count) {
  fill(Stream{seed, tensor, purpose}, first_element, out, count);
}

size_t list_up_to(const uint32_t* words, size_t count, uint32_t limit, uint32_t* indices) {
  size_t k = 0, i = 0;
#if HWY_TARGET <= HWY_AVX3
  // Only AVX-512 compresses in hardware.
  const hn::CappedTag<uint32_t, 16> d;
  const size_t lanes = hn::Lanes(d);
  auto index = hn::Iota(d, 0);
  for (; i + lanes <= count; i += lanes) {
    const auto kept = hn::Not(hn::Gt(hn::LoadU(d, words + i), hn::Set(d, limit)));
    // Compressing in a register and storing whole: compressing stores are microcoded on some processors.
    hn::StoreU(hn::Compress(index, kept), d, indices + k);
    k += hn::CountTrue(d, kept);
    index = hn::Add(index, hn::Set(d, uint32_t(lanes)));
  }
#endif
  for (; i < count; ++i) {
    indices[k] = uint32_t(i);
    k += words[i] <= limit;
  }
  return k;
}

}  // namespace jsq::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace jsq::cpu {

HWY_EXPORT(words_of);
HWY_EXPORT(uniforms_of);
HWY_EXPORT(list_up_to);

void fill_words(uint64_t seed, uint64_t first_element, uint32_t tensor, element::RandomPurpose purpose,
                std::span<uint32_t> words) {
  HWY_DYNAMIC_DISPATCH(words_of)(seed, first_element, tensor, uint32_t(purpose), words.data(), words.size());
}

void fill_uniforms(uint64_t seed, uint64_t first_element, uint32_t tensor, element::RandomPurpose purpose,
                   std::span<float> uniforms) {
  HWY_DYNAMIC_DISPATCH(uniforms_of)
  (seed, first_element, tensor, uint32_t(purpose), uniforms.data(), uniforms.size());
}

size_t list_words_up_to(std::span<const uint32_t> words, uint32_t limit, uint32_t* indices) {
  return HWY_DYNAMIC_DISPATCH(list_up_to)(words.data(), words.size(), limit, indices);
}

}  // namespace jsq::cpu
#endif
