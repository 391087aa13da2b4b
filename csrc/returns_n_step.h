// n-step returns. Short windows one by one, by Horner's rule. Long ones in a time that does not depend on n:
// a window of n steps is the end of one block of n and the beginning of the next, and both are running sums
// (van Herk 1992; Gil and Werman 1993).
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

template <class Op>
constexpr bool kPadded = false;
template <class Op>
constexpr bool kPadded<Masked<Op>> = true;

template <class L, class Real>
FASTRL_INLINE typename L::Vec valid(const NStep<Real>&, int64_t, int64_t, typename L::Vec y) {
  return y;
}
template <class L, class Real>
FASTRL_INLINE typename L::Vec valid(const Masked<NStep<Real>>& masked, int64_t t, int64_t c,
                                    typename L::Vec y) {
  return L::unless(L::is_zero(L::load(masked.valid, t, c)), y);
}

// Whether the window ends with step t for another reason than a termination; t is not the last row.
template <class L, class Real>
FASTRL_INLINE typename L::Flags cut(const NStep<Real>& op, int64_t t, int64_t c) {
  return L::load(op.truncated, t, c);
}
template <class L, class Real>
FASTRL_INLINE typename L::Flags cut(const Masked<NStep<Real>>& masked, int64_t t, int64_t c) {
  return L::load(masked.op.truncated, t, c) | L::is_zero(L::load(masked.valid, t + 1, c));
}

constexpr int kShort = 5;  // a copy of the loops for each length

template <int n>
struct Length {
  static constexpr int value = n;
};

// f of a length that is known when compiling, 1 <= n <= kMost.
template <int kMost, class F>
FASTRL_INLINE void of_length(int64_t n, F f) {
  if (n == kMost) return f(Length<kMost>{});
  if constexpr (kMost > 1) of_length<kMost - 1>(n, f);
}

// The returns over n steps of K rows from t on: each row is read once.
template <class L, int n, int K, bool kCut, class Op, class Real>
FASTRL_INLINE void horner(const Op& op, const View<Real>& out, int64_t t, int64_t c) {
  const auto& [reward, next_value, terminated, truncated, power, scratch, same_n] = n_step_of(op);
  typename L::Vec y[K];
#pragma GCC unroll 8
  for (int row = K + n - 2; row >= 0; --row) {
    const auto r = L::load(reward, t + row, c), value = L::load(next_value, t + row, c);
    const auto ended = L::load(terminated, t + row, c);
    auto last = L::flags(false);
    if (kCut && row < K + n - 2) last = cut<L>(op, t + row, c);
#pragma GCC unroll 2
    for (int k = 0; k < K; ++k) {
      if (row < k || row > k + n - 1) continue;
      const auto next = row == k + n - 1 ? value : kCut ? L::select(last, value, y[k]) : y[k];
      y[k] = r + L::unless(ended, power[1] * next);
    }
  }
  for (int k = 0; k < K; ++k) L::store(out, t + k, c, valid<L>(op, t + k, c, y[k]));
}

// Rows [first, last), whose windows have n steps all. Two at a time: four read more streams than the
// prefetchers follow. Vectors as wide as a cache line are aligned, and wide rows are taken in tiles, so that
// what the next windows read again is still in the L1 cache: narrower ones do not wait for it.
template <class L, int n, bool kCut, class Op, class Real>
void short_rows(const Op op, const View<Real> out, int64_t first, int64_t last, int64_t columns) {
  constexpr int N = L::kColumns;
  constexpr bool kLines = N * sizeof(Real) == 64;
  constexpr int64_t kTile = 2048 / sizeof(Real), kWide = kLines ? 4 * kTile : INT64_MAX;
  const auto rows = [&](auto count, int64_t t, int64_t begin, int64_t end) FASTRL_ALWAYS {
    groups<N>(begin, end, kLines ? lead<N>(out, t, begin) : 0,
              [&](int64_t c) FASTRL_ALWAYS { horner<L, n, decltype(count)::value, kCut>(op, out, t, c); });
  };
  const int64_t tile = columns > kWide && last - first > 1 ? kTile : columns;
  for (int64_t begin = 0; begin < columns; begin += tile) {
    const int64_t end = begin + tile < columns ? begin + tile : columns;
    int64_t t = last;
    if constexpr (N > 1)
      for (; t - first >= 2; t -= 2) rows(Length<2>{}, t - 2, begin, end);
    for (; t > first; --t) rows(Length<1>{}, t - 1, begin, end);
  }
}

// Windows of at most kShort steps, by vectors of N columns. Of dense arrays, rows are like one long row: the
// steps that follow lie `batch` elements on.
template <int N, class Op, class Real>
void short_windows(const Op& op, const View<Real>& out, const Span& span, bool rows, bool dense) {
  const auto& of = n_step_of(op);
  const bool uncut = of.truncated.data == of.terminated.data && !kPadded<Op>;
  const auto run = [&](int64_t n, int64_t first, int64_t last, int64_t columns) {
    of_length<kShort>(n, [&](auto length) {
      using Wide = Lanes<Real, N>;
      using Narrow = Lanes<Real, 1>;
      constexpr int kSteps = decltype(length)::value;
      if (rows && columns >= N)
        uncut ? short_rows<Wide, kSteps, kPadded<Op>>(op, out, first, last, columns)
              : short_rows<Wide, kSteps, true>(op, out, first, last, columns);
      else
        short_rows<Narrow, kSteps, true>(op, out, first, last, columns);
    });
  };
  const int64_t full = span.steps - of.n + 1;
  for (int64_t t = span.steps - 1; t >= full; --t) run(span.steps - t, t, t + 1, span.batch);
  if (dense && span.batch < 4 * N) return run(of.n, 0, 1, full * span.batch);
  run(of.n, 0, full, span.batch);
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
