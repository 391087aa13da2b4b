#include "returns.h"

#include <cstdint>

namespace fastrl::FASTRL_ISA {

namespace {

#if defined(__AVX512F__)
constexpr int kRegister = 64;
#elif defined(__AVX2__)
constexpr int kRegister = 32;
#else
constexpr int kRegister = 16;
#endif

template <class Real>
struct Bits;
template <>
struct Bits<float> {
  using Int = int32_t;
};
template <>
struct Bits<double> {
  using Int = int64_t;
};

// N neighbouring columns of one row, in arrays whose rows are contiguous.
template <class Real, int N>
struct Lanes {
  typedef Real Vec __attribute__((vector_size(N * sizeof(Real))));
  typedef typename Bits<Real>::Int Mask __attribute__((vector_size(N * sizeof(Real))));
  typedef int8_t Flags __attribute__((vector_size(N)));

  static Vec load(const View<const Real>& view, int64_t t, int64_t c) {
    Vec x;
    __builtin_memcpy(&x, view.data + t * view.t + c, sizeof x);
    return x;
  }
  static Flags load(const View<const uint8_t>& view, int64_t t, int64_t c) {
    Flags x;
    __builtin_memcpy(&x, view.data + t * view.t + c, sizeof x);
    return x;
  }
  static void store(const View<Real>& view, int64_t t, int64_t c, const Vec& x) {
    __builtin_memcpy(view.data + t * view.t + c, &x, sizeof x);
  }
  static Vec unless(Flags flag, Vec x) { return (Vec)((Mask)x & __builtin_convertvector(flag == 0, Mask)); }
};

// One column, any strides. Its selections become branches: a predicted flag costs nothing, where a mask would
// lengthen the chain of dependent steps, which is all the time that a single column takes.
template <class Real>
struct Lanes<Real, 1> {
  using Vec = Real;

  template <class T>
  static T load(const View<const T>& view, int64_t t, int64_t c) {
    return view.data[t * view.t + c * view.b];
  }
  static void store(const View<Real>& view, int64_t t, int64_t c, Real x) {
    view.data[t * view.t + c * view.b] = x;
  }
  static Real unless(uint8_t flag, Real x) { return flag ? Real(0) : x; }
};

// A step of an op gives y_t from y_{t+1}. A flag selects instead of multiplying by 0, so that no NaN crosses
// it.
template <class L, class Real>
typename L::Vec step(const Gae<Real>& op, int64_t t, int64_t c, typename L::Vec next) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c);
  const auto target =
      L::load(op.reward, t, c) + L::unless(terminated, op.gamma * L::load(op.next_value, t, c));
  return (target - L::load(op.value, t, c)) + L::unless(done, op.decay * next);
}

template <class L, class Real>
typename L::Vec following(const View<Real>& out, const Span& span, int64_t row, int64_t c) {
  if (row == span.steps) return typename L::Vec{};
  return L::load(View<const Real>{out.data, out.t, out.b}, row, c);
}

// The columns of L from c on, with y in a register.
template <class L, class Op, class Real>
void down(const Op& op, const View<Real>& out, const Span& span, int64_t c) {
  auto y = following<L>(out, span, span.last, c);
  for (int64_t t = span.last - 1; t >= span.first; --t) {
    y = step<L>(op, t, c, y);
    L::store(out, t, c, y);
  }
}

// Calls f(c) for groups of N columns that cover [begin, end), end >= N. The last group may overlap the one
// before it: the same numbers, computed twice.
template <int N, class F>
void groups(int64_t begin, int64_t end, F f) {
  int64_t c = begin;
  for (; c + N <= end; c += N) f(c);
  if (c < end) f(end - N);
}

// Long rows, one after the other: the prefetchers stream them. In blocks, so that y_{t+1} is read from the L1
// cache.
template <class L, int N, class Op, class Real>
void across(const Op& op, const View<Real>& out, const Span& span) {
  constexpr int64_t kBlock = 8192 / sizeof(Real);
  for (int64_t begin = 0; begin < span.batch; begin += kBlock) {
    const int64_t end = begin + kBlock < span.batch ? begin + kBlock : span.batch;
    for (int64_t t = span.last - 1; t >= span.first; --t) {
      groups<N>(begin, end, [&](int64_t c) {
        L::store(out, t, c, step<L>(op, t, c, following<L>(out, span, t + 1, c)));
      });
    }
  }
}

template <class Real>
bool contiguous_rows(const Gae<Real>& op) {
  return op.reward.b == 1 && op.value.b == 1 && op.next_value.b == 1 && op.terminated.b == 1 &&
         op.truncated.b == 1;
}

// With vectors of at most N columns.
template <int N, class Op, class Real>
void scan_by(const Op& op, const View<Real>& out, const Span& span) {
  if constexpr (N * sizeof(Real) < 16) {  // scalars are faster than such short vectors
    for (int64_t c = 0; c < span.batch; ++c) down<Lanes<Real, 1>>(op, out, span, c);
  } else {
    using L = Lanes<Real, N>;
    if (span.batch >= 8 * N) return across<L, N>(op, out, span);
    if (span.batch < N) return scan_by<N / 2>(op, out, span);
    groups<N>(0, span.batch, [&](int64_t c) { down<L>(op, out, span, c); });
  }
}

template <class Op, class Real>
void scan(const Op& op, const View<Real>& out, const Span& span) {
  if (contiguous_rows(op) && out.b == 1) return scan_by<kRegister / sizeof(Real)>(op, out, span);
  scan_by<1>(op, out, span);
}

}  // namespace

extern const ReturnsTable returns_table;
const ReturnsTable returns_table = {scan<Gae<float>>, scan<Gae<double>>};

}  // namespace fastrl::FASTRL_ISA
