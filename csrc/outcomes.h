// Outcomes drawn from rows of probabilities.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl {

struct Rows {
  Layout layout;
  int64_t num_pairs, num_states;
  int64_t entries;     // probabilities in all
  const void* offset;  // [num_pairs + 1], int32 or int64; null: dense
  const double* probability;
};

// Where among all entries the running sum of a pair's probabilities passes `uniform` times their sum. Returns
// how many were drawn: fewer than `size` if pair[i] is none, lies outside the entries, or has no outcome.
int64_t draw_outcomes(const Rows& rows, const int64_t* pair, const double* uniform, int64_t size,
                      int64_t* out);

}  // namespace fastrl
