// Replay: a ring of transitions, what is drawn from it, and n-step returns at the moment of drawing. No
// Python.
//
// The ring holds steps of several streams, one an environment: row t * streams + s is a step of stream s.
// Fields of few bytes lie together in one record a row, so that a random row costs one or two cache lines;
// large ones lie in columns of their own, or in a FieldStore that keeps them in another way.
//
// The lock. ReplayLock guards a Replay: many may read (draw, gather, look) or one may write; one may change
// priorities while others read rows, but not while they draw by priority. Its order with the GIL: nobody
// waits for the lock with the GIL held, and nobody waits for the GIL (makes a Python object) with the lock
// held. So long work goes: release the GIL, take the lock, work, release the lock, take the GIL. Work of a
// few microseconds may keep the GIL if it gets the lock by try_lock, else it goes the long way. fork() alone
// waits for it with the GIL, which whoever has the lock can do without.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "field_store.h"
#include "largest_leaf.h"
#include "replay_lock.h"
#include "sequence_starts.h"
#include "sum_tree.h"

namespace fastrl {

struct ReplayField {
  // Which value of a window of n steps is returned: the first row's, the last row's, or sum_k gamma^k x_k.
  enum class At : uint8_t { first, last, sum };
  int64_t bytes;  // of one row
  At at = At::first;
  bool is_double = false;     // elements of a sum: float64, else float32
  int32_t store = -1;         // index of its FieldStore; -1: the record or a column
  bool is_following = false;  // in that store
  // written by Replay: value of row r at base + r * stride
  char* base = nullptr;
  int64_t stride = 0;
};

struct ReplayPriorities {
  double alpha, eps;
  bool of_stored;  // a new row gets the largest priority that is stored, not the largest ever given
};

struct ReplayOptions {
  int64_t steps, streams;
  int64_t window = 1;  // n of n-step
  double gamma = 1;
  uint64_t seed = 0;
};

// The weight that becomes 1: the batch's largest, the buffer's largest, or the one of a uniform draw.
enum class WeightScale : uint8_t { batch, buffer, uniform };

// How rows are drawn in proportion to their priorities.
struct PriorityDraw {
  bool stratified;
  WeightScale scale;
  double beta;
};

// All member functions need the ReplayLock: those that are const Reading, and where they read priorities
// Drawing; set_leaves() Updating; the others Writing. Except the sizes, which never change.
class Replay {
 public:
  Replay(const ReplayOptions& options, std::vector<ReplayField> fields,
         std::vector<std::unique_ptr<FieldStore>> stores, const ReplayPriorities* priorities);

  int64_t capacity() const { return capacity_; }
  int64_t streams() const { return options_.streams; }
  int64_t window() const { return options_.window; }
  bool prioritized() const { return tree_ != nullptr; }
  int64_t bytes() const;

  int64_t stored() const { return stored_; }
  int64_t next_row() const { return next_; }
  int64_t added() const { return added_; }  // rows ever added
  double max_priority() const;
  const double* leaves() const { return tree_->leaves(); }
  const uint8_t* flags() const { return flags_.data(); }

  // n rows (a multiple of streams), values of each field without gaps; flags [n]; leaf null: the largest
  // priority. Returns the row of the first. Throws std::bad_alloc, and nothing is added then.
  int64_t add(int64_t n, const char* const* field, const uint8_t* flags, const double* leaf, double largest);
  // The newest row of a stream ends its episode, without having terminated.
  void end_episode(int64_t stream);
  void clear();

  // n rows, uniformly; n <= stored() if each is to be drawn at most once.
  void draw(int64_t n, bool replacement, int64_t* row) const;
  // n rows in proportion to their priorities. False, and nothing drawn, if all are 0.
  bool draw(int64_t n, const PriorityDraw& how, int64_t* row, float* weight) const;
  // The fields of these rows, null: not wanted; discount (null: not wanted): gamma^k, 0 if the window of k
  // rows terminated.
  void gather(const int64_t* row, int64_t n, char* const* field, float* discount) const;
  // The same of single steps, as they were added.
  void gather_steps(const int64_t* row, int64_t n, char* const* field) const;

  // From now on, before anything is added, priorities are those of sequences, by the rows where they begin.
  void keep_sequences(const SequenceStarts::Options& options);
  const SequenceStarts* sequences() const { return starts_.get(); }
  uint8_t largest_flag() const { return starts_ == nullptr ? kEnds : kEnds | kFirst | kStart; }

  // Leaves of stored rows, largest: the largest priority among them. With sequences, those of rows that begin
  // none are passed over; with `since`, those of rows written when so many had been added, or later. Then the
  // largest is found among the others' priorities.
  void set_leaves(const int64_t* row, const double* leaf, int64_t n, double largest, const double* priority,
                  int64_t since = kAnyTime);
  static constexpr int64_t kAnyTime = std::numeric_limits<int64_t>::max();
  // Whether a leaf can be made of it, and of a new row's priority.
  bool valid_priority(double priority) const;
  bool to_leaves(const float* priority, int64_t n, double* leaf, double* largest) const;
  bool to_leaves(const double* priority, int64_t n, double* leaf, double* largest) const;

  uint64_t counter() const { return counter_.load(std::memory_order_relaxed); }

  // Everything but the fields, as another Replay of these sizes had it; then add() writes the fields.
  struct Position {
    int64_t added;
    uint64_t seed, counter;
    double max_priority;
  };
  Position position() const;
  // field null: the fields are there already, by put_rows() of the rows counted from the first ever added.
  // Throws std::bad_alloc, and nothing is stored then.
  void restore(const Position& position, const uint8_t* flags, const double* leaf, const char* const* field);
  void put_rows(int64_t first, int64_t n, const char* const* field);
  const ReplayField& field(size_t f) const { return fields_[f]; }

 private:
  struct Region {  // what is fetched ahead of a random row
    const char* base;
    int64_t stride, lines;
  };
  struct Release {
    void operator()(char* memory) const;
  };
  using Memory = std::unique_ptr<char, Release>;

  Memory allocate(int64_t bytes);
  void prepare_stores(int64_t n, const char* const* field);
  void write(int64_t first, int64_t n, const char* const* field, int64_t source, const uint8_t* flags);
  void write_columns(int64_t first, int64_t n, const char* const* field, int64_t source);
  void clear_rows();
  void clear_leaves();
  void mark_starts(double leaf);
  void prefetch(const int64_t* row, int64_t n) const;
  void windows(const int64_t* row, int64_t n, int64_t* last, int64_t* length) const;
  void copy(int64_t window, const int64_t* row, int64_t n, char* const* field, float* discount) const;
  void sum(const ReplayField& field, const int64_t* row, const int64_t* length, int64_t n, char* out) const;
  double new_leaf();
  void write_leaves(int64_t n, const double* leaf, double common);
  // Changes the leaves of the n rows row(i).
  template <class Row, class Change>
  void change_leaves(int64_t n, Row row, Change change);

  ReplayOptions options_;
  std::vector<ReplayField> fields_;
  std::vector<std::unique_ptr<FieldStore>> stores_;
  struct Pair {
    int current = -1, following = -1;  // of fields_
  };
  std::vector<Pair> pairs_;  // of stores_
  int64_t capacity_, bytes_ = 0;
  std::vector<Memory> memory_;
  std::vector<Region> regions_;
  std::vector<uint8_t> flags_;
  std::vector<double> power_;  // gamma^k
  int64_t stored_ = 0, next_ = 0, added_ = 0;
  mutable std::atomic<uint64_t> counter_{0};  // of draws: each call is another

  std::unique_ptr<SequenceStarts> starts_;
  std::vector<int64_t> begun_;  // of a step: rows that begin a sequence
  std::unique_ptr<SumTree> tree_;
  ReplayPriorities priorities_{};
  std::unique_ptr<LargestLeaf> largest_;  // null: not asked for
  double max_priority_ = 1;
};

}  // namespace fastrl
