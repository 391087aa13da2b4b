// The rows of a model's pairs in each layout, for files compiled once per instruction set.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

template <class Index>
struct Compressed {
  explicit Compressed(const Model& m)
      : offset(static_cast<const Index*>(m.offset)),
        next(static_cast<const Index*>(m.next_state)),
        weight(m.weight) {}

  double dot(int64_t pair, const double* v) const {
    double sum = 0;
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) sum += weight[k] * v[next[k]];
    return sum;
  }

  double dot_apart(int64_t pair, int64_t s, const double* v, double& own) const {
    double sum = 0, self = 0;
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) {
      const double w = weight[k];
      self += next[k] == s ? w : 0.0;
      sum += next[k] == s ? 0.0 : w * v[next[k]];
    }
    own = self;
    return sum;
  }

  void gather_solved(int64_t pair, int64_t i, int64_t s, double scale, const SolvedRows& rows) const {
    int64_t at = rows.slot[i];
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k, ++at) {
      rows.to[at] = static_cast<int32_t>(next[k]);
      rows.weight[at] = next[k] == s ? 0.0 : weight[k] * scale;
    }
    for (; at < rows.slot[i + 1]; ++at) {
      rows.to[at] = static_cast<int32_t>(s);
      rows.weight[at] = 0;
    }
  }

  // NOLINTNEXTLINE(readability-non-const-parameter): written through
  void scatter(int64_t pair, double mass, double* out) const {
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) out[next[k]] += weight[k] * mass;
  }

  const Index *offset, *next;
  const double* weight;
};

struct Dense {
  typedef double Vec __attribute__((vector_size(64)));

  explicit Dense(const Model& m) : states(m.num_states), weight(m.weight) {}

  // 32 partial sums, whatever the registers: the same bits everywhere.
  double dot(int64_t pair, const double* v) const {
    const double* row = weight + pair * states;
    Vec sums[4] = {};
    int64_t k = 0;
    for (; k + 32 <= states; k += 32) {
      for (int i = 0; i < 4; ++i) {
        Vec w, x;
        __builtin_memcpy(&w, row + k + 8 * i, sizeof w);
        __builtin_memcpy(&x, v + k + 8 * i, sizeof x);
        sums[i] += w * x;
      }
    }
    double rest = 0;
    for (; k < states; ++k) rest += row[k] * v[k];
    const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return (((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]))) + rest;
  }

  double dot_apart(int64_t pair, int64_t s, const double* v, double& own) const {
    own = weight[pair * states + s];
    return dot(pair, v) - own * v[s];
  }

  void gather_solved(int64_t pair, int64_t i, int64_t s, double scale, const SolvedRows& rows) const {
    for (int64_t k = 0, at = rows.slot[i]; k < states; ++k, ++at) {
      rows.to[at] = static_cast<int32_t>(k);
      rows.weight[at] = k == s ? 0.0 : weight[pair * states + k] * scale;
    }
  }

  void scatter(int64_t pair, double mass, double* out) const {
    for (int64_t k = 0; k < states; ++k) out[k] += weight[pair * states + k] * mass;
  }

  int64_t states;
  const double* weight;
};

inline bool is_terminal(const Model& m, int64_t s) { return m.terminal != nullptr && m.terminal[s]; }

inline void note(Change& c, double low, double high) {
  c.low = low < c.low ? low : c.low;
  c.high = high > c.high ? high : c.high;
}

inline void note(Change& c, double change) { note(c, change, change); }

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
