// The module: Open MPI behind the table of ranks_module.h.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <climits>

#include "ranks_module.h"

namespace {

constexpr int tag = 1;

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

int finish() {
  return MPI_Finalize();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const JsqRanksFunctions* jsq_ranks_functions() {
  static const JsqRanksFunctions functions = {start, send, probe, receive, finish};
  return &functions;
}
