// Log-probability and entropy of Gaussian rows, kLanes rows at a time.
#pragma once

#include "distributions.h"
#include "rows.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

FASTRL_INLINE vfloat log_std_of(const Gaussian& policy, int64_t row, int n, int64_t component) {
  const Strided<const float>& x = policy.log_std;
  if (x.row == 0) return broadcast(x.data[component * x.column]);
  return gather(x, row, n, component);
}

// One group of rows at a time.
class Normal {
 public:
  explicit Normal(const Gaussian& policy) : policy_(policy), memory_(2 * policy.actions) {
    if (policy.log_std.row == 0 && policy.batch > 0) scale(0, 1);
  }

  FASTRL_INLINE void compute_entropy(int64_t row, int n) {
    if (policy_.log_std.row != 0) scale(row, n);
  }

  // Entropy, and the log-probability of `action`.
  FASTRL_INLINE void compute(int64_t row, int n, Strided<const float> action) {
    compute_entropy(row, n);
    vfloat squares = vfloat{};
    for (int64_t a = 0; a < policy_.actions; ++a) {
      const vfloat distance = gather(action, row, n, a) - gather(policy_.mean, row, n, a);
      const vfloat z = distance * inverse_std(a);
      squares += z * z;
      memory_.set(2 * a + 1, z);
    }
    log_prob = 0.5f * (static_cast<float>(policy_.actions) - squares) - entropy;
  }

  FASTRL_INLINE vfloat inverse_std(int64_t a) const { return memory_.get(2 * a); }
  FASTRL_INLINE vfloat z(int64_t a) const { return memory_.get(2 * a + 1); }  // (action - mean) / std

  vfloat log_prob, entropy;

 private:
  static constexpr float kUnitEntropy = 1.41893853320467274f;  // (1 + log(2 pi)) / 2, where std = 1

  FASTRL_INLINE void scale(int64_t row, int n) {
    vfloat sum = vfloat{};
    for (int64_t a = 0; a < policy_.actions; ++a) {
      const vfloat log_std = log_std_of(policy_, row, n, a);
      sum += log_std;
      memory_.set(2 * a, vexp(-log_std));
    }
    entropy = sum + kUnitEntropy * static_cast<float>(policy_.actions);
  }

  const Gaussian& policy_;
  Scratch memory_;
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
