// Losses per sample, with the gradient of every differentiable argument.
#pragma once

#include <cstdint>

#include "distributions.h"

namespace fastrl {

struct PPOConfig {
  double clip_coef, vf_coef, ent_coef, kl_coef;
  double clip_value;  // used where old_value is given
};

// What every PPO loss reads besides the policy: [batch] each.
struct PPOBatch {
  int64_t batch;
  Strided<const float> value, old_log_prob, advantage, return_;
  Strided<const float> old_value;  // data null: the value loss is not clipped
};

// Sums over samples, in this order, of what PPO's authors watch.
enum PPOStat { kPolicyLoss, kValueLoss, kEntropy, kApproxKl, kClipped, kPPOStats };

struct PPOResult {
  Strided<float> loss;     // [batch]; data null: not wanted
  Strided<float> d_value;  // [batch], scale * d loss[b] / d value[b]
  double scale;            // of every gradient
  double* stats;           // [kPPOStats], added to; null: not wanted
};

struct GaussianGradient {
  Strided<float> d_mean;     // [batch, actions]
  Strided<float> d_log_std;  // [batch, actions]
  bool sums_log_std;         // then d_log_std is [actions], and the sum over rows is added to it
};

struct LossesTable {
  // Where an action is out of range or masked: then nothing is written. Else row -1.
  Illegal (*ppo_categorical)(const PPOConfig& config, const Categorical& policy,
                             Strided<const int64_t> action, const PPOBatch& batch, Strided<float> d_logits,
                             const PPOResult& result);
  void (*ppo_gaussian)(const PPOConfig& config, const Gaussian& policy, Strided<const float> action,
                       const PPOBatch& batch, const GaussianGradient& gradient, const PPOResult& result);
  // (x - mean) / (std + 1e-8), std with batch - 1 below the sum. A batch of one is copied.
  void (*normalize_advantage)(int64_t batch, Strided<const float> advantage, Strided<float> result);
};

const LossesTable& losses();

}  // namespace fastrl
