// sin and cos of many doubles: libm's bits, for small angles mostly without asking libm.
//
// For |x| < 1/4 sin(x) and cos(x) are x and 1 - x^2 / 2 plus a correction under 1/90 of that, so a correction
// evaluated in plain double is off by a small part of one ULP of the sum; see libm.h.
#pragma once

#include "libm.h"

namespace fastrl::FASTRL_ISA {
namespace {

// E times the ULP, of a value of sin or cos. glibc's do_sin and do_cos (dbl-64/s_sin.c) add a correction of
// up to 2^-8 with three roundings of 2^-62 to a table's value of 1/8 or more; what its Taylor series does
// below that is a smaller part of the ULP. (Its comments say 0.018 ULP, which takes fused multiply-adds.)
inline double sincos_error(double value) {
  int64_t power;  // of 2, at most 1/8; compared as an integer, which vectorises best
  __builtin_memcpy(&power, &value, sizeof power);
  power &= 0x7ff0000000000000;
  power = power < 0x3fc0000000000000 ? power : 0x3fc0000000000000;
  double size;
  __builtin_memcpy(&size, &power, sizeof size);
  return (0.025 * 0x1p-52) * size;
}

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
  const bool near = in_range(x), sure = certain(x, fix, sincos_error(*sin) + std::fabs(x) * z * 0x1p-53);
  return near & sure;
}

inline bool cos_certain(double x, double* cos) {
  const double z = x * x;
  const double top = keep_bits(x, ~0ull << 27);  // 26 bits, so that its square is exact
  const double square = top * top, square_rest = (x - top) * (x + top);
  const double base = 1.0 - 0.5 * square;
  const double tail =
      1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z * (1.0 / 479001600))));
  const double fix = z * z * tail + (((1.0 - base) - 0.5 * square) - 0.5 * square_rest);
  *cos = base + fix;
  // fix carries six roundings of size z^2 / 24
  const bool near = in_range(x), sure = certain(base, fix, sincos_error(*cos) + z * z * (0.3 * 0x1p-53));
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
