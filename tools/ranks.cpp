// Loading of the module and passing of texts.
#include "ranks.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <filesystem>

#include "jsq/error.hpp"
#include "ranks_module.h"

namespace jsq::tools {
namespace {

constexpr const char* module_name = "jsq_ranks.so";

/// The module beside the program, as the build leaves it, or where it is installed.
std::string module_path() {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const std::filesystem::path& place :
       {folder / module_name, folder / ".." / JSQ_MODULE_DIR / module_name})
    if (std::filesystem::exists(place, error)) return place.string();
  return "";
}

constexpr const char* not_built = "jsq was built without Open MPI";

[[noreturn]] void unavailable(const std::string& why) {
  throw Error(
      Errc::backend_unavailable,
      fmt::format("started by mpirun, but {}; run it without mpirun, or build it with Open MPI (Debian: "
                  "libopenmpi-dev, JSQ_MPI=ON)",
                  why));
}

}  // namespace

struct Ranks::Module {
  void* handle = nullptr;
  const JsqRanksFunctions* functions = nullptr;

  void check(int error, const char* what) const {
    if (error != 0) throw Error(Errc::internal, fmt::format("Open MPI cannot {}: error {}", what, error));
  }
};

bool is_later_rank() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank != nullptr && std::atoi(rank) > 0;
}

RanksSupport ranks_support() {
  const std::string path = module_path();
  if (path.empty()) return {false, not_built};
  // Without starting it, so nothing of it is left behind.
  void* module = ::dlopen(path.c_str(), RTLD_LAZY | RTLD_LOCAL);
  if (module == nullptr) return {false, ::dlerror()};
  const bool same = ::dlsym(module, JSQ_RANKS_FUNCTION) != nullptr;
  ::dlclose(module);
  return {same, same ? path : path + " is of another version"};
}

std::unique_ptr<Ranks> Ranks::join() {
  const char* size = std::getenv("OMPI_COMM_WORLD_SIZE");
  if (size == nullptr || std::atoi(size) < 2) return nullptr;
  const std::string path = module_path();
  if (path.empty()) unavailable(not_built);
  auto module = std::make_unique<Module>();
  // Global: Open MPI loads components that look for its symbols.
  module->handle = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module->handle == nullptr) unavailable(fmt::format("its module cannot be loaded: {}", ::dlerror()));
  using Functions = const JsqRanksFunctions* (*)();
  const auto functions = reinterpret_cast<Functions>(::dlsym(module->handle, JSQ_RANKS_FUNCTION));
  if (functions == nullptr) unavailable("its module is of another version");
  module->functions = functions();
  return std::unique_ptr<Ranks>(new Ranks(std::move(module)));
}

Ranks::Ranks(std::unique_ptr<Module> module)
    : module_(std::move(module)), exceptions_(std::uncaught_exceptions()) {
  module_->check(module_->functions->start(&rank_, &size_), "start");
}

Ranks::~Ranks() {
  // The module stays loaded: Open MPI leaves threads and handlers behind.
  // An error ends this process, and mpirun then ends the others.
  if (std::uncaught_exceptions() == exceptions_) module_->functions->finish();
}

void Ranks::send(const std::string& text) {
  module_->check(module_->functions->send(text.data(), text.size()), "send");
}

std::optional<std::string> Ranks::try_receive() {
  int found = 0, from = 0;
  size_t count = 0;
  module_->check(module_->functions->probe(0, &found, &from, &count), "look for messages");
  if (found == 0) return std::nullopt;
  std::string text(count, '\0');
  module_->check(module_->functions->receive(from, text.data(), count), "receive");
  return text;
}

std::string Ranks::receive() {
  int found = 0, from = 0;
  size_t count = 0;
  module_->check(module_->functions->probe(1, &found, &from, &count), "wait for messages");
  std::string text(count, '\0');
  module_->check(module_->functions->receive(from, text.data(), count), "receive");
  return text;
}

void Ranks::send_to(int rank, const std::string& bytes) {
  module_->check(module_->functions->send_to(rank, bytes.data(), bytes.size()), "send");
}

std::string Ranks::receive_from(int rank, size_t count) {
  std::string bytes(count, '\0');
  module_->check(module_->functions->receive_from(rank, bytes.data(), count), "receive");
  return bytes;
}

void Ranks::broadcast(std::string& bytes) {
  module_->check(module_->functions->broadcast(bytes.data(), bytes.size()), "broadcast");
}

namespace {

/// An addition that is called from within Open MPI, through which no exception may pass.
struct Addition {
  const std::function<void(std::string& into, std::string_view from)>& add;
  std::exception_ptr failure;

  static void apply(void* context, char* into, const char* from, size_t count) {
    auto& addition = *static_cast<Addition*>(context);
    try {
      std::string sum(into, count);
      addition.add(sum, {from, count});
      if (sum.size() != count) throw Error(Errc::internal, "a sum of messages has another size");
      sum.copy(into, count);
    } catch (...) {
      if (!addition.failure) addition.failure = std::current_exception();
    }
  }
};

}  // namespace

void Ranks::allreduce(std::string& bytes,
                      const std::function<void(std::string& into, std::string_view from)>& add) {
  Addition addition{add, nullptr};
  const int error = module_->functions->allreduce(bytes.data(), bytes.size(), Addition::apply, &addition);
  if (addition.failure) std::rethrow_exception(addition.failure);
  module_->check(error, "add messages");
}

std::vector<std::string> Ranks::allgather(const std::string& bytes) {
  std::vector<size_t> counts(size_t(size_), 0);
  module_->check(module_->functions->gather_counts(bytes.size(), counts.data()), "gather sizes");
  size_t total = 0;
  for (size_t count : counts) total += count;
  std::string all(total, '\0');
  module_->check(module_->functions->allgather(bytes.data(), counts.data(), all.data()), "gather messages");
  std::vector<std::string> messages;
  size_t at = 0;
  for (size_t count : counts) {
    messages.push_back(all.substr(at, count));
    at += count;
  }
  return messages;
}

void Ranks::barrier() {
  module_->check(module_->functions->barrier(), "meet");
}

}  // namespace jsq::tools
