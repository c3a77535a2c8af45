#include "lib/methods/rdoq_transforms.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <limits>

#include "jsq/error.hpp"

namespace jsq {

std::optional<TransformSite> transform_site(PartPlace place, std::span<const uint64_t> shape,
                                            bool fortran_order) {
  constexpr uint64_t most = uint64_t(1) << 24;
  TransformSite site{place, scale_view(shape, fortran_order), {}};
  const ScaleView& view = site.view;
  if (view.rows < 2 || view.columns < 2) return {};
  if (view.rows >= most || view.columns >= most || view.inner >= most || view.rows * view.inner >= most)
    return {};
  if (!fortran_order) {
    const auto begin = std::find_if(shape.begin(), shape.end(), [](uint64_t extent) { return extent > 1; });
    site.kernel.assign(begin + 2, shape.end());
  }
  return site;
}

PartTransform::PartTransform(const TransformSite& site,
                             std::shared_ptr<const std::vector<int16_t>> frequencies,
                             std::shared_ptr<const PartFactors> factors)
    : frequencies_(std::move(frequencies)), factors_(std::move(factors)) {
  if (frequencies_) dct_ = KernelDct(site.kernel);
}

bool PartTransform::prepare(const Reconstruction& unit, const Reconstruction& step) {
  if (!factors_) return true;
  const int shift = 16 + unit.exponent - step.exponent;
  if (shift < 0 || shift > 38) return false;
  const uint64_t kappa20 = (uint64_t(kappas16[factors_->kappa]) * unit.mantissa << shift) / step.mantissa;
  if (kappa20 < 1 || kappa20 > most_kappa20) return false;
  if (prediction_ && prediction_->kappa20 == kappa20) return true;
  prediction_ = std::make_shared<Prediction>();
  prediction_->kappa20 = uint32_t(kappa20);
  return true;
}

const FactorPrediction* PartTransform::prediction() const {
  if (!prediction_) return nullptr;
  Prediction& own = *prediction_;
  std::call_once(own.once, [&] { own.made = FactorPrediction(factors_->factors, own.kappa20); });
  return &own.made;
}

PartTransform PartTransform::with_frequencies(std::vector<int16_t> frequencies) const {
  PartTransform other = *this;
  other.frequencies_ = std::make_shared<const std::vector<int16_t>>(std::move(frequencies));
  return other;
}

namespace {

/// Calls visit(row, column, first kernel, planes) for kernels that are handled side by side: of one row.
template <class Visit>
void for_each_stretch(const ScaleView& view, uint64_t first, size_t elements, Visit visit) {
  static thread_local std::vector<double> numbers;
  const auto inner = size_t(view.inner);
  const size_t most = std::max<size_t>(cpu::plane_lanes, 4096 / inner);
  const uint64_t first_kernel = first / inner;
  for (size_t at = 0, n; at < elements / inner; at += n) {
    const uint64_t row = (first_kernel + at) / view.columns, column = (first_kernel + at) % view.columns;
    n = std::min({most, elements / inner - at, size_t(view.columns - column)});
    numbers.resize(cpu::padded_plane(n) * inner);
    visit(row, column, at, cpu::Planes{numbers.data(), cpu::padded_plane(n), n, inner});
  }
}

}  // namespace

/// Adds `factor` times the predictions of one stretch.
void PartTransform::predict(uint64_t row, uint64_t column, double factor, const cpu::Planes& planes) const {
  const FactorPrediction& predicted = *prediction();
  for (size_t k = 0; k < planes.size; ++k)
    predicted.add(size_t(column), planes.kernels, size_t(row) * planes.size + k, factor,
                  planes.numbers + k * planes.stride);
}

void PartTransform::forward(const ScaleView& view, uint64_t first, double step, std::span<const float> values,
                            std::span<float> out) const {
  for_each_stretch(view, first, values.size(), [&](uint64_t row, uint64_t column, size_t at, auto planes) {
    cpu::planes_of_kernels(values.data() + at * planes.size, planes);
    if (dct_) dct_->forward(planes);
    if (factors_) predict(row, column, -step / 256, planes);
    cpu::kernels_of_planes(planes, std::numeric_limits<double>::max(), 1, out.data() + at * planes.size);
  });
}

const PartTransform* Transforms::find(uint32_t tensor, size_t part) const {
  const auto found = parts.find({tensor, uint32_t(part)});
  return found == parts.end() ? nullptr : &found->second;
}

bool Transforms::predicts(uint32_t tensor) const {
  for (auto part = parts.lower_bound({tensor, 0}); part != parts.end() && part->first.first == tensor; ++part)
    if (part->second.factors()) return true;
  return false;
}

Reconstruction Transforms::unit() const {
  Reconstruction unit;
  unit.mantissa = unit_mantissa;
  unit.exponent = unit_exponent;
  return unit;
}

bool Transforms::prepare(const Reconstruction& step) {
  bool possible = true;
  for (auto& [place, transform] : parts) possible = transform.prepare(unit(), step) && possible;
  return possible;
}

std::pair<size_t, size_t> whole_kernels(const Piece& piece) {
  const uint64_t inner = piece.view.inner;
  const auto begin = size_t((inner - piece.first % inner) % inner);
  if (begin >= piece.count) return {piece.count, piece.count};
  return {begin, piece.count - size_t((piece.count - begin) % inner)};
}

void PartTransform::invert(const Piece& piece, const Reconstruction& step, std::span<float> values) const {
  const auto [begin, end] = whole_kernels(piece);
  finish_units(step, values.first(begin));
  finish_units(step, values.subspan(end));
  const std::span<float> kernels = values.subspan(begin, end - begin);
  const double factor = step.step() / 256;
  for_each_stretch(piece.view, piece.first + begin, kernels.size(),
                   [&](uint64_t row, uint64_t column, size_t at, auto planes) {
                     float* const own = kernels.data() + at * planes.size;
                     cpu::planes_of_kernels(own, planes);
                     if (factors_) predict(row, column, 1, planes);
                     if (dct_) {
                       constexpr auto most = double(KernelDct::most_coefficient);
                       for (size_t i = 0; i < planes.stride * planes.size; ++i)
                         planes.numbers[i] = std::clamp(planes.numbers[i], -most, most);
                       dct_->inverse(planes);
                     }
                     cpu::kernels_of_planes(planes, double(most_units), factor, own);
                   });
}

// --- Stored form
// ---------------------------------------------------------------------------------------------------------

namespace {

constexpr uint32_t mode_dct = 1, mode_factors = 2, mode_same_frequencies = 4;

/// Classes of magnitudes: where each begins, and how many raw bits follow.
constexpr uint32_t class_begins[16] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128, 256, 512};
constexpr uint32_t class_bits[16] = {0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 6, 7, 8, 15};
/// The class of every magnitude below 64; of larger ones the bit length tells.
constexpr auto small_classes = [] {
  std::array<uint8_t, 64> classes{};
  for (uint32_t magnitude = 0, k = 0; magnitude < 64; ++magnitude) {
    while (class_begins[k + 1] <= magnitude) ++k;
    classes[magnitude] = uint8_t(k);
  }
  return classes;
}();
static_assert(class_begins[12] == 64 && class_begins[13] == 128 && class_begins[14] == 256 &&
              class_begins[15] == 512);
uint32_t class_of_magnitude(uint32_t magnitude) {
  return magnitude < 64 ? small_classes[magnitude] : std::min(5u + uint32_t(std::bit_width(magnitude)), 15u);
}

using Frequencies = std::array<uint16_t, 16>;
constexpr Frequencies even_frequencies = {256, 256, 256, 256, 256, 256, 256, 256,
                                          256, 256, 256, 256, 256, 256, 256, 256};
/// How often classes follow each expectation, before any were seen: about what factors of gradients of small
/// networks have in the mean, so that short ones need not be learnt from.
constexpr Frequencies first_classes[16] = {
    {2986, 924, 90, 18, 12, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6},
    {2464, 1250, 274, 32, 10, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6},
    {2202, 1338, 384, 74, 30, 8, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6},
    {1700, 1394, 544, 220, 140, 34, 10, 6, 6, 6, 6, 6, 6, 6, 6, 6},
    {1486, 1030, 662, 340, 334, 118, 62, 16, 6, 6, 6, 6, 6, 6, 6, 6},
    {1094, 856, 522, 366, 486, 318, 264, 78, 62, 6, 14, 6, 6, 6, 6, 6},
    {352, 540, 406, 294, 594, 400, 628, 304, 350, 130, 56, 14, 10, 6, 6, 6},
    {176, 200, 174, 192, 314, 356, 650, 488, 732, 376, 272, 86, 58, 10, 6, 6},
    {106, 118, 122, 116, 236, 250, 384, 368, 626, 410, 622, 272, 396, 58, 6, 6},
    {26, 66, 74, 82, 124, 90, 292, 200, 318, 326, 650, 460, 980, 326, 76, 6},
    {40, 24, 24, 40, 18, 78, 78, 62, 194, 264, 330, 482, 842, 888, 632, 100},
    {8, 8, 44, 44, 52, 52, 68, 102, 184, 128, 266, 272, 778, 908, 788, 394},
    {6, 6, 6, 6, 12, 12, 48, 24, 46, 46, 160, 132, 558, 724, 754, 1556},
    {6, 6, 6, 6, 8, 8, 16, 16, 30, 60, 58, 56, 300, 480, 684, 2356},
    {6, 6, 6, 6, 6, 6, 10, 10, 20, 58, 38, 38, 144, 306, 532, 2904},
    {6, 6, 6, 6, 6, 6, 6, 6, 10, 10, 20, 20, 82, 158, 290, 3458}};

/// The adaptive state of the factors of one stream. What is expected of a number follows those before it in
/// its vector and the one at its place in the component before.
class FactorCodec {
 public:
  FactorCodec() : kappas_(even_frequencies) {
    for (auto& of_side : classes_)
      for (size_t expected = 0; expected < 16; ++expected)
        of_side[expected] = AdaptiveTable(first_classes[expected]);
  }

  void write(SideWriter& out, const PartFactors& stored) {
    begin();
    const IntegerFactors& f = stored.factors;
    out.adaptive(kappas_, stored.kappa);
    out.adaptive(ranks_[0], (f.rank - 1) >> 4);
    out.adaptive(ranks_[1], (f.rank - 1) & 15);
    for (uint32_t j = 0; j < f.rank; ++j) {
      write_vector(out, f.left, j, f.rows, 0);
      write_vector(out, f.right, j, f.columns, 1);
    }
  }

  /// `room`: how many numbers the stream can hold.
  template <class Damaged>
  PartFactors read(ContextReader& in, const ScaleView& view, uint64_t& room, Damaged damaged) {
    begin();
    PartFactors stored;
    IntegerFactors& f = stored.factors;
    stored.kappa = in.adaptive(kappas_);
    f.rank = in.adaptive(ranks_[0]) << 4;
    f.rank = (f.rank | in.adaptive(ranks_[1])) + 1;
    if (f.rank > most_rank) damaged("a rank beyond its limit");
    f.rows = size_t(view.columns);
    f.columns = size_t(view.rows * view.inner);
    const uint64_t numbers = uint64_t(f.rank) * (f.rows + f.columns);
    if (numbers > room) damaged("more factors than their stream can hold");
    room -= numbers;
    f.left.resize(f.rank * f.rows);
    f.right.resize(f.rank * f.columns);
    for (uint32_t j = 0; j < f.rank; ++j) {
      if (!read_vector(in, f.left, j, f.rows, 0) || !read_vector(in, f.right, j, f.columns, 1))
        damaged("a factor beyond its limit");
    }
    return stored;
  }

 private:
  void begin() { running_[0] = running_[1] = 64; }

  AdaptiveTable& table(int side, const std::vector<int32_t>& numbers, uint32_t j, size_t length, size_t i) {
    const uint32_t running = running_[side];
    const uint32_t before = j == 0 ? running : 16 * uint32_t(std::abs(numbers[(j - 1) * length + i]));
    return classes_[side][std::min<uint32_t>(15, uint32_t(std::bit_width((2 * running + before) >> 3)))];
  }
  void follow(int side, uint32_t magnitude) {
    running_[side] =
        uint32_t(int32_t(running_[side]) + ((int32_t(16 * magnitude) - int32_t(running_[side])) >> 3));
  }

  void write_vector(SideWriter& out, const std::vector<int32_t>& numbers, uint32_t j, size_t length,
                    int side) {
    for (size_t i = 0; i < length; ++i) {
      const int32_t number = numbers[j * length + i];
      const auto magnitude = uint32_t(std::abs(number));
      const uint32_t k = class_of_magnitude(magnitude);
      out.adaptive(table(side, numbers, j, length, i), k);
      uint32_t rest = magnitude - class_begins[k], bits = class_bits[k];
      if (bits > 8) {
        out.raw(rest >> 8, bits - 8);
        rest &= 255;
        bits = 8;
      }
      if (k > 0) out.raw(rest << 1 | (number < 0), bits + 1);
      follow(side, magnitude);
    }
  }
  bool read_vector(ContextReader& in, std::vector<int32_t>& numbers, uint32_t j, size_t length, int side) {
    for (size_t i = 0; i < length; ++i) {
      const uint32_t k = in.adaptive(table(side, numbers, j, length, i));
      uint32_t magnitude = 0, bits = class_bits[k];
      if (bits > 8) {
        magnitude = in.raw(bits - 8) << 8;
        bits = 8;
      }
      bool negative = false;
      if (k > 0) {
        const uint32_t rest = in.raw(bits + 1);
        magnitude |= rest >> 1;
        negative = rest & 1;
      }
      magnitude += class_begins[k];
      if (magnitude > uint32_t(most_factor)) return false;
      numbers[j * length + i] = negative ? -int32_t(magnitude) : int32_t(magnitude);
      follow(side, magnitude);
    }
    return true;
  }

  AdaptiveTable classes_[2][16], kappas_, ranks_[2];
  uint32_t running_[2] = {};  ///< magnitude, in 1/16
};

}  // namespace

double factor_bits(const PartFactors& stored) {
  SideWriter side;
  FactorCodec().write(side, stored);
  return double(side.bits_q16()) / 65536;
}

namespace {

/// What each site takes goes to `noted`, where anybody asks.
void write_sites(std::span<const TransformSite> sites, const Transforms& transforms, SideWriter& side,
                 std::vector<TransformBits>* noted) {
  const auto bits_so_far = [&] { return noted ? double(side.bits_q16()) / 65536 : 0.0; };
  const auto note = [&](const TransformBits& bits) {
    if (noted) noted->push_back(bits);
  };
  AdaptiveTable modes[2];
  ScaleCodec codec;
  FactorCodec factors;
  bool has_unit = false;
  std::map<uint64_t, std::span<const int16_t>> last;  // by elements of a kernel
  for (const TransformSite& site : sites) {
    const PartTransform* transform = transforms.find(site.place.first, site.place.second);
    AdaptiveTable& table = modes[site.takes_dct()];
    if (transform == nullptr || !transform->any()) {
      side.adaptive(table, 0);
      note(TransformBits{});
      continue;
    }
    TransformBits bits;
    const std::span<const int16_t> frequencies = transform->frequencies();
    std::span<const int16_t>& before = last[site.view.inner];
    const bool same =
        transform->dct() && std::equal(frequencies.begin(), frequencies.end(), before.begin(), before.end());
    side.adaptive(table, (transform->dct() ? mode_dct : 0) | (transform->factors() ? mode_factors : 0) |
                             (same ? mode_same_frequencies : 0));
    if (transform->dct()) {
      const double begin = bits_so_far();
      if (!same) codec.write(side, frequencies, true);
      before = frequencies;
      bits.frequencies = bits_so_far() - begin;
    }
    if (transform->factors() && !has_unit) {
      for (const uint32_t half :
           {uint32_t(transforms.unit_mantissa), uint32_t(uint16_t(transforms.unit_exponent))}) {
        side.raw(half >> 8, 8);
        side.raw(half & 255, 8);
      }
      has_unit = true;
    }
    if (transform->factors()) {
      const double begin = bits_so_far();
      factors.write(side, *transform->factors());
      bits.factors = bits_so_far() - begin;
    }
    note(bits);
  }
}

}  // namespace

std::string write_transforms(const ContextCoder& coder, std::span<const TransformSite> sites,
                             const Transforms& transforms) {
  SideWriter side;
  write_sites(sites, transforms, side, nullptr);
  std::string stream;
  coder.encode(side.symbols(), {}, {}, stream);
  return stream;
}

std::vector<TransformBits> transform_bits(std::span<const TransformSite> sites,
                                          const Transforms& transforms) {
  SideWriter side;
  std::vector<TransformBits> bits;
  write_sites(sites, transforms, side, &bits);
  return bits;
}

Transforms read_transforms(const ContextCoder& coder, std::span<const TransformSite> sites,
                           std::string_view stream, std::string_view what) {
  const auto damaged = [&](const char* found) {
    throw Error(Errc::damaged, std::string(what) + " is damaged: " + found);
  };
  // No symbol takes less than 1/256 bit.
  if (sites.size() / 2048 > stream.size()) damaged("more transforms than their stream can hold");
  uint64_t room = 2048 * uint64_t(stream.size());
  Transforms transforms;
  ContextReader in(coder, stream, what);
  AdaptiveTable modes[2];
  ScaleCodec codec;
  FactorCodec factor_codec;
  bool has_unit = false;
  std::map<uint64_t, std::shared_ptr<const std::vector<int16_t>>> last;
  for (const TransformSite& site : sites) {
    const uint32_t mode = in.adaptive(modes[site.takes_dct()]);
    if (mode == 0) continue;
    if (mode > (mode_dct | mode_factors | mode_same_frequencies) ||
        (mode & mode_same_frequencies && !(mode & mode_dct)))
      damaged("an unknown transform");
    std::shared_ptr<const std::vector<int16_t>> frequencies;
    if (mode & mode_dct) {
      if (!site.takes_dct()) damaged("a cosine transform of what has no kernels");
      std::shared_ptr<const std::vector<int16_t>>& before = last[site.view.inner];
      if (!(mode & mode_same_frequencies)) {
        std::vector<int16_t> read(size_t(site.view.inner));
        codec.read(in, read, true);
        before = std::make_shared<const std::vector<int16_t>>(std::move(read));
      }
      if (!before) damaged("frequency offsets that were not given");
      frequencies = before;
    }
    std::shared_ptr<const PartFactors> factors;
    if (mode & mode_factors) {
      if (!has_unit) {
        uint32_t halves[2];
        for (uint32_t& half : halves) {
          half = in.raw(8) << 8;
          half |= in.raw(8);
        }
        transforms.unit_mantissa = uint16_t(halves[0]);
        transforms.unit_exponent = int16_t(uint16_t(halves[1]));
        if (transforms.unit_mantissa < 0x8000) damaged("an impossible unit of factors");
        has_unit = true;
      }
      factors = std::make_shared<const PartFactors>(factor_codec.read(in, site.view, room, damaged));
    }
    transforms.parts.emplace(site.place, PartTransform(site, std::move(frequencies), std::move(factors)));
  }
  in.elements({}, {});
  return transforms;
}

Reconstruction in_units(const Reconstruction& values) {
  Reconstruction units = values;
  units.mantissa = 32768;
  units.exponent = -7;
  return units;
}

void finish_units(const Reconstruction& step, std::span<float> values) {
  const double factor = step.step() / 256;
  for (float& x : values) x = element::value_of_units(double(x), factor);
}

}  // namespace jsq
