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

#ifdef __AVX512BW__
inline __m128 blend(uint16_t flag, __m128 a, __m128 b) { return _mm_mask_blend_ps(flag, b, a); }
inline __m256 blend(uint16_t flag, __m256 a, __m256 b) { return _mm256_mask_blend_ps(flag, b, a); }
inline __m512 blend(uint16_t flag, __m512 a, __m512 b) { return _mm512_mask_blend_ps(flag, b, a); }
inline __m128d blend(uint16_t flag, __m128d a, __m128d b) { return _mm_mask_blend_pd(flag, b, a); }
inline __m256d blend(uint16_t flag, __m256d a, __m256d b) { return _mm256_mask_blend_pd(flag, b, a); }
inline __m512d blend(uint16_t flag, __m512d a, __m512d b) { return _mm512_mask_blend_pd(flag, b, a); }
#endif

// N columns, in arrays whose rows are contiguous.
template <class Real, int N>
struct Lanes {
  static constexpr int kColumns = N;
  typedef Real Vec __attribute__((vector_size(N * sizeof(Real))));
  typedef typename Bits<Real>::Int Mask __attribute__((vector_size(N * sizeof(Real))));
#ifdef __AVX512BW__
  // Bytes until they select: mask registers are slow to combine. Those beyond N mean nothing.
  typedef int8_t Flags __attribute__((vector_size(16)));
#else
  typedef int8_t Flags __attribute__((vector_size(N)));
#endif

  static Vec load(const View<const Real>& view, int64_t t, int64_t c) {
    return load(view.data + t * view.t + c);
  }
  static Vec load(const Real* data) {
    Vec x;
    __builtin_memcpy(&x, data, sizeof x);
    return x;
  }
  static Vec load(const Constant<Real>& constant, int64_t, int64_t) { return constant.value - Vec{}; }
  static void store(const View<Real>& view, int64_t t, int64_t c, const Vec& x) {
    __builtin_memcpy(view.data + t * view.t + c, &x, sizeof x);
  }
  static Flags flags(bool x) { return Flags{} - static_cast<int8_t>(x); }
  static Flags is_zero(Flags x) { return x == 0; }
#ifdef __AVX512BW__
  static Flags load(const View<const uint8_t>& view, int64_t t, int64_t c) {
    __m128i x{};  // as Flags, a short copy would go through memory
    __builtin_memcpy(&x, view.data + t * view.t + c, N);
    return (Flags)x;
  }
  static Vec unless(Flags flag, Vec x) { return blend(unset(flag), x, Vec{}); }
  static Vec select(Flags flag, Vec a, Vec b) { return blend(unset(flag), b, a); }
  static uint16_t unset(Flags flag) { return _mm_testn_epi8_mask((__m128i)flag, (__m128i)flag); }
#else
  static Flags load(const View<const uint8_t>& view, int64_t t, int64_t c) {
    Flags x;
    __builtin_memcpy(&x, view.data + t * view.t + c, sizeof x);
    return x;
  }
  static Vec unless(Flags flag, Vec x) { return (Vec)((Mask)x & __builtin_convertvector(flag == 0, Mask)); }
  static Vec select(Flags flag, Vec a, Vec b) { return __builtin_convertvector(flag == 0, Mask) ? b : a; }
#endif
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

// Those whose loads ask for what comes kAhead columns later. In assembly: GCC leaves the builtin out of
// inlined functions, as it takes them for pure.
template <class Real, int N>
struct Fetching : Lanes<Real, N> {
  static constexpr int64_t kAhead = 3072 / sizeof(Real);  // 4096 bytes on lies the same cache set

  using Lanes<Real, N>::load;
  static typename Lanes<Real, N>::Vec load(const View<const Real>& view, int64_t t, int64_t c) {
    fetch(view.data + t * view.t + c);
    return Lanes<Real, N>::load(view, t, c);
  }
  static void store(const View<Real>& view, int64_t t, int64_t c, const typename Lanes<Real, N>::Vec& x) {
    fetch(view.data + t * view.t + c);
    Lanes<Real, N>::store(view, t, c, x);
  }

 private:
  static void fetch(const Real* data) {
#ifdef __x86_64__
    asm volatile("prefetcht0 %0" : : "m"(data[-kAhead]));
#else
    __builtin_prefetch(data - kAhead);
#endif
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

// Columns from `begin` on before the first whose address is a multiple of N's size in `view`: a row's vectors
// are aligned there, and so, as a rule, in all arrays.
template <int N, class Real>
FASTRL_INLINE int64_t lead(const View<Real>& view, int64_t t, int64_t begin) {
  return -(reinterpret_cast<uintptr_t>(view.data + t * view.t + begin) / sizeof(Real)) % N;
}

// Calls f(c) for groups of N columns that cover [begin, end), where N or more end at `end`, from the last one
// to the first; `lead` < N columns come before the second group. Groups may overlap: the same numbers,
// computed twice.
template <int N, class F>
FASTRL_INLINE void groups(int64_t begin, int64_t end, int64_t lead, F f) {
  int64_t c = begin + lead + (end - begin - lead) / N * N;
  if (c < end) f(end - N);
  for (c -= N; c >= begin + lead; c -= N) f(c);
  if (lead > 0) f(begin + N <= end ? begin : end - N);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
