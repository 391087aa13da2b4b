// pow(x, 2) and powf(x, 2) of many values with libm's bits, which are not always those of x * x; see libm.h.
#pragma once

#include "libm.h"

namespace fastrl::FASTRL_ISA {
namespace {

inline bool square_certain(double x, double* square) {
  const double top = keep_bits(x, ~0ull << 27);  // 26 bits, so that the products below are exact
  const double rest = x - top;
  const double base = x * x;
  const double fix = ((top * top - base) + 2.0 * top * rest) + rest * rest;
  *square = base;
  const double size = std::fabs(x);
  // glibc's dbl-64/e_pow.c: 0.511 ULP, and 1.5 2^-15 |log x^2| ULP, which is 0.002 at the ends of this range
  return kKnownLibm & (size > 0x1p-30) & (size < 0x1p30) & certain(base, fix, 0.014 * ulp(base));
}

inline bool square_certain(float x, float* square) {
  const double exact = static_cast<double>(x) * x;
  *square = static_cast<float>(exact);
  const float size = std::fabs(x);
  int32_t exponent;
  __builtin_memcpy(&exponent, &size, sizeof exponent);
  exponent = (exponent >> 23) - 127;
  // glibc's flt-32/e_powf.c: relative errors of 1.69 2^-34 and 1.83 2^-33 |log x^2|
  const double error = exact * ((1.0 + 0.75 * (exponent < 0 ? -exponent : exponent)) * 0x1p-31);
  return kKnownLibm & (size > 0x1p-60f) & (size < 0x1p60f) &
         (static_cast<float>(exact - error) == static_cast<float>(exact + error));
}

template <class Real>
inline void square(const Real* __restrict x, int64_t n, Real* __restrict out) {
  volatile Real two = 2;  // or the compiler turns the call into x * x
  uint8_t sure[kLibmMax];
  for (int64_t i = 0; i < n; ++i) sure[i] = square_certain(x[i], out + i);
  ask_libm(sure, n, out, [x, &two](int64_t i) { return std::pow(x[i], static_cast<Real>(two)); });
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
