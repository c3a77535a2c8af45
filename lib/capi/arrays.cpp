#include "lib/capi/arrays.hpp"

#include <cstddef>
#include <limits>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "lib/capi/guard.hpp"

namespace jsq::capi {
namespace {

constexpr size_t first_options_size = offsetof(jsq_options, rounding);

DType checked_dtype(int dtype, const char* function) {
  if (dtype >= JSQ_F16 && dtype <= JSQ_F64) return DType(dtype);
  throw Error(Errc::unsupported_dtype, std::string(function) + ": array->dtype is " + std::to_string(dtype) +
                                           "; expected one of JSQ_F16, JSQ_BF16, JSQ_F32, JSQ_F64");
}

/// The product of the extents must count bytes that memory can hold, or be 0 by a zero extent.
void check_shape(const TensorInfo& info, const char* function) {
  const uint64_t most = uint64_t(std::numeric_limits<ptrdiff_t>::max()) / dtype_bytes(info.dtype);
  uint64_t nonzero_product = 1;
  for (uint64_t extent : info.shape) {
    if (extent == 0) continue;
    if (extent > most / nonzero_product)
      throw Error(Errc::usage, std::string(function) +
                                   ": the product of array->shape is beyond what memory can hold; "
                                   "give extents in elements");
    nonzero_product *= extent;
  }
}

TensorInfo info_of(const jsq_array& array, const char* function) {
  TensorInfo info;
  if (array.name != nullptr) info.name = array.name;
  info.dtype = checked_dtype(array.dtype, function);
  info.fortran_order = array.fortran_order != 0;
  info.big_endian = array.big_endian != 0;
  if (array.rank > 0) {
    require(array.shape, function, "array->shape");
    info.shape.assign(array.shape, array.shape + array.rank);
  }
  check_shape(info, function);
  if (info.elements() > 0) require(array.data, function, "array->data");
  return info;
}

/// Arrays in the caller's memory as one dump.
class ArraysSource final : public GradientSource {
 public:
  ArraysSource(const jsq_array* arrays, size_t count, DumpFormat format, const char* function) {
    dump_.format = format;
    std::set<std::string_view> names;
    tensors_.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      tensors_.push_back(info_of(arrays[i], function));
      data_.push_back(static_cast<const std::byte*>(arrays[i].data));
      if (!names.insert(tensors_.back().name).second)
        throw Error(Errc::usage, std::string(function) + ": two arrays are named '" + tensors_.back().name +
                                     "'; give each a name of its own");
    }
  }

  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }

  std::span<const float> read(size_t tensor, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    const TensorInfo& info = tensors_[tensor];
    const std::byte* begin = stored(tensor, first);
    const bool usable = info.dtype == DType::f32 && !info.big_endian &&
                        reinterpret_cast<uintptr_t>(begin) % alignof(float) == 0;
    if (usable) return {reinterpret_cast<const float*>(begin), count};
    scratch.resize(count);
    decode_elements(info.dtype, info.big_endian, begin, scratch);
    return scratch;
  }

  void read_stored(size_t tensor, uint64_t first, size_t count, std::byte* out) const override {
    if (count == 0) return;
    const size_t element_bytes = dtype_bytes(tensors_[tensor].dtype);
    std::memcpy(out, stored(tensor, first), count * element_bytes);
    if (tensors_[tensor].big_endian) swap_element_bytes({out, count * element_bytes}, element_bytes);
  }

 private:
  const std::byte* stored(size_t tensor, uint64_t first) const noexcept {
    return first == 0 ? data_[tensor] : data_[tensor] + first * dtype_bytes(tensors_[tensor].dtype);
  }

  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
  std::vector<const std::byte*> data_;
};

/// One of the names that an option knows, or `fallback` for NULL.
template <typename Value>
Value choice(const char* text, Value fallback, std::initializer_list<std::pair<const char*, Value>> known,
             const char* function, const char* option) {
  if (text == nullptr) return fallback;
  std::string expected;
  for (const auto& [name, value] : known) {
    if (std::string_view(text) == name) return value;
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  throw Error(Errc::usage, std::string(function) + ": options->" + option + " is '" + text +
                               "'; expected one of " + expected);
}

std::vector<std::pair<std::string, std::string>> metadata_of(const jsq_options& given, const char* function) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (given.metadata_count > 0) require(given.metadata, function, "options->metadata");
  for (size_t i = 0; i < given.metadata_count; ++i) {
    require(given.metadata[2 * i], function, "options->metadata: a key");
    require(given.metadata[2 * i + 1], function, "options->metadata: a value");
    pairs.emplace_back(given.metadata[2 * i], given.metadata[2 * i + 1]);
  }
  return pairs;
}

}  // namespace

InputDump input_of(const jsq_array* arrays, size_t count, const jsq_options* options, const char* function) {
  require(arrays, function, "arrays");
  if (count == 0) throw Error(Errc::usage, std::string(function) + ": count is 0; give at least one array");
  InputDump input;
  input.path = count == 1 ? "array.npy" : "arrays.npz";
  if (options != nullptr) {
    const jsq_options given = known_members(*options, first_options_size, function, "options");
    if (given.dump != nullptr) input.path = given.dump;
  }
  const bool npy = input.path.ends_with(".npy");
  if (!npy && !input.path.ends_with(".npz"))
    throw Error(Errc::usage, std::string(function) + ": options->dump is '" + input.path +
                                 "'; expected a relative path that ends in .npy or .npz");
  if (npy && count > 1)
    throw Error(Errc::usage, std::string(function) + ": options->dump is '" + input.path + "', but " +
                                 std::to_string(count) + " arrays were given; several make an .npz");
  input.source =
      std::make_shared<ArraysSource>(arrays, count, npy ? DumpFormat::npy : DumpFormat::npz, function);
  return input;
}

CompressOptions compress_options(const jsq_options* options, const char* function) {
  CompressOptions result;
  if (options == nullptr) return result;
  const jsq_options given = known_members(*options, first_options_size, function, "options");
  if (given.method != nullptr) result.method = parse_method(given.method);
  result.target = given.target != nullptr ? parse_target(given.target) : default_target(result.method);
  result.nonfinite = choice(
      given.nonfinite, result.nonfinite,
      {{"error", NonFinitePolicy::error}, {"zero", NonFinitePolicy::zero}, {"keep", NonFinitePolicy::keep}},
      function, "nonfinite");
  result.rounding = choice(
      given.rounding, result.rounding,
      {{"auto", Rounding::automatic}, {"nearest", Rounding::nearest}, {"stochastic", Rounding::stochastic}},
      function, "rounding");
  result.scope = choice(given.scope, result.scope, {{"archive", Scope::archive}, {"tensor", Scope::tensor}},
                        function, "scope");
  result.ratio_kind =
      choice(given.ratio_kind, result.ratio_kind,
             {{"file", RatioKind::file}, {"payload", RatioKind::payload}}, function, "ratio_kind");
  result.metadata = metadata_of(given, function);
  result.seed = given.seed;
  result.threads = given.threads;
  result.worker = given.worker;
  if (given.state != nullptr) result.state = &given.state->state;
  if (given.feedback != nullptr) {
    if (given.state == nullptr)
      throw Error(Errc::usage, std::string(function) +
                                   ": options->feedback is set, but options->state is NULL; "
                                   "feedback needs a state to keep it in");
    set_feedback(result, given.feedback);
  }
  return result;
}

jsq_report report_of(const CompressReport& report) {
  jsq_report given = {};
  given.elements = report.elements;
  given.input_bytes = report.input_bytes;
  given.file_bytes = report.file_bytes;
  const Distortion& error = report.distortion;
  given.nmse = error.nmse();
  given.cosine = error.cosine();
  given.max_error = error.max_error;
  given.mean_error = error.elements > 0 ? error.error_sum / double(error.elements) : 0;
  double expected = 0;
  for (const PoolReport& pool : report.pools) {
    given.payload_bits += pool.payload_bits;
    expected += pool.expected_squared_error;
  }
  given.expected_nmse = error.energy > 0 ? expected / error.energy : 0;
  given.hprime = report.pools.empty() ? std::numeric_limits<double>::quiet_NaN() : report.hprime();
  given.seconds = report.seconds;
  return given;
}

}  // namespace jsq::capi
