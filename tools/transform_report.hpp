// The tables of analyze --transforms: what each transform saves, of a dump and of its layers, and their
// spectra.
#pragma once

#include <string>
#include <vector>

#include "report.hpp"
#include "transform_study.hpp"

namespace jsq::tools {

/// The study of one input at one target.
struct TransformLine {
  std::string input;
  TransformStudy study;
};

/// One row for each input and target. `inputs`: with the input's name.
Table savings_table(const std::vector<TransformLine>& lines, bool inputs);
/// One row for each layer of each. `names`: with input and target.
Table layers_table(const std::vector<TransformLine>& lines, bool names);
Json transform_json(const TransformStudy& study);

constexpr std::string_view transform_legend =
    "  real frames of rdoq: transform=none at the target, the others at its nmse; saved: share of its bytes\n"
    "  top 1 .. 64     share of a layer's energy that so many directions of its matrix hold\n"
    "  transform, rank what transform=auto chose; its and the others' savings of a layer are shares of "
    "none's bits\n";

}  // namespace jsq::tools
