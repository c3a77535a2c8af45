// Several tensors in memory as one dump.
#pragma once

#include <memory>
#include <vector>

#include "jsq/gradients.hpp"

namespace jsq {

/// The views' values and names must outlive it.
std::shared_ptr<const GradientSource> source_of(const std::vector<GradientView>& tensors);

}  // namespace jsq
