#include "distributional.h"

#include "c51.h"
#include "hl_gauss.h"
#include "quantile_huber.h"
#include "two_hot.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

void expectation(int64_t rows, const Atoms& atoms, Strided<const float> x, bool logits, float* out) {
  const int64_t n = atoms.n;
  Scratch memory(2 * padded(n) / kLanes);
  float *z = memory.data(), *row = z + padded(n);
  for (int64_t i = 0; i < n; ++i) z[i] = static_cast<float>(atoms.z[i]);
  vfloat sum[kLanes], weighted[kLanes];
  for_groups(0, rows, [&](int64_t first, int count) __attribute__((always_inline)) {
    for (int r = 0; r < count; ++r) {
      const float* p = x.data + (first + r) * x.row;
      if (x.column != 1) {
        for (int64_t i = 0; i < n; ++i) row[i] = p[i * x.column];
        p = row;
      }
      if (logits) {
        const Exponentials e =
            exponentials<true>(p, n, z, nullptr, [](int64_t, vfloat) __attribute__((always_inline)) {});
        weighted[r] = e.weighted, sum[r] = e.sum;
        continue;
      }
      vfloat of = {};
      for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
        of += select(fresh, load_atoms(p, i, n) * load_atoms(z, i, n), vfloat{});
      });
      weighted[r] = of;
    }
    for (int r = count; r < kLanes; ++r) weighted[r] = sum[r] = vfloat{};
    vfloat mean = totals(weighted);
    if (logits) mean /= totals(sum);
    if (count == kLanes) return store(out + first, mean);
    for (int r = 0; r < count; ++r) out[first + r] = mean[r];
  });
}

}  // namespace

extern const DistributionalTable distributional_table;
const DistributionalTable distributional_table = {
    c51_project<float>, c51_project<double>, c51_loss, quantile_huber, expectation, hl_gauss, two_hot};

}  // namespace FASTRL_ISA
}  // namespace fastrl
