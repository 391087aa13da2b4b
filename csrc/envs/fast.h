// The arithmetic of fast environments: float32, a few units in the last place off, in loops that vectorise.
#pragma once

#include <cmath>
#include <cstdint>

namespace fastrl::FASTRL_ISA {
namespace {

struct Fast {
  using Real = float;
  static constexpr bool kExact = false;

  static float divided(float x, double by) { return x * static_cast<float>(1 / by); }

  // Of all angles; the error of the reduction grows with them, 2^-25 of the angle.
  static void sincos(const float* __restrict x, int64_t n, float* __restrict sin, float* __restrict cos) {
    for (int64_t i = 0; i < n; ++i) sincos_within_turn(within_turn(x[i]), sin + i, cos + i);
  }
  static void full_sincos(const float* x, int64_t n, float* sin, float* cos) { sincos(x, n, sin, cos); }

  static void full_cos(const float* __restrict x, int64_t n, float* __restrict cos) {
    float unused;
    for (int64_t i = 0; i < n; ++i) sincos_within_turn(within_turn(x[i]), &unused, cos + i);
  }

  // cos(x - pi / 2).
  static void quarter_back_cos(const float* __restrict x, int64_t n, float* __restrict cos) {
    float unused;
    for (int64_t i = 0; i < n; ++i) sincos_within_turn(within_turn(x[i]), cos + i, &unused);
  }

  // Of wrapped angles.
  static void wide_sincos(const float* __restrict x, int64_t n, float* __restrict sin,
                          float* __restrict cos) {
    for (int64_t i = 0; i < n; ++i) sincos_within_turn(x[i], sin + i, cos + i);
  }

  static void square(const float* __restrict x, int64_t n, float* __restrict out) {
    for (int64_t i = 0; i < n; ++i) out[i] = x[i] * x[i];
  }

  static void normalize_angle(const float* __restrict x, int64_t n, float* __restrict out) {  // is wrapped
    for (int64_t i = 0; i < n; ++i) out[i] = x[i];
  }

  // An angle within pi of [-pi, pi], moved into it.
  static float wrap(float angle) {
    const float turns = angle > kPi ? 1.0f : angle < -kPi ? -1.0f : 0.0f;
    return (angle - turns * kTurnHigh) - turns * kTurnLow;
  }
  static float wrap(double angle) {
    return static_cast<float>(angle - kTurn * std::nearbyint(angle / kTurn));
  }
  static void wrap_turns(float* __restrict x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) x[i] = within_turn(x[i]);
  }

 private:
  static constexpr double kTurn = 2 * 3.141592653589793;
  static constexpr float kPi = 3.141592653589793, kTurnHigh = 0x1.921fp+2, kTurnLow = kTurn - kTurnHigh;

  static float within_turn(float x) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const float turns = (x * static_cast<float>(1 / kTurn) + shift) - shift;
    return (x - turns * kTurnHigh) - turns * kTurnLow;
  }

  // sin(x) = +-sin(pi - |x|) and cos(x) = sin(pi / 2 - |x|) leave one polynomial on [-pi / 2, pi / 2].
  static void sincos_within_turn(float x, float* sin, float* cos) {
    constexpr float kPiLow = 3.141592653589793 - kPi;
    const float size = std::fabs(x);
    const float supplement = (kPi - size) + kPiLow;
    *sin = std::copysign(1.0f, x) * half_turn_sin(size < supplement ? size : supplement);
    *cos = half_turn_sin((0.5f * kPi - size) + 0.5f * kPiLow);
  }

  // The minimax polynomial of its degree; rounding may take it past 1.
  static float half_turn_sin(float x) {
    const float z = x * x;
    const float tail = -0.166666595f + z * (0.00833306521f + z * (-0.000198095216f + z * 2.60559058e-6f));
    const float sin = x + x * z * tail;
    const float above = sin < -1.0f ? -1.0f : sin;
    return above > 1.0f ? 1.0f : above;
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
