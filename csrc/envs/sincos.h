// sin and cos of many doubles: libm's bits, for small angles mostly without asking libm.
//
// For |x| < 1/4 sin(x) and cos(x) are x and 1 plus a correction under 1/30 of that, so a correction evaluated
// in plain double is off by a small part of one ULP of the sum; see libm.h. One value in seven asks libm.
#pragma once

#include "libm.h"

namespace fastrl::FASTRL_ISA {
namespace {

constexpr double kSincosError = 0.05;  // ULP beyond the half of rounding: glibc's dbl-64/s_sin.c

inline bool in_range(double x) { return kKnownLibm & (std::fabs(x) < 0.25) & (std::fabs(x) > 0x1p-20); }

// Taylor's polynomials; their remainders are below 1e-3 ULP.
inline bool sin_certain(double x, double* sin) {
  const double z = x * x;
  const double fix =
      x * z *
      (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 +
                                                           z * (-1.0 / 39916800 + z * (1.0 / 6227020800))))));
  *sin = x + fix;
  // fix carries five roundings, |fix| <= |x| z / 6: together below |x| z 2^-53
  const double error = kSincosError * ulp(*sin) + std::fabs(x) * z * 0x1p-53;
  const bool near = in_range(x), sure = certain(x, fix, error);
  return near & sure;
}

inline bool cos_certain(double x, double* cos) {
  const double z = x * x;
  const double fix =
      z * (-0.5 + z * (1.0 / 24 +
                       z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600))))));
  *cos = 1.0 + fix;
  // fix carries four roundings, |fix| <= z / 2: together below z 2^-52; the ULP of results in [1/2, 1) is
  // 2^-53
  const double error = kSincosError * 0x1p-53 + z * 0x1p-52;
  const bool near = in_range(x), sure = certain(1.0, fix, error);
  return near & sure;
}

inline void sincos(const double* __restrict x, int64_t n, double* __restrict sin, double* __restrict cos) {
  uint8_t sure[kLibmMax];
  for (int64_t i = 0; i < n; ++i) sure[i] = sin_certain(x[i], sin + i);
  ask_libm(sure, n, sin, [x](int64_t i) { return std::sin(x[i]); });
  for (int64_t i = 0; i < n; ++i) sure[i] = cos_certain(x[i], cos + i);
  ask_libm(sure, n, cos, [x](int64_t i) { return std::cos(x[i]); });
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
