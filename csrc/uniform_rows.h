// Uniform draws of rows: draw i of a call is a function of (seed, counter, i).
#pragma once

#include <cstdint>
#include <vector>

#include "philox.h"

namespace fastrl {

struct UniformDraws {
  uint64_t seed, counter;

  // bound >= 1 unless n = 0.
  void with_replacement(int64_t n, uint32_t bound, int64_t* row) const {
    for (int64_t i = 0; i < n; i += 4) {
      const PhiloxWords words = philox(seed, counter, static_cast<uint32_t>(i / 4), kReplayStream);
      for (int64_t j = 0; j < 4 && i + j < n; ++j)
        row[i + j] = below(bound, words.word[j], static_cast<uint32_t>(i + j));
    }
  }

  // The first n cards of a shuffled deck of `bound` (Fisher and Yates), of which only cards that moved are
  // kept.
  void without_replacement(int64_t n, uint32_t bound, int64_t* row) const {
    size_t slots = 16;
    while (slots < static_cast<size_t>(n) * 4) slots *= 2;
    std::vector<Moved> moved(slots, Moved{-1, 0});
    for (int64_t i = 0; i < n; ++i) {
      const PhiloxWords words = philox(seed, counter, static_cast<uint32_t>(i), kReplayStream);
      const int64_t place =
          i + below(bound - static_cast<uint32_t>(i), words.word[0], static_cast<uint32_t>(i));
      const Moved here = at(moved, i);
      Moved& there = at(moved, place);
      row[i] = there.place < 0 ? place : there.card;
      there = {place, here.place < 0 ? i : here.card};
    }
  }

 private:
  struct Moved {
    int64_t place, card;  // place -1: free
  };

  static Moved& at(std::vector<Moved>& moved, int64_t place) {
    const size_t mask = moved.size() - 1;
    size_t slot = static_cast<uint64_t>(place) * 0x9e3779b97f4a7c15u >> 20 & mask;
    while (moved[slot].place >= 0 && moved[slot].place != place) slot = (slot + 1) & mask;
    return moved[slot];
  }

  // Exactly uniform: the few words that would make some numbers likelier are drawn again (Lemire 2019, Fast
  // random integer generation in an interval, algorithm 5).
  uint32_t below(uint32_t bound, uint32_t word, uint32_t index) const {
    uint64_t product = uint64_t{word} * bound;
    if (static_cast<uint32_t>(product) < bound) {
      const uint32_t uneven = (0u - bound) % bound;
      for (uint32_t attempt = 1; static_cast<uint32_t>(product) < uneven; ++attempt)
        product = uint64_t{philox(seed, counter, index, kReplayStream + (attempt << 8)).word[0]} * bound;
    }
    return static_cast<uint32_t>(product >> 32);
  }
};

}  // namespace fastrl
