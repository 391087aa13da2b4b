// The lock of a replay buffer; replay.h says in which order with the GIL.
#pragma once

#include <mutex>
#include <shared_mutex>

namespace fastrl {

// A shared mutex under which a writer does not starve: who waits for the rows holds up those behind.
//
// fork() waits until no thread has any of these, so a child's rows are whole; there all are free, as the
// threads that wait for them in the parent are none of the child's.
class ReplayLock {
 public:
  ReplayLock();
  ~ReplayLock();
  ReplayLock(const ReplayLock&) = delete;
  ReplayLock& operator=(const ReplayLock&) = delete;

  void lock() {
    const std::lock_guard<std::mutex> turn(turn_);
    rows_.lock();
  }
  bool try_lock() {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    return turn.owns_lock() && rows_.try_lock();
  }
  void unlock() { rows_.unlock(); }
  void lock_shared() {
    const std::lock_guard<std::mutex> turn(turn_);
    rows_.lock_shared();
  }
  bool try_lock_shared() {
    const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
    return turn.owns_lock() && rows_.try_lock_shared();
  }
  void unlock_shared() { rows_.unlock_shared(); }

 private:
  friend struct ReplayLocks;
  std::mutex turn_;
  std::shared_mutex rows_;
};

}  // namespace fastrl
