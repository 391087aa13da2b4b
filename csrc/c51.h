// C51: distributions on fixed atoms, projected (Bellemare et al. 2017) and learned by cross-entropy.
#pragma once

#include <type_traits>

#include "atoms.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

template <class Real>
FASTRL_INLINE double discount_of(const Bellman<Real>& bellman, int64_t row) {
  if (bellman.discount.data != nullptr) return bellman.discount.data[row * bellman.discount.row];
  if (bellman.terminated.data == nullptr) return bellman.gamma;
  return bellman.terminated.data[row * bellman.terminated.row] != 0 ? 0.0 : bellman.gamma;
}

// Of |x| < 2^31.
FASTRL_INLINE int64_t floor_of(double x) {
  constexpr int64_t kShift = int64_t{1} << 31;
  return static_cast<int64_t>(x + static_cast<double>(kShift)) - kShift;
}

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

  FASTRL_INLINE void operator()(double reward, double discount, int64_t row = 0) {
    probs_ = probs(row), result_ = result(row);
    const Landing at = landing(reward, discount);
    const double end = at.start + at.slope * static_cast<double>(source_.n - 1);
    const bool rising = uniform() && at.slope >= 0 && at.slope < 1e30;  // a float32, times any n
    const bool regular = rising && end - end == 0;
    const bool steep =
        at.slope > kMostSlope || at.slope * kMostDiagonals <= 2 + (kLanes - 1) * __builtin_fabs(1 - at.slope);
    if (regular && (at.slope == 0 || end <= 0 || at.start >= intervals_)) {
      together(at.start, end);
    } else if (regular && !steep) {
      spread(static_cast<float>(at.start), static_cast<float>(at.slope));
    } else {
      project(reward, discount, probs_, 1, result_, 1);
    }
  }

 private:
  static constexpr int kMostDiagonals = 8;
  static constexpr double kMostSlope = 2;  // float32 cannot place atoms well that begin further out than this

  // All atoms at the same place, or beyond the same end.
  FASTRL_INLINE void together(double start, double end) {
    vfloat sum = {};
    for (int64_t i = 0; i < source_.n; i += kLanes) sum += load(probs_ + i);
    const float mass = total(sum);
    if (!(mass - mass == 0)) return fill(__builtin_nanf(""));
    fill(0);
    const double b = end <= 0 ? 0 : start >= intervals_ ? intervals_ : start;
    int64_t below = static_cast<int64_t>(b);
    if (below == target_.n - 1) --below;
    const double up = b - static_cast<double>(below);
    result_[below] = static_cast<float>(mass * (1 - up));
    result_[below + 1] = static_cast<float>(mass * up);
  }

  // Sources that reach a target of the vector j, counted from its own, are `diagonals` from low_source -
  // start / slope + (inverse - 1) j on: as many for each vector, which a processor foresees.
  FASTRL_INLINE void plan(float slope) {
    constexpr double kSlack = 1e-3;  // of a source's distance: float32 may see an atom there
    slope_ = slope;
    inverse_ = 1.0 / slope;
    const double reach = inverse_ + kSlack, width = (kLanes - 1) * (inverse_ - 1);
    low_source_ = (width < 0 ? width : 0) - reach;
    diagonals_ = floor_of(__builtin_fabs(width) + 2 * reach) + 1;
  }

  FASTRL_INLINE void spread(float start, float slope) {
    const float* const probs = probs_;
    float* const result = result_;
    const int64_t n = source_.n, m = target_.n;
    const float last = static_cast<float>(intervals_);
    vfloat below = {}, above = {}, sum = {};
    vfloat i = to_float(lanes());
    for (int64_t k = 0; k < n; k += kLanes, i += static_cast<float>(kLanes)) {
      const vfloat b = start + slope * i, p = load(probs + k);
      // What the outer targets' hats leave of the atoms beyond them
      below += p * vmin(broadcast(1.0f), vmax(vfloat{}, -b));
      above += p * vmin(broadcast(1.0f), vmax(vfloat{}, b - last));
      sum += p;
    }
    const float mass = total(sum);
    if (!(mass - mass == 0)) return fill(__builtin_nanf(""));

    if (slope != slope_) plan(slope);
    const double first_source = low_source_ - start * inverse_;
    for (int64_t j = 0; j < m; j += kLanes) {
      int64_t k = j - floor_of((1 - inverse_) * static_cast<double>(j) - first_source);
      if (k + diagonals_ > padded(n)) k = padded(n) - diagonals_;
      if (k <= -kLanes) k = 1 - kLanes;
      const int64_t end = k + diagonals_ < padded(n) ? k + diagonals_ : padded(n);
      const vfloat place = to_float(lanes() + static_cast<int32_t>(j));
      vfloat source = to_float(lanes() + static_cast<int32_t>(k));
      vfloat share = {};
      for (; k < end; ++k, source += 1.0f) {
        const vfloat apart = vabs(start + slope * source - place);
        share += load(probs + k) * vmax(vfloat{}, 1.0f - apart);
      }
      store(result + j, share);
    }
    result[0] += total(below);
    result[m - 1] += total(above);
  }

  FASTRL_INLINE void fill(float x) {
    for (int64_t j = 0; j < target_.n; j += kLanes) store(result_ + j, broadcast(x));
  }

  const int64_t stride_;
  Scratch memory_;
  float *probs_, *result_;
  float slope_ = 0;
  double inverse_, low_source_;
  int64_t diagonals_;
};

template <class Real>
void c51_project(const C51Projection<Real>& problem) {
  const Shares shares(problem.source, problem.target);
  for (int64_t b = 0; b < problem.batch; ++b)
    shares.project(problem.bellman.reward.data[b * problem.bellman.reward.row],
                   discount_of(problem.bellman, b), problem.probs.data + b * problem.probs.row,
                   problem.probs.column, problem.out.data + b * problem.out.row, problem.out.column);
}

template <>
void c51_project<float>(const C51Projection<float>& problem) {
  Projector project(problem.source, problem.target);
  const int64_t n = problem.source.n, m = problem.target.n;
  for (int64_t b = 0; b < problem.batch; ++b) {
    const float* p = problem.probs.data + b * problem.probs.row;
    if (problem.probs.column == 1)
      for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) {
        store_atoms(project.probs(), i, n, load_atoms(p, i, n));
      });
    else
      for (int64_t i = 0; i < n; ++i) project.probs()[i] = p[i * problem.probs.column];
    project(problem.bellman.reward.data[b * problem.bellman.reward.row], discount_of(problem.bellman, b));
    float* out = problem.out.data + b * problem.out.row;
    if (problem.out.column == 1)
      for_atoms(m, [&](int64_t j, vint) __attribute__((always_inline)) {
        store_atoms(out, j, m, load(project.result() + j));
      });
    else
      for (int64_t j = 0; j < m; ++j) out[j * problem.out.column] = project.result()[j];
  }
}

int64_t first_out_of_range(Strided<const int64_t> action, int64_t batch, int64_t actions) {
  if (action.data == nullptr) return -1;
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t chosen = action.data[b * action.row];
    if (chosen < 0 || chosen >= actions) return b;
  }
  return -1;
}

// The action of the largest mean; as in NumPy the first of equals, and NaN is larger than all else.
FASTRL_INLINE int64_t greedy(const float* x, int64_t stride, int64_t actions, int64_t n, const float* z) {
  int64_t best = 0;
  float best_mean = -kInf;
  const auto consider = [&](auto rows, int64_t a) __attribute__((always_inline)) {
    float mean[rows()];
    softmax_means<rows()>(x + a * stride, stride, n, z, mean);
    for (int k = 0; k < rows(); ++k) {
      // No branch, as nobody can foresee which is best.
      const int better = (mean[k] > best_mean) | ((mean[k] != mean[k]) & (best_mean == best_mean));
      best += (a + k - best) & -better;
      best_mean = better ? mean[k] : best_mean;
    }
  };
  int64_t a = 0;
  for (; actions - a >= 6; a += 6) consider(std::integral_constant<int, 6>{}, a);
  for (; actions - a >= 3; a += 3) consider(std::integral_constant<int, 3>{}, a);
  for (; actions - a >= 1; a += 1) consider(std::integral_constant<int, 1>{}, a);
  return best;
}

// Loss of a row against the target, factor * target [n]; its gradient, times scale, goes to d. e holds the
// exponentials of x.
FASTRL_INLINE float cross_entropy(const float* x, int64_t n, const Exponentials& of, const float* e,
                                  const float* target, float factor, bool kl, float scale, float* d) {
  const float log_sum = of.highest + vlog(broadcast(of.sum))[0];
  vfloat loss = {}, mass = {};
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat m = select(fresh, load(target + i) * factor, vfloat{});
    mass += m;
    vfloat log_ratio = load_atoms(x, i, n) - log_sum;
    if (kl) log_ratio -= vlog(m);
    loss -= select(m == 0.0f, vfloat{}, m * log_ratio);
  });
  const float weight = scale * total(mass) / of.sum, target_weight = scale * factor;
  for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) {
    store_atoms(d, i, n, weight * load(e + i) - target_weight * load(target + i));
  });
  return total(loss);
}

// kAtoms: how many evenly spaced atoms, if the compiler is to know, else 0.
template <int64_t kAtoms>
int64_t c51_loss_of(const C51Problem& problem) {
  const int64_t illegal = first_out_of_range(problem.action, problem.batch, problem.actions);
  if (illegal >= 0) return illegal;
  // What a row has written is read, at other offsets, only after the others of its group: before it has
  // reached the cache, that would wait for it.
  constexpr int64_t kGroup = 16;
  const int64_t n = kAtoms > 0 ? kAtoms : problem.atoms.n, wide = padded(n), actions = problem.actions;
  const Atoms atoms = {problem.atoms.z, n, kAtoms > 0 || problem.atoms.uniform};
  const Blocks<const float> now = problem.logits, next = problem.next_logits, selector = problem.selector;
  const int64_t next_actions = problem.next_actions;
  Projector project(atoms, atoms, kGroup);
  Scratch memory((kGroup + 1) * wide / kLanes);
  float *z = memory.data(), *e = z + wide;
  // From the first on, as means are only compared: so float32 tells them apart wherever the atoms lie.
  for (int64_t i = 0; i < wide; ++i) z[i] = i < n ? static_cast<float>(atoms.z[i] - atoms.z[0]) : 0;
  const float scale = static_cast<float>(problem.scale);
  Exponentials next_of[kGroup], of[kGroup];
  int64_t best[kGroup], action[kGroup];
  for (int64_t first = 0; first < problem.batch; first += kGroup) {
    const int64_t rows = problem.batch - first < kGroup ? problem.batch - first : kGroup;
    const auto logits = [&](int64_t k) { return now.data + (first + k) * now.batch + action[k] * now.row; };
    for (int64_t k = 0; k < rows; ++k) {
      action[k] = problem.action.data == nullptr ? 0 : problem.action.data[(first + k) * problem.action.row];
      for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(logits(k) + i);
    }
    for (int64_t k = 0; k < rows; ++k)
      best[k] = greedy(selector.data + (first + k) * selector.batch, selector.row, next_actions, n, z);
    for (int64_t k = 0; k < rows; ++k) {
      next_of[k] =
          exponentials(next.data + (first + k) * next.batch + best[k] * next.row, n, z, project.probs(k));
      of[k] = exponentials(logits(k), n, z, e + k * wide);
    }
    for (int64_t k = 0; k < rows; ++k)
      project(problem.bellman.reward.data[(first + k) * problem.bellman.reward.row],
              discount_of(problem.bellman, first + k), k);
    float* d = problem.d_logits + first * actions * n;
    if (actions > 1) __builtin_memset(d, 0, static_cast<uint64_t>(rows * actions * n) * sizeof(float));
    for (int64_t k = 0; k < rows; ++k)
      problem.loss[first + k] =
          cross_entropy(logits(k), n, of[k], e + k * wide, project.result(k), 1.0f / next_of[k].sum,
                        problem.kl, scale, d + (k * actions + action[k]) * n);
  }
  return -1;
}

// 51 atoms, the paper's, are what nearly all use.
int64_t c51_loss(const C51Problem& problem) {
  return problem.atoms.n == 51 && problem.atoms.uniform ? c51_loss_of<51>(problem) : c51_loss_of<0>(problem);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
