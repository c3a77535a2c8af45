// The page's frame, style and script.
#include "page.hpp"

#include <fmt/format.h>

namespace jsq::tools {
namespace {

constexpr const char* style = R"(
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 90rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin-top: 2rem; overflow-wrap: anywhere; }
pre { background: #f4f4f4; padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .875rem; }
figure { margin: 1rem 0; }
figure svg { width: 100%; height: auto; max-width: 70rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid #ddd; white-space: nowrap; }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #444; }
.number { text-align: right; }
th button { all: unset; cursor: pointer; font-weight: 600; }
th button:focus-visible { outline: 2px solid #0072B2; outline-offset: 2px; }
th[aria-sort="ascending"] button::after { content: " \2191"; }
th[aria-sort="descending"] button::after { content: " \2193"; }
tbody tr:hover { background: #f2f7fb; }
@media print {
  @page { size: landscape; margin: 1cm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  .wide { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: .1rem .3rem; white-space: normal; }
  th { position: static; }
  figure, tr { break-inside: avoid; }
  th button::after { content: none !important; }
}
)";

constexpr const char* script = R"(
'use strict';
const valueOf = (row, column) => row.cells[column].dataset.value;
const compare = (a, b) => {
  const x = Number(a), y = Number(b);
  return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
};
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const heading = button.closest('th'), table = heading.closest('table'), body = table.tBodies[0];
    const falls = heading.getAttribute('aria-sort') === 'ascending';
    for (const other of table.tHead.rows[0].cells) other.removeAttribute('aria-sort');
    heading.setAttribute('aria-sort', falls ? 'descending' : 'ascending');
    const rows = Array.from(body.rows), column = heading.cellIndex;
    rows.sort((one, other) => {
      const a = valueOf(one, column), b = valueOf(other, column);
      if (a === '' || b === '') return (a === '') - (b === '');
      return falls ? compare(b, a) : compare(a, b);
    });
    body.append(...rows);
  });
}
)";

constexpr const char* policy =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri "
    "'none'; "
    "form-action 'none'";

}  // namespace

std::string page_html(const Page& page) {
  std::string out = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"generator\" content=\"jsq "
      "{}\">\n<title>{}</title>\n<style>{}</style>\n</head>\n<body>\n<h1>{}</h1>\n",
      policy, JSQ_VERSION, html_text(page.title), style, html_text(page.title));
  out += fmt::format("<p>Made by jsq {} with</p>\n<pre>{}</pre>\n", JSQ_VERSION, html_text(page.command));
  unsigned number = 0;
  for (const PageSection& section : page.sections) {
    out += fmt::format("<section>\n<h2>{}</h2>\n", html_text(section.heading));
    if (!section.text.empty()) out += fmt::format("<p>{}</p>\n", html_text(section.text));
    for (const Chart& chart : section.pictures)
      out += fmt::format("<figure role=\"img\" aria-label=\"{}\">\n{}</figure>\n", html_text(chart.title),
                         draw_svg_element({chart}, number++));
    for (const Table& table : section.tables) out += "<div class=\"wide\">\n" + table.html() + "</div>\n";
    out += "</section>\n";
  }
  return out + "<script>" + script + "</script>\n</body>\n</html>\n";
}

}  // namespace jsq::tools
