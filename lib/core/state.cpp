// The state as a value; saving and loading are formats/wire/state.cpp's.
#include "jsq/state.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "jsq/error.hpp"

namespace jsq {

const std::vector<float>* State::find(const std::string& tensor, const std::string& array) const {
  const auto known = tensors_.find(tensor);
  if (known == tensors_.end()) return nullptr;
  const auto found = known->second.arrays.find(array);
  return found == known->second.arrays.end() ? nullptr : &found->second;
}

void State::set(const std::string& tensor, const std::string& array, std::vector<float> values) {
  tensors_[tensor].arrays[array] = std::move(values);
}

std::optional<uint64_t> State::number(const std::string& tensor, const std::string& key) const {
  const auto known = tensors_.find(tensor);
  if (known == tensors_.end()) return std::nullopt;
  const auto found = known->second.numbers.find(key);
  if (found == known->second.numbers.end()) return std::nullopt;
  return found->second;
}

void State::set_number(const std::string& tensor, const std::string& key, uint64_t value) {
  tensors_[tensor].numbers[key] = value;
}

void State::bind(const std::string& wanted, const std::vector<const TensorInfo*>& infos) {
  std::set<std::string> names;
  for (const TensorInfo* info : infos)
    if (!names.insert(info->name).second)
      throw Error(
          Errc::usage,
          fmt::format("state: two tensors are named '{}'; a state knows tensors by their names, so compress "
                      "the dumps one by one with a state each",
                      info->name));
  if (method.empty() && tensors_.empty()) {
    method = wanted;
    for (const TensorInfo* info : infos) tensors_[info->name].shape = info->shape;
    return;
  }
  if (method != wanted)
    throw Error(
        Errc::usage,
        fmt::format("state: it belongs to the method {}, but {} was asked for; use {} or start without it",
                    method, wanted, method));
  for (const TensorInfo* info : infos) {
    const auto known = tensors_.find(info->name);
    if (known == tensors_.end())
      throw Error(Errc::usage,
                  fmt::format("state: it does not know tensor '{}'; it is that of other dumps", info->name));
    if (known->second.shape != info->shape)
      throw Error(
          Errc::usage,
          fmt::format("state: tensor '{}' has shape [{}] in the state, but [{}] in the dump", info->name,
                      fmt::join(known->second.shape, ", "), fmt::join(info->shape, ", ")));
  }
  for (const auto& [name, tensor] : tensors_)
    if (!names.contains(name))
      throw Error(
          Errc::usage,
          fmt::format("state: its tensor '{}' is missing in the dump; a sequence keeps its tensors", name));
}

}  // namespace jsq
