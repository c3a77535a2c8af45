// Layouts of sequences, and the checks that their parts fit together.
#include "sequence.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include "inputs.hpp"
#include "jsq/error.hpp"
#include "layers.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

/// Texts in the order of the numbers in them: runs of digits compare by value.
bool natural_less(const std::string& a, const std::string& b) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto number_end = [&](const std::string& text, size_t at) {
    while (at < text.size() && is_digit(text[at])) ++at;
    return at;
  };
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (!is_digit(a[i]) || !is_digit(b[j])) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    while (i < a.size() && a[i] == '0') ++i;
    while (j < b.size() && b[j] == '0') ++j;
    const size_t end_a = number_end(a, i), end_b = number_end(b, j);
    if (end_a - i != end_b - j) return end_a - i < end_b - j;
    if (const int order = a.compare(i, end_a - i, b, j, end_b - j); order != 0) return order < 0;
    i = end_a, j = end_b;
  }
  if ((i < a.size()) != (j < b.size())) return j < b.size();
  return a < b;
}

/// "worker3" -> 3 for the word "worker".
std::optional<uint64_t> numbered(std::string_view component, std::string_view word) {
  if (!component.starts_with(word)) return std::nullopt;
  const std::string_view digits = component.substr(word.size());
  if (digits.empty() || digits.size() > 18) return std::nullopt;
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return std::stoull(std::string(digits));
}

/// A tensor's name behind its step and worker.
struct Place {
  std::optional<uint64_t> step, worker;
  std::string step_name, worker_name, rest;
};

Place place_of(const std::string& name) {
  Place place{.rest = name};
  const auto take = [&](std::initializer_list<std::string_view> words, std::optional<uint64_t>& number,
                        std::string& taken) {
    const std::string component = place.rest.substr(0, place.rest.find('/'));
    for (std::string_view word : words)
      if (!number) number = numbered(component, word);
    if (!number) return;
    taken = component;
    place.rest = component.size() < place.rest.size() ? place.rest.substr(component.size() + 1) : "";
  };
  take({"step"}, place.step, place.step_name);
  take({"worker", "rank"}, place.worker, place.worker_name);
  return place;
}

std::vector<InputFile> files_in_order(const std::string& argument) {
  std::vector<InputFile> files = expand_input(argument);
  std::sort(files.begin(), files.end(),
            [](const InputFile& a, const InputFile& b) { return natural_less(a.argument, b.argument); });
  return files;
}

[[noreturn]] void misfit(const std::string& what) {
  throw Error(Errc::usage, what);
}

}  // namespace

/// Tensors of other sources, or parts of them, as a source.
class Sequence::SliceSource final : public GradientSource {
 public:
  explicit SliceSource(const std::vector<Slice>& slices) : slices_(slices) {
    dump_.format = DumpFormat::npz;
    for (const Slice& slice : slices) tensors_.push_back(slice.info);
  }
  const DumpInfo& dump() const override { return dump_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::span<const float> read(size_t t, uint64_t first, size_t count,
                              std::vector<float>& scratch) const override {
    return slices_[t].source->read(slices_[t].tensor, slices_[t].first + first, count, scratch);
  }
  void read_stored(size_t t, uint64_t first, size_t count, std::byte* out) const override {
    slices_[t].source->read_stored(slices_[t].tensor, slices_[t].first + first, count, out);
  }

 private:
  DumpInfo dump_;
  std::vector<TensorInfo> tensors_;
  std::vector<Slice> slices_;
};

std::vector<Sequence::Step> Sequence::stacked(const std::shared_ptr<const GradientSource>& source,
                                              size_t tensor) {
  TensorInfo info = source->tensors()[tensor];
  if (info.fortran_order)
    misfit(
        fmt::format("tensor '{}' of shape {} is stored in Fortran order; a stack of gradients is read in C "
                    "order: write it again so",
                    info.name, shape_text(info.shape)));
  const uint64_t steps = info.shape[0], workers = info.shape[1], d = info.shape[2];
  info.shape = {d};
  info.name.clear();
  info.attachment.clear();
  std::vector<Step> grid(steps);
  for (uint64_t s = 0; s < steps; ++s) {
    grid[s].name = fmt::format("step {}", s);
    for (uint64_t w = 0; w < workers; ++w)
      grid[s].cells.push_back({fmt::format("worker {}", w), {{source, tensor, (s * workers + w) * d, info}}});
  }
  return grid;
}

std::vector<Sequence::Step> Sequence::read_grid(const std::string& argument, bool only_dump) {
  const std::shared_ptr<const GradientSource> source = open_gradients(argument);
  const std::vector<TensorInfo>& tensors = source->tensors();
  std::vector<Place> places;
  for (const TensorInfo& tensor : tensors) places.push_back(place_of(tensor.name));
  const bool grouped =
      std::any_of(places.begin(), places.end(), [](const Place& p) { return p.step || p.worker; });

  const auto is_stack = [](const TensorInfo& tensor) { return tensor.shape.size() == 3; };
  if (only_dump && !grouped && std::count_if(tensors.begin(), tensors.end(), is_stack) == 1 &&
      std::none_of(tensors.begin(), tensors.end(), [](const TensorInfo& t) { return t.shape.size() > 3; }))
    return stacked(source, size_t(std::find_if(tensors.begin(), tensors.end(), is_stack) - tensors.begin()));

  std::map<uint64_t, std::pair<std::string, std::map<uint64_t, Cell>>> steps;
  for (size_t t = 0; t < tensors.size(); ++t) {
    if (grouped && !places[t].step && !places[t].worker) continue;  // losses and the like beside the groups
    auto& [step_name, workers] = steps[places[t].step.value_or(0)];
    step_name = places[t].step_name;
    Cell& cell = workers[places[t].worker.value_or(0)];
    cell.name = places[t].worker_name;
    TensorInfo info = tensors[t];
    info.name = places[t].rest;
    info.attachment.clear();
    cell.slices.push_back({source, t, 0, std::move(info)});
  }
  std::vector<Step> grid;
  for (auto& [number, step] : steps) {
    grid.push_back({step.first, {}});
    for (auto& [worker, cell] : step.second) {
      if (cell.name.empty()) cell.name = fmt::format("worker {}", worker);
      grid.back().cells.push_back(std::move(cell));
    }
  }
  return grid;
}

void Sequence::append(std::vector<Step> steps, FileAxis axis, const std::string& argument) {
  if (axis == FileAxis::steps) {
    for (Step& step : steps) {
      if (step.name.empty()) step.name = argument;
      grid_.push_back(std::move(step));
    }
    return;
  }
  if (grid_.empty()) grid_.resize(steps.size());
  if (grid_.size() != steps.size())
    misfit(fmt::format("{}: has {} steps, the dumps before it have {}; give dumps of the same steps",
                       argument, steps.size(), grid_.size()));
  for (size_t s = 0; s < steps.size(); ++s) {
    if (grid_[s].name.empty()) grid_[s].name = steps[s].name;
    for (Cell& cell : steps[s].cells) {
      if (steps[s].cells.size() == 1) cell.name = argument;
      grid_[s].cells.push_back(std::move(cell));
    }
  }
}

Sequence Sequence::open(const std::vector<std::string>& arguments, FileAxis axis, const std::string& layers) {
  std::vector<InputFile> files;
  for (const std::string& argument : arguments)
    for (InputFile& file : files_in_order(argument)) files.push_back(std::move(file));
  Sequence sequence;
  for (const InputFile& file : files)
    sequence.append(read_grid(file.argument, files.size() == 1), axis, file.argument);
  for (size_t s = 0; s < sequence.grid_.size(); ++s)
    if (sequence.grid_[s].name.empty()) sequence.grid_[s].name = fmt::format("step {}", s);
  if (!layers.empty()) sequence.split_layers(layers);
  sequence.require_equal_tensors();
  return sequence;
}

void Sequence::split_layers(const std::string& file) {
  for (Step& step : grid_)
    for (Cell& cell : step.cells) {
      if (cell.slices.size() != 1 || cell.slices[0].info.shape.size() != 1)
        misfit(fmt::format("--layers gives shapes to one flat tensor, which {}, {} is not", step.name,
                           cell.name));
      const Slice whole = cell.slices[0];
      cell.slices.clear();
      uint64_t first = whole.first;
      for (const Layer& layer : read_layers(file, whole.info.elements())) {
        Slice slice = whole;
        slice.first = first;
        slice.info.name = layer.name;
        slice.info.shape = layer.shape;
        first += slice.info.elements();
        cell.slices.push_back(std::move(slice));
      }
    }
}

void Sequence::require_equal_tensors() {
  if (grid_.empty() || grid_[0].cells.empty() || grid_[0].cells[0].slices.empty())
    misfit(
        "no gradients in the input; expected a [steps, workers, d] data set, groups step<N>/worker<K>/..., "
        "or "
        "a dump for each");
  for (const Slice& slice : grid_[0].cells[0].slices) tensors_.push_back(slice.info);
  for (const TensorInfo& info : tensors_) {
    elements_ += info.elements();
    stored_bytes_ += info.stored_bytes();
  }
  for (const Step& step : grid_) {
    require_same_workers(step);
    for (const Cell& cell : step.cells) require_same_tensors(step, cell);
  }
}

void Sequence::require_same_workers(const Step& step) const {
  const Step& first = grid_[0];
  const auto is_group = [](const std::string& name) {
    return numbered(name, "worker") || numbered(name, "rank");
  };
  const auto lacks = [&](const Step& other, const Cell& wanted) {
    return std::none_of(other.cells.begin(), other.cells.end(),
                        [&](const Cell& cell) { return cell.name == wanted.name; });
  };
  for (const Cell& cell : first.cells)
    if (is_group(cell.name) && lacks(step, cell))
      misfit(fmt::format("{}: {} is missing; {} has it, and every step needs the same workers", step.name,
                         cell.name, first.name));
  for (const Cell& cell : step.cells)
    if (is_group(cell.name) && lacks(first, cell))
      misfit(fmt::format("{}: {} is missing; {} has it, and every step needs the same workers", first.name,
                         cell.name, step.name));
  if (step.cells.size() != first.cells.size())
    misfit(fmt::format("{}: has {} workers, {} has {}; every step needs the same workers", step.name,
                       step.cells.size(), first.name, first.cells.size()));
}

void Sequence::require_same_tensors(const Step& step, const Cell& cell) const {
  const std::string where = fmt::format("{}, {}", step.name, cell.name);
  const std::string model = fmt::format("{}, {}", grid_[0].name, grid_[0].cells[0].name);
  const auto describe = [](const TensorInfo& info) {
    return fmt::format("{} {}{}", dtype_name(info.dtype), shape_text(info.shape),
                       info.fortran_order ? " in Fortran order" : "");
  };
  for (size_t t = 0; t < std::max(cell.slices.size(), tensors_.size()); ++t) {
    if (t >= cell.slices.size())
      misfit(fmt::format("{}: tensor '{}' is missing; {} has it", where, tensors_[t].name, model));
    const TensorInfo& info = cell.slices[t].info;
    if (t >= tensors_.size()) misfit(fmt::format("{}: tensor '{}' is not in {}", where, info.name, model));
    if (info.name != tensors_[t].name)
      misfit(fmt::format("{}: tensor '{}' stands where {} has '{}'; names and their order must be the same",
                         where, info.name, model, tensors_[t].name));
    if (describe(info) != describe(tensors_[t]))
      misfit(
          fmt::format("{}: tensor '{}' is {}, but {} in {}; its shape and type must be the same everywhere",
                      where, info.name, describe(info), describe(tensors_[t]), model));
  }
}

InputDump Sequence::dump(size_t step, size_t worker) const {
  const Cell& cell = grid_[step].cells[worker];
  return {.path = "gradient", .source = std::make_shared<SliceSource>(cell.slices)};
}

std::vector<float> Sequence::values(size_t step, size_t worker) const {
  std::vector<float> values, scratch;
  values.reserve(elements_);
  for (const Slice& slice : grid_[step].cells[worker].slices) {
    const auto part = slice.source->read(slice.tensor, slice.first, size_t(slice.info.elements()), scratch);
    values.insert(values.end(), part.begin(), part.end());
  }
  return values;
}

}  // namespace jsq::tools
