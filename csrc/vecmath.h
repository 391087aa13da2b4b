// Vectors of kLanes floats (GCC vector extensions) and their exp, log, tanh and sigmoid, for files compiled
// once per instruction set. Everything has internal linkage: no copy built for one processor can be linked
// into another's.
//
// Accuracy, measured over all of float32 against float64, in units in the last place: vexp 1.0, vlog 0.9,
// vsigmoid 2.6, vtanh 4.5 (6.1 without FMA). NaN gives NaN, and the limits are exact: exp(-inf) = 0, log(0) =
// -inf, log(x < 0) = NaN, tanh(+-inf) = +-1. Denormals are right in and out.
#pragma once

#include <cstdint>

#define FASTRL_INLINE inline __attribute__((always_inline))

namespace fastrl {
namespace FASTRL_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float vfloat __attribute__((vector_size(kLanes * 4)));
typedef int32_t vint
    __attribute__((vector_size(kLanes * 4)));  // also the result of comparing: 0 or -1 a lane
typedef vfloat vfloat_unaligned __attribute__((aligned(4), may_alias));
typedef vint vint_unaligned __attribute__((aligned(4), may_alias));

constexpr float kInf = __builtin_inff();

FASTRL_INLINE vfloat load(const float* p) { return *reinterpret_cast<const vfloat_unaligned*>(p); }
FASTRL_INLINE void store(float* p, vfloat x) { *reinterpret_cast<vfloat_unaligned*>(p) = x; }
FASTRL_INLINE vint load(const int32_t* p) { return *reinterpret_cast<const vint_unaligned*>(p); }
FASTRL_INLINE void store(int32_t* p, vint x) { *reinterpret_cast<vint_unaligned*>(p) = x; }
FASTRL_INLINE vfloat broadcast(float x) { return x - vfloat{}; }
FASTRL_INLINE vint broadcast(int32_t x) { return x - vint{}; }
FASTRL_INLINE vfloat to_float(vint x) { return __builtin_convertvector(x, vfloat); }

FASTRL_INLINE vfloat select(vint condition, vfloat a, vfloat b) { return condition ? a : b; }
FASTRL_INLINE vint select(vint condition, vint a, vint b) { return condition ? a : b; }

// Both return b where either argument is NaN: vmin(limit, x) lets the NaN of x through.
FASTRL_INLINE vfloat vmin(vfloat a, vfloat b) { return a < b ? a : b; }
FASTRL_INLINE vfloat vmax(vfloat a, vfloat b) { return a > b ? a : b; }
FASTRL_INLINE vfloat vabs(vfloat x) { return (vfloat)((vint)x & 0x7fffffff); }

FASTRL_INLINE float sum(vfloat x) {
  float total = 0.0f;
  for (int i = 0; i < kLanes; ++i) total += x[i];
  return total;
}

template <class To, class From>
FASTRL_INLINE To bits_as(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln 2 / 2; the polynomial is Cephes's expf. Float is a vector
// of floats of any length, or float, and Int as many int32_t.
template <class Float, class Int>
FASTRL_INLINE Float exp_of(Float x) {
  x = x < -104.0f ? -104.0f - Float{} : x;  // beyond, float32 has only inf and 0; NaN stays
  x = x > 89.0f ? 89.0f - Float{} : x;
  const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Float shifted = x * 1.44269504088896341f + shift;
  const Float n = shifted - shift;
  const Float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Float p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n in two factors, as n = 128 and n < -126 are no float32 exponents.
  const Int exponent = bits_as<Int>(shifted) - 0x4b400000;
  const Int half = exponent >> 1;
  return p * bits_as<Float>((half + 127) << 23) * bits_as<Float>((exponent - half + 127) << 23);
}

FASTRL_INLINE vfloat vexp(vfloat x) { return exp_of<vfloat, vint>(x); }

// log x = e ln 2 + log m with sqrt(1/2) <= m < sqrt(2); the polynomial is Cephes's logf.
FASTRL_INLINE vfloat vlog(vfloat x) {
  const vint denormal = x < 1.17549435e-38f;
  const vint bits = (vint)select(denormal, x * 8388608.0f, x) - 0x3f3504f3;  // sqrt(1/2)
  const vfloat e = to_float((bits >> 23) - (denormal & 23));
  const vfloat f = (vfloat)((bits & 0x007fffff) + 0x3f3504f3) - 1.0f;
  vfloat p = f * 7.0376836292e-2f - 1.1514610310e-1f;
  p = p * f + 1.1676998740e-1f;
  p = p * f - 1.2420140846e-1f;
  p = p * f + 1.4249322787e-1f;
  p = p * f - 1.6668057665e-1f;
  p = p * f + 2.0000714765e-1f;
  p = p * f - 2.4999993993e-1f;
  p = p * f + 3.3333331174e-1f;
  const vfloat square = f * f;
  const vfloat small = p * f * square + e * -2.12194440e-4f - 0.5f * square;
  vfloat result = f + small + e * 0.693359375f;
  result = select(x < kInf, result, x);  // inf and NaN are their own logarithm
  return select(x > 0.0f, result, select(x == 0.0f, broadcast(-kInf), x - x + __builtin_nanf("")));
}

// x P(x^2) / Q(x^2), as in Eigen; the clamp is where the quotient reaches 1 and before it would pass it.
FASTRL_INLINE vfloat vtanh(vfloat x) {
#ifdef __FMA__
  const float limit = 7.99881172180175781f;
#else
  const float limit = 7.90531110763549805f;
#endif
  const vfloat y = vmin(broadcast(limit), vmax(broadcast(-limit), x));
  const vfloat s = y * y;
  vfloat p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s - 8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vfloat q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return select(vabs(x) < 0.0004f, x, y * p / q);
}

FASTRL_INLINE vfloat vsigmoid(vfloat x) {
  const vfloat e = vexp(-vabs(x));  // never overflows
  return select(x > 0.0f, broadcast(1.0f), e) / (1.0f + e);
}

FASTRL_INLINE vfloat vsqrt(vfloat x) {
  vfloat root = {};
  for (int i = 0; i < kLanes; ++i) root[i] = __builtin_sqrtf(x[i]);
  return root;
}

// The standard normal's quantile at (1 + x) / 2, |x| < 1: sqrt(2) erfinv(x) by Giles, "Approximating the
// erfinv function" (2010).
FASTRL_INLINE vfloat vnormal_quantile(vfloat x) {
  const vfloat w = -vlog((1.0f - x) * (1.0f + x));
  const vfloat c = w - 2.5f;
  vfloat centre = c * 2.81022636e-08f + 3.43273939e-07f;
  centre = centre * c - 3.5233877e-06f;
  centre = centre * c - 4.39150654e-06f;
  centre = centre * c + 2.1858087e-04f;
  centre = centre * c - 1.25372503e-03f;
  centre = centre * c - 4.17768164e-03f;
  centre = centre * c + 2.46640727e-01f;
  centre = centre * c + 1.50140941f;
  const vfloat t = vsqrt(w) - 3.0f;
  vfloat tail = t * -2.00214257e-04f + 1.00950558e-04f;
  tail = tail * t + 1.34934322e-03f;
  tail = tail * t - 3.67342844e-03f;
  tail = tail * t + 5.73950773e-03f;
  tail = tail * t - 7.6224613e-03f;
  tail = tail * t + 9.43887047e-03f;
  tail = tail * t + 1.00167406f;
  tail = tail * t + 2.83297682f;
  return 1.41421356f * x * select(w < 5.0f, centre, tail);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
