// A short-lived array: few elements lie on the stack.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace fastrl {

template <class Element>
class Scratch {
 public:
  explicit Scratch(int64_t n) : many_(n > kFew ? new Element[static_cast<size_t>(n)] : nullptr) {}
  Element* data() { return many_ ? many_.get() : few_; }
  const Element* data() const { return many_ ? many_.get() : few_; }

 private:
  static constexpr int64_t kFew = 512;
  Element few_[kFew];
  std::unique_ptr<Element[]> many_;
};

}  // namespace fastrl
