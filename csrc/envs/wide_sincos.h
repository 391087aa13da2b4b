// sin and cos of many doubles of any size with libm's bits; see libm.h.
//
// x = n pi / 2 + r with |r| <= pi / 4, in double-double. The largest term of the correction, r^3 / 6 or
// r^2 / 2, is split so that its rounding error joins the correction too; what remains is r^5 / 120 or
// r^4 / 24.
#pragma once

#include "libm.h"
#include "sincos.h"

namespace fastrl::FASTRL_ISA {
namespace {

struct Corrected {
  double base, fix;  // the value is their sum,
  double error;      // within this
};

// sin and cos of high + low, where |high| <= pi / 4 and low is a small part of its ULP.
inline void quarter_sincos(double high, double low, Corrected* sin, Corrected* cos) {
  const double top = keep_bits(high, ~0ull << 36);  // 17 bits, so that its cube is exact
  const double rest = high - top;
  const double z = high * high;

  const double square = top * top, square_rest = rest * (high + top);
  const double one_minus = 1.0 - 0.5 * square;
  const double cube = top * square, cube_rest = rest * (3.0 * (square + top * rest) + rest * rest);
  const double sixth = keep_bits(cube * (1.0 / 6), ~0ull << 3);  // so that six times it is exact
  const double minus_cube = high - sixth;

  const double sin_tail =
      1.0 / 120 +
      z * (-1.0 / 5040 +
           z * (1.0 / 362880 +
                z * (-1.0 / 39916800 +
                     z * (1.0 / 6227020800 + z * (-1.0 / 1307674368000 + z * (1.0 / 355687428096000))))));
  const double cos_tail =
      1.0 / 24 +
      z * (-1.0 / 720 +
           z * (1.0 / 40320 +
                z * (-1.0 / 3628800 + z * (1.0 / 479001600 +
                                           z * (-1.0 / 87178291200 + z * (1.0 / 20922789888000 +
                                                                          z * (-1.0 / 6402373705728000)))))));
  // roundings of 2^-53: eight in the terms of size r^5 / 120, six in those of size r^4 / 24; what `low` meets
  // is r^4 / 24 off
  *sin = {minus_cube,
          high * (z * z) * sin_tail + (((high - minus_cube) - sixth) -
                                       ((cube - 6.0 * sixth) + cube_rest) * (1.0 / 6) + low * one_minus),
          std::fabs(high) * (z * z) * 0x1p-56};
  *cos = {one_minus,
          z * z * cos_tail + (((1.0 - one_minus) - 0.5 * square) - 0.5 * square_rest - low * minus_cube),
          z * z * (0.3 * 0x1p-53)};
}

// x = quadrant pi / 2 + r, by sin(r) and cos(r). The quadrant's low bits count: sin(x) is +-sin(r) or
// +-cos(r).
struct Reduced {
  Corrected sin, cos;
  int64_t quadrant;
};

// |x| < 1024.
inline Reduced reduced(double x) {
  constexpr double kPi2High = 0x1.921fb54442cp+0, kPi2Low = 0x1.18469898cc517p-44;  // 43 bits, and the rest
  const double shift = 0x1.8p52;  // adding it rounds to an integer, in the low bits
  const double shifted = x * 0.63661977236758134 + shift;
  const double n = shifted - shift;  // below 2^10, which keeps n kPi2High exact
  const double part = x - n * kPi2High;
  const double high = part - n * kPi2Low;
  const double low = (part - high) - n * kPi2Low;
  Reduced r;
  quarter_sincos(high, low, &r.sin, &r.cos);
  __builtin_memcpy(&r.quadrant, &shifted, sizeof r.quadrant);
  return r;
}

// sin(x), or cos(x) in the next quadrant, and whether it is libm's for sure.
inline bool rounded(const Reduced& r, int64_t quadrant, double* out) {
  const bool swap = (quadrant & 1) != 0;
  const double sign = (quadrant & 2) != 0 ? -1.0 : 1.0;
  const double base = swap ? r.cos.base : r.sin.base, fix = swap ? r.cos.fix : r.sin.fix;
  const double value = base + fix, error = sincos_error(value) + (swap ? r.cos.error : r.sin.error);
  *out = sign * value;
  // tiny values would show the error of n kPi2Low
  return (std::fabs(value) > 0x1p-20) & certain(base, fix, error);
}

inline bool rounded(const Reduced& r, int64_t quadrant, float* out) {
  const double sign = (quadrant & 2) != 0 ? -1.0 : 1.0;
  const double value = sign * ((quadrant & 1) != 0 ? r.cos.base + r.cos.fix : r.sin.base + r.sin.fix);
  *out = static_cast<float>(value);
  return static_cast<float>(value - 0x1p-51) == static_cast<float>(value + 0x1p-51);
}

inline bool within_reach(double x) { return kKnownLibm & (std::fabs(x) < 1024.0); }

// Doubles, or floats, which are libm's doubles rounded.
template <class Sin, class Cos>
inline void wide_sincos(const double* __restrict x, int64_t n, Sin* __restrict sin, Cos* __restrict cos) {
  uint8_t sin_sure[kLibmMax], cos_sure[kLibmMax];
  for (int64_t i = 0; i < n; ++i) {
    const Reduced r = reduced(x[i]);
    const bool near = within_reach(x[i]);
    const bool sin_rounded = rounded(r, r.quadrant, sin + i);
    const bool cos_rounded = rounded(r, r.quadrant + 1, cos + i);
    sin_sure[i] = near & sin_rounded;
    cos_sure[i] = near & cos_rounded;
  }
  ask_libm(sin_sure, n, sin, [x](int64_t i) { return static_cast<Sin>(std::sin(x[i])); });
  ask_libm(cos_sure, n, cos, [x](int64_t i) { return static_cast<Cos>(std::cos(x[i])); });
}

inline void wide_cos(const double* __restrict x, int64_t n, double* __restrict cos) {
  uint8_t sure[kLibmMax];
  for (int64_t i = 0; i < n; ++i) {
    const Reduced r = reduced(x[i]);
    const bool near = within_reach(x[i]), cos_rounded = rounded(r, r.quadrant + 1, cos + i);
    sure[i] = near & cos_rounded;
  }
  ask_libm(sure, n, cos, [x](int64_t i) { return std::cos(x[i]); });
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
