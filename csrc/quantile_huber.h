// The quantile Huber loss of all pairs (Dabney et al. 2018), without an array of pairs.
#pragma once

#include "atoms.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

struct PairSums {
  vfloat loss, slope;
};

// One target against kLanes quantiles.
// Negative numbers get 1 - tau, others tau; those that are 0 either. SSE2 selects in four steps what it flips
// in three.
FASTRL_INLINE vfloat weight_of(vfloat delta, vfloat tau) {
  if (kLanes > 4) return select(delta < 0.0f, 1.0f - tau, tau);
  return (vfloat)((vint)tau ^ (((vint)delta >> 31) & ((vint)tau ^ (vint)(1.0f - tau))));
}

FASTRL_INLINE vfloat clip(vfloat x, float to) { return vmin(broadcast(to), vmax(broadcast(-to), x)); }

// 1, -1, 0 or NaN. `one` is 1, of which GCC must not know: it would select instead of taking a minimum.
FASTRL_INLINE vfloat sign_of(vfloat x, float one) {
  if (kLanes > 4) return select(x > 0.0f, broadcast(1.0f), select(x < 0.0f, broadcast(-1.0f), x));
  constexpr float kLarger = 3.777893186e22f;  // 2^75: twice that makes even the least of floats 1 or more
  return clip(x * kLarger * kLarger, one);
}

// For kPlain, no Huber, kappa is 1.
template <bool kPlain>
FASTRL_INLINE void add_pair(vfloat delta, vfloat tau, float kappa, PairSums* sums) {
  const vfloat c = kPlain ? sign_of(delta, kappa) : clip(delta, kappa);
  const vfloat weighted = weight_of(delta, tau) * c;
  // c (delta - c / 2) is delta^2 / 2 inside and kappa (|delta| - kappa / 2) outside; c delta, plain, |delta|
  sums->loss += weighted * (kPlain ? delta : delta - 0.5f * c);
  sums->slope += weighted;
}

// Targets that float32 sums cover before they join others.
constexpr int64_t kPairChunk = 512;
// Of each target, as SSE2 cannot broadcast what it loads.
constexpr int kCopies = kLanes > 4 ? 1 : kLanes;

template <bool kPlain>
void quantile_huber_of(const QuantileHuberProblem& problem) {
  const int64_t n = problem.quantiles, m = problem.targets;
  const float kappa = problem.kappa == 0 ? 1.0f : static_cast<float>(problem.kappa);
  const float weight = static_cast<float>(problem.weight);
  const float d_weight = static_cast<float>(-problem.weight * problem.scale);
  Scratch memory(padded(kCopies * m) / kLanes);
  for (int64_t b = 0; b < problem.batch; ++b) {
    const float* target = problem.target.data + b * problem.target.row;
    if (kCopies > 1 || problem.target.column != 1) {
      for (int64_t j = 0; j < m; ++j)
        for (int k = 0; k < kCopies; ++k) memory.data()[kCopies * j + k] = target[j * problem.target.column];
      target = memory.data();
    }
    const auto at = [&](int64_t j) __attribute__((always_inline)) {
      return kCopies > 1 ? load(target + kCopies * j) : broadcast(target[j]);
    };
    vfloat loss = {};
    const auto block = [&](int64_t i, int count) __attribute__((always_inline)) {
      const vfloat theta = gather<vfloat>(
          problem.theta.data + b * problem.theta.row + i * problem.theta.column, problem.theta.column, count);
      const vfloat tau = gather<vfloat>(problem.tau.data + b * problem.tau.row + i * problem.tau.column,
                                        problem.tau.column, count);
      PairSums sums = {};
      for (int64_t begin = 0; begin < m; begin += kPairChunk) {
        const int64_t end = begin + kPairChunk < m ? begin + kPairChunk : m;
        PairSums even = {}, odd = {};
        int64_t j = begin;
        for (; j + 2 <= end; j += 2) {
          add_pair<kPlain>(at(j) - theta, tau, kappa, &even);
          add_pair<kPlain>(at(j + 1) - theta, tau, kappa, &odd);
        }
        if (j < end) add_pair<kPlain>(at(j) - theta, tau, kappa, &even);
        sums.loss += even.loss + odd.loss;
        sums.slope += even.slope + odd.slope;
      }
      loss += select(first_lanes(count), sums.loss, vfloat{});
      const vfloat d = d_weight * sums.slope;
      float* out = problem.d_theta + b * n + i;
      if (count == kLanes) return store(out, d);
      for (int k = 0; k < count; ++k) out[k] = d[k];
    };
    for_groups(0, n, block);
    problem.loss[b] = weight * total(loss);
  }
}

void quantile_huber(const QuantileHuberProblem& problem) {
  if (problem.kappa == 0)
    quantile_huber_of<true>(problem);
  else
    quantile_huber_of<false>(problem);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
