// Softmax of categorical rows, kLanes rows at a time: a vector holds one action of kLanes rows, so that two
// actions fill the vectors as well as two hundred do.
#pragma once

#include "distributions.h"
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

FASTRL_INLINE vint gather(Strided<const int64_t> x, int64_t row, int n) {
  return gather<vint>(x.data + row * x.row, x.row, n);
}

FASTRL_INLINE vfloat gather(Strided<const float> x, int64_t row, int n) {
  const float* p = x.data + row * x.row;
  return n == kLanes && x.row == 1 ? load(p) : gather<vfloat>(p, x.row, n);
}

template <class Vector, class T>
FASTRL_INLINE void scatter(T* p, int64_t stride, int n, Vector v) {
  for (int i = 0; i < n; ++i) p[i * stride] = v[i];
}

template <class Vector, class T>
FASTRL_INLINE void scatter(Strided<T> x, int64_t row, int n, Vector v) {
  scatter(x.data + row * x.row, x.row, n, v);
}

// -1 in the first n lanes, 0 in those that repeat a row.
FASTRL_INLINE vint first_lanes(int n) {
  vint lane = {};
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < n;
}

// Calls body(row, n) for each group of n <= kLanes rows of [begin, end).
template <class Body>
FASTRL_INLINE void for_groups(int64_t begin, int64_t end, Body body) {
  int64_t row = begin;
  for (; row + kLanes <= end; row += kLanes) body(row, kLanes);
  if (row < end) body(row, static_cast<int>(end - row));
}

// Logit of one action, -inf where it is masked.
FASTRL_INLINE vfloat legal_logit(const Categorical& policy, int64_t row, int n, int64_t action) {
  const Strided<const float>& x = policy.logits;
  const vfloat logit = gather<vfloat>(x.data + row * x.row + action * x.column, x.row, n);
  const Strided<const uint8_t>& mask = policy.mask;
  if (mask.data == nullptr) return logit;
  const vint legal = gather<vint>(mask.data + row * mask.row + action * mask.column, mask.row, n);
  return select(legal != 0, logit, broadcast(-kInf));
}

// Softmax of one group of rows at a time.
class Softmax {
 public:
  explicit Softmax(const Categorical& policy) : policy_(policy) {
    if (policy.actions > kLocal)
      memory_ = static_cast<float*>(__builtin_malloc(policy.actions * 2 * kLanes * sizeof(float)));
  }
  ~Softmax() {
    if (memory_ != local_) __builtin_free(memory_);
  }
  Softmax(const Softmax&) = delete;
  Softmax& operator=(const Softmax&) = delete;

  FASTRL_INLINE void compute(int64_t row, int n) {
    vfloat highest = broadcast(-kInf);
    for (int64_t a = 0; a < policy_.actions; ++a) {
      const vfloat logit = legal_logit(policy_, row, n, a);
      highest = vmax(highest, logit);
      store(z_at(a), logit);
    }
    sum = sum_e_z = vfloat{};
    for (int64_t a = 0; a < policy_.actions; ++a) {
      // Not -inf, as 0 * -inf is NaN where the entropy wants p log p = 0.
      const vfloat z = vmax(broadcast(kNever), load(z_at(a)) - highest);
      const vfloat e = vexp(z);
      sum += e;
      sum_e_z += e * z;
      store(z_at(a), z);
      store(e_at(a), e);
    }
    log_sum = vlog(sum);
  }

  FASTRL_INLINE vfloat z(int64_t a) const { return load(z_at(a)); }  // logit - the row's maximum
  FASTRL_INLINE vfloat e(int64_t a) const { return load(e_at(a)); }  // exp(z)
  FASTRL_INLINE vfloat entropy() const { return log_sum - sum_e_z / sum; }
  FASTRL_INLINE vfloat log_prob(vint action) const {
    vfloat chosen = vfloat{};
    for (int64_t a = 0; a < policy_.actions; ++a)
      chosen = select(action == static_cast<int32_t>(a), z(a), chosen);
    return select(chosen == kNever, broadcast(-kInf), chosen - log_sum);
  }

  vfloat sum, sum_e_z, log_sum;  // of e, of e * z, log(sum)

 private:
  static constexpr int64_t kLocal = 32;
  static constexpr float kNever = -1e30f;

  FASTRL_INLINE float* z_at(int64_t a) const { return memory_ + 2 * a * kLanes; }
  FASTRL_INLINE float* e_at(int64_t a) const { return memory_ + (2 * a + 1) * kLanes; }

  const Categorical& policy_;
  float* memory_ = local_;
  float local_[2 * kLocal * kLanes];
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
