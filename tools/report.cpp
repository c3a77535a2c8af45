// Rendering of tables and documents, and the units of both.
#include "report.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace jsq::tools {
namespace {

constexpr char32_t invalid = 0xffffffff;

/// One code point at `at` and its bytes; `invalid` and one byte where the text is not UTF-8 (overlong forms,
/// surrogates and values beyond U+10FFFF included).
struct CodePoint {
  char32_t value;
  size_t bytes;
};

CodePoint code_point(std::string_view text, size_t at) {
  const auto lead = uint8_t(text[at]);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || at + bytes > text.size()) return {invalid, 1};
  char32_t value = lead & (0x7fU >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    const auto next = uint8_t(text[at + i]);
    if ((next & 0xc0) != 0x80) return {invalid, 1};
    value = value << 6 | (next & 0x3fU);
  }
  constexpr std::array<char32_t, 5> smallest = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < smallest[bytes] || surrogate || value > 0x10ffff) return {invalid, 1};
  return {value, bytes};
}

/// Line and paragraph separators, and what changes the direction of the text around it.
bool reorders(char32_t value) {
  return value == 0x061c || value == 0x200e || value == 0x200f || (value >= 0x2028 && value <= 0x202e) ||
         (value >= 0x2066 && value <= 0x2069) || value == 0xfeff;
}

void append_escaped(std::string& out, char32_t value, uint8_t byte) {
  if (value == '\n') {
    out += "\\n";
  } else if (value == '\t') {
    out += "\\t";
  } else if (value == '\r') {
    out += "\\r";
  } else if (value == invalid || value < 0x80) {
    out += fmt::format("\\x{:02x}", byte);
  } else {
    out += fmt::format("\\u{{{:x}}}", uint32_t(value));
  }
}

/// Columns a printable text takes: its code points. Wide characters are counted once.
size_t width_of(std::string_view text) {
  return size_t(std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xc0) != 0x80; }));
}

/// Three significant digits, at least the integer part.
std::string three_digits(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

std::string csv_field(const Json& value) {
  if (value.is_null()) return "";
  std::string field = value.is_string() ? value.get<std::string>() : to_line(value);
  if (field.find_first_of(",\"\r\n") == std::string::npos) return field;
  for (size_t at = field.find('"'); at != std::string::npos; at = field.find('"', at + 2))
    field.insert(at, 1, '"');
  return '"' + field + '"';
}

std::string md_field(const std::string& text) {
  std::string field;
  for (char c : printable(text)) {
    if (c == '|') field += '\\';
    field += c;
  }
  return field;
}

void append_padded(std::string& line, const std::string& text, Align align, size_t width) {
  const std::string padding(width - std::min(width, width_of(text)), ' ');
  line += align == Align::right ? padding + text : text + padding;
}

std::string without_trailing_blanks(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

std::string record_of(std::string_view rows_key) {
  if (rows_key.ends_with('s')) rows_key.remove_suffix(1);
  return std::string(rows_key);
}

/// Moves `holder[rows_key]` out as lines.
void take_rows(std::string& lines, Json& holder, const Json& schema, const std::string& rows_key,
               const Json& frame) {
  const auto rows = holder.find(rows_key);
  if (rows == holder.end() || !rows->is_array()) return;
  for (const Json& row : *rows) {
    Json line = {{"schema", schema}, {"record", record_of(rows_key)}};
    if (!frame.is_null()) line["frame"] = frame;
    line.update(row);
    lines += to_line(line) + "\n";
  }
  holder.erase(rows_key);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const auto [value, bytes] = code_point(text, at);
    const bool control = value < 0x20 || (value >= 0x7f && value < 0xa0);
    if (value == invalid || control || reorders(value)) {
      append_escaped(out, value, uint8_t(text[at]));
    } else {
      out += text.substr(at, bytes);
    }
    at += bytes;
  }
  return out;
}

std::string html_text(std::string_view text) {
  std::string out;
  for (char c : printable(text)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string size_text(uint64_t bytes) {
  static constexpr std::array<const char*, 6> units = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double value = double(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.5 && unit + 1 < units.size(); ++unit) value /= 1024;
  return fmt::format("{} {}", three_digits(value), units[unit]);
}

std::string ratio_text(double ratio) {
  return std::isfinite(ratio) ? three_digits(ratio) + "x" : "-";
}

std::string rate_text(double bytes_per_second) {
  if (!std::isfinite(bytes_per_second)) return "-";
  const bool giga = bytes_per_second >= 0.9995e9;
  return three_digits(bytes_per_second / (giga ? 1e9 : 1e6)) + (giga ? " GB/s" : " MB/s");
}

std::string shape_text(std::span<const uint64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ","));
}

std::string number_text(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  if (value == 0) return "0";
  const double magnitude = std::fabs(value);
  if (magnitude < 1e-3 || magnitude >= 1e6) return fmt::format("{:.{}e}", value, digits - 1);
  const int decimals = digits - 1 - int(std::floor(std::log10(magnitude)));
  return fmt::format("{:.{}f}", value, std::max(0, decimals));
}

std::string percent_text(double share) {
  return std::isfinite(share) ? fmt::format("{:.1f} %", share * 100) : "-";
}

std::string count_text(uint64_t count) {
  std::string text = std::to_string(count);
  for (size_t at = text.size(); at > 3;) text.insert(at -= 3, 1, ' ');
  return text;
}

Json json_number(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json json_shape(std::span<const uint64_t> shape) {
  Json array = Json::array();
  for (uint64_t extent : shape) array.push_back(extent);
  return array;
}

Cell size_cell(uint64_t bytes) {
  return {size_text(bytes), bytes};
}
Cell ratio_cell(double ratio) {
  return {ratio_text(ratio), json_number(ratio)};
}
Cell rate_cell(double bytes_per_second) {
  return {rate_text(bytes_per_second), json_number(bytes_per_second)};
}
Cell count_cell(uint64_t count) {
  return {count_text(count), count};
}
Cell number_cell(double value, int digits) {
  return {number_text(value, digits), json_number(value)};
}
Cell shape_cell(std::span<const uint64_t> shape) {
  return {shape_text(shape), json_shape(shape)};
}

void Table::add_row(std::vector<Cell> row) {
  row.resize(columns_.size());
  rows_.push_back(std::move(row));
  notes_.emplace_back();
}

void Table::annotate_last_row(std::string note) {
  notes_.back() = std::move(note);
}

std::vector<size_t> Table::given_widths() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_)
    widths.push_back(std::max(column.least_width, width_of(column.title)));
  return widths;
}

std::string Table::text_head(const std::vector<size_t>& widths) const {
  std::string line;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c > 0) line += "  ";
    append_padded(line, columns_[c].title, columns_[c].align, widths[c]);
  }
  return without_trailing_blanks(std::move(line)) + "\n";
}

std::string Table::text_row(const std::vector<size_t>& widths, size_t row) const {
  std::string line;
  for (size_t c = 0; c < columns_.size(); ++c) {
    if (c > 0) line += "  ";
    append_padded(line, printable(rows_[row][c].text), columns_[c].align, widths[c]);
  }
  if (!notes_[row].empty()) line += "  " + printable(notes_[row]);
  return without_trailing_blanks(std::move(line)) + "\n";
}

std::string Table::text() const {
  std::vector<size_t> widths;
  for (const Column& column : columns_) widths.push_back(width_of(column.title));
  for (const auto& row : rows_)
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], width_of(printable(row[c].text)));
  std::string out = text_head(widths);
  for (size_t r = 0; r < rows_.size(); ++r) out += text_row(widths, r);
  return out;
}

std::string Table::md_head() const {
  std::string out = "|";
  for (const Column& column : columns_) out += " " + md_field(column.title) + " |";
  out += "\n|";
  for (const Column& column : columns_) out += column.align == Align::right ? " ---: |" : " --- |";
  return out + "\n";
}

std::string Table::md_row(size_t row) const {
  std::string out = "|";
  for (const Cell& cell : rows_[row]) out += " " + md_field(cell.text) + " |";
  return out + "\n";
}

std::string Table::md() const {
  std::string out = md_head();
  for (size_t r = 0; r < rows_.size(); ++r) out += md_row(r);
  return out;
}

std::string Table::csv_head() const {
  std::string out;
  for (size_t c = 0; c < columns_.size(); ++c) out += (c > 0 ? "," : "") + csv_field(columns_[c].key);
  return out + "\r\n";
}

std::string Table::csv_row(size_t row) const {
  std::string out;
  for (size_t c = 0; c < rows_[row].size(); ++c) out += (c > 0 ? "," : "") + csv_field(rows_[row][c].value);
  return out + "\r\n";
}

std::string Table::csv() const {
  std::string out = csv_head();
  for (size_t r = 0; r < rows_.size(); ++r) out += csv_row(r);
  return out;
}

std::string Table::html() const {
  const auto start_of = [](const char* element, const Column& column) {
    return fmt::format("<{}{}", element, column.align == Align::right ? " class=\"number\"" : "");
  };
  const auto text_of = [](const Json& value) {
    return value.is_null() ? std::string() : value.is_string() ? value.get<std::string>() : to_line(value);
  };
  // Notes have a column of their own.
  const bool notes =
      std::any_of(notes_.begin(), notes_.end(), [](const std::string& note) { return !note.empty(); });
  std::vector<Column> columns = columns_;
  if (notes) columns.push_back({"note", "note", Align::left});
  std::string out = "<table>\n<thead><tr>";
  for (const Column& column : columns)
    out += fmt::format("{} scope=\"col\"><button type=\"button\">{}</button></th>", start_of("th", column),
                       html_text(column.title));
  out += "</tr></thead>\n<tbody>\n";
  for (size_t r = 0; r < rows_.size(); ++r) {
    out += "<tr>";
    for (size_t c = 0; c < columns.size(); ++c) {
      const Cell cell = c < columns_.size() ? rows_[r][c] : Cell(notes_[r]);
      out += fmt::format("{} data-value=\"{}\">{}</td>", start_of("td", columns[c]),
                         html_text(text_of(cell.value)), html_text(cell.text));
    }
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n";
}

Json Table::json() const {
  Json array = Json::array();
  for (const auto& row : rows_) {
    Json object = Json::object();
    for (size_t c = 0; c < row.size(); ++c) object[columns_[c].key] = row[c].value;
    array.push_back(std::move(object));
  }
  return array;
}

std::string Table::render(std::string_view format) const {
  if (format == "csv") return csv();
  return format == "md" ? md() : text();
}

std::string Table::render_head(std::string_view format) const {
  if (format == "csv") return csv_head();
  return format == "md" ? md_head() : text_head(given_widths());
}

std::string Table::render_row(std::string_view format, size_t row) const {
  if (format == "csv") return csv_row(row);
  return format == "md" ? md_row(row) : text_row(given_widths(), row);
}

void print(Stream stream, std::string_view text) {
  const int descriptor = stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(size_t(written));
      continue;
    }
    if (errno == EINTR) continue;
    if (stream == Stream::err) return;
    if (errno == EPIPE) throw BrokenPipe();
    throw Error(Errc::write_failed, std::string("cannot write to standard output: ") + std::strerror(errno));
  }
}

std::string to_line(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void print_document(Stream stream, const GlobalOptions& global, const Json& document,
                    std::string_view rows_key) {
  if (global.format == "json") {
    print(stream, document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    return;
  }
  const std::string key(rows_key);
  const Json schema = document.value("schema", Json());
  Json rest = document;
  std::string lines;
  take_rows(lines, rest, schema, key, Json());
  if (const auto frames = rest.find("frames"); frames != rest.end())
    for (size_t i = 0; i < frames->size(); ++i) take_rows(lines, (*frames)[i], schema, key, i);
  Json summary = {{"schema", schema}, {"record", "summary"}};
  summary.update(rest);
  print(stream, lines + to_line(summary) + "\n");
}

bool use_color(const GlobalOptions& global, Stream stream) {
  if (global.color != "auto") return global.color == "always";
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  return ::isatty(stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO) == 1;
}

std::string paint(const GlobalOptions& global, Stream stream, const char* code, std::string text) {
  if (!use_color(global, stream)) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

}  // namespace jsq::tools
