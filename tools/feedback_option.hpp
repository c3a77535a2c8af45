// --ef: what a worker keeps from step to step, as a text.
#pragma once

#include <string>

#include "jsq/compress.hpp"

namespace jsq::tools {

/// Sets feedback and momentum from "auto" (left to the method), "none", "plain" or "momentum:0.9".
/// \throws Error usage.
void parse_feedback(const std::string& text, CompressOptions& options);

/// What such options come to with their method: "none", "plain", "momentum" (DGC's) or "mean" (Signum's).
std::string feedback_name(const CompressOptions& options);

}  // namespace jsq::tools
