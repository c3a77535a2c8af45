// Context streams for a decoder on a device: its tables, and where the elements of a piece have their scales.
#pragma once

#include <span>

#include "kernels/cuda/context.hpp"
#include "lib/packers/context_stream.hpp"
#include "lib/packers/scale_field.hpp"

namespace jsq {

cuda::ContextTables device_tables(const ContextCoder& coder);

/// Appends a piece whose values begin at `first`, with scales as fill_classes has them.
void add_device_piece(cuda::ContextDecoder::Contexts& contexts, size_t first, const Piece& piece,
                      ScaleLayout layout, std::span<const int16_t> rows, std::span<const int16_t> columns,
                      std::span<const int16_t> frequencies);

}  // namespace jsq
