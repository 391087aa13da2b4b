// Models whose arrays fit together, and what holds of them whatever the values are.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl {

struct Mass {
  double low, high;  // weight that a pair gives to states that are not terminal, in all
  double reward_low, reward_high;
  int64_t longest;  // additions that a row's sum takes one after the other, at most
};

struct Checked {
  Model model;
  Mass mass;
};

// Sums of the rows; throws std::invalid_argument unless offsets ascend and states are in range.
Mass inspect(const Model& model, int64_t threads);

int64_t entries_of(const Model& model);

// Outcomes of a state's pairs, at most; 0 of a terminal state.
int64_t longest_row(const Model& model, int64_t state);

Change backup(const Checked& of, const Backup& what, int64_t threads);

}  // namespace fastrl
