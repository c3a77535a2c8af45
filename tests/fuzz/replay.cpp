// Runs a fuzz target over files without a fuzzer: every file of the folders named, in order of their names.
// With a number N first, each file also with N single bytes changed, by a fixed rule. A finding ends the
// program by a signal.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

/// A copy of its own size on the heap, so that reading beyond it is seen by a sanitizer.
void run(const std::string& bytes) {
  const std::vector<uint8_t> copy(bytes.begin(), bytes.end());
  LLVMFuzzerTestOneInput(copy.data(), copy.size());
}

}  // namespace

int main(int argc, char** argv) {
  size_t files = 0, runs = 0;
  int first = 1;
  unsigned long changes = 0;
  if (argc > 1 && std::string(argv[1]).find_first_not_of("0123456789") == std::string::npos) {
    changes = std::strtoul(argv[1], nullptr, 10);
    first = 2;
  }
  for (int i = first; i < argc; ++i) {
    if (!std::filesystem::is_directory(argv[i])) {
      std::fprintf(stderr, "%s: expected a folder of inputs\n", argv[i]);
      return 2;
    }
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i]))
      if (entry.is_regular_file()) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) {
      std::ifstream file(path, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      run(bytes);
      ++files, ++runs;
      uint64_t state = 0x9e3779b97f4a7c15 * files;  // splitmix64's step, from the file's number
      for (unsigned long change = 0; change < changes && !bytes.empty(); ++change, ++runs) {
        state += 0x9e3779b97f4a7c15;
        uint64_t mixed = (state ^ state >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        mixed ^= mixed >> 31;
        std::string changed = bytes;
        changed[mixed % bytes.size()] ^= char(1 + (mixed >> 40) % 255);
        run(changed);
      }
    }
  }
  std::printf("%zu inputs, %zu runs, no finding\n", files, runs);
  return files > 0 ? 0 : 1;  // a target without a corpus shows nothing
}
