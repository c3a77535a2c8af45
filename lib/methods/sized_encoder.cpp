#include "lib/methods/sized_encoder.hpp"

#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"
#include "jsq/frame.hpp"
#include "kernels/cpu/dither.hpp"
#include "kernels/cpu/error_sums.hpp"
#include "lib/core/stored_values.hpp"

namespace jsq {
void Scheme::describe(PoolReport&) const {}
void Scheme::save(State&) const {}
void MethodEncoder::save(State&) const {}
void MethodEncoder::encode_unmeasured(size_t t, uint64_t first, std::span<const float> values,
                                      std::string& out, BlockSums& sums) const {
  encode_block(t, first, values, out, sums);
}
std::unique_ptr<DeviceBlocks> MethodEncoder::encode_on_device() const {
  return nullptr;
}
std::unique_ptr<DeviceBlocks> Scheme::encode_on_device(const TensorPool&) const {
  return nullptr;
}
std::unique_ptr<DeviceBlockDecoder> MethodDecoder::device_decoder() const {
  return nullptr;
}
std::optional<size_t> MethodEncoder::aim_tail(double, std::span<const TakenBlock>) {
  return std::nullopt;
}
void MethodEncoder::shape_blocks(uint64_t) {}
bool MethodEncoder::takes_blocks(size_t) const {
  return true;
}
bool MethodEncoder::learn(uint64_t) {
  return false;
}
size_t MethodEncoder::blocks_together(size_t) const {
  return 1;
}

void MethodEncoder::encode_together(std::span<const Uncoded> blocks, bool measured) const {
  for (const Uncoded& block : blocks)
    if (measured)
      encode_block(block.tensor, block.first, block.values, *block.out, *block.sums);
    else
      encode_unmeasured(block.tensor, block.first, block.values, *block.out, *block.sums);
}

size_t MethodDecoder::blocks_together() const {
  return 1;
}

void MethodDecoder::decode_together(std::span<const StoredBlock> blocks) const {
  for (const StoredBlock& block : blocks) decode_block(block.place, block.bytes, block.values, block.what);
}

void MethodDecoder::bind(std::span<const BlockPlace>) {}
TensorCoding MethodDecoder::coding(const BlockPlace&, uint8_t, std::span<const std::string_view>,
                                   std::string_view) const {
  return {};
}
void MethodDecoder::decode_empty(const BlockPlace&, std::span<float> values) const {
  std::fill(values.begin(), values.end(), 0.0f);
}

std::vector<PoolBlock> pool_blocks(const TensorPool& pool, uint8_t block_log2, uint64_t wanted) {
  std::vector<PoolBlock> blocks;
  const uint64_t length = uint64_t(1) << block_log2, total = pool.summary().elements;
  const double share = total > wanted ? double(wanted) / double(total) : 1.0;
  double quota = 0;
  for (size_t t = 0; t < pool.tensors().size(); ++t) {
    const uint64_t elements = pool.tensors()[t].info->elements();
    for (uint64_t first = 0; first < elements; first += length) {
      const size_t count = size_t(std::min(length, elements - first));
      quota += share * double(count);
      if (share < 1 && quota < double(count) &&
          !(blocks.empty() && first + length >= elements && t + 1 == pool.tensors().size()))
        continue;
      quota -= double(count);
      blocks.push_back({t, first, count});
    }
  }
  return blocks;
}

double SizedEncoder::Measurement::cosine() const {
  Distortion distortion;
  distortion.energy = energy;
  distortion.dot = sums.dot;
  distortion.decoded_energy = sums.decoded_energy;
  return distortion.cosine();
}

double SizedEncoder::Measurement::nmse() const {
  if (energy > 0) return sums.squared_error / energy;
  return sums.squared_error > 0 ? HUGE_VAL : 0.0;
}

SizedEncoder::SizedEncoder(const TensorPool& pool, std::unique_ptr<Scheme> scheme, std::string name,
                           const EncoderContext& context)
    : pool_(pool), scheme_(std::move(scheme)), name_(std::move(name)), context_(context) {
  whole_draft_ = pool.summary().elements <= Scheme::draft_elements || !scheme_->drafts();
  scheme_->outline(scheme_->sizes().native);
}

void SizedEncoder::set(uint64_t size) {
  scheme_->set_size(size, false);
  size_ = size;
}

void SizedEncoder::aim_native() {
  set(scheme_->sizes().native);
}

uint64_t SizedEncoder::stored_bytes() const {
  std::set<std::string> seen;
  uint64_t bytes = 0;
  for (size_t t = 0; t < pool_.tensors().size(); ++t) {
    StoredSet set = scheme_->stored_set(t);
    const uint64_t size = set.parameters.size();
    if (seen.insert(std::move(set.parameters)).second) bytes += size;
  }
  return bytes;
}

SizedEncoder::Measurement SizedEncoder::measure_on_device(DeviceBlocks& coded) const {
  Measurement total;
  std::string code;
  for (size_t b = pool_blocks(pool_, scheme_->block_log2()).size(); b > 0; --b) {
    BlockSums sums;
    code.clear();
    coded.next(code, sums);
    total.bytes += double(code.size());
    total.sums.add(sums);
  }
  total.bytes += double(stored_bytes());
  total.energy = pool_.summary().energy;
  return total;
}

const SizedEncoder::Measurement& SizedEncoder::measure(uint64_t size, bool draft, Asked asked) {
  if (whole_draft_) draft = false;
  const bool with_errors = asked == Asked::errors;
  const auto known = measured_.find({size, draft});
  if (known != measured_.end() && (known->second.with_errors || !with_errors)) return known->second;
  scheme_->set_size(size, draft);
  if (!draft && pool_.device() != nullptr)
    if (const std::unique_ptr<DeviceBlocks> coded = scheme_->encode_on_device(pool_))
      return measured_.insert_or_assign(std::pair(size, draft), measure_on_device(*coded)).first->second;
  const std::vector<PoolBlock> blocks =
      pool_blocks(pool_, scheme_->block_log2(), draft ? Scheme::draft_elements : UINT64_MAX);
  struct Part {
    BlockSums sums;
    uint64_t bytes = 0;
    double energy = 0;
  };
  std::vector<Part> parts(blocks.size());
  tbb::parallel_for(size_t(0), blocks.size(), [&](size_t b) {
    static thread_local std::vector<float> scratch;
    std::string code;
    const std::span<const float> values =
        pool_.read(blocks[b].tensor, blocks[b].first, blocks[b].count, scratch);
    code_block(blocks[b].tensor, blocks[b].first, values, code, parts[b].sums, with_errors);
    parts[b].bytes = code.size();
    if (with_errors) parts[b].energy = cpu::sum_squares(values);
  });
  Measurement total;
  total.with_errors = with_errors;
  uint64_t elements = 0;
  for (size_t b = 0; b < parts.size(); ++b) {
    total.bytes += double(parts[b].bytes);
    total.energy += parts[b].energy;
    total.sums.add(parts[b].sums);
    elements += blocks[b].count;
  }
  const double scale = elements ? double(pool_.summary().elements) / double(elements) : 1.0;
  const double code_scale = draft ? scale / scheme_->draft_weight(blocks) : scale;
  total.bytes = total.bytes * code_scale + double(stored_bytes());
  if (draft) total.bytes += scheme_->fixed_bytes(false) - scale * scheme_->fixed_bytes(true);
  total.sums.nominal_bits = uint64_t(double(total.sums.nominal_bits) * code_scale);
  return measured_.insert_or_assign(std::pair(size, draft), total).first->second;
}

template <class Amount>
uint64_t SizedEncoder::largest_within(double wanted, bool draft, Amount amount) {
  const auto [least, most, native] = scheme_->sizes();
  if (least == most) return least;
  const auto at = [&](uint64_t size) { return std::max(amount(measure(size, draft, Asked::size)), 1.0); };
  uint64_t low = least, high = most;
  std::optional<double> fits, exceeds;  // amounts at low and high, once they are known
  struct Point {
    double size, amount;
  };
  std::optional<Point> last;
  uint64_t next = std::clamp(guess_ ? guess_ : std::max(native, uint64_t(1)), least, most);
  for (int round = 0; round < 64; ++round) {
    const double found = at(next);
    if (found <= wanted) {
      low = next;
      fits = found;
      if (next == most || (found >= (draft && !whole_draft_ ? 0.9975 : 0.9995) * wanted && most - least > 64))
        return next;
    } else {
      high = next;
      exceeds = found;
      if (next == least) return least;
    }
    if (fits && exceeds && high - low <= 1) return low;
    // Along the last two amounts in logarithms, between two sides now and then by halves.
    const double aim = wanted * (draft && !whole_draft_ ? 0.9992 : 0.9998),
                 size = std::max(double(next), 0.5);
    double slope = 1;
    if (last && last->size != size && last->amount != found)
      slope = std::clamp(std::log(size / last->size) / std::log(found / last->amount), 0.0, 16.0);
    last = {size, found};
    double estimate = size * std::exp(slope * std::log(aim / found));
    if (fits && exceeds) {
      if (round % 4 == 3 || !(estimate > double(low) && estimate < double(high)))
        estimate = double(low) + double(high - low) / 2;
    } else if (fits) {
      estimate = std::clamp(estimate, double(low) * 1.0005 + 1, double(low) * 64 + 1);
    } else {
      estimate = std::clamp(estimate, double(high) / 64, double(high) * 0.9995);
    }
    const double bounded = std::clamp(estimate, double(least), double(most));
    uint64_t rounded = bounded >= double(most) ? most : uint64_t(bounded);
    next = std::clamp(rounded, fits ? low + 1 : least, exceeds ? high - 1 : most);
  }
  return low;
}

template <class ErrorOf>
uint64_t SizedEncoder::smallest_within(double target, bool draft, uint64_t low, uint64_t high,
                                       ErrorOf error) {
  const auto meets = [&](uint64_t size) { return error(measure(size, draft, Asked::errors)) <= target; };
  if (low == high || meets(low)) return low;
  if (!meets(high)) return high;
  while (high - low > std::max<uint64_t>(1, high / 2048)) {
    const uint64_t middle = low > 0 && high / low < 8 ? low + (high - low) / 2 : std::max(low + 1, high / 8);
    if (meets(middle))
      high = middle;
    else
      low = middle;
  }
  return high;
}

bool SizedEncoder::learn(uint64_t body_bytes) {
  const auto [least, most, native] = scheme_->sizes();
  if (most - least <= 64) return false;  // few sizes are tried one by one
  taken_[size_] = body_bytes;
  return true;
}

uint64_t SizedEncoder::size_from(const Taken& taken, double body_bytes) const {
  const auto [least, most, native] = scheme_->sizes();
  uint64_t low = least, high = most;
  std::optional<double> fits, exceeds;
  for (const auto& [size, bytes] : taken) {
    if (double(bytes) <= body_bytes) {
      low = size;
      fits = double(bytes);
    } else if (!exceeds) {
      high = size;
      exceeds = double(bytes);
    }
  }
  const double known = std::max(fits ? *fits : *exceeds, 1.0),
               size = std::max(double(fits ? low : high), 0.5);
  double slope = 1;
  if (fits && exceeds && *exceeds > known) slope = std::log(double(high) / size) / std::log(*exceeds / known);
  const double estimate =
      size * std::exp(std::clamp(slope, 0.0, 16.0) * std::log(std::max(body_bytes, 1.0) / known));
  const double bounded = std::clamp(estimate, double(least), double(most));
  const uint64_t rounded = bounded >= double(most) ? most : uint64_t(bounded);
  return std::clamp(rounded, low, exceeds && high > low ? high - 1 : high);
}

uint64_t SizedEncoder::aim_bytes(uint64_t body_bytes) {
  if (!taken_.empty()) {
    set(size_from(taken_, double(body_bytes)));
    const auto known = taken_.find(size_);
    return known == taken_.end() ? body_bytes : known->second;
  }
  const auto bytes = [](const Measurement& m) { return m.bytes; };
  const uint64_t size = largest_within(double(body_bytes), true, bytes);
  guess_ = size;
  const double expected = measure(size, true, Asked::size).bytes;
  set(size);
  return uint64_t(std::ceil(follow_told(double(body_bytes), expected)));
}

double SizedEncoder::follow_told(double body_bytes, double expected) {
  // Small pools are coded as quickly.
  if (pool_.summary().elements <= uint64_t(1) << 19 || scheme_->sizes().least == scheme_->sizes().most)
    return expected;
  Taken told;
  for (int round = 0; round < 4; ++round) {
    const std::optional<double> bytes = scheme_->told_bytes();
    if (!bytes) return expected;
    expected = *bytes + double(stored_bytes());
    if (expected <= 0.9995 * body_bytes && expected >= 0.996 * body_bytes) break;
    told[size_] = uint64_t(expected);
    const uint64_t next = size_from(told, 0.998 * body_bytes);
    if (told.contains(next)) break;
    set(next);
  }
  return expected;
}

void SizedEncoder::aim_payload_bits(uint64_t payload_bits) {
  const auto bits = [](const Measurement& m) { return double(m.sums.nominal_bits); };
  uint64_t size = largest_within(double(payload_bits), true, bits);
  const uint64_t least = scheme_->sizes().least;
  // A draft may have been a little off: back until the whole pool fits, then forth while it does.
  for (int round = 0;
       round < 64 && size > least && bits(measure(size, false, Asked::size)) > double(payload_bits); ++round)
    size = std::max(least, size - std::max<uint64_t>(1, size / 512));
  for (int round = 0; round < 16 && size < scheme_->sizes().most; ++round) {
    const double taken = std::max(bits(measure(size, false, Asked::size)), 1.0);
    if (taken > 0.995 * double(payload_bits)) break;
    const double wanted = std::clamp(double(size) * (1 + 0.9 * (double(payload_bits) / taken - 1)),
                                     double(size) + 1, double(scheme_->sizes().most));
    if (bits(measure(uint64_t(wanted), false, Asked::size)) > double(payload_bits)) break;
    size = uint64_t(wanted);
  }
  if (bits(measure(size, false, Asked::size)) > double(payload_bits))
    throw Error(
        Errc::unreachable_target,
        fmt::format("a payload of {} bits is below the {:.0f} that {} needs at least for {} "
                    "elements; ask for less compression",
                    payload_bits, bits(measure(size, false, Asked::size)), name_, pool_.summary().elements));
  set(size);
}

void SizedEncoder::aim_error(const Target& target) {
  if (target.kind == TargetKind::hprime)
    throw Error(Errc::usage,
                fmt::format("{}: hprime is the noise model of methods with width classes, such as jointsq; "
                            "give {} an nmse or maxabs target",
                            to_string(target), name_));
  // Less is better, of cosines what they lack.
  const auto error = [&](const Measurement& m) {
    if (target.kind == TargetKind::cosine) return 1 - m.cosine();
    return target.kind == TargetKind::maxabs ? m.sums.max_error : m.nmse();
  };
  const double allowed = target.kind == TargetKind::cosine ? 1 - target.value : target.value;
  const auto [least, most, native] = scheme_->sizes();
  uint64_t high = smallest_within(allowed, true, least, most, error);
  uint64_t low = high;
  // The draft's answer, moved until the whole pool meets the target, then back as far as it goes.
  uint64_t step = std::max<uint64_t>(1, high / 256);
  while (error(measure(high, false, Asked::errors)) > allowed && high < most) {
    low = high;
    high = most - high > step ? high + step : most;
    step *= 4;
  }
  if (const double least_error = error(measure(high, false, Asked::errors)); least_error > allowed)
    throw UnreachableTarget::below(target.kind == TargetKind::cosine ? 1 - least_error : least_error, target,
                                   name_);
  if (low == high && high > least) {
    step = std::max<uint64_t>(1, high / 256);
    low = high - std::min(step, high - least);
    while (low > least && error(measure(low, false, Asked::errors)) <= allowed) {
      high = low;
      step *= 4;
      low = low - std::min(step, low - least);
    }
  }
  set(smallest_within(allowed, false, low, high, error));
}

void SizedEncoder::encode_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                                BlockSums& sums) const {
  code_block(t, first, values, out, sums, true);
}

void SizedEncoder::encode_unmeasured(size_t t, uint64_t first, std::span<const float> values,
                                     std::string& out, BlockSums& sums) const {
  code_block(t, first, values, out, sums, false);
}

void SizedEncoder::code_block(size_t t, uint64_t first, std::span<const float> values, std::string& out,
                              BlockSums& sums, bool with_errors) const {
  static thread_local std::vector<float> decoded;
  decoded.resize(with_errors ? values.size() : 0);
  const PoolTensor& tensor = pool_.tensors()[t];
  const BlockPlace place{tensor.number, first, tensor.info, context_.seed};
  const size_t before = out.size();
  scheme_->encode(t, place, values, out, decoded, sums);
  if (!with_errors) return;
  if (out.size() == before) std::fill(decoded.begin(), decoded.end(), 0.0f);
  const bool deterministic = scheme_->deterministic(), rounded = tensor.info->dtype != DType::f32;
  if (deterministic && rounded) sums.expected_error += cpu::error_sums(values, decoded).squared_error;
  round_to_stored(tensor.info->dtype, decoded);
  const cpu::ErrorSums errors = cpu::error_sums(values, decoded);
  if (deterministic && !rounded) sums.expected_error += errors.squared_error;
  sums.squared_error += errors.squared_error;
  sums.dot += errors.dot;
  sums.decoded_energy += errors.decoded_energy;
  sums.error_sum += errors.error_sum;
  sums.max_error = std::max(sums.max_error, errors.max_error);
}

PoolReport SizedEncoder::report(const BlockSums& total) const {
  PoolReport report;
  report.noise.per_element = report.noise.eq6 = report.noise.eq6_nonzero = report.noise.uniform =
      std::numeric_limits<double>::quiet_NaN();
  report.payload_bits = total.nominal_bits;
  report.entropy_bits = total.entropy_bits;
  report.expected_squared_error = total.expected_error;
  scheme_->describe(report);
  return report;
}

std::unique_ptr<MethodEncoder> make_encoder(const MethodRow& row, const TensorPool& pool,
                                            const MethodSpec& spec, const EncoderContext& context) {
  if (row.make_encoder) return row.make_encoder(pool, spec, context);
  return std::make_unique<SizedEncoder>(pool, row.make_scheme(pool, spec, context),
                                        std::string(row.info.name), context);
}

}  // namespace jsq
