// min over q of -E ln sum_y q(y) exp(-slope (x - y)^2), and a dual point that proves it.
//
// Lengths are in units of 1 / sqrt(slope), so the kernel is exp(-(x - y)^2) whatever the slope. The dual: any
// lambda with sum_x p(x) lambda(x) exp(-(x - y)^2) <= 1 for all y has E ln lambda <= L. Blahut and Arimoto's
// step multiplies q by that sum, c(y); two steps are extrapolated to a third (Varadhan and Roland 2008,
// squared iterations), which saves most of them. Where c has a peak between the points of the grid, the peak
// becomes a point.
#include "lib/analysis/blahut_arimoto.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace jsq {

namespace {

// Measured on ResNet, ViT and LSTM gradients at 4x to 1000x: halving any of the first three moves L by less
// than 1e-5.
constexpr double cell = 0.05;    // bins narrower than this are merged into cells of it
constexpr double piece = 0.5;    // wider bins are cut into pieces of at most this
constexpr double spacing = 0.2;  // of reproduction points
constexpr double fine = 0.05;    // of the points at which the certificate is verified
constexpr double horizon =
    96;  // beyond it the Shannon lower bound's lambda is used: 136 standard deviations out
constexpr double reach = 5.3;  // exp(-reach^2) < 1e-12
constexpr double tolerance = 2e-4;
constexpr int rounds = 12, cycles_a_round = 40;
constexpr double smallest = 1e-300;

const double log_root_pi = 0.5 * std::log(std::numbers::pi);

/// The source in units of 1 / sqrt(slope).
struct Points {
  std::vector<double> x, mass;  // ascending x
  size_t counted = 0;           // of these; the rest only keeps the edge at `end` from being one
  double end = HUGE_VAL;        // where the far part begins
  double far_mass = 0, far_log_lambda = 0;
};

void add_point(Points& points, double x, double mass) {
  points.x.push_back(x);
  points.mass.push_back(mass);
}

/// A bin's members are even over `width` about a centre that keeps their mean square.
struct SpreadBin {
  double centre, width, mass, mean_square;
};

void add_pieces(Points& points, const SpreadBin& bin) {
  const int pieces = int(std::ceil(bin.width / piece));
  const double width = bin.width / pieces;
  for (int k = 0; k < pieces; ++k) {
    const double middle = bin.centre + bin.width * ((k + 0.5) / pieces - 0.5);
    add_point(points, std::sqrt(middle * middle + width * width / 12), bin.mass / pieces);
  }
}

/// ln lambda of an even density that the kernel sees as everywhere the same: lambda p = 1 / sqrt(pi) on each
/// side of 0.
double far_log_lambda(const SpreadBin& bin) {
  return std::log(2 * bin.width / bin.mass) - log_root_pi;
}

Points points_of(const MagnitudeHistogram& source, double slope) {
  const double unit = std::sqrt(slope), elements = source.elements();
  Points points;
  if (source.zeros > 0) add_point(points, 0, source.zeros / elements);
  double cell_mass = 0, cell_square = 0;
  int64_t open_cell = -1;
  const auto close_cell = [&] {
    if (cell_mass > 0) add_point(points, std::sqrt(cell_square / cell_mass), cell_mass);
    cell_mass = cell_square = 0;
  };
  bool far = false;
  for (const MagnitudeHistogram::Bin& b : source.bins) {
    const double low = magnitude_bin_edge(b.index) * unit;
    SpreadBin bin;
    bin.width = magnitude_bin_edge(b.index + 1) * unit - low;
    bin.mass = b.members / elements;
    bin.mean_square = b.energy / b.members * slope;
    bin.centre = std::sqrt(std::max(bin.mean_square - bin.width * bin.width / 12, 0.0));
    if (far) {
      points.far_mass += bin.mass;
      points.far_log_lambda += bin.mass * far_log_lambda(bin);
      if (low < points.end + 2 * reach) add_pieces(points, bin);
      continue;
    }
    if (bin.width < cell) {
      const int64_t at = int64_t(std::sqrt(bin.mean_square) / cell);
      if (at != open_cell) close_cell();
      open_cell = at;
      cell_mass += bin.mass;
      cell_square += bin.mass * bin.mean_square;
      continue;
    }
    close_cell();
    if (low < horizon) {
      add_pieces(points, bin);
      points.counted = points.x.size();
      continue;
    }
    // The first bin beyond the horizon is cut in its middle: there the density is even.
    far = true;
    const double log_lambda = far_log_lambda(bin);
    add_pieces(points, {bin.centre - bin.width / 4, bin.width / 2, bin.mass / 2, 0});
    points.counted = points.x.size();
    points.end = bin.centre;
    points.far_mass += bin.mass / 2;
    points.far_log_lambda += bin.mass / 2 * log_lambda;
    add_pieces(points, {bin.centre + bin.width / 4, bin.width / 2, bin.mass / 2, 0});
  }
  close_cell();
  if (!far) points.counted = points.x.size();
  return points;
}

/// exp(-(x - y)^2) folded onto magnitudes.
double kernel(double x, double y) {
  const double d = x - y, s = x + y;
  return 0.5 * (std::exp(-d * d) + (s < reach ? std::exp(-s * s) : 0.0));
}

/// The kernel's rows, each where it is not negligible.
class Band {
 public:
  Band(const std::vector<double>& x, const std::vector<double>& y) : columns_(y.size()) {
    for (double at : x) {
      const size_t first = size_t(std::lower_bound(y.begin(), y.end(), at - reach) - y.begin());
      const size_t last = size_t(std::upper_bound(y.begin(), y.end(), at + reach) - y.begin());
      rows_.push_back({first, last - first, values_.size()});
      for (size_t j = first; j < last; ++j) values_.push_back(kernel(at, y[j]));
    }
  }
  /// out[i] = sum_j K[i][j] q[j]
  void multiply(const std::vector<double>& q, std::vector<double>& out) const {
    out.resize(rows_.size());
    for (size_t i = 0; i < rows_.size(); ++i) {
      const double* k = &values_[rows_[i].offset];
      const double* v = &q[rows_[i].first];
      double lanes[4] = {};
      size_t j = 0;
      for (; j + 4 <= rows_[i].count; j += 4)
        for (size_t l = 0; l < 4; ++l) lanes[l] += k[j + l] * v[j + l];
      for (; j < rows_[i].count; ++j) lanes[0] += k[j] * v[j];
      out[i] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
    }
  }
  /// out[j] = sum_i weight[i] K[i][j]
  void multiply_transposed(const std::vector<double>& weight, std::vector<double>& out) const {
    out.assign(columns_, 0);
    for (size_t i = 0; i < rows_.size(); ++i) {
      const double* k = &values_[rows_[i].offset];
      double* o = &out[rows_[i].first];
      for (size_t j = 0; j < rows_[i].count; ++j) o[j] += weight[i] * k[j];
    }
  }

 private:
  struct Row {
    size_t first, count, offset;
  };
  size_t columns_;
  std::vector<Row> rows_;
  std::vector<double> values_;
};

/// The iteration's state: reproduction points and how often each is used.
class Solver {
 public:
  explicit Solver(Points points) : points_(std::move(points)) {
    for (double m : points_.mass) total_ += m;
    const double top = points_.x.empty() ? 0 : points_.x.back();
    const size_t count = size_t(top / spacing) + 2;
    for (size_t j = 0; j < count; ++j) y_.push_back(double(j) * spacing);
    q_.assign(count, 1e-4 * total_ / double(count));
    for (size_t i = 0; i < points_.x.size(); ++i) q_[size_t(points_.x[i] / spacing + 0.5)] += points_.mass[i];
  }

  Lagrangian run() {
    Lagrangian result;
    for (int round = 0; round < rounds; ++round) {
      const Band band(points_.x, y_);
      for (int cycle = 0; cycle < cycles_a_round; ++cycle) extrapolate(band);
      result = certify(band);
      if (result.upper - result.lower <= tolerance * std::max(result.distortion, 1e-9)) break;
      if (round + 1 < rounds) insert_peaks();
    }
    return result;
  }

 private:
  /// One step of the algorithm: returns -sum m ln r for the q that came in.
  double step(const Band& band, const std::vector<double>& q, std::vector<double>& next) {
    band.multiply(q, r_);
    double value = 0;
    weight_.resize(r_.size());
    for (size_t i = 0; i < r_.size(); ++i) {
      const double r = std::max(r_[i], smallest);
      value -= points_.mass[i] * std::log(r);
      weight_[i] = points_.mass[i] / r;
    }
    band.multiply_transposed(weight_, c_);
    next.resize(q.size());
    for (size_t j = 0; j < q.size(); ++j) next[j] = std::max(q[j] * c_[j], smallest);
    return value;
  }

  void extrapolate(const Band& band) {
    step(band, q_, q1_);
    const double before = step(band, q1_, q2_);
    double first = 0, second = 0;
    for (size_t j = 0; j < q_.size(); ++j) {
      const double r = q1_[j] - q_[j], v = q2_[j] - q1_[j] - r;
      first += r * r;
      second += v * v;
    }
    const double length = second > 0 ? std::max(std::sqrt(first / second), 1.0) : 1.0;
    trial_.resize(q_.size());
    double sum = 0;
    for (size_t j = 0; j < q_.size(); ++j) {
      const double a = std::log(q_[j]), r = std::log(q1_[j]) - a, v = std::log(q2_[j]) - std::log(q1_[j]) - r;
      trial_[j] =
          std::max(std::exp(std::clamp(a + 2 * length * r + length * length * v, -690.0, 50.0)), smallest);
      sum += trial_[j];
    }
    for (double& t : trial_) t *= total_ / sum;
    const double after = step(band, trial_, q1_);
    if (after <= before) {
      q_.swap(q1_);
      return;
    }
    q_.swap(q2_);
  }

  /// Both values of the present q. The dual point is lambda = 1 / r, over the largest c near x where that is
  /// above 1.
  Lagrangian certify(const Band& band) {
    Lagrangian result;
    std::vector<double> next;
    result.upper = step(band, q_, next);
    const double top = points_.x.empty() ? 0 : std::min(points_.x.back(), points_.end) + reach;
    fine_y_.clear();
    for (size_t j = 0; double(j) * fine <= top; ++j) fine_y_.push_back(double(j) * fine);
    std::vector<double> counted_weight = weight_;
    for (size_t i = points_.counted; i < counted_weight.size(); ++i) counted_weight[i] = 0;
    const Band checks(points_.x, fine_y_);
    checks.multiply_transposed(counted_weight, fine_c_);
    if (points_.far_mass > 0)
      for (size_t j = 0; j < fine_y_.size(); ++j) fine_c_[j] += 0.5 * std::erfc(points_.end - fine_y_[j]);

    const std::vector<double> highest = highest_nearby();
    double upper = 0, distortion = 0;
    for (size_t i = 0; i < points_.counted; ++i) {
      const double log_lambda = -std::log(std::max(r_[i], smallest));
      upper += points_.mass[i] * log_lambda;
      result.lower += points_.mass[i] * (log_lambda - std::log(highest_at(highest, points_.x[i])));
      distortion += points_.mass[i] * mean_distance(points_.x[i], r_[i]);
    }
    const double far_loss = points_.far_mass > 0 ? std::log(std::max(1.0, highest.back())) : 0;
    result.upper = upper + points_.far_log_lambda;
    result.lower += points_.far_log_lambda - points_.far_mass * far_loss;
    result.distortion = distortion + 0.5 * points_.far_mass;
    return result;
  }

  /// E (x - y)^2 over the reproductions of x.
  double mean_distance(double x, double r) const {
    double sum = 0;
    const size_t first = size_t(std::lower_bound(y_.begin(), y_.end(), x - reach) - y_.begin());
    for (size_t j = first; j < y_.size() && y_[j] <= x + reach; ++j) {
      const double d = x - y_[j], s = x + y_[j];
      sum += q_[j] * 0.5 * (std::exp(-d * d) * d * d + std::exp(-s * s) * s * s);
    }
    return sum / std::max(r, smallest);
  }

  /// The peak of c between fine points j - 1 and j + 1, by the parabola through them.
  double peak(size_t j) const {
    if (j == 0 || j + 1 >= fine_c_.size()) return fine_c_[j];
    const double a = fine_c_[j - 1], b = fine_c_[j], c = fine_c_[j + 1], bend = a - 2 * b + c;
    return bend < 0 && b >= a && b >= c ? b - (c - a) * (c - a) / (8 * bend) : std::max({a, b, c});
  }

  /// [j]: the largest c, at least 1, within `reach` of fine point j.
  std::vector<double> highest_nearby() const {
    const size_t window = size_t(reach / fine) + 1;
    std::vector<double> peaks(fine_c_.size()), highest(fine_c_.size(), 1);
    for (size_t j = 0; j < peaks.size(); ++j) peaks[j] = std::max(1.0, peak(j));
    for (size_t j = 0; j < peaks.size(); ++j)
      if (peaks[j] > 1)
        for (size_t k = j > window ? j - window : 0; k <= std::min(j + window, peaks.size() - 1); ++k)
          highest[k] = std::max(highest[k], peaks[j]);
    return highest;
  }

  static double highest_at(const std::vector<double>& highest, double x) {
    return highest[std::min(size_t(x / fine + 0.5), highest.size() - 1)];
  }

  /// Makes the peaks of c reproduction points; each takes half of what its neighbours have. Drops what is not
  /// used.
  void insert_peaks() {
    std::vector<std::pair<double, double>> all;
    for (size_t j = 0; j < y_.size(); ++j)
      if (q_[j] > 1e-14 * total_) all.emplace_back(y_[j], q_[j]);
    for (size_t j = 1; j + 1 < fine_c_.size(); ++j) {
      const double a = fine_c_[j - 1], b = fine_c_[j], c = fine_c_[j + 1];
      if (b < a || b <= c || b <= 1 + 1e-7 || fine_y_[j] > points_.end) continue;
      const double at = fine_y_[j] + fine * 0.5 * (a - c) / (a - 2 * b + c);
      auto right = std::lower_bound(all.begin(), all.end(), std::pair(at, 0.0));
      const bool has_right = right != all.end(), has_left = right != all.begin();
      if (has_right && right->first - at < 1e-4) continue;
      if (has_left && at - std::prev(right)->first < 1e-4) continue;
      double mass = 1e-9 * total_;
      for (auto* neighbour : {has_left ? &*std::prev(right) : nullptr, has_right ? &*right : nullptr}) {
        if (!neighbour || std::abs(neighbour->first - at) > spacing) continue;
        neighbour->second /= 2;
        mass += neighbour->second;
      }
      all.insert(right, {at, mass});
    }
    y_.clear();
    q_.clear();
    for (const auto& [y, q] : all) {
      y_.push_back(y);
      q_.push_back(q);
    }
  }

  Points points_;
  double total_ = 0;
  std::vector<double> y_, q_;
  std::vector<double> q1_, q2_, trial_, r_, c_, weight_;
  std::vector<double> fine_y_, fine_c_;
};

}  // namespace

Lagrangian least_lagrangian(const MagnitudeHistogram& source, double slope) {
  const double elements = source.elements();
  if (!(elements > 0) || source.bins.empty()) return {};
  // The whole source on the reproduction 0: best, and certified at once, where c(y) <= 1 everywhere.
  Lagrangian result = Solver(points_of(source, slope)).run();
  result.distortion /= slope;
  return result;
}

}  // namespace jsq
