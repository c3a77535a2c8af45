// The registry: one row per method. Wire ids are append-only and stand in the rows.
#include <algorithm>
#include <array>

#include "jsq/error.hpp"
#include "lib/methods/method.hpp"

namespace jsq {
namespace {

const std::array registry = {
    &jointsq_row,   &fp32_row,     &fp16_row,     &bf16_row,       &qsgd_row,   &nuqsgd_row,
    &natural_row,   &terngrad_row, &signsgd_row,  &ef_signsgd_row, &onebit_row, &topk_row,
    &randk_row,     &dgc_row,      &qlsgd_row,    &acsgd_row,      &mcgq_row,   &gqsgd_std_row,
    &gqsgd_exp_row, &thc_row,      &powersgd_row, &acpsgd_row,     &lgreco_row, &rdoq_row,
};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitution = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({substitution, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

template <class Names>
std::string nearest(std::string_view name, const Names& names) {
  std::string best;
  size_t best_distance = SIZE_MAX;
  for (std::string_view candidate : names) {
    const size_t distance = edit_distance(name, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace

std::vector<const MethodInfo*> methods() {
  std::vector<const MethodInfo*> rows;
  for (const MethodRow* row : registry) rows.push_back(&row->info);
  return rows;
}

const MethodRow& method_row(std::string_view name) {
  std::vector<std::string_view> names;
  for (const MethodRow* row : registry) {
    if (row->info.name == name) return *row;
    names.push_back(row->info.name);
  }
  throw Error(Errc::unknown_name, "method '" + std::string(name) + "' is unknown; did you mean '" +
                                      nearest(name, names) + "'? 'jsq methods' lists all");
}

const MethodRow& method_with_id(uint32_t wire_id) {
  for (const MethodRow* row : registry)
    if (row->info.wire_id == wire_id) return *row;
  throw Error(Errc::newer_format,
              "method id " + std::to_string(wire_id) + " is not known to this jsq; use a newer one");
}

bool method_packs(uint32_t wire_id) {
  return std::any_of(registry.begin(), registry.end(),
                     [&](const MethodRow* row) { return row->info.wire_id == wire_id && row->packs; });
}

const MethodInfo& method_named(std::string_view name) {
  return method_row(name).info;
}

std::string_view MethodSpec::option(std::string_view key) const {
  for (const auto& [name_, value] : options)
    if (name_ == key) return value;
  for (const MethodOption& option : method_named(name).options)
    if (option.name == key) return option.default_value;
  return {};
}

MethodSpec parse_method(std::string_view text) {
  MethodSpec spec;
  const size_t colon = text.find(':');
  spec.name = std::string(text.substr(0, colon));
  const MethodInfo& info = method_named(spec.name);
  if (colon == std::string_view::npos) return spec;
  // Every part between commas is an option, also the last: "jointsq:" and a trailing comma are refused.
  for (std::string_view rest = text.substr(colon);;) {
    rest = rest.substr(1);
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view item = rest.substr(0, comma);
    rest = rest.substr(comma);
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == item.size())
      throw Error(Errc::usage, "method '" + std::string(text) + "': expected key=value, found '" +
                                   std::string(item) + "'");
    const std::string key(item.substr(0, equals));
    std::vector<std::string_view> known;
    for (const MethodOption& option : info.options) known.push_back(option.name);
    if (std::find(known.begin(), known.end(), key) == known.end())
      throw Error(Errc::unknown_name, "method '" + spec.name + "' has no option '" + key +
                                          "'; did you mean '" + nearest(key, known) + "'? 'jsq methods " +
                                          spec.name + "' lists all");
    for (const auto& [seen, value] : spec.options)
      if (seen == key)
        throw Error(Errc::usage, "method '" + std::string(text) + "': option '" + key + "' is given twice");
    spec.options.emplace_back(key, std::string(item.substr(equals + 1)));
    if (rest.empty()) return spec;
  }
}

Target default_target(const MethodSpec& spec) {
  const MethodInfo& info = method_named(spec.name);
  bool open = true;
  for (std::string_view rest = info.size_option; !rest.empty();) {
    const size_t bar = std::min(rest.find('|'), rest.size());
    open = open && spec.option(rest.substr(0, bar)) == "auto";
    rest.remove_prefix(std::min(bar + 1, rest.size()));
  }
  if (info.sizing == Sizing::continuous && open) return {};
  return {TargetKind::native, 0};
}

std::string to_string(const MethodSpec& spec) {
  std::string text = spec.name;
  for (size_t i = 0; i < spec.options.size(); ++i)
    text += (i == 0 ? ':' : ',') + spec.options[i].first + '=' + spec.options[i].second;
  return text;
}

}  // namespace jsq
