// Distributions of actions, one a row: categorical ones given by logits, Gaussian ones by mean and log_std.
#pragma once

#include <cstdint>

#include "strided.h"

namespace fastrl {

struct Categorical {
  int64_t batch, actions;
  Strided<const float> logits;  // [batch, actions]
  Strided<const uint8_t> mask;  // [batch, actions], 0 = never; data null: every action is legal
  // A row may hold several independent choices, one after the other: `sizes` [components] adds up to actions.
  // Null: one choice.
  int64_t components = 1;
  const int64_t* sizes = nullptr;
};

static inline int64_t component_size(const Categorical& policy, int64_t component) {
  return policy.sizes != nullptr ? policy.sizes[component] : policy.actions;
}

struct Illegal {
  int64_t row, component;
};

// Where the first action [batch, components] is that is out of range or masked; row -1 if nowhere.
static inline Illegal first_illegal(const Categorical& policy, Strided<const int64_t> action) {
  for (int64_t row = 0; row < policy.batch; ++row) {
    int64_t begin = 0;
    for (int64_t k = 0; k < policy.components; ++k) {
      const int64_t size = component_size(policy, k),
                    chosen = action.data[row * action.row + k * action.column];
      if (chosen < 0 || chosen >= size) return {row, k};
      const Strided<const uint8_t>& mask = policy.mask;
      if (mask.data != nullptr && mask.data[row * mask.row + (begin + chosen) * mask.column] == 0)
        return {row, k};
      begin += size;
    }
  }
  return {-1, 0};
}

// Independent normals: action[a] ~ mean[a] + exp(log_std[a]) * N(0, 1).
struct Gaussian {
  int64_t batch, actions;
  Strided<const float> mean;     // [batch, actions]
  Strided<const float> log_std;  // [batch, actions]; row stride 0: one for all rows
};

struct DistributionsTable {
  // Actions are [batch, components]; log_prob [batch] and entropy [batch] are sums over components.
  //
  // Both return the first row without a valid choice (NaN, everything masked, +inf when sampling, a uniform
  // outside [0, 1)), else -1; there, action is then -1. `uniform` [batch, components] may be null: row b
  // draws word b % 4 of philox(seed, counter, b / 4, action_stream(component)).
  int64_t (*categorical_sample)(const Categorical& policy, Strided<const float> uniform, uint64_t seed,
                                uint64_t counter, Strided<int64_t> action, Strided<float> log_prob);
  int64_t (*categorical_mode)(const Categorical& policy, Strided<int64_t> action);
  // Actions must be in range; an action of probability 0 has log_prob -inf.
  void (*categorical_log_prob)(const Categorical& policy, Strided<const int64_t> action,
                               Strided<float> log_prob);
  void (*categorical_entropy)(const Categorical& policy, Strided<float> entropy);

  // Actions are [batch, actions]. Returns the first row whose action or log_prob is not finite, else -1.
  // `noise` [batch, actions] may be null: it is then the normal quantile of the uniform that a categorical
  // component would draw.
  int64_t (*gaussian_sample)(const Gaussian& policy, Strided<const float> noise, uint64_t seed,
                             uint64_t counter, Strided<float> action, Strided<float> log_prob);
  void (*gaussian_log_prob)(const Gaussian& policy, Strided<const float> action, Strided<float> log_prob);
  // Of tanh(u): the density of u over the derivative of tanh.
  void (*squashed_gaussian_log_prob)(const Gaussian& policy, Strided<const float> u, Strided<float> log_prob);
  void (*gaussian_entropy)(const Gaussian& policy, Strided<float> entropy);
  // low + (high - low) (tanh(u) + 1) / 2, all [batch, actions].
  void (*squash)(int64_t batch, int64_t actions, Strided<const float> u, Strided<const float> low,
                 Strided<const float> high, Strided<float> action);
};

const DistributionsTable& distributions();

}  // namespace fastrl
