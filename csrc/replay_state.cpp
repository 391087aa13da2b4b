#include "replay_state.h"

#include <algorithm>
#include <string>
#include <vector>

#include "new_array.h"
#include "replay_rows.h"

namespace fastrl {

ReplayState replay_state(const ReplayParts& parts) {
  const Replay& replay = parts.replay;
  int64_t n = 0;
  alone<Reading>(parts, [&] { n = replay.stored(); });
  for (;;) {
    Batch batch(parts.fields, "state", n, py::none(), false, false);
    const auto flags = py::array_t<uint8_t>(n);
    py::object leaves = py::none();
    if (replay.prioritized()) leaves = py::array_t<double>(n);
    double* leaf = leaves.is_none() ? nullptr : static_cast<double*>(contents(leaves.ptr()));
    auto* flag = static_cast<uint8_t*>(contents(flags.ptr()));
    Replay::Position position{};
    bool same = false;
    alone<Drawing>(parts, [&] {
      same = replay.stored() == n;  // a thread may have added rows since
      n = replay.stored();
      if (!same) return;
      position = replay.position();
      const int64_t capacity = replay.capacity();
      for (int64_t i = 0; i < n; ++i) {
        const int64_t row = (replay.next_row() + capacity - n + i) % capacity;
        batch.index[i] = row;
        flag[i] = replay.flags()[row];
        if (leaf != nullptr) leaf[i] = replay.leaves()[row];
      }
      replay.gather_steps(batch.index, n, batch.field.data());
    });
    if (!same) continue;
    batch.result.attr("pop")("indexes");
    return py::make_tuple(
        py::make_tuple(position.added, position.seed, position.counter, position.max_priority), flags, leaves,
        batch.result);
  }
}

void restore_replay(const ReplayParts& parts, const ReplayPlace& place, py::handle flags, py::handle leaves,
                    const ReplayRows& fields) {
  Replay& replay = parts.replay;
  const Replay::Position to{place[0].cast<int64_t>(), place[1].cast<uint64_t>(), place[2].cast<uint64_t>(),
                            place[3].cast<double>()};
  if (to.added < 0 || to.added % replay.streams() != 0)
    throw py::value_error("load_state: added must be a multiple of num_envs = " +
                          std::to_string(replay.streams()) + ", got " + std::to_string(to.added));
  if (!replay.valid_priority(to.max_priority))
    throw py::value_error(
        "load_state: max_priority must be >= 0 and (max_priority + eps)^alpha at most 2^960, got " +
        std::string(py::str(place[3])));
  const int64_t n = std::min(to.added, replay.capacity());
  // copies: other threads run while they are used
  const std::vector<uint8_t> flag = column<uint8_t>(flags, n, "flags");
  const uint8_t largest = replay.largest_flag();
  const auto bad_flag = std::find_if(flag.begin(), flag.end(), [&](uint8_t x) { return x > largest; });
  if (bad_flag != flag.end())
    throw py::value_error("load_state: flags must be at most " + std::to_string(largest) + ", got " +
                          std::to_string(*bad_flag));
  std::vector<double> leaf;
  if (replay.prioritized()) {
    leaf = column<double>(leaves, n, "leaves");
    const auto bad =
        std::find_if(leaf.begin(), leaf.end(), [](double x) { return !(x >= 0 && x <= kLargestLeaf); });
    if (bad != leaf.end())
      throw py::value_error("load_state: leaves must be finite, >= 0 and at most 2^960, got " +
                            std::string(py::str(py::float_(*bad))));
  }
  std::vector<Values> values_of;
  const std::vector<const char*> data = parts.fields.read("load_state", fields, false, values_of);
  if (values_of[0].rows != n || !values_of[0].leading)
    throw py::value_error("load_state: fields must have " + std::to_string(n) + " rows, got " +
                          std::to_string(values_of[0].rows));
  alone<Writing>(parts, [&] {
    replay.restore(to, flag.data(), replay.prioritized() ? leaf.data() : nullptr, data.data());
  });
}

}  // namespace fastrl
