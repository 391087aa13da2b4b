// Losses per sample, with the gradient of every differentiable argument.
#pragma once

#include <cstdint>

#include "distributions.h"

namespace fastrl {

struct PPOConfig {
  double clip_coef, vf_coef, ent_coef, kl_coef;
  double clip_value;  // used where old_value is given
};

struct PPOBatch {
  Categorical policy;
  Strided<const float> value;  // this and all below [batch]
  Strided<const int64_t> action;
  Strided<const float> old_log_prob, advantage, return_;
  Strided<const float> old_value;  // data null: the value loss is not clipped
};

// Sums over samples, in this order, of what PPO's authors watch.
enum PPOStat { kPolicyLoss, kValueLoss, kEntropy, kApproxKl, kClipped, kPPOStats };

struct PPOResult {
  Strided<float> loss;      // [batch]; data null: not wanted
  Strided<float> d_logits;  // [batch, actions], scale * d loss[b] / d logits[b]
  Strided<float> d_value;   // [batch]
  double scale;
  double* stats;  // [kPPOStats], added to; null: not wanted
};

struct LossesTable {
  // The first row whose action is out of range or masked: then nothing is written. Else -1.
  int64_t (*ppo_categorical)(const PPOConfig& config, const PPOBatch& batch, const PPOResult& result);
  // (x - mean) / (std + 1e-8), std with batch - 1 below the sum. A batch of one is copied.
  void (*normalize_advantage)(int64_t batch, Strided<const float> advantage, Strided<float> result);
};

const LossesTable& losses();

}  // namespace fastrl
