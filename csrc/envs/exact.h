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

// x by whole turns into [-pi, pi], one after the other as Gymnasium's wrap: each rounds. Where that would
// take it minutes, or never end, the remainder.
inline double unwound(double x) {
  constexpr double kTurn = 2 * kPi;
  if (!(std::fabs(x) < 0x1p27)) x = std::fmod(x, kTurn);
  while (x > kPi) x = x - kTurn;
  while (x < -kPi) x = x + kTurn;
  return x;
}

struct Exact {
  using Real = double;
  static constexpr bool kExact = true;

  static double divided(double x, double by) { return x / by; }

  // Of angles mostly below 1/4.
  static void sincos(const double* x, int64_t n, double* sin, double* cos) {
    fastrl::FASTRL_ISA::sincos(x, n, sin, cos);
  }

  // Of all angles.
  static void wide_sincos(const double* x, int64_t n, double* sin, float* cos) {
    fastrl::FASTRL_ISA::wide_sincos(x, n, sin, cos);
  }

  static void full_sincos(const double* x, int64_t n, double* sin, double* cos) {
    fastrl::FASTRL_ISA::wide_sincos(x, n, sin, cos);
  }

  static void full_cos(const double* x, int64_t n, double* cos) { wide_cos(x, n, cos); }

  // cos(x - pi / 2), not quite sin(x).
  static void quarter_back_cos(const double* __restrict x, int64_t n, double* __restrict cos) {
    double angle[kLibmMax];
    for (int64_t i = 0; i < n; ++i) angle[i] = x[i] - kPi / 2;
    wide_cos(angle, n, cos);
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

  static void wrap_turns(double* __restrict x, int64_t n) {
    constexpr double kTurn = 2 * kPi;
    int64_t far = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double below = x[i] > kPi ? x[i] - kTurn : x[i];
      x[i] = below < -kPi ? below + kTurn : below;
      far |= std::fabs(x[i]) > kPi ? 1 : 0;
    }
    if (far == 0) return;
    for (int64_t i = 0; i < n; ++i) x[i] = unwound(x[i]);
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
