// From charts to gnuplot's language, and gnuplot as a child process without a shell: the commands are its
// standard input, the picture its standard output.
#include "plot.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "jsq/compress.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

// ---- How series differ, also in grey and for eyes that see few colours -------------------------------

/// Okabe and Ito's palette without its black, which references have, and its yellow, which white paper
/// swallows.
constexpr std::array<const char*, 6> colours = {"#0072B2", "#D55E00", "#009E73",
                                                "#CC79A7", "#E69F00", "#56B4E9"};
/// Limits and models are black, and told apart by their dashes.
constexpr std::array<const char*, 4> reference_dashes = {"8,5", "14,4,2,4", "3,3", "20,6"};
/// gnuplot's point types: filled circle, square, triangle, the triangle upside down, diamond, then the open
/// ones, then crosses. Their number has no factor in common with that of the colours.
constexpr std::array<int, 13> symbols = {7, 5, 9, 11, 13, 6, 4, 8, 10, 12, 1, 2, 3};

// ---- Texts and numbers -------------------------------------------------------------------------------

/// In single quotes gnuplot expands nothing.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (char c : printable(text)) {
    if (c == '\'') out += c;
    out += c;
  }
  return out + "'";
}

/// A text among data stands in double quotes, where a backslash starts an escape and nothing stands for a
/// quote.
std::string quoted_in_data(const std::string& text) {
  std::string out = "\"";
  for (char c : printable(text)) {
    if (c == '\\') out += c;
    out += c == '"' ? '\'' : c;
  }
  return out + "\"";
}

bool drawable(double value, const Axis& axis) {
  return std::isfinite(value) && (axis.scale == Scale::linear || value > 0);
}

bool drawable(const PlotPoint& point, const Chart& chart) {
  return drawable(point.x, chart.x) && drawable(point.y, chart.y);
}

// ---- Bars --------------------------------------------------------------------------------------------

struct Bar {
  double left, right, bottom, top;
};

/// Where bars begin: the end of the axis if it is given, 0, or on a logarithmic axis a power of ten below all
/// of them.
double ground(const Chart& chart) {
  if (!std::isnan(chart.y.low)) return chart.y.low;
  if (chart.y.scale == Scale::linear) return 0;
  double smallest = HUGE_VAL;
  for (const Series& series : chart.series)
    for (const PlotPoint& point : series.points)
      if (drawable(point, chart)) smallest = std::min(smallest, point.y);
  return std::isfinite(smallest) ? std::pow(10, std::floor(std::log10(smallest / 2))) : 1;
}

/// Bars of numbers along the axis: each reaches half way to its neighbours.
std::vector<Bar> histogram_bars(const Series& series, double bottom, bool logarithmic) {
  const auto& points = series.points;
  const auto between = [&](double a, double b) { return logarithmic ? std::sqrt(a * b) : (a + b) / 2; };
  const auto beyond = [&](double end, double inner) {
    return logarithmic ? end * std::sqrt(end / inner) : end + (end - inner) / 2;
  };
  std::vector<Bar> bars;
  for (size_t i = 0; i < points.size(); ++i) {
    const double x = points[i].x;
    const bool first = i == 0, last = i + 1 == points.size();
    Bar bar = {x - 0.5, x + 0.5, bottom, points[i].y};
    if (!first) bar.left = between(points[i - 1].x, x);
    if (!last) bar.right = between(x, points[i + 1].x);
    if (first && !last) bar.left = beyond(x, points[i + 1].x);
    if (last && !first) bar.right = beyond(x, points[i - 1].x);
    bars.push_back(bar);
  }
  return bars;
}

/// The bars of every series with that mark, in the series' order.
std::vector<std::vector<Bar>> bars_of(const Chart& chart) {
  constexpr double share = 0.8;  // of the room between two categories
  const double bottom = ground(chart);
  const auto is_bars = [](const Series& series) { return series.mark == Mark::bars; };
  const auto side_by_side = double(std::max<ptrdiff_t>(
      1, chart.stacked ? 1 : std::count_if(chart.series.begin(), chart.series.end(), is_bars)));
  std::vector<double> stack(chart.categories.size(), bottom);
  std::vector<std::vector<Bar>> all;
  double position = 0;
  for (const Series& series : chart.series) {
    std::vector<Bar> bars;
    if (is_bars(series) && chart.categories.empty()) {
      bars = histogram_bars(series, bottom, chart.x.scale == Scale::logarithmic);
    } else if (is_bars(series)) {
      const double width = share / side_by_side;
      for (const PlotPoint& point : series.points) {
        if (!drawable(point, chart)) continue;
        const double left = point.x - share / 2 + (chart.stacked ? 0 : position * width);
        Bar bar = {left, left + width, bottom, point.y};
        const auto category = size_t(std::max(0.0, std::round(point.x)));
        if (chart.stacked && category < stack.size()) {
          bar.bottom = stack[category];
          bar.top = stack[category] += point.y;
        }
        bars.push_back(bar);
      }
      ++position;
    }
    all.push_back(std::move(bars));
  }
  return all;
}

// ---- The commands ------------------------------------------------------------------------------------

struct PictureSize {
  int width, height;  ///< in pixels of 1/96 inch
};

constexpr size_t most_upright_categories = 8;

/// Room for the names below an axis, which stand upright where they are many.
int room_of_names(const Chart& chart) {
  constexpr int letter = 7, most = 280;
  if (chart.categories.size() <= most_upright_categories) return 0;
  size_t longest = 0;
  for (const std::string& name : chart.categories) longest = std::max(longest, name.size());
  return std::min(most, letter * int(longest));
}

/// High enough that the legend has one column.
int height_of(const Chart& chart) {
  constexpr int least = 520, frame = 160, line = 25;
  return std::max(least, frame + line * int(chart.series.size())) + room_of_names(chart);
}

PictureSize size_of(const std::vector<Chart>& charts) {
  constexpr int width = 960, sides = 360, category = 16;
  constexpr size_t most_categories = 200;
  PictureSize size = {width, 0};
  for (const Chart& chart : charts) {
    size.height = std::max(size.height, height_of(chart));
    size.width =
        std::max(size.width, sides + category * int(std::min(chart.categories.size(), most_categories)));
  }
  size.height *= int(std::max<size_t>(1, charts.size()));
  return size;
}

std::string terminal(const std::vector<Chart>& charts, PictureFormat format) {
  const PictureSize size = size_of(charts);
  switch (format) {
    case PictureFormat::svg:
      return fmt::format("svg size {},{} dynamic noenhanced font 'sans-serif,15' background '#ffffff'",
                         size.width, size.height);
    case PictureFormat::png:
      return fmt::format(
          "pngcairo size {},{} noenhanced font 'sans-serif,15' fontscale 1.5 linewidth 1.5 pointscale 1.5 "
          "background '#ffffff'",
          2 * size.width, 2 * size.height);
    case PictureFormat::pdf:
      return fmt::format(
          "pdfcairo size {}in,{}in noenhanced font 'sans-serif,12' fontscale 0.5 linewidth 1.5",
          size.width / 96.0, size.height / 96.0);
  }
  return "";
}

struct Range {
  double low = HUGE_VAL, high = -HUGE_VAL;

  bool empty() const { return low > high; }
  void take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

/// Positions at round distances, where a logarithmic axis spans so little that it is almost linear.
std::vector<double> linear_ticks(Range range) {
  constexpr double wanted = 5;
  const double width = (range.high - range.low) / wanted,
               decade = std::pow(10, std::floor(std::log10(width)));
  double step = decade;
  for (double factor : {2.0, 5.0, 10.0})
    if (step < width) step = factor * decade;
  std::vector<double> ticks;
  for (double i = std::ceil(range.low / step); i * step <= range.high; ++i) ticks.push_back(i * step);
  return ticks;
}

/// Positions of the numbers on a logarithmic axis: powers of ten, with as few digits between them as make a
/// scale.
std::vector<double> logarithmic_ticks(Range range) {
  static const std::vector<std::vector<double>> digits = {{1}, {1, 3}, {1, 2, 5}, {1, 1.5, 2, 3, 4, 5, 7}};
  constexpr size_t enough = 4, too_many = 12;
  const int first = int(std::floor(std::log10(range.low))), last = int(std::ceil(std::log10(range.high)));
  const int step = (last - first) / int(too_many) + 1;
  for (const std::vector<double>& mantissas : digits) {
    std::vector<double> ticks;
    for (int decade = first; decade <= last; decade += step)
      for (double mantissa : mantissas) {
        const double value = mantissa * std::pow(10, decade);
        if (value >= range.low * (1 - 1e-9) && value <= range.high * (1 + 1e-9)) ticks.push_back(value);
      }
    if (ticks.size() >= enough) return ticks;
  }
  return linear_ticks(range);
}

std::string tick_text(double value) {
  return value >= 1e-4 && value < 1e7 ? fmt::format("{:.6g}", value) : fmt::format("{:.3g}", value);
}

/// The data's range with a margin on a logarithmic axis, where the ends given are kept.
Range logarithmic_range(const Axis& axis, Range data) {
  constexpr double margin = 0.04, least = 1.02;
  const double ratio = std::max(least, std::pow(data.high / data.low, margin));
  return {std::isnan(axis.low) ? data.low / ratio : axis.low,
          std::isnan(axis.high) ? data.high * ratio : axis.high};
}

std::string axis_commands(const char* name, const Axis& axis, Range data) {
  std::string out = fmt::format("set {}label {} font ',14'\nset {}tics norotate font ',14' autofreq\n", name,
                                quoted(axis.label), name);
  const auto end = [](double value) { return std::isnan(value) ? "*" : fmt::format("{:.17g}", value); };
  if (axis.scale == Scale::linear || data.empty())
    return out + fmt::format("unset logscale {0}\nset {0}range [{1}:{2}]\nset format {0} '%g'\n", name,
                             end(axis.low), end(axis.high));
  const Range range = logarithmic_range(axis, data);
  std::string ticks;
  for (double tick : logarithmic_ticks(range))
    ticks += fmt::format("{}'{}' {:.17g}", ticks.empty() ? "" : ", ", tick_text(tick), tick);
  return out + fmt::format("set logscale {0}\nset {0}range [{1:.17g}:{2:.17g}]\nset {0}tics ({3})\n", name,
                           range.low, range.high, ticks);
}

std::string category_commands(const Chart& chart) {
  if (chart.categories.empty()) return "set grid xtics ytics\n";
  std::string names;
  for (size_t i = 0; i < chart.categories.size(); ++i)
    names += fmt::format("{}{} {}", i == 0 ? "" : ", ", quoted(chart.categories[i]), i);
  const bool many = chart.categories.size() > most_upright_categories;
  return fmt::format("set xtics ({}) {} scale 0\nset xrange [-0.7:{}]\nunset grid\nset grid ytics\n", names,
                     many ? "rotate by 90 right font ',11'" : "", double(chart.categories.size()) - 0.3);
}

/// A named block of data, and the plot elements that draw it.
struct Drawn {
  std::string data, elements;
};

Drawn draw_series(const Chart& chart, const Series& series, const std::vector<Bar>& bars,
                  const std::string& block, size_t style) {
  Drawn drawn;
  const std::string colour = series.reference ? "#000000" : colours[style % colours.size()];
  const std::string title = series.name.empty() ? "notitle" : "title " + quoted(series.name);
  std::string rows;
  if (series.mark == Mark::bars) {
    for (const Bar& bar : bars)
      rows += fmt::format("{:.17g} {:.17g} {:.17g} {:.17g} {:.17g} {:.17g}\n", (bar.left + bar.right) / 2,
                          bar.top, bar.left, bar.right, bar.bottom, bar.top);
    drawn.elements = fmt::format(
        "${} using 1:2:3:4:5:6 with boxxyerror fillstyle solid 1 border lc '#ffffff' "
        "lc '{}' lw 0.5 {}",
        block, colour, title);
  } else {
    bool labels = false;
    size_t points = 0;
    for (const PlotPoint& point : series.points) {
      if (!drawable(point, chart)) continue;
      ++points;
      labels |= !point.label.empty();
      rows += fmt::format("{:.17g} {:.17g} {}\n", point.x, point.y, quoted_in_data(point.label));
    }
    const int symbol = symbols[style % symbols.size()];
    const std::string dash =
        series.reference ? fmt::format("dt ({}) lw 2", reference_dashes[style % reference_dashes.size()])
                         : fmt::format("dt {} lw 1.5", style / colours.size() % 4 + 1);
    constexpr int cross = 1;  // a line of one point has no length
    const std::string with =
        series.mark == Mark::line && points == 1 ? fmt::format("linespoints {} pt {}", dash, cross)
        : series.mark == Mark::line              ? "lines " + dash
        : series.mark == Mark::points            ? fmt::format("points pt {}", symbol)
                                                 : fmt::format("linespoints {} pt {}", dash, symbol);
    drawn.elements = fmt::format("${} using 1:2 with {} lc '{}' {}", block, with, colour, title);
    if (labels)
      drawn.elements +=
          fmt::format(", ${} using 1:2:3 with labels left offset 0.7,0.5 font ',11' notitle", block);
  }
  if (rows.empty()) {
    if (!series.name.empty())
      drawn.elements = fmt::format("keyentry with points pt -1 {}", title);
    else
      drawn.elements.clear();
    return drawn;
  }
  drawn.data = fmt::format("${} << END_OF_DATA\n{}END_OF_DATA\n", block, rows);
  return drawn;
}

struct Ranges {
  Range x, y;
};

Ranges ranges_of(const Chart& chart) {
  Ranges ranges;
  for (const Series& series : chart.series) {
    if (series.mark == Mark::bars && !series.points.empty()) ranges.y.take(ground(chart));
    for (const PlotPoint& point : series.points) {
      if (!drawable(point, chart)) continue;
      ranges.x.take(point.x);
      ranges.y.take(point.y);
    }
  }
  return ranges;
}

bool has_bars(const Chart& chart) {
  return std::any_of(chart.series.begin(), chart.series.end(),
                     [](const Series& series) { return series.mark == Mark::bars; });
}

std::string chart_commands(const Chart& chart, size_t number) {
  const Ranges ranges = ranges_of(chart);
  std::string out = fmt::format("set title {}\n", quoted(chart.title));
  Axis y = chart.y;
  if (has_bars(chart)) y.low = ground(chart);
  out += axis_commands("x", chart.x, ranges.x) + axis_commands("y", y, ranges.y) + category_commands(chart);
  const std::vector<std::vector<Bar>> bars = bars_of(chart);
  std::string elements;
  size_t style = 0, references = 0;
  bool any_data = false;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    const Series& series = chart.series[s];
    size_t& own = series.reference ? references : style;
    const Drawn drawn = draw_series(chart, series, bars[s], fmt::format("chart{}_{}", number, s), own++);
    if (drawn.elements.empty()) continue;
    out += drawn.data;
    any_data |= !drawn.data.empty();
    elements += (elements.empty() ? "" : ", ") + drawn.elements;
  }
  if (any_data) return out + "plot " + elements + "\n";
  // An axis without data has no range that gnuplot could find.
  return out +
         "unset logscale\nset xrange [0:1]\nset yrange [0:1]\nset label 99 'nothing to show' at graph "
         "0.5,0.5 center\n"
         "plot NaN notitle\nunset label 99\n";
}

// ---- gnuplot as a child --------------------------------------------------------------------------------

constexpr const char* program = "gnuplot";

Descriptor memory_file(const char* name) {
  Descriptor file(::memfd_create(name, MFD_CLOEXEC));
  if (file.get() < 0)
    throw Error(Errc::limit,
                fmt::format("cannot create a file in memory for gnuplot: {}", std::strerror(errno)));
  return file;
}

void write_all(int descriptor, const std::string& text) {
  FileSink(descriptor, "gnuplot's commands").write(std::as_bytes(std::span(text)));
}

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, size_t(1) << 16> buffer;
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(descriptor, buffer.data(), buffer.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return text;
    text.append(buffer.data(), size_t(got));
    at += got;
  }
}

/// Runs the program with its three streams on the descriptors. This program blocks the signals that end it;
/// the child shall be ended by them.
int run_child(const std::string& file, const std::array<int, 3>& streams) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int i = 0; i < 3; ++i) posix_spawn_file_actions_adddup2(&actions, streams[size_t(i)], i);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, pipe;
  sigemptyset(&none);
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &pipe);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  // -d: no settings of the user's own.
  std::string name = program, plain = "-d", input = "-";
  std::array<char*, 4> arguments = {name.data(), plain.data(), input.data(), nullptr};
  pid_t child = 0;
  const int failure = ::posix_spawn(&child, file.c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failure != 0)
    throw Error(Errc::backend_unavailable, fmt::format("{}: cannot run: {}", file, std::strerror(failure)));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string run_gnuplot(const std::string& commands) {
  const std::string file = find_gnuplot();
  if (file.empty()) require_gnuplot("a picture");
  const Descriptor in = memory_file("commands"), out = memory_file("picture"), err = memory_file("messages");
  write_all(in.get(), commands);
  ::lseek(in.get(), 0, SEEK_SET);
  const int status = run_child(file, {in.get(), out.get(), err.get()});
  std::string picture = read_all(out.get());
  if (status == 0 && !picture.empty()) return picture;
  std::string said = read_all(err.get());
  while (said.ends_with('\n')) said.pop_back();
  throw Error(Errc::internal,
              fmt::format("{} ended with status {} and could not draw the picture: {}", file, status, said));
}

/// Ids of a page's pictures must differ, and gnuplot gives all of its pictures the same.
std::string with_own_ids(std::string svg, unsigned number) {
  const std::string prefix = fmt::format("picture{}-", number);
  for (const char* before : {" id='", " id=\"", "href='#", "url(#"}) {
    const size_t length = std::strlen(before);
    for (size_t at = svg.find(before); at != std::string::npos;
         at = svg.find(before, at + length + prefix.size()))
      svg.insert(at + length, prefix);
  }
  return svg;
}

}  // namespace

std::string find_gnuplot() {
  const char* path = std::getenv("PATH");
  std::string folders = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  for (size_t at = 0; at <= folders.size();) {
    const size_t end = std::min(folders.find(':', at), folders.size());
    const std::string folder = folders.substr(at, end - at);
    std::string file = (folder.empty() ? "." : folder) + "/" + program;
    if (::access(file.c_str(), X_OK) == 0) return file;
    at = end + 1;
  }
  return "";
}

PictureFormat picture_format(const std::string& path) {
  if (path.ends_with(".svg")) return PictureFormat::svg;
  if (path.ends_with(".png")) return PictureFormat::png;
  if (path.ends_with(".pdf")) return PictureFormat::pdf;
  throw Error(Errc::usage, path + ": a picture's name ends in .svg, .png or .pdf");
}

void require_gnuplot(const std::string& option) {
  if (find_gnuplot().empty())
    throw Error(Errc::backend_unavailable, option +
                                               " is drawn by gnuplot, which is not in PATH; install it "
                                               "(Debian: gnuplot-nox) or leave the picture out");
}

std::string gnuplot_script(const std::vector<Chart>& charts, PictureFormat format) {
  std::string out = "set encoding utf8\nset terminal " + terminal(charts, format) + "\n";
  // The same symbols are smaller in the terminals that cairo draws.
  out += format != PictureFormat::png ? "set pointsize 0.6\n" : "set pointsize 0.9\n";
  out +=
      "set key outside right top vertical Left reverse samplen 2 spacing 1.1 font ',13' noenhanced\n"
      "set border 3 lc '#444444'\nset tics nomirror out\nset grid lc '#dddddd' lt 1 lw 0.7\n"
      "set title font ',17' noenhanced\n";
  if (charts.size() > 1) out += fmt::format("set multiplot layout {},1\n", charts.size());
  for (size_t i = 0; i < charts.size(); ++i) out += chart_commands(charts[i], i);
  if (charts.size() > 1) out += "unset multiplot\n";
  return out + "unset output\n";
}

std::string draw(const std::vector<Chart>& charts, PictureFormat format) {
  return run_gnuplot(gnuplot_script(charts, format));
}

std::string draw_svg_element(const std::vector<Chart>& charts, unsigned number) {
  std::string svg = draw(charts, PictureFormat::svg);
  const size_t start = svg.find("<svg");
  return with_own_ids(start == std::string::npos ? svg : svg.substr(start), number);
}

void write_picture(const std::vector<Chart>& charts, PictureFormat format, AtomicOutput& output) {
  const std::string bytes = draw(charts, format);
  FileSink(output.descriptor(), output.path()).write(std::as_bytes(std::span(bytes)));
  output.commit();
}

}  // namespace jsq::tools
