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
  for (int64_t s = 0; s < options_.streams; ++s) {
    for (int64_t before = 0; before < stored; ++before) {
      const int64_t step = (added_steps - 1 - before) % options_.steps;
      const uint8_t flag = flags[step * options_.streams + s];
      if (before == 0 && (flag & kEnds) != 0) break;  // a new episode begins
      int64_t& position = position_[static_cast<size_t>(s)];
      if ((flag & kFirst) != 0) {
        position = before + 1;
        break;
      }
      // an episode longer than the ring: of a start it is known that its position is a multiple of the stride
      if ((flag & kStart) != 0 && options_.ends != Ends::across && position == 0)
        position = before + 1 + options_.stride * options_.length;
    }
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
