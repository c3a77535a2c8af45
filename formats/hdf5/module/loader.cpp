// HDF5 for libjsq: the module is loaded when the first HDF5 dump is opened or made, and stays. Most commands
// never need it, and HDF5's thirty libraries would be two thirds of the time in which a program starts.
#include <dlfcn.h>
#include <fmt/format.h>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/module/module.hpp"
#include "jsq/error.hpp"

namespace jsq {
namespace {

[[noreturn]] void unavailable(const std::string& why) {
  throw Error(
      Errc::backend_unavailable,
      fmt::format(
          "HDF5 dumps need the module {}: {}; install it beside libjsq.so, as the build and the package do",
          hdf5_module_name, why));
}

const Hdf5Functions& load() {
  // No path: libjsq's run path is searched. Local: programs may have an HDF5 of their own.
  void* module = ::dlopen(hdf5_module_name, RTLD_NOW | RTLD_LOCAL);
  if (module == nullptr) unavailable(::dlerror());
  using Entry = const Hdf5Functions* (*)();
  const auto entry = reinterpret_cast<Entry>(::dlsym(module, hdf5_module_entry));
  if (entry == nullptr || std::string_view(entry()->version) != JSQ_VERSION)
    unavailable("the one found is of another version");
  return *entry();
}

}  // namespace

const Hdf5Functions& hdf5_functions() {
  static const Hdf5Functions& functions = load();
  return functions;
}

}  // namespace jsq
