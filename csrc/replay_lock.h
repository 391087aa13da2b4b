// The lock of a replay buffer; replay.h says what it guards and in which order with the GIL.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace fastrl {

// Who writes is alone. Who changes priorities is beside those that read rows, but not beside those that draw.
enum class Access : uint8_t {
  read,    // rows
  draw,    // by their priorities, and read rows
  update,  // their priorities
  write,   // rows
};

// A lock under which nobody starves: who waits holds up those behind.
//
// fork() waits until no thread has any of these, so a child's rows are whole; there all are free, as the
// threads that wait for them in the parent are none of the child's.
class ReplayLock {
 public:
  ReplayLock();
  ~ReplayLock();
  ReplayLock(const ReplayLock&) = delete;
  ReplayLock& operator=(const ReplayLock&) = delete;

  void enter(Access access);
  bool try_enter(Access access) {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    return turn.owns_lock() && admit(access);
  }
  void leave(Access access) { changed(state_.fetch_sub(one(access))); }
  // Who drew goes on reading.
  void finish_drawing() { changed(state_.fetch_add(one(Access::read) - one(Access::draw))); }

 private:
  friend struct ReplayLocks;

  // state_: how many are inside with each access, and whether somebody sleeps until they have left
  static constexpr int kBits = 15;
  static constexpr uint64_t kAsleep = uint64_t{1} << 63;
  static constexpr uint64_t one(Access access) { return uint64_t{1} << (kBits * static_cast<int>(access)); }
  static constexpr uint64_t all(Access access) { return one(access) * ((1 << kBits) - 1); }
  static constexpr uint64_t excluded(Access by) {
    uint64_t inside = all(Access::write);
    if (by == Access::draw) inside |= all(Access::update);
    if (by == Access::update) inside |= all(Access::update) | all(Access::draw);
    if (by == Access::write) inside = ~kAsleep;
    return inside;
  }

  bool admit(Access access) {
    uint64_t state = state_.load(std::memory_order_relaxed);
    while ((state & excluded(access)) == 0)
      if (state_.compare_exchange_weak(state, state + one(access))) return true;
    return false;
  }
  void changed(uint64_t before) {
    if ((before & kAsleep) != 0) wake();
  }
  void wait(Access access);
  void wake();

  std::mutex turn_;  // of who enters next
  std::atomic<uint64_t> state_{0};
  std::mutex asleep_;
  std::condition_variable left_;
};

// Who is inside, as long as it lives.
template <Access access>
class Inside {
 public:
  explicit Inside(ReplayLock& lock) : lock_(&lock) { lock.enter(access); }
  Inside(ReplayLock& lock, std::try_to_lock_t) : lock_(lock.try_enter(access) ? &lock : nullptr) {}
  ~Inside() {
    if (lock_ != nullptr) lock_->leave(access_);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  bool owns_lock() const { return lock_ != nullptr; }
  void finish_drawing() {
    static_assert(access == Access::draw);
    lock_->finish_drawing();
    access_ = Access::read;
  }

 private:
  ReplayLock* lock_;
  Access access_ = access;
};

using Reading = Inside<Access::read>;
using Drawing = Inside<Access::draw>;
using Updating = Inside<Access::update>;
using Writing = Inside<Access::write>;

}  // namespace fastrl
