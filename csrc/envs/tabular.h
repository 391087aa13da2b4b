// Environments that step through a transition table, with the draws of Gymnasium's categorical_sample: the
// first outcome whose cumulative probability exceeds Generator.random(), and the first of all if none does.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

// The outcome of state and action for a uniform number; Width 0: as the table says. Without branches, as the
// outcome is what a predictor cannot know.
template <int64_t Width>
inline const Outcome& outcome_of(const TransitionTable& table, int64_t state, int64_t action,
                                 double uniform) {
  const int64_t width = Width > 0 ? Width : table.width;
  // an invalid action may come unchecked, or for an env whose step only resets it
  const int64_t valid = static_cast<uint64_t>(action) < static_cast<uint64_t>(table.num_actions) ? action : 0;
  const Outcome* row = table.outcome + (state * table.num_actions + valid) * width;
  int64_t passed = 0;
  for (int64_t k = 0; k < width; ++k) passed += row[k].cumulative <= uniform;
  return row[passed == width ? 0 : passed];
}

// Of a uniform number; the first state of all if it exceeds every cumulative probability.
inline int64_t start_of(const TransitionTable& table, double uniform) {
  int64_t low = 0, high = table.num_starts;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (table.start[middle].cumulative <= uniform)
      low = middle + 1;
    else
      high = middle;
  }
  return low == table.num_starts ? 0 : table.start[low].state;
}

struct Tabular {
  using Real = int64_t;
  static constexpr int64_t kStateSize = 1, kCacheSize = 0, kObsSize = 0, kDiscreteSize = 1;
  static constexpr int64_t kNumActions = 0, kActionSize = 0;
  static constexpr bool kHasProb = true, kNeedsTable = true;
  static constexpr bool kWholeResetProb = true;
  static constexpr double kBounds[kEnvBounds] = {0, 0};

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    const int64_t* chosen = static_cast<const int64_t*>(action);
    switch (batch.table->width) {
      case 1:
        return step_rows<1>(batch, chosen, begin, end);
      case 3:
        return step_rows<3>(batch, chosen, begin, end);
      default:
        return step_rows<0>(batch, chosen, begin, end);
    }
  }

  static void reset(const EnvBatch& batch, int64_t i, const double*) {
    row<int64_t>(batch, 0)[i] = start_of(*batch.table, pcg64_double(batch.rng[i]));
    batch.prob[i] = 1;
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const int64_t* __restrict state = row<int64_t>(batch, 0);
    int64_t* __restrict discrete = batch.discrete;
    for (int64_t i = begin; i < end; ++i) discrete[i] = state[i];
  }

  static bool valid(const EnvBatch& batch, int64_t i) {
    return static_cast<uint64_t>(row<int64_t>(batch, 0)[i]) < static_cast<uint64_t>(batch.table->num_states);
  }

 private:
  // Envs that this step only resets draw nothing here.
  template <int64_t Width>
  static void step_rows(const EnvBatch& batch, const int64_t* __restrict action, int64_t begin, int64_t end) {
    const TransitionTable& table = *batch.table;
    int64_t* __restrict state = row<int64_t>(batch, 0);
    Pcg64* __restrict rng = batch.rng;
    const uint8_t* __restrict needs_reset = batch.needs_reset;
    double* __restrict prob = batch.prob;
    double* __restrict reward = batch.reward;
    uint8_t* __restrict terminated = batch.terminated;
    for (int64_t i = begin; i < end; ++i) {
      Pcg64 drawn = rng[i];
      const Outcome& outcome = outcome_of<Width>(table, state[i], action[i], pcg64_double(drawn));
      rng[i].state = needs_reset[i] ? rng[i].state : drawn.state;
      state[i] = outcome.next;
      prob[i] = outcome.prob;
      reward[i] = outcome.reward;
      terminated[i] = static_cast<uint8_t>(outcome.terminated);
    }
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
