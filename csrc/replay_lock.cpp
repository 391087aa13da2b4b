#include "replay_lock.h"

#include <pthread.h>

#include <new>
#include <unordered_set>

namespace fastrl {

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
      lock->rows_.lock();
    }
  }

  static void in_parent() {
    for (ReplayLock* lock : get().all) {
      lock->rows_.unlock();
      lock->turn_.unlock();
    }
    get().mutex.unlock();
  }

  // New ones: a mutex that remembers its thread's number would not let the child's unlock it.
  static void in_child() {
    for (ReplayLock* lock : get().all) {
      new (&lock->rows_) std::shared_mutex;
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
