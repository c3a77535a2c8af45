// A dump that is one f32 tensor in memory.
#include <cstring>

#include "jsq/compress.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

class MemorySource final : public GradientSource {
 public:
  MemorySource(TensorInfo info, std::span<const float> values) : tensors_{std::move(info)}, values_(values) {}
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const float> read(size_t, uint64_t first, size_t count, std::vector<float>&) const override {
    return values_.subspan(size_t(first), count);
  }
  void read_stored(size_t, uint64_t first, size_t count, std::byte* out) const override {
    encode_elements(tensors_[0].dtype, values_.subspan(size_t(first), count), out);
  }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
  std::span<const float> values_;
};

}  // namespace

std::shared_ptr<const GradientSource> source_of(TensorInfo info, std::span<const float> values) {
  if (info.elements() != values.size())
    throw Error(Errc::usage, "tensor '" + info.name + "': its shape has " + std::to_string(info.elements()) +
                                 " elements, but " + std::to_string(values.size()) + " values were given");
  return std::make_shared<MemorySource>(std::move(info), values);
}

}  // namespace jsq
