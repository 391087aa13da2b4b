// Categorical distributions given by logits, one a row.
#pragma once

#include <cstdint>

#include "strided.h"

namespace fastrl {

struct Categorical {
  int64_t batch, actions;
  Strided<const float> logits;  // [batch, actions]
  Strided<const uint8_t> mask;  // [batch, actions], 0 = never; data null: every action is legal
};

// The first row whose action is out of range or masked, -1 if there is none.
static inline int64_t first_illegal(const Categorical& policy, Strided<const int64_t> action) {
  for (int64_t row = 0; row < policy.batch; ++row) {
    const int64_t chosen = action.data[row * action.row];
    if (chosen < 0 || chosen >= policy.actions) return row;
    const Strided<const uint8_t>& mask = policy.mask;
    if (mask.data != nullptr && mask.data[row * mask.row + chosen * mask.column] == 0) return row;
  }
  return -1;
}

struct DistributionsTable {
  // Both return the first row without a valid choice (NaN, everything masked, +inf when sampling, a uniform
  // outside [0, 1)), else -1; that row's action is then -1. `uniform` [batch] may be null: row b draws word b
  // % 4 of philox(seed, counter, b / 4, kActionStream).
  int64_t (*categorical_sample)(const Categorical& policy, Strided<const float> uniform, uint64_t seed,
                                uint64_t counter, Strided<int64_t> action, Strided<float> log_prob);
  int64_t (*categorical_mode)(const Categorical& policy, Strided<int64_t> action);
  // Actions must be in range; an action of probability 0 has log_prob -inf.
  void (*categorical_log_prob)(const Categorical& policy, Strided<const int64_t> action,
                               Strided<float> log_prob);
  void (*categorical_entropy)(const Categorical& policy, Strided<float> entropy);
};

const DistributionsTable& distributions();

}  // namespace fastrl
