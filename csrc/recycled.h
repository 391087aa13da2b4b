// Memory of large results, kept for the next ones: new pages cost more than what a batch of pixels writes to
// them.
#pragma once

#include <cstddef>
#include <mutex>
#include <new>
#include <vector>

namespace fastrl {

// Thread-safe. What has been given back is held up to kMost bytes, the most recent first.
class Recycled {
 public:
  static constexpr size_t kMost = size_t{1} << 28,
                          kLeast = size_t{1} << 17;  // smaller ones malloc keeps itself

  static Recycled& instance() {
    static auto* const recycled = new Recycled;  // outlives all arrays
    return *recycled;
  }

  // Not initialised; throws std::bad_alloc.
  void* take(size_t bytes) {
    {
      const std::lock_guard<std::mutex> turn(mutex_);
      for (size_t i = free_.size(); i-- > 0;) {
        if (free_[i].bytes != bytes) continue;
        void* const memory = free_[i].memory;
        free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
        held_ -= bytes;
        return memory;
      }
    }
    return ::operator new(bytes, std::align_val_t{kAlignment});
  }

  void give(void* memory, size_t bytes) noexcept {
    const std::lock_guard<std::mutex> turn(mutex_);
    if (bytes > kMost) return release(memory);
    while (held_ + bytes > kMost || free_.size() == kSlots) {
      held_ -= free_.front().bytes;
      release(free_.front().memory);
      free_.erase(free_.begin());
    }
    free_.push_back({memory, bytes});
    held_ += bytes;
  }

 private:
  static constexpr size_t kAlignment = 64, kSlots = 64;
  struct Block {
    void* memory;
    size_t bytes;
  };

  Recycled() { free_.reserve(kSlots); }
  static void release(void* memory) { ::operator delete(memory, std::align_val_t{kAlignment}); }

  std::mutex mutex_;
  std::vector<Block> free_;
  size_t held_ = 0;
};

}  // namespace fastrl
