// Whatever is compressed, with any method to any target: the frame is sound and within its budget, the report
// is the measured truth, slices are parts of the whole, threads change nothing, and what cannot be done is
// refused with a nearest target that can. Cases are drawn and, where one fails, made as small as it fails
// (rapidcheck; RC_PARAMS="max_success=100000" for a long run, and what it prints to see a case again).
#include <rapidcheck.h>

#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::coded;
using test::Coded;
using test::EveryMethod;
using test::Kind;
using test::make_data;
using test::same_bits;
using test::StoredSource;

struct Case {
  std::vector<uint64_t> shape;
  DType dtype;
  bool fortran_order;
  Kind kind;
  uint64_t seed;
  std::string target;  ///< "": the default
  Scope scope;
  bool wild;  ///< with infinities and NaNs, to be kept

  uint64_t elements() const {
    uint64_t n = 1;
    for (uint64_t extent : shape) n *= extent;
    return n;
  }
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  out << "{shape (";
  for (uint64_t extent : c.shape) out << extent << ",";
  return out << ") dtype " << int(c.dtype) << (c.fortran_order ? " F " : " ") << test::kind_name(c.kind)
             << " seed " << c.seed << " target '" << c.target << "' scope " << int(c.scope)
             << (c.wild ? " wild}" : "}");
}

/// 0-d, empty, one element, primes, a power of two and its neighbours, 2-d to 32-d.
std::vector<uint64_t> draw_shape() {
  const auto length = [] {
    return *rc::gen::oneOf(
        rc::gen::inRange<uint64_t>(0, 12),
        rc::gen::element<uint64_t>(31, 32, 33, 63, 64, 65, 127, 255, 256, 257, 509, 511, 512, 513, 1021));
  };
  const int rank = *rc::gen::element(0, 1, 1, 1, 2, 2, 2, 3, 4, 5, 8, 32);
  std::vector<uint64_t> shape(size_t(rank), 1);
  if (rank >= 1) shape[0] = length();
  if (rank == 2) shape[1] = *rc::gen::inRange<uint64_t>(0, 40);
  for (int axis = 1; rank > 2 && axis < std::min(rank, 8); ++axis)
    shape[size_t(axis)] = *rc::gen::inRange<uint64_t>(1, rank < 5 ? 6 : 3);
  if (rank > 2) shape[0] = std::min<uint64_t>(shape[0], 9);
  return shape;
}

Case draw_case() {
  Case c;
  c.shape = draw_shape();
  c.dtype = *rc::gen::element(DType::f32, DType::f32, DType::f16, DType::bf16, DType::f64);
  c.fortran_order = *rc::gen::arbitrary<bool>();
  c.kind = *rc::gen::elementOf(std::vector<Kind>(std::begin(test::all_kinds), std::end(test::all_kinds)));
  c.seed = *rc::gen::inRange<uint64_t>(0, 1000);
  c.target =
      *rc::gen::element<std::string>("", "", "native", "ratio=2", "ratio=9.5", "ratio=64", "bpw=1",
                                     "bytes=300", "nmse=0.3", "nmse=0.01", "maxabs=0.001", "cosine=0.9");
  c.scope = *rc::gen::element(Scope::archive, Scope::tensor);
  c.wild = *rc::gen::inRange(0, 8) == 7;
  return c;
}

std::shared_ptr<StoredSource> source_of_case(const Case& c) {
  std::vector<float> values = make_data(c.kind, size_t(c.elements()), c.seed);
  if (c.wild)
    for (size_t i = 0; i < values.size(); i += 7)
      values[i] = std::bit_cast<float>(uint32_t(0x7F800000 | (i * 0x9E3779B9u)));
  auto source = std::make_shared<StoredSource>();
  source->add("tensor", c.dtype, c.shape, values, c.fortran_order);
  return source;
}

bool near(double said, double truth, double scale) {
  return said == truth || std::abs(said - truth) <= 1e-9 * scale;
}

/// The frame that the options ask for; with the nearest target where theirs is out of reach. Nothing where
/// the method refuses the target or the values for good.
std::optional<Coded> coded_as_near_as_can_be(const std::shared_ptr<StoredSource>& source,
                                             CompressOptions& options) {
  try {
    return coded(source, options);
  } catch (const UnreachableTarget& unreachable) {
    options.target = unreachable.nearest();
    if (options.target.kind == TargetKind::cosine && options.target.value == 0)
      return std::nullopt;  // nothing to ask for
  } catch (const Error& error) {
    RC_ASSERT(error.code() == Errc::usage || error.code() == Errc::unreachable_target);
    return std::nullopt;
  }
  try {
    return coded(source, options);
  } catch (const Error& error) {
    RC_FAIL("the nearest target is out of reach: " + std::string(error.what()));
  }
}

class AnyCase : public EveryMethod {
 protected:
  void hold(const Case& c) const {
    const std::shared_ptr<StoredSource> source = source_of_case(c);
    CompressOptions options;
    options.method = spec();
    options.target = c.target.empty() ? default_target(spec()) : parse_target(c.target);
    options.seed = c.seed;
    options.scope = c.scope;
    options.nonfinite = NonFinitePolicy::keep;
    options.threads = 1;
    const std::optional<Coded> made = coded_as_near_as_can_be(source, options);
    if (!made) return;
    RC_ASSERT(made->report.budget_bytes == 0 || made->bytes.size() <= made->report.budget_bytes);

    const FrameReader reader = FrameReader::from_bytes(made->bytes);
    RC_ASSERT(reader.test(false, 1).empty());
    RC_ASSERT(reader.tensors().size() == 1u);
    RC_ASSERT(reader.tensors()[0].info.shape == c.shape);

    const test::Truth truth = test::truth_of(*source, reader);
    const Distortion& said = made->report.distortion;
    RC_LOG() << "squared error " << said.squared_error << ", measured " << truth.squared_error << "; energy "
             << said.energy << ", measured " << truth.energy << "; largest error " << said.max_error
             << ", measured " << truth.max_error << "\n";
    RC_ASSERT(truth.finite);
    RC_ASSERT(said.elements == truth.elements);
    RC_ASSERT(near(said.energy, truth.energy, truth.energy));
    RC_ASSERT(near(said.squared_error, truth.squared_error, truth.squared_error));
    RC_ASSERT(near(said.max_error, truth.max_error, truth.max_error));

    const std::vector<float> whole = test::values_of(reader, 0, 1);
    if (c.wild) {
      std::vector<std::byte> stored(source->stored(0).size());
      reader.read_stored(0, 0, c.elements(), stored);
      const size_t size = dtype_bytes(c.dtype);
      std::vector<float> scratch;
      const std::span<const float> values = source->read(0, 0, size_t(c.elements()), scratch);
      for (size_t i = 0; i < values.size(); ++i)
        if (!std::isfinite(values[i]))
          RC_ASSERT(std::memcmp(stored.data() + i * size, source->stored(0).data() + i * size, size) == 0);
    }
    if (!whole.empty()) {
      const size_t first = size_t(c.seed * 7919 % whole.size()),
                   count = size_t(c.seed * 104729 % (whole.size() - first + 1));
      std::vector<float> slice(count);
      reader.read(0, first, slice, 1);
      RC_ASSERT(same_bits(slice, std::span(whole).subspan(first, count)));
    }
    if (c.seed % 8 == 0) {
      options.threads = 3;
      RC_ASSERT(coded(source, options).bytes == made->bytes);
      RC_ASSERT(same_bits(test::values_of(reader, 0, 3), whole));
    }
  }
};

TEST_P(AnyCase, IsSoundWithinItsBudgetAndReportedTruly) {
  EXPECT_TRUE(rc::check(std::string(info().name), [&] {
    const Case c = draw_case();
    RC_LOG() << c << "\n";
    hold(c);
  }));
}

INSTANTIATE_TEST_SUITE_P(Registry, AnyCase, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
