// A whole frame taken apart into its dumps: npy, npz and HDF5 files written from attachments that nobody
// checked before.
#include <cstdlib>
#include <filesystem>
#include <string>

#include "input.hpp"
#include "jsq/frame.hpp"

namespace {

/// A folder of this process, gone when it ends.
struct Folder {
  std::string path = "/dev/shm/jsq-fuzz-XXXXXX";
  Folder() {
    if (mkdtemp(path.data()) == nullptr) std::abort();
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace jsq;
  static const Folder folder;
  constexpr uint64_t most_elements = uint64_t(1) << 18;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  fuzz::only_errors([&] {
    const FrameReader frame = FrameReader::from_bytes(bytes);
    uint64_t declared = 0;
    for (const FrameTensor& tensor : frame.tensors())
      declared += std::min(tensor.info.elements(), 2 * most_elements);
    if (declared > most_elements) return;
    for (size_t d = 0; d < frame.dumps().size() && d < 8; ++d) {
      const FrameDump& dump = frame.dumps()[d];
      std::vector<TensorInfo> tensors;
      for (size_t t = 0; t < dump.tensor_count; ++t)
        tensors.push_back(frame.tensors()[dump.first_tensor + t].info);
      fuzz::only_errors([&] {
        const auto sink = create_gradients(folder.path + "/dump", dump.dump, tensors);
        frame.write_dump(d, *sink, 1);
        sink->finish();
      });
    }
  });
  return 0;
}
