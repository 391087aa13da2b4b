// PPO's clipped loss, kLanes rows at a time, of any policy. A head knows the distribution:
//   compute(row, n)                               the Likelihood of the actions taken
//   gradient(row, n, d_log_prob, entropy_weight)  writes the gradient of log_prob and -entropy, so weighted
//   flush()                                       is called every kChunk rows
#pragma once

#include "losses.h"
#include "rows.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

struct Likelihood {
  vfloat log_prob, entropy;
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
  const vfloat zero = clipped_error - clipped_error;  // or NaN
  const vfloat clipped_gradient = select(vabs(step) > limit, zero, clipped_error);
  return {vmax(loss, clipped_loss), select(loss >= clipped_loss, error, clipped_gradient)};
}

template <class Head>
FASTRL_INLINE void ppo_rows(const PPOConfig& config, const PPOBatch& batch, const PPOResult& result,
                            int64_t row, int n, Head& head, vfloat* stats) {
  const Likelihood policy = head.compute(row, n);
  const vfloat log_ratio = policy.log_prob - gather(batch.old_log_prob, row, n);
  const vfloat ratio = vexp(log_ratio);
  const vfloat low = broadcast(static_cast<float>(1.0 - config.clip_coef));
  const vfloat high = broadcast(static_cast<float>(1.0 + config.clip_coef));
  const vfloat clipped_ratio = vmin(high, vmax(low, ratio));
  const vfloat advantage = gather(batch.advantage, row, n);
  const vfloat unclipped = -advantage * ratio;
  const vfloat clipped = -advantage * clipped_ratio;
  const vfloat policy_loss = vmax(clipped, unclipped);
  const vfloat kl = (ratio - 1.0f) - log_ratio;  // Schulman's k3
  const ValueLoss value = value_loss(config.clip_value, batch, row, n);

  const float ent_coef = static_cast<float>(config.ent_coef);
  const float vf_coef = static_cast<float>(config.vf_coef);
  const float kl_coef = static_cast<float>(config.kl_coef);
  const float scale = static_cast<float>(result.scale);
  vfloat loss = policy_loss - ent_coef * policy.entropy + vf_coef * value.loss;
  vfloat d_log_prob = select(clipped > unclipped, vfloat{}, unclipped);
  if (kl_coef != 0.0f) {  // else 0 * inf where the ratio overflows
    loss += kl_coef * kl;
    d_log_prob += kl_coef * (ratio - 1.0f);
  }
  head.gradient(row, n, scale * d_log_prob, scale * ent_coef);
  scatter(result.d_value, row, n, scale * vf_coef * value.gradient);
  if (result.loss.data != nullptr) scatter(result.loss, row, n, loss);
  if (result.stats != nullptr) {
    const vint valid = first_lanes(n);
    stats[kPolicyLoss] += select(valid, policy_loss, vfloat{});
    stats[kValueLoss] += select(valid, value.loss, vfloat{});
    stats[kEntropy] += select(valid, policy.entropy, vfloat{});
    stats[kApproxKl] += select(valid, kl, vfloat{});
    stats[kClipped] += select(valid & (ratio != clipped_ratio), broadcast(1.0f), vfloat{});
  }
}

// Float32 sums cover this many rows, then join wider ones.
constexpr int64_t kChunk = 64 * kLanes;

template <class Head>
void ppo(const PPOConfig& config, const PPOBatch& batch, const PPOResult& result, Head& head) {
  for (int64_t begin = 0; begin < batch.batch; begin += kChunk) {
    const int64_t end = begin + kChunk < batch.batch ? begin + kChunk : batch.batch;
    vfloat stats[kPPOStats] = {};
    for_groups(begin, end, [&](int64_t row, int n) __attribute__((always_inline)) {
      ppo_rows(config, batch, result, row, n, head, stats);
    });
    head.flush();
    if (result.stats != nullptr)
      for (int stat = 0; stat < kPPOStats; ++stat)
        for (int i = 0; i < kLanes; ++i) result.stats[stat] += stats[stat][i];
  }
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
