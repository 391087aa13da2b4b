#include "returns.h"

#include <cstdint>

#include "returns_n_step.h"
#include "returns_steps.h"

namespace fastrl::FASTRL_ISA {

namespace {

// Loops take their op, output and span by value: what is behind a reference might change with every store.

template <class L, class Real>
FASTRL_INLINE typename L::Vec following(const View<Real>& out, const Span& span, int64_t row, int64_t c) {
  if (row == span.steps) return typename L::Vec{};
  return L::load(View<const Real>{out.data, out.t, out.b}, row, c);
}

// y of step t into the outputs.
template <class L, class Op, class Real>
FASTRL_INLINE typename L::Vec write(const Op& op, const View<Real>& out, const Span& span, int64_t t,
                                    int64_t c, typename L::Vec next) {
  const bool end = t + 1 == span.steps;
  typename L::Vec other;
  const auto y = step<L>(op, t, c, next, Edge<L>{end, L::flags(end)}, &other);
  L::store(out, t, c, y);
  if constexpr (kHasSecond<Op>) L::store(second(op), t, c, other);
  return y;
}

// K neighbours of L's columns from c on, with their y in registers: their chains of dependent steps overlap.
template <class L, int K, class Op, class Real>
void down(const Op op, const View<Real> out, const Span span, int64_t c) {
  typename L::Vec y[K];
  for (int k = 0; k < K; ++k) y[k] = following<L>(out, span, span.last, c + k * L::kColumns);
  for (int64_t t = span.last - 1; t >= span.first; --t) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) y[k] = write<L>(op, out, span, t, c + k * L::kColumns, y[k]);
  }
}

// Long rows, one after the other and each from its end: the arrays are read downwards without a break, so
// that the prefetchers cross from page to page. In blocks, so that y_{t+1} is still in the L2 cache.
template <class L, int N, class Op, class Real>
void across(const Op op, const View<Real> out, const Span span) {
  constexpr int64_t kBlock = 65536 / sizeof(Real);
  for (int64_t begin = 0; begin < span.batch; begin += kBlock) {
    const int64_t end = begin + kBlock < span.batch ? begin + kBlock : span.batch;
    for (int64_t t = span.last - 1; t >= span.first; --t) {
      groups<N>(begin, end, lead<N>(out, t, begin), [&](int64_t c) FASTRL_ALWAYS {
        write<L>(op, out, span, t, c, following<Lanes<Real, N>>(out, span, t + 1, c));
      });
    }
  }
}

// K columns from c on, exp of log_rho apart: a vector of steps at a time.
template <int K, class Op, class Real>
void down_ratios(const Op& op, const View<Real>& out, const Span& span, int64_t c) {
  constexpr int kColumns = kRegister / sizeof(Real);
  constexpr int64_t kChunk = 256, kRow = kChunk + kColumns;
  using L = Lanes<Real, kColumns>;
  alignas(kRegister) Real memory[K * kRow] = {};
  for (int64_t last = span.last; last > span.first; last -= kChunk) {
    const int64_t first = last - span.first > kChunk ? last - kChunk : span.first;
    const int64_t rows = (last < span.steps ? last + 1 : last) - first;  // Retrace reads the row after
    for (int k = 0; k < K; ++k) {
      Real* rho = memory + k * kRow;
      for (int64_t i = 0; i < rows; ++i) rho[i] = Lanes<Real, 1>::load(log_rho(op), first + i, c + k);
      for (int64_t i = 0; i < rows; i += kColumns) {
        const auto x = L::exp(L::load(rho + i));
        __builtin_memcpy(rho + i, &x, sizeof x);
      }
    }
    const View<const Real> rho{memory - first - c * kRow, 1, kRow};
    down<Lanes<Real, 1>, K>(with_ratios(op, rho), out, {first, last, span.steps, span.batch}, c);
  }
}

// K columns of any strides.
template <int K, class Op, class Real>
void columns(const Op& op, const View<Real>& out, const Span& span, int64_t c) {
  if constexpr (kHasRatios<Op>)
    down_ratios<K>(op, out, span, c);
  else
    down<Lanes<Real, 1>, K>(op, out, span, c);
}

template <class Real>
bool contiguous(const View<Real>& view) {
  return view.b == 1;
}
template <class Real>
bool contiguous(const Constant<Real>&) {
  return true;
}

// Bytes of an array from which six leave the caches, to where the processor prefetches too late by itself. In
// the caches, asking takes longer than waiting.
constexpr int64_t kFar = 4 << 20;

// With vectors of at most N columns.
template <int N, class Op, class Real>
void scan_by(const Op& op, const View<Real>& out, const Span& span) {
  if constexpr (N * sizeof(Real) < 16) {  // scalars are faster than such short vectors
    constexpr int kTogether = 4;
    int64_t c = 0;
    for (; c + kTogether <= span.batch; c += kTogether) columns<kTogether>(op, out, span, c);
    for (; c < span.batch; ++c) columns<1>(op, out, span, c);
  } else {
    using L = Lanes<Real, N>;
    if (span.batch >= 8 * N) {
      if constexpr (kHasRatios<Op>) {
        if (span.steps * span.batch * int64_t(sizeof(Real)) >= kFar)
          return across<Fetching<Real, N>, N>(op, out, span);
      }
      return across<L, N>(op, out, span);
    }
    if (span.batch < N) return scan_by<N / 2>(op, out, span);
    groups<N>(0, span.batch, 0, [&](int64_t c) FASTRL_ALWAYS { down<L, 1>(op, out, span, c); });
  }
}

template <class Op, class Real>
bool contiguous_rows(const Op& op, const View<Real>& out) {
  bool all = out.b == 1;
  op.each([&](const auto& x) { all &= contiguous(x); });
  if constexpr (kHasSecond<Op>) all &= second(op).b == 1;
  return all;
}

template <class Op, class Real>
void scan(const Op& op, const View<Real>& out, const Span& span) {
  if (contiguous_rows(op, out)) return scan_by<kRegister / sizeof(Real)>(op, out, span);
  scan_by<1>(op, out, span);
}

template <class Op, class Real>
void scan_windows(const Op& op, const View<Real>& out, const Span& span) {
  constexpr int kColumns = kRegister / sizeof(Real);
  const bool rows = contiguous_rows(op, out);
  if (n_step_of(op).n > kShort) return rows ? windows<kColumns>(op, out, span) : windows<1>(op, out, span);
  bool dense = rows && out.t == span.batch;
  op.each([&](const auto& x) { dense &= x.t == span.batch; });
  short_windows<kColumns>(op, out, span, rows, dense);
}

template <class Op, class Real>
constexpr Scans<Op, Real> scans() {
  return {scan<Op, Real>, scan<Masked<Op>, Real>};
}

template <class Real>
constexpr ReturnsOf<Real> table() {
  using C = Constant<Real>;
  using A = View<const Real>;
  return {scans<Gae<Real>, Real>(),
          scans<TdLambda<Real, C>, Real>(),
          scans<TdLambda<Real, A>, Real>(),
          scans<Discounted<Real, C, false>, Real>(),
          scans<Discounted<Real, C, true>, Real>(),
          scans<Discounted<Real, A, false>, Real>(),
          scans<Discounted<Real, A, true>, Real>(),
          scans<VTrace<Real>, Real>(),
          scans<Retrace<Real>, Real>(),
          scans<QLambda<Real>, Real>(),
          {scan_windows<NStep<Real>, Real>, scan_windows<Masked<NStep<Real>>, Real>}};
}

}  // namespace

extern const ReturnsTable returns_table;
const ReturnsTable returns_table = {table<float>(), table<double>()};

}  // namespace fastrl::FASTRL_ISA
