// NumPy's seeding and generator, bit for bit: SeedSequence (O'Neill's seed_seq_fe) and PCG64 (PCG XSL RR
// 128/64).
#pragma once

#include <cstdint>

namespace fastrl {

struct Pcg64 {
  unsigned __int128 state, increment;  // increment is odd; 0 marks a generator that was never seeded
  uint32_t has_half, half;             // the upper half of a draw whose lower half was used alone
};

static inline uint64_t pcg64_next(Pcg64& rng) {
  constexpr unsigned __int128 kMultiplier =
      (static_cast<unsigned __int128>(2549297995355413924u) << 64) | 4865540595714422341u;
  rng.state = rng.state * kMultiplier + rng.increment;
  const uint64_t high = static_cast<uint64_t>(rng.state >> 64);
  const uint64_t mixed = high ^ static_cast<uint64_t>(rng.state);
  const unsigned shift = static_cast<unsigned>(high >> 58);
  return (mixed >> shift) | (mixed << (-shift & 63));
}

// Generator.random: uniform in [0, 1), a multiple of 2^-53.
static inline double pcg64_double(Pcg64& rng) { return static_cast<double>(pcg64_next(rng) >> 11) * 0x1p-53; }

// Generator.uniform.
static inline double pcg64_uniform(Pcg64& rng, double low, double high) {
  return low + (high - low) * pcg64_double(rng);
}

static inline uint32_t pcg64_next32(Pcg64& rng) {
  if (rng.has_half != 0) {
    rng.has_half = 0;
    return rng.half;
  }
  const uint64_t both = pcg64_next(rng);
  rng.has_half = 1;
  rng.half = static_cast<uint32_t>(both >> 32);
  return static_cast<uint32_t>(both);
}

// Generator.integers(n) and the index that Generator.choice draws from n items, 1 < n < 2^32: the method of
// Lemire (2019).
static inline uint32_t pcg64_below(Pcg64& rng, uint32_t n) {
  uint64_t product = static_cast<uint64_t>(pcg64_next32(rng)) * n;
  if (static_cast<uint32_t>(product) < n) {
    const uint32_t biased = (0 - n) % n;
    while (static_cast<uint32_t>(product) < biased) product = static_cast<uint64_t>(pcg64_next32(rng)) * n;
  }
  return static_cast<uint32_t>(product >> 32);
}

// PCG64(SeedSequence(n)), where `entropy` holds the integer n in 32-bit words, least significant first (at
// least one).
static inline Pcg64 pcg64_seed(const uint32_t* entropy, int64_t words) {
  constexpr int kPool = 4;
  constexpr uint32_t kInitA = 0x43b0d7e5, kMultA = 0x931e8875, kInitB = 0x8b51f9dd, kMultB = 0x58f38ded;
  constexpr uint32_t kMixL = 0xca01f9dd, kMixR = 0x4973f715;
  uint32_t hash = kInitA;
  const auto hashmix = [&hash](uint32_t value) {
    value ^= hash;
    hash *= kMultA;
    value *= hash;
    return value ^ (value >> 16);
  };
  const auto mix = [](uint32_t x, uint32_t y) {
    const uint32_t value = kMixL * x - kMixR * y;
    return value ^ (value >> 16);
  };
  uint32_t pool[kPool];
  for (int i = 0; i < kPool; ++i) pool[i] = hashmix(i < words ? entropy[i] : 0);
  for (int from = 0; from < kPool; ++from)
    for (int to = 0; to < kPool; ++to)
      if (from != to) pool[to] = mix(pool[to], hashmix(pool[from]));
  for (int64_t from = kPool; from < words; ++from)
    for (int to = 0; to < kPool; ++to) pool[to] = mix(pool[to], hashmix(entropy[from]));

  uint64_t out[4];  // SeedSequence.generate_state(4, uint64)
  hash = kInitB;
  for (int i = 0; i < 8; ++i) {
    uint32_t value = pool[i % kPool] ^ hash;
    hash *= kMultB;
    value *= hash;
    value ^= value >> 16;
    out[i / 2] = i % 2 == 0 ? value : out[i / 2] | static_cast<uint64_t>(value) << 32;
  }
  const auto join = [](uint64_t high, uint64_t low) {
    return (static_cast<unsigned __int128>(high) << 64) | low;
  };
  Pcg64 rng{0, (join(out[2], out[3]) << 1) | 1, 0, 0};
  pcg64_next(rng);
  rng.state += join(out[0], out[1]);
  pcg64_next(rng);
  return rng;
}

}  // namespace fastrl
