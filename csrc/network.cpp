#include "network.h"

#include <cmath>
#include <cstdint>

#include "vecmath.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// ---- matrix products
// ---------------------------------------------------------------------------------------------- Every
// product of the network, forward and both backward ones, is C[m, n] (+)= A B with A read element by element
// through two strides and broadcast, B and C read in vectors along n. Register blocks of MR rows x NV vectors
// are sized to the register file; each element's sum over k runs in order, so results do not depend on the
// blocking.

constexpr int kMaxVectors = kLanes == 16 ? 4 : 2;
constexpr int kWideRows = kLanes == 16 ? 12 : 6;  // rows when a block is at most two vectors wide

template <int MR, int NV>
inline __attribute__((always_inline)) void block(int64_t k, const float* a, int64_t a_row, int64_t a_col,
                                                 const float* b, int64_t ldb, const float* bias, float* c,
                                                 int64_t ldc, bool accumulate) {
  vfloat sum[MR][NV];
  for (int i = 0; i < MR; ++i) {
    for (int j = 0; j < NV; ++j) {
      if (accumulate)
        sum[i][j] = load(c + i * ldc + j * kLanes);
      else if (bias != nullptr)
        sum[i][j] = load(bias + j * kLanes);
      else
        sum[i][j] = broadcast(0.0f);
    }
  }
  for (int64_t p = 0; p < k; ++p) {
    vfloat row[NV];
    for (int j = 0; j < NV; ++j) row[j] = load(b + p * ldb + j * kLanes);
    for (int i = 0; i < MR; ++i) {
      const vfloat x = broadcast(a[i * a_row + p * a_col]);
      for (int j = 0; j < NV; ++j) sum[i][j] += x * row[j];
    }
  }
  for (int i = 0; i < MR; ++i)
    for (int j = 0; j < NV; ++j) store(c + i * ldc + j * kLanes, sum[i][j]);
}

template <int NV, int MR>
void rows(int64_t m, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b, int64_t ldb,
          const float* bias, float* c, int64_t ldc, bool accumulate) {
  while (m >= MR) {
    block<MR, NV>(k, a, a_row, a_col, b, ldb, bias, c, ldc, accumulate);
    a += MR * a_row;
    c += MR * ldc;
    m -= MR;
  }
  if constexpr (MR > 1) {
    if (m > 0) rows<NV, (MR + 1) / 2>(m, k, a, a_row, a_col, b, ldb, bias, c, ldc, accumulate);
  }
}

void multiply(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_row, int64_t a_col, const float* b,
              int64_t ldb, const float* bias, float* c, int64_t ldc, bool accumulate) {
  int64_t done = 0;
  while (done < n) {
    const int64_t vectors = (n - done) / kLanes;
    const float* panel = b + done;
    const float* start = bias == nullptr ? nullptr : bias + done;
    if (kMaxVectors == 4 && vectors >= 4) {
      rows<kMaxVectors, 6>(m, k, a, a_row, a_col, panel, ldb, start, c + done, ldc, accumulate);
      done += 4 * kLanes;
    } else if (kMaxVectors == 4 && vectors == 3) {
      rows<kMaxVectors - 1, 8>(m, k, a, a_row, a_col, panel, ldb, start, c + done, ldc, accumulate);
      done += 3 * kLanes;
    } else if (vectors >= 2) {
      rows<2, kWideRows>(m, k, a, a_row, a_col, panel, ldb, start, c + done, ldc, accumulate);
      done += 2 * kLanes;
    } else {
      rows<1, 12>(m, k, a, a_row, a_col, panel, ldb, start, c + done, ldc, accumulate);
      done += kLanes;
    }
  }
}

// ---- parameters in the form the products read
// ---------------------------------------------------------------------

void pack_columns(const float* from, int64_t rows_, int64_t n, float* to, int64_t ld) {
  for (int64_t i = 0; i < rows_; ++i) {
    for (int64_t j = 0; j < n; ++j) to[i * ld + j] = from[i * n + j];
    for (int64_t j = n; j < ld; ++j) to[i * ld + j] = 0.0f;
  }
}

void transpose(const float* from, int64_t rows_, int64_t n, float* to, int64_t ld) {
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < rows_; ++i) to[j * ld + i] = from[i * n + j];
    for (int64_t i = rows_; i < ld; ++i) to[j * ld + i] = 0.0f;
  }
}

void zero(float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) x[i] = 0.0f;
}

bool is_padded(const Layer& layer) { return layer.out != layer.out_ld; }

struct Forward {
  const float* weight;
  const float* bias;
};

// Where a layer's weights are read from: the parameters themselves when their rows are whole vectors.
Forward place(const Layer& layer, const float* params, float*& scratch) {
  Forward at{params + layer.weight, params + layer.bias};
  if (is_padded(layer)) {
    pack_columns(at.weight, layer.in, layer.out, scratch, layer.out_ld);
    at.weight = scratch;
    scratch += layer.in * layer.out_ld;
    pack_columns(at.bias, 1, layer.out, scratch, layer.out_ld);
    at.bias = scratch;
    scratch += layer.out_ld;
  }
  return at;
}

// ---- activations
// ---------------------------------------------------------------------------------------------------

void activate(Activation kind, float* y, float* pre, int64_t n) {
  switch (kind) {
    case Activation::tanh:
      for (int64_t i = 0; i < n; i += kLanes) store(y + i, vtanh(load(y + i)));
      break;
    case Activation::relu:
      for (int64_t i = 0; i < n; i += kLanes) {
        const vfloat x = load(y + i);
        store(y + i, x < broadcast(0.0f) ? broadcast(0.0f) : x);  // lets NaN through
      }
      break;
    case Activation::silu:
      for (int64_t i = 0; i < n; i += kLanes) {
        const vfloat x = load(y + i);
        store(pre + i, x);
        store(y + i, x * vsigmoid(x));
      }
      break;
    case Activation::none:
      break;
  }
}

// dy *= activation'(.)
void activate_backward(Activation kind, const float* y, const float* pre, float* dy, int64_t n) {
  const vfloat one = broadcast(1.0f);
  switch (kind) {
    case Activation::tanh:
      for (int64_t i = 0; i < n; i += kLanes) {
        const vfloat t = load(y + i);
        store(dy + i, load(dy + i) * (one - t * t));
      }
      break;
    case Activation::relu:
      for (int64_t i = 0; i < n; i += kLanes)
        store(dy + i, load(y + i) > broadcast(0.0f) ? load(dy + i) : broadcast(0.0f));
      break;
    case Activation::silu:
      for (int64_t i = 0; i < n; i += kLanes) {
        const vfloat x = load(pre + i);
        const vfloat s = vsigmoid(x);
        store(dy + i, load(dy + i) * (s * (one + x * (one - s))));
      }
      break;
    case Activation::none:
      break;
  }
}

// ---- dueling heads
// -------------------------------------------------------------------------------------------------

void dueling_forward(const Dueling& d, const float* value, int64_t ldv, const float* advantage, int64_t lda,
                     int64_t batch, float* y, int64_t ldy) {
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t k = 0; k < d.atoms; ++k) {
      float mean = 0.0f;
      for (int64_t a = 0; a < d.actions; ++a) mean += advantage[b * lda + a * d.atoms + k];
      const float base = value[b * ldv + k] - mean / static_cast<float>(d.actions);
      for (int64_t a = 0; a < d.actions; ++a)
        y[b * ldy + d.column + a * d.atoms + k] = base + advantage[b * lda + a * d.atoms + k];
    }
  }
}

void dueling_backward(const Dueling& d, const float* dy, int64_t lddy, int64_t batch, float* dvalue,
                      int64_t ldv, float* dadvantage, int64_t lda) {
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t k = 0; k < d.atoms; ++k) {
      float sum = 0.0f;
      for (int64_t a = 0; a < d.actions; ++a) sum += dy[b * lddy + d.column + a * d.atoms + k];
      dvalue[b * ldv + k] = sum;
      const float mean = sum / static_cast<float>(d.actions);
      for (int64_t a = 0; a < d.actions; ++a)
        dadvantage[b * lda + a * d.atoms + k] = dy[b * lddy + d.column + a * d.atoms + k] - mean;
    }
  }
}

// ---- the two passes
// ------------------------------------------------------------------------------------------------

constexpr int kMaxLayers = 64;  // checked where plans are made

void forward(const Plan& plan, const float* params, const float* x, int64_t ldx, int64_t batch, float* y,
             int64_t ldy, float* tape, float* scratch) {
  Forward at[kMaxLayers];
  for (int64_t l = 0; l < plan.n_layers; ++l) at[l] = place(plan.layers[l], params, scratch);
  for (int64_t start = 0; start < batch; start += kRowBlock) {
    const int64_t n = batch - start < kRowBlock ? batch - start : kRowBlock;
    // without a tape every block reuses the same rows of scratch
    float* const base = tape == nullptr ? scratch : tape;
    const int64_t tall = tape == nullptr ? kRowBlock : batch;
    const int64_t row = tape == nullptr ? 0 : start;
    const auto rows_of = [&](int64_t offset, int64_t ld) { return base + offset * tall + row * ld; };
    for (int64_t l = 0; l < plan.n_layers; ++l) {
      const Layer& layer = plan.layers[l];
      const bool reads_x = layer.source < 0;
      const float* in = reads_x ? x + start * ldx : rows_of(plan.layers[layer.source].tape, layer.in_ld);
      const int64_t in_stride = reads_x ? ldx : layer.in_ld;
      float* out = rows_of(layer.tape, layer.out_ld);
      multiply(n, layer.out_ld, layer.in, in, in_stride, 1, at[l].weight, layer.out_ld, at[l].bias, out,
               layer.out_ld, false);
      activate(layer.activation, out, rows_of(layer.pre, layer.out_ld), n * layer.out_ld);
      if (layer.column >= 0) {
        for (int64_t i = 0; i < n; ++i)
          for (int64_t j = 0; j < layer.out; ++j)
            y[(start + i) * ldy + layer.column + j] = out[i * layer.out_ld + j];
      }
    }
    for (int64_t i = 0; i < plan.n_duelings; ++i) {
      const Dueling& d = plan.duelings[i];
      const Layer& v = plan.layers[d.value];
      const Layer& a = plan.layers[d.advantage];
      dueling_forward(d, rows_of(v.tape, v.out_ld), v.out_ld, rows_of(a.tape, a.out_ld), a.out_ld, n,
                      y + start * ldy, ldy);
    }
  }
}

struct Backward {
  const float* transposed;  // [out, in_ld], or null where no gradient flows further down
  float* grad_weight;       // [in, out_ld]
  float* grad_bias;
};

void backward(const Plan& plan, const float* params, const float* x, int64_t ldx, int64_t batch,
              const float* dy, int64_t lddy, const float* tape, float* grad, float* dx, int64_t lddx,
              float* scratch) {
  Backward at[kMaxLayers];
  for (int64_t l = 0; l < plan.n_layers; ++l) {
    const Layer& layer = plan.layers[l];
    at[l] = {nullptr, nullptr, nullptr};
    if (layer.source >= 0 || dx != nullptr) {
      transpose(params + layer.weight, layer.in, layer.out, scratch, layer.in_ld);
      at[l].transposed = scratch;
      scratch += layer.out * layer.in_ld;
    }
    if (grad != nullptr && is_padded(layer)) {
      at[l].grad_weight = scratch;
      at[l].grad_bias = scratch + layer.in * layer.out_ld;
      zero(scratch, (layer.in + 1) * layer.out_ld);
      scratch += (layer.in + 1) * layer.out_ld;
    } else if (grad != nullptr) {
      at[l].grad_weight = grad + layer.weight;
      at[l].grad_bias = grad + layer.bias;
    }
  }
  float* const deltas = scratch;  // [layer][kRowBlock][ld]: dL/d(output) of each layer for the current rows
  float* const dx_rows = deltas + kRowBlock * plan.tape;
  for (int64_t start = 0; start < batch; start += kRowBlock) {
    const int64_t n = batch - start < kRowBlock ? batch - start : kRowBlock;
    bool touched[kMaxLayers] = {};
    bool touched_dx = false;
    const auto delta_of = [&](const Layer& layer) { return deltas + kRowBlock * layer.tape; };
    const auto rows_of = [&](int64_t offset, int64_t ld) { return tape + offset * batch + start * ld; };
    for (int64_t i = 0; i < plan.n_duelings; ++i) {
      const Dueling& d = plan.duelings[i];
      const Layer& v = plan.layers[d.value];
      const Layer& a = plan.layers[d.advantage];
      zero(delta_of(v), n * v.out_ld);
      zero(delta_of(a), n * a.out_ld);
      dueling_backward(d, dy + start * lddy, lddy, n, delta_of(v), v.out_ld, delta_of(a), a.out_ld);
      touched[d.value] = touched[d.advantage] = true;
    }
    for (int64_t l = plan.n_layers - 1; l >= 0; --l) {
      const Layer& layer = plan.layers[l];
      float* delta = delta_of(layer);
      if (layer.column >= 0) {
        for (int64_t i = 0; i < n; ++i) {
          const float* from = dy + (start + i) * lddy + layer.column;
          for (int64_t j = 0; j < layer.out; ++j) delta[i * layer.out_ld + j] = from[j];
          for (int64_t j = layer.out; j < layer.out_ld; ++j) delta[i * layer.out_ld + j] = 0.0f;
        }
      } else if (!touched[l]) {
        zero(delta, n * layer.out_ld);  // a hidden layer that nothing reads
      }
      activate_backward(layer.activation, rows_of(layer.tape, layer.out_ld), rows_of(layer.pre, layer.out_ld),
                        delta, n * layer.out_ld);
      if (grad != nullptr) {
        const bool reads_x = layer.source < 0;
        const float* in = reads_x ? x + start * ldx : rows_of(plan.layers[layer.source].tape, layer.in_ld);
        const int64_t in_stride = reads_x ? ldx : layer.in_ld;
        multiply(layer.in, layer.out_ld, n, in, 1, in_stride, delta, layer.out_ld, nullptr, at[l].grad_weight,
                 layer.out_ld, true);
        for (int64_t j = 0; j < layer.out_ld; j += kLanes) {
          vfloat sum = load(at[l].grad_bias + j);
          for (int64_t i = 0; i < n; ++i) sum += load(delta + i * layer.out_ld + j);
          store(at[l].grad_bias + j, sum);
        }
      }
      if (at[l].transposed == nullptr) continue;
      float* into = layer.source < 0 ? dx_rows : delta_of(plan.layers[layer.source]);
      bool& accumulate = layer.source < 0 ? touched_dx : touched[layer.source];
      multiply(n, layer.in_ld, layer.out, delta, layer.out_ld, 1, at[l].transposed, layer.in_ld, nullptr,
               into, layer.in_ld, accumulate);
      accumulate = true;
    }
    if (dx != nullptr) {
      const int64_t ld = padded(plan.in);
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < plan.in; ++j) dx[(start + i) * lddx + j] = dx_rows[i * ld + j];
    }
  }
  for (int64_t l = 0; grad != nullptr && l < plan.n_layers; ++l) {
    const Layer& layer = plan.layers[l];
    if (!is_padded(layer)) continue;
    for (int64_t i = 0; i < layer.in; ++i)
      for (int64_t j = 0; j < layer.out; ++j)
        grad[layer.weight + i * layer.out + j] += at[l].grad_weight[i * layer.out_ld + j];
    for (int64_t j = 0; j < layer.out; ++j) grad[layer.bias + j] += at[l].grad_bias[j];
  }
}

// ---- flat vectors
// --------------------------------------------------------------------------------------------------

double sum_squares(const float* x, int64_t n) {
  constexpr int64_t kChunk = 4096;  // float partial sums stay short
  double total = 0.0;
  for (int64_t start = 0; start < n; start += kChunk) {
    const int64_t stop = start + kChunk < n ? start + kChunk : n;
    vfloat sum[4] = {broadcast(0.0f), broadcast(0.0f), broadcast(0.0f), broadcast(0.0f)};
    int64_t i = start;
    for (; i + 4 * kLanes <= stop; i += 4 * kLanes) {
      for (int j = 0; j < 4; ++j) {
        const vfloat g = load(x + i + j * kLanes);
        sum[j] += g * g;
      }
    }
    const vfloat s = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int j = 0; j < kLanes; ++j) total += static_cast<double>(s[j]);
    for (; i < stop; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return total;
}

// torch's Adam: eps is added after the bias-corrected square root.
void adam(float* __restrict params, const float* __restrict grad, float* __restrict m, float* __restrict v,
          int64_t n, const AdamStep& s) {
  const float step = s.lr / s.correction1;
  const float root = 1.0f / std::sqrt(s.correction2);
  for (int64_t i = 0; i < n; ++i) {
    const float g = grad[i] * s.scale;
    const float mean = s.beta1 * m[i] + (1.0f - s.beta1) * g;
    const float square = s.beta2 * v[i] + (1.0f - s.beta2) * g * g;
    m[i] = mean;
    v[i] = square;
    params[i] -= step * mean / (__builtin_sqrtf(square) * root + s.eps);
  }
}

void polyak(float* target, const float* params, int64_t n, float tau) {
  for (int64_t i = 0; i < n; ++i) target[i] += tau * (params[i] - target[i]);
}

}  // namespace

extern const NetworkTable network_table;
const NetworkTable network_table = {forward, backward, sum_squares, adam, polyak};

}  // namespace FASTRL_ISA
}  // namespace fastrl
