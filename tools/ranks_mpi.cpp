// The module: Open MPI behind the table of ranks_module.h.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <climits>
#include <cstdint>
#include <vector>

#include "ranks_module.h"

namespace {

constexpr int tag = 1, tree_tag = 2;

int start(int* rank, int* size) {
  int provided = 0;
  if (const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
      error != MPI_SUCCESS)
    return error;
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (const int error = MPI_Comm_rank(MPI_COMM_WORLD, rank); error != MPI_SUCCESS) return error;
  return MPI_Comm_size(MPI_COMM_WORLD, size);
}

int send(const char* bytes, size_t count) {
  if (count > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Send(bytes, int(count), MPI_CHAR, 0, tag, MPI_COMM_WORLD);
}

int probe(int wait, int* found, int* from, size_t* count) {
  MPI_Status status;
  *found = 1;
  const int error = wait != 0 ? MPI_Probe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &status)
                              : MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, found, &status);
  if (error != MPI_SUCCESS || *found == 0) return error;
  int bytes = 0;
  *from = status.MPI_SOURCE;
  const int counted = MPI_Get_count(&status, MPI_CHAR, &bytes);
  *count = size_t(bytes);
  return counted;
}

int receive(int from, char* bytes, size_t count) {
  return MPI_Recv(bytes, int(count), MPI_CHAR, from, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

int send_to(int rank, const char* bytes, size_t count) {
  if (count > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Send(bytes, int(count), MPI_CHAR, rank, tree_tag, MPI_COMM_WORLD);
}

int receive_from(int rank, char* bytes, size_t count) {
  if (count > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Recv(bytes, int(count), MPI_CHAR, rank, tree_tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

int broadcast(char* bytes, size_t count) {
  if (count > INT_MAX) return MPI_ERR_COUNT;
  return MPI_Bcast(bytes, int(count), MPI_CHAR, 0, MPI_COMM_WORLD);
}

/// What the user-defined operation works with: MPI hands it nothing but the operands. One allreduce runs at a
/// time.
struct {
  JsqAdd add = nullptr;
  void* context = nullptr;
  size_t count = 0;
} operation;

void apply_operation(void* from, void* into, int* messages, MPI_Datatype*) {
  for (int i = 0; i < *messages; ++i)
    operation.add(operation.context, static_cast<char*>(into) + size_t(i) * operation.count,
                  static_cast<const char*>(from) + size_t(i) * operation.count, operation.count);
}

/// The message is one element, so that MPI cuts it nowhere.
int allreduce(char* bytes, size_t count, JsqAdd add, void* context) {
  if (count > INT_MAX) return MPI_ERR_COUNT;
  if (count == 0) return MPI_SUCCESS;
  operation = {add, context, count};
  MPI_Datatype message = MPI_DATATYPE_NULL;
  MPI_Op sum = MPI_OP_NULL;
  int error = MPI_Type_contiguous(int(count), MPI_CHAR, &message);
  if (error == MPI_SUCCESS) error = MPI_Type_commit(&message);
  if (error == MPI_SUCCESS) error = MPI_Op_create(apply_operation, 1, &sum);
  if (error == MPI_SUCCESS) error = MPI_Allreduce(MPI_IN_PLACE, bytes, 1, message, sum, MPI_COMM_WORLD);
  if (sum != MPI_OP_NULL) MPI_Op_free(&sum);
  if (message != MPI_DATATYPE_NULL) MPI_Type_free(&message);
  return error;
}

int gather_counts(size_t count, size_t* counts) {
  static_assert(sizeof(size_t) == sizeof(uint64_t));
  return MPI_Allgather(&count, 1, MPI_UINT64_T, counts, 1, MPI_UINT64_T, MPI_COMM_WORLD);
}

int allgather(const char* bytes, const size_t* counts, char* all) {
  int size = 0, rank = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::vector<int> lengths, places;
  size_t at = 0;
  for (int r = 0; r < size; ++r) {
    if (counts[r] > INT_MAX || at > INT_MAX) return MPI_ERR_COUNT;
    lengths.push_back(int(counts[r]));
    places.push_back(int(at));
    at += counts[r];
  }
  return MPI_Allgatherv(bytes, lengths[size_t(rank)], MPI_CHAR, all, lengths.data(), places.data(), MPI_CHAR,
                        MPI_COMM_WORLD);
}

int barrier() {
  return MPI_Barrier(MPI_COMM_WORLD);
}

int finish() {
  return MPI_Finalize();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const JsqRanksFunctions* jsq_ranks_functions() {
  static const JsqRanksFunctions functions = {start,         send,         probe,     receive,
                                              send_to,       receive_from, broadcast, allreduce,
                                              gather_counts, allgather,    barrier,   finish};
  return &functions;
}
