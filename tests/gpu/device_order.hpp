// What a program asked of a device, and what of it waits for what: of two operations a device may do the
// later one first, or both at once, unless a stream, an event or a thread that waited holds it back. That
// order is what streams promise; an emulator that does everything at once cannot show it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace jsq::test {

class DeviceOrder {
 public:
  enum class Kind { values_in, launch, copy_out, other };
  /// How far every stream was when an operation began, by its number; it waits for nothing else.
  using Clock = std::map<const void*, uint64_t>;
  struct Operation {
    Kind kind = Kind::other;
    const void* stream = nullptr;
    uint64_t number = 0;         ///< on its stream
    const void* what = nullptr;  ///< kernel, or place in device memory
    Clock clock;
  };

  /// `a` is done before `b` begins.
  static bool before(const Operation& a, const Operation& b) {
    const auto found = b.clock.find(a.stream);
    return found != b.clock.end() && found->second >= a.number;
  }

  void operation(Kind kind, const void* stream, const void* what) {
    const std::lock_guard lock(mutex_);
    Clock& clock = streams_[stream];
    join(clock, host());
    Operation done{kind, stream, ++numbers_[stream], what, clock};
    clock[stream] = done.number;
    operations_.push_back(std::move(done));
  }
  void record(const void* event, const void* stream) {
    const std::lock_guard lock(mutex_);
    join(streams_[stream], host());
    events_[event] = streams_[stream];
  }
  void hold_back(const void* stream, const void* event) {
    const std::lock_guard lock(mutex_);
    join(streams_[stream], events_[event]);
  }
  void host_waits_for_event(const void* event) {
    const std::lock_guard lock(mutex_);
    join(host(), events_[event]);
  }
  void host_waits_for(const void* stream) {
    const std::lock_guard lock(mutex_);
    join(host(), streams_[stream]);
  }
  void host_waits_for_all() {
    const std::lock_guard lock(mutex_);
    for (const auto& [stream, clock] : streams_) join(host(), clock);
  }
  void clear() {
    host_waits_for_all();
    operations_.clear();
  }
  const std::vector<Operation>& operations() const { return operations_; }

 private:
  static void join(Clock& to, const Clock& from) {
    for (const auto& [stream, number] : from) to[stream] = std::max(to[stream], number);
  }
  Clock& host() { return hosts_[std::this_thread::get_id()]; }

  std::mutex mutex_;
  std::vector<Operation> operations_;
  std::map<const void*, Clock> streams_, events_;
  std::map<const void*, uint64_t> numbers_;
  std::map<std::thread::id, Clock> hosts_;
};

/// Values that came to the device without a kernel being put on a stream in between, and the kernels that
/// read them. Kernels that do are those that are first behind some values.
struct BroughtBatch {
  std::vector<DeviceOrder::Operation> copies, readers;
};
inline std::vector<BroughtBatch> batches_of(const std::vector<DeviceOrder::Operation>& operations) {
  std::set<const void*> readers;
  bool copied = false;
  for (const auto& operation : operations) {
    if (operation.kind == DeviceOrder::Kind::launch && copied) readers.insert(operation.what);
    if (operation.kind == DeviceOrder::Kind::launch) copied = false;
    if (operation.kind == DeviceOrder::Kind::values_in) copied = true;
  }
  std::vector<BroughtBatch> batches;
  bool bringing = false;
  for (const auto& operation : operations) {
    if (operation.kind == DeviceOrder::Kind::values_in) {
      if (!bringing) batches.emplace_back();
      bringing = true;
      batches.back().copies.push_back(operation);
    } else if (operation.kind == DeviceOrder::Kind::launch) {
      bringing = false;
      if (!batches.empty() && readers.count(operation.what)) batches.back().readers.push_back(operation);
    }
  }
  return batches;
}

}  // namespace jsq::test
