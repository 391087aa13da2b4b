// Where a policy can stay for ever, and how it leaves.
#pragma once

#include <cstdint>
#include <vector>

#include "tabular.h"

namespace fastrl {

// The maximal end components of the pairs `kept` [L], which must not end an episode: states that a policy
// reaches from one another with these pairs and never leaves. Of each state the number of its own, or -1; of
// `kept` the pairs are left that stay in one.
std::vector<int32_t> end_components(const Model& model, uint8_t* kept);

// Of each state the place among its pairs of one in `kept` [L] that may lead a step nearer to `target` [S];
// -1 of targets, and where none can be reached. A policy of these reaches a target in the end if whatever
// they lead to does so as well.
std::vector<int32_t> toward(const Model& model, const uint8_t* target, const uint8_t* kept);

}  // namespace fastrl
