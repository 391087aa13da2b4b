// The arithmetic of exact environments: float64, with the bits of NumPy's scalars.
#pragma once

#include "sincos.h"
#include "square.h"
#include "wide_sincos.h"

namespace fastrl::FASTRL_ISA {
namespace {

constexpr double kPi = 3.141592653589793;

// fmod(|y|, 2 pi) by exact steps: with 2 pi in two parts, n times the first has no rounding error, nor has
// any difference, as all are multiples of the last place of 2 pi, and small. |y| < 2^20.
inline double turn_remainder(double y) {
  constexpr double kTurn = 2 * kPi, kTurnHigh = 0x1.921fb54p+2, kTurnLow = kTurn - kTurnHigh;
  const double shift = 0x1.8p52;  // adding it rounds to an integer
  const double size = std::fabs(y);
  const double n = (size * (1 / kTurn) + shift) - shift;
  const double r = (size - n * kTurnHigh) - n * kTurnLow;
  return r < 0 ? r + kTurn : r;
}

struct Exact {
  using Real = double;

  static double divided(double x, double by) { return x / by; }

  // Of angles mostly below 1/4.
  static void sincos(const double* x, int64_t n, double* sin, double* cos) {
    fastrl::FASTRL_ISA::sincos(x, n, sin, cos);
  }

  // Of all angles.
  static void wide_sincos(const double* x, int64_t n, double* sin, float* cos) {
    fastrl::FASTRL_ISA::wide_sincos(x, n, sin, cos);
  }

  template <class Real>
  static void square(const Real* x, int64_t n, Real* out) {
    fastrl::FASTRL_ISA::square(x, n, out);
  }

  // (x + pi) % (2 pi) - pi with Python's remainder.
  static void normalize_angle(const double* __restrict x, int64_t n, double* __restrict out) {
    constexpr double kTurn = 2 * kPi;
    uint8_t sure[kLibmMax];
    const auto finish = [](double y, double remainder) {
      return (y < 0 && remainder != 0 ? kTurn - remainder : remainder) - kPi;
    };
    for (int64_t i = 0; i < n; ++i) {
      const double y = x[i] + kPi;
      sure[i] = std::fabs(y) < 0x1p20;
      out[i] = finish(y, turn_remainder(y));
    }
    ask_libm(sure, n, out, [x, finish](int64_t i) {
      const double y = x[i] + kPi;
      return finish(y, std::fmod(std::fabs(y), kTurn));
    });
  }

  static double wrap(double angle) { return angle; }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
