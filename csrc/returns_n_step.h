// n-step returns in a time that does not depend on n: a window of n steps is the end of one block of n and
// the beginning of the next, and both are running sums (van Herk 1992; Gil and Werman 1993).
#pragma once

#include <cstdint>

#include "returns_lanes.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// A step's reward and what follows it; `done` where the window ends with it for whatever reason but its
// length.
template <class L>
struct Sample {
  typename L::Vec reward, next_value, last_value;  // last_value: next_value, 0 after a termination
  typename L::Flags done;
};

template <class L, class Real>
FASTRL_INLINE Sample<L> sample(const NStep<Real>& op, int64_t t, int64_t c, bool end) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto value = L::load(op.next_value, t, c);
  typename L::Flags done = terminated | L::load(op.truncated, t, c) | L::flags(end);
  return {L::load(op.reward, t, c), value, L::unless(terminated, value), done};
}

template <class L, class Real>
FASTRL_INLINE Sample<L> sample(const Masked<NStep<Real>>& masked, int64_t t, int64_t c, bool end) {
  auto x = sample<L>(masked.op, t, c, end);
  if (!end) x.done |= L::is_zero(L::load(masked.valid, t + 1, c));
  return x;
}

template <class Real>
const NStep<Real>& n_step_of(const NStep<Real>& op) {
  return op;
}
template <class Real>
const NStep<Real>& n_step_of(const Masked<NStep<Real>>& masked) {
  return masked.op;
}

template <class L, class Real>
FASTRL_INLINE typename L::Vec valid(const NStep<Real>&, int64_t, int64_t, typename L::Vec y) {
  return y;
}
template <class L, class Real>
FASTRL_INLINE typename L::Vec valid(const Masked<NStep<Real>>& masked, int64_t t, int64_t c,
                                    typename L::Vec y) {
  return L::unless(L::is_zero(L::load(masked.valid, t, c)), y);
}

// The returns of the steps [begin, end), end - begin <= n. Steps from `end` on are a whole block, or none.
template <class L, class Op, class Real>
FASTRL_INLINE void block(const Op& op, const View<Real>& out, int64_t begin, int64_t end, int64_t steps,
                         int64_t c) {
  const auto& [reward, next_value, terminated, truncated, power, scratch, n] = n_step_of(op);
  constexpr int kColumns = L::kColumns;
  const View<Real> rows{scratch, kColumns, 1};
  // scratch[k]: the return of step `end` over k steps, and over none the value of where it starts
  if (end < steps) {
    L::store(rows, 0, 0, L::load(next_value, end - 1, c));
    typename L::Vec total{};
    auto closed = L::flags(false);
    for (int64_t k = 1; k < n; ++k) {
      const auto x = sample<L>(op, end + k - 1, c, end + k == steps);
      total = L::select(closed, total, total + power[k - 1] * x.reward);
      const auto ends_here = L::unless(closed, L::unless(L::is_zero(x.done), x.last_value));
      total = total + power[k] * ends_here;
      closed = closed | x.done;
      L::store(rows, k, 0, total + L::unless(closed, power[k] * x.next_value));
    }
  }
  typename L::Vec sum{};
  auto closed = L::flags(false);
  for (int64_t t = end - 1; t >= begin; --t) {
    const auto x = sample<L>(op, t, c, t + 1 == steps);
    closed = closed | x.done;
    sum = x.reward + power[1] * L::select(x.done, x.last_value, sum);
    auto y = sum;
    if (end < steps) {
      const int64_t ahead = end - t;
      y = y + L::unless(closed, power[ahead] * L::load(scratch + (n - ahead) * kColumns));
    }
    L::store(out, t, c, valid<L>(op, t, c, y));
  }
}

// With vectors of at most N columns.
template <int N, class Op, class Real>
void windows(const Op op, const View<Real> out, const Span span) {
  static_assert(N <= kNStepColumns);
  if constexpr (N > 1) {
    if (span.batch < N) return windows<N * sizeof(Real) <= 16 ? 1 : N / 2>(op, out, span);
  }
  const int64_t n = n_step_of(op).n;
  constexpr int64_t kBlock = 512;  // columns: n rows of them stay in the cache
  for (int64_t first = 0; first < span.batch; first += kBlock) {
    const int64_t last = first + kBlock < span.batch ? first + kBlock : span.batch;
    for (int64_t end = span.steps; end > 0; end -= n) {
      const int64_t begin = end > n ? end - n : 0;
      groups<N>(first, last, 0,
                [&](int64_t c) FASTRL_ALWAYS { block<Lanes<Real, N>>(op, out, begin, end, span.steps, c); });
    }
  }
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
