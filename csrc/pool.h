// Threads for loops over environments. They start with the first loop that is worth them, sleep between
// loops, and end with the process.
//
// Each thread has a part of the loop to itself, and whoever has finished takes what others have not begun;
// the caller is one of them. So a thread that a busy machine does not run holds up the loop by the one chunk
// it is in, at most.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "spin.h"

namespace fastrl {

class Pool {
 public:
  // The process's own. A child of fork has none of its parent's threads, and perhaps a lock that one of them
  // held: it gets a new pool. Pools are never freed, so that threads asleep in them may outlive static
  // objects.
  static Pool& instance() {
    const pid_t pid = getpid();
    Pool* known = current_.load(std::memory_order_acquire);
    if (known != nullptr && known->pid_ == pid) return *known;
    Pool* fresh = new Pool(pid);
    if (current_.compare_exchange_strong(known, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
    return *known;
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // body(begin, end) for parts of [first, n) that begin at first plus a multiple of chunk, by at most
  // `threads` threads.
  template <class Body>
  void run(int64_t first, int64_t n, int64_t chunk, int64_t threads, const Body& body) {
    const auto call = [](const void* context, int64_t begin, int64_t end) {
      (*static_cast<const Body*>(context))(begin, end);
    };
    Loop loop(first, n, chunk, threads, call, &body);
    run(loop);
  }

 private:
  using Call = void (*)(const void* context, int64_t begin, int64_t end);

  static constexpr std::chrono::microseconds kSpin{20};

  struct Loop {
    struct alignas(64) Part {
      std::atomic<int64_t> next;
      int64_t end;
      bool joined = false;
    };

    Loop(int64_t first, int64_t n, int64_t chunk_, int64_t threads, Call call_, const void* context_)
        : parts(static_cast<size_t>(threads)), chunk(chunk_), call(call_), context(context_) {
      const int64_t chunks = (n - first + chunk - 1) / chunk;
      for (int64_t i = 0; i < threads; ++i) {
        parts[static_cast<size_t>(i)].next = first + chunks * i / threads * chunk;
        parts[static_cast<size_t>(i)].end = std::min(n, first + chunks * (i + 1) / threads * chunk);
      }
    }

    // Its own part, then what is left of the others'.
    void work(size_t own) {
      for (size_t k = 0; k < parts.size(); ++k) {
        Part& part = parts[(own + k) % parts.size()];
        for (;;) {
          const int64_t begin = part.next.fetch_add(chunk, std::memory_order_relaxed);
          if (begin >= part.end) break;
          call(context, begin, std::min(begin + chunk, part.end));
        }
      }
    }

    // Nothing more is begun.
    void stop() {
      for (Part& part : parts) part.next.store(part.end, std::memory_order_relaxed);
    }

    std::vector<Part> parts;
    int64_t chunk;
    Call call;
    const void* context;
    std::atomic<int64_t> working{0};  // workers inside; changes under the pool's lock
    std::exception_ptr error;
  };

  explicit Pool(pid_t pid) : pid_(pid) {}

  void run(Loop& loop) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      start(loop.parts.size() - 1);
      loops_.push_back(&loop);
      posted_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    attempt(loop, 0);
    const auto left = [&loop] { return loop.working.load(std::memory_order_acquire) == 0; };
    std::unique_lock<std::mutex> lock(mutex_);
    loops_.erase(std::find(loops_.begin(), loops_.end(), &loop));
    if (!left()) {
      lock.unlock();
      spin(kSpin, left);
      lock.lock();  // also waits until the last worker is done with the loop
      left_.wait(lock, left);
    }
    if (loop.error) std::rethrow_exception(loop.error);
  }

  void start(size_t workers) {
    try {
      for (; workers_ < workers; ++workers_) std::thread([this, own = workers_ + 1] { serve(own); }).detach();
    } catch (const std::system_error&) {  // the machine has no more threads: those there are do the work
    }
  }

  // A worker: takes part `own` of any loop that has one.
  void serve(size_t own) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Loop* loop = nullptr;
      for (Loop* posted : loops_)
        if (own < posted->parts.size() && !posted->parts[own].joined) loop = posted;
      if (loop == nullptr) {
        const uint64_t seen = posted_.load(std::memory_order_relaxed);
        const auto news = [this, seen] { return posted_.load(std::memory_order_acquire) != seen; };
        lock.unlock();
        spin(kSpin, news);
        lock.lock();
        wake_.wait(lock, news);
        continue;
      }
      loop->parts[own].joined = true;
      loop->working.fetch_add(1, std::memory_order_relaxed);
      lock.unlock();
      attempt(*loop, own);
      lock.lock();
      if (loop->working.fetch_sub(1, std::memory_order_release) == 1) left_.notify_all();
    }
  }

  // The first error of any thread is the loop's.
  void attempt(Loop& loop, size_t own) {
    try {
      loop.work(own);
    } catch (...) {
      loop.stop();
      const std::lock_guard<std::mutex> lock(mutex_);
      if (!loop.error) loop.error = std::current_exception();
    }
  }

  static inline std::atomic<Pool*> current_{nullptr};

  const pid_t pid_;
  std::mutex mutex_;
  std::condition_variable wake_, left_;
  std::vector<Loop*> loops_;
  std::atomic<uint64_t> posted_{0};  // loops so far
  size_t workers_ = 0;
};

// body(begin, end) for parts of [0, n) that begin at multiples of chunk, by at most `threads` threads. They
// join only if the first chunk took so long that waking them pays. Which thread does what is not determined:
// parts must not depend on each other. An exception leaves the loop once no part is running; others are then
// not begun.
template <class Body>
void parallel_for(int64_t n, int64_t chunk, int64_t threads, const Body& body) {
  using Clock = std::chrono::steady_clock;
  constexpr std::chrono::microseconds kWorthWaking{20};  // of work left
  if (threads < 2 || n < 2 * chunk) {
    if (n > 0) body(0, n);
    return;
  }
  const auto start = Clock::now();
  body(0, chunk);
  const int64_t chunks = (n - 1) / chunk;  // left
  if ((Clock::now() - start) * chunks < kWorthWaking)
    body(chunk, n);
  else
    Pool::instance().run(chunk, n, chunk, std::min(threads, chunks), body);
}

}  // namespace fastrl
