#include "block_pool.h"

#include <algorithm>
#include <cstring>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace fastrl {

namespace {

constexpr int64_t kHugePage = int64_t(1) << 21, kLargestSlab = int64_t(1) << 25, kSmallestSlab = 1 << 16;

std::align_val_t alignment(int64_t bytes) { return std::align_val_t(bytes < kHugePage ? 64 : kHugePage); }

}  // namespace

BlockPool::BlockPool(int64_t block_bytes)
    : block_bytes_(std::max<int64_t>(block_bytes, sizeof(uint8_t*))) {}  // a free one holds the next

uint8_t* BlockPool::take() {
  if (free_ != nullptr) {
    uint8_t* const block = free_;
    std::memcpy(&free_, block, sizeof free_);
    ++out_;
    return block;
  }
  if (end_ - next_ < block_bytes_) grow();
  uint8_t* const block = next_;
  next_ += block_bytes_;
  ++out_;
  return block;
}

void BlockPool::give(uint8_t* block) {
  std::memcpy(block, &free_, sizeof free_);
  free_ = block;
  --out_;
}

void BlockPool::clear() {
  for (const Slab& slab : slabs_) ::operator delete(slab.data, alignment(slab.bytes));
  slabs_.clear();
  free_ = next_ = end_ = nullptr;
  out_ = held_ = 0;
}

void BlockPool::grow() {
  slabs_.reserve(slabs_.size() + 1);
  int64_t bytes = std::clamp(held_ / 4, kSmallestSlab, kLargestSlab);
  bytes = std::max(bytes / block_bytes_, int64_t(1)) * block_bytes_;
  auto* const data = static_cast<uint8_t*>(::operator new(static_cast<size_t>(bytes), alignment(bytes)));
#ifdef __linux__
  // random frames are read: with small pages each takes several misses of the TLB
  if (bytes >= kHugePage) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
  slabs_.push_back({data, bytes});
  held_ += bytes;
  next_ = data;
  end_ = data + bytes;
}

}  // namespace fastrl
