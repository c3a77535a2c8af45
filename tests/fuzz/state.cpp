// Saved states of a sequence, which are frames with names and metadata of their own.
#include "jsq/state.hpp"

#include "input.hpp"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  fuzz::only_errors([&] {
    const fuzz::MemoryFile file(std::string_view(reinterpret_cast<const char*>(data), size));
    const State state = State::load(file.path());
    MemorySink sink;
    state.save(sink);
    const fuzz::MemoryFile saved(sink.bytes);
    const State again = State::load(saved.path());
    fuzz::expect(again.step == state.step && again.method == state.method &&
                     again.tensors().size() == state.tensors().size(),
                 "a state that was loaded is saved and loaded again");
  });
  return 0;
}
