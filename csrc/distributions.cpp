#include "distributions.h"

#include "philox.h"
#include "softmax.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

FASTRL_INLINE vfloat draw(uint64_t seed, uint64_t counter, int64_t row, int n) {
  vfloat u = {};
  for (int i = 0; i < n; i += 4) {  // groups start at multiples of kLanes, so of 4
    const PhiloxWords words = philox(seed, counter, static_cast<uint32_t>((row + i) / 4), kActionStream);
    for (int j = 0; j < 4; ++j) u[i + j] = philox_uniform(words.word[j]);
  }
  return u;
}

FASTRL_INLINE int64_t first_unset(vint action, int64_t row, int n) {
  for (int i = 0; i < n; ++i)
    if (action[i] < 0) return row + i;
  return -1;
}

int64_t categorical_sample(const Categorical& policy, Strided<const float> uniform, uint64_t seed,
                           uint64_t counter, Strided<int64_t> action, Strided<float> log_prob) {
  Softmax p(policy);
  int64_t bad = -1;
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute(row, n);
    vfloat u;
    if (uniform.data != nullptr) {
      u = gather(uniform, row, n);
      u = select((u >= 0.0f) & (u < 1.0f), u, broadcast(__builtin_nanf("")));
    } else {
      u = draw(seed, counter, row, n);
    }
    // The last action that has a probability and starts at or below the threshold: rounding cannot pass it
    // by.
    const vfloat threshold = u * p.sum;
    vfloat start = vfloat{}, chosen_z = vfloat{};
    vint chosen = broadcast(-1);
    for (int64_t a = 0; a < policy.actions; ++a) {
      const vint hit = (start <= threshold) & (p.e(a) > 0.0f);
      chosen = select(hit, broadcast(static_cast<int32_t>(a)), chosen);
      chosen_z = select(hit, p.z(a), chosen_z);
      start += p.e(a);
    }
    scatter(action, row, n, chosen);
    scatter(log_prob, row, n, chosen_z - p.log_sum);
    if (bad < 0) bad = first_unset(chosen, row, n);
  });
  return bad;
}

int64_t categorical_mode(const Categorical& policy, Strided<int64_t> action) {
  int64_t bad = -1;
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vfloat highest = broadcast(-kInf);
    vint chosen = broadcast(-1), nan = vint{};
    for (int64_t a = 0; a < policy.actions; ++a) {
      const vfloat logit = legal_logit(policy, row, n, a);
      const vint higher = logit > highest;
      chosen = select(higher, broadcast(static_cast<int32_t>(a)), chosen);
      highest = select(higher, logit, highest);
      nan |= logit != logit;
    }
    chosen |= nan;  // NaN lanes are all ones, which is -1
    scatter(action, row, n, chosen);
    if (bad < 0) bad = first_unset(chosen, row, n);
  });
  return bad;
}

void categorical_log_prob(const Categorical& policy, Strided<const int64_t> action, Strided<float> log_prob) {
  Softmax p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute(row, n);
    scatter(log_prob, row, n, p.log_prob(gather(action, row, n)));
  });
}

void categorical_entropy(const Categorical& policy, Strided<float> entropy) {
  Softmax p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute(row, n);
    scatter(entropy, row, n, p.entropy());
  });
}

}  // namespace

extern const DistributionsTable distributions_table;
const DistributionsTable distributions_table = {categorical_sample, categorical_mode, categorical_log_prob,
                                                categorical_entropy};

}  // namespace FASTRL_ISA
}  // namespace fastrl
