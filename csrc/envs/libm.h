// Values that are libm's to the bit, mostly without asking libm.
//
// A function's value is computed as base + fix, a double and its correction, with a bound on the error of the
// fix. If the sum rounds to the same double over the whole interval of that error plus E units in the last
// place (ULP), then the true value lies over E ULP inside that double's rounding interval, and a libm whose
// error is at most 0.5 + E ULP returns that double too. Otherwise libm is asked. For glibc E is
// bounded by what its sources do; other libms are always asked.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__GLIBC__) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 28)
#define FASTRL_KNOWN_LIBM
#endif
#endif

namespace fastrl::FASTRL_ISA {
namespace {

#ifdef FASTRL_KNOWN_LIBM
constexpr bool kKnownLibm = true;
#else
constexpr bool kKnownLibm = false;
#endif

constexpr int64_t kLibmMax = 128;  // values a call

inline bool certain(double base, double fix, double error) {
  return base + (fix - error) == base + (fix + error);
}

// The double with only these of its bits.
inline double keep_bits(double x, uint64_t kept) {
  uint64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits &= kept;
  __builtin_memcpy(&x, &bits, sizeof bits);
  return x;
}

inline double ulp(double x) { return keep_bits(x, 0x7ff0000000000000) * 0x1p-52; }  // of a normal double

// out[i] = function(i) where sure[i] is 0; at most kLibmMax, flags are 0 or 1, padded to a multiple of 64.
template <class T, class Function>
inline void ask_libm(uint8_t* sure, int64_t n, T* out, Function function) {
  for (int64_t i = n; i % 64 != 0; ++i) sure[i] = 1;
  for (int64_t base = 0; base < n; base += 64) {
    uint64_t ask = 0;  // a bit a value: one loop over 64 of them ends unexpectedly once, not eight times
    for (int64_t k = 0; k < 8; ++k) {
      uint64_t flags;
      __builtin_memcpy(&flags, sure + base + 8 * k, sizeof flags);
      ask |= ((flags * 0x0102040810204080) >> 56) << (8 * k);
    }
    for (ask = ~ask; ask != 0; ask &= ask - 1) {
      const int64_t i = base + __builtin_ctzll(ask);
      out[i] = function(i);
    }
  }
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
