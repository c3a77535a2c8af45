#include "kernels/cpu/rans_stream.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/rans_take.hpp"

namespace jsq::cpu {

using element::RansSlot;
using element::RansSymbol;

RansEncoder::RansEncoder(uint32_t lanes, size_t symbols_at_most)
    : lanes_(lanes),
      size_(symbols_at_most + eights_slack),
      words_(std::make_unique_for_overwrite<uint16_t[]>(size_)),
      first_word_(size_) {
  std::fill(states_, states_ + max_lanes, element::rans_lower_bound);
}

size_t RansEncoder::encode_last(std::span<const uint16_t> ids, const RansSymbol* table) {
  uint16_t* out = next();
  const size_t groups = lanes_ == 8 ? ids.size() / 8 : 0;
  const uint32_t mask = lanes_ - 1;
  for (size_t i = ids.size(); i-- > 8 * groups;) {
    const RansSymbol& symbol = table[ids[i]];
    uint32_t& state = states_[i & mask];
    if (element::rans_needs_word(state, symbol.frequency)) {
      *--out = uint16_t(state);
      state >>= 16;
    }
    state = element::rans_push(state, symbol);
  }
  first_word_ = size_t(out - words_.get());
  return groups;
}

void RansEncoder::encode_section(std::span<const uint16_t> ids, const RansSymbol* table) {
  const size_t groups = encode_last(ids, table);
  first_word_ = size_t(encode_eights(ids.data(), groups, table, states_, next()) - words_.get());
}

void RansEncoder::encode_section(std::span<const uint16_t> ids, std::span<const RansSymbol> table) {
  const size_t groups = encode_last(ids, table.data());
  first_word_ = size_t(encode_eights_small(ids.data(), groups, table.data(), table.size(), states_, next()) -
                       words_.get());
}

/// A symbol of every stream after the other: a step of one is a chain of multiplications. Without a branch on
/// a state's need of a word, which would often be guessed wrong.
template <uint32_t lanes>
void RansEncoder::encode_in_turns(EncodingLanes* streams, const uint16_t* const* ids, size_t length,
                                  const RansSymbol* table) {
  EncodingLanes own[encoded_together];
  const uint16_t* list[encoded_together];
  std::copy(streams, streams + encoded_together, own);
  std::copy(ids, ids + encoded_together, list);
  for (size_t i = length; i-- > 0;)
    for (size_t k = 0; k < encoded_together; ++k) {
      const RansSymbol& symbol = table[list[k][i]];
      uint32_t& state = own[k].states[i % lanes];
      const uint32_t needs = element::rans_needs_word(state, symbol.frequency);
      own[k].first[-1] = uint16_t(state);
      own[k].first -= needs;
      state = element::rans_push(state >> 16 * needs, symbol);
    }
  std::copy(own, own + encoded_together, streams);
}

void RansEncoder::encode_sections(std::span<RansEncoder> encoders, const uint16_t* const* ids, size_t length,
                                  const SymbolTable& table) {
  EncodingLanes streams[encoded_together];
  const uint16_t* lists[encoded_together];
  for (size_t k = 0; k < encoded_together; ++k) {
    // Where there are fewer, the last one is coded again, beside itself.
    const size_t own = std::min(k, encoders.size() - 1);
    std::copy(encoders[own].states_, encoders[own].states_ + 8, streams[k].states);
    streams[k].first = encoders[own].next();
    lists[k] = ids[own];
  }
  switch (encoders.front().lanes_) {
    case 1:
      encode_in_turns<1>(streams, lists, length, table.symbols);
      break;
    case 2:
      encode_in_turns<2>(streams, lists, length, table.symbols);
      break;
    case 4:
      encode_in_turns<4>(streams, lists, length, table.symbols);
      break;
    default:
      encode_eights_beside(lists, length / 16, table, streams);
      break;
  }
  for (size_t k = 0; k < encoders.size(); ++k) {
    std::copy(streams[k].states, streams[k].states + 8, encoders[k].states_);
    encoders[k].first_word_ = size_t(streams[k].first - encoders[k].words_.get());
  }
}

void RansEncoder::finish(std::string& out) const {
  out.append(reinterpret_cast<const char*>(states_), lanes_ * sizeof(uint32_t));
  out.append(reinterpret_cast<const char*>(words_.get() + first_word_),
             (size_ - first_word_) * sizeof(uint16_t));
}

RansDecoder::RansDecoder(std::string_view stream, uint32_t lanes)
    : words_{stream.data(), stream.size()}, lanes_(lanes) {
  whole_ = stream.size() >= lanes * sizeof(uint32_t);
  std::fill(states_, states_ + max_lanes, element::rans_lower_bound);
  if (!whole_) return;
  std::memcpy(states_, words_.bytes, lanes * sizeof(uint32_t));
  words_.at = lanes * sizeof(uint32_t);
}

/// Eight symbols, one a lane, while there are words for all of them; returns how many
/// were taken of `count`, a multiple of eight.
size_t RansDecoder::take_eights(uint8_t* symbols, size_t count, const RansSlot* table) {
  uint32_t states[8];
  std::copy(states_, states_ + 8, states);
  const char* next = words_.bytes + words_.at;
  const size_t left = words_.at < words_.size ? words_.size - words_.at : 0;
  const char* const last =
      left >= 16 ? words_.bytes + words_.size - 16 : nullptr;  // where eight words are still there
  size_t i = 0;
  for (; i + 8 <= count && last != nullptr && next <= last; i += 8)
    for (uint32_t l = 0; l < 8; ++l) symbols[i + l] = uint8_t(take_symbol(states[l], table, next));
  words_.at = size_t(next - words_.bytes);
  std::copy(states, states + 8, states_);
  return i;
}

namespace {

const RansSlot* table_of(const RansSlot* base, uint8_t number) {
  return base + (size_t(number) << element::rans_precision_bits);
}

}  // namespace

void RansDecoder::next_groups(const RansSlot* base, std::span<const uint8_t> tables, size_t each,
                              uint8_t* symbols) {
  // Blocks of levels have one table; where tables change, as in class blocks, the branch is guessed better.
  if (lane_ == 0 && lanes_ == 8 && each % 8 == 0 && tables.size() == 1 && is_dense(each)) {
    const RansSlot* table = table_of(base, tables[0]);
    for (size_t i = take_eights(symbols, each, table); i < each; ++i) symbols[i] = uint8_t(next(table));
    return;
  }
  if (lane_ == 0 && lanes_ == 8 && each % 8 == 0) {
    uint32_t states[8];
    std::copy(states_, states_ + 8, states);
    for (uint8_t number : tables) {
      const RansSlot* table = table_of(base, number);
      for (size_t i = 0; i < each; i += 8, symbols += 8)
        for (uint32_t l = 0; l < 8; ++l) symbols[l] = uint8_t(step(states[l], table, words_));
    }
    std::copy(states, states + 8, states_);
    return;
  }
  for (uint8_t number : tables)
    for (size_t i = 0; i < each; ++i) *symbols++ = uint8_t(next(table_of(base, number)));
}

void RansDecoder::next_indexed(const RansSlot* base, const uint8_t* tables, uint8_t* symbols, size_t count) {
  size_t i = 0;
  if (lane_ == 0 && lanes_ == 8) {
    uint32_t states[8];
    std::copy(states_, states_ + 8, states);
    for (; i + 8 <= count; i += 8)
      for (uint32_t l = 0; l < 8; ++l)
        symbols[i + l] = uint8_t(step(states[l], table_of(base, tables[i + l]), words_));
    std::copy(states, states + 8, states_);
  }
  for (; i < count; ++i) symbols[i] = uint8_t(next(table_of(base, tables[i])));
}

bool RansDecoder::next_following(const RansSlot* base, std::span<const uint8_t> tables,
                                 std::span<uint8_t> symbols) {
  uint32_t states[max_lanes];
  std::copy(states_, states_ + max_lanes, states);
  Words words = words_;
  uint32_t lane = lane_;
  const RansSlot* const first = table_of(base, tables[0]);
  bool known = true;
  const size_t count = symbols.size();
  for (size_t i = 0; known && i < count;) {
    // A table that is guessed from what came before need not wait for it: most symbols are zeros at high
    // ratios.
    uint32_t symbol = step(states[lane], first, words);
    lane = lane + 1 == lanes_ ? 0 : lane + 1;
    symbols[i++] = uint8_t(symbol);
    while (symbol != 0) {
      known = symbol < tables.size();
      if (!known || i == count) break;
      symbol = step(states[lane], table_of(base, tables[symbol]), words);
      lane = lane + 1 == lanes_ ? 0 : lane + 1;
      symbols[i++] = uint8_t(symbol);
    }
  }
  std::copy(states, states + max_lanes, states_);
  words_ = words;
  lane_ = lane;
  return known;
}

EightLanes RansDecoder::lend() const {
  EightLanes lent{};
  std::copy(states_, states_ + 8, lent.states);
  lent.overrun = words_.at > words_.size;
  lent.end = words_.bytes + words_.size;
  lent.next = lent.overrun ? lent.end : words_.bytes + words_.at;
  return lent;
}

void RansDecoder::take_back(const EightLanes& lent) {
  std::copy(lent.states, lent.states + 8, states_);
  const bool overrun = lent.overrun || lent.next > lent.end;
  words_.at = overrun ? words_.size + 2 : size_t(lent.next - words_.bytes);
}

bool RansDecoder::finished() const {
  if (!whole_ || words_.at != words_.size) return false;
  return std::all_of(states_, states_ + lanes_, [](uint32_t x) { return x == element::rans_lower_bound; });
}

}  // namespace jsq::cpu
