#include "replay_lock.h"

#include <pthread.h>

#include <chrono>
#include <new>
#include <unordered_set>

#include "spin.h"

namespace fastrl {
namespace {

constexpr std::chrono::microseconds kSleep{50};  // what falling asleep and waking up take

}  // namespace

void ReplayLock::enter(Access access) {
  const std::lock_guard<std::mutex> turn(turn_);
  wait(access);
}

void ReplayLock::wait(Access access) {
  if (spin(kSleep, [&] { return admit(access); })) return;
  std::unique_lock<std::mutex> lock(asleep_);
  state_.fetch_or(kAsleep);
  left_.wait(lock, [&] { return admit(access); });
  state_.fetch_and(~kAsleep);
}

void ReplayLock::wake() {
  const std::lock_guard<std::mutex> lock(asleep_);
  left_.notify_one();
}

// All locks of the process, for fork().
struct ReplayLocks {
  static ReplayLocks& get() {
    static auto* const locks = [] {  // never freed: a lock may outlive static objects
      auto* const made = new ReplayLocks;
      pthread_atfork(before_fork, in_parent, in_child);
      return made;
    }();
    return *locks;
  }

  static void before_fork() {
    get().mutex.lock();
    for (ReplayLock* lock : get().all) {
      lock->turn_.lock();
      lock->wait(Access::write);
    }
  }

  static void in_parent() {
    for (ReplayLock* lock : get().all) {
      lock->leave(Access::write);
      lock->turn_.unlock();
    }
    get().mutex.unlock();
  }

  // New ones: a mutex that remembers its thread's number would not let the child's unlock it.
  static void in_child() {
    for (ReplayLock* lock : get().all) {
      new (&lock->left_) std::condition_variable;
      new (&lock->asleep_) std::mutex;
      lock->state_.store(0);
      new (&lock->turn_) std::mutex;
    }
    new (&get().mutex) std::mutex;
  }

  std::mutex mutex;
  std::unordered_set<ReplayLock*> all;
};

ReplayLock::ReplayLock() {
  ReplayLocks& locks = ReplayLocks::get();
  const std::lock_guard<std::mutex> guard(locks.mutex);
  locks.all.insert(this);
}

ReplayLock::~ReplayLock() {
  ReplayLocks& locks = ReplayLocks::get();
  const std::lock_guard<std::mutex> guard(locks.mutex);
  locks.all.erase(this);
}

}  // namespace fastrl
