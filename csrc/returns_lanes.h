// Neighbouring columns of one row of the arrays that returns.h describes, as vectors, for files compiled once
// per instruction set.
#pragma once

#include <cstdint>

#include "returns.h"
#include "returns_exp.h"

#define FASTRL_ALWAYS __attribute__((always_inline))  // of a lambda

namespace fastrl {
namespace FASTRL_ISA {
namespace {

constexpr int kRegister = kLanes * 4;  // bytes

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

// N columns, in arrays whose rows are contiguous.
template <class Real, int N>
struct Lanes {
  static constexpr int kColumns = N;
  typedef Real Vec __attribute__((vector_size(N * sizeof(Real))));
  typedef typename Bits<Real>::Int Mask __attribute__((vector_size(N * sizeof(Real))));
  typedef int8_t Flags __attribute__((vector_size(N)));

  static Vec load(const View<const Real>& view, int64_t t, int64_t c) {
    return load(view.data + t * view.t + c);
  }
  static Vec load(const Real* data) {
    Vec x;
    __builtin_memcpy(&x, data, sizeof x);
    return x;
  }
  static Vec load(const Constant<Real>& constant, int64_t, int64_t) { return constant.value - Vec{}; }
  static Flags load(const View<const uint8_t>& view, int64_t t, int64_t c) {
    Flags x;
    __builtin_memcpy(&x, view.data + t * view.t + c, sizeof x);
    return x;
  }
  static void store(const View<Real>& view, int64_t t, int64_t c, const Vec& x) {
    __builtin_memcpy(view.data + t * view.t + c, &x, sizeof x);
  }
  static Flags flags(bool x) { return Flags{} - static_cast<int8_t>(x); }
  static Flags is_zero(Flags x) { return x == 0; }
  static Vec unless(Flags flag, Vec x) { return (Vec)((Mask)x & __builtin_convertvector(flag == 0, Mask)); }
  static Vec select(Flags flag, Vec a, Vec b) { return __builtin_convertvector(flag == 0, Mask) ? b : a; }
  // NaN is kept.
  static Vec at_most(Real bar, Vec x) { return x > bar ? bar - Vec{} : x; }
  static Vec exp(Vec x) {
    if constexpr (sizeof(Real) == 4) {
      return fused_exp<Vec, Mask>(x);
    } else {
      for (int i = 0; i < N; ++i) x[i] = __builtin_exp(x[i]);
      return x;
    }
  }
};

// One column, any strides. Its selections become branches: a predicted flag costs nothing, where a mask would
// lengthen the chain of dependent steps, which is all the time that a single column takes.
template <class Real>
struct Lanes<Real, 1> {
  static constexpr int kColumns = 1;
  using Vec = Real;
  using Flags = uint8_t;

  template <class T>
  static T load(const View<const T>& view, int64_t t, int64_t c) {
    return view.data[t * view.t + c * view.b];
  }
  static Real load(const Real* data) { return *data; }
  static Real load(const Constant<Real>& constant, int64_t, int64_t) { return constant.value; }
  static void store(const View<Real>& view, int64_t t, int64_t c, Real x) {
    view.data[t * view.t + c * view.b] = x;
  }
  static Flags flags(bool x) { return x; }
  static Flags is_zero(Flags x) { return x == 0; }
  static Real unless(Flags flag, Real x) { return flag ? Real(0) : x; }
  static Real select(Flags flag, Real a, Real b) { return flag ? a : b; }
  // As a vector: a branch would be mispredicted as often as not.
  static Real at_most(Real bar, Real x) {
    typedef Real Pair __attribute__((vector_size(16)));
    const Pair bars = bar - Pair{}, xs = x - Pair{};
    return (xs > bars ? bars : xs)[0];
  }
  static Real exp(Real x) {
    if constexpr (sizeof(Real) == 4) {
      return fused_exp<float, int32_t>(x);
    } else {
      return __builtin_exp(x);
    }
  }
};

// Calls f(c) for groups of N columns that cover [begin, end), where N or more end at `end`; `lead` < N of
// them come before the second group. A group may overlap the one before it: the same numbers, computed twice.
template <int N, class F>
FASTRL_INLINE void groups(int64_t begin, int64_t end, int64_t lead, F f) {
  if (lead > 0) f(begin + N <= end ? begin : end - N);
  int64_t c = begin + lead;
  for (; c + N <= end; c += N) f(c);
  if (c < end) f(end - N);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
