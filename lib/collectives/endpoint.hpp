// One worker's side of an allreduce in the code domain, for one tensor. In each round every endpoint gives a
// message; messages are added along the reduction tree; the sum goes back to every endpoint. Messages are
// bytes, so that a single process and ranks that really exchange them do the same.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "jsq/compress.hpp"
#include "jsq/method.hpp"

namespace jsq {

struct EndpointContext {
  const TensorInfo* info = nullptr;
  uint32_t tensor = 0;  ///< number in the archive, for random numbers
  uint32_t worker = 0, workers = 1;
  uint64_t seed = 0;    ///< shared by all workers in this step
  uint64_t stream = 0;  ///< the worker's own
  Rounding rounding = Rounding::automatic;
};

class Endpoint {
 public:
  virtual ~Endpoint() = default;
  virtual uint32_t rounds() const = 0;
  /// The message of a round; rounds are asked for in order, each after the sum of the one before was
  /// received.
  virtual std::string message(uint32_t round) = 0;
  /// into <- into + from in the code domain. `edge` numbers the additions of the tree, for random numbers
  /// that an addition needs. Returns how many sums the code cannot hold and were cut. \throws Error damaged
  /// for messages of other sizes.
  virtual uint64_t add(uint32_t round, std::string& into, std::string_view from, uint32_t edge) const = 0;
  /// Whether any order of additions gives the same bytes in this round: whole numbers that are never cut,
  /// maxima.
  virtual bool any_order(uint32_t /*round*/) const { return false; }
  /// How many values the messages so far could not hold.
  virtual uint64_t overflowed() const { return 0; }
  virtual void receive(uint32_t round, std::string_view sum) = 0;
  /// After the last round: the mean of all workers.
  virtual void mean(std::span<float> out) const = 0;
  /// What this worker's message alone decodes to, for error feedback and for the test that the sum is the
  /// mean of these.
  virtual void own(std::span<float> out) const = 0;
};

}  // namespace jsq
