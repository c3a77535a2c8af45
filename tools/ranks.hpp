// The processes of a run under mpirun: who this one is, texts from the others to the first, and messages that
// all exchange. Open MPI is in a module of its own, which is loaded only when mpirun started the program.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace jsq::tools {

/// True in the processes of mpirun but the first: what all of them meet before they join is said once.
bool is_later_rank();

/// Whether the module can be loaded here: where it is, or why not.
struct RanksSupport {
  bool usable = false;
  std::string detail;
};
RanksSupport ranks_support();

class Ranks {
 public:
  /// nullptr when the program was not started by mpirun, or alone.
  /// \throws Error backend_unavailable when it was, and jsq was built without Open MPI or its module is
  /// missing.
  static std::unique_ptr<Ranks> join();
  /// Waits for the others, unless an exception unwinds.
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }
  /// To rank 0, in order.
  void send(const std::string& text);
  /// At rank 0: the next text of any other rank, in the order that each sent them.
  std::string receive();
  /// The same if one is there.
  std::optional<std::string> try_receive();

  // All ranks call the following together.

  /// A message to one rank, which expects as many bytes.
  void send_to(int rank, const std::string& bytes);
  std::string receive_from(int rank, size_t count);
  /// Rank 0's bytes at every rank.  \pre as many bytes at every rank.
  void broadcast(std::string& bytes);
  /// The sum of all ranks' bytes at every rank, by Open MPI's allreduce: added in any order and bracketing.
  void allreduce(std::string& bytes,
                 const std::function<void(std::string& into, std::string_view from)>& add);
  /// All ranks' bytes in their order, by Open MPI's allgatherv.
  std::vector<std::string> allgather(const std::string& bytes);
  void barrier();

 private:
  struct Module;
  explicit Ranks(std::unique_ptr<Module> module);

  std::unique_ptr<Module> module_;
  int rank_ = 0, size_ = 1;
  int exceptions_;
};

}  // namespace jsq::tools
