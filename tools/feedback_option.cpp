#include "feedback_option.hpp"

#include <cstdlib>

#include "jsq/method.hpp"

namespace jsq::tools {

void parse_feedback(const std::string& text, CompressOptions& options) {
  if (text == "auto") return;
  if (text == "none") {
    options.feedback = Feedback::none;
  } else if (text == "plain") {
    options.feedback = Feedback::residual;
  } else if (text == "momentum" || text.starts_with("momentum:")) {
    options.feedback = Feedback::masked;
    if (text.size() <= 9) return;
    char* end = nullptr;
    options.momentum = std::strtod(text.c_str() + 9, &end);
    if (*end != 0 || text.size() == 9 || !(*options.momentum >= 0 && *options.momentum < 1))
      throw Error(Errc::usage,
                  "--ef '" + text + "': expected momentum:M with M of 0..1, such as momentum:0.9");
  } else {
    throw Error(Errc::usage, "--ef '" + text + "': expected auto, none, plain or momentum:0.9");
  }
}

std::string feedback_name(const CompressOptions& options) {
  switch (options.feedback.value_or(method_named(options.method.name).feedback)) {
    case Feedback::none:
      return "none";
    case Feedback::residual:
      return "plain";
    case Feedback::masked:
      return "momentum";
    case Feedback::momentum:
      return "mean";
  }
  return {};
}

}  // namespace jsq::tools
