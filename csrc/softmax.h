// Softmax of categorical rows, kLanes rows at a time.
#pragma once

#include "distributions.h"
#include "rows.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// Logit of one column, -inf where it is masked.
FASTRL_INLINE vfloat legal_logit(const Categorical& policy, int64_t row, int n, int64_t column) {
  const Strided<const float>& x = policy.logits;
  const vfloat logit = gather<vfloat>(x.data + row * x.row + column * x.column, x.row, n);
  const Strided<const uint8_t>& mask = policy.mask;
  if (mask.data == nullptr) return logit;
  const vint legal = gather<vint>(mask.data + row * mask.row + column * mask.column, mask.row, n);
  return select(legal != 0, logit, broadcast(-kInf));
}

// Calls body(component, begin, end) for the columns [begin, end) of each component.
template <class Body>
FASTRL_INLINE void for_components(const Categorical& policy, Body body) {
  int64_t begin = 0;
  for (int64_t k = 0; k < policy.components; ++k) {
    const int64_t end = begin + component_size(policy, k);
    body(k, begin, end);
    begin = end;
  }
}

// Softmax of one component of one group of rows at a time; z and e stay until their columns are computed
// again.
class Softmax {
 public:
  explicit Softmax(const Categorical& policy) : policy_(policy), memory_(2 * policy.actions) {}

  FASTRL_INLINE void compute(int64_t row, int n, int64_t begin, int64_t end) {
    begin_ = begin, end_ = end;
    vfloat highest = broadcast(-kInf);
    for (int64_t a = begin; a < end; ++a) {
      const vfloat logit = legal_logit(policy_, row, n, a);
      highest = vmax(highest, logit);
      memory_.set(2 * a, logit);
    }
    sum = sum_e_z = vfloat{};
    for (int64_t a = begin; a < end; ++a) {
      // Not -inf, as 0 * -inf is NaN where the entropy wants p log p = 0.
      const vfloat z = vmax(broadcast(kNever), memory_.get(2 * a) - highest);
      const vfloat e = vexp(z);
      sum += e;
      sum_e_z += e * z;
      memory_.set(2 * a, z);
      memory_.set(2 * a + 1, e);
    }
    log_sum = vlog(sum);
  }

  FASTRL_INLINE vfloat z(int64_t a) const { return memory_.get(2 * a); }      // logit - the row's maximum
  FASTRL_INLINE vfloat e(int64_t a) const { return memory_.get(2 * a + 1); }  // exp(z)
  FASTRL_INLINE vfloat entropy() const { return log_sum - sum_e_z / sum; }
  FASTRL_INLINE vfloat log_prob(vint action) const {
    vfloat chosen = vfloat{};
    for (int64_t a = begin_; a < end_; ++a)
      chosen = select(action == static_cast<int32_t>(a - begin_), z(a), chosen);
    return select(chosen == kNever, broadcast(-kInf), chosen - log_sum);
  }

  vfloat sum, sum_e_z, log_sum;  // of e, of e * z, log(sum)

 private:
  static constexpr float kNever = -1e30f;

  const Categorical& policy_;
  int64_t begin_, end_;
  Scratch memory_;
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
