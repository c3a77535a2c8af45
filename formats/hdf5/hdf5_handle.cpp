// The process-wide HDF5 session and the translation of HDF5's error stack into one jsq::Error.
#include "formats/hdf5/hdf5_handle.hpp"

namespace jsq::hdf5 {

namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

struct Reason {
  std::string text;
  bool out_of_memory = false;
};

/// Called from the innermost error outwards: the first one is the reason.
extern "C" herr_t collect_reason(unsigned depth, const H5E_error2_t* entry, void* to) noexcept {
  try {
    if (depth > 0) return 0;
    auto& reason = *static_cast<Reason*>(to);
    if (entry->desc != nullptr) reason.text = entry->desc;
    reason.out_of_memory = entry->maj_num == H5E_RESOURCE && entry->min_num == H5E_NOSPACE;
  } catch (...) {
    return -1;
  }
  return 0;
}

/// HDF5 quotes the system's text as "error message = '...'" among addresses and times; that text alone is the
/// reason.
std::string system_text(const std::string& reason) {
  constexpr std::string_view mark = "error message = '";
  const size_t start = reason.find(mark);
  if (start == std::string::npos) return reason;
  const size_t from = start + mark.size();
  const size_t end = reason.find('\'', from);
  return end == std::string::npos ? reason : reason.substr(from, end - from);
}

}  // namespace

Session::Session() : lock_(library_mutex()) {
  if (H5Eget_auto2(H5E_DEFAULT, &printer_, &printer_data_) >= 0) H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  plugin_state_known_ = H5PLget_loading_state(&plugin_state_) >= 0;
  if (plugin_state_known_) H5PLset_loading_state(0);
}

Session::~Session() {
  if (plugin_state_known_) H5PLset_loading_state(plugin_state_);
  H5Eset_auto2(H5E_DEFAULT, printer_, printer_data_);
}

std::string printable(std::string_view text) {
  constexpr size_t longest = 300;
  std::string out(text.substr(0, longest));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  if (text.size() > longest) out += "...";
  return out;
}

std::string name_of(const Place& place) {
  if (place.object.empty()) return std::string(place.file);
  const std::string slash = place.object.front() == '/' ? "" : "/";
  return std::string(place.file) + ": '" + slash + printable(place.object) + "'";
}

void fail(const Place& place, std::string_view action) {
  Reason reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect_reason, &reason);
  std::string message = name_of(place) + ": HDF5 could not " + std::string(action) + ": " +
                        (reason.text.empty() ? "no reason given" : printable(system_text(reason.text)));
  if (reason.out_of_memory) throw Error(Errc::limit, message + "; use fewer threads, or allow more memory");
  if (place.code == Errc::damaged)
    message += "; the file is damaged or incomplete, restore it from its origin";
  throw Error(place.code, message);
}

}  // namespace jsq::hdf5
