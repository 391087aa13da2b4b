// Prioritized sweeping: the state whose value is furthest from its Bellman equation is next.
#pragma once

#include "components.h"
#include "planner.h"

namespace fastrl {

// Improves value in place until no state's Bellman error can exceed the tolerance.
Solved prioritized_sweeping(const Checked& of, const Effort& effort, double* value,
                            const Interrupted& interrupted);

}  // namespace fastrl
