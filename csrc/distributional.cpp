#include "distributional.h"

#include "c51.h"
#include "quantile_huber.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

void expectation(int64_t rows, const Atoms& atoms, Strided<const float> x, bool logits, float* out) {
  const int64_t n = atoms.n;
  Scratch memory(2 * padded(n) / kLanes);
  float *z = memory.data(), *row = z + padded(n);
  for (int64_t i = 0; i < n; ++i) z[i] = static_cast<float>(atoms.z[i]);
  for (int64_t b = 0; b < rows; ++b) {
    const float* p = x.data + b * x.row;
    if (x.column != 1) {
      for (int64_t i = 0; i < n; ++i) row[i] = p[i * x.column];
      p = row;
    }
    if (logits) {
      const Exponentials e =
          exponentials<true>(p, n, z, nullptr, [](int64_t, vfloat) __attribute__((always_inline)) {});
      out[b] = total(e.weighted) / total(e.sum);
      continue;
    }
    vfloat sum = {};
    for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
      sum += select(fresh, load_atoms(p, i, n) * load_atoms(z, i, n), vfloat{});
    });
    out[b] = total(sum);
  }
}

// Bins around the atoms, whose edges are midway to the neighbours and outside as far again as inside.
void hl_gauss(int64_t rows, const Atoms& atoms, Strided<const float> x, double sigma, float* out) {
  const int64_t n = atoms.n;
  const double inverse = 1.0 / (sigma * 1.4142135623730951);
  const auto edge = [&](int64_t i) {
    if (i == 0) return atoms.z[0] - 0.5 * (atoms.z[1] - atoms.z[0]);
    if (i == n) return atoms.z[n - 1] + 0.5 * (atoms.z[n - 1] - atoms.z[n - 2]);
    return 0.5 * (atoms.z[i - 1] + atoms.z[i]);
  };
  const double first = edge(0), last = edge(n);
  for (int64_t b = 0; b < rows; ++b) {
    const double value = x.data[b * x.row];
    const double mean = value < first ? first : value > last ? last : value;
    // The tail's erfc, as 1 - erf would lose what is left of it
    const auto between = [&](double u, double v) {
      return u > 0   ? __builtin_erfc(u) - __builtin_erfc(v)
             : v < 0 ? __builtin_erfc(-v) - __builtin_erfc(-u)
                     : __builtin_erf(v) - __builtin_erf(u);
    };
    const double whole = 1.0 / between((first - mean) * inverse, (last - mean) * inverse);
    double low = (first - mean) * inverse;
    for (int64_t i = 0; i < n; ++i) {
      const double high = (edge(i + 1) - mean) * inverse;
      out[b * n + i] = static_cast<float>(between(low, high) * whole);
      low = high;
    }
  }
}

}  // namespace

extern const DistributionalTable distributional_table;
const DistributionalTable distributional_table = {c51_project<float>, c51_project<double>, c51_loss,
                                                  quantile_huber,     expectation,         hl_gauss};

}  // namespace FASTRL_ISA
}  // namespace fastrl
