// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"
// (2011): a draw is a function of (seed, counter, index, stream), so it does not depend on what was drawn
// before.
#pragma once

#include <cstdint>

namespace fastrl {

// What a seed is used for: the lower byte of the last counter word, so that two uses of one seed never meet.
constexpr uint32_t kActionStream = 1;  // 2: users' environments, see kernels/envs/random.py
constexpr uint32_t kTreeStream = 3;    // draws from a sum tree
constexpr uint32_t kReplayStream = 4;  // uniform draws from a replay buffer

// An action's components take a stream each.
static inline uint32_t action_stream(int64_t component) {
  return kActionStream + (static_cast<uint32_t>(component) << 8);
}

struct PhiloxWords {
  uint32_t word[4];
};

constexpr int kPhiloxRounds = 10;

// One round of a counter: apart, so that several counters can be taken through it side by side.
static inline void philox_round(uint32_t& c0, uint32_t& c1, uint32_t& c2, uint32_t& c3, uint32_t key0,
                                uint32_t key1) {
  const uint64_t product0 = uint64_t{0xd2511f53} * c0;
  const uint64_t product1 = uint64_t{0xcd9e8d57} * c2;
  c0 = static_cast<uint32_t>(product1 >> 32) ^ c1 ^ key0;
  c1 = static_cast<uint32_t>(product1);
  c2 = static_cast<uint32_t>(product0 >> 32) ^ c3 ^ key1;
  c3 = static_cast<uint32_t>(product0);
}

static inline void philox_next_key(uint32_t& key0, uint32_t& key1) {
  key0 += 0x9e3779b9;
  key1 += 0xbb67ae85;
}

static inline PhiloxWords philox(uint64_t seed, uint64_t counter, uint32_t index, uint32_t stream) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
  uint32_t c2 = index, c3 = stream;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    philox_round(c0, c1, c2, c3, key0, key1);
    philox_next_key(key0, key1);
  }
  return {{c0, c1, c2, c3}};
}

}  // namespace fastrl
