// Vectors of kDoubles doubles (GCC vector extensions) and their powers, for files compiled once per
// instruction set. Everything has internal linkage, as in vecmath.h. Without contraction the results are the
// same bits on every instruction set.
#pragma once

#include <cstdint>

#ifndef FASTRL_INLINE
#define FASTRL_INLINE inline __attribute__((always_inline))
#endif

namespace fastrl {
namespace FASTRL_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kDoubles = 8;
#elif defined(__AVX2__)
constexpr int kDoubles = 4;
#else
constexpr int kDoubles = 2;
#endif

typedef double vdouble __attribute__((vector_size(kDoubles * 8)));
typedef int64_t vlong
    __attribute__((vector_size(kDoubles * 8)));  // also the result of comparing: 0 or -1 a lane
typedef uint64_t vulong __attribute__((vector_size(kDoubles * 8)));
typedef vdouble vdouble_unaligned __attribute__((aligned(8), may_alias));
typedef vlong vlong_unaligned __attribute__((aligned(8), may_alias));

FASTRL_INLINE vdouble load(const double* p) { return *reinterpret_cast<const vdouble_unaligned*>(p); }
FASTRL_INLINE void store(double* p, vdouble x) { *reinterpret_cast<vdouble_unaligned*>(p) = x; }
FASTRL_INLINE vlong load(const int64_t* p) { return *reinterpret_cast<const vlong_unaligned*>(p); }
FASTRL_INLINE void store(int64_t* p, vlong x) { *reinterpret_cast<vlong_unaligned*>(p) = x; }
FASTRL_INLINE vdouble broadcast(double x) { return x - vdouble{}; }

// log2 x of x > 0, finite: e + log2 m with sqrt(1/2) <= m < sqrt(2); log m = 2 artanh((m - 1) / (m + 1)) by
// its series, whose next term is under 2^-58 of the first.
FASTRL_INLINE vdouble vlog2(vdouble x) {
  const vlong denormal = x < 0x1p-1022;
  // less sqrt(1/2); unsigned, as lanes that are refused later may wrap
  const vlong bits = (vlong)((vulong)(denormal ? x * 0x1p54 : x) - 0x3fe6a09e667f3bcd);
  const vlong exponent = (bits >> 52) - (denormal & 54);
  const vdouble m = (vdouble)((bits & 0x000fffffffffffff) + 0x3fe6a09e667f3bcd);
  const vdouble e = (vdouble)(exponent + 0x4338000000000000) - 0x1.8p52;
  const vdouble s = (m - 1.0) / (m + 1.0);
  const vdouble z = s * s;
  vdouble p = z * (1.0 / 21) + 1.0 / 19;
  p = p * z + 1.0 / 17;
  p = p * z + 1.0 / 15;
  p = p * z + 1.0 / 13;
  p = p * z + 1.0 / 11;
  p = p * z + 1.0 / 9;
  p = p * z + 1.0 / 7;
  p = p * z + 1.0 / 5;
  p = p * z + 1.0 / 3;
  return e + (p * z * s + s) * 2.8853900817779268147;  // 2 / ln 2
}

// 2^x: 2^n e^(r ln 2) with n = round(x), |r| <= 1/2, by Taylor's series. 0 below and inf beyond float64.
FASTRL_INLINE vdouble vexp2(vdouble x) {
  x = x < -1080.0 ? broadcast(-1080.0) : x;
  x = x > 1025.0 ? broadcast(1025.0) : x;
  const vdouble shifted = x + 0x1.8p52;
  const vdouble r = (x - (shifted - 0x1.8p52)) * 0.69314718055994530942;
  vdouble p = r * (1.0 / 6227020800) + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * (r * r) + r + 1.0;
  // 2^n in two factors, as n = 1024 and n < -1022 are no float64 exponents.
  const vlong n = (vlong)shifted - 0x4338000000000000;
  const vlong half = (n + 2048) / 2 - 1024;
  return p * (vdouble)((half + 1023) << 52) * (vdouble)((n - half + 1023) << 52);
}

// x^y for finite x > 0: within 2^-50 (1 + |log2 of it|) of the result.
FASTRL_INLINE vdouble vpow(vdouble x, double y) { return vexp2(vlog2(x) * y); }

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
