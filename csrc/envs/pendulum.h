// Pendulum swing-up as Gymnasium's PendulumEnv computes it; with Exact arithmetic bit for bit: float64 but
// for the terms of the float32 torque alone, operations in its order. Option 0: g.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

template <class Math>
struct Pendulum {
  using Real = typename Math::Real;
  static constexpr int64_t kStateSize = 2;  // theta, its velocity
  static constexpr int64_t kCacheSize = 1;  // sin(theta), which the observation needs as well
  static constexpr int64_t kObsSize = 3;    // cos(theta), sin(theta), velocity
  static constexpr int64_t kNumActions = 0, kActionSize = 1;
  static constexpr double kBounds[kEnvBounds] = {3.141592653589793,
                                                 1.0};  // of |theta| and |velocity| at first

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr Real kTau = 0.05, kMaxSpeed = 8;
    constexpr float kMaxTorque = 2;
    const Real gravity = static_cast<Real>(3 * batch.option[0] / 2);
    const int64_t n = end - begin;
    const float* given = static_cast<const float*>(action) + begin;
    Real* __restrict theta = row<Real>(batch, 0) + begin;
    Real* __restrict theta_dot = row<Real>(batch, 1) + begin;
    const Real* __restrict sin = row<Real>(batch, 2) + begin;
    double* __restrict reward = batch.reward + begin;

    float torque[kBlock], torque_squared[kBlock];
    Real angle[kBlock], angle_squared[kBlock], speed_squared[kBlock];
    for (int64_t i = 0; i < n; ++i) {
      const float above = given[i] < -kMaxTorque ? -kMaxTorque : given[i];
      torque[i] = above > kMaxTorque ? kMaxTorque : above;
    }
    Math::normalize_angle(theta, n, angle);
    Math::square(angle, n, angle_squared);
    Math::square(theta_dot, n, speed_squared);
    Math::square(torque, n, torque_squared);
    for (int64_t i = 0; i < n; ++i) {
      const Real cost = angle_squared[i] + static_cast<Real>(0.1) * speed_squared[i] +
                        static_cast<Real>(0.001f * torque_squared[i]);
      reward[i] = -static_cast<double>(cost);
      const Real speed = theta_dot[i] + (gravity * sin[i] + static_cast<Real>(3.0f * torque[i])) * kTau;
      const Real above = speed < -kMaxSpeed ? -kMaxSpeed : speed;
      theta_dot[i] = above > kMaxSpeed ? kMaxSpeed : above;
      theta[i] = Math::wrap(theta[i] + theta_dot[i] * kTau);
    }
  }

  static void reset(const EnvBatch& batch, int64_t i, const double* bounds) {
    Pcg64 rng = batch.rng[i];
    double drawn[kStateSize];
    for (int64_t k = 0; k < kStateSize; ++k) drawn[k] = pcg64_uniform(rng, -bounds[k], bounds[k]);
    batch.rng[i] = rng;
    row<Real>(batch, 0)[i] = Math::wrap(drawn[0]);
    row<Real>(batch, 1)[i] = static_cast<Real>(drawn[1]);
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const int64_t n = end - begin;
    const Real* __restrict theta_dot = row<Real>(batch, 1) + begin;
    Real* __restrict sin = row<Real>(batch, 2) + begin;
    float* __restrict obs = batch.obs + begin * kObsSize;
    float cos[kBlock];
    Math::wide_sincos(row<Real>(batch, 0) + begin, n, sin, cos);
    for (int64_t i = 0; i < n; ++i) {
      obs[i * kObsSize] = cos[i];
      obs[i * kObsSize + 1] = static_cast<float>(sin[i]);
      obs[i * kObsSize + 2] = static_cast<float>(theta_dot[i]);
    }
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
