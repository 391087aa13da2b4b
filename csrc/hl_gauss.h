// HL-Gauss targets (Farebrother et al. 2024): the normal distribution's probability of each atom's bin.
#pragma once

#include "atoms.h"
#include "vecmath64.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

typedef float vsingle __attribute__((vector_size(kDoubles * 4)));

// erfc of x >= 0, from 12 on that of 12, which is under 1e-64. exp(x^2) erfc(x) is t = 3 / (3 + x) times a
// polynomial of it, the interpolant at Chebyshev's points. Relative error 2e-13, half of it the fit's.
FASTRL_INLINE vdouble verfc(vdouble x) {
  x = x > 12.0 ? broadcast(12.0) : x;  // NaN stays
  const vdouble t = 3.0 / (3.0 + x), s = 2.0 * t - 1.0;
  vdouble p = s * 1.10625191346595163e-08 + 2.73958951430885401e-08;
  p = p * s - 1.26129108187007298e-07;
  p = p * s - 2.49541316359107723e-07;
  p = p * s + 9.10523483885060027e-07;
  p = p * s + 1.50054379326703413e-06;
  p = p * s - 5.81607038216852104e-06;
  p = p * s - 1.00822039368459205e-05;
  p = p * s + 3.58508854584502586e-05;
  p = p * s + 9.22401856689254225e-05;
  p = p * s - 1.82769218530378768e-04;
  p = p * s - 1.01134970399385793e-03;
  p = p * s - 4.04138960007104260e-04;
  p = p * s + 8.94241101324322329e-03;
  p = p * s + 3.98425871004555246e-02;
  p = p * s + 1.03489087329906651e-01;
  p = p * s + 1.96742785701295664e-01;
  p = p * s + 2.94464817722801697e-01;
  p = p * s + 3.58002302362779856e-01;
  return p * t * vexp2(x * x * -1.4426950408889634074);
}

// Bins around the atoms, whose edges are midway to the neighbours and outside as far again as inside. In
// float64, as a bin can be a small part of the deviation; differences are taken of the tails' erfc, as those
// of values near 1 would lose their digits.
void hl_gauss(int64_t rows, const Atoms& atoms, Strided<const float> x, double sigma, float* out) {
  const int64_t n = atoms.n, wide = (n / kDoubles + 1) * kDoubles;
  ScratchOf<double> memory(wide / kDoubles + 1);
  double *edge = memory.data(), *tail = edge + wide + kDoubles;
  for (int64_t i = 1; i < n; ++i) edge[i] = 0.5 * (atoms.z[i - 1] + atoms.z[i]);
  edge[0] = atoms.z[0] - 0.5 * (atoms.z[1] - atoms.z[0]);
  edge[n] = atoms.z[n - 1] + 0.5 * (atoms.z[n - 1] - atoms.z[n - 2]);
  for (int64_t i = n + 1; i < wide + kDoubles; ++i) edge[i] = tail[i] = edge[n];
  // Beyond these nothing changes but rounding.
  const double widest = 1e4 * (edge[n] - edge[0]);
  const double deviation = sigma < 1e-300 ? 1e-300 : sigma > widest ? widest : sigma;
  const double inverse = 1.0 / (deviation * 1.4142135623730951);
  const double far = 12.0 / inverse;
  constexpr double kNothing = 1e-64;
  // Of the bin from the edge with the tail a to that with b: 2 less both tails where the mean lies in it.
  const auto between = [](auto a, auto b) __attribute__((always_inline)) {
    return (((a <= 0) & (b > 0)) ? a - b + 2.0 : a - b);
  };
  for (int64_t b = 0; b < rows; ++b) {
    const double value = x.data[b * x.row];
    const double mean = value < edge[0] ? edge[0] : value > edge[n] ? edge[n] : value;
    for (int64_t i = 0; i < wide; i += kDoubles) {
      // The sign says on which side of the mean; far out nothing is left.
      if (edge[i] > mean + far || edge[i + kDoubles - 1] < mean - far) {
        store(tail + i, broadcast(edge[i] > mean ? kNothing : -kNothing));
        continue;
      }
      const vdouble u = (load(edge + i) - mean) * inverse, beyond = verfc(u > 0.0 ? u : -u);
      store(tail + i, u > 0.0 ? beyond : -beyond);
    }
    const double whole = 1.0 / between(tail[0], tail[n]);
    float* row = out + b * n;
    int64_t i = 0;
    for (; i + kDoubles <= n; i += kDoubles) {
      const auto mass = __builtin_convertvector(between(load(tail + i), load(tail + i + 1)) * whole, vsingle);
      __builtin_memcpy(row + i, &mass, sizeof mass);
    }
    for (; i < n; ++i) row[i] = static_cast<float>(between(tail[i], tail[i + 1]) * whole);
  }
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
