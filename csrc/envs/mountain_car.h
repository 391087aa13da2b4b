// Mountain car (Moore 1990; Sutton 1996) as Gymnasium's MountainCarEnv and Continuous_MountainCarEnv compute
// it; with Exact arithmetic bit for bit, operations in their order. Option 0: goal_velocity.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

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

  static Real clipped(Real x, Real low, Real high) {
    const Real above = x < low ? low : x;
    return above > high ? high : above;
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
      const Real sideways = push[i] < 1 ? -kForce : kForce;
      const Real force = push[i] == 1 ? 0 : sideways;
      const Real speed = Base::clipped(velocity[i] + (force - cos[i] * kGravity), -kMaxSpeed, kMaxSpeed);
      position[i] = Base::clipped(position[i] + speed, kLeft, kRight);
      velocity[i] = (position[i] == kLeft) & (speed < 0) ? 0 : speed;
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
    constexpr double kPower = 0.0015, kMaxSpeed = Base::kMaxSpeed;
    constexpr Real kGravity = Base::kGravity, kLeft = Base::kMinPosition, kRight = Base::kMaxPosition;
    constexpr Real kGoal = 0.45;
    const double goal_velocity = batch.option[0];
    const Real right_is_enough = kMaxSpeed >= goal_velocity, left_is_enough = -kMaxSpeed >= goal_velocity;
    const int64_t n = end - begin;
    const float* given = static_cast<const float*>(action) + begin;
    const int64_t* __restrict elapsed = batch.elapsed + begin;
    Real* __restrict position = row<Real>(batch, 0) + begin;
    Real* __restrict velocity = row<Real>(batch, 1) + begin;
    double* __restrict reward = batch.reward + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;

    Real angle[kBlock], cos[kBlock], reached[kBlock];
    for (int64_t i = 0; i < n; ++i) angle[i] = narrow(3 * position[i], elapsed[i] == 0);
    Math::full_cos(angle, n, cos);
    for (int64_t i = 0; i < n; ++i) {
      const bool first = elapsed[i] == 0;
      const float above = given[i] < -1.0f ? -1.0f : given[i];
      const float force = above > 1.0f ? 1.0f : above;
      const Real pull = kGravity * cos[i];
      const Real inside = force * static_cast<float>(kPower) - static_cast<float>(pull);
      const Real push = force == given[i] ? inside : force * static_cast<Real>(kPower) - pull;
      const Real speed = narrow(velocity[i] + narrow(push, first), first);
      const Real limit = narrow(kMaxSpeed, first);
      const Real slowed = Base::clipped(speed, -limit, limit);
      const Real place =
          Base::clipped(narrow(position[i] + slowed, first), narrow(kLeft, first), narrow(kRight, first));
      // a speed that was clipped is a Python float, compared in float64
      const Real enough = slowed >= narrow(static_cast<Real>(goal_velocity), first) ? 1 : 0;
      const Real fast_enough = speed > limit ? right_is_enough : speed < -limit ? left_is_enough : enough;
      reached[i] = place >= narrow(kGoal, first) ? fast_enough : 0;
      velocity[i] = static_cast<float>((place == narrow(kLeft, first)) & (slowed < 0) ? 0 : slowed);
      position[i] = static_cast<float>(place);
    }
    for (int64_t i = 0; i < n; ++i) terminated[i] = reached[i] != 0;
    for (int64_t i = 0; i < n; ++i) {  // the square is exact
      const double cost = static_cast<double>(given[i]) * given[i] * 0.1;
      reward[i] = (reached[i] != 0 ? 100.0 : 0.0) - cost;
    }
  }

 private:
  static Real narrow(Real x, bool first) { return first ? x : static_cast<Real>(static_cast<float>(x)); }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
