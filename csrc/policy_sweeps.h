// Sweeps of modified policy iteration: over the actions that may be greedy, and over a policy's rows alone.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl {

// States whose rows lie side by side. Arrays over states that these sweeps read have a multiple of so many.
constexpr int kRowShift = 4;
constexpr int64_t kRowLanes = int64_t{1} << kRowShift;

// The rows of a policy, gathered so that a sweep reads nothing else; as float32, a sixth of what one over all
// actions does. Those of 1 << shift states lie side by side, as vectors want them: block b of states has the
// slots [slot[b], slot[b + 1]), first all states' first ones. Slots that a state does not need have the
// weight 0.
struct PolicyRows {
  int64_t num_states;
  int shift;            // kRowShift, or 0 where rows are too different to lie side by side
  const int64_t* slot;  // null: dense, row after row
  int32_t* to;          // kSlotsAhead further ones, of any states; null: dense
  float* weight;
  double* exact;   // the same unrounded; null: dense
  double* reward;  // of the policy
};

constexpr int64_t kSlotsAhead = 96;

// next = T value. Where the gap between the best action and the next was larger than values can have moved
// since, only the best is looked at.
struct Improve {
  const Model* model;
  const uint8_t* idle;  // states that are left alone, their next value 0; null: none
  const double* value;  // [S]; null: zeros
  double gamma;
  double* next;  // [S]
  int32_t*
      choice;  // [S]: index among the state's pairs of the greedy one; keeps its own on a tie. -1: none yet
  float* nearest;          // [S]: that gap, plus `moved` of when it was measured; less than 0: not yet
  double moved;            // how far two values of one state's actions can have drifted apart so far
  const PolicyRows* rows;  // rewritten where choice changes
};

// next = delta + gamma * P value, of a policy.
struct Relax {
  const PolicyRows* rows;
  const uint8_t* idle;  // states whose change is not counted; null: none
  float gamma;
  const float *delta, *value;
  float* next;
};

// delta = (next - value - middle) * scale.
struct Begin {
  const uint8_t* idle;  // their delta is 0; null: none
  const double *next, *value;
  double middle, scale;
  float *delta, *sum;  // both
};

// value += sum * scale + shift; or where sum is null, value = next + shift.
struct Advance {
  const uint8_t* idle;  // left alone; null: none
  const float* sum;
  const double* next;
  double scale, shift;
  double* value;
};

struct Moved {
  double low, high, size;  // least and greatest change, greatest |value|
};

// Parts [begin, end) of states begin at multiples of kRowLanes.
struct PolicyTable {
  void (*improve[3])(const Improve&, int64_t begin, int64_t end, Change&);
  void (*relax)(const Relax&, int64_t begin, int64_t end, Change&);
  // The same in place, of these states alone; greatest |change|. Not of dense rows.
  float (*settle)(const Relax&, const int32_t* states, int64_t size, float* value);
  void (*begin)(const Begin&, int64_t begin, int64_t end);
  void (*advance)(const Advance&, int64_t begin, int64_t end, Moved&);
};

const PolicyTable& policy_sweeps();

}  // namespace fastrl
