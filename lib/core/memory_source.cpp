// A dump whose tensors are in memory.
#include "lib/core/memory_source.hpp"

#include "jsq/compress.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

class MemorySource final : public GradientSource {
 public:
  MemorySource(std::vector<TensorInfo> tensors, std::vector<std::span<const float>> values)
      : tensors_(std::move(tensors)), values_(std::move(values)) {
    if (tensors_.size() != 1) dump_.format = DumpFormat::npz;
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count, std::vector<float>&) const override {
    return values_[t].subspan(size_t(first), count);
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    encode_elements(tensors_[t].dtype, values_[t].subspan(size_t(first), count), out);
  }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::span<const float>> values_;
};

}  // namespace

std::shared_ptr<const GradientSource> source_of(TensorInfo info, std::span<const float> values) {
  if (info.elements() != values.size())
    throw Error(Errc::usage, "tensor '" + info.name + "': its shape has " + std::to_string(info.elements()) +
                                 " elements, but " + std::to_string(values.size()) + " values were given");
  return std::make_shared<MemorySource>(std::vector<TensorInfo>{std::move(info)},
                                        std::vector<std::span<const float>>{values});
}

std::shared_ptr<const GradientSource> source_of(const std::vector<GradientView>& views) {
  std::vector<TensorInfo> tensors;
  std::vector<std::span<const float>> values;
  for (const GradientView& view : views) {
    tensors.push_back(*view.info);
    values.push_back(view.values);
  }
  return std::make_shared<MemorySource>(std::move(tensors), std::move(values));
}

}  // namespace jsq
