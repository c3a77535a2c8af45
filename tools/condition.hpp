// Conditions on the figures of a comparison, as --fail-if takes them: METHOD.MEASURE, numbers, + - * /,
// comparisons, and, or, not. A figure that does not exist makes what depends on it unknown, not false.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace jsq::tools {

/// What names in a condition may stand for.
struct Vocabulary {
  struct Method {
    std::string label;  ///< as it was given: "qsgd:bits=4"
    std::string name;   ///< "qsgd", which stands for the method where no other has it
  };
  std::vector<Method> methods;
  std::vector<std::string> measures;
};

/// Grammar, weakest binding first:
///
///     condition  = conjunction { ("or" | "||") conjunction }
///     conjunction = negation { ("and" | "&&") negation }
///     negation   = [ "not" | "!" ] negation | comparison
///     comparison = sum [ ("<" | "<=" | ">" | ">=" | "==" | "!=") sum ]
///     sum        = product { ("+" | "-") product }
///     product    = factor { ("*" | "/") factor }
///     factor     = [ "-" ] factor | number | METHOD "." MEASURE | "(" condition ")"
///
/// Where numbers and truths may stand is checked as well. A method's label is taken as long as it fits, so a
/// '-' or ':' in it is no operator.
class Condition {
 public:
  struct Name {
    size_t method = 0, measure = 0;  ///< indices into the vocabulary
    bool operator==(const Name&) const = default;
  };

  /// \throws Error usage (syntax, a name that fits several methods), unknown_name; the message points at the
  /// place.
  static Condition parse(std::string_view text, const Vocabulary& vocabulary);

  /// True, false, or nothing where that hangs on a value that is NaN. `value` gives the figure of a name.
  std::optional<bool> holds(const std::function<double(const Name&)>& value) const;
  const std::string& text() const noexcept { return text_; }
  /// Every name in it, each once, in the order they stand.
  std::vector<Name> names() const;

 private:
  friend class ConditionParser;
  enum class Kind : uint8_t {
    number,
    name,
    negative,
    add,
    subtract,
    multiply,
    divide,
    less,
    less_equal,
    greater,
    greater_equal,
    equal,
    unequal,
    both,
    either,
    no
  };
  struct Node {
    Kind kind;
    double number = 0;
    Name name = {};
    size_t left = 0, right = 0;  ///< indices of nodes that stand before this one
  };
  static bool is_truth(Kind kind) noexcept { return kind >= Kind::less; }

  std::string text_;
  std::vector<Node> nodes_;  ///< the last is the whole
};

}  // namespace jsq::tools
