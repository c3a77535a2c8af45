/* The C interface of libjsq: compress named arrays in memory or to a file, read any frame whole, by name and
 * by slice, judge noise, and keep error feedback from step to step. Plain C99, for C programs and for
 * foreign-function interfaces (the Python module jsq); it adds nothing to the C++ interface beside it.
 *
 * Errors. Every function that can fail returns int: 0 (JSQ_OK) or one of enum jsq_error, and then leaves its
 * outputs as they were, apart from the contents of a value buffer. jsq_last_error() has the message. No
 * exception comes out.
 *
 * Threads. Functions that take a `const jsq_frame*` or `const jsq_state*` may run on one of them from several
 * threads at once; frames and states are independent of each other. jsq_close() and jsq_state_free() must be
 * the last call on theirs. The error message is per thread.
 *
 * Ownership. What jsq_compress() and jsq_state_save_memory() give out is freed with jsq_free(), what
 * jsq_open*() gives out with jsq_close(), a state with jsq_state_free(). Pointers inside struct jsq_tensor
 * and from jsq_metadata() belong to the frame and live until jsq_close(). Everything passed in stays the
 * caller's and is read during the call only, unless a function says otherwise. Strings are UTF-8.
 *
 * Growth. Structures that begin with `size` grow at their end. The caller sets `size` to sizeof the structure
 * as it knows it: the library reads and writes that much and no more, and takes what an older caller does not
 * know as zero. A member set by a newer caller that the library does not know is JSQ_USAGE. struct jsq_array
 * never grows.
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
  JSQ_WRITE_FAILED = 60,       /**< a file, or a temporary one of the compressor, could not be written */
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

/** A tensor in the caller's memory: contiguous elements; any alignment. */
struct jsq_array {
  const void* data;      /**< elements of `dtype`; may be NULL when there are none */
  int dtype;             /**< enum jsq_dtype */
  size_t rank;           /**< number of extents; 0 is a scalar of one element */
  const uint64_t* shape; /**< `rank` extents in elements; may be NULL when `rank` is 0 */
  const char* name;      /**< the tensor's name in the frame; NULL is "" */
  int fortran_order;     /**< 1: elements lie in Fortran order; `shape` is the logical shape all the same */
  int big_endian;        /**< 1: the elements' bytes are in big-endian order */
};

/** What compress keeps from one step of a sequence to the next: residuals, momenta, low-rank factors. */
typedef struct jsq_state jsq_state;

/** How to compress. Zero every member that you do not set (`= {sizeof(struct jsq_options)}`): zero is the
 * default. */
struct jsq_options {
  size_t size;        /**< sizeof(struct jsq_options) */
  const char* method; /**< METHOD of jsq(1), "qsgd:bits=4"; NULL is "jointsq" */
  const char*
      target; /**< TARGET of jsq(1), "ratio=32", "nmse=1e-3"; NULL: ratio=32, or the method's own size */
  const char* nonfinite; /**< "error", "zero" or "keep"; NULL is "error" */
  uint64_t seed;         /**< of all random numbers; the same seed gives the same bytes */
  unsigned threads;      /**< 0: all cores; the bytes do not depend on it */
  const char* rounding;  /**< "auto", "nearest" or "stochastic"; NULL is "auto": as the method is defined */
  const char*
      scope; /**< "archive": one budget for all tensors, or "tensor": each its own; NULL is "archive" */
  const char* ratio_kind; /**< what a size target counts: "file" (everything) or "payload" (the papers'
                           * accounting); NULL is "file" */
  const char* dump; /**< what `jsq decompress` writes the arrays as: a relative path that ends in .npy (one
                     * array) or .npz; NULL is "array.npy" for one array, "arrays.npz" for several */
  const char* const* metadata; /**< key, value, key, value, ... kept in the frame; may be NULL */
  size_t metadata_count;       /**< number of keys */
  jsq_state* state; /**< a step of a sequence: feedback comes from here and is left here, unchanged when the
                     * call fails. NULL: none. No other call may use it meanwhile */
  const char* feedback; /**< with a state: "auto", "none", "plain" or "momentum:0.9", the --ef of
                         * jsq-compress(1); NULL is "auto": what the method's paper prescribes */
  uint32_t worker;      /**< gives the workers of a step random numbers of their own */
};

/** What a compression came to. Errors are of the values as they will be written back. */
struct jsq_report {
  size_t size;           /**< sizeof(struct jsq_report), set by the caller */
  uint64_t elements;     /**< of all tensors */
  uint64_t input_bytes;  /**< elements x bytes of their dtype */
  uint64_t file_bytes;   /**< of the frame */
  uint64_t payload_bits; /**< what the method's paper counts */
  double nmse;           /**< |g^ - g|^2 / |g|^2; 0 when both are 0 */
  double cosine;         /**< of g and g^; 1 when both are zero vectors */
  double max_error;      /**< largest |g^ - g| */
  double mean_error;     /**< mean of g^ - g */
  double expected_nmse;  /**< expectation over the rounding; NaN where it has no closed form */
  double hprime;  /**< model noise h' per element (JointSQ, Eqs. 8, 11); NaN for methods without classes */
  double seconds; /**< that it took */
};

/** What JointSQ's models say of one allocator at the payload bits that a method spends at its target, and
 * what coding with that allocator to the target really lost: a row of `jsq analyze --noise`. */
struct jsq_noise_report {
  size_t size;               /**< sizeof(struct jsq_noise_report), set by the caller */
  uint64_t payload_bits;     /**< spent by the allocator; at most what the method as given spends */
  double hprime;             /**< h' per element in units of |g|^2 (Eqs. 8, 11) */
  double hprime_eq6;         /**< h' of Eq. 6, literally: every class's share times its size */
  double hprime_eq6_nonzero; /**< Eq. 6 with the size of the 0-bit class taken as 1 */
  double h_uniform;          /**< h of Eq. 3 for the best uniform co-compressor of the same payload bits */
  uint32_t uniform_bits;     /**< that co-compressor's width */
  double exchange_gain,
      exchange_loss;              /**< Eq. 9 from the co-compressor to this allocation; NaN without one */
  uint64_t elements, input_bytes; /**< of all tensors */
  uint64_t file_bytes;            /**< of the frame that was coded */
  uint64_t coded_payload_bits;    /**< nominal bits that were coded */
  double coded_hprime;            /**< h' of the allocation that was coded */
  double expected_nmse;           /**< expectation over the rounding; NaN where it has no closed form */
  double nmse, cosine, max_error, mean_error; /**< measured, as in struct jsq_report */
};

/** Rate-distortion bounds of arrays: the least error that any code of a size can have, for models of what the
 * decoder knows for free. */
typedef struct jsq_bounds jsq_bounds;

/** One tensor of a frame. */
struct jsq_tensor {
  size_t size;       /**< sizeof(struct jsq_tensor), set by the caller */
  const char* name;  /**< ends in NUL */
  int dtype;         /**< enum jsq_dtype: what the values are written back as */
  int fortran_order; /**< 1: elements are stored in Fortran order; `shape` is the logical shape all the same
                      */
  size_t rank;       /**< number of extents; 0 is a scalar */
  const uint64_t* shape; /**< `rank` extents in elements */
  uint64_t elements;     /**< product of the extents; 1 for a scalar */
  uint64_t coded_bytes;  /**< bytes of the tensor's blocks in the frame, without checksums and directory */
  const char* method;    /**< method and the options that its parameters record, "jointsq:alloc=exact"; NULL
                          * where    these are damaged, and then reading it fails */
  const char* dump;      /**< path of the dump that it belongs to, "grad.npy" */
};

/** An open frame. */
typedef struct jsq_frame jsq_frame;

/* --- Version and errors --- */

/** Version of the library, "MAJOR.MINOR.PATCH". Static storage. */
JSQ_API const char* jsq_version(void);

/** Name of an error code ("unreachable_target"), "ok" for 0, "internal" for a number that is no code. Static
 * storage. */
JSQ_API const char* jsq_error_name(int code);

/** The exit code of the program jsq for an error code (jsq(1), EXIT STATUS): 0 for 0, 70 for a number that is
 * no code. */
JSQ_API int jsq_exit_code(int code);

/** What the last call that failed on this thread said; "" before any did. Valid until the next failure on
 * this thread. */
JSQ_API const char* jsq_last_error(void);

/** After JSQ_UNREACHABLE_TARGET: the nearest target that can be reached ("bytes=1078"), or "" where the error
 * does not know. Of the last call that failed on this thread, like jsq_last_error(). */
JSQ_API const char* jsq_last_nearest_target(void);

/* --- Compress --- */

/**
 * Compresses arrays into one frame in memory, with one budget (options->scope).
 *
 * @param arrays   what to compress; names must differ
 * @param count    number of arrays, 1 or more
 * @param options  NULL: the defaults
 * @param frame    receives the frame, to be freed with jsq_free()
 * @param size     receives the frame's size in bytes
 * @param report   NULL, or receives what was measured; with NULL nothing is, which is faster
 * @return JSQ_USAGE (a NULL that is not allowed, an extent product beyond memory, a bad option, a state of
 * another method or of other tensors), JSQ_UNKNOWN_NAME, JSQ_UNSUPPORTED_DTYPE, JSQ_NON_FINITE,
 * JSQ_UNREACHABLE_TARGET, JSQ_WRITE_FAILED, JSQ_LIMIT.
 *
 * Deterministic: the same arrays, options and seed give the same bytes. O(elements) a pass, a handful of
 * passes. With a state it holds arrays of the gradient's size in memory, otherwise a few blocks for each
 * thread.
 */
JSQ_API int jsq_compress(const struct jsq_array* arrays, size_t count, const struct jsq_options* options,
                         void** frame, size_t* size, struct jsq_report* report);

/** The same to a file, which appears, or is replaced, only when it is complete.
 * @return as jsq_compress(); JSQ_WRITE_FAILED also when the file cannot be written. */
JSQ_API int jsq_compress_file(const struct jsq_array* arrays, size_t count, const struct jsq_options* options,
                              const char* path, struct jsq_report* report);

/** The same for arrays in the memory of a CUDA device: `data` are device pointers to contiguous JSQ_F32,
 * JSQ_F16 or JSQ_BF16 in the machine's byte order. Methods that run on the device read JSQ_F32 where it lies,
 * without a copy, and the others from a copy that is made there. `stream` is a cudaStream_t, NULL the default
 * one; the values are those when what was put on it before is done. options->state must be NULL. The frame is
 * in host memory; jsq_copy_to_device() brings it over.
 * @return what jsq_compress() returns; JSQ_BACKEND_UNAVAILABLE without a device or where the method does not
 * run there, JSQ_UNSUPPORTED_DTYPE for other types. The bytes are those of jsq_compress(). */
JSQ_API int jsq_compress_device(const struct jsq_array* arrays, size_t count,
                                const struct jsq_options* options, void* stream, void** frame, size_t* size,
                                struct jsq_report* report);
/** Copies bytes to device memory behind what is on `stream`; returns when they are there.
 * @return JSQ_OK, JSQ_USAGE, JSQ_BACKEND_UNAVAILABLE. */
JSQ_API int jsq_copy_to_device(const void* bytes, size_t size, void* device, void* stream);
/** Frees what jsq_compress() or jsq_state_save_memory() gave out. NULL is allowed. */
JSQ_API void jsq_free(void* memory);

/* --- Noise and bounds --- */

/**
 * The noise of one allocator, by its models and measured.
 *
 * @param options    the method, which must allocate bits (jointsq), and the target; NULL: the defaults. No
 * state.
 * @param allocator  "exact", "literal", "sampled" or "reallocated"
 * @return what jsq_compress() returns; JSQ_UNKNOWN_NAME for another allocator.
 *
 * Deterministic. Memory: five bytes an element beside what jsq_compress() needs.
 */
JSQ_API int jsq_noise(const struct jsq_array* arrays, size_t count, const struct jsq_options* options,
                      const char* allocator, struct jsq_noise_report* noise);

/** Bounds of the arrays' values, with the source models "pooled" (one distribution for all elements),
 * "tensors" (one for each tensor) and "scales" (one for each half octave of row times column scale). Reads
 * the arrays twice and keeps histograms only.
 * @param threads  0: all cores; answers do not depend on it.
 * @return JSQ_USAGE, JSQ_UNSUPPORTED_DTYPE, JSQ_LIMIT. */
JSQ_API int jsq_bounds_new(const struct jsq_array* arrays, size_t count, unsigned threads,
                           jsq_bounds** bounds);

/** The least |g^ - g|^2 / |g|^2 at a size. `model`: "pooled", "tensors", "scales", or "shannon": Shannon's
 * lower bound of the pooled source in closed form. Milliseconds a part at first. @return JSQ_USAGE,
 * JSQ_UNKNOWN_NAME. */
JSQ_API int jsq_bounds_nmse(const jsq_bounds* bounds, const char* model, double bits_per_element,
                            double* nmse);

/** The least bits an element for an error: the inverse. @return JSQ_USAGE, JSQ_UNKNOWN_NAME. */
JSQ_API int jsq_bounds_bits(const jsq_bounds* bounds, const char* model, double nmse,
                            double* bits_per_element);

/** Frees bounds. NULL is allowed. */
JSQ_API void jsq_bounds_free(jsq_bounds* bounds);

/* --- State of a sequence --- */

/** A state before the first step; it takes over the method and the tensors of the first compression.
 * @return JSQ_USAGE (NULL), JSQ_LIMIT. */
JSQ_API int jsq_state_new(jsq_state** state);

/** A state that jsq_state_save() or `jsq compress --state-out` wrote.
 * @return JSQ_USAGE (NULL, or a frame that is no state), JSQ_NOT_FOUND, JSQ_READ_FAILED,
 * JSQ_UNSUPPORTED_FORMAT, JSQ_DAMAGED, JSQ_NEWER_FORMAT, JSQ_LIMIT. */
JSQ_API int jsq_state_open(const char* path, jsq_state** state);

/** The same from `size` bytes at `bytes`, read during the call only. */
JSQ_API int jsq_state_open_memory(const void* bytes, size_t size, jsq_state** state);

/** Writes a state to a file, which appears, or is replaced, only when it is complete.
 * @return JSQ_USAGE (NULL), JSQ_WRITE_FAILED, JSQ_LIMIT. */
JSQ_API int jsq_state_save(const jsq_state* state, const char* path);

/** The same to memory, to be freed with jsq_free(). */
JSQ_API int jsq_state_save_memory(const jsq_state* state, void** bytes, size_t* size);

/** Number of steps done, and the method that the state belongs to ("" before the first; valid until the next
 * compression with this state or jsq_state_free()). Either pointer may be NULL. @return JSQ_USAGE (NULL). */
JSQ_API int jsq_state_describe(const jsq_state* state, uint64_t* steps, const char** method);

/** An array that the state keeps for a tensor: "e" the residual, "u" and "v" of momentum correction, "m" of
 * Signum, "q" of low rank. Values in storage order, valid until the next compression with this state or
 * jsq_state_free(). @return JSQ_USAGE (NULL), JSQ_UNKNOWN_NAME. */
JSQ_API int jsq_state_array(const jsq_state* state, const char* tensor, const char* array,
                            const float** values, uint64_t* count);

/** Frees a state. NULL is allowed. */
JSQ_API void jsq_state_free(jsq_state* state);

/* --- Read --- */

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

/** Number of threads for later reads; 0, which it is at first, means all cores. @return JSQ_USAGE (NULL). */
JSQ_API int jsq_set_threads(jsq_frame* frame, unsigned threads);

/** Number of tensors in the frame, all dumps together. @return JSQ_USAGE (NULL). */
JSQ_API int jsq_tensor_count(const jsq_frame* frame, size_t* count);

/** Index of the tensor with a name ("path::name" where several dumps hold it). @return JSQ_USAGE,
 * JSQ_UNKNOWN_NAME. */
JSQ_API int jsq_find_tensor(const jsq_frame* frame, const char* name, size_t* index);

/** Describes tensor `index`, 0 to count - 1. @return JSQ_USAGE (NULL, no such index, a wrong size),
 * JSQ_LIMIT. */
JSQ_API int jsq_describe_tensor(const jsq_frame* frame, size_t index, struct jsq_tensor* tensor);

/** Number of metadata entries of the frame. @return JSQ_USAGE (NULL). */
JSQ_API int jsq_metadata_count(const jsq_frame* frame, size_t* count);

/** Metadata entry `index`, 0 to count - 1. @return JSQ_USAGE (NULL, no such index). */
JSQ_API int jsq_metadata(const jsq_frame* frame, size_t index, const char** key, const char** value);

/**
 * Decodes elements [first, first + count) of a tensor, in storage order, into `count` floats at `values`.
 * Only the blocks that hold them are read and checked. `values` may be NULL when `count` is 0.
 * @return JSQ_USAGE (NULL, no such index, a range beyond the tensor), JSQ_DAMAGED, JSQ_READ_FAILED,
 * JSQ_LIMIT.
 */
JSQ_API int jsq_read(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, float* values);

/** jsq_read() to device memory, behind what is on the cudaStream_t `stream` (NULL: the default one); returns
 * when the values are there. What the device can decode stays there; the rest comes by way of the host.
 * @return what jsq_read() returns; JSQ_BACKEND_UNAVAILABLE without a device. */
JSQ_API int jsq_read_device(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count,
                            float* device, void* stream);

/**
 * The same as jsq_read(), as little-endian elements of the tensor's own dtype, into `size` bytes at `out`;
 * `size` must be `count` elements exactly. Non-finite elements that were kept come back with every bit.
 */
JSQ_API int jsq_read_stored(const jsq_frame* frame, size_t index, uint64_t first, uint64_t count, void* out,
                            size_t size);

#ifdef __cplusplus
}
#endif

#endif
