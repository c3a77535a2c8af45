// Compresses any values with any method and target, reads the frame back, and then damages it.
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "input.hpp"
#include "jsq/compress.hpp"
#include "jsq/frame.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  CompressOptions options;
  const std::vector<const MethodInfo*> all = methods();
  options.method.name = std::string(all[in.byte() % all.size()]->name);
  constexpr TargetKind kinds[] = {TargetKind::native, TargetKind::ratio, TargetKind::nmse};
  options.target.kind = kinds[in.byte() % 3];
  const uint16_t goal = in.u16();
  options.target.value = options.target.kind == TargetKind::ratio ? 1.5 + goal / 16.0 : (1 + goal) / 65537.0;
  options.nonfinite = NonFinitePolicy(in.byte() % 3);
  options.rounding = Rounding(in.byte() % 3);
  options.seed = in.u16();
  options.threads = 1;
  const uint16_t place = in.u16();
  const uint8_t change = in.byte();
  const uint64_t columns = 1 + in.byte() % 40;
  const std::string_view bytes = in.rest();
  std::vector<float> values(std::min<size_t>(bytes.size() / 4, 4096));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * 4);
  values.resize(values.size() / columns * columns);
  TensorInfo info;
  info.name = "t";
  info.dtype = DType::f32;
  info.shape = {values.size() / columns, columns};
  fuzz::only_errors([&] {
    InputDump dump;
    dump.path = "t.npy";
    dump.source = source_of(info, values);
    MemorySink sink;
    const CompressReport report = compress({dump}, options, sink);
    fuzz::expect(report.file_bytes == sink.bytes.size(), "the report counts the file's bytes");
    fuzz::expect(report.budget_bytes == 0 || report.file_bytes <= report.budget_bytes,
                 "a budget is never exceeded");
    const FrameReader frame = FrameReader::from_bytes(sink.bytes);
    fuzz::expect(frame.test(false, 1).empty(), "what was written is sound");
    std::vector<float> decoded(values.size());
    frame.read(0, 0, decoded, 1);
    if (options.method.name == "fp32" && options.nonfinite == NonFinitePolicy::keep)
      for (size_t i = 0; i < values.size(); ++i)
        fuzz::expect(std::bit_cast<uint32_t>(values[i]) == std::bit_cast<uint32_t>(decoded[i]) ||
                         std::isnan(values[i]),
                     "fp32 keeps every bit");
    std::string damaged = sink.bytes;
    damaged[place % damaged.size()] ^= char(change);
    fuzz::only_errors([&] { FrameReader::from_bytes(damaged).test(false, 1); });
  });
  return 0;
}
