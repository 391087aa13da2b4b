// Which rows of a replay ring begin a sequence of `length` steps, in a sum tree: a draw costs the same at any
// capacity, and no draw has to be thrown away.
#pragma once

#include <cstdint>
#include <vector>

#include "sum_tree.h"

namespace fastrl {

// Not thread-safe, as SumTree: its owner holds a lock.
class SequenceStarts {
 public:
  enum class Ends {
    across,  // a sequence may run over ends of episodes
    full,    // all its steps are of one episode
    padded   // as full, but it may stop short of `length`, where its episode or the ring's newest step ends
  };
  struct Options {
    int64_t steps, streams;  // the ring [steps, streams]
    int64_t length, stride;  // sequences begin every `stride` steps: of the ring, or of an episode
    Ends ends;
  };

  explicit SequenceStarts(const Options& options);

  const Options& options() const { return options_; }
  SumTree& tree() { return tree_; }
  const SumTree& tree() const { return tree_; }

  // Rows [first, first + n), whole steps, have been written; a flag that is not 0 ends an episode. `leaf` is
  // what sequences that become whole by them get.
  void add(int64_t first, int64_t n, const uint8_t* flags, double leaf);
  // The newest row of a stream, without a flag so far, ended its episode.
  void end_episode(int64_t stream) { position_[static_cast<size_t>(stream)] = 0; }
  void clear();

  // Leaves of starts; rows that have been overwritten since they were drawn, and begin nothing now, are
  // passed over.
  void set(const int64_t* start, const double* leaf, int64_t n);

  // The rows [length, n] of n sequences, time-major; `mask` [length, n] says which are theirs (others repeat
  // the last that is), `is_first` [length, n] which begin an episode.
  void expand(const int64_t* start, int64_t n, const uint8_t* flags, int64_t* row, bool* mask,
              bool* is_first) const;

  // For saving and loading.
  int64_t added() const { return added_; }
  const uint8_t* marks() const { return marks_.data(); }  // of each row
  const int64_t* positions() const { return position_.data(); }
  void restore(int64_t added, const uint8_t* marks, const int64_t* positions, const double* leaves);

 private:
  int64_t capacity() const { return options_.steps * options_.streams; }
  void add_step(int64_t step, const uint8_t* flags, double leaf);

  Options options_;
  SumTree tree_;
  std::vector<uint8_t> marks_;     // of each row: begins an episode, a sequence
  std::vector<int64_t> position_;  // of each stream: steps of its episode so far
  int64_t added_ = 0;              // steps ever
  std::vector<int64_t> index_;     // of a call
  std::vector<double> value_;
};

}  // namespace fastrl
