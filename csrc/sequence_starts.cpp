#include "sequence_starts.h"

#include <algorithm>

namespace fastrl {

void SequenceStarts::add_step(int64_t step, uint8_t* flags, std::vector<int64_t>& starts) {
  const int64_t streams = options_.streams, back = options_.length - 1;
  const int64_t earlier = (step - back + options_.steps) % options_.steps;
  for (int64_t s = 0; s < streams; ++s) {
    int64_t& position = position_[static_cast<size_t>(s)];
    uint8_t& flag = flags[step * streams + s];
    if (position == 0) flag |= kFirst;
    int64_t begin = position, at = step;
    if (options_.ends != Ends::padded) {  // the sequence that this step completes
      begin = (options_.ends == Ends::full ? position : added_) - back;
      at = earlier;
    }
    if (begin >= 0 && begin % options_.stride == 0) {
      flags[at * streams + s] |= kStart;
      starts.push_back(at * streams + s);
    }
    position = (flag & kEnds) != 0 ? 0 : position + 1;
  }
  ++added_;
}

void SequenceStarts::clear() {
  std::fill(position_.begin(), position_.end(), 0);
  added_ = 0;
}

void SequenceStarts::resume(int64_t added_steps, const uint8_t* flags) {
  clear();
  added_ = added_steps;
  const int64_t stored = std::min(added_steps, options_.steps);
  for (int64_t s = 0; s < options_.streams && stored > 0; ++s) {
    const auto flag = [&](int64_t before) {
      return flags[(added_steps - 1 - before) % options_.steps * options_.streams + s];
    };
    if ((flag(0) & kEnds) != 0) continue;  // a new episode begins
    int64_t start = 0, steps = 0;          // since the newest start, since the episode's first
    for (int64_t before = 0; before < stored && steps == 0; ++before) {
      if ((flag(before) & kFirst) != 0) steps = before + 1;
      if ((flag(before) & kStart) != 0 && start == 0) start = before + 1;
    }
    // of an episode longer than the ring it is known that starts are at multiples of the stride
    position_[static_cast<size_t>(s)] = steps != 0 ? steps : start + options_.stride * options_.length;
  }
}

void SequenceStarts::expand(const int64_t* start, int64_t n, const uint8_t* flags, int64_t* row, bool* mask,
                            bool* is_first) const {
  const int64_t streams = options_.streams, capacity = options_.steps * streams;
  const int64_t newest = (added_ - 1) % options_.steps;
  const bool stops = options_.ends == Ends::padded;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = start[i];
    bool inside = true;
    for (int64_t l = 0; l < options_.length; ++l) {
      row[l * n + i] = at;
      mask[l * n + i] = inside;
      is_first[l * n + i] = inside && (flags[at] & kFirst) != 0;
      if ((stops && (flags[at] & kEnds) != 0) || at / streams == newest) inside = false;
      if (inside) at = at + streams < capacity ? at + streams : at + streams - capacity;
    }
  }
}

}  // namespace fastrl
