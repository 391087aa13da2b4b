// CartPole of Barto, Sutton and Anderson (1983) as Gymnasium's CartPoleEnv computes it; with Exact arithmetic
// bit for bit: explicit Euler, operations in its order. Option 0: sutton_barto_reward.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

template <class Math>
struct CartPole {
  using Real = typename Math::Real;
  static constexpr int64_t kStateSize = 4;  // x, its velocity, theta, its velocity
  static constexpr int64_t kCacheSize = 0;
  static constexpr int64_t kObsSize = 4;
  static constexpr int64_t kNumActions = 2, kActionSize = 0;
  static constexpr double kBounds[kEnvBounds] = {-0.05, 0.05};  // of every initial state component

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr Real kGravity = 9.8, kPoleMass = 0.1, kHalfLength = 0.5, kPoleMoment = 0.1 * 0.5;
    constexpr Real kForce = 10.0, kTau = 0.02, kMaxX = 2.4, kMaxTheta = 12 * 2 * 3.141592653589793 / 360;
    constexpr double kMass = 0.1 + 1.0;
    const bool sutton_barto = batch.option[0] != 0;
    const double step_reward = sutton_barto ? 0.0 : 1.0;
    const double end_reward = sutton_barto ? -1.0 : 1.0;
    const int64_t n = end - begin;
    const int64_t* push = static_cast<const int64_t*>(action) + begin;
    Real* __restrict x = row<Real>(batch, 0) + begin;
    Real* __restrict x_dot = row<Real>(batch, 1) + begin;
    Real* __restrict theta = row<Real>(batch, 2) + begin;
    Real* __restrict theta_dot = row<Real>(batch, 3) + begin;
    double* __restrict reward = batch.reward + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;

    Real sin[kBlock], cos[kBlock];
    Math::sincos(theta, n, sin, cos);
    for (int64_t i = 0; i < n; ++i) {
      const Real force = push[i] == 1 ? kForce : -kForce;
      const Real temp = Math::divided(force + kPoleMoment * (theta_dot[i] * theta_dot[i]) * sin[i], kMass);
      const Real theta_acc = (kGravity * sin[i] - cos[i] * temp) /
                             (kHalfLength * (static_cast<Real>(4.0 / 3.0) -
                                             Math::divided(kPoleMass * (cos[i] * cos[i]), kMass)));
      const Real x_acc = temp - Math::divided(kPoleMoment * theta_acc * cos[i], kMass);
      x[i] = x[i] + kTau * x_dot[i];
      x_dot[i] = x_dot[i] + kTau * x_acc;
      theta[i] = theta[i] + kTau * theta_dot[i];
      theta_dot[i] = theta_dot[i] + kTau * theta_acc;
    }
    for (int64_t i = 0; i < n; ++i) {
      const bool fell = (x[i] < -kMaxX) | (x[i] > kMaxX) | (theta[i] < -kMaxTheta) | (theta[i] > kMaxTheta);
      terminated[i] = fell;
      reward[i] = fell ? end_reward : step_reward;
    }
  }

  static void reset(const EnvBatch& batch, int64_t i, const double* bounds) {
    Pcg64 rng = batch.rng[i];
    for (int64_t k = 0; k < kStateSize; ++k)
      row<Real>(batch, k)[i] = static_cast<Real>(pcg64_uniform(rng, bounds[0], bounds[1]));
    batch.rng[i] = rng;
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const Real* __restrict state = row<Real>(batch, 0);
    const int64_t stride = batch.stride;
    float* __restrict obs = batch.obs;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t k = 0; k < kObsSize; ++k)
        obs[i * kObsSize + k] = static_cast<float>(state[k * stride + i]);
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
