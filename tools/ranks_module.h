/* What the module with Open MPI offers to the program: plain C, so that it can be loaded when it is needed.
   Calls return 0, or an error number of MPI. */
#pragma once

#include <stddef.h>

#define JSQ_RANKS_FUNCTION "jsq_ranks_functions"

/* into <- into + from, both of `count` bytes. */
typedef void (*JsqAdd)(void* context, char* into, const char* from, size_t count);

struct JsqRanksFunctions {
  int (*start)(int* rank, int* size);
  /* To rank 0; returns when `bytes` may be used again. */
  int (*send)(const char* bytes, size_t count);
  /* Bytes of the next text, waiting for it or not; *found is 0 when there is none. */
  int (*probe)(int wait, int* found, int* from, size_t* count);
  int (*receive)(int from, char* bytes, size_t count);
  /* Between any two ranks; both know the number of bytes. */
  int (*send_to)(int rank, const char* bytes, size_t count);
  int (*receive_from)(int rank, char* bytes, size_t count);
  /* From rank 0 to all. */
  int (*broadcast)(char* bytes, size_t count);
  /* The sum of all ranks' bytes at every rank, added in any order. */
  int (*allreduce)(char* bytes, size_t count, JsqAdd add, void* context);
  /* counts[rank]: the bytes of every rank. */
  int (*gather_counts)(size_t count, size_t* counts);
  /* All ranks' bytes one after another. */
  int (*allgather)(const char* bytes, const size_t* counts, char* all);
  int (*barrier)(void);
  int (*finish)(void);
};
