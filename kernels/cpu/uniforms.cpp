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

/// How a word becomes an element of the output.
template <class Number>
struct Numbers;
template <>
struct Numbers<uint32_t> {
  static uint32_t of_word(uint32_t word) { return word; }
};
template <>
struct Numbers<float> {
  static float of_word(uint32_t word) { return float(int32_t(word >> 8)) * 0x1p-24f; }  // as uniform_of_word
};

#if HWY_TARGET == HWY_SCALAR

constexpr size_t counters = 1;

template <class Number>
void random_batch(const Stream& stream, const RoundKeys&, uint64_t quad, Number* HWY_RESTRICT out) {
  const element::PhiloxBlock block =
      element::philox4x32_10({{uint32_t(quad), uint32_t(quad >> 32), stream.tensor, stream.purpose}},
                             uint32_t(stream.seed), uint32_t(stream.seed >> 32));
  for (size_t i = 0; i < 4; ++i) out[i] = Numbers<Number>::of_word(block.word[i]);
}

#else

using Wide = hn::CappedTag<uint64_t, 8>;
constexpr size_t vector_counters = hn::MaxLanes(Wide());
/// Four vectors of counters side by side: a round has five cycles of latency and a fraction of that in work,
/// more than a processor looks ahead by itself.
constexpr size_t counters = 4 * vector_counters;

HWY_INLINE void store_words(hn::Vec<Wide> first_two, hn::Vec<Wide> last_two, uint32_t* out) {
  hn::StoreInterleaved2(first_two, last_two, Wide(), reinterpret_cast<uint64_t*>(out));
}
HWY_INLINE void store_words(hn::Vec<Wide> first_two, hn::Vec<Wide> last_two, float* out) {
  const hn::Repartition<uint32_t, Wide> d32;
  const hn::Repartition<int32_t, Wide> di;
  const hn::Repartition<float, Wide> df;
  const auto uniform = [&](auto words) HWY_ATTR {
    const auto upper = hn::BitCast(di, hn::ShiftRight<8>(hn::BitCast(d32, words)));
    return hn::BitCast(Wide(), hn::Mul(hn::ConvertTo(df, upper), hn::Set(df, 0x1p-24f)));
  };
  hn::StoreInterleaved2(uniform(first_two), uniform(last_two), Wide(), reinterpret_cast<uint64_t*>(out));
}

/// The four words of each counter of a vector, in the lower halves of 64-bit lanes. The upper halves hold
/// anything, and the multiplication ignores them.
struct CounterWords {
  hn::Vec<Wide> w0, w1, w2, w3;

  HWY_INLINE CounterWords(const Stream& stream, uint64_t quad) {
    const Wide d64;
    w0 = hn::Add(hn::Set(d64, quad), hn::Iota(d64, 0));
    w1 = hn::ShiftRight<32>(w0);
    w2 = hn::Set(d64, stream.tensor);
    w3 = hn::Set(d64, stream.purpose);
  }
  HWY_INLINE void next_round(hn::Vec<Wide> key0, hn::Vec<Wide> key1) {
    const hn::Repartition<uint32_t, Wide> d32;
    const auto product0 = hn::MulEven(hn::Set(d32, 0xD2511F53u), hn::BitCast(d32, w0)),
               product1 = hn::MulEven(hn::Set(d32, 0xCD9E8D57u), hn::BitCast(d32, w2));
    w0 = hn::Xor3(hn::ShiftRight<32>(product1), w1, key0);
    w1 = product1;
    w2 = hn::Xor3(hn::ShiftRight<32>(product0), w3, key1);
    w3 = product0;
  }
  template <class Number>
  HWY_INLINE void store(Number* out) const {
    const auto lower = hn::Set(Wide(), 0xffffffffu);
    store_words(hn::Or(hn::And(w0, lower), hn::ShiftLeft<32>(w1)),
                hn::Or(hn::And(w2, lower), hn::ShiftLeft<32>(w3)), out);
  }
};

/// The numbers of `counters` consecutive blocks from `quad` on, in the order of their elements.
template <class Number>
void random_batch(const Stream& stream, const RoundKeys& keys, uint64_t quad, Number* HWY_RESTRICT out) {
  const Wide d64;
  constexpr size_t n = vector_counters;
  CounterWords a(stream, quad), b(stream, quad + n), c(stream, quad + 2 * n), d(stream, quad + 3 * n);
  for (int round = 0; round < rounds; ++round) {
    const auto key0 = hn::Set(d64, keys.first[round]), key1 = hn::Set(d64, keys.second[round]);
    a.next_round(key0, key1);
    b.next_round(key0, key1);
    c.next_round(key0, key1);
    d.next_round(key0, key1);
  }
  a.store(out);
  b.store(out + 4 * n);
  c.store(out + 8 * n);
  d.store(out + 12 * n);
}

#endif

constexpr size_t words_of_batch = 4 * counters;

template <class Number>
void fill(const Stream& stream, uint64_t first_element, Number* out, size_t count) {
  HWY_ALIGN Number part[words_of_batch];
  const RoundKeys keys(stream.seed);
  uint64_t quad = first_element / 4;
  size_t skipped = size_t(first_element % 4), done = 0;
  for (; done < count; quad += counters) {
    if (skipped == 0 && count - done >= words_of_batch) {
      random_batch(stream, keys, quad, out + done);
      done += words_of_batch;
      continue;
    }
    random_batch(stream, keys, quad, part);
    const size_t n = count - done < words_of_batch - skipped ? count - done : words_of_batch - skipped;
    for (size_t i = 0; i < n; ++i) out[done + i] = part[skipped + i];
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
