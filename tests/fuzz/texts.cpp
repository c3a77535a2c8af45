// What users write: METHOD, TARGET, sizes and conditions. The first byte chooses which. What is understood is
// printed as something that is understood the same.
#include "input.hpp"
#include "jsq/method.hpp"
#include "jsq/target.hpp"
#include "tools/condition.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::Input in(data, size);
  const uint8_t kind = in.byte() % 4;
  const std::string_view text = in.rest();
  fuzz::only_errors([&] {
    if (kind == 0) {
      const MethodSpec spec = parse_method(text);
      const MethodSpec again = parse_method(to_string(spec));
      fuzz::expect(again.name == spec.name && again.options == spec.options,
                   "a method reads as it is printed");
    } else if (kind == 1) {
      const std::string printed = to_string(parse_target(text));
      fuzz::expect(to_string(parse_target(printed)) == printed, "a target reads as it is printed");
    } else if (kind == 2) {
      parse_size(text, "size");
    } else {
      const tools::Vocabulary vocabulary{{{"qsgd:bits=4", "qsgd"}, {"topk", "topk"}}, {"nmse", "ratio"}};
      const tools::Condition condition = tools::Condition::parse(text, vocabulary);
      condition.holds(
          [](const tools::Condition::Name& name) { return double(name.method) - double(name.measure); });
    }
  });
  return 0;
}
