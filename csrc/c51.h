// C51: distributions on fixed atoms, projected (Bellemare et al. 2017) and learned by cross-entropy.
#pragma once

#include <type_traits>

#include "projector.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

template <class Real>
FASTRL_INLINE double discount_of(const Bellman<Real>& bellman, int64_t row) {
  if (bellman.discount.data != nullptr) return bellman.discount.data[row * bellman.discount.row];
  if (bellman.terminated.data == nullptr) return bellman.gamma;
  return bellman.terminated.data[row * bellman.terminated.row] != 0 ? 0.0 : bellman.gamma;
}

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
    project(problem.bellman.reward.data[b * problem.bellman.reward.row], discount_of(problem.bellman, b),
            project.mass());
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

// The actions of the largest mean of z, from 0 to 1, in `rows` rows; as in NumPy the first of equals, and NaN
// is larger than all else. A row and action are computed apart from all others, but kLanes of them summed at
// once.
FASTRL_INLINE void greedy(Blocks<const float> x, int64_t rows, int64_t actions, int64_t n, const float* z,
                          int64_t* best) {
  constexpr int64_t kFirst = 0xffffffff;  // less its number, an action's rank among equals
  int64_t a = 0, rank = kFirst, leader = -1;
  for (int64_t left = rows * actions; left > 0; left -= kLanes) {
    const int count = left < kLanes ? static_cast<int>(left) : kLanes;
    const float* logits[kLanes];
    vfloat sum[kLanes], weighted[kLanes];
    Range range;
    const auto sum_up = [&](auto shifted, int r) __attribute__((always_inline)) {
      const Exponentials of = exponentials<shifted()>(logits[r], n, z, &range,
                                                      [](int64_t, vfloat) __attribute__((always_inline)) {});
      sum[r] = of.sum, weighted[r] = of.weighted;
    };
    for (int r = 0; r < count; ++r) {
      logits[r] = x.data + a * x.row;
      if (++a == actions) a = 0, x.data += x.batch;
      sum_up(std::false_type{}, r);
    }
    if (!range.bounded())
      for (int r = 0; r < count; ++r) sum_up(std::true_type{}, r);
    for (int r = count; r < kLanes; ++r) sum[r] = weighted[r] = vfloat{};
    const vfloat mean = totals(weighted) / totals(sum);
    // Bits of floats from 0 on are in their order. No branch, as nobody can foresee which is best.
    const vint order = select(mean == mean, (vint)mean, broadcast(0x7fffffff));
    int32_t key[kLanes];
    store(key, order);
    for (int r = 0; r < count; ++r) {
      const int64_t candidate = (int64_t{key[r]} << 32) | rank;
      leader = candidate > leader ? candidate : leader;
      --rank;
      if (kFirst - rank < actions) continue;
      *best++ = kFirst - (leader & kFirst);
      rank = kFirst, leader = -1;
    }
  }
}

constexpr int64_t kGroup = 16;  // rows of the loss that go through each step together

// Of a group's rows of logits.
struct Partition {
  float shift[kGroup], sum[kGroup];
};

// Exponentials of the logits at row(k) go to out(k).
template <class Row, class Out>
FASTRL_INLINE void exponentials_of_rows(int64_t rows, int64_t n, Row row, Out out, Partition* of) {
  vfloat sum[kLanes];
  for (int64_t begin = 0; begin < rows; begin += kLanes) {
    const int64_t end = begin + kLanes < rows ? begin + kLanes : rows;
    Range range;
    const auto one = [&](auto shifted, int64_t k) __attribute__((always_inline)) {
      float* e_of_row = out(k);
      const auto take = [&](int64_t i, vfloat e)
                            __attribute__((always_inline)) { store_atoms(e_of_row, i, n, e); };
      const Exponentials e = exponentials<shifted()>(row(k), n, nullptr, &range, take);
      of->shift[k] = e.shift, sum[k - begin] = e.sum;
    };
    for (int64_t k = begin; k < end; ++k) one(std::false_type{}, k);
    if (!range.bounded())
      for (int64_t k = begin; k < end; ++k) one(std::true_type{}, k);
    for (int64_t k = end; k < begin + kLanes; ++k) sum[k - begin] = vfloat{}, of->shift[k] = 0;
    store(of->sum + begin, totals(sum));
  }
}

// Loss of a row against the target, factor * target [n]; its gradient, times scale, goes to d. e times
// `inverse` is the softmax of x.
FASTRL_INLINE vfloat cross_entropy(const float* x, int64_t n, float log_sum, const float* e, float inverse,
                                   const float* target, float factor, bool kl, float scale, float* d) {
  vfloat loss = {};
  for_atoms(n, [&](int64_t i, vint fresh) __attribute__((always_inline)) {
    const vfloat m = load(target + i) * factor;
    vfloat log_ratio = load_atoms(x, i, n) - log_sum;
    if (kl) log_ratio -= vlog(m);
    loss -= select(fresh & (m != 0.0f), m * log_ratio, vfloat{});
    store_atoms(d, i, n, scale * (inverse * load(e + i) - m));  // as the target's mass is 1
  });
  return loss;
}

// kAtoms: how many evenly spaced atoms, if the compiler is to know, else 0.
template <int64_t kAtoms>
int64_t c51_loss_of(const C51Problem& problem) {
  const int64_t illegal = first_out_of_range(problem.action, problem.batch, problem.actions);
  if (illegal >= 0) return illegal;
  // What a row has written is read, at other offsets, only after the others of its group: before it has
  // reached the cache, that would wait for it.
  const int64_t n = kAtoms > 0 ? kAtoms : problem.atoms.n, wide = padded(n), actions = problem.actions;
  const Atoms atoms = {problem.atoms.z, n, kAtoms > 0 || problem.atoms.uniform};
  const Blocks<const float> now = problem.logits, next = problem.next_logits, selector = problem.selector;
  const int64_t next_actions = problem.next_actions;
  Projector project(atoms, atoms, kGroup);
  Scratch memory((kGroup + 1) * wide / kLanes);
  float *z = memory.data(), *e = z + wide;
  // From 0 to 1, as means are only compared: so float32 tells them apart wherever the atoms lie.
  const double range = atoms.z[n - 1] - atoms.z[0];
  for (int64_t i = 0; i < wide; ++i) z[i] = i < n ? static_cast<float>((atoms.z[i] - atoms.z[0]) / range) : 0;
  const float scale = static_cast<float>(problem.scale);
  Partition next_of, of;
  float log_sum[kGroup], inverse[kGroup], factor[kGroup];
  int64_t best[kGroup] = {}, action[kGroup];
  vfloat losses[kLanes];
  for (int64_t first = 0; first < problem.batch; first += kGroup) {
    const int64_t rows = problem.batch - first < kGroup ? problem.batch - first : kGroup;
    const auto logits = [&](int64_t k) { return now.data + (first + k) * now.batch + action[k] * now.row; };
    for (int64_t k = 0; k < rows; ++k) {
      action[k] = problem.action.data == nullptr ? 0 : problem.action.data[(first + k) * problem.action.row];
      for (int64_t i = 0; i < n; i += 16) __builtin_prefetch(logits(k) + i);
    }
    if (next_actions > 1)
      greedy({selector.data + first * selector.batch, selector.batch, selector.row}, rows, next_actions, n, z,
             best);
    const auto following = [&](int64_t k) {
      return next.data + (first + k) * next.batch + best[k] * next.row;
    };
    exponentials_of_rows(rows, n, following, [&](int64_t k) { return project.probs(k); }, &next_of);
    exponentials_of_rows(rows, n, logits, [&](int64_t k) { return e + k * wide; }, &of);
    for (int64_t k = 0; k < rows; k += kLanes) {
      store(log_sum + k, load(of.shift + k) + vlog(load(of.sum + k)));
      store(inverse + k, 1.0f / load(of.sum + k));
      store(factor + k, 1.0f / load(next_of.sum + k));
    }
    for (int64_t k = 0; k < rows; ++k)
      project(problem.bellman.reward.data[(first + k) * problem.bellman.reward.row],
              discount_of(problem.bellman, first + k), next_of.sum[k], k);
    float* d = problem.d_logits + first * actions * n;
    if (actions > 1) __builtin_memset(d, 0, static_cast<uint64_t>(rows * actions * n) * sizeof(float));
    for (int64_t begin = 0; begin < rows; begin += kLanes) {
      const int64_t end = begin + kLanes < rows ? begin + kLanes : rows;
      for (int64_t k = begin; k < end; ++k)
        losses[k - begin] =
            cross_entropy(logits(k), n, log_sum[k], e + k * wide, inverse[k], project.result(k), factor[k],
                          problem.kl, scale, d + (k * actions + action[k]) * n);
      for (int64_t k = end; k < begin + kLanes; ++k) losses[k - begin] = vfloat{};
      const vfloat loss = totals(losses);
      float* out = problem.loss + first + begin;
      if (end - begin == kLanes)
        store(out, loss);
      else
        for (int64_t k = begin; k < end; ++k) out[k - begin] = loss[k - begin];
    }
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
