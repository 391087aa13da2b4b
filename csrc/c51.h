// C51: distributions on fixed atoms, projected (Bellemare et al. 2017) and learned by cross-entropy.
#pragma once

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

FASTRL_INLINE int64_t floor_of(double x) {
  const int64_t n = static_cast<int64_t>(x);
  return n - (static_cast<double>(n) > x);
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
  Projector(const Atoms& source, const Atoms& target)
      : Shares(source, target),
        memory_((padded(source.n) + padded(target.n)) / kLanes + 2),
        probs_(memory_.data() + kLanes),
        result_(probs_ + padded(source.n) + kLanes) {
    store(memory_.data(), vfloat{});
    store(result_ - kLanes, vfloat{});
  }

  float* probs() { return probs_; }                // the row to project, with zeros up to a whole vector
  const float* result() const { return result_; }  // its projection, likewise; probs are spent

  FASTRL_INLINE void operator()(double reward, double discount) {
    const int64_t n = target_.n;
    const Landing at = landing(reward, discount);
    const double end = at.start + at.slope * static_cast<double>(source_.n - 1);
    const bool rising = uniform() && at.slope >= 0 && at.slope < kInf;
    if (!rising || !(end - end == 0)) {
      project(reward, discount, probs_, 1, result_, 1);
    } else if (at.slope == 0 || end <= 0 || at.start >= intervals_) {
      together(at.start, end);
    } else if (at.slope * kMostDiagonals <= 2 + (kLanes - 1) * __builtin_fabs(1 - at.slope)) {
      project(reward, discount, probs_, 1, result_, 1);
    } else {
      spread(static_cast<float>(at.start), static_cast<float>(at.slope));
    }
    for (int64_t j = n; j < padded(n); ++j) result_[j] = 0;
  }

 private:
  static constexpr int kMostDiagonals = 8;

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

  FASTRL_INLINE void spread(float start, float slope) {
    const int64_t n = source_.n;
    const float last = static_cast<float>(intervals_);
    vfloat below = {}, above = {}, finite = {};
    vfloat i = to_float(lanes());
    for (int64_t k = 0; k < n; k += kLanes, i += static_cast<float>(kLanes)) {
      const vfloat b = start + slope * i, p = load(probs_ + k);
      const vfloat low = select(b <= 0.0f, p, vfloat{}), high = select(b >= last, p, vfloat{});
      below += low;
      above += high;
      finite += p;
      store(probs_ + k, (p - low) - high);
    }
    const float mass = total(finite);
    if (!(mass - mass == 0)) return fill(__builtin_nanf(""));

    constexpr double kSlack = 1e-3;  // of a source's distance: float32 may see an atom there
    const double inverse = 1.0 / slope, first_source = -start * inverse;
    for (int64_t j = 0; j < target_.n; j += kLanes) {
      // sources that reach the first and the last of these targets, counted from their own
      const double near = static_cast<double>(j) * inverse + first_source;
      const double far = near + (kLanes - 1) * inverse;
      const double shift = static_cast<double>(j), far_shift = shift + (kLanes - 1);
      const double low = near - shift < far - far_shift ? near - shift : far - far_shift;
      const double high = near - shift < far - far_shift ? far - far_shift : near - shift;
      int64_t k = j - floor_of(inverse + kSlack - low);
      int64_t end = j + floor_of(high + inverse + kSlack);
      if (k <= -kLanes) k = 1 - kLanes;
      if (end >= n) end = n - 1;
      const vfloat place = to_float(lanes() + static_cast<int32_t>(j));
      vfloat source = to_float(lanes() + static_cast<int32_t>(k));
      vfloat sum = {};
      for (; k <= end; ++k, source += 1.0f) {
        const vfloat apart = vabs(start + slope * source - place);
        sum += load(probs_ + k) * vmax(vfloat{}, 1.0f - apart);
      }
      store(result_ + j, sum);
    }
    result_[0] += total(below);
    result_[target_.n - 1] += total(above);
  }

  FASTRL_INLINE void fill(float x) {
    for (int64_t j = 0; j < target_.n; j += kLanes) store(result_ + j, broadcast(x));
  }

  Scratch memory_;
  float *probs_, *result_;
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
  for (int64_t i = n; i < padded(n); ++i) project.probs()[i] = 0;
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

// The action of the largest mean; as in NumPy the first of equals, and NaN is larger than all else. Writes
// the exponentials of action a from e[a * stride_e] on.
struct Greedy {
  int64_t action;
  Exponentials of;
};

FASTRL_INLINE Greedy greedy(const float* x, int64_t stride, int64_t actions, int64_t n, const float* z,
                            float* e, int64_t stride_e) {
  Greedy best = {};
  float best_mean = 0;
  for (int64_t a = 0; a < actions; ++a) {
    const Exponentials of = exponentials(x + a * stride, n, z, e + a * stride_e);
    const float mean = of.weighted / of.sum;
    if (a == 0 || (best_mean == best_mean && !(mean <= best_mean))) best = {a, of}, best_mean = mean;
  }
  return best;
}

// Loss of a row against the target [n]; its gradient, times scale, goes to d. e holds the exponentials of x.
FASTRL_INLINE float cross_entropy(const float* x, int64_t n, const Exponentials& of, const float* e,
                                  const float* target, bool kl, float scale, float* d) {
  const float log_sum = of.highest + vlog(broadcast(of.sum))[0];
  vfloat loss = {}, mass = {};
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat m = select(fresh, load(target + i), vfloat{});
    mass += m;
    vfloat log_ratio = load_atoms(x, i, n) - log_sum;
    if (kl) log_ratio -= vlog(m);
    loss -= select(m == 0.0f, vfloat{}, m * log_ratio);
  });
  const float weight = scale * total(mass) / of.sum;
  for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) {
    store_atoms(d, i, n, weight * load(e + i) - scale * load(target + i));
  });
  return total(loss);
}

int64_t c51_loss(const C51Problem& problem) {
  const int64_t illegal = first_out_of_range(problem.action, problem.batch, problem.actions);
  if (illegal >= 0) return illegal;
  const int64_t n = problem.atoms.n, wide = padded(n);
  Projector project(problem.atoms, problem.atoms);
  Scratch memory((problem.next_actions + 2) * wide / kLanes);
  float *z = memory.data(), *e = z + wide, *e_of_next = e + wide;
  for (int64_t i = 0; i < wide; ++i) {
    z[i] = i < n ? static_cast<float>(problem.atoms.z[i]) : 0;
    project.probs()[i] = 0;
  }
  const bool selects = problem.selector.data != problem.next_logits.data;
  const float scale = static_cast<float>(problem.scale);
  for (int64_t b = 0; b < problem.batch; ++b) {
    const float* next = problem.next_logits.data + b * problem.next_logits.batch;
    const float* selector = problem.selector.data + b * problem.selector.batch;
    Greedy best = greedy(selector, problem.selector.row, problem.next_actions, n, z, e_of_next, wide);
    const float* e_of_best = e_of_next + best.action * wide;
    if (selects) best.of = exponentials(next + best.action * problem.next_logits.row, n, z, e_of_next);
    if (selects) e_of_best = e_of_next;
    const float inverse = 1.0f / best.of.sum;
    for_atoms(n, [&](int64_t i, vint) __attribute__((always_inline)) {
      store_atoms(project.probs(), i, n, load(e_of_best + i) * inverse);
    });
    project(problem.bellman.reward.data[b * problem.bellman.reward.row], discount_of(problem.bellman, b));

    const int64_t action = problem.action.data == nullptr ? 0 : problem.action.data[b * problem.action.row];
    const float* logits = problem.logits.data + b * problem.logits.batch + action * problem.logits.row;
    const Exponentials of = exponentials(logits, n, z, e);
    float* d = problem.d_logits + b * problem.actions * n;
    if (problem.actions > 1)
      __builtin_memset(d, 0, static_cast<uint64_t>(problem.actions * n) * sizeof(float));
    problem.loss[b] = cross_entropy(logits, n, of, e, project.result(), problem.kl, scale, d + action * n);
  }
  return -1;
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
