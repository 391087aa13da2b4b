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

#define SHUFFLE __builtin_shufflevector

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

// Lane r holds the total of x[r], for less than kLanes totals cost: each step halves the vectors.
FASTRL_INLINE vfloat totals(vfloat* x) {
#if defined(__AVX512F__)
  for (int i = 0; i < 16; i += 4) {
    for (int j = i; j < i + 4; j += 2)
      x[j] = SHUFFLE(x[j], x[j + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29) +
             SHUFFLE(x[j], x[j + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    x[i] = SHUFFLE(x[i], x[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29) +
           SHUFFLE(x[i], x[i + 2], 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
  }
  const auto join = [](vfloat a, vfloat b) __attribute__((always_inline)) {
    return SHUFFLE(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27) +
           SHUFFLE(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
  return join(join(x[0], x[4]), join(x[8], x[12]));
#elif defined(__AVX2__)
  for (int i = 0; i < 8; i += 4) {
    for (int j = i; j < i + 4; j += 2)
      x[j] = SHUFFLE(x[j], x[j + 1], 0, 8, 1, 9, 4, 12, 5, 13) +
             SHUFFLE(x[j], x[j + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    x[i] = SHUFFLE(x[i], x[i + 2], 0, 1, 8, 9, 4, 5, 12, 13) +
           SHUFFLE(x[i], x[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  return SHUFFLE(x[0], x[4], 0, 1, 2, 3, 8, 9, 10, 11) + SHUFFLE(x[0], x[4], 4, 5, 6, 7, 12, 13, 14, 15);
#else
  for (int j = 0; j < 4; j += 2)
    x[j] = SHUFFLE(x[j], x[j + 1], 0, 4, 1, 5) + SHUFFLE(x[j], x[j + 1], 2, 6, 3, 7);
  return SHUFFLE(x[0], x[2], 0, 1, 4, 5) + SHUFFLE(x[0], x[2], 2, 3, 6, 7);
#endif
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

// e^x of |x| <= 87 for softmax, in fewer steps than vexp: 2^n 2^f with n + f = x / ln 2, |f| <= 1/2. Relative
// error 2e-7 + 4e-8 |x|, from rounding 1 / ln 2.
FASTRL_INLINE vfloat vexp_near_0(vfloat x) {
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
  return (vfloat)((vuint)p + ((vuint)shifted << 23));
}

// Of x <= 0: 0 below the normal numbers.
FASTRL_INLINE vfloat vexp_of_negative(vfloat x) { return select(x < -87.0f, vfloat{}, vexp_near_0(x)); }

// Logits up to here need no maximum taken off before exp, in either direction.
constexpr float kBounded = 60;

// Of logits, kLanes at a time; NaN leaves it as it is.
struct Range {
  vfloat low = broadcast(kInf), high = broadcast(-kInf);

  FASTRL_INLINE void add(vfloat x) { low = vmin(x, low), high = vmax(x, high); }
  FASTRL_INLINE bool bounded() const { return highest(vmax(high, -low)) <= kBounded; }
};

// Softmax of a row: the sums of e = exp(x - shift) and of e * weight. The shift is 0 where the logits are
// bounded, else their maximum.
struct Exponentials {
  float shift;
  vfloat sum, weighted;  // in all lanes together
};

// Also gives take(i, e). Not `shifted`, the logits are taken for bounded: `range` tells afterwards.
template <bool kShifted, class Take>
FASTRL_INLINE Exponentials exponentials(const float* x, int64_t n, const float* weight, Range* range,
                                        Take take) {
  float shift = 0;
  if (kShifted) {
    Range own;
    for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) { own.add(load_atoms(x, i, n)); });
    if (!own.bounded()) shift = highest(own.high);
  }
  vfloat sum = {}, weighted = {};
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat v = load_atoms(x, i, n);
    if (!kShifted) range->add(v);
    vfloat e = kShifted ? vexp_of_negative(v - shift) : vexp_near_0(v);
    take(i, e);
    e = select(fresh, e, vfloat{});
    sum += e;
    if (weight != nullptr) weighted += e * load_atoms(weight, i, n);
  });
  return {shift, sum, weighted};
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
