// A finite Markov decision process laid out for stepping: rows of outcomes by state and action, all as wide
// as the widest. Its arrays belong to whoever made it.
#pragma once

#include <cstdint>

namespace fastrl {

struct Outcome {
  double cumulative;  // sum of the probabilities up to this one; those behind the last repeat its sum
  double prob, reward;
  int32_t next, terminated;
};

struct Start {
  double cumulative;
  int64_t state;
};

struct TransitionTable {
  int64_t num_states, num_actions, width;
  const Outcome* outcome;  // [num_states, num_actions, width]
  int64_t num_starts;
  const Start* start;         // [num_starts], by cumulative, all of positive probability
  const int8_t* action_mask;  // [num_states, num_actions]: what is worth doing, for infos; null: not told
  uint64_t fingerprint;       // of all the above, never 0
};

}  // namespace fastrl
