// A step of each op of returns.h: y_t from y_{t+1}. Where nothing follows, y_{t+1} is not used: a flag
// selects instead of multiplying by 0, so that no NaN crosses it.
#pragma once

#include <cstdint>

#include "returns_lanes.h"

namespace fastrl {
namespace FASTRL_ISA {
namespace {

// Where a step stands: `end` is the last row of the arrays, after which none may be read, `last` are the
// columns whose sequence ends here for that or for the mask's sake.
template <class L>
struct Edge {
  bool end;
  typename L::Flags last;
};

template <class Op>
constexpr bool kHasSecond = false;
template <class Real, bool kDone>
constexpr bool kHasSecond<VTrace<Real, kDone>> = true;
template <class Op>
constexpr bool kHasSecond<Masked<Op>> = kHasSecond<Op>;

template <class Real, bool kDone>
const View<Real>& second(const VTrace<Real, kDone>& op) {
  return op.pg_advantage;
}
template <class Op>
auto& second(const Masked<Op>& masked) {
  return second(masked.op);
}

// r + gamma ((1 - lambda) value + lambda next), or r + gamma value where `cut`. As a + b next, so that a
// chain of steps waits for one product and one sum a step.
template <class L>
FASTRL_INLINE typename L::Vec mixed(typename L::Vec reward, typename L::Vec value, typename L::Vec gamma,
                                    typename L::Vec lam, typename L::Flags terminated, typename L::Flags cut,
                                    typename L::Vec next) {
  const auto decay = gamma * lam;
  const auto own = reward + L::unless(terminated, L::select(cut, gamma, gamma - decay) * value);
  return own + L::unless(cut, decay * next);
}

template <class L, class Real>
FASTRL_INLINE typename L::Vec step(const Gae<Real>& op, int64_t t, int64_t c, typename L::Vec next,
                                   Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto target =
      L::load(op.reward, t, c) + L::unless(terminated, op.gamma * L::load(op.next_value, t, c));
  return (target - L::load(op.value, t, c)) + L::unless(done, op.decay * next);
}

template <class L, class Real, class Factor>
FASTRL_INLINE typename L::Vec step(const TdLambda<Real, Factor>& op, int64_t t, int64_t c,
                                   typename L::Vec next, Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto gamma = L::load(op.gamma, t, c), lam = L::load(op.lam, t, c);
  return mixed<L>(L::load(op.reward, t, c), L::load(op.next_value, t, c), gamma, lam, terminated, done, next);
}

template <class L, class Real, class Factor, bool kValues>
FASTRL_INLINE typename L::Vec step(const Discounted<Real, Factor, kValues>& op, int64_t t, int64_t c,
                                   typename L::Vec next, Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto gamma = L::load(op.gamma, t, c);
  if constexpr (kValues) next = L::select(done, L::load(op.next_value, t, c), next);
  return L::load(op.reward, t, c) + L::unless(kValues ? terminated : done, gamma * next);
}

// exp of log_rho, unless it was taken before
template <class L, class Op>
FASTRL_INLINE typename L::Vec ratio(const Op& op, int64_t t, int64_t c) {
  const auto x = L::load(op.log_rho, t, c);
  if constexpr (Op::kRatios) return x;
  return L::exp(x);
}

template <class L, class Real, bool kDone>
FASTRL_INLINE typename L::Vec step(const VTrace<Real, kDone>& op, int64_t t, int64_t c, typename L::Vec next,
                                   Edge<L> edge, typename L::Vec* pg_advantage) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto rho = ratio<L>(op, t, c);
  const auto reward = L::load(op.reward, t, c), value = L::load(op.value, t, c);
  const auto next_value = L::load(op.next_value, t, c);
  const auto error = (reward + L::unless(terminated, op.gamma * next_value)) - value;
  const auto target = (reward + L::unless(terminated, op.gamma * L::select(done, next_value, next))) - value;
  *pg_advantage = L::at_most(op.pg_rho_bar, rho) * target;
  const auto trace = op.decay * L::at_most(op.c_bar, rho);
  const auto own = value + L::at_most(op.rho_bar, rho) * error;
  return (own - L::unless(done, trace * next_value)) + L::unless(done, trace * next);
}

template <class L, class Real, bool kDone>
FASTRL_INLINE typename L::Vec step(const Retrace<Real, kDone>& op, int64_t t, int64_t c, typename L::Vec next,
                                   Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto own = L::load(op.reward, t, c) + L::unless(terminated, op.gamma * L::load(op.next_value, t, c));
  if (edge.end) return own;
  const auto trace = op.decay * L::at_most(Real(1), ratio<L>(op, t + 1, c));
  return (own - L::unless(done, trace * L::load(op.q, t + 1, c))) + L::unless(done, trace * next);
}

template <class L, class Real>
FASTRL_INLINE typename L::Vec step(const QLambda<Real>& op, int64_t t, int64_t c, typename L::Vec next,
                                   Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  typename L::Flags cut = terminated | L::load(op.truncated, t, c) | edge.last;
  if (!edge.end) cut |= L::is_zero(L::load(op.greedy, t + 1, c));
  return mixed<L>(L::load(op.reward, t, c), L::load(op.next_value, t, c), op.gamma - typename L::Vec{},
                  op.lam - typename L::Vec{}, terminated, cut, next);
}

// The op with exp(log_rho) as an array, of those that read log_rho.
template <class Op>
constexpr bool kHasRatios = false;
template <class Real>
constexpr bool kHasRatios<VTrace<Real>> = true;
template <class Real>
constexpr bool kHasRatios<Retrace<Real>> = true;
template <class Op>
constexpr bool kHasRatios<Masked<Op>> = kHasRatios<Op>;

template <class Real>
VTrace<Real, true> with_ratios(const VTrace<Real>& op, View<const Real> rho) {
  return {rho,      op.reward, op.value,   op.next_value, op.terminated, op.truncated, op.pg_advantage,
          op.gamma, op.decay,  op.rho_bar, op.c_bar,      op.pg_rho_bar};
}
template <class Real>
Retrace<Real, true> with_ratios(const Retrace<Real>& op, View<const Real> rho) {
  return {rho, op.reward, op.q, op.next_value, op.terminated, op.truncated, op.gamma, op.decay};
}
template <class Op, class Real>
auto with_ratios(const Masked<Op>& masked, View<const Real> rho) {
  using Ratios = decltype(with_ratios(masked.op, rho));
  return Masked<Ratios>{with_ratios(masked.op, rho), masked.valid};
}

template <class Op>
const auto& log_rho(const Op& op) {
  return op.log_rho;
}
template <class Op>
const auto& log_rho(const Masked<Op>& masked) {
  return masked.op.log_rho;
}

template <class L, class Op>
FASTRL_INLINE typename L::Vec step(const Masked<Op>& masked, int64_t t, int64_t c, typename L::Vec next,
                                   Edge<L> edge, typename L::Vec* second) {
  const auto padding = L::is_zero(L::load(masked.valid, t, c));
  if (!edge.end) edge.last = L::is_zero(L::load(masked.valid, t + 1, c));
  const auto y = step<L>(masked.op, t, c, next, edge, second);
  if constexpr (kHasSecond<Op>) *second = L::unless(padding, *second);
  return L::unless(padding, y);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
