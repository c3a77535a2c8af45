/* The C interface of libjsq: compress one array in memory, and read any frame. Plain C99, for C programs and
 * for foreign-function interfaces (samples/read_with_python.py); it adds nothing to the C++ interface beside
 * it.
 *
 * Errors. Every function that can fail returns int: 0 (JSQ_OK) or one of enum jsq_error, and then leaves its
 * outputs as they were, apart from the contents of a value buffer. jsq_last_error() has the message. No
 * exception comes out.
 *
 * Threads. Functions that take a `const jsq_frame*` may run on one frame from several threads at once, and
 * frames are independent of each other. jsq_close() must be the last call on its frame. The error message is
 * per thread.
 *
 * Ownership. What jsq_compress() gives out is freed with jsq_free(), what jsq_open*() gives out with
 * jsq_close(). Pointers inside struct jsq_tensor belong to the frame and live until jsq_close(). Everything
 * passed in stays the caller's. Strings are UTF-8.
 *
 * The binary interface is stable from jsq 1.0 on.
 */
#ifndef JSQ_JSQ_H
#define JSQ_JSQ_H

#include <stddef.h>
#include <stdint.h>

#include "jsq/export.hpp" /* JSQ_API only; valid C */

#ifdef __cplusplus
extern "C" {
#endif

/** Error codes: the values of jsq::Errc, never reused. */
enum jsq_error {
  JSQ_OK = 0,
  JSQ_USAGE = 10,              /**< an argument, method or target is malformed or contradictory */
  JSQ_UNKNOWN_NAME = 11,       /**< no such method, method option or tensor */
  JSQ_NOT_FOUND = 20,          /**< the file does not exist or cannot be opened */
  JSQ_READ_FAILED = 21,        /**< reading the file failed */
  JSQ_UNSUPPORTED_FORMAT = 30, /**< not a frame */
  JSQ_UNSUPPORTED_DTYPE = 31,  /**< the element type is none of enum jsq_dtype */
  JSQ_NON_FINITE = 32,         /**< NaN or infinity met, and the options do not say what to do with it */
  JSQ_DAMAGED = 40,            /**< the frame is truncated, inconsistent or fails a checksum */
  JSQ_REFUSED = 50,            /**< not raised by this interface */
  JSQ_WRITE_FAILED = 60,       /**< a temporary file of the compressor could not be written */
  JSQ_UNREACHABLE_TARGET = 70, /**< the target cannot be met; the message names the nearest that can */
  JSQ_LIMIT = 80, /**< out of memory, or a declared size is beyond what this machine can address */
  JSQ_BACKEND_UNAVAILABLE = 90, /**< the backend cannot run here */
  JSQ_ASSERTION_FAILED = 100,   /**< not raised by this interface */
  JSQ_NEWER_FORMAT = 110,       /**< the frame needs a newer jsq */
  JSQ_INTERNAL = 120            /**< a bug in jsq */
};

/** Element types: the values of jsq::DType, which are those of the frame format. Bytes an element: 2, 2,
 * 4, 8. */
enum jsq_dtype { JSQ_F16 = 1, JSQ_BF16 = 2, JSQ_F32 = 3, JSQ_F64 = 4 };

/** An array in the caller's memory: C order, contiguous, little-endian elements; any alignment. */
struct jsq_array {
  const void* data;      /**< elements of `dtype`; may be NULL when there are none */
  int dtype;             /**< enum jsq_dtype */
  size_t rank;           /**< number of extents; 0 is a scalar of one element */
  const uint64_t* shape; /**< `rank` extents in elements; may be NULL when `rank` is 0 */
  const char* name;      /**< the tensor's name in the frame; NULL is "" */
};

/** How to compress. Zero every member that you do not set (`= {sizeof(struct jsq_options)}`): zero is the
 * default. */
struct jsq_options {
  size_t size;           /**< sizeof(struct jsq_options): tells jsq which members the caller knows */
  const char* method;    /**< METHOD of jsq(1), "qsgd:bits=4"; NULL is "jointsq" */
  const char* target;    /**< TARGET of jsq(1), "ratio=32", "nmse=1e-3"; NULL: ratio=32, or the method's own size */
  const char* nonfinite; /**< "error", "zero" or "keep"; NULL is "error" */
  uint64_t seed;         /**< of all random numbers; the same seed gives the same bytes */
  unsigned threads;      /**< 0: all cores; the bytes do not depend on it */
};

/** One tensor of a frame. */
struct jsq_tensor {
  const char* name;  /**< ends in NUL */
  int dtype;         /**< enum jsq_dtype: what the values are written back as */
  int fortran_order; /**< 1: elements are stored in Fortran order; `shape` is the logical shape all the same
                      */
  size_t rank;       /**< number of extents; 0 is a scalar */
  const uint64_t* shape; /**< `rank` extents in elements */
  uint64_t elements;     /**< product of the extents; 1 for a scalar */
  uint64_t coded_bytes;  /**< bytes of the tensor's blocks in the frame, without checksums and directory */
};

/** An open frame. */
typedef struct jsq_frame jsq_frame;

/** Version of the library, "MAJOR.MINOR.PATCH". Static storage. */
JSQ_API const char* jsq_version(void);

/** Name of an error code ("unreachable_target"), "ok" for 0, "internal" for a number that is no code. Static
 * storage. */
JSQ_API const char* jsq_error_name(int code);

/** What the last call that failed on this thread said; "" before any did. Valid until the next failure on
 * this thread. */
JSQ_API const char* jsq_last_error(void);

/**
 * Compresses one array into a frame in memory. `jsq decompress` writes it back as array.npy.
 *
 * @param array    what to compress; read only during the call
 * @param options  NULL: the defaults
 * @param frame    receives the frame, to be freed with jsq_free()
 * @param size     receives the frame's size in bytes
 * @return JSQ_USAGE (a NULL that is not allowed, an extent product beyond 64 bits, a bad option),
 * JSQ_UNKNOWN_NAME, JSQ_UNSUPPORTED_DTYPE, JSQ_NON_FINITE, JSQ_UNREACHABLE_TARGET, JSQ_WRITE_FAILED,
 * JSQ_LIMIT.
 *
 * Deterministic: the same array, options and seed give the same bytes. O(elements).
 */
JSQ_API int jsq_compress(const struct jsq_array* array, const struct jsq_options* options, void** frame,
                         size_t* size);

/** Frees what jsq_compress() gave out. NULL is allowed. */
JSQ_API void jsq_free(void* frame);

/**
 * Opens a frame file and reads its directory; values are read when asked for.
 * @return JSQ_USAGE (NULL), JSQ_NOT_FOUND, JSQ_READ_FAILED, JSQ_UNSUPPORTED_FORMAT, JSQ_DAMAGED,
 * JSQ_NEWER_FORMAT, JSQ_LIMIT.
 */
JSQ_API int jsq_open(const char* path, jsq_frame** frame);

/** The same for `size` bytes at `bytes`, which must not change and must live until jsq_close(). */
JSQ_API int jsq_open_memory(const void* bytes, size_t size, jsq_frame** frame);

/** Closes a frame. NULL is allowed. */
JSQ_API void jsq_close(jsq_frame* frame);

/** Number of tensors in the frame, all dumps together. @return JSQ_USAGE (NULL). */
JSQ_API int jsq_tensor_count(const jsq_frame* frame, size_t* count);

/** Index of the tensor with a name ("path::name" where several dumps hold it). @return JSQ_USAGE,
 * JSQ_UNKNOWN_NAME. */
JSQ_API int jsq_find_tensor(const jsq_frame* frame, const char* name, size_t* index);

/** Describes tensor `index`, 0 to count - 1. @return JSQ_USAGE (NULL, no such index). */
JSQ_API int jsq_describe_tensor(const jsq_frame* frame, size_t index, struct jsq_tensor* tensor);

/**
 * Decodes elements [first, first + count) of a tensor, in storage order, into `count` floats at `values`.
 * Only the blocks that hold them are read and checked. `values` may be NULL when `count` is 0.
 * @return JSQ_USAGE (NULL, no such index, a range beyond the tensor), JSQ_DAMAGED, JSQ_READ_FAILED,
 * JSQ_LIMIT.
 */
JSQ_API int jsq_read(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, float* values);

/**
 * The same as little-endian elements of the tensor's own dtype, into `size` bytes at `out`; `size` must be
 * `count` elements exactly. Non-finite elements that were kept come back with every bit.
 */
JSQ_API int jsq_read_stored(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, void* out,
                            size_t size);

#ifdef __cplusplus
}
#endif

#endif
