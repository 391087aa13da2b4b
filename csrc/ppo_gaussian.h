// PPO's head of a Gaussian policy.
#pragma once

#include "normal.h"
#include "ppo.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

class GaussianHead {
 public:
  GaussianHead(const Gaussian& policy, Strided<const float> action, const GaussianGradient& gradient)
      : policy_(policy), action_(action), gradient_(gradient), p_(policy), sums_(policy.actions) {
    for (int64_t a = 0; a < policy.actions; ++a) sums_.set(a, vfloat{});
  }

  FASTRL_INLINE Likelihood compute(int64_t row, int n) {
    p_.compute(row, n, action_);
    return {p_.log_prob, p_.entropy};
  }

  FASTRL_INLINE void gradient(int64_t row, int n, vfloat d_log_prob, float entropy_weight) {
    for (int64_t a = 0; a < policy_.actions; ++a) {
      const vfloat z = p_.z(a);
      const vfloat d_log_std = d_log_prob * (z * z - 1.0f) - entropy_weight;
      scatter(gradient_.d_mean, row, n, d_log_prob * z * p_.inverse_std(a), a);
      if (gradient_.sums_log_std)
        sums_.set(a, sums_.get(a) + select(first_lanes(n), d_log_std, vfloat{}));
      else
        scatter(gradient_.d_log_std, row, n, d_log_std, a);
    }
  }

  FASTRL_INLINE void flush() {
    if (!gradient_.sums_log_std) return;
    for (int64_t a = 0; a < policy_.actions; ++a) {
      gradient_.d_log_std.data[a * gradient_.d_log_std.column] += sum(sums_.get(a));
      sums_.set(a, vfloat{});
    }
  }

 private:
  const Gaussian& policy_;
  const Strided<const float> action_;
  const GaussianGradient gradient_;
  Normal p_;
  Scratch sums_;  // of d_log_std, a lane each
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
