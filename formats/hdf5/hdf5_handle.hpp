// RAII for the HDF5 C library: the process-wide session, object handles, and errors with HDF5's own reason.
// Knows nothing of dumps; every other file of this folder calls HDF5 only while a Session is alive.
#pragma once

#include <hdf5.h>

#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "jsq/error.hpp"

namespace jsq::hdf5 {

/// Exclusive use of the HDF5 library, which is not thread-safe as commonly built. While it lives, HDF5 prints
/// no errors and loads no plugins; both settings of the surrounding program are restored at the end. May be
/// nested in a thread.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  H5E_auto2_t printer_ = nullptr;
  void* printer_data_ = nullptr;
  unsigned plugin_state_ = 0;
  bool plugin_state_known_ = false;
};

/// Owns one reference to an HDF5 object of any kind (file, group, dataset, type, dataspace, property list,
/// attribute).
class Handle {
 public:
  Handle() = default;
  explicit Handle(hid_t id) : id_(id) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      id_ = std::exchange(other.id_, H5I_INVALID_HID);
    }
    return *this;
  }
  ~Handle() { reset(); }

  operator hid_t() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }
  void reset() noexcept {
    if (id_ >= 0) H5Idec_ref(id_);
    id_ = H5I_INVALID_HID;
  }

 private:
  hid_t id_ = H5I_INVALID_HID;
};

/// Where an HDF5 call is made, for its error message: the code it throws, the file, and the object in it (""
/// for the file itself).
struct Place {
  Errc code;
  std::string_view file;
  std::string_view object;
};

/// "FILE" or "FILE: '/object'", with control characters replaced.
std::string name_of(const Place& place);

/// Throws Error: "FILE: '/object': HDF5 could not ACTION: <HDF5's innermost reason>".
[[noreturn]] void fail(const Place& place, std::string_view action);

/// `result` unless it is negative, HDF5's sign of failure for every kind of call.
template <class Result>
Result require(Result result, const Place& place, std::string_view action) {
  if (result < 0) fail(place, action);
  return result;
}

/// `text` fit for a message: control characters become '?', and long text is cut.
std::string printable(std::string_view text);

}  // namespace jsq::hdf5
