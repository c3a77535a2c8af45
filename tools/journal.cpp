// Reading and appending of JSON lines.
#include "journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "comparison_rows.hpp"
#include "jsq/error.hpp"

namespace jsq::tools {
namespace {

constexpr const char* schema = "jsq.compare/1";

std::string read_whole(int descriptor, const std::string& path) {
  std::string text;
  std::array<char, size_t(1) << 16> buffer;
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(descriptor, buffer.data(), buffer.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(Errc::read_failed, path + ": cannot read: " + std::strerror(errno));
    if (got == 0) return text;
    text.append(buffer.data(), size_t(got));
    at += got;
  }
}

bool is_standard_output(int descriptor) {
  struct stat file = {}, output = {};
  return ::fstat(descriptor, &file) == 0 && ::fstat(STDOUT_FILENO, &output) == 0 &&
         file.st_dev == output.st_dev && file.st_ino == output.st_ino;
}

/// Names of the inputs that a run line shares with this run.
std::set<std::string> same_inputs(const Json& line, const RunIdentity& identity) {
  std::set<std::string> same;
  if (line.value("version", "") != JSQ_VERSION || line.value("seed", uint64_t(0)) != identity.seed ||
      line.value("repeat", 0u) != identity.repeat)
    return same;
  for (const Json& input : line.at("inputs"))
    for (const RunIdentity::Input& own : identity.inputs)
      if (!own.hash.empty() && input.at("input") == own.name && input.at("xxh64") == own.hash)
        same.insert(own.name);
  return same;
}

}  // namespace

Json inputs_json(const RunIdentity& identity) {
  Json inputs = Json::array();
  for (const RunIdentity::Input& input : identity.inputs)
    inputs.push_back({{"input", input.name},
                      {"format", input.format},
                      {"tensors", input.tensors},
                      {"bytes", input.bytes},
                      {"xxh64", input.hash.empty() ? Json(nullptr) : Json(input.hash)}});
  return inputs;
}

Json run_line(const RunIdentity& identity) {
  return {{"schema", schema},      {"record", "run"},           {"version", JSQ_VERSION},
          {"seed", identity.seed}, {"repeat", identity.repeat}, {"inputs", inputs_json(identity)}};
}

Journal::Key Journal::key_of(const std::string& input, const std::string& method,
                             const ComparedTarget& target) {
  return {input, method, to_string(target)};
}

Journal::Journal(std::string path, const RunIdentity& identity, bool tensors)
    : path_(std::move(path)), head_(to_line(run_line(identity)) + "\n") {
  file_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file_.get() < 0)
    throw Error(Errc::write_failed,
                fmt::format("{}: cannot open for reading and appending: {}", path_, std::strerror(errno)));
  const std::string text = read_whole(file_.get(), path_);
  writes_ = !is_standard_output(file_.get());
  if (!text.empty() && text.back() != '\n') head_ = "\n" + head_;
  read(text, identity, tensors);
}

void Journal::read(const std::string& text, const RunIdentity& identity, bool tensors) {
  std::set<std::string> usable;
  std::vector<Json> rows;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const Json line =
        Json::parse(text.begin() + ptrdiff_t(at), text.begin() + ptrdiff_t(end), nullptr, false);
    at = end + 1;
    try {
      if (!line.is_object() || line.value("schema", "") != schema) continue;
      if (line.at("record") == "run") {
        usable = same_inputs(line, identity);
        rows.clear();
      }
      if (line.at("record") != "row") continue;
      const bool continues = rows.empty() || (rows.back().at("input") == line.at("input") &&
                                              rows.back().at("method") == line.at("method") &&
                                              rows.back().at("target") == line.at("target"));
      if (!continues) rows.clear();
      rows.push_back(line);
      if (!line.at("tensor").is_null()) continue;
      Outcome outcome = outcome_of_rows(rows);
      rows.clear();
      if (!usable.contains(outcome.input)) {
        ++foreign_;
      } else if (!tensors || !outcome.measured || !outcome.tensors.empty()) {
        const Key key = key_of(outcome.input, outcome.method, outcome.target);
        done_.insert_or_assign(key, std::move(outcome));
      }
    } catch (const Error&) {
      rows.clear();
    } catch (const Json::exception&) {
      rows.clear();
    }
  }
}

const Outcome* Journal::find(const std::string& input, const std::string& method,
                             const ComparedTarget& target) const {
  const auto found = done_.find(key_of(input, method, target));
  return found == done_.end() ? nullptr : &found->second;
}

void Journal::write(const std::string& lines) {
  for (size_t at = 0; at < lines.size();) {
    const ssize_t written = ::write(file_.get(), lines.data() + at, lines.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw Error(Errc::write_failed, path_ + ": cannot append: " + std::strerror(errno));
    at += size_t(written);
  }
}

void Journal::append(const Outcome& outcome) {
  if (!writes_) return;
  std::string lines = std::move(head_);
  head_.clear();
  for (const Json& row : outcome_rows(outcome, true)) {
    Json line = {{"schema", schema}, {"record", "row"}};
    line.update(row);
    lines += to_line(line) + "\n";
  }
  write(lines);
}

}  // namespace jsq::tools
