#include "distributional.h"

#include "c51.h"
#include "hl_gauss.h"
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

}  // namespace

extern const DistributionalTable distributional_table;
const DistributionalTable distributional_table = {c51_project<float>, c51_project<double>, c51_loss,
                                                  quantile_huber,     expectation,         hl_gauss};

}  // namespace FASTRL_ISA
}  // namespace fastrl
