// How results are shown: one table rendered as text, Markdown or CSV, one document as JSON or JSON lines, and
// the units of both. It computes nothing.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "jsq/tensor.hpp"

namespace jsq::tools {

/// Keys keep the order they are set in.
using Json = nlohmann::ordered_json;

/// `text` safe to print: control characters, invalid UTF-8, and the characters that reorder text become \n,
/// \t, \r, \xHH or \u{HHHH}; a backslash stays. Names come from files that anybody may have written.
std::string printable(std::string_view text);

/// "17 B", "33.6 KiB", "1.03 MiB": three significant digits.
std::string size_text(uint64_t bytes);
/// "32.0x", "9.75x", "1234x": three significant digits; "-" when not finite.
std::string ratio_text(double ratio);
/// "1.9 GB/s", decimal; "-" when not finite.
std::string rate_text(double bytes_per_second);
/// "[64,3,3]", "[]" for a scalar.
std::string shape_text(std::span<const uint64_t> shape);
/// `digits` significant digits without an exponent where that is short ("0.148", "1.53e-05"); "inf", "nan".
std::string number_text(double value, int digits = 3);
/// "9.1 %".
std::string percent_text(double share);
/// 893000 -> "893 000".
std::string count_text(uint64_t count);

/// `text` as HTML shows it literally, in elements and in quoted attributes.
std::string html_text(std::string_view text);

/// A JSON number: the shortest text that reads back as the same double, null when not finite.
Json json_number(double value);
/// The shape as an array of integers.
Json json_shape(std::span<const uint64_t> shape);

enum class Align : uint8_t { left, right };

struct Column {
  std::string key;    ///< name in CSV and JSON: snake_case
  std::string title;  ///< heading in text and Markdown
  Align align = Align::right;
  size_t least_width = 0;  ///< of the text form, for rows that are printed before the rest is known
};

/// What a person reads and what a program reads. The text is made printable when it is rendered.
struct Cell {
  std::string text;
  Json value;

  Cell() : text("-"), value(nullptr) {}
  Cell(std::string shown, Json exact) : text(std::move(shown)), value(std::move(exact)) {}
  Cell(std::string shown) : text(shown), value(std::move(shown)) {}  // NOLINT: a text is a cell
  Cell(const char* shown) : Cell(std::string(shown)) {}              // NOLINT
};
Cell size_cell(uint64_t bytes);
Cell ratio_cell(double ratio);
Cell rate_cell(double bytes_per_second);
Cell count_cell(uint64_t count);
Cell number_cell(double value, int digits = 3);
Cell shape_cell(std::span<const uint64_t> shape);

/// Rows of cells under columns. Rows shorter than the columns are filled with "-".
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add_row(std::vector<Cell> row);
  /// Text printed after a row, left over from the columns ("<- what papers leave out"); text form only.
  void annotate_last_row(std::string note);
  size_t rows() const noexcept { return rows_.size(); }

  std::string text() const;  ///< columns padded with blanks, two between them
  std::string md() const;    ///< a GitHub table
  std::string csv() const;   ///< RFC 4180 with a heading row, exact values, null as an empty field
  Json json() const;         ///< an array of objects by column key
  std::string html() const;  ///< a <table> with exact values as data-value attributes, to sort by
  /// text, csv or md by the format's name. \pre it is none of the JSON formats.
  std::string render(std::string_view format) const;

  /// The same in pieces, for rows that appear as they become known: what stands before the rows, and one row.
  /// In text the columns are as wide as their titles and least widths say; a longer text pushes its
  /// neighbours aside.
  std::string render_head(std::string_view format) const;
  std::string render_row(std::string_view format, size_t row) const;

 private:
  std::vector<size_t> given_widths() const;
  std::string text_head(const std::vector<size_t>& widths) const;
  std::string text_row(const std::vector<size_t>& widths, size_t row) const;
  std::string md_head() const;
  std::string md_row(size_t row) const;
  std::string csv_head() const;
  std::string csv_row(size_t row) const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
  std::vector<std::string> notes_;
};

/// Where a report goes: results to standard output, talk to standard error.
enum class Stream : uint8_t { out, err };

/// Writes all of `text`. Standard output: \throws BrokenPipe, Error write_failed. Standard error: failures
/// are ignored.
void print(Stream stream, std::string_view text);

/// Prints a document, whose first key is "schema". json: one indented object. jsonl: each element of the
/// array `document[rows_key]`, and of each `document["frames"][i][rows_key]` (which gets "frame": i), as a
/// line
/// {"schema", "record", ...}, then the rest as a line with "record": "summary". The record's name is the key
/// without its plural s: "tensors" makes "record": "tensor".  \pre global.json().
void print_document(Stream stream, const GlobalOptions& global, const Json& document,
                    std::string_view rows_key);

/// A document as one line without blanks, for what must not span lines.
std::string to_line(const Json& document);

/// True when colour belongs on the stream under --color and NO_COLOR.
bool use_color(const GlobalOptions& global, Stream stream);
/// `text` in an ANSI colour ("31" red, "33" yellow, "1" bold) when use_color, otherwise as it is.
std::string paint(const GlobalOptions& global, Stream stream, const char* code, std::string text);

}  // namespace jsq::tools
