// sin and cos of a float32 with the bits of numpy.sin and numpy.cos, which are not libm's where the processor
// fuses multiply and add: Cody and Waite's reduction by three parts of pi / 2, then a minimax polynomial
// (NumPy's loops_trigonometric).
#pragma once

#include <cmath>
#include <cstdint>

namespace fastrl::FASTRL_ISA {
namespace {

inline bool numpy_fuses() {
#ifdef __x86_64__
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

// c[0] z^n + c[1] z^(n - 1) + ...; the builtin is a call of libm in the baseline, with the same value.
template <int64_t N>
inline float fused_polynomial(float z, const float (&c)[N]) {
  float sum = c[0];
  for (int64_t k = 1; k < N; ++k) sum = __builtin_fmaf(sum, z, c[k]);
  return sum;
}

// sin(x), or cos(x) one quadrant later.
inline float numpy_fused_sin(float x, int32_t quadrants) {
  constexpr float kSin[] = {0x1.7d3bbcp-19f, -0x1.a06bbap-13f, 0x1.11119ap-07f, -0x1.555556p-03f, 0.0f};
  constexpr float kCos[] = {0x1.98e616p-16f, -0x1.6c06dcp-10f, 0x1.55553cp-05f, -0x1p-1f, 1.0f};
  constexpr float kPi2[] = {0x1.921fb0p+00f, 0x1.5110b4p-22f, 0x1.846988p-48f};
  const float shift = 0x1.8p23f;  // adding it rounds to an integer
  const float n = __builtin_fmaf(x, 0x1.45f306p-1f, shift) - shift;
  float r = x;
  for (const float part : kPi2) r = __builtin_fmaf(n, -part, r);
  const int32_t quadrant = static_cast<int32_t>(n) + quadrants;
  const float z = r * r;
  const float value =
      (quadrant & 1) != 0 ? fused_polynomial(z, kCos) : __builtin_fmaf(fused_polynomial(z, kSin), r, r);
  return (quadrant & 2) != 0 ? -value : value;
}

inline float numpy_sin(float x) {
  return numpy_fuses() && std::fabs(x) <= 117435.992f ? numpy_fused_sin(x, 0) : std::sin(x);
}

inline float numpy_cos(float x) {
  return numpy_fuses() && std::fabs(x) <= 71476.0625f ? numpy_fused_sin(x, 1) : std::cos(x);
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
