#include "losses.h"

#include "softmax.h"

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

struct ValueLoss {
  vfloat loss, gradient;
};

// (v - R)^2 / 2, or the larger of it and of the same at the value moved no further than clip_value from the
// old one.
FASTRL_INLINE ValueLoss value_loss(double clip_value, const PPOBatch& batch, int64_t row, int n) {
  const vfloat value = gather(batch.value, row, n);
  const vfloat target = gather(batch.return_, row, n);
  const vfloat error = value - target;
  const vfloat loss = 0.5f * error * error;
  if (batch.old_value.data == nullptr) return {loss, error};
  const vfloat limit = broadcast(static_cast<float>(clip_value));
  const vfloat old_value = gather(batch.old_value, row, n);
  const vfloat step = value - old_value;
  const vfloat clipped_step = vmin(limit, vmax(-limit, step));
  const vfloat clipped_error = old_value + clipped_step - target;
  const vfloat clipped_loss = 0.5f * clipped_error * clipped_error;
  const vfloat clipped_gradient = select(vabs(step) > limit, vfloat{}, clipped_error);
  return {vmax(loss, clipped_loss), select(loss >= clipped_loss, error, clipped_gradient)};
}

FASTRL_INLINE void ppo_rows(const PPOConfig& config, const PPOBatch& batch, const PPOResult& result,
                            int64_t row, int n, Softmax& p, vfloat* stats) {
  p.compute(row, n);
  const vint action = gather(batch.action, row, n);
  const vfloat entropy = p.entropy();
  const vfloat log_ratio = p.log_prob(action) - gather(batch.old_log_prob, row, n);
  const vfloat ratio = vexp(log_ratio);
  const vfloat low = broadcast(static_cast<float>(1.0 - config.clip_coef));
  const vfloat high = broadcast(static_cast<float>(1.0 + config.clip_coef));
  const vfloat clipped_ratio = vmin(high, vmax(low, ratio));
  const vfloat advantage = gather(batch.advantage, row, n);
  const vfloat unclipped = -advantage * ratio;
  const vfloat clipped = -advantage * clipped_ratio;
  const vfloat policy = vmax(clipped, unclipped);
  const vfloat kl = (ratio - 1.0f) - log_ratio;  // Schulman's k3
  const ValueLoss value = value_loss(config.clip_value, batch, row, n);

  const float ent_coef = static_cast<float>(config.ent_coef);
  const float vf_coef = static_cast<float>(config.vf_coef);
  const float kl_coef = static_cast<float>(config.kl_coef);
  const float scale = static_cast<float>(result.scale);
  vfloat loss = policy - ent_coef * entropy + vf_coef * value.loss;
  vfloat d_log_prob = select(clipped > unclipped, vfloat{}, unclipped);
  if (kl_coef != 0.0f) {  // else 0 * inf where the ratio overflows
    loss += kl_coef * kl;
    d_log_prob += kl_coef * (ratio - 1.0f);
  }

  d_log_prob *= scale;
  const vfloat inverse_sum = 1.0f / p.sum;
  const vfloat entropy_less_log_sum = entropy - p.log_sum;
  const Strided<float>& d_logits = result.d_logits;
  for (int64_t a = 0; a < batch.policy.actions; ++a) {
    const vfloat prob = p.e(a) * inverse_sum;
    // log p + H, the derivative of -H by p up to a constant
    const vfloat surprise = p.z(a) + entropy_less_log_sum;
    const vfloat chosen = select(action == static_cast<int32_t>(a), d_log_prob, vfloat{});
    const vfloat gradient = prob * (scale * ent_coef * surprise - d_log_prob) + chosen;
    scatter(d_logits.data + row * d_logits.row + a * d_logits.column, d_logits.row, n, gradient);
  }
  scatter(result.d_value, row, n, scale * vf_coef * value.gradient);
  if (result.loss.data != nullptr) scatter(result.loss, row, n, loss);
  if (result.stats != nullptr) {
    const vint valid = first_lanes(n);
    stats[kPolicyLoss] += select(valid, policy, vfloat{});
    stats[kValueLoss] += select(valid, value.loss, vfloat{});
    stats[kEntropy] += select(valid, entropy, vfloat{});
    stats[kApproxKl] += select(valid, kl, vfloat{});
    stats[kClipped] += select(valid & (ratio != clipped_ratio), broadcast(1.0f), vfloat{});
  }
}

// Float32 sums cover this many rows, then join the float64 ones.
constexpr int64_t kChunk = 64 * kLanes;

int64_t ppo_categorical(const PPOConfig& config, const PPOBatch& batch, const PPOResult& result) {
  const int64_t bad = first_illegal(batch.policy, batch.action);
  if (bad >= 0) return bad;
  Softmax p(batch.policy);
  for (int64_t begin = 0; begin < batch.policy.batch; begin += kChunk) {
    const int64_t end = begin + kChunk < batch.policy.batch ? begin + kChunk : batch.policy.batch;
    vfloat stats[kPPOStats] = {};
    for_groups(begin, end, [&](int64_t row, int n) __attribute__((always_inline)) {
      ppo_rows(config, batch, result, row, n, p, stats);
    });
    if (result.stats != nullptr)
      for (int stat = 0; stat < kPPOStats; ++stat)
        for (int i = 0; i < kLanes; ++i) result.stats[stat] += stats[stat][i];
  }
  return -1;
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
const LossesTable losses_table = {ppo_categorical, normalize_advantage};

}  // namespace FASTRL_ISA
}  // namespace fastrl
