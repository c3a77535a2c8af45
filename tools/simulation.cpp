#include "simulation.hpp"

#include <fmt/format.h>

#include <cmath>

namespace jsq::tools {
namespace {

const SimulatedPoint* last_sound(const SimulatedMethod& method) {
  const SimulatedPoint* last = nullptr;
  for (const SimulatedPoint& point : method.points)
    if (point.problem.empty()) last = &point;
  return last;
}

Json point_json(const SimulatedPoint& point) {
  const bool sound = point.problem.empty();
  const auto number = [&](double value) { return sound ? json_number(value) : Json(nullptr); };
  return {{"workers", point.workers},
          {"exchange", sound ? Json(exchange_name(point.codec.exchange)) : Json(nullptr)},
          {"message_bytes", number(point.codec.message_bytes)},
          {"encode_seconds", number(point.codec.encode_seconds)},
          {"decode_seconds", number(point.codec.decode_seconds)},
          {"exchange_seconds", number(point.time.exchange_seconds)},
          {"codec_seconds", number(point.time.codec_seconds)},
          {"step_seconds", number(point.time.step_seconds)},
          {"speedup", number(point.speedup)},
          {"break_even_bytes_per_second", point.break_even ? json_number(*point.break_even) : Json(nullptr)},
          {"always_pays", sound && point.break_even && std::isinf(*point.break_even)},
          {"problem", sound ? Json(nullptr) : Json(point.problem)}};
}

Cell milliseconds(double seconds) {
  return {number_text(seconds * 1e3, 4), json_number(seconds)};
}

std::string break_even_text(const SimulatedPoint& point) {
  if (!point.problem.empty()) return "-";
  if (!point.break_even) return "never";
  return std::isinf(*point.break_even) ? "any" : bandwidth_text(*point.break_even);
}

std::string stops_text(const SimulatedMethod& method, uint64_t most) {
  if (!method.gathers) return "-";
  return method.stops_paying ? fmt::format("{} workers", *method.stops_paying)
                             : fmt::format("not to {}", most);
}

}  // namespace

std::string bandwidth_text(double bytes_per_second) {
  const double bits = bytes_per_second * 8;
  if (bits >= 1e9) return number_text(bits / 1e9) + " Gbit/s";
  if (bits >= 1e6) return number_text(bits / 1e6) + " Mbit/s";
  return number_text(bits / 1e3) + " kbit/s";
}

Table speedup_table(const Simulation& simulation) {
  std::vector<Column> columns = {{"method", "method", Align::left},
                                 {"exchange", "exchange", Align::left},
                                 {"message_bytes", "message"},
                                 {"encode", "enc ms"},
                                 {"decode", "dec ms"}};
  for (const SimulatedPoint& point : simulation.baseline)
    columns.push_back({fmt::format("speedup_{}", point.workers), fmt::format("x{}", point.workers)});
  columns.push_back({"break_even", "pays below"});
  columns.push_back({"stops_paying", "stops at"});
  Table table(columns);
  std::vector<Cell> base = {Cell("fp32 allreduce"), Cell("ring"),
                            size_cell(uint64_t(simulation.step.gradient_bytes)), milliseconds(0),
                            milliseconds(0)};
  for (size_t i = 0; i < simulation.baseline.size(); ++i) base.push_back(number_cell(1));
  table.add_row(std::move(base));
  for (const SimulatedMethod& method : simulation.methods) {
    const SimulatedPoint* last = last_sound(method);
    std::vector<Cell> row = {Cell(method.method)};
    if (last != nullptr) {
      row.push_back(Cell(std::string(exchange_name(last->codec.exchange))));
      row.push_back(size_cell(uint64_t(last->codec.message_bytes)));
      row.push_back(milliseconds(last->codec.encode_seconds));
      row.push_back(milliseconds(last->codec.decode_seconds));
    }
    row.resize(5);
    for (const SimulatedPoint& point : method.points)
      row.push_back(point.problem.empty() ? number_cell(point.speedup) : Cell());
    row.push_back(last != nullptr ? Cell(break_even_text(*last)) : Cell());
    row.push_back(Cell(stops_text(method, simulation.most_workers)));
    table.add_row(std::move(row));
    for (const SimulatedPoint& point : method.points)
      if (!point.problem.empty()) {
        table.annotate_last_row(fmt::format("<- {} workers: {}", point.workers, point.problem));
        break;
      }
  }
  return table;
}

Table point_table(const Simulation& simulation) {
  Table table({{"method", "method", Align::left},
               {"target", "target", Align::left},
               {"workers", "workers"},
               {"exchange", "exchange", Align::left},
               {"message_bytes", "message bytes"},
               {"encode_seconds", "encode ms"},
               {"decode_seconds", "decode ms"},
               {"exchange_seconds", "exchange ms"},
               {"codec_seconds", "codec ms"},
               {"step_seconds", "step ms"},
               {"speedup", "speed-up"},
               {"break_even_bytes_per_second", "pays below"},
               {"problem", "problem", Align::left}});
  const auto add = [&](const std::string& method, const std::string& target, const SimulatedPoint& point) {
    std::vector<Cell> row = {Cell(method), target.empty() ? Cell() : Cell(target), count_cell(point.workers)};
    if (!point.problem.empty()) {
      row.resize(12);
      row.push_back(Cell(point.problem));
      table.add_row(std::move(row));
      return;
    }
    row.push_back(Cell(std::string(exchange_name(point.codec.exchange))));
    row.push_back(count_cell(uint64_t(point.codec.message_bytes)));
    row.push_back(milliseconds(point.codec.encode_seconds));
    row.push_back(milliseconds(point.codec.decode_seconds));
    row.push_back(milliseconds(point.time.exchange_seconds));
    row.push_back(milliseconds(point.time.codec_seconds));
    row.push_back(milliseconds(point.time.step_seconds));
    row.push_back(number_cell(point.speedup));
    row.push_back(
        {break_even_text(point), point.break_even ? json_number(*point.break_even) : Json(nullptr)});
    row.push_back(Cell());
    table.add_row(std::move(row));
  };
  for (const SimulatedPoint& point : simulation.baseline) add("fp32 allreduce", "", point);
  for (const SimulatedMethod& method : simulation.methods)
    for (const SimulatedPoint& point : method.points) add(method.method, method.target, point);
  return table;
}

Json simulation_document(const Simulation& simulation) {
  Json document = {{"schema", "jsq.simulate/1"},
                   {"version", JSQ_VERSION},
                   {"inputs", simulation.inputs},
                   {"network",
                    {{"bytes_per_second", json_number(simulation.network.bytes_per_second)},
                     {"latency_seconds", json_number(simulation.network.alpha_seconds)}}},
                   {"step",
                    {{"compute_seconds", json_number(simulation.step.compute_seconds)},
                     {"backward_share", json_number(simulation.step.backward_share)},
                     {"gradient_bytes", json_number(simulation.step.gradient_bytes)},
                     {"bucket_bytes", json_number(simulation.step.bucket_bytes)},
                     {"buckets", simulation.step.buckets()},
                     {"overlap", simulation.step.overlap}}},
                   {"dump_bytes", json_number(simulation.dump_bytes)},
                   {"codec", simulation.measured_codec ? "measured" : "given"},
                   {"threads", simulation.threads},
                   {"baseline", Json::array()},
                   {"methods", Json::array()}};
  for (const SimulatedPoint& point : simulation.baseline) document["baseline"].push_back(point_json(point));
  for (const SimulatedMethod& method : simulation.methods) {
    Json points = Json::array();
    for (const SimulatedPoint& point : method.points) points.push_back(point_json(point));
    document["methods"].push_back(
        {{"method", method.method},
         {"target", method.target.empty() ? Json(nullptr) : Json(method.target)},
         {"gathers", method.gathers},
         {"stops_paying", method.stops_paying ? Json(*method.stops_paying) : Json(nullptr)},
         {"points", std::move(points)}});
  }
  return document;
}

std::vector<Chart> simulation_charts(const Simulation& simulation) {
  const std::string where = fmt::format("{}, {} us", bandwidth_text(simulation.network.bytes_per_second),
                                        number_text(simulation.network.alpha_seconds * 1e6));
  const auto chart = [&](const std::string& title, const std::string& label, Scale scale,
                         const auto& value_of) {
    Chart made;
    made.title = title + ": " + where;
    made.x = {.label = "workers", .scale = Scale::logarithmic};
    made.y = {.label = label, .scale = scale};
    for (const SimulatedMethod& method : simulation.methods) {
      Series series = {.name = method.method, .mark = Mark::line_points, .points = {}};
      for (const SimulatedPoint& point : method.points)
        if (point.problem.empty()) series.points.push_back({double(point.workers), value_of(point)});
      made.series.push_back(std::move(series));
    }
    return made;
  };
  Chart speedup = chart("Speed-up over fp32 allreduce", "step time of fp32 over the method's", Scale::linear,
                        [](const SimulatedPoint& point) { return point.speedup; });
  Series one = {.name = "fp32 allreduce", .mark = Mark::line, .points = {}, .reference = true};
  for (const SimulatedPoint& point : simulation.baseline) one.points.push_back({double(point.workers), 1});
  speedup.series.push_back(std::move(one));
  Chart even = chart("Bandwidth below which it pays", "bit/s", Scale::logarithmic,
                     [](const SimulatedPoint& point) { return 8 * point.break_even.value_or(std::nan("")); });
  return {std::move(speedup), std::move(even)};
}

}  // namespace jsq::tools
