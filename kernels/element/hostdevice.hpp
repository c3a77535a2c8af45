// JSQ_HD: a function that is compiled for the host and, under nvcc, for the device too.
#pragma once

#if defined(__CUDACC__)
#define JSQ_HD __host__ __device__ __forceinline__
#else
#define JSQ_HD inline
#endif
