// Which rows of a replay ring begin a sequence of `length` steps. They are marked among the rows' flags; only
// their leaves in the sum tree are not 0, so that a draw costs the same at any capacity and none is thrown
// away.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastrl {

enum RowFlag : uint8_t {
  kTerminated = 1,  // why a row is the last of its episode; neither: it is not, or not yet
  kTruncated = 2,
  kEnds = kTerminated | kTruncated,
  kFirst = 4,  // of its episode; known where sequences are kept
  kStart = 8   // a sequence begins here
};

class SequenceStarts {
 public:
  enum class Ends {
    across,  // a sequence may run over ends of episodes
    full,    // all its steps are of one episode
    padded   // as full, but it may stop short of `length`, where its episode or the ring's newest step ends
  };
  struct Options {
    int64_t steps, streams;  // the ring [steps, streams], of at least length + stride steps
    int64_t length, stride;  // sequences begin every `stride` steps: of the run, or of an episode
    Ends ends;
  };

  explicit SequenceStarts(const Options& options)
      : options_(options), position_(static_cast<size_t>(options.streams)) {}

  const Options& options() const { return options_; }

  // A step of the ring has been written and its flags as well: marks its rows, and appends the rows that are
  // the starts of sequences from now on.
  void add_step(int64_t step, uint8_t* flags, std::vector<int64_t>& starts);
  // The newest row of a stream, without a flag so far, ended its episode.
  void end_episode(int64_t stream) { position_[static_cast<size_t>(stream)] = 0; }
  void clear();
  // As if all steps had been added of which the ring holds the last, marked.
  void resume(int64_t added_steps, const uint8_t* flags);

  // The rows [length, n] of n sequences, time-major; `mask` [length, n] says which are theirs (others repeat
  // the last that is), `is_first` [length, n] which begin an episode.
  void expand(const int64_t* start, int64_t n, const uint8_t* flags, int64_t* row, bool* mask,
              bool* is_first) const;

 private:
  Options options_;
  std::vector<int64_t>
      position_;       // of each stream: steps of its episode so far, or as many modulo the stride
  int64_t added_ = 0;  // steps ever
};

}  // namespace fastrl
