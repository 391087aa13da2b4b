#include "sequence_starts.h"

#include <algorithm>

namespace fastrl {

namespace {

enum Mark : uint8_t { kFirst = 1, kStart = 2 };

}  // namespace

SequenceStarts::SequenceStarts(const Options& options)
    : options_(options),
      tree_(options.steps * options.streams),
      marks_(static_cast<size_t>(options.steps * options.streams)),
      position_(static_cast<size_t>(options.streams)) {}

void SequenceStarts::add(int64_t first, int64_t n, const uint8_t* flags, double leaf) {
  for (int64_t done = 0; done < n; done += options_.streams)
    add_step((first + done) / options_.streams, flags + done, leaf);
}

void SequenceStarts::add_step(int64_t step, const uint8_t* flags, double leaf) {
  const int64_t streams = options_.streams, back = options_.length - 1;
  const int64_t earlier = (step - back % options_.steps + options_.steps) % options_.steps;
  tree_.fill(step * streams, streams, 0);
  index_.clear();
  for (int64_t s = 0; s < streams; ++s) {
    int64_t& position = position_[static_cast<size_t>(s)];
    marks_[static_cast<size_t>(step * streams + s)] = position == 0 ? kFirst : 0;
    int64_t begin = position, at = step;
    if (options_.ends != Ends::padded) {
      begin = (options_.ends == Ends::full ? position : added_) - back;
      at = earlier;
    }
    if (begin >= 0 && begin % options_.stride == 0) {
      marks_[static_cast<size_t>(at * streams + s)] |= kStart;
      index_.push_back(at * streams + s);
    }
    position = flags[s] != 0 ? 0 : position + 1;
  }
  value_.assign(index_.size(), leaf);
  tree_.set(index_.data(), value_.data(), static_cast<int64_t>(index_.size()));
  ++added_;
}

void SequenceStarts::set(const int64_t* start, const double* leaf, int64_t n) {
  index_.clear();
  value_.clear();
  for (int64_t i = 0; i < n; ++i) {
    if ((marks_[static_cast<size_t>(start[i])] & kStart) == 0) continue;
    index_.push_back(start[i]);
    value_.push_back(leaf[i]);
  }
  tree_.set(index_.data(), value_.data(), static_cast<int64_t>(index_.size()));
}

void SequenceStarts::clear() {
  tree_.fill(0, capacity(), 0);
  std::fill(marks_.begin(), marks_.end(), uint8_t{0});
  std::fill(position_.begin(), position_.end(), 0);
  added_ = 0;
}

void SequenceStarts::expand(const int64_t* start, int64_t n, const uint8_t* flags, int64_t* row, bool* mask,
                            bool* is_first) const {
  const int64_t streams = options_.streams, newest = (added_ - 1) % options_.steps;
  const bool stops = options_.ends == Ends::padded;
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = start[i];
    bool inside = true;
    for (int64_t l = 0; l < options_.length; ++l) {
      row[l * n + i] = at;
      mask[l * n + i] = inside;
      is_first[l * n + i] = inside && (marks_[static_cast<size_t>(at)] & kFirst) != 0;
      if (stops && (flags[at] != 0 || at / streams == newest)) inside = false;
      if (inside) at = at + streams < capacity() ? at + streams : at + streams - capacity();
    }
  }
}

void SequenceStarts::restore(int64_t added, const uint8_t* marks, const int64_t* positions,
                             const double* leaves) {
  added_ = added;
  std::copy_n(marks, capacity(), marks_.begin());
  std::copy_n(positions, options_.streams, position_.begin());
  tree_.assign(leaves);
}

}  // namespace fastrl
