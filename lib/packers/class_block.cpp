#include "lib/packers/class_block.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <type_traits>

#include "jsq/error.hpp"
#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/classify.hpp"
#include "kernels/cpu/quantize.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "kernels/element/philox.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/stored_values.hpp"

namespace jsq {

using cpu::BitReader;
using cpu::BitWriter;
using element::magnitude_table;
using element::max_activity_buckets;
using element::max_classes;
using element::rice_parameter;
using element::run_length;
using element::symbol_id;
using element::token_table_offset;

namespace {

/// Buffers of one block, reused by a thread from block to block.
struct Scratch {
  std::vector<uint8_t> classes, buckets, codes, kept_classes, run_counts, tokens;
  std::vector<uint32_t> kept, offsets;
  std::vector<uint16_t> activity_ids, token_ids, magnitude_ids;
  std::string rans, bits;
  size_t kept_count = 0;

  void resize(size_t n) {
    const size_t padded = (n + run_length - 1) / run_length * run_length;
    if (classes.size() < padded) {
      classes.resize(padded);
      codes.resize(padded);
      kept_classes.resize(padded);
      offsets.resize(padded);
      kept.resize(padded + 16);
      buckets.resize(padded / run_length);
      run_counts.resize(padded / run_length * (max_classes - 1));
    }
  }
};

/// Not inlined: the compiler would otherwise look the thread's copy up again inside the loops.
[[gnu::noinline]] Scratch& scratch() {
  static thread_local Scratch buffers;
  return buffers;
}

/// Whether a map holds the indices of kept elements, and nothing of the others.
bool names_kept(MapPacker map) {
  return map == MapPacker::rice || map == MapPacker::index32 || map == MapPacker::packed;
}

size_t runs_of(size_t n) {
  return (n + run_length - 1) / run_length;
}

/// Lists the indices of the elements whose class has a width above 0.
void list_kept(const element::ClassPlan& plan, size_t n, Scratch& s) {
  if (plan.width[0] == 0) {
    s.kept_count = cpu::list_nonzero(std::span<const uint8_t>(s.classes.data(), n), s.kept.data());
    return;
  }
  std::iota(s.kept.begin(), s.kept.begin() + std::ptrdiff_t(n), 0u);
  s.kept_count = n;
}

/// The symbols of a class map: activities of all runs, and tokens of those that are not quiet.
void list_map_symbols(uint32_t classes, size_t n, Scratch& s, size_t& activity_ids, size_t& token_ids) {
  const uint32_t joined = classes_per_token(classes);
  const auto joined_log2 =
      uint32_t(std::countr_zero(joined));  // a division takes as long as the rest of a run
  const size_t runs = runs_of(n);
  if (s.activity_ids.size() < runs) s.activity_ids.resize(runs);
  if (s.token_ids.size() < runs * run_length >> joined_log2)
    s.token_ids.resize(runs * run_length >> joined_log2);
  uint16_t* const activities = s.activity_ids.data();
  uint16_t* ids = s.token_ids.data();
  const uint8_t* const buckets = s.buckets.data();
  uint32_t previous = 0;
  for (size_t r = 0; r < runs; ++r) {
    const uint32_t bucket = buckets[r];
    activities[r] = symbol_id(previous, bucket);
    previous = bucket;
    if (bucket == 0) continue;
    const size_t in_run = std::min<size_t>(run_length, n - r * run_length);
    const uint8_t* run = s.classes.data() + r * run_length;
    const uint32_t base = symbol_id(token_table_offset + bucket, 0);
    const size_t tokens = (in_run + joined - 1) >> joined_log2;
    if (joined == 2) {
      for (size_t t = 0; t < tokens; ++t) ids[t] = uint16_t(base + run[2 * t] + classes * run[2 * t + 1]);
    } else if (joined == 4) {
      for (size_t t = 0; t < tokens; ++t)
        ids[t] = uint16_t(base + run[4 * t] + 2 * run[4 * t + 1] + 4 * run[4 * t + 2] + 8 * run[4 * t + 3]);
    } else {
      for (size_t t = 0; t < tokens; ++t) ids[t] = uint16_t(base + run[t]);
    }
    ids += tokens;
  }
  activity_ids = runs;
  token_ids = size_t(ids - s.token_ids.data());
}

/// Calls use(std::integral_constant<ClassQuantizer, Q>) so that loops are compiled for one quantizer each.
template <class Use>
void with_quantizer(element::ClassQuantizer quantizer, Use use) {
  using element::ClassQuantizer;
  switch (quantizer) {
    case ClassQuantizer::cell:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::cell>());
      break;
    case ClassQuantizer::mid:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::mid>());
      break;
    case ClassQuantizer::offmag:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::offmag>());
      break;
    case ClassQuantizer::sym:
      use(std::integral_constant<ClassQuantizer, ClassQuantizer::sym>());
      break;
  }
}

/// Classes of a block and the list of its kept elements; sums of the others where they are asked for.
void classify_block(const element::ClassPlan& plan, std::span<const float> values, uint64_t first_pool_index,
                    Scratch& s, cpu::DroppedSums* dropped = nullptr) {
  const size_t n = values.size();
  s.resize(n);
  std::fill(s.classes.begin() + std::ptrdiff_t(n),
            s.classes.begin() + std::ptrdiff_t(runs_of(n) * run_length), uint8_t(0));
  if (plan.width[0] == 0) {
    s.kept_count =
        cpu::classify_and_list(values, first_pool_index, plan, s.classes.data(), s.kept.data(), dropped);
    return;
  }
  cpu::classify(values, first_pool_index, plan, std::span(s.classes.data(), n));
  list_kept(plan, n, s);
}

/// Kept elements and code words as given, of the one class that is kept; and the classes of all elements
/// `with_map`.
void take_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes, Scratch& s,
                bool with_map = true) {
  s.resize(n);
  if (with_map) {
    std::fill(s.classes.begin(), s.classes.begin() + std::ptrdiff_t(runs_of(n) * run_length), uint8_t(0));
    for (uint32_t i : kept) s.classes[i] = 1;
  }
  std::copy(kept.begin(), kept.end(), s.kept.begin());
  std::copy(codes.begin(), codes.end(), s.codes.begin());
  std::fill(s.kept_classes.begin(), s.kept_classes.begin() + std::ptrdiff_t(kept.size()), uint8_t(1));
  s.kept_count = kept.size();
}

/// Where a block's elements stand: for tie cutoffs, and for random numbers.
struct Position {
  uint64_t first_pool_index = 0;
  uint64_t first_element = 0;
  uint32_t tensor = 0;
};

/// Code words of the kept elements by the element functions, one by one, with their errors. The lanes and
/// their folding are those of cpu::quantize_cells.
cpu::KeptSums quantize_one_by_one(const element::ClassPlan& plan, std::span<const float> values,
                                  const Position& position, DType dtype, Scratch& s) {
  constexpr size_t lanes = 16;
  cpu::KeptSums lane[lanes];
  std::vector<std::array<float, 256>> points(plan.classes);
  for (uint32_t j = 0; j < plan.classes; ++j)
    for (uint32_t code = 0; plan.width[j] > 0 && code < (1u << plan.width[j]); ++code)
      points[j][code] = element::round_to_stored(
          stored_float(dtype),
          element::dequantize_in_class(plan.quantizer, plan.width[j], plan.scale[j], code));
  with_quantizer(plan.quantizer, [&](auto quantizer) {
    for (size_t k = 0; k < s.kept_count; ++k) {
      const uint32_t i = s.kept[k], c = s.classes[i];
      float u = 0.5f;
      if (plan.stochastic)
        u = element::uniform_of_word(element::random_word(plan.seed, position.first_element + i,
                                                          position.tensor, element::RandomPurpose::rounding));
      const uint32_t code =
          element::quantize_in_class(quantizer(), plan.width[c], plan.scale[c], values[i], u);
      s.codes[k] = uint8_t(code);
      s.kept_classes[k] = uint8_t(c);
      cpu::KeptSums& sums = lane[k % lanes];
      const double g = values[i], decoded = points[c][code], error = decoded - g;
      ++sums.members[c];
      sums.class_energy[c] += g * g;
      sums.squared_error += error * error;
      sums.dot += g * decoded;
      sums.decoded_energy += decoded * decoded;
      sums.error_sum += error;
      sums.max_error = std::max(sums.max_error, error < 0 ? -error : error);
    }
  });
  for (size_t half = lanes / 2; half > 0; half /= 2)
    for (size_t l = 0; l < half; ++l) {
      for (uint32_t j = 0; j < max_classes; ++j) {
        lane[l].members[j] += lane[l + half].members[j];
        lane[l].class_energy[j] += lane[l + half].class_energy[j];
      }
      lane[l].squared_error += lane[l + half].squared_error;
      lane[l].dot += lane[l + half].dot;
      lane[l].decoded_energy += lane[l + half].decoded_energy;
      lane[l].error_sum += lane[l + half].error_sum;
      lane[l].max_error = std::max(lane[l].max_error, lane[l + half].max_error);
    }
  return lane[0];
}

bool has_vector_loop(element::ClassQuantizer quantizer) {
  return quantizer == element::ClassQuantizer::cell;
}

/// Classes and code words of the kept elements.  \pre has_vector_loop(plan.quantizer)
void code_kept(const element::ClassPlan& plan, std::span<const float> values, Scratch& s) {
  cpu::code_cells(plan, values.data(), s.classes.data(),
                  std::span<const uint32_t>(s.kept.data(), s.kept_count), s.kept_classes.data(),
                  s.codes.data());
}

/// Classes of all elements, and code words and classes of the kept ones, into the scratch; errors of the
/// whole block into `sums`.
void quantize_block(const element::ClassPlan& plan, std::span<const float> values, const Position& position,
                    DType dtype, Scratch& s, BlockSums& sums) {
  cpu::DroppedSums dropped;
  classify_block(plan, values, position.first_pool_index, s, &dropped);
  const bool vectorised = has_vector_loop(plan.quantizer) && (dtype == DType::f32 || dtype == DType::f64);
  const cpu::KeptSums kept = vectorised
                                 ? cpu::quantize_cells(plan, values.data(), s.classes.data(),
                                                       std::span<const uint32_t>(s.kept.data(), s.kept_count),
                                                       s.kept_classes.data(), s.codes.data())
                                 : quantize_one_by_one(plan, values, position, dtype, s);
  add_quantized(kept, dropped, sums);
}

/// The mean of the kept elements' squared errors over the rounding, left to right.
double expected_error_of_kept(const element::ClassPlan& plan, std::span<const float> values,
                              const Scratch& s) {
  double sum = 0;
  with_quantizer(plan.quantizer, [&](auto quantizer) {
    for (size_t k = 0; k < s.kept_count; ++k) {
      const uint32_t c = s.kept_classes[k];
      sum += element::expected_error_in_class(quantizer(), plan.width[c], plan.scale[c], values[s.kept[k]]);
    }
  });
  return sum;
}

void put_class(BitWriter& out, uint32_t index, uint32_t classes) {
  const element::ShortCode code = element::class_code(index, classes);
  out.put(code.bits, code.length);
}
uint32_t get_class(BitReader& in, uint32_t classes) {
  uint32_t index = 1;
  while (index + 1 < classes && in.bit()) ++index;
  return index;
}

[[noreturn]] void damaged(std::string_view what, const std::string& found) {
  throw Error(Errc::damaged, std::string(what) + " is damaged: " + found);
}

}  // namespace

void add_quantized(const cpu::KeptSums& kept, const cpu::DroppedSums& dropped, BlockSums& sums) {
  for (uint32_t j = 0; j < max_classes; ++j) {
    sums.members[j] += kept.members[j];
    sums.class_energy[j] += kept.class_energy[j];
  }
  sums.class_energy[0] += dropped.energy;
  sums.squared_error += dropped.energy + kept.squared_error;
  sums.dot += kept.dot;
  sums.decoded_energy += kept.decoded_energy;
  sums.error_sum += kept.error_sum - dropped.sum;
  sums.max_error = std::max(sums.max_error, std::max(kept.max_error, double(dropped.max_magnitude)));
}

void ClassTally::merge(const ClassTally& other) {
  for (uint32_t j = 0; j < max_classes; ++j) members[j] += other.members[j];
  entropy.merge(other.entropy);
  rice_bits += other.rice_bits;
}

void ClassCoder::prepare_encoding() {
  symbols_.assign(element::coding_tables * max_symbols, {});
  auto fill = [&](uint32_t table, const SymbolFrequencies& frequencies) {
    uint32_t start = 0;
    for (uint32_t symbol = 0; symbol < max_symbols; ++symbol) {
      symbols_[symbol_id(table, symbol)] = element::make_rans_symbol(start, frequencies[symbol]);
      start += frequencies[symbol];
    }
  };
  if (model.map_coded)
    for (uint32_t b = 0; b < model.buckets; ++b) {
      fill(b, model.activity_frequencies(b));
      if (b > 0) fill(token_table_offset + b, model.token_frequencies(b));
    }
  for (uint32_t j = 1; j < plan.classes; ++j)
    if (model.magnitudes_coded >> (j - 1) & 1)
      for (uint32_t b = 0; b < max_activity_buckets; ++b)
        fill(magnitude_table(j, b), model.magnitude_frequencies(j, b));
  split_codes();
}

void ClassCoder::split_codes() {
  code_parts_.assign(plan.classes * size_t(256), {});
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    const uint32_t width = plan.width[j], raw_bits = element::raw_magnitude_bits(width);
    for (uint32_t code = 0; code < (1u << width); ++code) {
      const uint32_t magnitude = element::magnitude_of_code(plan.quantizer, width, code);
      const uint32_t sign = element::sign_of_code(plan.quantizer, width, code);
      code_parts_[256 * j + code] = {uint16_t(symbol_id(magnitude_table(j, 0), 0) + (magnitude >> raw_bits)),
                                     uint8_t(sign << raw_bits | (magnitude & ((1u << raw_bits) - 1))),
                                     uint8_t(1 + raw_bits)};
    }
  }
}

void ClassCoder::encode(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                        uint32_t tensor, DType dtype, std::string& out, BlockSums& sums) const {
  Scratch& s = scratch();
  const double error_before = sums.squared_error, energy_before = sums.class_energy[0];
  quantize_block(plan, values, {first_pool_index, first_element, tensor}, dtype, s, sums);
  // Class 0 is kept where its width is not 0.
  const double dropped = plan.width[0] == 0 ? sums.class_energy[0] - energy_before : 0;
  sums.expected_error +=
      plan.stochastic ? dropped + expected_error_of_kept(plan, values, s) : sums.squared_error - error_before;
  write_block(values.size(), out);
}

void ClassCoder::encode_unmeasured(std::span<const float> values, uint64_t first_pool_index,
                                   uint64_t first_element, uint32_t tensor, std::string& out,
                                   BlockSums& sums) const {
  if (!has_vector_loop(plan.quantizer)) {
    encode(values, first_pool_index, first_element, tensor, DType::f32, out, sums);
  } else {
    Scratch& s = scratch();
    classify_block(plan, values, first_pool_index, s);
    code_kept(plan, values, s);
    for (uint32_t j = plan.width[0] == 0 ? 1 : 0; j < plan.classes; ++j)
      sums.members[j] += uint64_t(std::count(
          s.kept_classes.begin(), s.kept_classes.begin() + std::ptrdiff_t(s.kept_count), uint8_t(j)));
    write_block(values.size(), out);
  }
  sums.class_energy.fill(std::numeric_limits<double>::quiet_NaN());
}

void ClassCoder::encode_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes,
                              std::string& out) const {
  take_codes(n, kept, codes, scratch(), !names_kept(map) || model.needs_activities());
  write_block(n, out);
}

void ClassCoder::tally_codes(size_t n, std::span<const uint32_t> kept, std::span<const uint8_t> codes,
                             ClassTally& counts) const {
  take_codes(n, kept, codes, scratch());
  tally_block(n, counts);
}

/// The block that the scratch holds: classes, kept elements and their code words.
void ClassCoder::write_block(size_t n, std::string& out) const {
  Scratch& s = scratch();
  const uint8_t* classes = s.classes.data();
  if (model.needs_activities())
    cpu::run_activities(std::span<const uint8_t>(classes, n), std::span(s.buckets.data(), runs_of(n)));
  const bool split = model.magnitudes_coded != 0;

  // Symbols of the coded magnitudes, and their raw bits.
  s.magnitude_ids.resize(s.kept_count + 1);  // the last is written where nothing is coded
  s.bits.clear();
  BitWriter raw(s.bits);
  size_t coded = 0;
  if (split) {
    uint16_t id_step[max_classes] =
        {};  // between the tables of neighbouring activities; 0 with one table for all
    for (uint32_t j = 1; j < plan.classes; ++j)
      id_step[j] = model.magnitudes_by_activity >> (j - 1) & 1 ? uint16_t(max_symbols) : uint16_t(0);
    uint16_t* ids = s.magnitude_ids.data();
    const CodeParts* parts = code_parts_.data();
    const uint8_t* codes = s.codes.data();
    const uint8_t* kept_classes = s.kept_classes.data();
    const uint8_t* buckets = s.buckets.data();
    const uint32_t* kept = s.kept.data();
    const size_t count = s.kept_count;
    constexpr size_t together = 8;  // their raw bits fit a word
    for (size_t k = 0; k < count;) {
      uint32_t word = 0, length = 0;
      for (const size_t end = std::min(count, k + together); k < end; ++k) {
        const uint32_t c = kept_classes[k];
        const CodeParts part = parts[256 * c + codes[k]];
        ids[coded] = uint16_t(part.id + buckets[kept[k] / run_length] * id_step[c]);
        coded += part.raw_bits != 0;  // a sign at least, unless the class is not entropy-coded
        word = word << part.raw_bits | part.raw;
        length += part.raw_bits;
      }
      raw.put(word, length);
    }
  }
  raw.align();
  s.magnitude_ids.resize(coded);
  if (s.kept_count == 0) return;  // an empty block is all zeros

  BitWriter map_bits(out);
  switch (map) {
    case MapPacker::raw: {
      const uint32_t bits = raw_map_bits(plan.classes);
      for (size_t i = 0; i < n; ++i) map_bits.put(classes[i], bits);
      break;
    }
    case MapPacker::bitmap:
      for (size_t i = 0; i < n; ++i) map_bits.put(classes[i] != 0, 1);
      map_bits.align();
      for (size_t k = 0; k < s.kept_count; ++k) put_class(map_bits, s.kept_classes[k], plan.classes);
      break;
    case MapPacker::rice: {
      const uint32_t parameter = rice_parameter(n, s.kept_count);
      map_bits.put(parameter, 8);
      map_bits.put(uint32_t(s.kept_count), 32);
      uint64_t expected = 0;
      for (size_t k = 0; k < s.kept_count; ++k) {
        const uint64_t gap = s.kept[k] - expected;
        expected = s.kept[k] + 1;
        map_bits.put_unary(gap >> parameter);
        map_bits.put(uint32_t(gap & ((1ull << parameter) - 1)), parameter);
        put_class(map_bits, s.kept_classes[k], plan.classes);
      }
      break;
    }
    case MapPacker::index32:
    case MapPacker::packed: {
      const uint32_t bits = map == MapPacker::packed ? packed_index_bits(n) : 32;
      map_bits.put(uint32_t(s.kept_count), 32);
      for (size_t k = 0; k < s.kept_count; ++k) {
        map_bits.put(s.kept[k], bits);
        put_class(map_bits, s.kept_classes[k], plan.classes);
      }
      break;
    }
    case MapPacker::entropy:
      break;
  }
  map_bits.align();

  if (model.uses_rans()) {
    size_t activity_ids = 0, token_ids = 0;
    if (model.map_coded) list_map_symbols(plan.classes, n, s, activity_ids, token_ids);
    cpu::RansEncoder encoder(lanes, activity_ids + token_ids + s.magnitude_ids.size());
    encoder.encode_section(s.magnitude_ids, symbols_.data());
    encoder.encode_section(std::span<const uint16_t>(s.token_ids.data(), token_ids), symbols_.data());
    encoder.encode_section(std::span<const uint16_t>(s.activity_ids.data(), activity_ids), symbols_.data());
    s.rans.clear();
    encoder.finish(s.rans);
    ByteWriter length;
    length.uvarint(s.rans.size());
    out.append(length.bytes());
    out.append(s.rans);
  }

  for (uint32_t j = 0; j < plan.classes; ++j) {
    if (plan.width[j] == 0 || (j > 0 && (model.magnitudes_coded >> (j - 1) & 1))) continue;
    BitWriter plane(out);
    for (size_t k = 0; k < s.kept_count; ++k)
      if (s.kept_classes[k] == j) plane.put(s.codes[k], plan.width[j]);
    plane.align();
  }
  if (split) out.append(s.bits);
}

std::vector<float> ClassCoder::points(uint32_t j) const {
  if (plan.width[j] == 0) return {};
  const uint32_t half = 1u << (plan.width[j] - 1);
  std::vector<float> values(2 * half);
  for (uint32_t negative = 0; negative < 2; ++negative)
    for (uint32_t magnitude = 0; magnitude < half; ++magnitude)
      values[negative * half + magnitude] = element::dequantize_in_class(
          plan.quantizer, plan.width[j], plan.scale[j],
          element::join_code(plan.quantizer, plan.width[j], negative, magnitude));
  return values;
}

void ClassCoder::prepare_decoding() {
  // Table 0 stands in for tables that a damaged model lacks, so that every offset is valid.
  // Symbol 0 has all its slots, and leaves the states as they are.
  slots_.clear();
  for (uint32_t slot = 0; slot < element::rans_total; ++slot)
    slots_.push_back(element::make_rans_slot(0, element::rans_total, slot));
  auto add = [&](const SymbolFrequencies& frequencies) {
    if (frequencies == SymbolFrequencies{}) return 0u;
    const auto offset = uint32_t(slots_.size());
    slots_.resize(offset + element::rans_total);
    uint32_t slot = offset;
    for (uint32_t symbol = 0; symbol < max_symbols; ++symbol)
      for (uint32_t i = 0; i < frequencies[symbol]; ++i)
        slots_[slot++] = element::make_rans_slot(symbol, frequencies[symbol], i);
    return offset;
  };
  if (model.map_coded)
    for (uint32_t b = 0; b < model.buckets; ++b) {
      map_slots_[b] = add(model.activity_frequencies(b));
      if (b > 0) map_slots_[token_table_offset + b] = add(model.token_frequencies(b));
    }
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    if (!by_activity) magnitude_slots_[j].fill(add(model.magnitude_frequencies(j, 0)));
    for (uint32_t b = 1; by_activity && b < model.buckets; ++b)
      magnitude_slots_[j][b] = add(model.magnitude_frequencies(j, b));
  }
  join_values();
  const uint32_t joined = classes_per_token(plan.classes);
  for (uint32_t token = 0; token < 16; ++token)
    for (uint32_t i = 0, rest = token; i < 4; ++i, rest /= std::max(plan.classes, 2u))
      token_classes_[token * 4 + i] = i < joined ? uint8_t(rest % std::max(plan.classes, 2u)) : 0;
}

namespace {

/// The bits of eight tokens of four, one of each element.
inline uint32_t mask_of_tokens(const uint8_t* tokens) {
  uint64_t word;
  std::memcpy(&word, tokens, 8);
  word = (word | word >> 4) & 0x00ff00ff00ff00ffu;
  word = (word | word >> 8) & 0x0000ffff0000ffffu;
  return uint32_t(word | word >> 16);
}

/// Lists what is kept of `whole` runs and of `last` tokens of one more, from the tokens of active runs.
void list_tokens(size_t whole, size_t last, Scratch& s) {
  const uint8_t* tokens = s.tokens.data();
  uint32_t* kept = s.kept.data();
  size_t count = 0;
  const auto list = [&](size_t run, uint32_t mask) {
    for (; mask != 0; mask &= mask - 1)
      kept[count++] = uint32_t(run * run_length) + uint32_t(std::countr_zero(mask));
  };
  for (size_t r = 0; r < whole; ++r) {
    if (s.buckets[r] == 0) continue;
    list(r, mask_of_tokens(tokens));
    tokens += run_length / 4;
  }
  uint8_t rest[run_length / 4] = {};
  std::copy(tokens, tokens + last, rest);
  if (last > 0) list(whole, mask_of_tokens(rest));
  s.kept_count = count;
}

}  // namespace

void ClassCoder::join_values() {
  value_parts_.assign(plan.classes, {});
  for (uint32_t j = 0; j < plan.classes; ++j) {
    ValueParts& parts = value_parts_[j];
    const uint32_t width = plan.width[j];
    if (width == 0) continue;
    const uint32_t half = 1u << (width - 1);
    const std::vector<float> of_index = points(j);
    if (j > 0 && (model.magnitudes_coded >> (j - 1) & 1)) {
      parts.low_bits = uint8_t(element::raw_magnitude_bits(width));
      parts.low_mask = uint8_t((1u << parts.low_bits) - 1);
      parts.bits = uint8_t(1 + parts.low_bits);
      parts.has_symbols = true;
      parts.half = uint8_t(half);
      std::copy(of_index.begin(), of_index.end(), parts.values.begin());
      continue;
    }
    parts.bits = uint8_t(width);
    for (uint32_t code = 0; code < 2 * half; ++code)
      parts.values[code] = of_index[element::sign_of_code(plan.quantizer, width, code) * half +
                                    element::magnitude_of_code(plan.quantizer, width, code)];
  }
}

std::span<const uint32_t> ClassCoder::decode(std::string_view block, std::span<float> values,
                                             std::string_view what) const {
  Scratch& s = scratch();
  const size_t n = values.size();
  s.resize(n);
  uint8_t* classes = s.classes.data();
  size_t at = 0;

  bool named = false, listed = false;  // what is kept, with its classes or without
  if (map != MapPacker::entropy) {
    BitReader in(block);
    switch (map) {
      case MapPacker::raw: {
        const uint32_t bits = raw_map_bits(plan.classes);
        for (size_t i = 0; i < n; ++i) {
          classes[i] = uint8_t(in.get(bits));
          if (classes[i] >= plan.classes) damaged(what, "a class beyond the last");
        }
        break;
      }
      case MapPacker::bitmap:
        for (size_t i = 0; i < n; ++i) classes[i] = uint8_t(in.bit());
        if (!in.align()) damaged(what, "padding bits are not zero");
        for (size_t i = 0; i < n; ++i)
          if (classes[i]) classes[i] = uint8_t(get_class(in, plan.classes));
        break;
      case MapPacker::index32:
      case MapPacker::packed: {
        const uint32_t bits = map == MapPacker::packed ? packed_index_bits(n) : 32;
        const uint64_t kept = in.get(32);
        if (kept > n) damaged(what, "more kept elements than elements");
        uint64_t expected = 0;
        for (uint64_t k = 0; k < kept; ++k) {
          const uint64_t index = in.get(bits);
          if (index < expected || index >= n || in.overrun())
            damaged(what, "indices do not ascend or leave the block");
          s.kept[k] = uint32_t(index);
          s.kept_classes[k] = uint8_t(get_class(in, plan.classes));
          expected = index + 1;
        }
        s.kept_count = kept;
        break;
      }
      default: {
        const uint32_t parameter = in.get(8);
        const uint64_t kept = in.get(32);
        if (parameter > 31 || kept > n) damaged(what, "impossible gap parameter or count");
        uint64_t expected = 0;
        for (uint64_t k = 0; k < kept; ++k) {
          uint64_t gap = in.get_unary(n >> parameter) << parameter;
          gap |= in.get(parameter);
          if (gap >= n - expected || in.overrun()) damaged(what, "a gap leaves the block");
          expected += gap;
          s.kept[k] = uint32_t(expected++);
          s.kept_classes[k] = uint8_t(get_class(in, plan.classes));
        }
        s.kept_count = kept;
        break;
      }
    }
    if (!in.align() || in.overrun()) damaged(what, "the class map is truncated or its padding is not zero");
    at = in.consumed();
    if (at > block.size()) damaged(what, "the class map is truncated");
    named = names_kept(map);
    if (named && model.needs_activities()) {
      std::fill(classes, classes + n, uint8_t(0));
      for (size_t k = 0; k < s.kept_count; ++k) classes[s.kept[k]] = s.kept_classes[k];
    }
    if (model.needs_activities())
      cpu::run_activities(std::span<const uint8_t>(classes, n), std::span(s.buckets.data(), runs_of(n)));
  }

  std::string_view rans;
  if (model.uses_rans()) {
    ByteReader in(block.substr(at), what);
    rans = in.string();
    at += in.position();
  }
  cpu::RansDecoder decoder(rans, lanes);
  if (map == MapPacker::entropy) {
    const size_t runs = runs_of(n);
    const uint32_t joined = classes_per_token(plan.classes);
    if (model.buckets == 0 && runs > 0) damaged(what, "no activity tables");
    decoder.begin_section();
    if (runs > 0 && !decoder.next_following(slots_.data(), std::span(map_slots_).first(model.buckets),
                                            std::span(s.buckets.data(), runs)))
      damaged(what, "an activity beyond the last");
    // Tokens of the whole runs, then of a short last one, then from tokens to classes.
    decoder.begin_section();
    const size_t whole = n / run_length, each = run_length / joined;
    uint32_t* offsets = s.offsets.data();
    size_t active = 0;
    for (size_t r = 0; r < whole; ++r) {
      offsets[active] = map_slots_[token_table_offset + s.buckets[r]];
      active += s.buckets[r] != 0;
    }
    const size_t last =
        runs > whole && s.buckets[whole] != 0 ? (n - whole * run_length + joined - 1) / joined : 0;
    if (s.tokens.size() < active * each + last) s.tokens.resize(active * each + last);
    decoder.next_groups(slots_.data(), std::span<const uint32_t>(offsets, active), each, s.tokens.data());
    const uint8_t* tokens = s.tokens.data();
    if (last) {
      offsets[0] = map_slots_[token_table_offset + s.buckets[whole]];
      decoder.next_groups(slots_.data(), std::span<const uint32_t>(offsets, 1), last,
                          s.tokens.data() + active * each);
    }
    // Tokens of two classes are masks of what is kept.
    listed = plan.classes == 2 && plan.width[0] == 0;
    if (listed) list_tokens(whole, last, s);
    for (size_t r = 0; !listed && r < runs; ++r) {
      uint8_t* run = classes + r * run_length;
      if (s.buckets[r] == 0 || r == whole) std::memset(run, 0, run_length);
      if (s.buckets[r] == 0) continue;
      const size_t count = r == whole ? last : each;
      if (plan.classes == 4) {
        // The default: two classes of two bits, split without a table so that the loop vectorises.
        for (size_t t = 0; t < count; ++t) {
          const auto pair = uint16_t((tokens[t] & 3) | (tokens[t] >> 2) << 8);
          std::memcpy(run + 2 * t, &pair, 2);
        }
      } else if (joined == 2) {
        for (size_t t = 0; t < count; ++t) std::memcpy(run + 2 * t, &token_classes_[tokens[t] * 4], 2);
      } else if (joined == 4) {
        for (size_t t = 0; t < count; ++t) std::memcpy(run + 4 * t, &token_classes_[tokens[t] * 4], 4);
      } else {
        std::memcpy(run, tokens, count);
      }
      tokens += count;
    }
    for (size_t i = n; !listed && i < (n + joined - 1) / joined * joined; ++i)
      if (classes[i]) damaged(what, "padding classes are not zero");
    if (listed && s.kept_count > 0 && s.kept[s.kept_count - 1] >= n)
      damaged(what, "padding classes are not zero");
    if (!listed && plan.width[0] == 0) {
      s.kept_count = cpu::list_active(std::span<const uint8_t>(classes, n),
                                      std::span<const uint8_t>(s.buckets.data(), runs), s.kept.data());
      listed = true;
    }
  }

  if (!named && !listed) list_kept(plan, n, s);
  const uint32_t* kept = s.kept.data();
  const size_t count = s.kept_count;
  uint8_t* kept_classes = s.kept_classes.data();
  if (plan.classes == 2 && plan.width[0] == 0)
    std::fill(kept_classes, kept_classes + count, uint8_t(1));
  else if (!named)
    for (size_t k = 0; k < count; ++k) kept_classes[k] = classes[kept[k]];

  // Magnitude indices of the coded classes, in index order; the planes lie between them and the sign bits.
  if (model.magnitudes_coded != 0) {
    decoder.begin_section();
    uint32_t tables[max_classes][max_activity_buckets] = {};
    bool is_coded[max_classes] = {};
    for (uint32_t j = 1; j < plan.classes; ++j) {
      is_coded[j] = model.magnitudes_coded >> (j - 1) & 1;
      const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
      for (uint32_t b = 0; b < max_activity_buckets; ++b)
        tables[j][b] = magnitude_slots_[j][by_activity ? b : 0];
    }
    const bool needs_activities = model.magnitudes_by_activity != 0;
    const uint8_t* buckets = s.buckets.data();
    uint32_t* offsets = s.offsets.data();
    size_t coded = 0;
    for (size_t k = 0; k < count; ++k) {
      const uint32_t c = kept_classes[k];
      offsets[coded] = tables[c][needs_activities ? buckets[kept[k] / run_length] : 0];
      coded += is_coded[c];
    }
    decoder.next_indexed(slots_.data(), offsets, s.codes.data(), coded);
  }
  if (model.uses_rans() && !decoder.finished())
    damaged(what, "the entropy-coded stream does not end where it should");

  read_values(block, at, values, what);
  return {kept, count};
}

/// The values of the kept elements, from the planes that begin at byte `at` and the symbols that are decoded.
void ClassCoder::read_values(std::string_view block, size_t at, std::span<float> values,
                             std::string_view what) const {
  Scratch& s = scratch();
  const uint32_t* kept = s.kept.data();
  const uint8_t* kept_classes = s.kept_classes.data();
  const size_t count = s.kept_count;

  std::fill(values.begin(), values.end(), 0.0f);
  float* out = values.data();
  const bool one_class = plan.classes == 2 && plan.width[0] == 0;
  for (uint32_t j = 0; j < plan.classes; ++j) {
    const ValueParts& parts = value_parts_[j];
    if (parts.bits == 0 || parts.has_symbols) continue;
    const uint64_t members =
        one_class ? count : uint64_t(std::count(kept_classes, kept_classes + count, uint8_t(j)));
    const uint64_t plane_bytes = (members * parts.bits + 7) / 8;
    if (plane_bytes > block.size() - at) damaged(what, "a value plane is truncated");
    BitReader plane(block.substr(at, size_t(plane_bytes)));
    for (size_t k = 0; k < count; ++k)
      if (kept_classes[k] == j) out[kept[k]] = parts.values[plane.get(parts.bits)];
    if (!plane.align()) damaged(what, "padding bits are not zero");
    at += size_t(plane_bytes);
  }
  if (model.magnitudes_coded != 0) {
    BitReader raw(block.substr(at));
    const uint8_t* symbols = s.codes.data();
    for (size_t k = 0; k < count; ++k) {
      const ValueParts& parts = value_parts_[kept_classes[k]];
      if (!parts.has_symbols) continue;
      const uint32_t bits = raw.get(parts.bits);
      const uint32_t index = uint32_t(*symbols++) << parts.low_bits | (bits & parts.low_mask);
      if (index >= parts.half) damaged(what, "a magnitude beyond the last");
      out[kept[k]] = parts.values[(bits >> parts.low_bits) * parts.half + index];
    }
    if (!raw.align() || raw.overrun())
      damaged(what, "the sign bits are truncated or their padding is not zero");
    at += raw.consumed();
  }
  if (at != block.size())
    damaged(what, "expected " + std::to_string(at) + " bytes, found " + std::to_string(block.size()));
}

namespace {

/// Classes and activities of a classified block.
void count_classes(const element::ClassPlan& plan, size_t n, Scratch& s, ClassTally& counts) {
  const size_t runs = runs_of(n);
  const uint32_t joined = classes_per_token(plan.classes);
  cpu::count_runs(std::span<const uint8_t>(s.classes.data(), n), plan.classes, s.run_counts);
  uint32_t previous = 0;
  const uint8_t* const kept = s.run_counts.data();  // of every run
  uint64_t quiet = 0, still_quiet = 0;
  for (size_t r = 0; r < runs; ++r) {
    const size_t in_run = std::min<size_t>(run_length, n - r * run_length);
    if (plan.classes == 1 || kept[r] == 0) {
      s.buckets[r] = 0;
      if (previous == 0)
        ++still_quiet;
      else
        ++counts.entropy.activity[previous][0];
      previous = 0;
      quiet += in_run;
      if (in_run < run_length) counts.entropy.classes[0][0] += (joined - in_run % joined) % joined;
      continue;
    }
    uint32_t activity = 0;
    for (uint32_t j = 1; j < plan.classes; ++j) activity += s.run_counts[(j - 1) * runs + r];
    const uint32_t bucket = uint32_t(std::bit_width(activity));
    s.buckets[r] = uint8_t(bucket);
    ++counts.entropy.activity[previous][bucket];
    previous = bucket;
    uint32_t above = uint32_t(in_run);
    for (uint32_t j = 0; j < plan.classes; ++j) {
      const uint32_t next = j + 1 < plan.classes ? s.run_counts[j * runs + r] : 0;
      counts.members[j] += above - next;
      counts.entropy.classes[bucket][j] += above - next;
      above = next;
    }
    counts.entropy.classes[bucket][0] += (joined - in_run % joined) % joined;
  }
  counts.entropy.activity[0][0] += still_quiet;
  counts.entropy.classes[0][0] += quiet;
  counts.members[0] += quiet;
}

}  // namespace

void ClassCoder::count(std::span<const float> values, uint64_t first_pool_index, ClassTally& counts) const {
  Scratch& s = scratch();
  s.resize(values.size());
  cpu::classify(values, first_pool_index, plan, std::span(s.classes.data(), values.size()));
  count_classes(plan, values.size(), s, counts);
}

void ClassCoder::tally(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                       uint32_t tensor, DType dtype, ClassTally& counts, BlockSums& sums) const {
  Scratch& s = scratch();
  quantize_block(plan, values, {first_pool_index, first_element, tensor}, dtype, s, sums);
  tally_block(values.size(), counts);
}

void ClassCoder::tally_symbols(std::span<const float> values, uint64_t first_pool_index,
                               uint64_t first_element, uint32_t tensor, ClassTally& counts) const {
  Scratch& s = scratch();
  classify_block(plan, values, first_pool_index, s);
  if (has_vector_loop(plan.quantizer))
    code_kept(plan, values, s);
  else
    quantize_one_by_one(plan, values, {first_pool_index, first_element, tensor}, DType::f32, s);
  tally_block(values.size(), counts);
}

void ClassCoder::tally_block(size_t n, ClassTally& counts) const {
  Scratch& s = scratch();
  count_classes(plan, n, s, counts);
  const uint32_t parameter = rice_parameter(n, s.kept_count);
  uint64_t rice_bits = 0, expected = 0;
  with_quantizer(plan.quantizer, [&](auto quantizer) {
    for (size_t k = 0; k < s.kept_count; ++k) {
      const uint32_t i = s.kept[k], c = s.kept_classes[k], width = plan.width[c];
      const uint32_t magnitude = element::magnitude_of_code(quantizer(), width, s.codes[k]);
      ++counts.entropy
            .magnitude[c][s.buckets[i / run_length]][magnitude >> element::raw_magnitude_bits(width)];
      rice_bits += ((i - expected) >> parameter) + 1 + parameter + std::min(c, plan.classes - 2);
      expected = i + 1;
    }
  });
  counts.rice_bits += rice_bits + 40 + 7;
}

}  // namespace jsq
