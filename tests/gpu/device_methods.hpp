// The methods that run on a device, as the rows of parameterised tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "jsq/method.hpp"

namespace jsq::test {

inline std::vector<const MethodInfo*> methods_on_device() {
  std::vector<const MethodInfo*> found = methods();
  std::erase_if(found, [](const MethodInfo* method) { return !method->backends.starts_with("cpu, cuda"); });
  return found;
}

inline std::string row_name(const testing::TestParamInfo<const MethodInfo*>& row) {
  std::string name(row.param->name);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace jsq::test
