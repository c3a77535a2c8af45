/* What the module with Open MPI offers to the program: plain C, so that it can be loaded when it is needed.
   Calls return 0, or an error number of MPI. */
#pragma once

#include <stddef.h>

#define JSQ_RANKS_FUNCTION "jsq_ranks_functions"

struct JsqRanksFunctions {
  int (*start)(int* rank, int* size);
  /* To rank 0; returns when `bytes` may be used again. */
  int (*send)(const char* bytes, size_t count);
  /* Bytes of the next text, waiting for it or not; *found is 0 when there is none. */
  int (*probe)(int wait, int* found, int* from, size_t* count);
  int (*receive)(int from, char* bytes, size_t count);
  int (*finish)(void);
};
