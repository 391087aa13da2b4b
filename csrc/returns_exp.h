// exp of float32 for a family that forbids contraction: the fused products are written out, so that a column
// alone gives the bits that it gives among others. AVX2 and AVX-512 agree to the bit; without FMA the last
// bits differ. Measured, in units in the last place: 1.3 for |x| <= 10 and 4.6 beyond, 1.2 without FMA. NaN
// stays, and the limits are exact.
#pragma once

#ifdef __FMA__
#include <immintrin.h>
#endif

#include "vecmath.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// a b + c, rounded once where the machine can. Float is a vector of 4, 8 or 16 floats, or float.
template <class Float>
FASTRL_INLINE Float fused(Float a, Float b, Float c) {
#ifdef __AVX512F__
  if constexpr (sizeof(Float) == 64) return (Float)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#endif
#ifdef __FMA__
  if constexpr (sizeof(Float) == 32) return (Float)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  if constexpr (sizeof(Float) == 16) return (Float)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
  if constexpr (sizeof(Float) == 4) return __builtin_fmaf(a, b, c);
#endif
  return a * b + c;
}

// The larger and the smaller; NaN of x stays. GCC makes comparisons and selections of both.
template <class Float>
FASTRL_INLINE Float at_least(Float low, Float x) {
#ifdef __AVX512F__
  if constexpr (sizeof(Float) == 64) return (Float)_mm512_maskz_max_ps(-1, (__m512)low, (__m512)x);
#endif
#ifdef __FMA__
  if constexpr (sizeof(Float) == 32) return (Float)_mm256_max_ps((__m256)low, (__m256)x);
  if constexpr (sizeof(Float) == 16) return (Float)_mm_max_ps((__m128)low, (__m128)x);
#endif
  return low > x ? low : x;
}
template <class Float>
FASTRL_INLINE Float at_most(Float high, Float x) {
#ifdef __AVX512F__
  if constexpr (sizeof(Float) == 64) return (Float)_mm512_maskz_min_ps(-1, (__m512)high, (__m512)x);
#endif
#ifdef __FMA__
  if constexpr (sizeof(Float) == 32) return (Float)_mm256_min_ps((__m256)high, (__m256)x);
  if constexpr (sizeof(Float) == 16) return (Float)_mm_min_ps((__m128)high, (__m128)x);
#endif
  return high < x ? high : x;
}

// x 2^n, n = bits(shifted) - bits(1.5 * 2^23), rounded once.
template <class Float, class Int>
FASTRL_INLINE Float scaled(Float x, Float shifted) {
#ifdef __AVX512F__
  if constexpr (sizeof(Float) == 64)
    return (Float)_mm512_maskz_scalef_ps(-1, (__m512)x, (__m512)(shifted - 12582912.0f));
#endif
  const Int exponent = bits_as<Int>(shifted) - 0x4b400000;
  const Int half = exponent >> 1;  // in two factors, as n = 128 and n < -126 are no float32 exponents
  return x * bits_as<Float>((half + 127) << 23) * bits_as<Float>((exponent - half + 127) << 23);
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2; the polynomial is the best of its degree.
template <class Float, class Int>
FASTRL_INLINE Float fused_exp(Float x) {
  const Float zero{};
  x = at_most<Float>(zero + 89.0f, at_least<Float>(zero - 104.0f, x));  // beyond, float32 has only inf and 0
  const Float shift = zero + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Float shifted = fused<Float>(x, zero + 1.44269504088896341f, shift);
  const Float n = shifted - shift;
#ifdef __FMA__
  const Float r = fused<Float>(n, zero - 0.693147180559945309f, x);
#else
  const Float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
#endif
  // in pairs of terms: half the dependent steps of Horner's rule
  const Float square = r * r;
  const Float low = fused<Float>(r, zero + 1.6666430234909058e-1f, zero + 4.999999403953552e-1f);
  const Float middle = fused<Float>(r, zero + 8.374195545911789e-3f, zero + 4.166800528764725e-2f);
  const Float high = fused<Float>(square, zero + 1.3843607157468796e-3f, middle);
  const Float p = 1.0f + fused<Float>(square, fused<Float>(square, high, low), r);
  return scaled<Float, Int>(p, shifted);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
