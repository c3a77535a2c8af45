// A study of transforms as tables and as JSON.
#include "transform_report.hpp"

#include <algorithm>
#include <numeric>

namespace jsq::tools {
namespace {

constexpr size_t shown_directions[] = {1, 4, 16, 64};

Cell share_of(std::optional<double> share) {
  return share ? Cell(percent_text(*share), json_number(*share)) : Cell();
}

/// Share of the energy in the leading directions; all there are where the matrix has no more.
std::optional<double> leading_share(const std::vector<double>& shares, size_t directions) {
  if (shares.empty()) return {};
  const auto end = shares.begin() + std::ptrdiff_t(std::min(directions, shares.size()));
  return std::min(1.0, std::accumulate(shares.begin(), end, 0.0));
}

std::optional<double> saved_of(const LayerTransforms& layer, size_t transform) {
  if (!layer.bits.front() || !layer.bits[transform] || !(*layer.bits.front() > 0)) return {};
  return 1 - *layer.bits[transform] / *layer.bits.front();
}

std::string key_of(std::string_view transform, std::string_view what) {
  return std::string(transform) + "_" + std::string(what);
}

}  // namespace

Table savings_table(const std::vector<TransformLine>& lines, bool inputs) {
  std::vector<Column> columns;
  if (inputs) columns.push_back({"input", "input", Align::left});
  columns.insert(columns.end(), {{"target", "target", Align::left}, {"nmse", "nmse"}});
  for (const std::string_view transform : studied_transforms) {
    columns.push_back({key_of(transform, "bytes"), std::string(transform)});
    if (transform != "none") columns.push_back({key_of(transform, "saved"), "saved"});
  }
  columns.push_back({"problem", "", Align::left});
  Table table(columns);
  for (const auto& [input, study] : lines) {
    std::vector<Cell> cells;
    if (inputs) cells.emplace_back(input);
    cells.emplace_back(study.target);
    cells.push_back(study.bytes.front() ? Cell(number_text(study.nmse, 4), json_number(study.nmse)) : Cell());
    for (size_t j = 0; j < studied_transforms.size(); ++j) {
      cells.push_back(study.bytes[j] ? count_cell(*study.bytes[j]) : Cell());
      if (j > 0) cells.push_back(share_of(study.saved(j)));
    }
    cells.push_back(study.problem.empty() ? Cell("", nullptr) : Cell(study.problem));
    table.add_row(std::move(cells));
  }
  return table;
}

Table layers_table(const std::vector<TransformLine>& lines, bool names) {
  std::vector<Column> columns;
  if (names) columns = {{"input", "input", Align::left}, {"target", "target", Align::left}};
  columns.insert(columns.end(), {{"tensor", "tensor", Align::left},
                                 {"layer", "layer"},
                                 {"shape", "shape", Align::left},
                                 {"energy_share", "energy"}});
  for (const size_t directions : shown_directions)
    columns.push_back({"top_" + std::to_string(directions), "top " + std::to_string(directions)});
  columns.insert(columns.end(),
                 {{"transform", "transform", Align::left}, {"rank", "rank"}, {"none_bits", "none bits"}});
  for (const std::string_view transform : studied_transforms)
    if (transform != "none") columns.push_back({key_of(transform, "saved"), std::string(transform)});
  Table table(columns);
  for (const auto& [input, study] : lines)
    for (const LayerTransforms& layer : study.layers) {
      std::vector<Cell> cells;
      if (names) cells = {Cell(input), Cell(study.target)};
      cells.insert(cells.end(), {Cell(layer.tensor), count_cell(layer.spectrum.layer),
                                 shape_cell(layer.spectrum.shape), share_of(layer.energy_share)});
      for (const size_t directions : shown_directions)
        cells.push_back(share_of(leading_share(layer.spectrum.shares, directions)));
      const bool coded = study.bytes.back().has_value();
      cells.push_back(coded ? Cell(transform_name(layer.chosen)) : Cell());
      cells.push_back(coded ? count_cell(layer.chosen.rank) : Cell());
      cells.push_back(layer.bits.front() ? count_cell(uint64_t(*layer.bits.front())) : Cell());
      for (size_t j = 1; j < studied_transforms.size(); ++j) cells.push_back(share_of(saved_of(layer, j)));
      table.add_row(std::move(cells));
    }
  return table;
}

Json transform_json(const TransformStudy& study) {
  Json json = {{"target", study.target}, {"nmse", study.bytes.front() ? json_number(study.nmse) : Json()}};
  for (size_t j = 0; j < studied_transforms.size(); ++j)
    json[key_of(studied_transforms[j], "bytes")] = study.bytes[j] ? Json(*study.bytes[j]) : Json();
  json["problem"] = study.problem.empty() ? Json() : Json(study.problem);
  json["layers"] = Json::array();
  for (const LayerTransforms& layer : study.layers) {
    Json spectrum = Json::array();
    for (const double share : layer.spectrum.shares) spectrum.push_back(json_number(share));
    const bool coded = study.bytes.back().has_value();
    Json own = {{"tensor", layer.tensor},
                {"layer", layer.spectrum.layer},
                {"shape", json_shape(layer.spectrum.shape)},
                {"energy_share", json_number(layer.energy_share)},
                {"spectrum", std::move(spectrum)},
                {"transform", coded ? Json(transform_name(layer.chosen)) : Json()},
                {"rank", coded ? Json(layer.chosen.rank) : Json()}};
    for (size_t j = 0; j < studied_transforms.size(); ++j)
      own[key_of(studied_transforms[j], "bits")] = layer.bits[j] ? json_number(*layer.bits[j]) : Json();
    json["layers"].push_back(std::move(own));
  }
  return json;
}

}  // namespace jsq::tools
