// Sequences from a replay buffer.
#pragma once

#include "replay_shards.h"

namespace fastrl {

// Priorities become those of sequences; before anything is added. ends: of SequenceStarts::Ends.
void keep_sequences(const ReplayParts& parts, int64_t length, int64_t stride, int ends);
// n sequences drawn in proportion to their priorities: each field [length * n, ...], time-major, `mask` and
// `is_first` [length * n], `indexes` and `weights` [n]. Steps that are no part of theirs are 0.
ReplayRows sample_sequences(const ReplayParts& parts, int64_t n, double beta, bool stratified, int scale);

}  // namespace fastrl
