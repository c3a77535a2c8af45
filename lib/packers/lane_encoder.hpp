// Interleaved rANS states that take symbols last to first; words are filled from the back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cpu/rans_eights.hpp"
#include "kernels/element/rans.hpp"
#include "lib/packers/context_stream.hpp"

namespace jsq {

class LaneEncoder {
 public:
  /// `words` has room for a word a symbol and cpu::eights_slack more.
  LaneEncoder(uint32_t lanes, std::vector<uint16_t>& words)
      : lanes_(lanes), words_(words), out_(words.data() + words.size()) {
    std::fill(states_, states_ + lanes, element::rans_lower_bound);
  }
  void push(size_t index, const element::RansSymbol& symbol) {
    push_state(states_[index & (lanes_ - 1)], symbol);
  }
  /// Groups of as many neighbours as there are lanes, from an index on that is a multiple of them.  \pre
  /// eight or sixteen lanes
  void push_groups(const uint16_t* ids, size_t groups, const element::RansSymbol* table) {
    out_ = lanes_ == 8 ? cpu::encode_eights(ids, groups, table, states_, out_)
                       : cpu::encode_sixteens(ids, groups, table, states_, out_);
  }
  void finish(std::string& out) const {
    out.append(reinterpret_cast<const char*>(states_), lanes_ * sizeof(uint32_t));
    out.append(reinterpret_cast<const char*>(out_),
               size_t(words_.data() + words_.size() - out_) * sizeof(uint16_t));
  }

 private:
  void push_state(uint32_t& state, const element::RansSymbol& symbol) {
    uint32_t x = state;
    const bool emit = element::rans_needs_word(x, symbol.frequency);
    out_[-1] = uint16_t(x);  // kept only when emitted: a store costs less than a mispredicted branch
    out_ -= emit;
    x >>= uint32_t(emit) << 4;
    state = element::rans_push(x, symbol);
  }
  uint32_t lanes_;
  std::vector<uint16_t>& words_;
  uint16_t* out_;
  uint32_t states_[most_context_lanes];
};

/// Appends the stream that code(lanes) appends with as many lanes as its size stands for; `expected`: bytes,
/// which tell where to begin. Fewer lanes take fewer bytes, so that the last of at most three tries fits.
template <class Code>
void code_with_fitting_lanes(double expected, std::string& out, Code code) {
  const size_t before = out.size();
  for (uint32_t lanes = context_lanes(size_t(expected));;) {
    code(lanes);
    const uint32_t fitting = context_lanes(out.size() - before);
    if (fitting == lanes) return;
    out.resize(before);
    lanes = fitting;
  }
}

}  // namespace jsq
