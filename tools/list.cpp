// jsq list: what a frame holds and what its bytes are for, from its header and directory alone; with -v what
// the bits of each tensor are for, which takes decoding it.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "command.hpp"
#include "jsq/frame.hpp"
#include "report.hpp"
#include "transform_study.hpp"

namespace jsq::tools {
namespace {

struct Options {
  std::vector<std::string> frames;
  bool explain_size = false;
  std::string sort;
};

/// What is shown of one tensor.
struct Row {
  size_t index = 0;
  std::string dump, name, method;
  const FrameTensor* tensor = nullptr;
  uint64_t bytes = 0;  ///< blocks and kept non-finite elements
  std::optional<TensorCoding> coding;

  double ratio() const { return double(tensor->info.stored_bytes()) / double(bytes); }
};

struct Listing {
  std::string path;
  FrameReader frame;
  std::vector<Row> rows;
};

uint64_t input_bytes(const FrameReader& frame) {
  uint64_t bytes = 0;
  for (const FrameTensor& tensor : frame.tensors()) bytes += tensor.info.stored_bytes();
  return bytes;
}

void sort_rows(std::vector<Row>& rows, const std::string& key) {
  const auto by = [&](auto value_of) {
    std::stable_sort(rows.begin(), rows.end(),
                     [&](const Row& a, const Row& b) { return value_of(a) > value_of(b); });
  };
  if (key == "size") by([](const Row& row) { return row.bytes; });
  if (key == "ratio") by([](const Row& row) { return row.ratio(); });
  if (key == "elements") by([](const Row& row) { return row.tensor->info.elements(); });
  if (key == "name")
    std::stable_sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.name < b.name; });
}

/// What the tensor's bits are for; nothing where the method does not tell, or with a warning where it is
/// damaged.
std::optional<TensorCoding> coding_of(const GlobalOptions& global, const FrameReader& frame, size_t tensor) {
  try {
    return frame.coding_of(tensor);
  } catch (const Error& error) {
    if (error.code() != Errc::damaged) throw;
    warn(global, fmt::format("{}; what its bits are for is left out", error.what()));
    return {};
  }
}

Listing list_frame(const GlobalOptions& global, const std::string& path, const Options& options) {
  Listing listing{.path = path, .frame = FrameReader::open(path)};
  const std::vector<FrameTensor>& tensors = listing.frame.tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t blocks =
        std::accumulate(tensors[i].block_bytes.begin(), tensors[i].block_bytes.end(), uint64_t(0));
    listing.rows.push_back(
        {.index = i,
         .dump = listing.frame.dumps()[tensors[i].dump].path,
         .name = tensors[i].info.name,
         .method = listing.frame.method_of(i),
         .tensor = &tensors[i],
         .bytes = blocks + tensors[i].exception_bytes,
         .coding = global.verbosity > 0 ? coding_of(global, listing.frame, i) : std::nullopt});
  }
  sort_rows(listing.rows, options.sort);
  return listing;
}

// --- Tensors
// ---------------------------------------------------------------------------------------------------------

/// "5120 4987 0 ..." with at most a line of them.
std::string blocks_text(const std::vector<uint64_t>& bytes) {
  constexpr size_t shown = 12;
  const std::vector<uint64_t> first(bytes.begin(),
                                    bytes.begin() + std::ptrdiff_t(std::min(bytes.size(), shown)));
  return fmt::format("{}{}", fmt::join(first, " "), bytes.size() > shown ? " ..." : "");
}

/// "dct", or of a tensor of several layers how many have which: "12 none, 7 dct".
std::string transforms_text(const TensorCoding& coding) {
  if (coding.layers.size() == 1) return transform_name(coding.layers.front());
  std::map<std::string, size_t> counts;
  for (const LayerCoding& layer : coding.layers) ++counts[transform_name(layer)];
  std::vector<std::string> parts;
  for (const auto& [name, count] : counts) parts.push_back(fmt::format("{} {}", count, name));
  return fmt::format("{}", fmt::join(parts, ", "));
}

/// All layers as one: the sums, and the largest rank.
LayerCoding sum_of(const TensorCoding& coding) {
  LayerCoding sum;
  for (const LayerCoding& layer : coding.layers) {
    sum.rank = std::max(sum.rank, layer.rank);
    sum.factor_bits += layer.factor_bits;
    sum.scale_bits += layer.scale_bits;
    sum.residual_bits += layer.residual_bits;
  }
  return sum;
}

const std::vector<Column> coding_columns = {{"transform", "transform", Align::left},
                                            {"rank", "rank"},
                                            {"factor_bits", "factor bits"},
                                            {"scale_bits", "scale bits"},
                                            {"residual_bits", "residual bits"}};

Cell bits_cell(double bits) {
  return {fmt::format("{:.0f}", bits), json_number(bits)};
}
void add_coding_cells(std::vector<Cell>& cells, const std::string& transform, const LayerCoding& layer) {
  cells.insert(cells.end(), {Cell(transform), count_cell(layer.rank), bits_cell(layer.factor_bits),
                             bits_cell(layer.scale_bits), bits_cell(layer.residual_bits)});
}

bool any_coding(const Listing& listing) {
  return std::any_of(listing.rows.begin(), listing.rows.end(),
                     [](const Row& row) { return row.coding.has_value(); });
}

Json coding_json(const TensorCoding& coding) {
  Json layers = Json::array();
  for (const LayerCoding& layer : coding.layers)
    layers.push_back({{"shape", json_shape(layer.shape)},
                      {"transform", transform_name(layer)},
                      {"rank", layer.rank},
                      {"factor_bits", json_number(layer.factor_bits)},
                      {"scale_bits", json_number(layer.scale_bits)},
                      {"residual_bits", json_number(layer.residual_bits)}});
  return {{"layers", std::move(layers)}, {"table_bits", json_number(coding.table_bits)}};
}

std::vector<Column> tensor_columns(bool several_frames, bool several_dumps, bool blocks, bool coding) {
  std::vector<Column> columns;
  if (several_frames) columns.push_back({"path", "frame", Align::left});
  if (several_dumps) columns.push_back({"dump", "dump", Align::left});
  columns.insert(columns.end(), {{"name", "tensor", Align::left},
                                 {"dtype", "dtype", Align::left},
                                 {"shape", "shape", Align::left},
                                 {"method", "method", Align::left},
                                 {"blocks", "blocks"},
                                 {"bytes", "bytes"},
                                 {"ratio", "ratio"}});
  if (coding) columns.insert(columns.end(), coding_columns.begin(), coding_columns.end());
  if (blocks) columns.push_back({"block_bytes", "bytes of each block", Align::left});
  return columns;
}

/// A tensor without a name goes by its dump's path where that is not shown beside it.
std::string shown_name(const Row& row, bool several_dumps) {
  return row.name.empty() && !several_dumps ? row.dump : row.name;
}

/// The method's options are for those who ask.
std::string shown_method(const Row& row, bool verbose) {
  return verbose ? row.method : row.method.substr(0, row.method.find(':'));
}

/// The layers of tensors that have several.
Table layer_table(const Listing& listing, bool several_dumps) {
  std::vector<Column> columns = {
      {"name", "layers of", Align::left}, {"layer", "layer"}, {"shape", "shape", Align::left}};
  columns.insert(columns.end(), coding_columns.begin(), coding_columns.end());
  Table table(columns);
  for (const Row& row : listing.rows) {
    if (!row.coding || row.coding->layers.size() < 2) continue;
    for (size_t l = 0; l < row.coding->layers.size(); ++l) {
      const LayerCoding& layer = row.coding->layers[l];
      std::vector<Cell> cells = {
          Cell(several_dumps && row.name.empty() ? row.dump : shown_name(row, several_dumps)), count_cell(l),
          shape_cell(layer.shape)};
      add_coding_cells(cells, transform_name(layer), layer);
      table.add_row(std::move(cells));
    }
  }
  return table;
}

void add_rows(Table& table, const Listing& listing, bool several_frames, bool several_dumps, bool blocks,
              bool coding) {
  for (const Row& row : listing.rows) {
    const FrameTensor& tensor = *row.tensor;
    std::vector<Cell> cells;
    if (several_frames) cells.emplace_back(listing.path);
    if (several_dumps) cells.emplace_back(row.dump);
    cells.insert(cells.end(),
                 {Cell(shown_name(row, several_dumps), row.name), std::string(dtype_name(tensor.info.dtype)),
                  shape_cell(tensor.info.shape), Cell(shown_method(row, blocks), row.method),
                  count_cell(tensor.block_bytes.size()), count_cell(row.bytes), ratio_cell(row.ratio())});
    if (coding && row.coding)
      add_coding_cells(cells, transforms_text(*row.coding), sum_of(*row.coding));
    else if (coding)
      cells.resize(cells.size() + coding_columns.size());
    if (blocks) cells.emplace_back(blocks_text(tensor.block_bytes), tensor.block_bytes);
    table.add_row(std::move(cells));
  }
}

Json tensor_json(const Row& row, bool blocks) {
  const FrameTensor& tensor = *row.tensor;
  Json json = {{"index", row.index},
               {"dump", row.dump},
               {"name", row.name},
               {"dtype", dtype_name(tensor.info.dtype)},
               {"shape", json_shape(tensor.info.shape)},
               {"fortran_order", tensor.info.fortran_order},
               {"method", row.method},
               {"elements", tensor.info.elements()},
               {"blocks", tensor.block_bytes.size()},
               {"block_elements", uint64_t(1) << tensor.block_log2},
               {"bytes", row.bytes},
               {"ratio", json_number(row.ratio())},
               {"nonfinite", tensor.nonfinite_count}};
  if (blocks) json["block_bytes"] = tensor.block_bytes;
  if (blocks) json["coding"] = row.coding ? coding_json(*row.coding) : Json();
  return json;
}

// --- Sizes
// -----------------------------------------------------------------------------------------------------------

struct SizeRow {
  const char* stream;
  uint64_t bytes;
  const char* note;
};

std::vector<SizeRow> size_rows(const FrameSizes& sizes) {
  return {{"blocks", sizes.blocks, "<- class map and values"},
          {"exceptions", sizes.exceptions, "<- non-finite elements kept exactly"},
          {"parameters", sizes.parameters, "<- scales and code tables, at most"},
          {"directory", sizes.directory, "<- names, shapes, block lengths, attachments"},
          {"checksums", sizes.checksums, "<- 4 bytes a block"},
          {"header", sizes.header, ""},
          {"footer", sizes.footer, ""}};
}

Table size_table(const Listing& listing) {
  Table table({{"stream", "stream", Align::left}, {"bytes", "bytes"}, {"share", "share"}});
  const FrameSizes sizes = listing.frame.sizes();
  const auto add = [&](const char* stream, uint64_t bytes) {
    const double share = double(bytes) / double(sizes.file);
    table.add_row({stream, count_cell(bytes), {percent_text(share), json_number(share)}});
  };
  for (const SizeRow& row : size_rows(sizes)) {
    if (row.bytes == 0) continue;
    add(row.stream, row.bytes);
    table.annotate_last_row(row.note);
  }
  add("file", sizes.file);
  return table;
}

Json sizes_json(const FrameSizes& sizes) {
  Json json = {{"file", sizes.file}};
  for (const SizeRow& row : size_rows(sizes)) json[row.stream] = row.bytes;
  return json;
}

// --- The command
// -----------------------------------------------------------------------------------------------------

std::string heading(const Listing& listing) {
  const FrameReader& frame = listing.frame;
  const uint64_t bytes = frame.sizes().file;
  const auto plural = [](size_t count, const char* noun) {
    return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
  };
  return fmt::format("{}: {} in {}, {} -> {}, {}\n", printable(listing.path),
                     plural(frame.tensors().size(), "tensor"), plural(frame.dumps().size(), "dump"),
                     size_text(input_bytes(frame)), size_text(bytes),
                     ratio_text(double(input_bytes(frame)) / double(bytes)));
}

/// What tensors with one parameter set share.
std::string tables_text(const Listing& listing) {
  std::map<uint32_t, std::pair<size_t, double>> sets;  // tensors and bits
  for (const Row& row : listing.rows) {
    if (!row.coding) continue;
    auto& [tensors, bits] = sets[row.tensor->parameter_set];
    ++tensors;
    bits = row.coding->table_bits;
  }
  std::string text;
  for (const auto& [set, of_set] : sets)
    text += fmt::format("  tables of {} tensor{}: {:.0f} bits\n", of_set.first, of_set.first == 1 ? "" : "s",
                        of_set.second);
  return text;
}

void print_text(const GlobalOptions& global, const Listing& listing, const Options& options) {
  std::string text = heading(listing);
  if (global.verbosity > 0) {
    text += fmt::format("  seed {}\n", listing.frame.seed());
    for (const auto& [key, value] : listing.frame.metadata())
      text += fmt::format("  {} = {}\n", printable(key), printable(value));
    text += tables_text(listing);
  }
  const bool several_dumps = listing.frame.dumps().size() > 1;
  if (options.explain_size) {
    text += size_table(listing).text();
  } else {
    const bool blocks = global.verbosity > 0;
    Table table(tensor_columns(false, several_dumps, blocks, any_coding(listing)));
    add_rows(table, listing, false, several_dumps, blocks, any_coding(listing));
    text += table.text();
    if (const Table layers = layer_table(listing, several_dumps); layers.rows() > 0) text += layers.text();
  }
  print(Stream::out, text);
}

Json frame_json(const GlobalOptions& global, const Listing& listing) {
  const FrameReader& frame = listing.frame;
  Json metadata = Json::object(), dumps = Json::array(), tensors = Json::array();
  for (const auto& [key, value] : frame.metadata()) metadata[key] = value;
  for (const FrameDump& dump : frame.dumps())
    dumps.push_back({{"path", dump.path},
                     {"format", dump_format_name(dump.dump.format)},
                     {"tensors", dump.tensor_count},
                     {"attachment_bytes", dump.dump.attachment.size()}});
  for (const Row& row : listing.rows) tensors.push_back(tensor_json(row, global.verbosity > 0));
  const FrameSizes sizes = frame.sizes();
  return {{"path", listing.path},
          {"seed", frame.seed()},
          {"input_bytes", input_bytes(frame)},
          {"file_bytes", sizes.file},
          {"file_ratio", json_number(double(input_bytes(frame)) / double(sizes.file))},
          {"metadata", std::move(metadata)},
          {"sizes", sizes_json(sizes)},
          {"dumps", std::move(dumps)},
          {"tensors", std::move(tensors)}};
}

Table one_table(const std::vector<Listing>& listings, const GlobalOptions& global, const Options& options) {
  if (!options.explain_size) {
    const bool blocks = global.verbosity > 0;
    const bool coding = std::any_of(listings.begin(), listings.end(), any_coding);
    Table table(tensor_columns(true, true, blocks, coding));
    for (const Listing& listing : listings) add_rows(table, listing, true, true, blocks, coding);
    return table;
  }
  Table table({{"path", "frame", Align::left},
               {"stream", "stream", Align::left},
               {"bytes", "bytes"},
               {"share", "share"}});
  for (const Listing& listing : listings) {
    const FrameSizes sizes = listing.frame.sizes();
    for (const SizeRow& row : size_rows(sizes)) {
      const double share = double(row.bytes) / double(sizes.file);
      table.add_row(
          {listing.path, row.stream, count_cell(row.bytes), {percent_text(share), json_number(share)}});
    }
  }
  return table;
}

int run_list(const GlobalOptions& global, const Options& options) {
  Failures failures(global, options.frames.size());
  std::vector<Listing> listings;
  for (const std::string& path : options.frames) {
    failures.attempt([&] {
      Listing listing = list_frame(global, path, options);
      if (global.text()) print_text(global, listing, options);
      listings.push_back(std::move(listing));
    });
  }
  if (global.json()) {
    Json frames = Json::array();
    for (const Listing& listing : listings) frames.push_back(frame_json(global, listing));
    print_document(Stream::out, global, {{"schema", "jsq.list/1"}, {"frames", std::move(frames)}}, "tensors");
  } else if (!global.text()) {
    print(Stream::out, one_table(listings, global, options).render(global.format));
  }
  return failures.exit_code();
}

}  // namespace

void add_list(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("list",
                         "List the tensors of frames, from header and directory alone; -v: "
                         "methods' options, bytes of each block, what bits are for, seed, metadata");
  command->fallthrough();
  command->add_option("FRAME", options->frames, "Frames; '-' for standard input")->required()->type_name("");
  command->add_flag("--explain-size", options->explain_size,
                    "Show what the bytes of the file are for instead (default: off)");
  command
      ->add_option("--sort", options->sort,
                   "Order of the tensors: name (A to Z), size in bytes, ratio or elements (largest first) "
                   "(default: as "
                   "stored)")
      ->type_name("KEY")
      ->check(CLI::IsMember({"name", "size", "ratio", "elements"}));
  command->callback(
      [&global, &run, options] { run = [&global, options] { return run_list(global, *options); }; });
}

}  // namespace jsq::tools
