// A whole on-policy rollout: environments, normalisers, networks and distributions, without Python.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "act.h"
#include "envs.h"
#include "normalizers.h"

namespace fastrl {

// Raised as FloatingPointError: what it names is where to look.
struct NotFinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Index of the first element that is not finite, or -1.
template <typename T>
int64_t first_not_finite(const T* x, int64_t n) {
  bool bad = false;
  for (int64_t i = 0; i < n; ++i) bad |= !(x[i] - x[i] == T(0));
  if (!bad) return -1;
  for (int64_t i = 0; i < n; ++i)
    if (!std::isfinite(x[i])) return i;
  return -1;
}

// Where a rollout is written: [T, N, ...] each.
struct RolloutArrays {
  int64_t steps;
  float* obs;    // [T, N, D]
  void* action;  // int64 [T, N] of a categorical policy, float [T, N, A] of a Gaussian one
  float *log_prob, *value, *next_value, *reward;
  uint8_t *terminated, *truncated;
};

// Null: observations or rewards stay as they are.
struct Normalizers {
  RunningMeanStd* obs;
  ReturnNormalizer* reward;
};

// Collects num_steps steps of every env, in an environment with same_step autoreset. With bounds, low and
// high [A], the environment gets the action clipped to them, or squashed into them.
class Rollout {
 public:
  using Clock = std::chrono::steady_clock;

  Rollout(VecEnv& env, const RolloutArrays& arrays, const float* low, const float* high, bool squash)
      : env_(env),
        to_(arrays),
        low_(low),
        high_(high),
        squash_(squash),
        n_(env.num_envs()),
        d_(env.obs_size()),
        a_(env.action_size()),
        next_obs_(static_cast<size_t>(n_ * d_)),
        bounded_(low == nullptr ? 0 : static_cast<size_t>(n_ * a_)),
        done_(static_cast<size_t>(n_)) {}

  // Draw t of env n comes from (seed, counter + t, n). Calls `interrupt` now and then; what it throws ends
  // the rollout.
  template <class Interrupt>
  void collect(const Policy& policy, const Normalizers& normalizers, uint64_t seed, uint64_t counter,
               Interrupt interrupt) {
    normalizers_ = normalizers;
    returns.clear();
    lengths.clear();
    final_obs_.clear();
    final_rows_.clear();
    y_.resize(static_cast<size_t>(n_ * policy.width()));
    env_seconds = policy_seconds = 0.0;
    auto now = Clock::now();
    auto checked = now;
    for (int64_t t = 0; t < to_.steps; ++t) {
      draw(policy, t, seed, counter + static_cast<uint64_t>(t));
      const auto acted = Clock::now();
      step(t, counter + static_cast<uint64_t>(t));
      const auto stepped = Clock::now();
      policy_seconds += seconds(acted - now);
      env_seconds += seconds(stepped - acted);
      now = stepped;
      if (now - checked > std::chrono::milliseconds(50)) {
        checked = now;
        interrupt();
      }
    }
    bootstrap(policy);
    policy_seconds += seconds(Clock::now() - now);
  }

  // Of the episodes that finished in the last collect.
  std::vector<double> returns;
  std::vector<int64_t> lengths;
  double env_seconds = 0.0, policy_seconds = 0.0;

 private:
  static double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

  // What the policy sees of rows of observations.
  void observe(const float* obs, int64_t rows, float* out) {
    if (normalizers_.obs != nullptr)
      normalizers_.obs->normalize(obs, rows, out);
    else
      std::memcpy(out, obs, static_cast<size_t>(rows * d_) * sizeof(float));
  }

  void* action_at(int64_t t) const {
    const size_t bytes = a_ > 0 ? static_cast<size_t>(a_) * sizeof(float) : sizeof(int64_t);
    return static_cast<char*>(to_.action) + static_cast<size_t>(t * n_) * bytes;
  }

  void draw(const Policy& policy, int64_t t, uint64_t seed, uint64_t counter) {
    float* obs = to_.obs + t * n_ * d_;
    observe(env_.obs(), n_, obs);
    const int64_t bad = act(policy, obs, n_, y_.data(), seed, counter, action_at(t), to_.log_prob + t * n_,
                            to_.value + t * n_);
    if (bad >= 0) fail("the policy's output", bad, counter);
  }

  void bound(const float* action) {
    if (squash_) {
      distributions().squash(n_, a_, {action, a_, 1}, {low_, 0, 1}, {high_, 0, 1}, {bounded_.data(), a_, 1});
      return;
    }
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t k = 0; k < a_; ++k)
        bounded_[static_cast<size_t>(i * a_ + k)] = std::clamp(action[i * a_ + k], low_[k], high_[k]);
  }

  void step(int64_t t, uint64_t counter) {
    const void* action = action_at(t);
    if (low_ != nullptr) {
      bound(static_cast<const float*>(action));
      action = bounded_.data();
    }
    if (const int64_t failed = env_.step_unchecked(action); failed >= 0)
      throw std::runtime_error("the environment failed at step " + std::to_string(counter) + ", env " +
                               std::to_string(failed));
    const double* reward = env_.reward();
    if (const int64_t bad = first_not_finite(reward, n_); bad >= 0) fail("the reward", bad, counter);
    if (const int64_t bad = first_not_finite(env_.obs(), n_ * d_); bad >= 0)
      fail("the observation", bad / d_, counter);
    const uint8_t* terminated = env_.terminated();
    const uint8_t* truncated = env_.truncated();
    std::memcpy(to_.terminated + t * n_, terminated, static_cast<size_t>(n_));
    std::memcpy(to_.truncated + t * n_, truncated, static_cast<size_t>(n_));
    for (int64_t i = 0; i < n_; ++i) done_[static_cast<size_t>(i)] = terminated[i] | truncated[i];
    if (normalizers_.obs != nullptr) normalizers_.obs->update(env_.obs(), n_);
    store_reward(to_.reward + t * n_, reward, counter);
    for (int64_t i = 0; i < n_; ++i)
      if (done_[static_cast<size_t>(i)]) end_episode(t, i, counter);
  }

  void store_reward(float* stored, const double* reward, uint64_t counter) {
    if (ReturnNormalizer* normalizer = normalizers_.reward) {
      if (!normalizer->update(reward, done_.data(), nullptr))
        throw NotFinite("the variance of the discounted returns is not finite at step " +
                        std::to_string(counter));
      normalizer->normalize(reward, n_, stored);
    } else {
      for (int64_t i = 0; i < n_; ++i) stored[i] = static_cast<float>(reward[i]);
    }
  }

  void end_episode(int64_t t, int64_t i, uint64_t counter) {
    returns.push_back(env_.episode_return()[i]);
    lengths.push_back(env_.episode_length()[i]);
    if (env_.terminated()[i]) return;
    const float* last = env_.final_obs() + i * d_;
    if (first_not_finite(last, d_) >= 0) fail("the final observation", i, counter);
    final_obs_.resize(final_obs_.size() + static_cast<size_t>(d_));
    observe(last, 1, final_obs_.data() + final_obs_.size() - d_);
    final_rows_.push_back(t * n_ + i);
  }

  // The value of the observation that truly came next: of the final one where an episode was truncated.
  void bootstrap(const Policy& policy) {
    const int64_t last = (to_.steps - 1) * n_;
    std::memcpy(to_.next_value, to_.value + n_, static_cast<size_t>(last) * sizeof(float));
    observe(env_.obs(), n_, next_obs_.data());
    values(policy, next_obs_.data(), n_, [&](int64_t i) -> float& { return to_.next_value[last + i]; });
    const int64_t finals = static_cast<int64_t>(final_rows_.size());
    for (int64_t start = 0; start < finals; start += n_)
      values(policy, final_obs_.data() + start * d_, std::min(n_, finals - start), [&](int64_t i) -> float& {
        return to_.next_value[final_rows_[static_cast<size_t>(start + i)]];
      });
  }

  // Sets place(i) to the value of row i, of at most n_ rows.
  template <class Place>
  void values(const Policy& policy, const float* obs, int64_t rows, Place place) {
    policy.net.forward(policy.params, obs, rows, y_.data(), nullptr);
    const int64_t width = policy.width();
    for (int64_t i = 0; i < rows; ++i) place(i) = y_[static_cast<size_t>(i * width + width - 1)];
  }

  [[noreturn]] static void fail(const char* what, int64_t env, uint64_t counter) {
    throw NotFinite(std::string(what) + " is not finite at step " + std::to_string(counter) + ", env " +
                    std::to_string(env));
  }

  VecEnv& env_;
  const RolloutArrays to_;
  const float *low_, *high_;
  const bool squash_;
  const int64_t n_, d_, a_;
  Normalizers normalizers_{};
  std::vector<float> y_, next_obs_, bounded_;
  std::vector<uint8_t> done_;
  std::vector<float> final_obs_;
  std::vector<int64_t> final_rows_;
};

}  // namespace fastrl
