// CartPole of Barto, Sutton and Anderson (1983), bit for bit as Gymnasium's CartPoleEnv computes it: explicit
// Euler in float64, operations in its order. Option 0: sutton_barto_reward.
#pragma once

#include <cstdint>

#include "../envs.h"
#include "sincos.h"

namespace fastrl::FASTRL_ISA {
namespace {

struct CartPole {
  static constexpr int64_t kStateSize = 4;  // x, its velocity, theta, its velocity
  static constexpr int64_t kObsSize = 4;
  static constexpr int64_t kNumActions = 2;
  static constexpr double kLow = -0.05, kHigh = 0.05;  // of every initial state component

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr double kGravity = 9.8, kCartMass = 1.0, kPoleMass = 0.1, kMass = kPoleMass + kCartMass;
    constexpr double kHalfLength = 0.5, kPoleMoment = kPoleMass * kHalfLength, kForce = 10.0, kTau = 0.02;
    constexpr double kMaxX = 2.4, kMaxTheta = 12 * 2 * 3.141592653589793 / 360;
    const bool sutton_barto = batch.option[0] != 0;
    const double step_reward = sutton_barto ? 0.0 : 1.0;
    const double end_reward = sutton_barto ? -1.0 : 1.0;
    const int64_t n = end - begin;
    const int64_t* push = static_cast<const int64_t*>(action) + begin;
    double* __restrict x = batch.state + begin;
    double* __restrict x_dot = x + batch.stride;
    double* __restrict theta = x_dot + batch.stride;
    double* __restrict theta_dot = theta + batch.stride;
    double* __restrict reward = batch.reward + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;

    double sin[kSincosMax], cos[kSincosMax];
    sincos(theta, n, sin, cos);
    for (int64_t i = 0; i < n; ++i) {
      const double force = push[i] == 1 ? kForce : -kForce;
      const double temp = (force + kPoleMoment * (theta_dot[i] * theta_dot[i]) * sin[i]) / kMass;
      const double theta_acc = (kGravity * sin[i] - cos[i] * temp) /
                               (kHalfLength * (4.0 / 3.0 - kPoleMass * (cos[i] * cos[i]) / kMass));
      const double x_acc = temp - kPoleMoment * theta_acc * cos[i] / kMass;
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

  static void reset(const EnvBatch& batch, int64_t i, double low, double high) {
    Pcg64 rng = batch.rng[i];
    for (int64_t k = 0; k < kStateSize; ++k) {
      const double u = pcg64_double(rng);
      batch.state[k * batch.stride + i] = low + (high - low) * u;
    }
    batch.rng[i] = rng;
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const double* __restrict state = batch.state;
    const int64_t stride = batch.stride;
    float* __restrict obs = batch.obs;
    for (int64_t i = begin; i < end; ++i)
      for (int64_t k = 0; k < kObsSize; ++k)
        obs[i * kObsSize + k] = static_cast<float>(state[k * stride + i]);
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
