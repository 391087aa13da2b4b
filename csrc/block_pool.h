// Blocks of one size, cut from slabs. A block that is given back is handed out again before a new one is cut,
// so the memory touched is the most blocks that were ever out at once.
#pragma once

#include <cstdint>
#include <vector>

namespace fastrl {

class BlockPool {
 public:
  explicit BlockPool(int64_t block_bytes);
  ~BlockPool() { clear(); }
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  uint8_t* take();  // not initialised; throws std::bad_alloc and changes nothing
  void give(uint8_t* block);
  void clear();  // every block is gone, its memory returned to the system
  int64_t blocks_out() const { return out_; }
  int64_t block_bytes() const { return block_bytes_; }

 private:
  struct Slab {
    uint8_t* data;
    int64_t bytes;
  };
  void grow();

  int64_t block_bytes_, out_ = 0, held_ = 0;
  uint8_t *free_ = nullptr, *next_ = nullptr, *end_ = nullptr;  // given back; the rest of the newest slab
  std::vector<Slab> slabs_;
};

}  // namespace fastrl
