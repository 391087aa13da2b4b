// Sequences from a replay buffer.
#pragma once

#include "replay_shards.h"

namespace fastrl {

// Priorities become those of sequences; before anything is added. ends: of SequenceStarts::Ends.
void keep_sequences(const ReplayParts& parts, int64_t length, int64_t stride, int ends);
// batch_size sequences drawn in proportion to their priorities, in `out` or new arrays: each field [length,
// batch_size, ...], `mask` and `is_first` [length, batch_size], `indexes` and `weights` [batch_size]. Steps
// that are no part of theirs are 0.
ReplayRows sample_sequences(const ReplayParts& parts, py::handle batch_size, py::handle out,
                            py::handle exponent_of_weights, bool stratified, int scale);

}  // namespace fastrl
