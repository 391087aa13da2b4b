#include "distributions.h"

#include "draw.h"
#include "normal.h"
#include "softmax.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

int64_t categorical_sample(const Categorical& policy, Strided<const float> uniform, uint64_t seed,
                           uint64_t counter, Strided<int64_t> action, Strided<float> log_prob) {
  Softmax p(policy);
  int64_t bad = -1;
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vfloat total = vfloat{};
    vint unset = vint{};
    for_components(policy, [&](int64_t k, int64_t begin, int64_t end) __attribute__((always_inline)) {
      p.compute(row, n, begin, end);
      vfloat u;
      if (uniform.data != nullptr) {
        u = gather(uniform, row, n, k);
        u = select((u >= 0.0f) & (u < 1.0f), u, broadcast(__builtin_nanf("")));
      } else {
        u = uniform_of(random_bits(seed, counter, k, row, n));
      }
      // The last action whose share starts at or below the threshold. It never has probability 0: such a
      // share starts where the next one does, and u <= 1 - 2^-24 keeps even the rounded threshold below the
      // sum.
      const vfloat threshold = u * p.sum;
      vfloat start = vfloat{}, chosen_z = vfloat{};
      vint chosen = broadcast(-1);
      for (int64_t a = begin; a < end; ++a) {
        const vint hit = start <= threshold;
        chosen = select(hit, broadcast(static_cast<int32_t>(a - begin)), chosen);
        chosen_z = select(hit, p.z(a), chosen_z);
        start += p.e(a);
      }
      scatter(action, row, n, chosen, k);
      total += chosen_z - p.log_sum;
      unset |= chosen < 0;
    });
    scatter(log_prob, row, n, total);
    if (bad < 0) bad = first_set(unset, row, n);
  });
  return bad;
}

int64_t categorical_mode(const Categorical& policy, Strided<int64_t> action) {
  int64_t bad = -1;
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vint unset = vint{};
    for_components(policy, [&](int64_t k, int64_t begin, int64_t end) __attribute__((always_inline)) {
      vfloat highest = broadcast(-kInf);
      vint chosen = broadcast(-1), nan = vint{};
      for (int64_t a = begin; a < end; ++a) {
        const vfloat logit = legal_logit(policy, row, n, a);
        const vint higher = logit > highest;
        chosen = select(higher, broadcast(static_cast<int32_t>(a - begin)), chosen);
        highest = select(higher, logit, highest);
        nan |= logit != logit;
      }
      chosen |= nan;  // NaN lanes are all ones, which is -1
      scatter(action, row, n, chosen, k);
      unset |= chosen < 0;
    });
    if (bad < 0) bad = first_set(unset, row, n);
  });
  return bad;
}

void categorical_log_prob(const Categorical& policy, Strided<const int64_t> action, Strided<float> log_prob) {
  Softmax p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vfloat total = vfloat{};
    for_components(policy, [&](int64_t k, int64_t begin, int64_t end) __attribute__((always_inline)) {
      p.compute(row, n, begin, end);
      total += p.log_prob(gather(action, row, n, k));
    });
    scatter(log_prob, row, n, total);
  });
}

void categorical_entropy(const Categorical& policy, Strided<float> entropy) {
  Softmax p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vfloat total = vfloat{};
    for_components(policy, [&](int64_t, int64_t begin, int64_t end) __attribute__((always_inline)) {
      p.compute(row, n, begin, end);
      total += p.entropy();
    });
    scatter(entropy, row, n, total);
  });
}

int64_t gaussian_sample(const Gaussian& policy, Strided<const float> noise, uint64_t seed, uint64_t counter,
                        Strided<float> action, Strided<float> log_prob) {
  const Strided<const float> drawn = {action.data, action.row, action.column};
  Normal p(policy);
  int64_t bad = -1;
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    vint infinite = vint{};
    for (int64_t a = 0; a < policy.actions; ++a) {
      const vfloat z =
          noise.data != nullptr ? gather(noise, row, n, a) : normal_of(random_bits(seed, counter, a, row, n));
      const vfloat x = gather(policy.mean, row, n, a) + vexp(log_std_of(policy, row, n, a)) * z;
      infinite |= ~(vabs(x) < kInf);
      scatter(action, row, n, x, a);
    }
    p.compute(row, n, drawn);  // of the rounded action, as a loss will see it
    infinite |= ~(vabs(p.log_prob) < kInf);
    scatter(log_prob, row, n, p.log_prob);
    if (bad < 0) bad = first_set(infinite, row, n);
  });
  return bad;
}

void gaussian_log_prob(const Gaussian& policy, Strided<const float> action, Strided<float> log_prob) {
  Normal p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute(row, n, action);
    scatter(log_prob, row, n, p.log_prob);
  });
}

void squashed_gaussian_log_prob(const Gaussian& policy, Strided<const float> u, Strided<float> log_prob) {
  Normal p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute(row, n, u);
    // log(1 - tanh(x)^2) = 2 (log 2 - |x| - log(1 + exp(-2 |x|)))
    vfloat total = vfloat{};
    for (int64_t a = 0; a < policy.actions; ++a) {
      const vfloat x = vabs(gather(u, row, n, a));
      total += 0.693147181f - x - vlog(1.0f + vexp(-2.0f * x));
    }
    scatter(log_prob, row, n, p.log_prob - 2.0f * total);
  });
}

void gaussian_entropy(const Gaussian& policy, Strided<float> entropy) {
  Normal p(policy);
  for_groups(0, policy.batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    p.compute_entropy(row, n);
    scatter(entropy, row, n, p.entropy);
  });
}

void squash(int64_t batch, int64_t actions, Strided<const float> u, Strided<const float> low,
            Strided<const float> high, Strided<float> action) {
  for_groups(0, batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    for (int64_t a = 0; a < actions; ++a) {
      const vfloat least = gather(low, row, n, a), most = gather(high, row, n, a);
      const vfloat x = least + (most - least) * (0.5f * vtanh(gather(u, row, n, a)) + 0.5f);
      scatter(action, row, n, vmin(most, vmax(least, x)), a);  // rounding must not pass a bound
    }
  });
}

}  // namespace

extern const DistributionsTable distributions_table;
const DistributionsTable distributions_table = {
    categorical_sample,         categorical_mode, categorical_log_prob,
    categorical_entropy,        gaussian_sample,  gaussian_log_prob,
    squashed_gaussian_log_prob, gaussian_entropy, squash};

}  // namespace FASTRL_ISA
}  // namespace fastrl
