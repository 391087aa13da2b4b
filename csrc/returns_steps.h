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
template <class Real>
constexpr bool kHasSecond<VTrace<Real>> = true;
template <class Op>
constexpr bool kHasSecond<Masked<Op>> = kHasSecond<Op>;

template <class Real>
const View<Real>& second(const VTrace<Real>& op) {
  return op.pg_advantage;
}
template <class Op>
auto& second(const Masked<Op>& masked) {
  return second(masked.op);
}

template <class L, class Real>
typename L::Vec step(const Gae<Real>& op, int64_t t, int64_t c, typename L::Vec next, Edge<L> edge,
                     typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto target =
      L::load(op.reward, t, c) + L::unless(terminated, op.gamma * L::load(op.next_value, t, c));
  return (target - L::load(op.value, t, c)) + L::unless(done, op.decay * next);
}

template <class L, class Real, class Factor>
typename L::Vec step(const TdLambda<Real, Factor>& op, int64_t t, int64_t c, typename L::Vec next,
                     Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto value = L::load(op.next_value, t, c), lam = L::load(op.lam, t, c);
  const auto follows = L::select(done, value, (Real(1) - lam) * value + lam * next);
  return L::load(op.reward, t, c) + L::unless(terminated, L::load(op.gamma, t, c) * follows);
}

template <class L, class Real, class Factor, bool kValues>
typename L::Vec step(const Discounted<Real, Factor, kValues>& op, int64_t t, int64_t c, typename L::Vec next,
                     Edge<L> edge, typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto gamma = L::load(op.gamma, t, c);
  if constexpr (kValues) next = L::select(done, L::load(op.next_value, t, c), next);
  return L::load(op.reward, t, c) + L::unless(kValues ? terminated : done, gamma * next);
}

template <class L, class Real>
typename L::Vec step(const VTrace<Real>& op, int64_t t, int64_t c, typename L::Vec next, Edge<L> edge,
                     typename L::Vec* pg_advantage) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  const auto rho = L::exp(L::load(op.log_rho, t, c));
  const auto reward = L::load(op.reward, t, c), value = L::load(op.value, t, c);
  const auto next_value = L::load(op.next_value, t, c);
  const auto error = (reward + L::unless(terminated, op.gamma * next_value)) - value;
  const auto target = (reward + L::unless(terminated, op.gamma * L::select(done, next_value, next))) - value;
  *pg_advantage = L::at_most(op.pg_rho_bar, rho) * target;
  const auto trace = op.decay * L::at_most(op.c_bar, rho);
  return (value + L::at_most(op.rho_bar, rho) * error) + L::unless(done, trace * (next - next_value));
}

template <class L, class Real>
typename L::Vec step(const Retrace<Real>& op, int64_t t, int64_t c, typename L::Vec next, Edge<L> edge,
                     typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  const auto done = terminated | L::load(op.truncated, t, c) | edge.last;
  auto follows = L::load(op.next_value, t, c);
  if (!edge.end) {
    const auto trace = op.lam * L::at_most(Real(1), L::exp(L::load(op.log_rho, t + 1, c)));
    follows += L::unless(done, trace * (next - L::load(op.q, t + 1, c)));
  }
  return L::load(op.reward, t, c) + L::unless(terminated, op.gamma * follows);
}

template <class L, class Real>
typename L::Vec step(const QLambda<Real>& op, int64_t t, int64_t c, typename L::Vec next, Edge<L> edge,
                     typename L::Vec*) {
  const auto terminated = L::load(op.terminated, t, c);
  typename L::Flags cut = terminated | L::load(op.truncated, t, c) | edge.last;
  if (!edge.end) cut |= L::is_zero(L::load(op.greedy, t + 1, c));
  const auto value = L::load(op.next_value, t, c);
  const auto follows = L::select(cut, value, (Real(1) - op.lam) * value + op.lam * next);
  return L::load(op.reward, t, c) + L::unless(terminated, op.gamma * follows);
}

template <class L, class Op>
typename L::Vec step(const Masked<Op>& masked, int64_t t, int64_t c, typename L::Vec next, Edge<L> edge,
                     typename L::Vec* second) {
  const auto padding = L::is_zero(L::load(masked.valid, t, c));
  if (!edge.end) edge.last = L::is_zero(L::load(masked.valid, t + 1, c));
  const auto y = step<L>(masked.op, t, c, next, edge, second);
  if constexpr (kHasSecond<Op>) *second = L::unless(padding, *second);
  return L::unless(padding, y);
}

}  // namespace
}  // namespace FASTRL_ISA
}  // namespace fastrl
