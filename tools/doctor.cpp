// jsq doctor: what this build is made of, what it can use here, and why it cannot use the rest. An absent
// backend is a fact, not a failure.
#include <fmt/format.h>

#include "command.hpp"
#include "jsq/doctor.hpp"
#include "plot.hpp"
#include "ranks.hpp"
#include "report.hpp"

namespace jsq::tools {

namespace {

/// What the program looks up when it runs, and where it found it.
void add_optional(std::vector<DoctorLine>& lines) {
  const std::string gnuplot = find_gnuplot();
  lines.push_back(
      {"optional", "gnuplot", !gnuplot.empty(),
       gnuplot.empty() ? "not in PATH: --plot and --html need it (Debian: gnuplot-nox)" : gnuplot});
  const RanksSupport ranks = ranks_support();
  lines.push_back(
      {"optional", "Open MPI", ranks.usable,
       ranks.usable
           ? ranks.detail
           : ranks.detail +
                 ": compare and aggregate under mpirun need it (Debian: libopenmpi-dev, JSQ_MPI=ON)"});
}

/// The library's lines, and what only the program uses.
std::vector<DoctorLine> all_lines() {
  std::vector<DoctorLine> lines = doctor();
  auto after_libraries = lines.begin();
  for (auto line = lines.begin(); line != lines.end(); ++line)
    if (line->area == "library") after_libraries = line + 1;
  lines.insert(after_libraries, {{"library", "CLI11", true, CLI11_VERSION},
                                 {"library", "nlohmann-json", true,
                                  fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                              NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)}});
  add_optional(lines);
  return lines;
}

int run_doctor(const GlobalOptions& global) {
  Table table({{"area", "area", Align::left},
               {"name", "name", Align::left},
               {"usable", "usable", Align::left},
               {"detail", "detail", Align::left}});
  for (const DoctorLine& line : all_lines())
    table.add_row({line.area, line.name, Cell(line.ok ? "yes" : "no", line.ok), line.detail});
  if (global.json()) {
    print_document(Stream::out, global,
                   {{"schema", "jsq.doctor/1"}, {"version", version()}, {"checks", table.json()}}, "checks");
  } else {
    print(Stream::out, table.render(global.format));
  }
  return 0;
}

}  // namespace

void add_doctor(CLI::App& app, const GlobalOptions& global, std::function<int()>& run) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Build, libraries, backends and why one is unusable, SIMD, HDF5 filters, gnuplot, Open MPI");
  command->fallthrough();
  command->callback([&global, &run] { run = [&global] { return run_doctor(global); }; });
}

}  // namespace jsq::tools
