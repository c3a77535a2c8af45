#include "formats/wire/mixing_coder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

namespace jsq::wire {
namespace {

// --- Probabilities and log odds ---

constexpr int most_log_odds = 4000;
constexpr uint32_t least_probability = 16, most_probability = 65536 - 16;  // of 65536

/// log2 of v > 0 in 1/256, linear between powers of two.
constexpr int rough_log2(uint64_t v) {
  const int top = 63 - std::countl_zero(v);
  const uint64_t mantissa = top >= 8 ? v >> (top - 8) : v << (8 - top);
  return 256 * top + int(mantissa) - 256;
}

// Tables, since a division for every context and bit would take longest of all.

/// Of 32768..65535.
constexpr auto upper_log_odds = [] {
  std::array<int16_t, 32768> table{};
  for (uint64_t p = 32768; p < 65536; ++p)
    table[p - 32768] = int16_t(rough_log2((p << 16) / (65536 - p)) - 16 * 256);
  return table;
}();

/// Log odds, in 1/256 octave, of a probability in 2^-16, 1..65535.
int log_odds(uint32_t p) {
  return p < 32768 ? -upper_log_odds[32768 - p] : upper_log_odds[p - 32768];
}

/// Of 0..most_log_odds.
constexpr auto upper_probability = [] {
  std::array<uint16_t, most_log_odds + 1> table{};
  for (int odds = 0; odds <= most_log_odds; ++odds) {
    const uint64_t ratio = uint64_t(256 + (odds & 255)) << (odds >> 8);
    table[size_t(odds)] = uint16_t(std::min<uint64_t>((ratio << 16) / (ratio + 256), 65535));
  }
  return table;
}();

/// The inverse, 1..65535.
uint32_t probability(int odds) {
  const uint32_t larger = upper_probability[size_t(std::min(std::abs(odds), most_log_odds))];
  return odds < 0 ? 65536 - larger : larger;
}

constexpr uint32_t most_times = 255;  ///< that an average looks back

/// 2^32 / d, above: times n below 2^22, its upper word is n / d.
constexpr auto reciprocals = [] {
  std::array<uint32_t, most_times + 2> table{};
  for (uint64_t d = 2; d < table.size(); ++d) table[d] = uint32_t((uint64_t(1) << 32) / d + 1);
  return table;
}();

/// How often a bit was 1, as an average over all times at first and over the last ones later.
struct Average {
  uint32_t value = 1u << 21;  // of 2^22
  uint32_t times = 0;

  uint32_t probability() const { return std::clamp(value >> 6, least_probability, most_probability); }
  /// \pre most <= most_times
  void follow(uint32_t bit, uint32_t most) {
    constexpr uint32_t top = 65535 << 6;
    times = std::min(times + 1, most);
    const uint32_t distance = bit ? top - value : value;
    const auto step = uint32_t(uint64_t(distance) * reciprocals[times + 1] >> 32);
    value = bit ? value + step : value - step;
  }
};

// --- Contexts ---

constexpr uint32_t spread = 0x9E3779B1, mix_in = 0x2F0B4C47;

bool is_letter(uint8_t byte) {
  return (byte | 32) >= 'a' && (byte | 32) <= 'z';
}

/// What ends at the present byte, seen from the end.
class History {
 public:
  void add(uint8_t byte) { bytes_.push_back(byte); }
  size_t size() const { return bytes_.size(); }
  uint8_t operator[](size_t i) const { return bytes_[i]; }
  uint32_t back(size_t k) const { return k <= bytes_.size() ? bytes_[bytes_.size() - k] : 0; }

  /// Of the last `length` bytes.
  uint32_t last(uint32_t length) const {
    uint32_t hash = length * spread;
    for (uint32_t k = 1; k <= length; ++k) hash = (hash + back(k) + 1) * mix_in;
    return hash;
  }
  /// Of the letters at the end and of the byte before them; then also of the nearest letters before those.
  std::array<uint32_t, 2> words() const {
    size_t end = bytes_.size();
    const auto take_word = [&](uint32_t hash) {
      for (size_t least = end - std::min(end, longest_word); end > least && is_letter(bytes_[end - 1]); --end)
        hash = (hash + bytes_[end - 1] + 1) * mix_in;
      return hash;
    };
    const uint32_t word = take_word(77);
    const uint32_t before = end > 0 ? bytes_[end - 1] : 0;
    for (size_t least = end - std::min(end, longest_word); end > least && !is_letter(bytes_[end - 1]);) --end;
    return {(word + before) * spread, (word * 31 + take_word(99)) * spread};
  }

 private:
  static constexpr size_t longest_word = 20;
  std::vector<uint8_t> bytes_;
};

/// The byte that followed the last time the `length` last bytes were the same, for as long as it goes on
/// being right.
class Match {
 public:
  explicit Match(uint32_t length) : length_(length), last_(1 << 16) {
    for (uint32_t n = 0; n < of_length_.size(); ++n) of_length_[n].value = (65536 - 65536 / (2 + 2 * n)) << 6;
  }

  /// Bytes that agree so far.
  uint32_t matched() const { return expected_ < 0 ? 0 : matched_; }
  bool predicts() const { return expected_ >= 0; }

  int log_odds_of_one(const History& history, uint32_t partial) {
    expected_ = -1;
    if (matched_ == 0) return 0;
    const uint32_t byte = history[at_] | 256u, known = uint32_t(std::bit_width(partial)) - 1;
    if (byte >> (8 - known) != partial) return 0;
    expected_ = int(byte >> (7 - known) & 1);
    const int odds = log_odds(of_length_[std::min(matched_, 31u)].probability());
    return expected_ ? odds : -odds;
  }
  void end_bit(uint32_t bit) {
    if (expected_ < 0) return;
    const bool right = uint32_t(expected_) == bit;
    of_length_[std::min(matched_, 31u)].follow(right, most_times);
    if (!right) matched_ = 0;
  }
  void end_byte(const History& history) {
    if (matched_ > 0) {
      ++at_;
      matched_ = std::min(matched_ + 1, longest);
    }
    if (history.size() < length_) return;
    uint32_t& last = last_[history.last(length_) >> 16];
    if (matched_ == 0 && last > 0) {
      at_ = last;
      while (matched_ < longest && matched_ < at_ &&
             history[at_ - 1 - matched_] == history.back(matched_ + 1))
        ++matched_;
      if (matched_ < length_) matched_ = 0;
    }
    last = uint32_t(history.size());
  }

 private:
  static constexpr uint32_t longest = 32;
  uint32_t length_;
  std::vector<uint32_t> last_;  ///< by hash: bytes before the place
  size_t at_ = 0;
  uint32_t matched_ = 0;
  int expected_ = -1;
  std::array<Average, 32> of_length_;  ///< whether the expected bit comes
};

// --- Model ---

class Model {
 public:
  explicit Model(std::string_view primer) {
    for (auto& table : recent_) table.assign(1 << 18, 1);
    for (auto& of_context : by_recent_)
      for (uint32_t bits = 1; bits < of_context.size(); ++bits) {
        const uint32_t ones = uint32_t(std::popcount(bits)) - 1, all = uint32_t(std::bit_width(bits)) - 1;
        of_context[bits].value = 65536 * (10 * ones + 4) / (10 * all + 8) << 6;
      }
    for (size_t i = 0; i < contexts; ++i)
      for (size_t bits = 2; bits < 128; ++bits) remember_odds(i, bits);
    for (auto& weights : weights_) weights.fill(first_weight);
    begin_byte();
    predict();
    for (const char byte : primer)
      for (int bit = 7; bit >= 0; --bit) update(uint32_t(uint8_t(byte)) >> bit & 1);
  }

  /// Probability, in 2^-16, that the next bit is 1.
  uint32_t probability_of_one() const { return mixed_; }

  void update(uint32_t bit) {
    for (size_t s = 0; s < 2; ++s) {
      const int32_t error = int32_t(bit << 16) - int32_t(probability_[s]);
      std::array<int64_t, inputs>& weights = weights_[set_[s]];
      for (size_t i = 0; i < inputs; ++i) weights[i] += (input_[i] * error) >> 15;
    }
    for (size_t i = 0; i < contexts; ++i) {
      uint8_t& recent = recent_[i][slot_[i]];
      by_recent_[i][recent].follow(bit, 127);
      if (recent != 1) remember_odds(i, recent);
      recent = uint8_t(recent * 2 + bit);
      if (recent >= 128) recent = (recent & 63) | 64;  // the last six
    }
    for (Match& match : matches_) match.end_bit(bit);
    partial_ = partial_ * 2 + bit;
    if (partial_ >= 256) {
      history_.add(uint8_t(partial_));
      partial_ = 1;
      for (Match& match : matches_) match.end_byte(history_);
      begin_byte();
    }
    predict();
  }

 private:
  static constexpr size_t contexts = 9, inputs = contexts + 3;
  static constexpr int64_t first_weight = 19660;  // 0.3

  void begin_byte() {
    size_t i = 0;
    for (const uint32_t length : {0, 1, 2, 3, 4, 5, 7}) context_[i++] = history_.last(length);
    for (const uint32_t words : history_.words()) context_[i++] = words;
  }

  void remember_odds(size_t i, size_t recent) {
    odds_[i][recent] = int16_t(log_odds(by_recent_[i][recent].probability()));
  }

  void predict() {
    for (size_t i = 0; i < contexts; ++i) {
      slot_[i] = (context_[i] + partial_ * spread) * 0x2545F491u >> 14;
      input_[i] = odds_[i][recent_[i][slot_[i]]];
    }
    input_[contexts] = matches_[0].log_odds_of_one(history_, partial_);
    input_[contexts + 1] = matches_[1].log_odds_of_one(history_, partial_);
    input_[contexts + 2] = 256;
    const uint32_t matched = matches_[0].matched();
    set_[0] = (matched == 0   ? 0u
               : matched < 8  ? 1u
               : matched < 20 ? 2u
                              : 3u) +
              (matches_[1].predicts() ? 4u : 0u);
    set_[1] = 8 + uint32_t(std::bit_width(partial_)) - 1;
    int sum = 0;
    for (size_t s = 0; s < 2; ++s) {
      int64_t dot = 0;
      for (size_t i = 0; i < inputs; ++i) dot += weights_[set_[s]][i] * input_[i];
      const int odds = int(std::clamp<int64_t>(dot >> 16, -most_log_odds, most_log_odds));
      probability_[s] = probability(odds);
      sum += odds;
    }
    mixed_ = std::clamp(probability(sum >> 1), least_probability, most_probability);
  }

  History history_;
  uint32_t partial_ = 1;  ///< a 1, then the bits of the byte so far
  std::array<uint32_t, contexts> context_{}, slot_{};
  std::array<std::vector<uint8_t>, contexts> recent_;  ///< a 1, then the last bits in this context, up to six
  std::array<std::array<Average, 128>, contexts> by_recent_{};  ///< what followed such bits
  std::array<std::array<int16_t, 128>, contexts> odds_{};       ///< of these; 0 where nothing is known
  std::array<Match, 2> matches_{Match(4), Match(8)};
  std::array<int32_t, inputs> input_{};  ///< within 2^12
  std::array<std::array<int64_t, inputs>, 16>
      weights_;  ///< in 2^-16; no text of most_mixed_bytes leads beyond 2^33
  std::array<uint32_t, 2> set_{}, probability_{};
  uint32_t mixed_ = 0;
};

/// What has seen the primer. That of directories takes as long as the gradients of a small network, and they
/// are coded for every frame that is tried: what it leaves is kept, and copied where the thread's last model
/// was.
Model& primed(std::string_view primer) {
  static thread_local std::optional<Model> model;
  if (primer.data() == directory_primer().data()) {
    static const Model kept(directory_primer());
    model = kept;
  } else {
    model.emplace(primer);
  }
  return *model;
}

// --- Arithmetic coder ---

/// The interval of codes that are still possible.
struct Interval {
  uint32_t low = 0, high = UINT32_MAX;

  /// Where it is cut: up to and including it codes are those of a 1.
  uint32_t cut(uint32_t p) const {
    const uint32_t width = high - low;
    return low + (width >> 16) * p + ((width & 0xffff) * p >> 16);
  }
  void take(uint32_t bit, uint32_t cut) { (bit ? high : low) = bit ? cut : cut + 1; }
  bool byte_is_known() const { return (low ^ high) >> 24 == 0; }
  void shift() {
    low <<= 8;
    high = high << 8 | 255;
  }
  /// The fewest bytes that, followed by zeros, are within.
  std::string end() const {
    std::string bytes;
    if (low == 0) return bytes;
    for (uint32_t kept = 1; kept <= 4; ++kept) {
      const uint32_t unit = kept == 4 ? 1 : 1u << (32 - 8 * kept);
      const uint64_t code = (uint64_t(low) + unit - 1) / unit * unit;
      if (code > high) continue;
      for (uint32_t b = 0; b < kept; ++b) bytes.push_back(char(code >> (24 - 8 * b)));
      break;
    }
    return bytes;
  }
};

}  // namespace

std::string encode_mixed(std::string_view primer, std::string_view text) {
  Model& model = primed(primer);
  Interval interval;
  std::string code;
  for (const char byte : text)
    for (int place = 7; place >= 0; --place) {
      const uint32_t bit = uint32_t(uint8_t(byte)) >> place & 1;
      interval.take(bit, interval.cut(model.probability_of_one()));
      model.update(bit);
      for (; interval.byte_is_known(); interval.shift()) code.push_back(char(interval.low >> 24));
    }
  return code + interval.end();
}

std::optional<std::string> decode_mixed(std::string_view primer, std::string_view code, size_t size) {
  Model& model = primed(primer);
  Interval interval;
  size_t at = 0, known = 0;
  const auto next = [&] { return at < code.size() ? uint8_t(code[at++]) : uint8_t(0); };
  uint32_t window = 0;
  for (int b = 0; b < 4; ++b) window = window << 8 | next();
  std::string text;
  while (text.size() < size) {
    uint32_t byte = 0;
    for (int place = 0; place < 8; ++place) {
      const uint32_t cut = interval.cut(model.probability_of_one()), bit = window <= cut;
      interval.take(bit, cut);
      model.update(bit);
      byte = byte * 2 + bit;
      for (; interval.byte_is_known(); interval.shift(), ++known) window = window << 8 | next();
    }
    // What a code of fewer bytes cannot mean is not decoded to the end.
    if (known > code.size()) return {};
    text.push_back(char(byte));
  }
  if (code.size() < known || code.substr(known) != interval.end()) return {};
  return text;
}

}  // namespace jsq::wire
