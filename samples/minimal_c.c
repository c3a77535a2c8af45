/* The smallest C user of libjsq: compresses a made-up gradient to a given largest error, reads it back and
 * checks it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "jsq/jsq.h"

enum { rows = 300, columns = 256, elements = rows * columns };

static int failed(const char* what, int code) {
  fprintf(stderr, "minimal_c: %s: %s (%s)\n", what, jsq_last_error(), jsq_error_name(code));
  return code;
}

/* Compresses `values` so that no element is off by more than `bound`. */
static int compress(const float* values, double bound, void** frame, size_t* size) {
  const uint64_t shape[] = {rows, columns};
  const struct jsq_array array = {values, JSQ_F32, 2, shape, "layer1.weight", 0, 0};
  char target[64];
  struct jsq_options options = {.size = sizeof options};
  snprintf(target, sizeof target, "maxabs=%.9g", bound);
  options.target = target;
  return jsq_compress(&array, 1, &options, frame, size, NULL);
}

/* Decodes the whole first tensor of a frame in memory into `values`. */
static int decompress(const void* bytes, size_t size, float* values) {
  jsq_frame* frame = NULL;
  int code = jsq_open_memory(bytes, size, &frame);
  if (code == JSQ_OK) code = jsq_read(frame, 0, 0, elements, values);
  jsq_close(frame);
  return code;
}

static double largest_error(const float* a, const float* b) {
  double largest = 0;
  for (size_t i = 0; i < elements; ++i) largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
  return largest;
}

int main(void) {
  const double bound = 1e-4;
  static float values[elements], decoded[elements];
  void* frame = NULL;
  size_t size = 0;
  double error;
  int code;

  for (size_t i = 0; i < elements; ++i) values[i] = (float)(1e-3 * pow(sin(0.37 * (double)i), 9));
  code = compress(values, bound, &frame, &size);
  if (code != JSQ_OK) return failed("compress", code);
  code = decompress(frame, size, decoded);
  jsq_free(frame);
  if (code != JSQ_OK) return failed("decompress", code);

  error = largest_error(values, decoded);
  printf("jsq %s: %d elements in %zu bytes, largest error %.3g of %.3g allowed\n", jsq_version(), elements,
         size, error, bound);
  return error <= bound ? 0 : 1;
}
