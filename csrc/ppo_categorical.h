// PPO's head of a categorical policy, of one choice or several.
#pragma once

#include "ppo.h"
#include "softmax.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

class CategoricalHead {
 public:
  CategoricalHead(const Categorical& policy, Strided<const int64_t> action, Strided<float> d_logits)
      : policy_(policy), action_(action), d_logits_(d_logits), p_(policy), parts_(3 * policy.components) {}

  FASTRL_INLINE Likelihood compute(int64_t row, int n) {
    Likelihood total = {};
    for_components(policy_, [&](int64_t k, int64_t begin, int64_t end) __attribute__((always_inline)) {
      p_.compute(row, n, begin, end);
      const vfloat part = p_.entropy();
      const vint action = gather(action_, row, n, k);
      total.log_prob += p_.log_prob(action);
      total.entropy += part;
      parts_.set(3 * k, (vfloat)action);
      parts_.set(3 * k + 1, 1.0f / p_.sum);
      parts_.set(3 * k + 2, part - p_.log_sum);
    });
    return total;
  }

  FASTRL_INLINE void gradient(int64_t row, int n, vfloat d_log_prob, float entropy_weight) {
    for_components(policy_, [&](int64_t k, int64_t begin, int64_t end) __attribute__((always_inline)) {
      const vint action = (vint)parts_.get(3 * k);
      const vfloat inverse_sum = parts_.get(3 * k + 1), entropy_less_log_sum = parts_.get(3 * k + 2);
      for (int64_t a = begin; a < end; ++a) {
        const vfloat prob = p_.e(a) * inverse_sum;
        // log p + H, the derivative of -H by p up to a constant
        const vfloat surprise = p_.z(a) + entropy_less_log_sum;
        const vfloat chosen = select(action == static_cast<int32_t>(a - begin), d_log_prob, vfloat{});
        scatter(d_logits_, row, n, prob * (entropy_weight * surprise - d_log_prob) + chosen, a);
      }
    });
  }

  FASTRL_INLINE void flush() {}

 private:
  const Categorical& policy_;
  const Strided<const int64_t> action_;
  const Strided<float> d_logits_;
  Softmax p_;
  Scratch parts_;  // action, 1 / sum and entropy - log_sum of each component
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
