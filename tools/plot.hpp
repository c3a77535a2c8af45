// Pictures: a small model of a chart (axes, series of points, lines or bars) and its drawing by gnuplot,
// which is looked up when a picture is asked for. What is drawn is decided by the commands; nothing is
// computed here but where bars stand.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "atomic_output.hpp"

namespace jsq::tools {

enum class Scale : uint8_t { linear, logarithmic };

struct Axis {
  std::string label;
  Scale scale = Scale::linear;
  /// Ends of the axis; NaN leaves an end to the data.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

enum class Mark : uint8_t {
  points,       ///< a symbol at each point
  line,         ///< joined in the order given
  line_points,  ///< both
  bars,         ///< a bar from the bottom of the axis to each point
};

/// A point that is not finite, or not positive on a logarithmic axis, is left out; a line goes on behind it.
struct PlotPoint {
  double x = 0, y = 0;
  std::string label = {};  ///< written beside the point; "" for none
};

struct Series {
  std::string name;  ///< in the legend, also of a series without points; "" for none
  Mark mark = Mark::points;
  std::vector<PlotPoint> points;
  bool reference = false;  ///< a limit or a model to compare with: drawn dashed and black
};

/// Axes with series on them. With `categories` the x axis names them: category i stands at x = i, bars of
/// several series stand beside each other, or on each other when `stacked`. Without, a bar is as wide as the
/// distance to its neighbour (a histogram), and `stacked` means nothing.
struct Chart {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
  std::vector<std::string> categories = {};
  bool stacked = false;
};

enum class PictureFormat : uint8_t { svg, png, pdf };

/// The format that a file's extension names.  \throws Error usage for any other extension.
PictureFormat picture_format(const std::string& path);

/// The gnuplot that pictures are drawn with: the first in PATH, "" when there is none.
std::string find_gnuplot();

/// For a command to fail before its work rather than after.  \throws Error backend_unavailable when there is
/// no gnuplot in PATH; `option` is what asked for it.
void require_gnuplot(const std::string& option);

/// The commands and data that make gnuplot draw the charts, one below the other, to its standard output.
/// Every text is quoted so that gnuplot takes it literally.
std::string gnuplot_script(const std::vector<Chart>& charts, PictureFormat format);

/// The picture's bytes.  \throws Error backend_unavailable without gnuplot, internal with what gnuplot said
/// when it could not draw.
std::string draw(const std::vector<Chart>& charts, PictureFormat format);

/// A picture as an <svg> element for a page: without what belongs to a file of its own. `number` makes the
/// ids within it differ from those of the page's other pictures.
std::string draw_svg_element(const std::vector<Chart>& charts, unsigned number);

/// Draws into an output made (and checked) before the work began, and commits it.
void write_picture(const std::vector<Chart>& charts, PictureFormat format, AtomicOutput& output);

}  // namespace jsq::tools
