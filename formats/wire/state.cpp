// A state as a frame: one fp32 tensor per array, named TENSOR/ARRAY, and the rest as metadata.
#include "jsq/state.hpp"

#include <charconv>
#include <cstring>

#include "jsq/error.hpp"
#include "jsq/frame.hpp"

namespace jsq {
namespace {

constexpr std::string_view format_key = "jsq.state", step_key = "jsq.state.step",
                           method_key = "jsq.state.method";
constexpr std::string_view shape_prefix = "jsq.state.shape/", number_prefix = "jsq.state.number/";
constexpr uint64_t most_elements = uint64_t(1)
                                   << 34;  ///< 64 GiB, as decompress takes without being told more

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::string text;
  for (uint64_t extent : shape) text += (text.empty() ? "" : ",") + std::to_string(extent);
  return text;
}

/// The arrays of a state, as a dump.
class StateSource final : public GradientSource {
 public:
  explicit StateSource(const State& state) {
    dump_.format = DumpFormat::npz;
    for (const auto& [name, tensor] : state.tensors())
      for (const auto& [array, values] : tensor.arrays) {
        TensorInfo info;
        info.name = name + "/" + array;
        info.shape = {values.size()};
        uint64_t elements = 1;
        for (uint64_t extent : tensor.shape) elements *= extent;
        if (elements == values.size()) info.shape = tensor.shape;
        tensors_.push_back(std::move(info));
        arrays_.push_back(&values);
      }
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count, std::vector<float>&) const override {
    return std::span<const float>(*arrays_[t]).subspan(size_t(first), count);
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    if (count > 0) std::memcpy(out, arrays_[t]->data() + first, count * sizeof(float));
  }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
  std::vector<const std::vector<float>*> arrays_;
};

uint64_t parse_integer(std::string_view text, const std::string& what) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw Error(Errc::damaged, what + ": expected a number, found '" + std::string(text) + "'");
  return value;
}

}  // namespace

void State::save(ByteSink& out) const {
  CompressOptions options;
  options.method.name = "fp32";
  options.target = {TargetKind::native, 0};
  options.metadata = {{std::string(format_key), "1"},
                      {std::string(method_key), method},
                      {std::string(step_key), std::to_string(step)}};
  for (const auto& [name, tensor] : tensors_) {
    options.metadata.emplace_back(std::string(shape_prefix) + name, shape_text(tensor.shape));
    for (const auto& [key, value] : tensor.numbers)
      options.metadata.emplace_back(std::string(number_prefix) + name + "/" + key, std::to_string(value));
  }
  compress({{"state.npz", std::make_shared<StateSource>(*this), {}, true}}, options, out);
}

State State::load(const std::string& path) {
  return of_frame(FrameReader::open(path), path);
}

State State::from_bytes(std::string_view bytes) {
  return of_frame(FrameReader::from_bytes(bytes, "state"), "state");
}

State State::of_frame(const FrameReader& frame, const std::string& path) {
  State state;
  bool is_state = false;
  for (const auto& [key, value] : frame.metadata()) {
    const std::string_view text = key;
    if (key == format_key) {
      if (value != "1")
        throw Error(Errc::newer_format, path + ": a state of version " + value + "; use a newer jsq");
      is_state = true;
    } else if (key == method_key) {
      state.method = value;
    } else if (key == step_key) {
      state.step = parse_integer(value, path + ": step of the state");
    } else if (text.starts_with(shape_prefix)) {
      Tensor& tensor = state.tensors_[key.substr(shape_prefix.size())];
      for (size_t at = 0; at < value.size();) {
        const size_t comma = std::min(value.find(',', at), value.size());
        tensor.shape.push_back(
            parse_integer(std::string_view(value).substr(at, comma - at), path + ": shape in the state"));
        at = comma + 1;
      }
    } else if (text.starts_with(number_prefix)) {
      const size_t slash = key.rfind('/');
      if (slash + 1 <= number_prefix.size()) continue;
      state.tensors_[key.substr(number_prefix.size(), slash - number_prefix.size())]
          .numbers[key.substr(slash + 1)] = parse_integer(value, path + ": number in the state");
    }
  }
  if (!is_state)
    throw Error(Errc::usage, path + ": a frame, but no state; give the file that --state-out wrote");
  uint64_t elements = 0;
  for (size_t t = 0; t < frame.tensors().size(); ++t) {
    const TensorInfo& info = frame.tensors()[t].info;
    elements += info.elements();
    // Arrays of zeros take no bytes in the file, so that it may declare any number of them.
    if (elements > most_elements)
      throw Error(Errc::limit, path + ": declares a state of " + std::to_string(elements) +
                                   " elements; at most " + std::to_string(most_elements) + " are read");
    const size_t slash = info.name.rfind('/');
    if (slash == std::string::npos)
      throw Error(Errc::damaged, path + ": tensor '" + info.name + "' is not an array of a state");
    std::vector<float> values(info.elements());
    frame.read(t, 0, values);
    state.set(info.name.substr(0, slash), info.name.substr(slash + 1), std::move(values));
  }
  return state;
}

}  // namespace jsq
