// The largest of leaves that change: the largest of each block is kept, and a block whose largest fell is
// read again when somebody asks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace fastrl {

class LargestLeaf {
 public:
  explicit LargestLeaf(int64_t leaves)
      : leaves_(leaves), size_(static_cast<int64_t>(std::sqrt(static_cast<double>(leaves))) + 1) {
    blocks_.resize(static_cast<size_t>((leaves + size_ - 1) / size_));
  }

  // Around each change of a leaf.
  void before(int64_t i, double leaf) {
    Block& block = of(i);
    if (leaf == block.largest) block.fell = true;
  }
  void after(int64_t i, double leaf) {
    Block& block = of(i);
    block.largest = std::max(block.largest, leaf);
  }

  double get(const double* leaf) {
    double largest = 0;
    for (size_t b = 0; b < blocks_.size(); ++b) {
      Block& block = blocks_[b];
      if (block.fell) {
        const int64_t first = static_cast<int64_t>(b) * size_;
        block = {*std::max_element(leaf + first, leaf + std::min(first + size_, leaves_)), false};
      }
      largest = std::max(largest, block.largest);
    }
    return largest;
  }

 private:
  struct Block {
    double largest;
    bool fell;
  };

  Block& of(int64_t i) { return blocks_[static_cast<size_t>(i / size_)]; }

  int64_t leaves_, size_;
  std::vector<Block> blocks_;
};

}  // namespace fastrl
