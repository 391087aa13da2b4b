// Frames [..., k] from k frames and back: stacks whose axis is the last.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastrl {

struct Bytes16 {
  uint64_t half[2];
};

// Calls work(Item{}) with a type of that many bytes, or returns false if there is none.
template <class Work>
bool with_item(int64_t bytes, Work work) {
  switch (bytes) {
    case 1:
      return work(uint8_t{}), true;
    case 2:
      return work(uint16_t{}), true;
    case 4:
      return work(uint32_t{}), true;
    case 8:
      return work(uint64_t{}), true;
    case 16:
      return work(Bytes16{}), true;
    default:
      return false;
  }
}

// Elements [first, last) of k frames to `out`, which begins with the first element of all frames. `K` is k
// where the compiler knows it, else 0.
template <class Item, int K>
void interleave(const uint8_t* const* frames, int64_t k, int64_t first, int64_t last,
                uint8_t* __restrict out) {
  const int64_t size = sizeof(Item), count = K == 0 ? k : K;
  if constexpr (K != 0) {
    const uint8_t* from[K];
    for (int m = 0; m < K; ++m) from[m] = frames[m];
    for (int64_t e = first; e < last; ++e)
      for (int m = 0; m < K; ++m) std::memcpy(out + (e * K + m) * size, from[m] + e * size, size);
  } else {
    for (int64_t e = first; e < last; ++e)
      for (int64_t m = 0; m < count; ++m)
        std::memcpy(out + (e * count + m) * size, frames[m] + e * size, size);
  }
}

// The k frames of `stack`, one after another.
template <class Item, int K>
void deinterleave(const uint8_t* stack, int64_t k, int64_t elements, uint8_t* __restrict frames) {
  const int64_t size = sizeof(Item), count = K == 0 ? k : K;
  if constexpr (K != 0) {
    for (int64_t e = 0; e < elements; ++e)
      for (int64_t m = 0; m < K; ++m)
        std::memcpy(frames + (m * elements + e) * size, stack + (e * K + m) * size, size);
  } else {
    for (int64_t m = 0; m < count; ++m)
      for (int64_t e = 0; e < elements; ++e)
        std::memcpy(frames + (m * elements + e) * size, stack + (e * count + m) * size, size);
  }
}

}  // namespace fastrl
