// Arrays that are not initialised. Large ones have large pages, as random elements of small ones would miss
// the page table's cache as well; others are kept for the next array of their size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "recycled.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastrl {

template <class Element>
class Pages {
 public:
  Pages() = default;
  explicit Pages(int64_t size) : bytes_(static_cast<size_t>(size) * sizeof(Element)) {
    data_ = static_cast<Element*>(bytes_ <= kMostKept ? Recycled::instance().take(bytes_)
                                                      : ::operator new(bytes_, kAlignment));
#ifdef __linux__
    if (bytes_ > kMostKept) madvise(data_, bytes_, MADV_HUGEPAGE);
#endif
  }
  Pages(Pages&& other) noexcept { swap(other); }
  Pages& operator=(Pages&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Pages() {
    if (data_ == nullptr) return;
    if (bytes_ <= kMostKept)
      Recycled::instance().give(data_, bytes_);
    else
      ::operator delete(data_, kAlignment);
  }

  void swap(Pages& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Element* get() const { return data_; }
  Element& operator[](int64_t i) const { return data_[i]; }

 private:
  static constexpr size_t kMostKept = size_t{1} << 22;
  static constexpr std::align_val_t kAlignment{size_t{1} << 21};

  Element* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace fastrl
