// What jsq uses of oneTBB, on std::thread, for the build that looks for data races: the thread sanitizer sees
// every lock and atomic here, while the oneTBB of the system is not built for it, so that whatever a task
// hands to another would be called a race. Four threads wherever work is divided, more than small machines
// have, and each gets its share, however busy the machine is.
#pragma once

#include <algorithm>
#include <any>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

namespace tbb {

namespace detail {

constexpr int most_threads = 4;

/// Where this thread works: how many threads its loops get, and how many loops it is inside of.
struct Place {
  int threads = most_threads;
  int depth = 0;
};
inline thread_local Place place;

/// Runs work(number, threads) on several threads, this one among them; the first exception of any is thrown
/// when all are done.
template <class Work>
void run_on(size_t wanted, const Work& work) {
  constexpr int deepest = 2;  // loops inside loops inside loops are not divided again
  const size_t threads = place.depth >= deepest ? 1 : std::min<size_t>(wanted, size_t(place.threads));
  if (threads <= 1) return work(size_t(0), size_t(1));
  const Place inside{place.threads, place.depth + 1};
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&](size_t number) {
    const Place before = std::exchange(place, inside);
    try {
      work(number, threads);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!failure) failure = std::current_exception();
    }
    place = before;
  };
  {
    std::vector<std::jthread> others;
    for (size_t t = 1; t < threads; ++t) others.emplace_back(guarded, t);
    guarded(0);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace detail

template <class Index, class Body>
void parallel_for(Index first, Index last, const Body& body) {
  if (!(first < last)) return;
  std::atomic<bool> failed{false};
  const auto count = size_t(last - first);
  detail::run_on(count, [&](size_t number, size_t threads) {
    try {
      for (size_t i = number; i < count && !failed; i += threads) body(Index(first + Index(i)));
    } catch (...) {
      failed = true;  // the others begin nothing new
      throw;
    }
  });
}

namespace info {
inline int default_concurrency() {
  return detail::most_threads;
}
}  // namespace info

class task_arena {
 public:
  static constexpr int automatic = -1;
  explicit task_arena(int threads = automatic)
      : threads_(threads == automatic ? detail::most_threads : threads) {}
  int max_concurrency() const { return threads_; }
  template <class Body>
  decltype(auto) execute(Body&& body) {
    struct Back {
      detail::Place before;
      ~Back() { detail::place = before; }
    } const back{std::exchange(detail::place, detail::Place{threads_, detail::place.depth})};
    return body();
  }

 private:
  int threads_;
};

namespace this_task_arena {
inline int max_concurrency() {
  return detail::place.threads;
}
template <class Body>
decltype(auto) isolate(Body&& body) {
  return body();
}
}  // namespace this_task_arena

/// One value a thread, made when it first asks.
template <class Value>
class enumerable_thread_specific {
 public:
  enumerable_thread_specific() : make_([] { return Value(); }) {}
  template <class Make>
  requires std::is_invocable_v<Make>
  explicit enumerable_thread_specific(Make make) : make_(std::move(make)) {}
  Value& local() {
    const std::lock_guard lock(mutex_);
    for (auto& [owner, value] : values_)
      if (owner == std::this_thread::get_id()) return value;
    return values_.emplace_back(std::this_thread::get_id(), make_()).second;
  }
  class iterator {
   public:
    explicit iterator(typename std::list<std::pair<std::thread::id, Value>>::iterator at) : at_(at) {}
    Value& operator*() const { return at_->second; }
    iterator& operator++() { return ++at_, *this; }
    bool operator==(const iterator&) const = default;

   private:
    typename std::list<std::pair<std::thread::id, Value>>::iterator at_;
  };
  iterator begin() { return iterator(values_.begin()); }
  iterator end() { return iterator(values_.end()); }

 private:
  std::mutex mutex_;
  std::function<Value()> make_;
  std::list<std::pair<std::thread::id, Value>> values_;
};

enum class filter_mode { parallel, serial_in_order };

class flow_control {
 public:
  void stop() { stopped = true; }
  bool stopped = false;
};

namespace detail {
struct Stage {
  filter_mode mode;
  std::function<std::any(std::any, flow_control&)> work;
};
}  // namespace detail

template <class In, class Out>
struct filter {
  std::vector<detail::Stage> stages;
};

template <class In, class Out, class Body>
filter<In, Out> make_filter(filter_mode mode, const Body& body) {
  return {{{mode, [body](std::any item, flow_control& control) -> std::any {
              if constexpr (std::is_void_v<In>) {
                return std::any(body(control));
              } else if constexpr (std::is_void_v<Out>) {
                body(std::any_cast<In>(std::move(item)));
                return {};
              } else {
                return std::any(body(std::any_cast<In>(std::move(item))));
              }
            }}}};
}

template <class In, class Between, class Out>
filter<In, Out> operator&(filter<In, Between> before, const filter<Between, Out>& after) {
  filter<In, Out> joined{std::move(before.stages)};
  joined.stages.insert(joined.stages.end(), after.stages.begin(), after.stages.end());
  return joined;
}

/// Each thread takes an item from the first stage through the rest; at a stage in order it waits for its
/// turn.
inline void parallel_pipeline(size_t most_items, const filter<void, void>& chain) {
  std::mutex mutex;
  std::condition_variable turn_passed;
  std::vector<size_t> turns(chain.stages.size(), 0);
  size_t items = 0;
  bool ended = false, failed = false;
  flow_control control;
  const auto take_items = [&] {
    for (;;) {
      std::any item;
      size_t number = 0;
      {
        const std::lock_guard lock(mutex);
        if (ended || failed) return;
        item = chain.stages[0].work({}, control);
        if (control.stopped) {
          ended = true;
          return;
        }
        number = items++;
      }
      for (size_t s = 1; s < chain.stages.size(); ++s) {
        const bool in_order = chain.stages[s].mode == filter_mode::serial_in_order;
        if (in_order) {
          std::unique_lock lock(mutex);
          turn_passed.wait(lock, [&] { return failed || turns[s] == number; });
          if (failed) return;
        }
        item = chain.stages[s].work(std::move(item), control);
        if (in_order) {
          const std::lock_guard lock(mutex);
          ++turns[s];
          turn_passed.notify_all();
        }
      }
    }
  };
  detail::run_on(most_items, [&](size_t, size_t) {
    try {
      take_items();
    } catch (...) {
      const std::lock_guard lock(mutex);
      failed = true;
      turn_passed.notify_all();
      throw;
    }
  });
}

}  // namespace tbb
