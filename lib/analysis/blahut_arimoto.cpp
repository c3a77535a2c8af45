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

// Lengths in units of 1 / sqrt(slope). Halving cell, piece and the spacings together moves L by less than
// 5e-5 of slope D on gradients of ResNet-20 from 0.006 to 12 bits an element.
constexpr double cell = 0.05;  // bins narrower than this are merged into cells of it
constexpr double piece = 0.5;  // wider bins are cut into pieces of at most this
constexpr double dense = 3;    // reproduction points are closer below this
constexpr double dense_spacing = 0.15, coarse_spacing = 0.35;
constexpr double farthest = 1;  // of a reproduction point from the nearest value
constexpr double fine = 0.05;   // of the points at which the certificate is verified
constexpr double horizon = 64;  // beyond it the Shannon bound's lambda is used: 90 standard deviations out
constexpr double reach = 4.2;   // exp(-reach^2) < 3e-8
constexpr double tolerance = 3e-4;
constexpr int first_steps = 12, newton_steps = 40, rounds = 4;
constexpr double smallest = 1e-300;

const double log_root_pi = 0.5 * std::log(std::numbers::pi);

/// The source in units of 1 / sqrt(slope).
struct Points {
  std::vector<double> x, mass;  // ascending x
  size_t counted = 0;           // of these; the rest only keeps the edge at `end` from being one
  double end = HUGE_VAL;        // where the far part begins
  double far_mass = 0, far_log_lambda = 0;
  double edge_mass = 0;  ///< of far_mass, what the near part can reach
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
      if (!(low < points.end + 2 * reach) || points.end == HUGE_VAL) continue;
      points.edge_mass += bin.mass;
      add_pieces(points, bin);
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
    far = true;
    if (points.x.empty() || low > points.x.back() + 2 * reach) {
      points.far_mass += bin.mass;
      points.far_log_lambda += bin.mass * far_log_lambda(bin);
      continue;
    }
    // The first bin beyond the horizon is cut in its middle: there the density is even.
    const double log_lambda = far_log_lambda(bin);
    add_pieces(points, {bin.centre - bin.width / 4, bin.width / 2, bin.mass / 2, 0});
    points.counted = points.x.size();
    points.end = bin.centre;
    points.far_mass += bin.mass / 2;
    points.edge_mass += bin.mass / 2;
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
  struct RowView {
    size_t first, count;
    const double* values;
  };
  RowView row(size_t i) const { return {rows_[i].first, rows_[i].count, &values_[rows_[i].offset]}; }

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

/// A symmetric matrix kept row by row from each row's first entry that is not negligible to the diagonal.
class Skyline {
 public:
  explicit Skyline(const std::vector<double>& y) {
    size_t first = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      while (y[i] - y[first] > 2 * reach) ++first;
      first_.push_back(first);
      offset_.push_back(values_.size());
      values_.resize(values_.size() + i - first + 1);
    }
  }
  void clear() { std::fill(values_.begin(), values_.end(), 0.0); }
  double& at(size_t row, size_t column) { return values_[offset_[row] + column - first_[row]]; }
  double* row(size_t row, size_t column) { return &at(row, column); }

  /// Cholesky's factor in place; a pivot that rounding made too small is raised.
  void factorize() {
    for (size_t i = 0; i < first_.size(); ++i) {
      for (size_t j = first_[i]; j <= i; ++j) {
        const size_t from = std::max(first_[i], first_[j]);
        const double sum = at(i, j) - dot(&at(i, from), &at(j, from), j - from);
        at(i, j) = j < i ? sum / at(j, j) : std::sqrt(std::max(sum, 1e-13 * at(i, i) + 1e-200));
      }
    }
  }
  /// x = A^-1 x, after factorize.
  void solve(std::vector<double>& x) {
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] -= dot(&at(i, first_[i]), &x[first_[i]], i - first_[i]);
      x[i] /= at(i, i);
    }
    for (size_t i = x.size(); i-- > 0;) {
      x[i] /= at(i, i);
      const double* l = &at(i, first_[i]);
      for (size_t j = first_[i]; j < i; ++j) x[j] -= x[i] * l[j - first_[i]];
    }
  }

 private:
  static double dot(const double* a, const double* b, size_t count) {
    double lanes[4] = {};
    size_t k = 0;
    for (; k + 4 <= count; k += 4)
      for (size_t l = 0; l < 4; ++l) lanes[l] += a[k + l] * b[k + l];
    for (; k < count; ++k) lanes[0] += a[k] * b[k];
    return (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  }
  std::vector<size_t> first_, offset_;
  std::vector<double> values_;
};

/// Reproduction points and how often each is used.
class Solver {
 public:
  Solver(Points points, double shannon) : points_(std::move(points)), shannon_(shannon) {
    for (double m : points_.mass) total_ += m;
    // Reproductions far from every value are never used.
    size_t right = 0;
    for (double y = 0; y < points_.x.back() + coarse_spacing;
         y += y < dense ? dense_spacing : coarse_spacing) {
      while (points_.x[right] < y && right + 1 < points_.x.size()) ++right;
      const double nearest =
          std::min(std::abs(points_.x[right] - y), std::abs(y - points_.x[right - (right > 0)]));
      if (nearest < farthest) y_.push_back(y);
    }
    q_.assign(y_.size(), 1e-3 * total_ / double(y_.size()));
    for (size_t i = 0; i < points_.x.size(); ++i) {
      const auto above = std::lower_bound(y_.begin(), y_.end(), points_.x[i]);
      q_[size_t(std::min(above, y_.end() - 1) - y_.begin())] += points_.mass[i];
    }
  }

  Lagrangian run() {
    Band band(points_.x, y_);
    for (int i = 0; i < first_steps; ++i) step(band);
    Lagrangian result = certify(band);
    for (int round = 0; round < rounds && !good(result); ++round) {
      if (round > 0) {
        insert_peaks();
        band = Band(points_.x, y_);
      }
      descend(band);
      const Lagrangian next = certify(band);
      const bool slow = next.upper - next.lower > 0.7 * (result.upper - result.lower);
      result = next;
      if (round > 0 && slow) break;
    }
    return result;
  }

 private:
  static bool good(const Lagrangian& l) { return l.upper - l.lower <= tolerance * l.distortion; }

  /// r = K q, weight = m / r and c = K' weight of the present q.
  void evaluate(const Band& band) {
    band.multiply(q_, r_);
    weight_.resize(r_.size());
    for (size_t i = 0; i < r_.size(); ++i) weight_[i] = points_.mass[i] / std::max(r_[i], smallest);
    band.multiply_transposed(weight_, c_);
  }

  /// One step of Blahut and Arimoto's algorithm.
  void step(const Band& band) {
    evaluate(band);
    for (size_t j = 0; j < q_.size(); ++j) q_[j] = std::max(q_[j] * c_[j], smallest);
  }

  /// Follows the central path of min -sum m ln(K q) + sum q, q >= 0, whose optimality conditions are q z = 0
  /// and z = 1 - c >= 0, until sum q z is below the tolerance.
  void descend(const Band& band) {
    const size_t n = q_.size();
    const double floor = 1e-9 * total_ / double(n);
    for (double& q : q_) q = std::max(q, floor);
    evaluate(band);
    std::vector<double> z(n), move(n), move_z(n);
    for (size_t j = 0; j < n; ++j) z[j] = std::max(1 - c_[j], 1e-3);
    Skyline hessian(y_);
    for (int iteration = 0; iteration < newton_steps; ++iteration) {
      double gap = 0, infeasible = 0;
      for (size_t j = 0; j < n; ++j) {
        gap += q_[j] * z[j];
        infeasible = std::max(infeasible, std::abs(1 - c_[j] - z[j]));
      }
      const double wanted = 0.2 * tolerance * near_distortion(band);
      if (gap < wanted && infeasible < wanted) break;
      const double mu = std::max(0.1 * gap, 0.3 * wanted) / double(n);
      assemble(band, hessian);
      for (size_t j = 0; j < n; ++j) {
        hessian.at(j, j) += z[j] / q_[j];
        move[j] = c_[j] - 1 + mu / q_[j];
      }
      hessian.factorize();
      hessian.solve(move);
      double length = 1, length_z = 1;
      for (size_t j = 0; j < n; ++j) {
        move_z[j] = mu / q_[j] - z[j] - z[j] / q_[j] * move[j];
        if (move[j] < 0) length = std::min(length, -0.95 * q_[j] / move[j]);
        if (move_z[j] < 0) length_z = std::min(length_z, -0.95 * z[j] / move_z[j]);
      }
      for (size_t j = 0; j < n; ++j) {
        q_[j] += length * move[j];
        z[j] += length_z * move_z[j];
      }
      evaluate(band);
    }
  }

  /// K' diag(m / r^2) K, lower half.
  void assemble(const Band& band, Skyline& hessian) {
    hessian.clear();
    for (size_t i = 0; i < r_.size(); ++i) {
      const double weight = weight_[i] / std::max(r_[i], smallest);
      const auto [first, count, k] = band.row(i);
      for (size_t a = 0; a < count; ++a) {
        const double ka = weight * k[a];
        double* row = hessian.row(first + a, first);
        for (size_t b = 0; b <= a; ++b) row[b] += ka * k[b];
      }
    }
  }

  /// Both values of the present q. The dual point is lambda = 1 / r, over the largest c near x where that is
  /// above 1.
  Lagrangian certify(const Band& band) {
    evaluate(band);
    const double top = std::min(points_.x.back(), points_.end) + reach;
    fine_y_.clear();
    for (size_t j = 0; double(j) * fine <= top; ++j) fine_y_.push_back(double(j) * fine);
    std::vector<double> counted = weight_;
    std::fill(counted.begin() + ptrdiff_t(points_.counted), counted.end(), 0.0);
    Band(points_.x, fine_y_).multiply_transposed(counted, fine_c_);
    if (points_.edge_mass > 0)
      for (size_t j = 0; j < fine_y_.size(); ++j) fine_c_[j] += 0.5 * std::erfc(points_.end - fine_y_[j]);

    const std::vector<double> highest = highest_nearby();
    Lagrangian result;
    for (size_t i = 0; i < points_.counted; ++i) {
      const double log_lambda = -std::log(std::max(r_[i], smallest));
      const size_t near = std::min(size_t(points_.x[i] / fine + 0.5), highest.size() - 1);
      result.upper += points_.mass[i] * log_lambda;
      result.lower += points_.mass[i] * (log_lambda - std::log(highest[near]));
    }
    double sum = 0;
    for (double q : q_) sum += q;
    result.upper += points_.far_log_lambda + total_ * std::log(sum / total_);
    result.lower += points_.far_log_lambda;
    if (points_.edge_mass > 0) result.lower -= points_.edge_mass * std::log(std::max(1.0, highest.back()));
    result.lower = std::max(result.lower, std::min(shannon_, result.upper));
    result.distortion = near_distortion(band) + 0.5 * points_.far_mass;
    return result;
  }

  /// sum m E (x - y)^2 over the reproductions of x, for the points that count.
  double near_distortion(const Band& band) const {
    double sum = 0;
    for (size_t i = 0; i < points_.counted; ++i) {
      const auto [first, count, k] = band.row(i);
      double of_x = 0;
      for (size_t j = 0; j < count; ++j) {
        const double d = points_.x[i] - y_[first + j], s = points_.x[i] + y_[first + j];
        // The kernel is the mean of two exponentials whose ratio is exp(-4 x y).
        const double folded = d * d < s * s ? std::exp(d * d - s * s) : 1.0;
        of_x += q_[first + j] * k[j] * (d * d + folded * s * s) / (1 + folded);
      }
      sum += weight_[i] * of_x;
    }
    return sum;
  }

  /// The peak of c between fine points j - 1 and j + 1, by the parabola through them.
  double peak(size_t j) const {
    if (j == 0 || j + 1 >= fine_c_.size()) return fine_c_[j];
    const double a = fine_c_[j - 1], b = fine_c_[j], c = fine_c_[j + 1], bend = a - 2 * b + c;
    return bend < 0 && b >= a && b >= c ? b - (c - a) * (c - a) / (8 * bend) : std::max({a, b, c});
  }

  /// [j]: the largest c within `reach` of fine point j.
  std::vector<double> highest_nearby() const {
    const size_t window = size_t(reach / fine) + 1;
    std::vector<double> highest(fine_c_.size(), 0.5);
    for (size_t j = 0; j < fine_c_.size(); ++j) {
      const double here = peak(j);
      const size_t last = std::min(j + window, fine_c_.size() - 1);
      for (size_t k = j > window ? j - window : 0; k <= last; ++k) highest[k] = std::max(highest[k], here);
    }
    return highest;
  }

  /// Makes the peaks of c reproduction points; drops those that are not used.
  void insert_peaks() {
    std::vector<std::pair<double, double>> all;
    for (size_t j = 0; j < y_.size(); ++j)
      if (q_[j] > 1e-10 * total_ || c_[j] > 0.99) all.emplace_back(y_[j], q_[j]);
    for (size_t j = 1; j + 1 < fine_c_.size(); ++j) {
      const double a = fine_c_[j - 1], b = fine_c_[j], c = fine_c_[j + 1];
      if (b < a || b <= c || b <= 1 + 1e-6 || fine_y_[j] > points_.end) continue;
      const double at = fine_y_[j] + fine * 0.5 * (a - c) / (a - 2 * b + c);
      all.emplace_back(at, 1e-6 * total_);
    }
    std::sort(all.begin(), all.end());
    y_.clear();
    q_.clear();
    for (const auto& [y, q] : all) {
      if (!y_.empty() && y - y_.back() < 1e-3) continue;
      y_.push_back(y);
      q_.push_back(q);
    }
  }

  Points points_;
  double shannon_;
  double total_ = 0;
  std::vector<double> y_, q_;
  std::vector<double> r_, c_, weight_;
  std::vector<double> fine_y_, fine_c_;
};

/// L of the Shannon lower bound, h(g) + ln(slope / pi) / 2: lambda p constant everywhere. None where zeros
/// have mass.
double shannon_lagrangian(const MagnitudeHistogram& source, double slope) {
  if (source.zeros > 0) return -HUGE_VAL;
  const double elements = source.elements();
  double entropy = 0;
  for (const MagnitudeHistogram::Bin& bin : source.bins) {
    const double width = magnitude_bin_edge(bin.index + 1) - magnitude_bin_edge(bin.index);
    entropy += bin.members / elements * std::log(2 * width * elements / bin.members);
  }
  return entropy + 0.5 * std::log(slope) - log_root_pi;
}

}  // namespace

Lagrangian least_lagrangian(const MagnitudeHistogram& source, double slope) {
  const double elements = source.elements();
  if (!(elements > 0) || source.bins.empty()) return {};
  Points points = points_of(source, slope);
  Lagrangian result{points.far_log_lambda, points.far_log_lambda, 0.5 * points.far_mass};
  if (!points.x.empty()) result = Solver(std::move(points), shannon_lagrangian(source, slope)).run();
  result.distortion /= slope;
  return result;
}

}  // namespace jsq
