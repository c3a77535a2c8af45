// The C interface over any frame, and over arrays with any options.
#include <cstring>
#include <string>
#include <vector>

#include "input.hpp"
#include "jsq/jsq.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using jsq::fuzz::expect;
  jsq_frame* frame = nullptr;
  if (jsq_open_memory(data, size, &frame) == JSQ_OK) {
    size_t count = 0;
    expect(jsq_tensor_count(frame, &count) == JSQ_OK, "an open frame has a number of tensors");
    for (size_t t = 0; t < count && t < 16; ++t) {
      jsq_tensor tensor{};
      tensor.size = sizeof tensor;
      const int described = jsq_describe_tensor(frame, t, &tensor);
      expect(described != JSQ_INTERNAL, "no internal error");
      if (described != JSQ_OK) continue;  // its parameters are damaged
      std::vector<float> values(size_t(std::min<uint64_t>(tensor.elements, 500)));
      const int status = jsq_read(frame, t, 0, values.size(), values.data());
      expect(status != JSQ_INTERNAL, "no internal error");
    }
    jsq_close(frame);
  }
  jsq::fuzz::Input in(data, size);
  const std::string method(in.text(in.byte() % 64)), target(in.text(in.byte() % 32)),
      name(in.text(in.byte() % 16));
  const std::string elements(in.text(4096));
  const uint64_t shape[] = {elements.size() / 4};
  const jsq_array array{elements.data(), JSQ_F32, 1, shape, name.c_str(), 0, 0};
  jsq_options options{};
  options.size = sizeof options;
  options.method = method.c_str();
  options.target = target.c_str();
  options.nonfinite = "keep";
  options.threads = 1;
  void* made = nullptr;
  size_t bytes = 0;
  const int status = jsq_compress(&array, 1, &options, &made, &bytes, nullptr);
  expect(status != JSQ_INTERNAL, "no internal error");
  expect(status != JSQ_OK || (made != nullptr && bytes > 0), "a frame comes with success");
  jsq_free(made);
  return 0;
}
