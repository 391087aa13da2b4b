// Rows of atoms, kLanes atoms of one row at a time.
#pragma once

#include "distributional.h"
#include "rows.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

FASTRL_INLINE vint lanes() {
  vint lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane;
}

FASTRL_INLINE int64_t padded(int64_t n) { return (n + kLanes - 1) / kLanes * kLanes; }

typedef float vquarter __attribute__((vector_size(16)));

// Of all lanes, in the order that costs least.
template <class Join>
FASTRL_INLINE float reduce(vfloat x, Join join) {
  vquarter part[kLanes / 4];
  __builtin_memcpy(part, &x, sizeof x);
  for (int width = kLanes / 8; width > 0; width /= 2)
    for (int i = 0; i < width; ++i) part[i] = join(part[i], part[i + width]);
  const vquarter a = part[0];
  const vquarter b = join(a, vquarter{a[2], a[3], a[0], a[1]});
  return join(b, vquarter{b[1], b[0], b[3], b[2]})[0];
}

FASTRL_INLINE float total(vfloat x) {
  return reduce(x, [](vquarter a, vquarter b) __attribute__((always_inline)) { return a + b; });
}

// A NaN may be passed over.
FASTRL_INLINE float highest(vfloat x) {
  return reduce(x, [](vquarter a, vquarter b) __attribute__((always_inline)) { return a > b ? a : b; });
}

// Calls body(i, fresh) for vectors x[i, i + kLanes) that cover [0, n). The last begins before where the one
// ahead of it ended, if it must, as memory behind the row is not ours: fresh has the lanes not seen before.
template <class Body>
FASTRL_INLINE void for_atoms(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, vint{} == 0);
  if (i == n) return;
  const int64_t begin = n < kLanes ? 0 : n - kLanes;
  body(begin, (lanes() >= static_cast<int32_t>(i - begin)) & (lanes() < static_cast<int32_t>(n - begin)));
}

// Lanes from n on repeat the last atom.
FASTRL_INLINE vfloat load_atoms(const float* x, int64_t i, int64_t n) {
  return n >= kLanes ? load(x + i) : gather<vfloat>(x, 1, static_cast<int>(n));
}

FASTRL_INLINE void store_atoms(float* x, int64_t i, int64_t n, vfloat v) {
  if (n >= kLanes) return store(x + i, v);
  for (int k = 0; k < n; ++k) x[k] = v[k];
}

// e^x of x <= 0 for softmax, in fewer steps than vexp: 2^n 2^f with n + f = x / ln 2, |f| <= 1/2, and 0 below
// the normal numbers. Relative error 2e-7 + 4e-8 |x|, from rounding 1 / ln 2.
FASTRL_INLINE vfloat vexp_of_negative(vfloat x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const vfloat shifted = x * 1.44269504088896341f + shift;
  const vfloat f = x * 1.44269504088896341f - (shifted - shift);
  vfloat p = f * 1.325346297e-03f + 9.672367945e-03f;
  p = p * f + 5.550799891e-02f;
  p = p * f + 2.402222306e-01f;
  p = p * f + 6.931468844e-01f;
  p = p * f + 1.0f;
  // The shift left drops what the rounding added, so that n joins the exponent; of NaN it leaves 0. Unsigned,
  // as what is not selected may wrap.
  typedef uint32_t vuint __attribute__((vector_size(kLanes * sizeof(uint32_t))));
  const vfloat e = (vfloat)((vuint)p + ((vuint)shifted << 23));
  return select(x < -87.0f, vfloat{}, e);
}

// Softmax of a row: its maximum, and the sums of e = exp(x - maximum) and of e * weight.
struct Exponentials {
  float highest, sum, weighted;
};

// Also writes e [n].
FASTRL_INLINE Exponentials exponentials(const float* x, int64_t n, const float* weight, float* e_of_x) {
  vfloat top = broadcast(-kInf);
  for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) { top = vmax(top, load_atoms(x, i, n)); });
  const float highest_x = highest(top);
  vfloat sum = {}, weighted = {};
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat e = vexp_of_negative(load_atoms(x, i, n) - highest_x);
    store_atoms(e_of_x, i, n, e);
    const vfloat new_e = select(fresh, e, vfloat{});
    sum += new_e;
    weighted += new_e * load_atoms(weight, i, n);
  });
  return {highest_x, total(sum), total(weighted)};
}

// Means of weight [n] under the softmax of kRows rows, which are computed at once: the steps of a row wait
// for each other.
template <int kRows>
FASTRL_INLINE void softmax_means(const float* x, int64_t stride, int64_t n, const float* weight,
                                 float* mean) {
  vfloat top[kRows], sum[kRows], weighted[kRows];
#pragma GCC unroll 8
  for (int k = 0; k < kRows; ++k) top[k] = broadcast(-kInf), sum[k] = weighted[k] = vfloat{};
  for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) {
#pragma GCC unroll 8
    for (int k = 0; k < kRows; ++k) top[k] = vmax(top[k], load_atoms(x + k * stride, i, n));
  });
#pragma GCC unroll 8
  for (int k = 0; k < kRows; ++k) top[k] = broadcast(highest(top[k]));
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat w = load_atoms(weight, i, n);
#pragma GCC unroll 8
    for (int k = 0; k < kRows; ++k) {
      const vfloat e = select(fresh, vexp_of_negative(load_atoms(x + k * stride, i, n) - top[k]), vfloat{});
      sum[k] += e;
      weighted[k] += e * w;
    }
  });
#pragma GCC unroll 8
  for (int k = 0; k < kRows; ++k) mean[k] = total(weighted[k]) / total(sum[k]);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
