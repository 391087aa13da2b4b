// sin and cos of many doubles: libm's bits, for small angles mostly without asking libm.
//
// For |x| < 1/4 sin(x) and cos(x) are x and 1 plus a correction under 1/30 of that, so a correction evaluated
// in plain double is off by a small part of one unit in the last place (ULP) of the sum. If the sum rounds to
// the same double over the whole interval of our error plus 0.05 ULP, then the true value lies over 0.05 ULP
// inside that double's rounding interval, and a libm whose error is at most 0.55 ULP returns that double too.
// Otherwise libm is asked (one value in seven). glibc states this bound (sysdeps/ieee754/dbl-64/s_sin.c);
// other libms are always asked.
#pragma once

#include <cmath>
#include <cstdint>

namespace fastrl::FASTRL_ISA {
namespace {

constexpr int64_t kSincosMax = 128;  // angles a call

#ifdef __GLIBC__
constexpr double kLibmError = 0.05;  // ULP, beyond the half of rounding

inline bool certain(double base, double fix, double error) {
  return base + (fix - error) == base + (fix + error);
}

inline bool in_range(double x) { return (std::fabs(x) < 0.25) & (std::fabs(x) > 0x1p-20); }

inline double ulp(double x) {  // of a normal double
  uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits &= 0x7ff0000000000000;
  __builtin_memcpy(&x, &bits, sizeof bits);
  return x * 0x1p-52;
}

// Taylor's polynomials; their remainders are below 1e-3 ULP.
inline bool sin_certain(double x, double* sin) {
  const double z = x * x;
  const double fix =
      x * z *
      (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 +
                                                           z * (-1.0 / 39916800 + z * (1.0 / 6227020800))))));
  *sin = x + fix;
  // fix carries five roundings, |fix| <= |x| z / 6: together below |x| z 2^-53
  const double error = kLibmError * ulp(*sin) + std::fabs(x) * z * 0x1p-53;
  return in_range(x) & certain(x, fix, error);
}

inline bool cos_certain(double x, double* cos) {
  const double z = x * x;
  const double fix =
      z * (-0.5 + z * (1.0 / 24 +
                       z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600))))));
  *cos = 1.0 + fix;
  // fix carries four roundings, |fix| <= z / 2: together below z 2^-52; the ULP of results in [1/2, 1) is
  // 2^-53
  const double error = kLibmError * 0x1p-53 + z * 0x1p-52;
  return in_range(x) & certain(1.0, fix, error);
}
#else
inline bool sin_certain(double, double*) { return false; }
inline bool cos_certain(double, double*) { return false; }
#endif

// out[i] = function(x[i]) where sure[i] is 0; the list keeps the loop over all of them free of branches.
inline void ask_libm(const double* x, int64_t n, const uint8_t* sure, double (*function)(double),
                     double* out) {
  int64_t ask[kSincosMax];
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    ask[count] = i;
    count += sure[i] ^ 1;
  }
  for (int64_t j = 0; j < count; ++j) out[ask[j]] = function(x[ask[j]]);
}

void sincos(const double* __restrict x, int64_t n, double* __restrict sin, double* __restrict cos) {
  uint8_t sure[kSincosMax];
  for (int64_t i = 0; i < n; ++i) sure[i] = sin_certain(x[i], sin + i);
  ask_libm(x, n, sure, std::sin, sin);
  for (int64_t i = 0; i < n; ++i) sure[i] = cos_certain(x[i], cos + i);
  ask_libm(x, n, sure, std::cos, cos);
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
