// What an action is worth, and the gathering of a policy's rows, in each layout of a model; for files
// compiled once per instruction set.
#pragma once

#include <cstdint>

#include "model_rows.h"
#include "policy_sweeps.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

constexpr int kLanes = static_cast<int>(kRowLanes);
constexpr int64_t kMostPairs = 256, kMostOutcomes = 2048;  // of states whose actions are compared together

// product = weight * value of the states that follow.
template <class Index>
__attribute__((noinline)) void multiply(const double* weight, const Index* next, const double* v,
                                        int64_t size, double* product) {
  int64_t k = 0;
#ifdef __AVX512F__
  typedef double Vec __attribute__((vector_size(64)));
  for (; k + 8 <= size; k += 8) {
    Vec x, w;
    for (int i = 0; i < 8; ++i) x[i] = v[next[k + i]];
    __builtin_memcpy(&w, weight + k, sizeof w);
    w *= x;
    __builtin_memcpy(product + k, &w, sizeof w);
  }
#endif
  for (; k < size; ++k) product[k] = weight[k] * v[next[k]];
}

template <class Rows>
void evaluate_each(const Rows& rows, int64_t first, int64_t last, const Improve& b, double* q) {
  for (int64_t l = first; l < last; ++l) q[l - first] = b.model->reward[l] + b.gamma * rows.dot(l, b.value);
}

template <class Index>
struct PackedRows : Compressed<Index> {
  static constexpr bool kPacked = true;
  using Compressed<Index>::Compressed;

  void fetch_row(int64_t pair) const {
    const int64_t k = this->offset[pair], last = this->offset[pair + 1] - 1;
    __builtin_prefetch(this->next + k);
    __builtin_prefetch(this->next + last);
    __builtin_prefetch(this->weight + k);
    __builtin_prefetch(this->weight + (k + last) / 2);
    __builtin_prefetch(this->weight + last);
  }

  // q of the pairs [first, last), with the same sums as dot's.
  void evaluate(int64_t first, int64_t last, const Improve& b, double* q) const {
    const int64_t begin = this->offset[first], size = this->offset[last] - begin;
    if (size > kMostOutcomes) return evaluate_each(*this, first, last, b, q);
    double product[kMostOutcomes];
    multiply(this->weight + begin, this->next + begin, b.value, size, product);
    const double* p = product;
    for (int64_t l = first; l < last; ++l) {
      double sum = 0;
      for (const double* end = product + (this->offset[l + 1] - begin); p < end; ++p) sum += *p;
      q[l - first] = b.model->reward[l] + b.gamma * sum;
    }
  }

  void gather(int64_t pair, int64_t s, const PolicyRows& rows) const {
    const int64_t block = s >> rows.shift, stride = int64_t{1} << rows.shift;
    int64_t at = rows.slot[block] + (s & (stride - 1));
    for (int64_t k = this->offset[pair], end = this->offset[pair + 1]; k < end; ++k, at += stride) {
      rows.to[at] = static_cast<int32_t>(this->next[k]);
      rows.weight[at] = static_cast<float>(this->weight[k]);
      rows.exact[at] = this->weight[k];
    }
    for (; at < rows.slot[block + 1]; at += stride) {
      rows.to[at] = static_cast<int32_t>(s);
      rows.weight[at] = 0;
      rows.exact[at] = 0;
    }
  }
};

struct DenseRows : Dense {
  static constexpr bool kPacked = false;
  using Dense::Dense;

  void fetch_row(int64_t) const {}  // streams

  void evaluate(int64_t first, int64_t last, const Improve& b, double* q) const {
    evaluate_each(*this, first, last, b, q);
  }

  void gather(int64_t pair, int64_t s, const PolicyRows& rows) const {
    const double* row = weight + pair * states;
    float* to = rows.weight + s * states;
    for (int64_t k = 0; k < states; ++k) to[k] = static_cast<float>(row[k]);
  }
};

inline bool is_idle(const uint8_t* idle, int64_t s) { return idle != nullptr && idle[s]; }

// q of the policy's actions in kLanes states from s on.
inline void keep(const Improve& b, int64_t s, double* q) {
  const PolicyRows& rows = *b.rows;
  if (rows.shift == 0) {
    for (int i = 0; i < kLanes && s + i < rows.num_states; ++i) {
      double sum = 0;
      for (int64_t k = rows.slot[s + i], end = rows.slot[s + i + 1]; k < end; ++k)
        sum += rows.exact[k] * b.value[rows.to[k]];
      q[i] = rows.reward[s + i] + b.gamma * sum;
    }
    return;
  }
  const int64_t block = s >> rows.shift;
#ifdef __AVX512F__
  typedef double Vec __attribute__((vector_size(64)));
  Vec sums[2] = {};
  for (int64_t k = rows.slot[block], end = rows.slot[block + 1]; k < end; k += kLanes) {
    for (int half = 0; half < 2; ++half) {
      Vec x, w;
      for (int i = 0; i < 8; ++i) x[i] = b.value[rows.to[k + 8 * half + i]];
      __builtin_memcpy(&w, rows.exact + k + 8 * half, sizeof w);
      sums[half] += w * x;
    }
  }
  double sum[kLanes];
  __builtin_memcpy(sum, sums, sizeof sum);
#else
  double sum[kLanes] = {};
  for (int64_t k = rows.slot[block], end = rows.slot[block + 1]; k < end; k += kLanes)
    for (int i = 0; i < kLanes; ++i) sum[i] += rows.exact[k + i] * b.value[rows.to[k + i]];
#endif
  for (int i = 0; i < kLanes; ++i) q[i] = rows.reward[s + i] + b.gamma * sum[i];
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
