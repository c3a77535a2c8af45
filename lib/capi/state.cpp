// The C interface's states: made, kept, read and inspected.
#include "jsq/state.hpp"

#include <memory>
#include <string>
#include <utility>

#include "lib/capi/arrays.hpp"
#include "lib/capi/guard.hpp"
#include "lib/capi/malloc_sink.hpp"
#include "lib/core/replaced_file.hpp"

namespace {

jsq_state* owned(jsq::State state) {
  return new jsq_state{std::move(state)};
}

}  // namespace

extern "C" {

int jsq_state_new(jsq_state** state) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_new", "state");
    *state = owned({});
  });
}

int jsq_state_open(const char* path, jsq_state** state) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(path, "jsq_state_open", "path");
    jsq::capi::require(state, "jsq_state_open", "state");
    *state = owned(jsq::State::load(path));
  });
}

int jsq_state_open_memory(const void* bytes, size_t size, jsq_state** state) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_open_memory", "state");
    if (size > 0) jsq::capi::require(bytes, "jsq_state_open_memory", "bytes");
    *state = owned(jsq::State::from_bytes({static_cast<const char*>(bytes), size}));
  });
}

int jsq_state_save(const jsq_state* state, const char* path) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_save", "state");
    jsq::capi::require(path, "jsq_state_save", "path");
    jsq::ReplacedFile file(path);
    jsq::FileSink sink(file.descriptor(), path);
    state->state.save(sink);
    file.commit();
  });
}

int jsq_state_save_memory(const jsq_state* state, void** bytes, size_t* size) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_save_memory", "state");
    jsq::capi::require(bytes, "jsq_state_save_memory", "bytes");
    jsq::capi::require(size, "jsq_state_save_memory", "size");
    jsq::capi::MallocSink sink;
    state->state.save(sink);
    *size = sink.size();
    *bytes = sink.release();
  });
}

int jsq_state_describe(const jsq_state* state, uint64_t* steps, const char** method) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_describe", "state");
    if (steps != nullptr) *steps = state->state.step;
    if (method != nullptr) *method = state->state.method.c_str();
  });
}

int jsq_state_array(const jsq_state* state, const char* tensor, const char* array, const float** values,
                    uint64_t* count) {
  return jsq::capi::guarded([&] {
    jsq::capi::require(state, "jsq_state_array", "state");
    jsq::capi::require(tensor, "jsq_state_array", "tensor");
    jsq::capi::require(array, "jsq_state_array", "array");
    jsq::capi::require(values, "jsq_state_array", "values");
    jsq::capi::require(count, "jsq_state_array", "count");
    const std::vector<float>* const found = state->state.find(tensor, array);
    if (found == nullptr)
      throw jsq::Error(jsq::Errc::unknown_name, std::string("jsq_state_array: the state keeps no array '") +
                                                    array + "' for a tensor '" + tensor + "'");
    *values = found->data();
    *count = found->size();
  });
}

void jsq_state_free(jsq_state* state) {
  delete state;
}

}  // extern "C"
