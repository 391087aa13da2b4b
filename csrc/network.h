// Small multilayer perceptrons on the CPU: forward, backward, and the fused clip + Adam + Polyak step, all
// over flat float32 vectors. A network is a forest of dense layers that read the input or another layer's
// output.
#pragma once

#include <cstdint>

namespace fastrl {

constexpr int64_t kPad = 16;  // rows of activations are padded to this many floats, the widest vector's lanes
constexpr int64_t kRowBlock = 64;  // rows that go through all layers together, so that they stay in cache

enum class Activation : int { none = 0, tanh = 1, relu = 2, silu = 3 };

struct Layer {
  int64_t in, out;
  int64_t in_ld, out_ld;  // padded to kPad
  int64_t weight, bias;   // offsets into the parameters: weight [in, out], bias [out]
  int64_t source;         // layer whose output is read; -1: the network's input
  int64_t column;         // first column of y written; -1: hidden
  int64_t tape, pre;      // row offset of the outputs, and of the pre-activations (silu only), in the tape
  Activation activation;
};

// q[a, k] = v[k] + adv[a, k] - mean_a' adv[a', k] (Wang et al. 2016, equation 9)
struct Dueling {
  int64_t value, advantage;  // layers
  int64_t column, actions, atoms;
};

struct Plan {
  const Layer* layers;
  int64_t n_layers;
  const Dueling* duelings;
  int64_t n_duelings;
  int64_t in, out;  // columns of x and y
  int64_t tape;     // floats a row of the tape
  int64_t params;   // floats in the parameter vector
};

struct AdamStep {
  float lr, beta1, beta2, eps;
  float correction1, correction2;  // 1 - beta^t
  float scale;                     // what the gradient is multiplied by before use (global-norm clip)
};

struct NetworkTable {
  // y [batch, ldy]; tape: [layer][batch][ld] or null to keep nothing; scratch: scratch_floats(plan).
  void (*forward)(const Plan& plan, const float* params, const float* x, int64_t ldx, int64_t batch, float* y,
                  int64_t ldy, float* tape, float* scratch);
  // grad (accumulated into) and dx may each be null.
  void (*backward)(const Plan& plan, const float* params, const float* x, int64_t ldx, int64_t batch,
                   const float* dy, int64_t lddy, const float* tape, float* grad, float* dx, int64_t lddx,
                   float* scratch);
  double (*sum_squares)(const float* x, int64_t n);
  void (*adam)(float* params, const float* grad, float* m, float* v, int64_t n, const AdamStep& step);
  void (*polyak)(float* target, const float* params, int64_t n, float tau);
};

const NetworkTable& network();

static inline int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

}  // namespace fastrl
