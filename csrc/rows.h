// Rows of strided arrays, kLanes at a time: a vector holds one column of kLanes rows, so that two columns
// fill the vectors as well as two hundred do.
#pragma once

#include "dispatch.h"
#include "strided.h"
#include "vecmath.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// Lanes from n on repeat row n - 1: they hold valid numbers and are never written back.
template <class Vector, class T>
FASTRL_INLINE Vector gather(const T* p, int64_t stride, int n) {
  Vector v = {};
  for (int i = 0; i < kLanes; ++i) v[i] = p[(i < n ? i : n - 1) * stride];
  return v;
}

FASTRL_INLINE vint gather(Strided<const int64_t> x, int64_t row, int n, int64_t column = 0) {
  return gather<vint>(x.data + row * x.row + column * x.column, x.row, n);
}

FASTRL_INLINE vfloat gather(Strided<const float> x, int64_t row, int n, int64_t column = 0) {
  const float* p = x.data + row * x.row + column * x.column;
  return n == kLanes && x.row == 1 ? load(p) : gather<vfloat>(p, x.row, n);
}

template <class T, class Vector>
FASTRL_INLINE void scatter(Strided<T> x, int64_t row, int n, Vector v, int64_t column = 0) {
  T* p = x.data + row * x.row + column * x.column;
  for (int i = 0; i < n; ++i) p[i * x.row] = v[i];
}

// -1 in the first n lanes, 0 in those that repeat a row.
FASTRL_INLINE vint first_lanes(int n) {
  vint lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < n;
}

// The first of n rows whose lane is set, -1 if there is none.
FASTRL_INLINE int64_t first_set(vint lanes, int64_t row, int n) {
  for (int i = 0; i < n; ++i)
    if (lanes[i] != 0) return row + i;
  return -1;
}

// Calls body(row, n) for each group of n <= kLanes rows of [begin, end).
template <class Body>
FASTRL_INLINE void for_groups(int64_t begin, int64_t end, Body body) {
  int64_t row = begin;
  for (; row + kLanes <= end; row += kLanes) body(row, kLanes);
  if (row < end) body(row, static_cast<int>(end - row));
}

// Room for vectors of kLanes, on the stack where they are few.
template <class Real>
class ScratchOf {
 public:
  explicit ScratchOf(int64_t vectors) {
    if (vectors <= kLocal) return;
    memory_ = static_cast<Real*>(__builtin_malloc(vectors * kLanes * sizeof(Real)));
    if (memory_ == nullptr) out_of_memory();
  }
  ~ScratchOf() {
    if (memory_ != local_) __builtin_free(memory_);
  }
  ScratchOf(const ScratchOf&) = delete;
  ScratchOf& operator=(const ScratchOf&) = delete;

  FASTRL_INLINE Real* data() { return memory_; }
  FASTRL_INLINE vfloat get(int64_t i) const { return load(memory_ + i * kLanes); }
  FASTRL_INLINE void set(int64_t i, vfloat x) { store(memory_ + i * kLanes, x); }

 private:
  static constexpr int64_t kLocal = 64;

  Real* memory_ = local_;
  Real local_[kLocal * kLanes];
};

using Scratch = ScratchOf<float>;

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
