// The models through jsq::allocate and jsq::analyze_noise, one allocator after the other.
#include "jsq/allocator_models.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <optional>

#include "jsq/error.hpp"

namespace jsq {

namespace {

/// What is compared: an allocator, and what reallocates after it where that is not the method's own choice.
struct Variant {
  const char* name;
  AllocatorKind allocator;
  std::optional<ReallocationKind> reallocation;
};
constexpr Variant variants[] = {
    {"exact", AllocatorKind::exact, {}},
    {"literal", AllocatorKind::literal, {}},
    {"sampled", AllocatorKind::sampled, {}},
    {"reallocated", AllocatorKind::literal, ReallocationKind::paper},
};
constexpr size_t block_elements = 65536;

bool has_option(const MethodSpec& spec, std::string_view key) {
  const auto options = method_named(spec.name).options;
  return std::any_of(options.begin(), options.end(),
                     [&](const MethodOption& option) { return option.name == key; });
}

void set_option(MethodSpec& spec, std::string_view key, std::string_view value) {
  for (auto& [name, old] : spec.options) {
    if (name != key) continue;
    old = value;
    return;
  }
  spec.options.emplace_back(std::string(key), std::string(value));
}

/// The method with the variant's allocator.
MethodSpec as_variant(MethodSpec spec, const Variant& variant) {
  set_option(spec, "alloc", allocator_name(variant.allocator));
  if (variant.reallocation) set_option(spec, "realloc", reallocation_name(*variant.reallocation));
  return spec;
}

double number_option(const MethodSpec& spec, std::string_view key, double fallback) {
  if (!has_option(spec, key)) return fallback;
  const std::string_view text = spec.option(key);
  double value = fallback;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// The method's own allocation options, without the map bits that an index-aware method charges: h' alone is
/// minimised.
AllocationOptions allocation_options(const MethodSpec& spec, const Variant& variant, uint64_t seed) {
  AllocationOptions options;
  options.allocator = variant.allocator;
  options.rounds = uint32_t(number_option(spec, "rounds", options.rounds));
  options.sample_ratio = number_option(spec, "sample", options.sample_ratio);
  options.seed = seed;
  if (variant.reallocation) options.reallocation = *variant.reallocation;
  if (variant.reallocation || !has_option(spec, "realloc")) return options;
  for (ReallocationKind kind : {ReallocationKind::none, ReallocationKind::paper, ReallocationKind::hill})
    if (spec.option("realloc") == reallocation_name(kind)) options.reallocation = kind;
  return options;
}

/// The tensors of a dump in memory, one after the other.
struct Population {
  std::vector<float> values;
  std::vector<uint64_t> sizes;
};

Population load(const InputDump& input, uint64_t memory_limit_bytes) {
  const auto& tensors = input.source->tensors();
  std::vector<size_t> chosen = input.tensors;
  if (input.all)
    for (size_t t = 0; t < tensors.size(); ++t) chosen.push_back(t);
  Population population;
  uint64_t elements = 0;
  for (size_t t : chosen) {
    population.sizes.push_back(tensors[t].elements());
    elements += population.sizes.back();
  }
  constexpr uint64_t bytes_per_element = sizeof(float) + sizeof(uint8_t);
  if (memory_limit_bytes > 0 && elements > memory_limit_bytes / bytes_per_element)
    throw Error(Errc::limit, input.path + ": models of allocators hold all " + std::to_string(elements) +
                                 " elements in memory, " + std::to_string(elements * bytes_per_element) +
                                 " bytes, and --memory-limit allows " + std::to_string(memory_limit_bytes) +
                                 "; raise the limit or name fewer tensors");
  population.values.reserve(elements);
  std::vector<float> scratch;
  for (size_t i = 0; i < chosen.size(); ++i)
    for (uint64_t first = 0; first < population.sizes[i]; first += block_elements) {
      const size_t count = size_t(std::min<uint64_t>(block_elements, population.sizes[i] - first));
      const auto block = input.source->read(chosen[i], first, count, scratch);
      population.values.insert(population.values.end(), block.begin(), block.end());
    }
  return population;
}

/// The allocation's noise tensor by tensor, each in units of its own |g|^2.
std::vector<ModelNoise> noise_by_tensor(const Population& population, const Allocation& allocation) {
  const std::vector<uint8_t> classes = class_map(population.values, allocation);
  std::vector<ModelNoise> tensors;
  uint64_t at = 0;
  for (uint64_t size : population.sizes) {
    std::vector<uint64_t> members(allocation.widths.size());
    std::vector<double> energy(allocation.widths.size());
    ModelNoise tensor;
    for (const uint64_t end = at + size; at < end; ++at) {
      const double g = double(population.values[at]);
      ++members[classes[at]];
      energy[classes[at]] += g * g;
      tensor.payload_bits += allocation.widths[classes[at]];
    }
    tensor.noise = noise_of_classes(allocation.widths, members, energy);
    tensor.members = std::move(members);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

/// Eq. 3's co-compressor as an allocation: the largest elements that fit, all at its one width.
Allocation co_compressor(const std::vector<float>& values, const ModelNoise& model) {
  const uint32_t width = model.noise.uniform_bits;
  return allocate(values, WidthSet{0, width}, model.payload_bits / width * width);
}

}  // namespace

bool allocates_bits(const MethodSpec& method) {
  return has_option(method, "alloc");
}

std::vector<AllocatorModel> allocator_models(const InputDump& input, const AllocatorModelOptions& wanted) {
  if (!allocates_bits(wanted.method))
    throw Error(Errc::usage, "method '" + wanted.method.name +
                                 "' does not allocate bits, so it has no h'; use a jointsq method");
  if (!wanted.only.empty() &&
      std::none_of(std::begin(variants), std::end(variants),
                   [&](const Variant& variant) { return wanted.only == variant.name; }))
    throw Error(Errc::unknown_name, "allocator '" + std::string(wanted.only) +
                                        "': expected exact, literal, sampled or reallocated");
  const Population population = load(input, wanted.memory_limit_bytes);
  const WidthSet widths(wanted.widths);
  std::vector<AllocatorModel> models;
  for (const Variant& variant : variants) {
    if (!wanted.only.empty() && wanted.only != variant.name) continue;
    // Reallocation's moves are defined for the paper's widths.
    if (variant.reallocation && widths.widths() != WidthSet().widths()) continue;
    AllocatorModel result;
    result.allocator = variant.name;
    result.method = as_variant(wanted.method, variant);
    result.as_given = !variant.reallocation && wanted.method.option("alloc") == variant.name;
    const Allocation allocation = allocate(population.values, widths, wanted.payload_bits,
                                           allocation_options(wanted.method, variant, wanted.seed));
    result.model = {allocation.payload_bits, analyze_noise(population.values, allocation), {}, {}};
    if (result.model.noise.uniform_bits > 0)
      result.model.exchange =
          exchange_between(population.values, co_compressor(population.values, result.model), allocation);
    result.tensors = noise_by_tensor(population, allocation);
    for (uint32_t j = 0; j < widths.size(); ++j)
      result.thresholds.push_back(j == 0 ? 0 : double(std::bit_cast<float>(allocation.threshold_key[j])));
    models.push_back(std::move(result));
  }
  return models;
}

}  // namespace jsq
