// A replay buffer in pieces, for saves that write only what is new and loads that hold no second copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <cstdint>
#include <vector>

#include "frame_store.h"
#include "replay.h"
#include "replay_batch.h"

namespace fastrl {

using ReplayRows = py::typing::Dict<py::str, py::object>;
using ReplayOutline =
    py::typing::Tuple<py::object, py::array_t<uint8_t>, py::object, py::typing::List<py::object>>;

struct ReplayParts {
  Replay& replay;
  ReplayLock& lock;
  const NamedFields& fields;
  const std::vector<FrameStore*>& frames;
};

// Does work of more than some microseconds.
template <class Lock, class Work>
void alone(const ReplayParts& parts, Work work) {
  const py::gil_scoped_release release;
  const Lock lock(parts.lock);
  work();
}

// (added, seed, counter, max_priority), flags, leaves (None: no priorities), and of each field of frames the
// positions held [streams, 2], what rows refer to [rows, 2] and the last observations [streams]; rows are the
// stored ones, the oldest first.
ReplayOutline replay_outline(const ReplayParts& parts);
// Rows [first, last), counted from the first ever added, of the fields that are not frames; and frames.
// Throws std::runtime_error if rows were added since there were `added`.
ReplayRows replay_rows(const ReplayParts& parts, int64_t added, int64_t first, int64_t last);
py::array replay_frames(const ReplayParts& parts, int64_t added, size_t field, int64_t env, int64_t first,
                        int64_t last);

// The way back: what an outline that is right says, rows and frames in order, and the outline again.
void check_outline(const ReplayParts& parts, const ReplayOutline& outline);
void begin_replay(const ReplayParts& parts);
void put_replay_rows(const ReplayParts& parts, int64_t first, const ReplayRows& rows);
void put_replay_frames(const ReplayParts& parts, size_t field, int64_t env, int64_t first, py::handle frames);
void end_replay(const ReplayParts& parts, const ReplayOutline& outline);

}  // namespace fastrl
