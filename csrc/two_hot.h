// Scalars as distributions on two neighbouring atoms, of the same mean (Schrittwieser et al. 2020).
#pragma once

#include "atoms.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// The last atom but one that is not above x; even spacing gives a guess that at most rounding has moved.
FASTRL_INLINE int64_t atom_below(const Atoms& atoms, double x) {
  const int64_t last = atoms.n - 2;
  int64_t below = 0;
  if (atoms.uniform) {
    const double share = (x - atoms.z[0]) / (atoms.z[last + 1] - atoms.z[0]);  // NaN if they overflow
    below = share > 0 ? static_cast<int64_t>(share * static_cast<double>(last + 1)) : 0;
    below = below < last ? below : last;
    while (below > 0 && x < atoms.z[below]) --below;
    while (below < last && x >= atoms.z[below + 1]) ++below;
    return below;
  }
  for (int64_t count = last; count > 0;) {
    const int64_t half = (count + 1) / 2;
    if (x >= atoms.z[below + half])
      below += half, count -= half;
    else
      count = half - 1;
  }
  return below;
}

void two_hot(int64_t rows, const Atoms& atoms, Strided<const float> x, float* out) {
  const int64_t n = atoms.n;
  const double low = atoms.z[0], high = atoms.z[n - 1];
  for (int64_t b = 0; b < rows; ++b) {
    const double value = x.data[b * x.row];
    float* row = out + b * n;
    const vfloat others = broadcast(value == value ? 0.0f : __builtin_nanf(""));
    for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) { store_atoms(row, i, n, others); });
    if (value != value) continue;
    const double inside = value < low ? low : value > high ? high : value;
    const int64_t below = atom_below(atoms, inside);
    const double up = (inside - atoms.z[below]) / (atoms.z[below + 1] - atoms.z[below]);
    row[below] = static_cast<float>(1.0 - up);
    row[below + 1] = static_cast<float>(up);
  }
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
