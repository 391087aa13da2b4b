#include "losses.h"

#include "ppo_categorical.h"
#include "ppo_gaussian.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// A float64 sum a lane.
struct Sum {
  double lane[kLanes] = {};

  FASTRL_INLINE void add(vfloat x, int n) {
    for (int i = 0; i < n; ++i) lane[i] += x[i];
  }
  FASTRL_INLINE void add_square(vfloat x, double mean, int n) {
    for (int i = 0; i < n; ++i) lane[i] += (x[i] - mean) * (x[i] - mean);
  }
  FASTRL_INLINE double total() const {
    double total = 0.0;
    for (int i = 0; i < kLanes; ++i) total += lane[i];
    return total;
  }
};

Illegal ppo_categorical(const PPOConfig& config, const Categorical& policy, Strided<const int64_t> action,
                        const PPOBatch& batch, Strided<float> d_logits, const PPOResult& result) {
  const Illegal bad = first_illegal(policy, action);
  if (bad.row >= 0) return bad;
  CategoricalHead head(policy, action, d_logits);
  ppo(config, batch, result, head);
  return bad;
}

void ppo_gaussian(const PPOConfig& config, const Gaussian& policy, Strided<const float> action,
                  const PPOBatch& batch, const GaussianGradient& gradient, const PPOResult& result) {
  GaussianHead head(policy, action, gradient);
  ppo(config, batch, result, head);
}

void normalize_advantage(int64_t batch, Strided<const float> advantage, Strided<float> result) {
  if (batch == 1) {  // no spread to divide by
    *result.data = *advantage.data;
    return;
  }
  // The squares are summed after the mean is taken off: a large mean cancels nothing.
  Sum values, squares;
  for_groups(0, batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    values.add(gather(advantage, row, n), n);
  });
  const double mean = values.total() / batch;
  for_groups(0, batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    squares.add_square(gather(advantage, row, n), mean, n);
  });
  const double inverse = 1.0 / (__builtin_sqrt(squares.total() / (batch - 1)) + 1e-8);
  for_groups(0, batch, [&](int64_t row, int n) __attribute__((always_inline)) {
    const vfloat x = gather(advantage, row, n);
    vfloat normalized = {};
    for (int i = 0; i < kLanes; ++i) normalized[i] = static_cast<float>((x[i] - mean) * inverse);
    scatter(result, row, n, normalized);
  });
}

}  // namespace

extern const LossesTable losses_table;
const LossesTable losses_table = {ppo_categorical, ppo_gaussian, normalize_advantage};

}  // namespace FASTRL_ISA
}  // namespace fastrl
