// A replay buffer as one dictionary of arrays.
#pragma once

#include "replay_shards.h"

namespace fastrl {

using ReplayPlace =
    py::typing::Tuple<py::int_, py::int_, py::int_, py::float_>;  // added, seed, counter, max_priority
using ReplayState = py::typing::Tuple<ReplayPlace, py::array_t<uint8_t>, py::object, ReplayRows>;

// How far, flags, leaves (None: no priorities) and fields of the stored rows, the oldest first.
ReplayState replay_state(const ReplayParts& parts);
// What replay_state() gave, of a buffer of the same sizes and fields. Throws std::bad_alloc, and nothing is
// stored then.
void restore_replay(const ReplayParts& parts, const ReplayPlace& place, py::handle flags, py::handle leaves,
                    const ReplayRows& fields);

}  // namespace fastrl
