// A report as one HTML file that needs nothing else: tables that a click sorts, pictures in the page itself,
// the command that made it and what its inputs were. It loads nothing from anywhere, and its content security
// policy says so.
#pragma once

#include <string>
#include <vector>

#include "plot.hpp"
#include "report.hpp"

namespace jsq::tools {

struct PageSection {
  std::string heading;
  std::string text;             ///< a paragraph; "" for none
  std::vector<Chart> pictures;  ///< each drawn on its own
  std::vector<Table> tables;
};

struct Page {
  std::string title;
  std::string command;  ///< as a shell would take it
  std::vector<PageSection> sections;
};

/// \throws Error as draw_svg_element does.
std::string page_html(const Page& page);

}  // namespace jsq::tools
