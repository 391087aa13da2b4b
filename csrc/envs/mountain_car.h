// Mountain car (Moore 1990; Sutton 1996) as Gymnasium's MountainCarEnv and Continuous_MountainCarEnv compute
// it; with Exact arithmetic bit for bit, operations in their order. Option 0: goal_velocity.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

template <class Real>
inline Real clipped(Real x, Real low, Real high) {
  const Real above = x < low ? low : x;
  return above > high ? high : above;
}

// What both have in common.
template <class Math>
struct Car {
  using Real = typename Math::Real;
  static constexpr int64_t kStateSize = 2;  // position, velocity
  static constexpr int64_t kCacheSize = 0;
  static constexpr int64_t kObsSize = 2;
  static constexpr double kBounds[kEnvBounds] = {-0.6, -0.4};  // of the initial position
  static constexpr double kMinPosition = -1.2, kMaxPosition = 0.6, kMaxSpeed = 0.07, kGravity = 0.0025;

  static void reset(const EnvBatch& batch, int64_t i, const double* bounds) {
    Pcg64 rng = batch.rng[i];
    row<Real>(batch, 0)[i] = static_cast<Real>(pcg64_uniform(rng, bounds[0], bounds[1]));
    row<Real>(batch, 1)[i] = 0;
    batch.rng[i] = rng;
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const Real* __restrict position = row<Real>(batch, 0);
    const Real* __restrict velocity = row<Real>(batch, 1);
    float* __restrict obs = batch.obs;
    for (int64_t i = begin; i < end; ++i) {
      obs[i * kObsSize] = static_cast<float>(position[i]);
      obs[i * kObsSize + 1] = static_cast<float>(velocity[i]);
    }
  }
};

template <class Math>
struct MountainCar : Car<Math> {
  using Base = Car<Math>;
  using typename Base::Real;
  static constexpr int64_t kNumActions = 3, kActionSize = 0;

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr Real kForce = 0.001, kGravity = Base::kGravity, kMaxSpeed = Base::kMaxSpeed, kGoal = 0.5;
    constexpr Real kLeft = Base::kMinPosition, kRight = Base::kMaxPosition;
    const Real goal_velocity = static_cast<Real>(batch.option[0]);
    const int64_t n = end - begin;
    const int64_t* push = static_cast<const int64_t*>(action) + begin;
    Real* __restrict position = row<Real>(batch, 0) + begin;
    Real* __restrict velocity = row<Real>(batch, 1) + begin;
    double* __restrict reward = batch.reward + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;

    Real angle[kBlock], cos[kBlock];
    for (int64_t i = 0; i < n; ++i) angle[i] = 3 * position[i];
    Math::full_cos(angle, n, cos);
    for (int64_t i = 0; i < n; ++i) {
      const Real force = (static_cast<Real>(static_cast<int32_t>(push[i])) - 1) * kForce;
      const Real speed = clipped(velocity[i] + (force - cos[i] * kGravity), -kMaxSpeed, kMaxSpeed);
      position[i] = clipped(position[i] + speed, kLeft, kRight);
      const Real rightward = speed < 0 ? 0 : speed;
      velocity[i] = position[i] == kLeft ? rightward : speed;
    }
    for (int64_t i = 0; i < n; ++i) {
      terminated[i] = (position[i] >= kGoal) & (velocity[i] >= goal_velocity);
      reward[i] = -1;
    }
  }
};

// From its second step on an episode's state is float32, and Gymnasium's arithmetic with it: numpy.float32
// takes Python's floats to itself. An action inside its bounds is float32 too, one that was clipped a Python
// float.
template <class Math>
struct MountainCarContinuous : Car<Math> {
  using Base = Car<Math>;
  using typename Base::Real;
  static constexpr int64_t kNumActions = 0, kActionSize = 1;

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    const double goal_velocity = batch.option[0];
    const int64_t n = end - begin;
    const float* given = static_cast<const float*>(action) + begin;
    Real* __restrict position = row<Real>(batch, 0) + begin;
    Real* __restrict velocity = row<Real>(batch, 1) + begin;
    double* __restrict reward = batch.reward + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;

    int64_t first[kBlock], firsts = 0;  // envs in the first step of their episode
    Moved<Real> moved_first[kBlock];
    Real angle[kBlock], cos[kBlock];
    float reached[kBlock];
    for (int64_t i = 0; i < n; ++i) angle[i] = 3 * static_cast<float>(position[i]);
    if constexpr (Math::kExact) {
      for (int64_t i = 0; i < n; ++i) {
        first[firsts] = i;
        firsts += batch.elapsed[begin + i] == 0;
      }
      for (int64_t k = 0; k < firsts; ++k) angle[first[k]] = 3 * position[first[k]];
    }
    Math::full_cos(angle, n, cos);
    for (int64_t k = 0; k < firsts; ++k) {
      const int64_t i = first[k];
      moved_first[k] = moved(position[i], velocity[i], cos[i], given[i], goal_velocity);
    }
    for (int64_t i = 0; i < n; ++i) {
      const auto next = moved(static_cast<float>(position[i]), static_cast<float>(velocity[i]), cos[i],
                              given[i], goal_velocity);
      position[i] = next.position;
      velocity[i] = next.velocity;
      reached[i] = next.reached;
    }
    for (int64_t k = 0; k < firsts; ++k) {
      position[first[k]] = static_cast<float>(moved_first[k].position);
      velocity[first[k]] = static_cast<float>(moved_first[k].velocity);
      reached[first[k]] = static_cast<float>(moved_first[k].reached);
    }
    for (int64_t i = 0; i < n; ++i) terminated[i] = reached[i] != 0;
    for (int64_t i = 0; i < n; ++i)  // the square is exact
      reward[i] = 100.0 * reached[i] - static_cast<double>(given[i]) * given[i] * 0.1;
  }

 private:
  template <class State>
  struct Moved {
    State position, velocity, reached;  // 1: reached the goal, fast enough
  };

  template <class State>
  static Moved<State> moved(State position, State velocity, Real cos, float given, double goal_velocity) {
    constexpr State kLeft = Base::kMinPosition, kRight = Base::kMaxPosition, kLimit = Base::kMaxSpeed;
    constexpr double kPower = 0.0015;
    const float force = clipped(given, -1.0f, 1.0f);
    const Real pull = static_cast<Real>(Base::kGravity) * cos;
    const State inside = force * static_cast<float>(kPower) - static_cast<float>(pull);
    const State outside = static_cast<State>(force * static_cast<Real>(kPower) - pull);
    const State free = velocity + (force == given ? inside : outside);
    const State speed = clipped(free, -kLimit, kLimit);
    position = clipped(position + speed, kLeft, kRight);
    const State rightward = speed < 0 ? 0 : speed;
    // a speed that was clipped is a Python float, compared in float64
    const State limit_is_enough = Base::kMaxSpeed >= goal_velocity;
    const State minus_limit_is_enough = -Base::kMaxSpeed >= goal_velocity;
    const State enough = speed >= static_cast<State>(goal_velocity) ? 1 : 0;
    const State at_least = free < -kLimit ? minus_limit_is_enough : enough;
    const State fast_enough = free > kLimit ? limit_is_enough : at_least;
    return {position, position == kLeft ? rightward : speed,
            position >= static_cast<State>(0.45) ? fast_enough : 0};
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
