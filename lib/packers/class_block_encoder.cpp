// Class blocks are written.
#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "kernels/cpu/bit_io.hpp"
#include "kernels/cpu/rans_eights.hpp"
#include "kernels/cpu/rans_stream.hpp"
#include "lib/core/bytes.hpp"
#include "lib/core/room.hpp"
#include "lib/packers/class_scratch.hpp"

namespace jsq {

using cpu::BitWriter;
using element::magnitude_table;
using element::magnitude_table_offset;
using element::max_activity_buckets;
using element::rice_parameter;
using element::symbol_id;
using element::token_table_offset;

namespace {

/// The symbols of a class map: activities of all runs, and tokens of those that are not quiet.
void list_map_symbols(uint32_t classes, size_t n, ClassScratch& s, size_t& activity_ids, size_t& token_ids) {
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

/// The buckets of all runs of a block of two classes, from the list of the elements of class 1.
void bucket_kept(size_t n, ClassScratch& s) {
  std::fill(s.buckets.begin(), s.buckets.begin() + std::ptrdiff_t(runs_of(n)), uint8_t(0));
  uint8_t* const buckets = s.buckets.data();
  const uint32_t* const kept = s.kept.data();
  for (size_t k = 0; k < s.kept_count; ++k) ++buckets[kept[k] / run_length];
  for (size_t r = 0; r < runs_of(n); ++r) buckets[r] = uint8_t(std::bit_width(buckets[r]));
}

/// list_map_symbols() of a block of two classes, from the list of the elements of class 1.
void list_kept_symbols(size_t n, ClassScratch& s, size_t& activity_ids, size_t& token_ids) {
  const size_t runs = runs_of(n);
  constexpr size_t most_tokens = run_length / 4;
  if (s.activity_ids.size() < runs) s.activity_ids.resize(runs);
  if (s.token_ids.size() < (runs + 1) * most_tokens) s.token_ids.resize((runs + 1) * most_tokens);
  uint16_t* const activities = s.activity_ids.data();
  uint16_t* ids = s.token_ids.data();
  const uint8_t* const buckets = s.buckets.data();
  uint32_t previous = 0;
  for (size_t r = 0; r < runs; ++r) {
    activities[r] = symbol_id(previous, buckets[r]);
    previous = buckets[r];
  }
  const uint32_t* const kept = s.kept.data();
  for (size_t k = 0; k < s.kept_count;) {
    const size_t run = kept[k] / run_length, in_run = std::min<size_t>(run_length, n - run * run_length);
    uint32_t members = 0;
    for (; k < s.kept_count && kept[k] / run_length == run; ++k) members |= 1u << kept[k] % run_length;
    const uint32_t base = symbol_id(token_table_offset + buckets[run], 0);
    for (size_t t = 0; t < most_tokens; ++t) ids[t] = uint16_t(base + (members >> 4 * t & 15));
    ids += (in_run + 3) / 4;
  }
  activity_ids = runs;
  token_ids = size_t(ids - s.token_ids.data());
}

/// The mean of the kept elements' squared errors over the rounding, left to right.
double expected_error_of_kept(const element::ClassPlan& plan, std::span<const float> values,
                              const ClassScratch& s) {
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

/// What a block's runs are coded as, and the bytes that becomes; reused by a thread.
struct RunBuffers {
  Room<float> filled_up;
  Room<uint8_t> buckets;
  Room<uint16_t> activity_ids, token_ids, magnitude_ids;
  Room<char> raw;
  std::array<Room<char>, cpu::RunCoding::most_classes> planes;
  std::string rans;
};

/// Not inlined: the compiler would otherwise look the thread's copy up again inside the loops.
[[gnu::noinline]] std::array<RunBuffers, cpu::encoded_together>& run_buffers() {
  static thread_local std::array<RunBuffers, cpu::encoded_together> buffers;
  return buffers;
}

/// The length of an entropy coder's stream, then the stream, which passes through `stream`.
void append_stream(const cpu::RansEncoder& encoder, std::string& stream, std::string& out) {
  stream.clear();
  encoder.finish(stream);
  ByteWriter length;
  length.uvarint(stream.size());
  out.append(length.bytes());
  out.append(stream);
}

/// The values of a block, filled up with zeros to whole runs.
const float* whole_runs(std::span<const float> values, Room<float>& filled_up) {
  if (values.size() % run_length == 0) return values.data();
  const size_t whole = runs_of(values.size()) * run_length;
  float* const copy = filled_up.for_elements(whole);
  std::fill(std::copy(values.begin(), values.end(), copy), copy + whole, 0.0f);
  return copy;
}

/// A symbol of its own that leaves a stream as it is: activity 0 has no tokens.
constexpr uint16_t no_symbol = token_table_offset * element::rans_max_symbols;

}  // namespace

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
  symbols_[no_symbol] = element::make_rans_symbol(0, element::rans_total);
  split_codes();
  prepare_run_coding();
}

/// What is coded run by run: cells of classes beside one that is left out, under an entropy-coded map with
/// two classes a token, as jointsq's default has them.
void ClassCoder::prepare_run_coding() {
  run_coding_.reset();
  if (map != MapPacker::entropy || plan.quantizer != element::ClassQuantizer::cell || plan.width[0] != 0 ||
      classes_per_token(plan.classes) != 2)
    return;
  uint32_t place[max_classes] = {}, places = 0;
  for (uint32_t j = 1; j < plan.classes; ++j) {
    if (!(model.magnitudes_coded >> (j - 1) & 1)) continue;
    place[j] = places;
    places += 1u << element::coded_magnitude_bits(plan.width[j]);
  }
  constexpr uint32_t group = cpu::grouped_symbols;
  const uint32_t first = symbol_id(magnitude_table_offset, 0) / group * group + group;
  const uint32_t stride = (places + group - 1) / group * group;
  run_symbols_.assign(symbols_.begin(), symbols_.begin() + symbol_id(magnitude_table_offset, 0));
  run_symbols_.resize(first + max_activity_buckets * size_t(stride));

  cpu::RunCoding runs;
  runs.classes = plan.classes;
  for (uint32_t j = 1; j < plan.classes; ++j) {
    runs.low[j] = plan.scale[j].low;
    runs.divisor[j] = plan.scale[j].divisor;
    runs.last[j] = float((1u << (plan.width[j] - 1)) - 1);
    const bool coded = model.magnitudes_coded >> (j - 1) & 1;
    runs.low_bits[j] = coded ? element::raw_magnitude_bits(plan.width[j]) : plan.width[j] - 1;
    (coded ? runs.raw_mask[j] : runs.plane_mask[j]) = uint8_t((2u << runs.low_bits[j]) - 1);
    const bool by_activity = model.magnitudes_by_activity >> (j - 1) & 1;
    for (uint32_t b = 0; b < max_activity_buckets; ++b) {
      runs.magnitudes[b][j] = uint16_t(first + b * stride + place[j]);
      if (!coded) continue;
      const auto own = symbols_.begin() + symbol_id(magnitude_table(j, by_activity ? b : 0), 0);
      std::copy_n(own, 1u << element::coded_magnitude_bits(plan.width[j]),
                  run_symbols_.begin() + runs.magnitudes[b][j]);
    }
  }
  for (uint32_t b = 0; b < max_activity_buckets; ++b) runs.tokens[b] = symbol_id(token_table_offset + b, 0);
  run_symbol_groups_ = cpu::symbol_groups(run_symbols_);
  run_coding_ = runs;
}

bool ClassCoder::goes_by_runs(size_t n, uint64_t first_pool_index) const {
  if (!run_coding_ || !cpu::codes_runs()) return false;
  // The zeros that fill up a last short run are to be left out.
  if (n % run_length != 0 && element::effective_threshold(plan, 1, first_pool_index) == 0) return false;
  // Thresholds that change inside a block do so at any element.
  return std::none_of(plan.cutoff + 1, plan.cutoff + plan.classes, [&](uint64_t cutoff) {
    return cutoff > first_pool_index && cutoff - first_pool_index < n;
  });
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

void ClassCoder::measure(const UncodedBlock& block) const {
  ClassScratch& s = class_scratch();
  BlockSums& sums = *block.sums;
  const double error_before = sums.squared_error, energy_before = sums.class_energy[0];
  quantize_block(plan, block.values, {block.first_pool_index, block.first_element, block.tensor}, block.dtype,
                 s, sums);
  // Class 0 is kept where its width is not 0.
  const double dropped = plan.width[0] == 0 ? sums.class_energy[0] - energy_before : 0;
  sums.expected_error += plan.stochastic ? dropped + expected_error_of_kept(plan, block.values, s)
                                         : sums.squared_error - error_before;
}

void ClassCoder::encode(std::span<const float> values, uint64_t first_pool_index, uint64_t first_element,
                        uint32_t tensor, DType dtype, std::string& out, BlockSums& sums) const {
  measure({values, first_pool_index, first_element, tensor, dtype, &out, &sums});
  write_block(values.size(), out);
}

void ClassCoder::encode(std::span<const UncodedBlock> blocks) const {
  if (!go_by_runs(blocks)) {
    for (const UncodedBlock& block : blocks)
      encode(block.values, block.first_pool_index, block.first_element, block.tensor, block.dtype, *block.out,
             *block.sums);
    return;
  }
  std::vector<UncodedBlock> unmeasured(blocks.begin(), blocks.end());
  BlockSums counted;  // what measuring counts too
  for (UncodedBlock& block : unmeasured) {
    measure(block);
    block.sums = &counted;
  }
  encode_runs(unmeasured);
}

void ClassCoder::encode_unmeasured(std::span<const float> values, uint64_t first_pool_index,
                                   uint64_t first_element, uint32_t tensor, std::string& out,
                                   BlockSums& sums) const {
  if (!has_vector_loop(plan.quantizer)) {
    encode(values, first_pool_index, first_element, tensor, DType::f32, out, sums);
  } else if (goes_by_runs(values.size(), first_pool_index)) {
    const UncodedBlock alone{values, first_pool_index, first_element, tensor, DType::f32, &out, &sums};
    encode_runs({&alone, 1});
  } else {
    ClassScratch& s = class_scratch();
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
  const bool by_list = map == MapPacker::entropy || names_kept(map);
  take_codes(n, kept, codes, class_scratch(), !by_list);
  write_block(n, out, by_list);
}

void ClassCoder::append_symbols(std::span<const uint16_t> activities, std::span<const uint16_t> tokens,
                                std::span<const uint16_t> magnitudes, std::string& out) const {
  ClassScratch& s = class_scratch();
  cpu::RansEncoder encoder(lanes, activities.size() + tokens.size() + magnitudes.size());
  encoder.encode_section(magnitudes, symbols_.data());
  encoder.encode_section(tokens, symbols_.data());
  encoder.encode_section(activities, symbols_.data());
  append_stream(encoder, s.rans, out);
}

void ClassCoder::encode_runs(std::span<const UncodedBlock> blocks) const {
  constexpr size_t together = cpu::encoded_together;
  auto& buffers = run_buffers();
  struct Sections {
    size_t length[3] = {};  // of the symbols of magnitudes, tokens and activities
    uint16_t* ids[3] = {};
  };
  Sections sections[together];
  cpu::RunSymbols coded[together];
  std::vector<cpu::RansEncoder> encoders;
  size_t longest_block = 0;
  for (const UncodedBlock& block : blocks) longest_block = std::max(longest_block, block.values.size());
  constexpr size_t more = cpu::run_coding_padding;
  for (size_t k = 0; k < blocks.size(); ++k) {
    const UncodedBlock& block = blocks[k];
    RunBuffers& s = buffers[k];
    const size_t runs = runs_of(block.values.size()), n = runs_of(longest_block) * run_length;
    cpu::RunCoding with = *run_coding_;
    for (uint32_t j = 1; j < plan.classes; ++j)
      with.thresholds[j - 1] = int32_t(element::effective_threshold(plan, j, block.first_pool_index));
    cpu::RunSymbols& symbols = coded[k];
    symbols = {s.buckets.for_elements(runs), s.token_ids.for_elements(n / 2 + more),
               s.magnitude_ids.for_elements(n + more), s.raw.for_elements(n + more)};
    for (uint32_t j = 1; j < plan.classes; ++j)
      if (with.plane_mask[j] != 0) symbols.planes[j] = s.planes[j].for_elements(n + more);
    cpu::code_runs(with, whole_runs(block.values, s.filled_up), runs, symbols);
    // A short run has fewer tokens.
    if (const size_t rest = block.values.size() % run_length; rest > 0 && symbols.buckets[runs - 1] != 0)
      symbols.tokens -= (run_length - rest) / 2;
    for (uint32_t j = 1; j < plan.classes; ++j) block.sums->members[j] += symbols.members[j];
    block.sums->class_energy.fill(std::numeric_limits<double>::quiet_NaN());
    uint16_t* const activities = s.activity_ids.for_elements(n / run_length + more);
    sections[k] = {{symbols.magnitudes, symbols.tokens, symbols.tokens == 0 ? 0 : runs},
                   {symbols.magnitude_ids, symbols.token_ids, activities}};
    uint32_t previous = 0;
    for (size_t r = 0; r < runs; ++r) {
      activities[r] = symbol_id(previous, symbols.buckets[r]);
      previous = symbols.buckets[r];
    }
    encoders.emplace_back(lanes, symbols.magnitudes + symbols.tokens + runs);
  }
  for (size_t part = 0; part < 3; ++part) {
    if (blocks.size() == 1 || lanes > 8) {
      for (size_t k = 0; k < blocks.size(); ++k)
        encoders[k].encode_section({sections[k].ids[part], sections[k].length[part]}, run_symbols_.data());
      continue;
    }
    size_t longest = 0;
    for (const Sections& own : sections) longest = std::max(longest, own.length[part]);
    longest = (longest + 15) / 16 * 16;
    uint16_t* ids[together] = {};
    for (size_t k = 0; k < blocks.size(); ++k) {
      ids[k] = sections[k].ids[part];
      std::fill(ids[k] + sections[k].length[part], ids[k] + longest, no_symbol);
    }
    cpu::RansEncoder::encode_sections(encoders, ids, longest,
                                      {run_symbols_.data(), run_symbol_groups_.data()});
  }
  for (size_t k = 0; k < blocks.size(); ++k) {
    if (coded[k].tokens == 0) continue;  // an empty block is all zeros
    RunBuffers& s = buffers[k];
    std::string& out = *blocks[k].out;
    append_stream(encoders[k], s.rans, out);
    for (uint32_t j = 1; j < plan.classes; ++j) out.append(s.planes[j].data(), coded[k].plane_bytes[j]);
    out.append(s.raw.data(), coded[k].raw_bytes);
  }
}

bool ClassCoder::go_by_runs(std::span<const UncodedBlock> blocks) const {
  return std::all_of(blocks.begin(), blocks.end(), [&](const UncodedBlock& block) {
    return goes_by_runs(block.values.size(), block.first_pool_index);
  });
}

void ClassCoder::encode_unmeasured(std::span<const UncodedBlock> blocks) const {
  if (go_by_runs(blocks)) return encode_runs(blocks);
  for (const UncodedBlock& block : blocks)
    encode_unmeasured(block.values, block.first_pool_index, block.first_element, block.tensor, *block.out,
                      *block.sums);
}

/// The block that the scratch holds: classes, kept elements and their code words.
void ClassCoder::write_block(size_t n, std::string& out, bool by_list) const {
  ClassScratch& s = class_scratch();
  const uint8_t* classes = s.classes.data();
  if (by_list && model.needs_activities())
    bucket_kept(n, s);
  else if (model.needs_activities())
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
    if (model.map_coded && by_list)
      list_kept_symbols(n, s, activity_ids, token_ids);
    else if (model.map_coded)
      list_map_symbols(plan.classes, n, s, activity_ids, token_ids);
    append_symbols({s.activity_ids.data(), activity_ids}, {s.token_ids.data(), token_ids}, s.magnitude_ids,
                   out);
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

}  // namespace jsq
