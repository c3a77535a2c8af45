// Recursive descent over the grammar, and evaluation in the order of the nodes.
#include "condition.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "jsq/error.hpp"

namespace jsq::tools {

class ConditionParser {
 public:
  ConditionParser(std::string_view text, const Vocabulary& vocabulary)
      : text_(text), vocabulary_(vocabulary) {}

  Condition parse() {
    const size_t whole = disjunction();
    skip_blanks();
    if (at_ < text_.size()) fail("expected an operator or the end");
    if (!is_truth(whole)) fail("a number alone is no condition; compare it, as in 'jointsq.nmse > 0.2'", 0);
    condition_.text_ = text_;
    return std::move(condition_);
  }

 private:
  using Kind = Condition::Kind;
  using Node = Condition::Node;

  [[noreturn]] void fail(const std::string& what, size_t at) const {
    throw Error(Errc::usage,
                fmt::format("--fail-if '{}': {}, at character {} ('{}'); see jsq-compare(1), CONDITIONS",
                            text_, what, at + 1, at < text_.size() ? text_.substr(at, 12) : "the end"));
  }
  [[noreturn]] void fail(const std::string& what) const { fail(what, at_); }

  static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
  static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  }
  void skip_blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  /// Takes a sign, or a word that does not go on behind it.
  bool take(std::string_view token) {
    skip_blanks();
    if (!text_.substr(at_).starts_with(token)) return false;
    const size_t end = at_ + token.size();
    if (is_word(token.back()) && end < text_.size() && is_word(text_[end])) return false;
    at_ = end;
    return true;
  }

  bool is_truth(size_t node) const { return Condition::is_truth(condition_.nodes_[node].kind); }
  size_t add(const Node& node) {
    condition_.nodes_.push_back(node);
    return condition_.nodes_.size() - 1;
  }
  /// A node over one or two others, which must be truths or must be numbers.
  size_t join(Kind kind, size_t left, size_t right, bool of_truths, size_t operator_at) {
    if (is_truth(left) != of_truths || is_truth(right) != of_truths)
      fail(of_truths ? "this operator needs comparisons on both sides"
                     : "this operator needs numbers on both sides",
           operator_at);
    return add({.kind = kind, .left = left, .right = right});
  }

  size_t disjunction() {
    // Depth is bounded by the parentheses and signs, and these are.
    constexpr int deepest = 64;
    if (++depth_ > deepest) fail("nested too deeply");
    size_t left = conjunction();
    for (size_t here = at_; take("or") || take("||"); here = at_)
      left = join(Kind::either, left, conjunction(), true, here);
    --depth_;
    return left;
  }
  size_t conjunction() {
    size_t left = negation();
    for (size_t here = at_; take("and") || take("&&"); here = at_)
      left = join(Kind::both, left, negation(), true, here);
    return left;
  }
  size_t negation() {
    const size_t here = at_;
    bool negated = false, any = false;
    while (take("not") || take_not_sign()) negated = !negated, any = true;
    const size_t operand = comparison();
    if (any && !is_truth(operand)) fail("'not' needs a comparison behind it", here);
    return negated ? add({.kind = Kind::no, .left = operand, .right = operand}) : operand;
  }
  bool take_not_sign() {
    skip_blanks();
    return !text_.substr(at_).starts_with("!=") && take("!");
  }
  size_t comparison() {
    static constexpr std::pair<std::string_view, Kind> operators[] = {
        {"<=", Kind::less_equal}, {">=", Kind::greater_equal}, {"==", Kind::equal},
        {"!=", Kind::unequal},    {"<", Kind::less},           {">", Kind::greater}};
    const size_t left = sum();
    skip_blanks();
    const size_t here = at_;
    for (const auto& [sign, kind] : operators)
      if (take(sign)) return join(kind, left, sum(), false, here);
    return left;
  }
  size_t sum() {
    size_t left = product();
    for (;;) {
      skip_blanks();
      const size_t here = at_;
      const bool plus = take("+");
      if (!plus && !take("-")) return left;
      left = join(plus ? Kind::add : Kind::subtract, left, product(), false, here);
    }
  }
  size_t product() {
    size_t left = factor();
    for (;;) {
      skip_blanks();
      const size_t here = at_;
      const bool times = take("*");
      if (!times && !take("/")) return left;
      left = join(times ? Kind::multiply : Kind::divide, left, factor(), false, here);
    }
  }
  size_t factor() {
    skip_blanks();
    const size_t here = at_;
    bool negative = false, signs = false;
    while (take("-")) negative = !negative, signs = true;
    const size_t operand = primary();
    if (signs && is_truth(operand)) fail("a comparison has no sign", here);
    return negative ? add({.kind = Kind::negative, .left = operand, .right = operand}) : operand;
  }
  size_t primary() {
    skip_blanks();
    if (take("(")) {
      const size_t inner = disjunction();
      if (!take(")")) fail("expected ')'");
      return inner;
    }
    if (at_ >= text_.size()) fail("expected a number or METHOD.MEASURE");
    if (std::optional<size_t> named = name()) return *named;
    double number = 0;
    const char* const begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), number);
    const bool digits = (*begin >= '0' && *begin <= '9') || *begin == '.';
    if (!digits || error != std::errc()) fail_at_word();
    at_ = size_t(end - text_.data());
    if (at_ < text_.size() && is_word(text_[at_])) fail("expected an operator behind the number");
    return add({.kind = Kind::number, .number = number});
  }

  /// The longest label, then name, that stands here with a dot behind it, and its measure.
  std::optional<size_t> name() {
    const std::string_view rest = text_.substr(at_);
    const auto stands = [&](const std::string& word) {
      return rest.size() > word.size() && rest.starts_with(word) && rest[word.size()] == '.';
    };
    size_t best = 0, method = 0, holders = 0;
    for (size_t m = 0; m < vocabulary_.methods.size(); ++m)
      if (const std::string& label = vocabulary_.methods[m].label; label.size() > best && stands(label)) {
        best = label.size();
        method = m;
        holders = 1;
      }
    for (size_t m = 0; m < vocabulary_.methods.size(); ++m) {
      const std::string& word = vocabulary_.methods[m].name;
      if (!stands(word) || word.size() < best ||
          (word.size() == best && vocabulary_.methods[method].label == word))
        continue;
      holders = word.size() > best ? 1 : holders + 1;
      best = word.size();
      method = m;
    }
    if (holders == 0) return std::nullopt;
    if (holders > 1)
      fail(fmt::format("'{}' fits several methods of this run; write one of {} in full", rest.substr(0, best),
                       labels()));
    const size_t measure_at = at_ + best + 1;
    const size_t end =
        size_t(std::find_if_not(text_.begin() + ptrdiff_t(measure_at), text_.end(), is_word) - text_.begin());
    const std::string_view key = text_.substr(measure_at, end - measure_at);
    const auto found = std::find(vocabulary_.measures.begin(), vocabulary_.measures.end(), key);
    if (found == vocabulary_.measures.end())
      unknown(fmt::format("unknown measure '{}'; there are {}", key, fmt::join(vocabulary_.measures, ", ")));
    at_ = end;
    return add({.kind = Kind::name, .name = {method, size_t(found - vocabulary_.measures.begin())}});
  }

  std::string labels() const {
    std::vector<std::string> all;
    for (const Vocabulary::Method& method : vocabulary_.methods) all.push_back(method.label);
    return fmt::format("{}", fmt::join(all, ", "));
  }
  [[noreturn]] void unknown(const std::string& what) const {
    throw Error(Errc::unknown_name, fmt::format("--fail-if '{}': {}", text_, what));
  }
  [[noreturn]] void fail_at_word() const {
    const std::string_view rest = text_.substr(at_);
    const size_t dot = std::min(rest.find('.'), rest.size());
    const bool word = is_word(rest.front()) && dot < rest.size();
    if (!word) fail("expected a number or METHOD.MEASURE");
    unknown(fmt::format("no method '{}' in this run; there are {}", rest.substr(0, dot), labels()));
  }

  std::string_view text_;
  const Vocabulary& vocabulary_;
  size_t at_ = 0;
  int depth_ = 0;
  Condition condition_;
};

Condition Condition::parse(std::string_view text, const Vocabulary& vocabulary) {
  return ConditionParser(text, vocabulary).parse();
}

std::vector<Condition::Name> Condition::names() const {
  std::vector<Name> all;
  for (const Node& node : nodes_)
    if (node.kind == Kind::name && std::find(all.begin(), all.end(), node.name) == all.end())
      all.push_back(node.name);
  return all;
}

std::optional<bool> Condition::holds(const std::function<double(const Name&)>& value) const {
  // A truth is 1, 0 or NaN; unknown truths are Kleene's.
  constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> results;
  for (const Node& node : nodes_) {
    const double a = results.empty() ? 0 : results[node.left], b = results.empty() ? 0 : results[node.right];
    const auto compared = [&](bool result) {
      return std::isnan(a) || std::isnan(b) ? unknown : double(result);
    };
    double result = 0;
    switch (node.kind) {
      case Kind::number:
        result = node.number;
        break;
      case Kind::name:
        result = value(node.name);
        break;
      case Kind::negative:
        result = -a;
        break;
      case Kind::add:
        result = a + b;
        break;
      case Kind::subtract:
        result = a - b;
        break;
      case Kind::multiply:
        result = a * b;
        break;
      case Kind::divide:
        result = a / b;
        break;
      case Kind::less:
        result = compared(a < b);
        break;
      case Kind::less_equal:
        result = compared(a <= b);
        break;
      case Kind::greater:
        result = compared(a > b);
        break;
      case Kind::greater_equal:
        result = compared(a >= b);
        break;
      case Kind::equal:
        result = compared(a == b);
        break;
      case Kind::unequal:
        result = compared(a != b);
        break;
      case Kind::both:
        result = a == 0 || b == 0 ? 0 : a + b > 1 ? 1 : unknown;
        break;
      case Kind::either:
        result = a == 1 || b == 1 ? 1 : a + b < 1 ? 0 : unknown;
        break;
      case Kind::no:
        result = 1 - a;
        break;
    }
    results.push_back(result);
  }
  const double whole = results.back();
  if (std::isnan(whole)) return std::nullopt;
  return whole != 0;
}

}  // namespace jsq::tools
