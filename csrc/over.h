// Facts of all states, noted in parallel parts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pool.h"
#include "tabular.h"

namespace fastrl {

constexpr int64_t kBlock = 4096;  // states of a loop that does little for each

// States of a part, a multiple of 16: some microseconds of work, but few parts where there is much.
inline int64_t chunk_of(int64_t states, int64_t entries) {
  const int64_t worth = 8192 * states / std::max<int64_t>(entries, 1);
  return (std::max<int64_t>(worth, states / 256) + 15) / 16 * 16;
}

inline void add(Change& all, const Change& own) {
  all = {std::min(all.low, own.low), std::max(all.high, own.high), all.switched + own.switched};
}

// What `part` notes of all parts of [0, n).
template <class Facts, class Part>
Facts over(const Facts& none, int64_t n, int64_t chunk, int64_t threads, const Part& part) {
  struct alignas(64) Padded {
    Facts facts;
  };
  chunk = std::max<int64_t>(chunk, 1);
  std::vector<Padded> parts(static_cast<size_t>(threads < 2 ? 1 : (n + chunk - 1) / chunk), Padded{none});
  parallel_for(n, chunk, threads, [&](int64_t begin, int64_t end) {
    part(begin, end, parts[static_cast<size_t>(begin / chunk)].facts);
  });
  Facts all = none;
  for (const Padded& own : parts) add(all, own.facts);
  return all;
}

}  // namespace fastrl
