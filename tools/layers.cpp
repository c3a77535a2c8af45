#include "layers.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "jsq/error.hpp"
#include "jsq/layers.hpp"

namespace jsq::tools {
namespace {

[[noreturn]] void refuse(const std::string& file, const std::string& found) {
  throw Error(Errc::usage,
              file + ": " + found +
                  "; expected {\"layers\": [{\"shape\": [..], \"offset\": N}, ..]} in order, without gaps");
}

std::vector<std::vector<uint64_t>> shapes_of(std::vector<Layer> layers) {
  std::vector<std::vector<uint64_t>> shapes;
  for (Layer& layer : layers) shapes.push_back(std::move(layer.shape));
  return shapes;
}

bool is_flat(const InputDump& dump) {
  const std::vector<TensorInfo>& tensors = dump.source->tensors();
  return tensors.size() == 1 && tensors[0].shape.size() == 1 && tensors[0].elements() > 0;
}

}  // namespace

namespace {

std::vector<Layer> layers_of_json(const std::string& file, uint64_t elements) {
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) throw Error(Errc::not_found, file + ": no such file");
  std::ifstream in(file);
  const nlohmann::json document = nlohmann::json::parse(in, nullptr, false);
  if (document.is_discarded()) refuse(file, "is not JSON");
  if (!document.is_object() || !document.contains("layers") || !document["layers"].is_array())
    refuse(file, "has no list 'layers'");
  std::vector<Layer> layers;
  uint64_t at = 0;
  for (const nlohmann::json& layer : document["layers"]) {
    const std::string place = fmt::format("layer {}", layers.size());
    if (!layer.is_object() || !layer.contains("shape") || !layer["shape"].is_array())
      refuse(file, place + " has no shape");
    if (layer.contains("offset") && layer["offset"] != at)
      refuse(file, fmt::format("{} does not begin at {}", place, at));
    std::vector<uint64_t> shape;
    uint64_t size = 1;
    for (const nlohmann::json& extent : layer["shape"]) {
      if (!extent.is_number_unsigned() || extent == 0) refuse(file, place + " has an impossible extent");
      shape.push_back(extent.get<uint64_t>());
      if (shape.back() > elements / size)
        refuse(file, fmt::format("{} reaches beyond the {} elements of the dump", place, elements));
      size *= shape.back();
    }
    if (shape.size() > 32) refuse(file, place + " has more than 32 dimensions");
    at += size;
    if (at > elements)
      refuse(file, fmt::format("{} reaches beyond the {} elements of the dump", place, elements));
    const bool named = layer.contains("name") && layer["name"].is_string();
    layers.push_back(
        {named ? layer["name"].get<std::string>() : std::to_string(layers.size()), std::move(shape)});
  }
  if (at != elements) refuse(file, fmt::format("its layers have {} elements, the dump has {}", at, elements));
  return layers;
}

std::vector<Layer> layers_of_table(const std::string& path, uint64_t elements) {
  std::vector<Layer> layers;
  uint64_t at = 0;
  for (LayerRow& row : read_layer_table(path)) {
    uint64_t size = 1;
    for (uint64_t extent : row.shape)
      if (__builtin_mul_overflow(size, extent, &size)) size = UINT64_MAX;
    if (row.offset != at || size > elements - at)
      throw Error(
          Errc::usage,
          fmt::format("{}: layer '{}' does not begin at {}, or reaches beyond the {} elements of the dump",
                      path, row.name, at, elements));
    at += size;
    layers.push_back({std::move(row.name), std::move(row.shape)});
  }
  if (at != elements)
    throw Error(Errc::usage,
                fmt::format("{}: its layers have {} elements, the dump has {}", path, at, elements));
  return layers;
}

}  // namespace

std::vector<Layer> read_layers(const std::string& file, uint64_t elements) {
  const std::string name = file.substr(0, file.find("::"));
  const bool table = name.ends_with(".h5") || name.ends_with(".hdf5");
  return table ? layers_of_table(file, elements) : layers_of_json(file, elements);
}

std::string attach_layers(InputDump& dump, const InputFile& input, const std::string& choice) {
  if (choice == "none") return {};
  if (!choice.empty()) {
    if (!is_flat(dump))
      throw Error(Errc::usage,
                  input.argument + ": --layers gives shapes to a dump of one flat tensor, which this is not");
    dump.layers[0] = shapes_of(read_layers(choice, dump.source->tensors()[0].elements()));
    return {};
  }
  if (!is_flat(dump) || !input.file.ends_with(".npy")) return {};
  const std::string beside = input.file.substr(0, input.file.size() - 4) + ".layers.json";
  std::error_code ignored;
  if (!std::filesystem::exists(beside, ignored)) return {};
  try {
    dump.layers[0] = shapes_of(read_layers(beside, dump.source->tensors()[0].elements()));
    return beside + ": shapes of the layers are taken from here; --layers none leaves them out";
  } catch (const Error& error) {
    return std::string(error.what()) + " (not used)";
  }
}

}  // namespace jsq::tools
