// Gradients in the memory of a CUDA device, handed to jsq as they lie there, and frames and values handed
// back. A program that includes this needs no header of CUDA: a stream is a cudaStream_t as a plain pointer,
// null being the default stream.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "jsq/export.hpp"
#include "jsq/frame.hpp"
#include "jsq/gradients.hpp"
#include "jsq/tensor.hpp"

namespace jsq {

/// A cudaStream_t.
using DeviceStream = void*;

/// A tensor in device memory: info.elements() values of f32, f16 or bf16, side by side.
struct DeviceTensor {
  TensorInfo info;
  const void* data = nullptr;  ///< device memory; may be null where there are no elements
};

/// The tensors as a dump, for InputDump::source of compress(): `auto source = device_source(...);
/// compress({{"step.npz", source, {}, true}}, options, sink)`. With options.backend cuda, or automatic and
/// enough elements, methods that run on the device read f32 where it lies, without a copy, and f16 and bf16
/// from a copy in f32 that the source keeps on the device; otherwise, and where searches look at samples, the
/// values are brought to the host.
///
/// The values are those when what was put on `stream` before this call is done, which it waits for; they must
/// not change until the last use of the source. Thread-safe to read.  \throws Error unsupported_dtype (none
/// of these, or in the other byte order), usage (null with elements), backend_unavailable (no device).
JSQ_API std::shared_ptr<const GradientSource> device_source(std::vector<DeviceTensor> tensors,
                                                            DeviceStream stream);

/// Device memory that is freed with its last owner, for programs without CUDA's headers.  \throws Error
/// backend_unavailable.
JSQ_API std::shared_ptr<void> device_memory(size_t bytes);

/// Copies a frame, or any bytes, to device memory, behind what is on `stream`; returns when they are there.
/// \throws Error backend_unavailable.
JSQ_API void copy_to_device(std::string_view bytes, void* device, DeviceStream stream);

/// Elements [first, first + count) of a tensor of `reader`, as f32 in device memory, behind what is on
/// `stream`; returns when they are there. Methods that run on the device decode there, whatever reader.use()
/// says, and values of f32 and f64 tensors stay; other types, tensors that kept non-finite elements, and
/// other methods come by way of the host. \throws Error as FrameReader::read; backend_unavailable.
JSQ_API void read_to_device(const FrameReader& reader, size_t tensor, uint64_t first, uint64_t count,
                            float* device, DeviceStream stream);

/// The device's own clock: the time between two of its events.
class JSQ_API DeviceClock {
 public:
  /// \throws Error backend_unavailable.
  DeviceClock();
  ~DeviceClock();
  void start();
  /// Since start(), in seconds, when all work of this process on the device is done.
  double seconds();

 private:
  struct Events;
  std::unique_ptr<Events> events_;
};

}  // namespace jsq
