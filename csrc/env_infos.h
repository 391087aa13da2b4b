// What Gymnasium's vector environments tell in infos, in their order, dtypes and masks, in new arrays.
#pragma once

#include <pybind11/pybind11.h>

#include "envs.h"

namespace fastrl {

// Of every env's last transition or reset.
pybind11::dict transition_infos(const VecEnv& env);

// Of a step: those and, with SAME_STEP, the last observations and infos of the episodes that ended.
pybind11::dict step_infos(const VecEnv& env);

}  // namespace fastrl
