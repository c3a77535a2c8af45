#include "lib/packers/context_device.hpp"

#include <algorithm>
#include <climits>
#include <cmath>

namespace jsq {
namespace {

void append_frequencies(const ContextFrequencies& frequencies, std::vector<uint32_t>& out) {
  for (const uint32_t frequency : frequencies) out.push_back(frequency);
}

cuda::ContextUse device_use(const ContextCoder& coder, ContextClass k, uint32_t quantizer) {
  const ContextUse use = coder.use(k);
  const Reconstruction& values = coder.values();
  cuda::ContextUse found;
  found.table = uint8_t(quantizer * coder.model().tables.size() + use.table + 1);
  found.raw_bits = use.raw_bits;
  found.rungs = uint8_t(coder.model().tables_of(quantizer)[use.table].rungs);
  found.has_offsets = values.has_offsets;
  if (found.has_offsets)
    std::copy_n((quantizer ? values.shifted_offsets : values.offsets)[use.table].begin(),
                std::size(found.offsets), found.offsets);
  return found;
}

}  // namespace

cuda::ContextTables device_tables(const ContextCoder& coder) {
  const ContextModel& model = coder.model();
  const Reconstruction& values = coder.values();
  cuda::ContextTables tables;
  tables.lowest = model.tables.empty() ? INT_MAX : model.lowest;
  tables.frequencies.resize(context_symbols);  // of class 0, which has no symbols
  const uint32_t quantizers = model.dependent() ? 2 : 1;
  for (uint32_t q = 0; q < quantizers; ++q)
    for (const Ladder& ladder : model.tables_of(q))
      append_frequencies(signed_frequencies(ladder, model.signs), tables.frequencies);
  append_frequencies(model.has_escapes ? plain_frequencies(model.escapes) : ContextFrequencies{},
                     tables.frequencies);
  tables.uses.resize(quantizers * context_classes);
  const int classes = model.tables.empty() ? 0 : highest_context - model.lowest + 1;
  for (uint32_t q = 0; q < quantizers; ++q)
    for (int k = 1; k <= classes; ++k) {
      cuda::ContextUse& use = tables.uses[q * context_classes + size_t(k)];
      use = device_use(coder, ContextClass(k), q);
      tables.raw_bits = tables.raw_bits || use.raw_bits > 0;
    }
  tables.values.assign(coder.symbol_values(), coder.symbol_values() + tables.uses.size() * context_symbols);
  tables.signs = model.signs == LevelSigns::positive   ? cuda::ContextSigns::positive
                 : model.signs == LevelSigns::negative ? cuda::ContextSigns::negative
                                                       : cuda::ContextSigns::both;
  tables.mantissa = values.mantissa;
  tables.unit = std::ldexp(1.0, values.exponent - 8);
  tables.exact = values.exact;
  tables.base = values.base;
  tables.shift = values.shift;
  return tables;
}

void add_device_piece(cuda::ContextDecoder::Contexts& contexts, size_t first, const Piece& piece,
                      ScaleLayout layout, std::span<const int16_t> rows, std::span<const int16_t> columns,
                      std::span<const int16_t> frequencies) {
  cuda::ContextPiece& place = contexts.pieces.emplace_back();
  place.first = first;
  place.count = uint32_t(piece.count);
  place.length = layout == one_scale          ? piece.count
                 : layout >= first_run_layout ? run_elements(layout)
                                              : piece.view.row_elements();
  place.offset = layout == one_scale ? 0 : piece.first % place.length;
  const auto put = [&](std::span<const int16_t> scales) {
    const size_t begin = contexts.scales.size();
    contexts.scales.insert(contexts.scales.end(), scales.begin(), scales.end());
    return begin;
  };
  place.rows = put(rows);
  if (layout == row_and_column_scales) {
    place.inner = piece.view.inner;
    place.columns = put(columns);
  }
  if (!frequencies.empty()) {
    place.kernel = uint32_t(frequencies.size());
    place.place = uint32_t(piece.first % frequencies.size());
    place.offsets = put(frequencies);
  }
}

}  // namespace jsq
