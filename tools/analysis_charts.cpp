// Series from histograms, studies and curves; drawing is plot.hpp's.
#include "analysis_charts.hpp"

#include <bit>
#include <cmath>

namespace jsq::tools {

namespace {

constexpr size_t bins_per_bar = 32;  // four points an octave

double edge_of(size_t bin) {
  return double(std::bit_cast<float>(uint32_t(bin << 16)));
}

/// Elements an octave, and a line at every threshold of the first target's exact allocation.
Chart magnitudes(const DumpPicture& dump) {
  Chart chart;
  chart.title = dump.input + ": magnitudes";
  chart.x = {.label = "|g|", .scale = Scale::logarithmic};
  chart.y = {.label = "elements an octave", .scale = Scale::logarithmic};
  Series elements{.name = "elements an octave", .mark = Mark::line};
  double most = 1;
  for (size_t first = 0; first < summary_bins; first += bins_per_bar) {
    uint64_t members = 0;
    for (size_t bin = first; bin < first + bins_per_bar; ++bin) members += dump.summary.histogram[bin];
    if (first == 0) members -= dump.summary.zeros;
    if (members == 0) continue;
    // Bins are even in the mantissa, so their widths in octaves differ.
    const double low = std::max(edge_of(first), 1e-45), high = edge_of(first + bins_per_bar);
    const double density = double(members) / std::log2(high / low);
    most = std::max(most, density);
    elements.points.push_back({std::sqrt(low * high), density});
  }
  chart.series.push_back(std::move(elements));
  if (dump.studies.empty() || dump.studies.front().allocators.empty()) return chart;
  const NoiseStudy& study = dump.studies.front();
  const AllocatorStudy& exact = study.allocators.front();
  for (size_t j = 1; j < exact.thresholds.size(); ++j) {
    if (!(exact.thresholds[j] > 0)) continue;
    chart.series.push_back(
        {.name = "from here on " + std::to_string(study.widths[j]) + " bits (" + study.target + ")",
         .mark = Mark::line,
         .points = {{exact.thresholds[j], 1}, {exact.thresholds[j], most}},
         .reference = true});
  }
  return chart;
}

Chart noise_by_layer(const DumpPicture& dump, const NoiseStudy& study) {
  Chart chart;
  chart.title = dump.input + ": error of each tensor at " + study.target;
  chart.x = {.label = "tensor"};
  chart.y = {.label = "of the tensor's own |g|^2", .scale = Scale::logarithmic};
  chart.categories = dump.tensors;
  for (const AllocatorStudy& allocator : study.allocators) {
    if (allocator.allocator == "sampled") continue;  // on top of the exact one
    Series model{.name = "h' " + allocator.allocator, .mark = Mark::line, .reference = true};
    Series measured{.name = "measured " + allocator.allocator, .mark = Mark::points};
    for (size_t t = 0; t < dump.tensors.size(); ++t) {
      if (t < allocator.tensors.size() && allocator.allocator == "exact")
        model.points.push_back({double(t), allocator.tensors[t].noise.per_element});
      if (allocator.coded)
        measured.points.push_back({double(t), allocator.coded->tensors[t].distortion.nmse()});
    }
    if (!model.points.empty()) chart.series.push_back(std::move(model));
    chart.series.push_back(std::move(measured));
  }
  return chart;
}

Chart widths_by_layer(const DumpPicture& dump, const NoiseStudy& study) {
  Chart chart;
  chart.title = dump.input + ": widths of the exact allocation at " + study.target;
  chart.x = {.label = "tensor"};
  chart.y = {.label = "share of elements", .low = 0, .high = 1};
  chart.categories = dump.tensors;
  chart.stacked = true;
  const AllocatorStudy& exact = study.allocators.front();
  for (size_t j = study.widths.size(); j-- > 0;) {
    Series series{.name = std::to_string(study.widths[j]) + " bits", .mark = Mark::bars};
    for (size_t t = 0; t < exact.tensors.size(); ++t) {
      uint64_t elements = 0;
      for (uint64_t members : exact.tensors[t].members) elements += members;
      if (elements > 0)
        series.points.push_back({double(t), double(exact.tensors[t].members[j]) / double(elements)});
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Chart curve_chart(const DumpPicture& dump) {
  Chart chart;
  chart.title = dump.input + ": error against size";
  chart.x = {.label = "bits per element", .scale = Scale::logarithmic};
  chart.y = {.label = "nmse", .scale = Scale::logarithmic};
  Series model{.name = "h'", .mark = Mark::line_points},
      measured{.name = "measured", .mark = Mark::line_points};
  Series pooled{.name = "limit, pooled", .mark = Mark::line, .reference = true};
  Series scales{.name = "limit, scales known", .mark = Mark::line, .reference = true};
  for (const CurvePoint& point : dump.curve) {
    if (!point.coded) continue;
    const double bits = point.coded->bits_per_element;
    model.points.push_back({bits, point.coded->hprime});
    measured.points.push_back({bits, point.coded->distortion.nmse()});
    if (!point.bounds) continue;
    pooled.points.push_back({bits, point.bounds->pooled.nmse});
    scales.points.push_back({bits, point.bounds->scales.nmse});
  }
  for (Series* series : {&model, &measured, &pooled, &scales})
    if (!series->points.empty()) chart.series.push_back(std::move(*series));
  return chart;
}

}  // namespace

std::vector<Chart> charts_of(const DumpPicture& dump) {
  std::vector<Chart> charts = {magnitudes(dump)};
  for (const NoiseStudy& study : dump.studies) {
    if (study.allocators.empty()) continue;
    charts.push_back(noise_by_layer(dump, study));
    if (study.allocators.front().model) charts.push_back(widths_by_layer(dump, study));
  }
  if (!dump.curve.empty()) charts.push_back(curve_chart(dump));
  return charts;
}

}  // namespace jsq::tools
