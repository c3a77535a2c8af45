// What rounding does on average, over thousands of fixed seeds: methods that call themselves unbiased decode
// to the gradient in the mean, and every method's error is in the mean what its report expects.
//
// Seeds are fixed, so an outcome never changes by itself; the false-alarm rates say how likely a correct new
// method is to fail at first sight. Per element the mean may be off by 4.8 standard errors (two-sided 1.6e-6,
// for 400 elements 6.4e-4) plus ten events of the largest step seen, which covers values so seldom rounded
// the other way that their spread is not seen; along the gradient and in the squared error by 4 standard
// errors (6.3e-5 each).
#include <malloc.h>

#include "tests/lib/methods/registry_suite.hpp"

namespace jsq {
namespace {

using test::EveryMethod;

/// Mean and spread of one quantity over the seeds (Welford).
struct Running {
  double count = 0, mean = 0, squares = 0, least = HUGE_VAL, most = -HUGE_VAL;
  void add(double value) {
    ++count;
    const double step = value - mean;
    mean += step / count;
    squares += step * (value - mean);
    least = std::min(least, value);
    most = std::max(most, value);
  }
  double standard_error() const { return std::sqrt(squares / (count - 1) / count); }
  double spread() const { return most - least; }
};

/// What thousands of seeds made of one gradient.
struct Outcomes {
  std::vector<Running> decoded;  ///< each element
  Running along;                 ///< <g^, g> / |g|^2: 1 for an unbiased method, below for one that shrinks
  Running squared_error;         ///< measured
  Running surplus;               ///< measured less expected squared error, of the same seed
};

class Statistics : public EveryMethod {
 protected:
  /// Enough for a method that draws nothing to show it.
  uint64_t seeds() const { return draws_random_numbers() ? 10000 : 25; }

  /// Every call asks for histograms and frees them: have the allocator keep that memory, which halves the
  /// time.
  static void SetUpTestSuite() {
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
  }

  /// Magnitudes over two decades with both signs, some equal, a zero.
  static std::vector<float> gradient() {
    std::vector<float> values = test::make_data(test::Kind::heavy, 400, 5);
    values[40] = values[41] = values[42];
    values[50] = 0;
    return values;
  }

  Outcomes outcomes(const std::vector<float>& values, const std::vector<uint64_t>& shape) const {
    const auto source = test::one_tensor(values, shape);
    double energy = 0;
    for (float value : values) energy += double(value) * double(value);
    Outcomes found;
    found.decoded.resize(values.size());
    CompressOptions options = sized(values.size());
    options.threads = 1;
    std::vector<float> decoded(values.size());
    MemorySink sink;
    const std::vector<InputDump> inputs = {{"dump", source, {}, true}};
    for (uint64_t seed = 1; seed <= seeds(); ++seed) {
      options.seed = seed;
      sink.bytes.clear();
      const CompressReport report = compress(inputs, options, sink);
      FrameReader::from_bytes(sink.bytes).read(0, 0, decoded, 1);
      double along = 0, squared = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        found.decoded[i].add(double(decoded[i]));
        along += double(decoded[i]) * double(values[i]);
        squared += (double(decoded[i]) - double(values[i])) * (double(decoded[i]) - double(values[i]));
      }
      found.along.add(along / energy);
      found.squared_error.add(squared);
      found.surplus.add(squared - report.pools[0].expected_squared_error);
    }
    return found;
  }

  void expect_promises_kept(const std::vector<uint64_t>& shape) const {
    const std::vector<float> values = gradient();
    const Outcomes found = outcomes(values, shape);
    if (info().unbiased) {
      double largest_spread = 0, largest = 0;
      for (const Running& element : found.decoded)
        largest_spread = std::max(largest_spread, element.spread());
      for (float value : values) largest = std::max(largest, double(std::fabs(value)));
      for (size_t i = 0; i < values.size(); ++i) {
        const Running& element = found.decoded[i];
        const double step = element.spread() > 0 ? element.spread() : largest_spread;
        EXPECT_NEAR(element.mean, double(values[i]),
                    4.8 * element.standard_error() + 10 * step / double(seeds()) + 1e-6 * largest)
            << "element " << i;
      }
      EXPECT_NEAR(found.along.mean, 1.0, 4 * found.along.standard_error() + 1e-6);
    }
    // Where the expectation has a closed form it is that of every seed, whatever is drawn once for a seed.
    if (!std::isnan(found.surplus.mean)) {
      EXPECT_NEAR(found.surplus.mean, 0.0,
                  4 * found.surplus.standard_error() + 1e-6 * found.squared_error.mean)
          << "of a mean squared error of " << found.squared_error.mean;
    }
    if (!draws_random_numbers()) {
      for (const Running& element : found.decoded) EXPECT_EQ(element.spread(), 0);
    }
  }
};

TEST_P(Statistics, OverManySeedsKeepThePromisesOfItsRow) {
  expect_promises_kept({20, 20});  // a matrix, which to low-rank methods is another thing than a vector
}

/// Errors of decoded elements, from `first` of tensor t on.
std::vector<double> errors_of(const FrameReader& reader, size_t t, uint64_t first,
                              const std::vector<float>& values) {
  std::vector<float> decoded(values.size());
  reader.read(t, first, decoded);
  std::vector<double> errors(values.size());
  for (size_t i = 0; i < values.size(); ++i) errors[i] = double(decoded[i]) - double(values[i]);
  return errors;
}

/// Sum of e_i f_{i + lag} in standard deviations: about normal where the errors are independent and their
/// mean is 0, near the root of their number where one stream of random numbers was used for both.
double dependence(const std::vector<double>& e, const std::vector<double>& f, size_t lag = 0) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i + lag < e.size(); ++i) {
    const double product = e[i] * f[i + lag];
    sum += product;
    squares += product * product;
  }
  return squares > 0 ? sum / std::sqrt(squares) : 0;
}

TEST_P(Statistics, RoundNeighboursBlocksTensorsAndStepsIndependently) {
  // Methods that draw once for all elements, as MCGQ, tie their errors together by definition.
  if (!info().unbiased || info().random_numbers.find("an element") == std::string_view::npos) return;
  const size_t block = 65536;
  const std::vector<float> part = test::make_data(test::Kind::gauss, block, 3);
  std::vector<float> twice = part;
  twice.insert(twice.end(), part.begin(), part.end());
  auto source = std::make_shared<test::StoredSource>();
  source->add("a", DType::f32, {512, 256}, twice);
  source->add("b", DType::f32, {512, 256}, twice);
  CompressOptions options = sized(4 * block);
  const test::Coded first = test::coded(source, options);
  ++options.seed;
  const test::Coded second = test::coded(source, options);
  const FrameReader one = FrameReader::from_bytes(first.bytes), two = FrameReader::from_bytes(second.bytes);
  const auto errors = errors_of(one, 0, 0, part);
  // 6 is passed by chance once in 5e8; a repeated stream gives about 256.
  const double beyond_chance = 6;
  for (size_t lag : {1, 2, 4, 8, 16, 512, 32768})
    EXPECT_LT(std::fabs(dependence(errors, errors, lag)), beyond_chance) << "elements " << lag << " apart";
  EXPECT_LT(std::fabs(dependence(errors, errors_of(one, 0, block, part))), beyond_chance) << "blocks";
  EXPECT_LT(std::fabs(dependence(errors, errors_of(one, 1, 0, part))), beyond_chance) << "tensors";
  EXPECT_LT(std::fabs(dependence(errors, errors_of(two, 0, 0, part))), beyond_chance) << "seeds";
}

INSTANTIATE_TEST_SUITE_P(Registry, Statistics, testing::ValuesIn(methods()), test::row_name);

}  // namespace
}  // namespace jsq
