// Expansion of arguments into dumps, and the paths an archive keeps for them.
#include "inputs.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <numeric>
#include <string_view>

#include "atomic_output.hpp"
#include "jsq/gradients.hpp"
#include "report.hpp"

namespace jsq::tools {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view member_separator = "::";
constexpr std::array<std::string_view, 4> dump_extensions = {".npy", ".npz", ".h5", ".hdf5"};

bool is_there(const std::string& path) {
  struct stat status = {};
  return ::stat(path.c_str(), &status) == 0;
}

bool is_dump_name(const std::string& name) {
  return std::any_of(dump_extensions.begin(), dump_extensions.end(),
                     [&](std::string_view extension) { return name.ends_with(extension); });
}

/// "file.h5::/a/b" -> "file.h5", "::/a/b". A name is taken whole when such a file exists, as the library
/// does.
struct Split {
  std::string file, member;
};

Split split_member(const std::string& argument) {
  if (argument == "-" || is_there(argument)) return {argument, ""};
  const size_t first = argument.find(member_separator, 1);
  for (size_t at = first; at != std::string::npos; at = argument.find(member_separator, at + 1))
    if (is_there(argument.substr(0, at))) return {argument.substr(0, at), argument.substr(at)};
  return first == std::string::npos ? Split{argument, ""}
                                    : Split{argument.substr(0, first), argument.substr(first)};
}

/// An archive keeps no control characters in paths: decompress would refuse them.
std::string storable(std::string path) {
  std::replace_if(
      path.begin(), path.end(), [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; }, '_');
  return path;
}

InputFile plain_file(const std::string& file, const std::string& member) {
  const std::string stored = file == "-" ? "stdin" : storable(base_name(file));
  return {.argument = file + member, .file = file, .stored = stored, .whole = member.empty()};
}

std::vector<InputFile> files_in_folder(const std::string& folder) {
  std::vector<InputFile> found;
  try {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file() || !is_dump_name(entry.path().filename().string())) continue;
      const std::string path = entry.path().string();
      const std::string stored = storable(entry.path().lexically_relative(folder).generic_string());
      found.push_back({.argument = path, .file = path, .stored = stored});
    }
  } catch (const fs::filesystem_error& error) {
    throw Error(Errc::read_failed, folder + ": cannot list the folder: " + error.code().message());
  }
  if (found.empty())
    throw Error(Errc::not_found,
                folder + ": holds no .npy, .npz, .h5 or .hdf5 file; name the dumps one by one");
  std::sort(found.begin(), found.end(),
            [](const InputFile& a, const InputFile& b) { return a.stored < b.stored; });
  return found;
}

std::vector<std::string> glob_matches(const std::string& pattern) {
  glob_t matches = {};
  const int result = ::glob(pattern.c_str(), 0, nullptr, &matches);
  std::vector<std::string> paths;
  if (result == 0) paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  ::globfree(&matches);
  return paths;
}

/// What an archive may keep of a path as typed: no root, no '.', no '..'.
std::string path_as_typed(const std::string& file) {
  std::string stored;
  for (const fs::path& part : fs::path(file).lexically_normal()) {
    const std::string text = part.string();
    if (text.empty() || text == "/" || text == "." || text == "..") continue;
    stored += (stored.empty() ? "" : "/") + text;
  }
  return stored;
}

void make_stored_paths_distinct(std::vector<InputFile>& inputs) {
  std::map<std::string, size_t> uses;
  for (const InputFile& input : inputs) ++uses[input.stored];
  for (InputFile& input : inputs)
    if (uses[input.stored] > 1 && input.file != "-") input.stored = storable(path_as_typed(input.file));
  std::map<std::string, const InputFile*> owner;
  for (const InputFile& input : inputs) {
    const auto [other, fresh] = owner.emplace(input.stored, &input);
    if (fresh) continue;
    throw Error(Errc::usage,
                fmt::format("{} and {} would both be stored as '{}'; give each once, or take parts of one "
                            "dump with --include",
                            other->second->argument, input.argument, input.stored));
  }
}

bool matches_any(const std::vector<std::string>& patterns, const std::string& name) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

/// "a, b, c and 59 more".
std::string names_of(const std::vector<InputDump>& dumps) {
  constexpr size_t shown = 8;
  std::vector<std::string> names;
  size_t total = 0;
  for (const InputDump& dump : dumps)
    for (const TensorInfo& tensor : dump.source->tensors())
      if (total++ < shown) names.push_back(tensor.name.empty() ? dump.path : tensor.name);
  const std::string more = total > shown ? fmt::format(" and {} more", total - shown) : "";
  return fmt::format("{}{}", fmt::join(names, ", "), more);
}

}  // namespace

bool TensorFilter::takes(const std::string& name, const std::string& stored) const {
  const std::string& known_as = name.empty() ? stored : name;
  return (include.empty() || matches_any(include, known_as)) && !matches_any(exclude, known_as);
}

void add_filter_options(CLI::App& command, TensorFilter& filter) {
  command
      .add_option("--include", filter.include,
                  "Take only tensors whose name matches GLOB; '*' matches '/' too; repeatable (default: all)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      .add_option("--exclude", filter.exclude,
                  "Leave out tensors whose name matches GLOB; repeatable (default: none)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
}

std::vector<InputFile> expand_input(const std::string& argument) {
  const auto [file, member] = split_member(argument);
  std::error_code error;
  if (file != "-" && fs::is_directory(file, error)) {
    if (!member.empty()) throw Error(Errc::usage, argument + ": a folder has no members; name a file in it");
    return files_in_folder(file);
  }
  const bool is_glob = file.find_first_of("*?[") != std::string::npos;
  if (file == "-" || is_there(file) || !is_glob) return {plain_file(file, member)};

  std::vector<InputFile> found;
  for (const std::string& match : glob_matches(file)) {
    if (!fs::is_directory(match, error)) {
      found.push_back(plain_file(match, member));
      continue;
    }
    for (InputFile& input : files_in_folder(match)) found.push_back(std::move(input));
  }
  if (found.empty())
    throw Error(Errc::not_found, argument + ": no file matches; check the pattern and its folder");
  return found;
}

std::vector<InputFile> expand_inputs(const std::vector<std::string>& arguments, Failures& failures) {
  std::vector<InputFile> inputs;
  for (const std::string& argument : arguments) {
    failures.attempt([&] {
      std::vector<InputFile> found = expand_input(argument);
      failures.expect_more(found.size() - 1);
      std::move(found.begin(), found.end(), std::back_inserter(inputs));
    });
  }
  make_stored_paths_distinct(inputs);
  return inputs;
}

InputDump open_input(const InputFile& input, const TensorFilter& filter) {
  InputDump dump{.path = input.stored, .source = open_gradients(input.argument)};
  if (input.file == "-") dump.path += "." + std::string(dump_format_name(dump.source->dump().format));
  if (!filter.active()) return dump;
  dump.all = false;
  const std::vector<TensorInfo>& tensors = dump.source->tensors();
  for (size_t i = 0; i < tensors.size(); ++i)
    if (filter.takes(tensors[i].name, dump.path)) dump.tensors.push_back(i);
  return dump;
}

std::vector<InputDump> open_inputs(const std::vector<InputFile>& inputs, const TensorFilter& filter,
                                   Failures& failures, std::vector<InputFile>* opened) {
  std::vector<InputDump> dumps, passed_over;
  for (const InputFile& input : inputs) {
    failures.attempt([&] {
      InputDump dump = open_input(input, filter);
      if (filter.active() && dump.tensors.empty()) {
        passed_over.push_back(std::move(dump));
        return;
      }
      dumps.push_back(std::move(dump));
      if (opened != nullptr) opened->push_back(input);
    });
  }
  if (dumps.empty() && !passed_over.empty())
    throw Error(Errc::unknown_name,
                fmt::format("no tensor matches --include '{}' and --exclude '{}'; there are: {}",
                            fmt::join(filter.include, "' '"), fmt::join(filter.exclude, "' '"),
                            names_of(passed_over)));
  return dumps;
}

std::vector<size_t> taken_tensors(const InputDump& input) {
  if (!input.all) return input.tensors;
  std::vector<size_t> all(input.source->tensors().size());
  std::iota(all.begin(), all.end(), size_t(0));
  return all;
}

uint64_t taken_bytes(const InputDump& input) {
  uint64_t bytes = 0;
  for (size_t tensor : taken_tensors(input)) bytes += input.source->tensors()[tensor].stored_bytes();
  return bytes;
}

}  // namespace jsq::tools
