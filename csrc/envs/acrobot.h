// Acrobot swing-up (Sutton 1996, with the book's dynamics) as Gymnasium's AcrobotEnv computes it; with Exact
// arithmetic bit for bit: one step of Runge and Kutta's fourth order, operations in its order.
#pragma once

#include <cstdint>

#include "autoreset.h"
#include "libm.h"
#include "numpy_float32.h"

namespace fastrl::FASTRL_ISA {
namespace {

template <class Math>
struct Acrobot {
  using Real = typename Math::Real;
  static constexpr int64_t kStateSize = 4;  // theta1, theta2, their velocities
  static constexpr int64_t kCacheSize = 4;  // sin and cos of theta1 and of theta2
  static constexpr int64_t kObsSize = 6;    // cos, sin of theta1, of theta2, velocities
  static constexpr int64_t kNumActions = 3, kActionSize = 0;
  static constexpr double kBounds[kEnvBounds] = {-0.1, 0.1};  // of every initial state component

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr double kTau = 0.2, kPi = 3.141592653589793;
    constexpr Real kMaxSpeed[] = {4 * kPi, 9 * kPi}, kSixth = kTau / 6.0;
    constexpr Real kNext[] = {kTau / 2.0, kTau / 2.0, kTau}, kWeight[] = {1, 2, 2, 1};
    const int64_t n = end - begin;
    const int64_t* push = static_cast<const int64_t*>(action) + begin;
    Real* const __restrict state = row<Real>(batch, 0) + begin;
    const int64_t stride = batch.stride;

    Stage y;
    Real torque[kBlock], slope[kStateSize][kBlock], total[kStateSize][kBlock];
    for (int64_t i = 0; i < n; ++i) torque[i] = static_cast<Real>(static_cast<int32_t>(push[i])) - 1;
    for (int64_t k = 0; k < kStateSize; ++k)
      for (int64_t i = 0; i < n; ++i) {
        y.state[k][i] = state[k * stride + i];
        total[k][i] = 0;
      }
    for (int64_t i = 0; i < n; ++i) {
      y.sin[i] = row<Real>(batch, kSin2)[begin + i];
      y.cos[i] = row<Real>(batch, kCos2)[begin + i];
    }
    for (int64_t stage = 0; stage < 4; ++stage) {
      if (stage > 0) Math::full_sincos(y.state[1], n, y.sin, y.cos);
      differentiate(y, torque, n, slope);
      for (int64_t k = 0; k < kStateSize; ++k)
        for (int64_t i = 0; i < n; ++i) {
          total[k][i] = total[k][i] + kWeight[stage] * slope[k][i];
          if (stage < 3) y.state[k][i] = state[k * stride + i] + kNext[stage] * slope[k][i];
        }
    }
    for (int64_t k = 0; k < kStateSize; ++k) {
      Real* __restrict out = state + k * stride;
      for (int64_t i = 0; i < n; ++i) out[i] = out[i] + kSixth * total[k][i];
      if (k < 2) {
        Math::wrap_turns(out, n);
      } else {
        const Real limit = kMaxSpeed[k - 2];
        for (int64_t i = 0; i < n; ++i) {
          const Real above = out[i] < -limit ? -limit : out[i];
          out[i] = above > limit ? limit : above;
        }
      }
    }
    remember(batch, begin, n);
    finish(batch, begin, n);
  }

  static void reset(const EnvBatch& batch, int64_t i, const double* bounds) {
    Pcg64 rng = batch.rng[i];
    for (int64_t k = 0; k < kStateSize; ++k)  // float32, in which Gymnasium draws them
      row<Real>(batch, k)[i] = static_cast<float>(pcg64_uniform(rng, bounds[0], bounds[1]));
    batch.rng[i] = rng;
    remember(batch, i, 1);
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const Real* __restrict rows = row<Real>(batch, 0);
    const int64_t stride = batch.stride;
    float* __restrict obs = batch.obs;
    for (int64_t i = begin; i < end; ++i) {
      obs[i * kObsSize] = static_cast<float>(rows[kCos1 * stride + i]);
      obs[i * kObsSize + 1] = static_cast<float>(rows[kSin1 * stride + i]);
      obs[i * kObsSize + 2] = static_cast<float>(rows[kCos2 * stride + i]);
      obs[i * kObsSize + 3] = static_cast<float>(rows[kSin2 * stride + i]);
      obs[i * kObsSize + 4] = static_cast<float>(rows[2 * stride + i]);
      obs[i * kObsSize + 5] = static_cast<float>(rows[3 * stride + i]);
    }
    if constexpr (Math::kExact) {
      for (int64_t i = begin; i < end; ++i) {
        if (batch.elapsed[i] != 0) continue;  // until the first step Gymnasium's state is float32
        for (int64_t k = 0; k < 2; ++k) {
          const float theta = static_cast<float>(row<Real>(batch, k)[i]);
          obs[i * kObsSize + 2 * k] = numpy_cos(theta);
          obs[i * kObsSize + 2 * k + 1] = numpy_sin(theta);
        }
      }
    }
  }

 private:
  enum Cache : int64_t { kSin1 = kStateSize, kCos1, kSin2, kCos2 };

  struct Stage {
    Real state[kStateSize][kBlock];
    Real sin[kBlock], cos[kBlock];  // of theta2
  };

  // Time derivatives of the state. Masses, lengths and moments of inertia are 1, centres of mass at 0.5.
  static void differentiate(const Stage& y, const Real* torque, int64_t n, Real (*slope)[kBlock]) {
    constexpr Real kGravity = 9.8;
    const Real* __restrict speed1 = y.state[2];
    const Real* __restrict speed2 = y.state[3];
    Real both[kBlock], weight1[kBlock], weight2[kBlock], d2[kBlock];
    Real d2_squared[kBlock], speed1_squared[kBlock], speed2_squared[kBlock];
    for (int64_t i = 0; i < n; ++i) {
      both[i] = y.state[0][i] + y.state[1][i];
      d2[i] = (static_cast<Real>(0.25) + static_cast<Real>(0.5) * y.cos[i]) + 1;
    }
    Math::quarter_back_cos(y.state[0], n, weight1);
    Math::quarter_back_cos(both, n, weight2);
    Math::square(d2, n, d2_squared);
    Math::square(speed1, n, speed1_squared);
    Math::square(speed2, n, speed2_squared);
    for (int64_t i = 0; i < n; ++i) {
      const Real half = 0.5, sin = y.sin[i];
      const Real d1 = static_cast<Real>(0.25) + (static_cast<Real>(1.25) + y.cos[i]) + 1 + 1;
      const Real phi2 = half * kGravity * weight2[i];
      const Real phi1 = -half * speed2_squared[i] * sin - speed2[i] * speed1[i] * sin +
                        static_cast<Real>(1.5) * kGravity * weight1[i] + phi2;
      const Real driven = torque[i] + d2[i] / d1 * phi1 - half * speed1_squared[i] * sin - phi2;
      const Real acceleration2 = driven / (static_cast<Real>(1.25) - d2_squared[i] / d1);
      slope[0][i] = speed1[i];
      slope[1][i] = speed2[i];
      slope[2][i] = -(d2[i] * acceleration2 + phi1) / d1;
      slope[3][i] = acceleration2;
    }
  }

  static void remember(const EnvBatch& batch, int64_t begin, int64_t n) {
    for (int64_t k = 0; k < 2; ++k)
      Math::full_sincos(row<Real>(batch, k) + begin, n, row<Real>(batch, kSin1 + 2 * k) + begin,
                        row<Real>(batch, kCos1 + 2 * k) + begin);
  }

  // Ends episodes whose free end is higher than 1: -cos(theta1) - cos(theta2 + theta1).
  static void finish(const EnvBatch& batch, int64_t begin, int64_t n) {
    const Real* __restrict cos1 = row<Real>(batch, kCos1) + begin;
    uint8_t* __restrict terminated = batch.terminated + begin;
    double* __restrict reward = batch.reward + begin;
    Real height[kBlock];
    uint8_t sure[kLibmMax];
    for (int64_t i = 0; i < n; ++i) {
      const Real sum_cos = cos1[i] * row<Real>(batch, kCos2)[begin + i] -
                           row<Real>(batch, kSin1)[begin + i] * row<Real>(batch, kSin2)[begin + i];
      height[i] = -cos1[i] - sum_cos;
    }
    if constexpr (Math::kExact) {  // where a few roundings of that sum's cosine could matter
      for (int64_t i = 0; i < n; ++i) sure[i] = std::fabs(height[i] - 1) > 0x1p-45;
      ask_libm(sure, n, height, [&](int64_t i) {
        return -cos1[i] - std::cos(row<Real>(batch, 1)[begin + i] + row<Real>(batch, 0)[begin + i]);
      });
    }
    for (int64_t i = 0; i < n; ++i) terminated[i] = height[i] > 1;
    for (int64_t i = 0; i < n; ++i) reward[i] = height[i] > 1 ? 0.0 : -1.0;
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
