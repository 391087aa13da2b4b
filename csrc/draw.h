// Random numbers of kLanes rows: the number of (row, component) is a function of (seed, counter, row,
// component).
#pragma once

#include "philox.h"
#include "rows.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// The 24 upper bits of a word a lane: all that a float32 below 1 can hold evenly.
FASTRL_INLINE vint random_bits(uint64_t seed, uint64_t counter, int64_t component, int64_t row, int n) {
  vint bits = {};
  for (int i = 0; i < n; i += 4) {  // groups start at multiples of kLanes, so of 4
    const PhiloxWords words =
        philox(seed, counter, static_cast<uint32_t>((row + i) / 4), action_stream(component));
    for (int j = 0; j < 4; ++j) bits[i + j] = static_cast<int32_t>(words.word[j] >> 8);
  }
  return bits;
}

// In [0, 1).
FASTRL_INLINE vfloat uniform_of(vint bits) { return to_float(bits) * 0x1p-24f; }

// The standard normal's quantile at (bits + 1/2) / 2^24: within +-5.42.
FASTRL_INLINE vfloat normal_of(vint bits) {
  return vnormal_quantile(to_float(2 * bits - 0xffffff) * 0x1p-24f);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
