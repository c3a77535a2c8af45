/* What a worker of a training run does with libjsq, in C: every step it compresses the named gradients of its
 * layers with error feedback, and reads one layer of a received frame by name, and a slice of another. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "jsq/jsq.h"

enum { inputs = 64, outputs = 256, weights = inputs * outputs, steps = 5, slice = 100 };

static int failed(const char* what, int code) {
  fprintf(stderr, "training_step: %s: %s (%s)\n", what, jsq_last_error(), jsq_error_name(code));
  return jsq_exit_code(code);
}

/* Made-up gradients with a few large and many small elements; they change slowly from step to step. */
static void make_gradients(int step, float* weight, float* bias) {
  int i;
  for (i = 0; i < weights; ++i) weight[i] = (float)(1e-3 * pow(sin(0.37 * i + 0.01 * step), 9));
  for (i = 0; i < outputs; ++i) bias[i] = (float)(1e-2 * cos(0.5 * i + 0.01 * step));
}

/* One step: top-k at ratio 20, the residual kept in `state`. */
static int compress_step(const float* weight, const float* bias, jsq_state* state, void** frame, size_t* size,
                         struct jsq_report* report) {
  const uint64_t weight_shape[] = {outputs, inputs}, bias_shape[] = {outputs};
  const struct jsq_array layers[] = {{weight, JSQ_F32, 2, weight_shape, "fc.weight", 0, 0},
                                     {bias, JSQ_F32, 1, bias_shape, "fc.bias", 0, 0}};
  struct jsq_options options;
  memset(&options, 0, sizeof options);
  options.size = sizeof options;
  options.method = "topk";
  options.target = "ratio=20";
  options.state = state;
  return jsq_compress(layers, 2, &options, frame, size, report);
}

/* What another worker does with the frame: the whole bias, and `slice` weights from the middle on. */
static int read_layers(const void* bytes, size_t size, float* bias, float* some_weights) {
  jsq_frame* frame = NULL;
  size_t index = 0;
  int code = jsq_open_memory(bytes, size, &frame);
  if (code == JSQ_OK) code = jsq_find_tensor(frame, "fc.bias", &index);
  if (code == JSQ_OK) code = jsq_read(frame, index, 0, outputs, bias);
  if (code == JSQ_OK) code = jsq_find_tensor(frame, "fc.weight", &index);
  if (code == JSQ_OK) code = jsq_read(frame, index, weights / 2, slice, some_weights);
  jsq_close(frame);
  return code;
}

/* Runs the steps and sums up what the bias was and what was received of it. */
static int run(jsq_state* state, double* bias_sum, double* received_sum) {
  static float weight[weights], bias[outputs], received[outputs], some_weights[slice];
  int step, i;
  for (step = 0; step < steps; ++step) {
    void* frame = NULL;
    size_t size = 0;
    struct jsq_report report;
    int code;
    memset(&report, 0, sizeof report);
    report.size = sizeof report;
    make_gradients(step, weight, bias);
    code = compress_step(weight, bias, state, &frame, &size, &report);
    if (code == JSQ_OK) code = read_layers(frame, size, received, some_weights);
    jsq_free(frame);
    if (code != JSQ_OK) return code;
    printf("step %d: %zu bytes for %d, nmse of gradient and residual %.3f\n", step, size,
           (int)report.input_bytes, report.nmse);
    for (i = 0; i < outputs; ++i) {
      bias_sum[i] += bias[i];
      received_sum[i] += received[i];
    }
  }
  return JSQ_OK;
}

int main(void) {
  static double bias_sum[outputs], received_sum[outputs];
  const float* residual = NULL;
  uint64_t count = 0;
  double largest = 0;
  jsq_state* state = NULL;
  int i, code = jsq_state_new(&state);
  if (code == JSQ_OK) code = run(state, bias_sum, received_sum);
  if (code == JSQ_OK) code = jsq_state_array(state, "fc.bias", "e", &residual, &count);
  for (i = 0; code == JSQ_OK && i < outputs; ++i)
    largest = fmax(largest, fabs(bias_sum[i] - received_sum[i] - residual[i]));
  jsq_state_free(state);
  if (code != JSQ_OK) return failed("a step", code);
  printf("what was not sent is in the residual: the sums agree to %.1g\n", largest);
  return largest < 1e-6 ? 0 : 1;
}
