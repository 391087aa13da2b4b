#include "frame_store.h"

#include <algorithm>
#include <cstring>

#include "interleave.h"

namespace fastrl {

namespace {

constexpr int64_t kBlockBytes = 1 << 16, kLine = 64;

// Large blocks have fewer addresses, small ones less unused room at both ends of a stream: at most 1/128 of
// it.
int block_shift(const FrameStore::Layout& layout) {
  int shift = 0;
  while ((layout.frame_bytes << (shift + 1)) <= kBlockBytes && (int64_t(1) << (shift + 9)) <= layout.steps)
    ++shift;
  return shift;
}

int64_t newest(int64_t reference) { return reference >> 8; }
int64_t older(int64_t reference) { return reference & 0xff; }
int64_t oldest(int64_t reference) { return newest(reference) - older(reference); }
int64_t reference_to(int64_t newest, int64_t older) { return newest << 8 | older; }

// A frame and where it goes; `also` may be null.
struct Copy {
  const uint8_t* from;
  uint8_t *to, *also;
};

// Reads the frame once, and meanwhile brings the line `ahead` of each of its lines into the cache: of frames
// at random the processor foresees only what is on the same page.
void copy(const Copy& frame, int64_t bytes, const uint8_t* ahead) {
  struct Line {
    uint64_t word[kLine / 8];
  };
  int64_t i = 0;
  for (; i + kLine <= bytes; i += kLine) {
    __builtin_prefetch(ahead + i);
    Line line;
    std::memcpy(&line, frame.from + i, kLine);
    std::memcpy(frame.to + i, &line, kLine);
    if (frame.also != nullptr) std::memcpy(frame.also + i, &line, kLine);
  }
  const auto rest = static_cast<size_t>(bytes - i);
  if (rest == 0) return;
  __builtin_prefetch(ahead + i);
  std::memcpy(frame.to + i, frame.from + i, rest);
  if (frame.also != nullptr) std::memcpy(frame.also + i, frame.from + i, rest);
}

// The frames of one row's observation (null: not wanted) and of the one that follows.
struct Frames {
  const uint8_t* obs[FrameStore::kMostFrames];
  const uint8_t* next_obs[FrameStore::kMostFrames];
};

struct Plan {
  Copy copies[2 * FrameStore::kMostFrames];
  int64_t count;
};

void make_plan(const Frames& frames, const FrameStore::Layout& layout, uint8_t* obs, uint8_t* next_obs,
               Plan& plan) {
  const int64_t k = layout.stack, bytes = layout.frame_bytes;
  plan.count = 0;
  if (obs == nullptr) {
    for (int64_t m = 0; m < k; ++m)
      plan.copies[plan.count++] = {frames.next_obs[m], next_obs + m * bytes, nullptr};
    return;
  }
  for (int64_t m = 0; m < k; ++m) {
    const bool shared = next_obs != nullptr && m > 0 && frames.next_obs[m - 1] == frames.obs[m];
    plan.copies[plan.count++] = {frames.obs[m], obs + m * bytes,
                                 shared ? next_obs + (m - 1) * bytes : nullptr};
  }
  if (next_obs == nullptr) return;
  for (int64_t m = 0; m < k; ++m)
    if (m + 1 == k || frames.next_obs[m] != frames.obs[m + 1])
      plan.copies[plan.count++] = {frames.next_obs[m], next_obs + m * bytes, nullptr};
}

// Both stacks of a row whose axis is the last, line by line: a frame that is in both is in the cache by then.
void copy_across(const Frames& frames, const Plan& ahead, const FrameStore::Layout& layout, uint8_t* obs,
                 uint8_t* next_obs) {
  const int64_t k = layout.stack, item = layout.item_bytes, elements = layout.frame_bytes / item;
  const int64_t piece = std::max(kLine / item, int64_t(1));
  const auto put = [&](const uint8_t* const* from, int64_t first, int64_t last, uint8_t* to) {
    const bool done = with_item(item, [&](auto x) {
      if (k == 4)
        interleave<decltype(x), 4>(from, k, first, last, to);
      else
        interleave<decltype(x), 0>(from, k, first, last, to);
    });
    if (done) return;
    to += first * k * item;
    for (int64_t e = first; e < last; ++e)
      for (int64_t m = 0; m < k; ++m, to += item)
        std::memcpy(to, from[m] + e * item, static_cast<size_t>(item));
  };
  for (int64_t first = 0; first < elements; first += piece) {
    const int64_t last = std::min(first + piece, elements);
    for (int64_t c = 0; c < ahead.count; ++c) __builtin_prefetch(ahead.copies[c].from + first * item);
    if (obs != nullptr) put(frames.obs, first, last, obs);
    if (next_obs != nullptr) put(frames.next_obs, first, last, next_obs);
  }
}

}  // namespace

FrameStore::FrameStore(const Layout& layout)
    : layout_(layout),
      shift_(block_shift(layout)),
      pool_(layout.frame_bytes << shift_),
      streams_(static_cast<size_t>(layout.num_envs)),
      rows_(static_cast<size_t>(rows())),
      scratch_(layout.stack_last && layout.stack > 1 ? static_cast<size_t>(obs_bytes()) : 0) {}

int64_t FrameStore::nbytes() const {
  int64_t bytes = pool_.blocks_out() * pool_.block_bytes() + rows() * int64_t(sizeof(Row));
  for (const Stream& stream : streams_) bytes += static_cast<int64_t>(stream.blocks.size() * sizeof(void*));
  return bytes;
}

// Positions

const uint8_t* FrameStore::frame(const Stream& stream, int64_t position) const {
  const auto block = static_cast<size_t>(position >> shift_) & (stream.blocks.size() - 1);
  return stream.blocks[block] + (position & ((int64_t(1) << shift_) - 1)) * layout_.frame_bytes;
}

// The frame in a slot of the stack, the newest in the last.
const uint8_t* FrameStore::frame_of(const Stream& stream, int64_t reference, int64_t slot) const {
  return frame(stream, newest(reference) - std::min(layout_.stack - 1 - slot, older(reference)));
}

bool FrameStore::refers(const Extent& held, int64_t reference) const {
  return reference >= 0 && older(reference) < layout_.stack && oldest(reference) >= held.first &&
         newest(reference) < held.end;
}

// Writing

const uint8_t* FrameStore::stacked(const char* obs) {
  const auto* const stack = reinterpret_cast<const uint8_t*>(obs);
  if (scratch_.empty()) return stack;
  const int64_t k = layout_.stack, item = layout_.item_bytes, elements = layout_.frame_bytes / item;
  const bool done = with_item(item, [&](auto x) {
    if (k == 4)
      deinterleave<decltype(x), 4>(stack, k, elements, scratch_.data());
    else
      deinterleave<decltype(x), 0>(stack, k, elements, scratch_.data());
  });
  if (!done)
    for (int64_t m = 0; m < k; ++m)
      for (int64_t e = 0; e < elements; ++e)
        std::memcpy(&scratch_[static_cast<size_t>((m * elements + e) * item)], stack + (e * k + m) * item,
                    static_cast<size_t>(item));
  return scratch_.data();
}

// Whether the last observation, moved on by `shift` frames, is the beginning of this one.
bool FrameStore::equal(const Stream& stream, const uint8_t* stack, int64_t shift) const {
  for (int64_t m = 0; m + shift < layout_.stack; ++m)
    if (std::memcmp(stack + m * layout_.frame_bytes, frame_of(stream, stream.tail, m + shift),
                    static_cast<size_t>(layout_.frame_bytes)) != 0)
      return false;
  return true;
}

int64_t FrameStore::append(Stream& stream, const uint8_t* stack) {
  const int64_t last = layout_.stack - 1, bytes = layout_.frame_bytes;
  int64_t from = last, before = 0;  // the frames to store, and how many of the stored ones belong to it
  if (stream.tail != kNone && equal(stream, stack, 0)) return stream.tail;
  if (stream.tail != kNone && newest(stream.tail) + 1 == stream.end && equal(stream, stack, 1)) {
    before = std::min(older(stream.tail) + 1, last);
  } else {
    from = 0;
    while (from < last &&
           std::memcmp(stack + from * bytes, stack + (from + 1) * bytes, static_cast<size_t>(bytes)) == 0)
      ++from;
    before = last - from;
  }
  push(stream, stack + from * bytes, last + 1 - from);
  return stream.tail = reference_to(stream.end - 1, before);
}

// Blocks past the end, of a push that failed, are used by the next one.
void FrameStore::push(Stream& stream, const uint8_t* frames, int64_t count) {
  const int64_t needed = ((stream.end + count - 1) >> shift_) - (stream.first >> shift_) + 1;
  if (needed > static_cast<int64_t>(stream.blocks.size())) {
    size_t size = 4;
    while (static_cast<int64_t>(size) < needed) size *= 2;
    std::vector<uint8_t*> blocks(size, nullptr);
    const int64_t first = stream.first >> shift_;
    for (int64_t b = first; b < first + static_cast<int64_t>(stream.blocks.size()); ++b)
      blocks[static_cast<size_t>(b) & (size - 1)] =
          stream.blocks[static_cast<size_t>(b) & (stream.blocks.size() - 1)];
    stream.blocks.swap(blocks);
  }
  for (int64_t i = 0; i < count; ++i) {
    uint8_t*& block = stream.blocks[static_cast<size_t>(stream.end >> shift_) & (stream.blocks.size() - 1)];
    if (block == nullptr) block = pool_.take();
    const int64_t within = stream.end & ((int64_t(1) << shift_) - 1);
    std::memcpy(block + within * layout_.frame_bytes, frames + i * layout_.frame_bytes,
                static_cast<size_t>(layout_.frame_bytes));
    ++stream.end;
  }
}

void FrameStore::release(Stream& stream, int64_t first) {
  for (int64_t b = stream.first >> shift_; b < first >> shift_; ++b) {
    uint8_t*& block = stream.blocks[static_cast<size_t>(b) & (stream.blocks.size() - 1)];
    pool_.give(block);
    block = nullptr;
  }
  stream.first = first;
}

void FrameStore::prepare(int64_t n, const char* obs, const char* next_obs) {
  const int64_t envs = layout_.num_envs, bytes = obs_bytes();
  prepared_.resize(static_cast<size_t>(n));
  for (Stream& stream : streams_) {
    stream.end_before = stream.end;
    stream.tail_before = stream.tail;
  }
  try {
    for (int64_t i = 0; i < n; ++i) {
      Stream& stream = streams_[static_cast<size_t>(i % envs)];
      Row& row = prepared_[static_cast<size_t>(i)];
      row.obs = append(stream, stacked(obs + i * bytes));
      row.next_obs = next_obs == nullptr ? kNone : append(stream, stacked(next_obs + i * bytes));
    }
  } catch (...) {
    drop();
    throw;
  }
}

void FrameStore::drop() {
  for (Stream& stream : streams_) {
    stream.end = stream.end_before;
    stream.tail = stream.tail_before;
  }
}

void FrameStore::commit(int64_t first, int64_t n, int64_t source) {
  std::copy_n(prepared_.begin() + source, n, rows_.begin() + first);
  // the step after is the oldest, once the ring is full
  const int64_t after = (first + n) % rows();
  for (int64_t env = 0; env < layout_.num_envs; ++env) {
    const int64_t oldest_obs = rows_[static_cast<size_t>(after + env)].obs;
    if (oldest_obs != kNone) release(streams_[static_cast<size_t>(env)], oldest(oldest_obs));
  }
}

void FrameStore::clear() {
  pool_.clear();
  std::fill(streams_.begin(), streams_.end(), Stream());
  std::fill(rows_.begin(), rows_.end(), Row());
}

// Reading

void FrameStore::gather(const int64_t* rows, const int64_t* last, int64_t n, char* obs,
                        char* next_obs) const {
  const int64_t k = layout_.stack, bytes = obs_bytes(), envs = layout_.num_envs;
  const bool across = layout_.stack_last && k > 1;
  auto* const to = reinterpret_cast<uint8_t*>(obs);
  auto* const next_to = reinterpret_cast<uint8_t*>(next_obs);
  Frames frames[2];
  Plan plans[2];
  const auto prepare = [&](int64_t i) {
    Frames& found = frames[i & 1];
    if (to != nullptr) {
      const Stream& stream = streams_[static_cast<size_t>(rows[i] % envs)];
      const int64_t reference = rows_[static_cast<size_t>(rows[i])].obs;
      for (int64_t m = 0; m < k; ++m) found.obs[m] = frame_of(stream, reference, m);
    }
    if (next_to != nullptr) {
      const Stream& stream = streams_[static_cast<size_t>(last[i] % envs)];
      const int64_t reference = rows_[static_cast<size_t>(last[i])].next_obs;
      for (int64_t m = 0; m < k; ++m) found.next_obs[m] = frame_of(stream, reference, m);
    }
    make_plan(found, layout_, to == nullptr ? nullptr : to + i * bytes,
              next_to == nullptr ? nullptr : next_to + i * bytes, plans[i & 1]);
  };
  if (n == 0 || (to == nullptr && next_to == nullptr)) return;
  prepare(0);
  for (int64_t i = 0; i < n; ++i) {
    if (i + 1 < n) prepare(i + 1);
    const Plan &now = plans[i & 1], &then = plans[(i + (i + 1 < n)) & 1];
    if (across) {
      copy_across(frames[i & 1], then, layout_, to == nullptr ? nullptr : to + i * bytes,
                  next_to == nullptr ? nullptr : next_to + i * bytes);
    } else {
      for (int64_t c = 0; c < now.count; ++c)
        copy(now.copies[c], layout_.frame_bytes, then.copies[std::min(c, then.count - 1)].from);
    }
  }
}

// Saving and loading

void FrameStore::read_frames(int64_t env, int64_t first, int64_t count, void* out) const {
  auto* to = static_cast<uint8_t*>(out);
  for (int64_t position = first; position < first + count; ++position, to += layout_.frame_bytes)
    std::memcpy(to, frame(streams_[static_cast<size_t>(env)], position),
                static_cast<size_t>(layout_.frame_bytes));
}

bool FrameStore::consistent(const Extent* extents, const Row* rows, int64_t n, const int64_t* tails,
                            bool pairs) const {
  const int64_t envs = layout_.num_envs;
  for (int64_t env = 0; env < envs; ++env) {
    const Extent& held = extents[env];
    if (held.first < 0 || held.end < held.first) return false;
    if (tails[env] == kNone ? n > 0 : !refers(held, tails[env])) return false;
    int64_t before = held.first;  // what is released for a row is needed by no later one
    for (int64_t row = env; row < n; row += envs) {
      const Row& x = rows[row];
      if (!refers(held, x.obs) || oldest(x.obs) < before) return false;
      before = oldest(x.obs);
      if (pairs ? !refers(held, x.next_obs) || oldest(x.next_obs) < before : x.next_obs != kNone)
        return false;
    }
    if (n > 0 && oldest(tails[env]) < before) return false;
  }
  return true;
}

bool FrameStore::restore_frames(int64_t env, int64_t first, int64_t count, const void* frames) {
  Stream& stream = streams_[static_cast<size_t>(env)];
  if (stream.first == stream.end) stream.first = stream.end = first;
  if (stream.end != first) return false;
  push(stream, static_cast<const uint8_t*>(frames), count);
  return true;
}

bool FrameStore::restore_rows(int64_t first, int64_t n, const Extent* extents, const Row* rows,
                              const int64_t* tails) {
  for (int64_t env = 0; env < layout_.num_envs; ++env) {
    Stream& stream = streams_[static_cast<size_t>(env)];
    const Extent& held = extents[env];
    if (stream.first == stream.end && held.first == held.end) stream.first = stream.end = held.first;
    if (stream.first != held.first || stream.end != held.end) return false;
    stream.tail = tails[env];
  }
  for (int64_t i = 0; i < n; ++i) rows_[static_cast<size_t>((first + i) % this->rows())] = rows[i];
  return true;
}

}  // namespace fastrl
