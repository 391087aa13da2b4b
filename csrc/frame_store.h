// Observations of a replay buffer with each frame stored once: of stacks of the last k frames only the
// newest, of an observation and the next one (k = 1) not both.
//
// Each environment has a stream of frames. An observation refers to its newest frame there; the ones before
// it are its older frames, and where fewer than k - 1 are its own, the oldest stands for the missing ones
// too. So a stack that a reset padded with its first frame takes one frame, one padded with zeros takes two,
// and one of k different frames takes k. An observation that does not continue the stream, by comparison of
// all bytes, starts anew: what is read is what was written, whatever that was.
#pragma once

#include <cstdint>
#include <vector>

#include "block_pool.h"
#include "field_store.h"

namespace fastrl {

// Not thread-safe, but for gather() from several threads at once: its owner holds a lock.
class FrameStore final : public FieldStore {
 public:
  struct Layout {
    int64_t num_envs, steps;  // rows: a ring [steps, num_envs]
    int64_t stack;            // k, in [1, kMostFrames]
    int64_t frame_bytes;      // of one frame
    int64_t item_bytes;       // of one element
    bool stack_last;          // an observation is [..., k] and not [k, ...]
  };
  static constexpr int64_t kMostFrames = 128;

  explicit FrameStore(const Layout& layout);

  const Layout& layout() const { return layout_; }
  int64_t rows() const { return layout_.num_envs * layout_.steps; }
  int64_t obs_bytes() const { return layout_.stack * layout_.frame_bytes; }
  // Memory of the frames now held, of the rows and of the blocks' addresses.
  int64_t nbytes() const override;

  // The rows are written, and those in `last` with an observation that follows.
  void prepare(int64_t n, const char* obs, const char* next_obs) override;
  void commit(int64_t first, int64_t n, int64_t source) override;
  void drop() override;
  void gather(const int64_t* rows, const int64_t* last, int64_t n, char* obs, char* next_obs) const override;
  void clear() override;

  bool holds(int64_t row) const { return rows_[row].obs != kNone; }
  bool holds_next(int64_t row) const { return rows_[row].next_obs != kNone; }

  // For saving: positions [first, end) of a stream are held and never change; a row is two packed references.
  struct Extent {
    int64_t first, end;
  };
  struct Row {
    int64_t obs = kNone, next_obs = kNone;  // position of the newest frame << 8 | frames before it; or kNone
  };
  static constexpr int64_t kNone = -1;
  Extent extent(int64_t env) const { return {streams_[env].first, streams_[env].end}; }
  void read_frames(int64_t env, int64_t first, int64_t count, void* out) const;
  const Row* row_data() const { return rows_.data(); }
  int64_t tail(int64_t env) const { return streams_[env].tail; }

  // For loading: whether n rows of whole steps, the oldest first, refer to frames in these extents, in order.
  bool consistent(const Extent* extents, const Row* rows, int64_t n, const int64_t* tails, bool pairs) const;
  // Into a cleared store: the frames of each stream in order (false: they are not), then the rows from
  // `first` on in the ring, which are consistent (false: other frames were given).
  bool restore_frames(int64_t env, int64_t first, int64_t count, const void* frames);
  bool restore_rows(int64_t first, int64_t n, const Extent* extents, const Row* rows, const int64_t* tails);

 private:
  struct Stream {
    std::vector<uint8_t*> blocks;                 // a ring of a power of two: block b is at b & (size - 1)
    int64_t first = 0, end = 0;                   // positions held
    int64_t tail = kNone;                         // the last observation
    int64_t end_before = 0, tail_before = kNone;  // prepare()
  };

  const uint8_t* frame(const Stream& stream, int64_t position) const;
  const uint8_t* frame_of(const Stream& stream, int64_t reference, int64_t slot) const;
  const uint8_t* stacked(const char* obs);
  int64_t append(Stream& stream, const uint8_t* stack);
  bool equal(const Stream& stream, const uint8_t* stack, int64_t shift) const;
  void push(Stream& stream, const uint8_t* frames, int64_t count);
  void release(Stream& stream, int64_t first);
  bool refers(const Extent& held, int64_t reference) const;

  Layout layout_;
  int shift_;  // frames of a block, as a power of two
  BlockPool pool_;
  std::vector<Stream> streams_;
  std::vector<Row> rows_, prepared_;  // of the ring; to go there
  std::vector<uint8_t> scratch_;      // an observation with its frames one after another
};

}  // namespace fastrl
