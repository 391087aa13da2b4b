// What acts: an actor-critic network, and what its columns mean.
#pragma once

#include <cstdint>

#include "distributions.h"
#include "network_plan.h"

namespace fastrl {

// The network's columns are logits, one for each action of one choice or of several, or the means of Gaussian
// actions and, unless log_std is given, their log standard deviations; the last is the value.
struct Policy {
  const NetworkPlan& net;
  const float* params;
  bool gaussian;
  int64_t actions;       // logits, or floats of an action
  const float* log_std;  // [actions]
  int64_t components;    // choices of a categorical policy
  const int64_t* sizes;  // [components]; null: one choice

  int64_t width() const { return net.plan.out; }
  int64_t action_size() const { return gaussian ? actions : components; }  // numbers of an action
};

// Draws an action in every row, int64 [n, components] or float [n, actions], and gives its log-probability
// and the value; y is room for the network's output. Returns the first row whose output is not finite, else
// -1.
inline int64_t act(const Policy& policy, const float* obs, int64_t n, float* y, uint64_t seed,
                   uint64_t counter, void* action, float* log_prob, float* value) {
  const int64_t width = policy.width(), actions = policy.actions;
  policy.net.forward(policy.params, obs, n, y, nullptr);
  for (int64_t i = 0; i < n; ++i) value[i] = y[i * width + width - 1];
  if (policy.gaussian) {
    Gaussian gaussian{n, actions, {y, width, 1}, {y + actions, width, 1}};
    if (policy.log_std != nullptr) gaussian.log_std = {policy.log_std, 0, 1};
    return distributions().gaussian_sample(gaussian, {nullptr, 0, 0}, seed, counter,
                                           {static_cast<float*>(action), actions, 1}, {log_prob, 1, 0});
  }
  const int64_t components = policy.components;
  const Categorical categorical{n, actions, {y, width, 1}, {nullptr, 0, 0}, components, policy.sizes};
  return distributions().categorical_sample(categorical, {nullptr, 0, 0}, seed, counter,
                                            {static_cast<int64_t*>(action), components, 1}, {log_prob, 1, 0});
}

}  // namespace fastrl
