// Mass of atoms shared by those of another support: Bellemare et al. 2017, Algorithm 1.
#pragma once

#include "atoms.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// Of |x| < 2^31.
FASTRL_INLINE int64_t floor_of(double x) {
  constexpr int64_t kShift = int64_t{1} << 31;
  return static_cast<int64_t>(x + static_cast<double>(kShift)) - kShift;
}

FASTRL_INLINE int64_t ceil_of(double x) { return -floor_of(-x); }

// Where a row's atoms land among uniform targets, in units of their distance: atom i at start + slope * i. An
// atom that lands on another does so exactly: multiplied before it is divided, and 1 * i + 0 is i.
struct Landing {
  double start, slope;
};

class Shares {
 public:
  Shares(const Atoms& source, const Atoms& target)
      : source_(source), target_(target), low_(target.z[0]), high_(target.z[target.n - 1]) {
    const double last = static_cast<double>(target.n - 1);
    intervals_ = last;
    ratio_ =
        (source.z[source.n - 1] - source.z[0]) * last / ((high_ - low_) * static_cast<double>(source.n - 1));
  }

  FASTRL_INLINE bool uniform() const { return source_.uniform && target_.uniform; }

  FASTRL_INLINE Landing landing(double reward, double discount) const {
    return {(reward + discount * source_.z[0] - low_) * intervals_ / (high_ - low_), discount * ratio_};
  }

  // The atoms one by one in float64: any increasing supports, any discount.
  template <class Real>
  void project(double reward, double discount, const Real* p, int64_t p_step, Real* out,
               int64_t out_step) const {
    for (int64_t j = 0; j < target_.n; ++j) out[j * out_step] = 0;
    const Landing at = landing(reward, discount);
    bool finite = discount - discount == 0;
    int64_t below = 0;
    for (int64_t i = 0; i < source_.n; ++i) {
      const Real mass = p[i * p_step];
      const double z = reward + discount * source_.z[i];
      finite &= z == z && mass - mass == 0;
      double up;
      if (uniform()) {
        double b = at.start + at.slope * static_cast<double>(i);
        b = b < intervals_ ? (b > 0 ? b : 0) : intervals_;
        below = static_cast<int64_t>(b);
        if (below == target_.n - 1) --below;
        up = b - static_cast<double>(below);
      } else {
        const double inside = z < high_ ? (z > low_ ? z : low_) : high_;
        while (below > 0 && inside < target_.z[below]) --below;
        while (below < target_.n - 2 && inside >= target_.z[below + 1]) ++below;
        up = (inside - target_.z[below]) / (target_.z[below + 1] - target_.z[below]);
      }
      out[below * out_step] += static_cast<Real>(mass * (1.0 - up));
      out[(below + 1) * out_step] += static_cast<Real>(mass * up);
    }
    if (!finite)
      for (int64_t j = 0; j < target_.n; ++j) out[j * out_step] = __builtin_nanf("");
  }

 protected:
  const Atoms source_, target_;
  double low_, high_, intervals_, ratio_;
};

// Float32 rows. Between uniform atoms a target at j gets p[i] max(0, 1 - |b_i - j|) with b_i = start + slope
// i, from few i near j: on a vector of targets those are few vectors of neighbouring atoms, so nothing is
// gathered or scattered.
class Projector : Shares {
 public:
  Projector(const Atoms& source, const Atoms& target, int64_t rows = 1)
      : Shares(source, target),
        stride_(padded(source.n) + padded(target.n) + 2 * kLanes),
        memory_(rows * stride_ / kLanes) {
    for (int64_t i = 0; i < rows * stride_; i += kLanes) store(memory_.data() + i, vfloat{});
  }

  // Row k of those to project, [n] with zeros around it, and its projection.
  float* probs(int64_t k = 0) { return memory_.data() + k * stride_ + kLanes; }
  float* result(int64_t k = 0) { return probs(k) + padded(source_.n) + kLanes; }
  float mass(int64_t k = 0) {
    vfloat sum = {};
    for (int64_t i = 0; i < source_.n; i += kLanes) sum += load(probs(k) + i);
    return total(sum);
  }

  // `mass` is the row's total.
  FASTRL_INLINE void operator()(double reward, double discount, float mass, int64_t row = 0) {
    if (!(mass - mass == 0)) return fill(result(row), __builtin_nanf(""));
    probs_ = probs(row), result_ = result(row);
    const Landing at = landing(reward, discount);
    const double end = at.start + at.slope * static_cast<double>(source_.n - 1);
    const bool rising = uniform() && at.slope >= 0 && at.slope < 1e30;  // a float32, times any n
    const bool regular = rising && end - end == 0;
    const bool steep =
        at.slope > kMostSlope || at.slope * kMostDiagonals <= 2 + (kLanes - 1) * __builtin_fabs(1 - at.slope);
    if (regular && (at.slope == 0 || end <= 0 || at.start >= intervals_)) {
      together(at.start, end, mass);
    } else if (regular && !steep) {
      spread(static_cast<float>(at.start), static_cast<float>(at.slope));
    } else {
      project(reward, discount, probs_, 1, result_, 1);
    }
  }

 private:
  static constexpr double kSlack = 1e-3;  // of a source's distance: float32 may see an atom there
  static constexpr int kFew = 16, kMostDiagonals = 8;
  static constexpr double kMostSlope = 2;  // float32 cannot place atoms well that begin further out than this

  // All atoms at the same place, or beyond the same end.
  FASTRL_INLINE void together(double start, double end, float mass) {
    fill(result_, 0);
    const double b = end <= 0 ? 0 : start >= intervals_ ? intervals_ : start;
    int64_t below = static_cast<int64_t>(b);
    if (below == target_.n - 1) --below;
    const double up = b - static_cast<double>(below);
    result_[below] = static_cast<float>(mass * (1 - up));
    result_[below + 1] = static_cast<float>(mass * up);
  }

  // Sources that reach a target of the vector j, counted from its own, are `diagonals` from low_source -
  // start / slope + drift j on: as many for each vector, which a processor foresees. Where that is hardly
  // more of them, all vectors begin as far from their own: drift is 0.
  FASTRL_INLINE void plan(float slope) {
    slope_ = slope;
    inverse_ = 1.0 / slope;
    const int64_t fewest = diagonals_over(kLanes - 1), common = diagonals_over(intervals_);
    drift_ = common > fewest + 1 ? inverse_ - 1 : 0;
    diagonals_ = drift_ != 0 ? fewest : common;
    const double ahead = (drift_ != 0 ? kLanes - 1 : intervals_) * (inverse_ - 1);
    low_source_ = (ahead < 0 ? ahead : 0) - inverse_ - kSlack;
  }

  FASTRL_INLINE int64_t diagonals_over(double targets) const {
    return floor_of(targets * __builtin_fabs(inverse_ - 1) + 2 * (inverse_ + kSlack)) + 1;
  }

  // To the targets of the vector j from sources k on, kDiagonals where the compiler is to know, else
  // diagonals_.
  template <int kDiagonals>
  FASTRL_INLINE void spread_to(int64_t j, int64_t k, float start, float slope) {
    const int64_t rows = padded(source_.n), count = kDiagonals > 0 ? kDiagonals : diagonals_;
    if (k + count > rows) k = rows - count;
    if (k <= -kLanes) k = 1 - kLanes;
    const int64_t end = kDiagonals > 0 || k + count < rows ? k + count : rows;
    const vfloat place = to_float(lanes() + static_cast<int32_t>(j));
    vfloat source = to_float(lanes() + static_cast<int32_t>(k)), share = {};
#pragma GCC unroll 3
    for (; k < end; ++k, source += 1.0f) {
      const vfloat apart = vabs(start + slope * source - place);
      share += load(probs_ + k) * (1.0f - vmin(broadcast(1.0f), apart));
    }
    store(result_ + j, share);
  }

  FASTRL_INLINE void spread(float start, float slope) {
    const float* const probs = probs_;
    float* const result = result_;
    const int64_t n = source_.n, m = target_.n;
    if (slope != slope_) plan(slope);
    const double first_source = low_source_ - start * inverse_;
    const auto to_all = [&](auto diagonals, int64_t from) __attribute__((always_inline)) {
      for (int64_t j = 0; j < m; j += kLanes) spread_to<diagonals()>(j, j + from, start, slope);
    };
    if (drift_ != 0)
      for (int64_t j = 0; j < m; j += kLanes)
        spread_to<0>(j, j + ceil_of(drift_ * static_cast<double>(j) + first_source), start, slope);
    else if (diagonals_ == 3)  // of discounts near 1
      to_all(std::integral_constant<int, 3>{}, ceil_of(first_source));
    else
      to_all(std::integral_constant<int, 0>{}, ceil_of(first_source));
    // What the outer targets' hats leave of the atoms beyond them, few as a rule: so many are looked at first
    // that a processor foresees the end.
    const float last = static_cast<float>(intervals_);
    vfloat below = {}, above = {};
    const auto beyond = [&](int64_t k, float from, float side, vfloat* sum) __attribute__((always_inline)) {
      const vfloat b = start + slope * to_float(lanes() + static_cast<int32_t>(k));
      *sum += load(probs + k) * vmin(broadcast(1.0f), vmax(vfloat{}, side * (b - from)));
    };
    int64_t k = 0;
    do {
      for (int64_t end = k + kFew; k < end && k < n; k += kLanes) beyond(k, 0.0f, -1.0f, &below);
    } while (k < n && start + slope * static_cast<float>(k) < 0);
    k = padded(n);
    do {
      for (int64_t end = k - kFew; k > end && k > 0; k -= kLanes) beyond(k - kLanes, last, 1.0f, &above);
    } while (k > 0 && start + slope * static_cast<float>(k - 1) > last);
    result[0] += total(below);
    result[m - 1] += total(above);
  }

  FASTRL_INLINE void fill(float* result, float x) {
    for (int64_t j = 0; j < target_.n; j += kLanes) store(result + j, broadcast(x));
  }

  const int64_t stride_;
  Scratch memory_;
  float *probs_, *result_;
  float slope_ = 0;
  double inverse_, low_source_, drift_;
  int64_t diagonals_;
};

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
