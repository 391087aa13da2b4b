// Planning by strongly connected components: each is solved after those that it leads to.
#pragma once

#include <cstdint>
#include <vector>

#include "planner.h"

namespace fastrl {

struct Components {
  std::vector<int32_t> of;     // [S]
  std::vector<int32_t> order;  // [S]: the states, by component
  std::vector<int64_t> start;  // [components + 1], in order
};

// A component leads to none that comes after it.
Components components(const Model& model);

struct Effort {
  double gamma;
  double tolerance;    // of a sweep's changes
  int64_t max_sweeps;  // over all states
  bool pessimistic;    // begin with the least that values can be instead of what is given
};

struct Solved {
  int64_t components;
  double sweeps;
  bool converged;
};

Solved solve_components(const Checked& of, const Effort& effort, double* value,
                        const Interrupted& interrupted);

// Sweeps over all states in order.
Solved gauss_seidel(const Checked& of, const Effort& effort, double* value, const Interrupted& interrupted);

}  // namespace fastrl
