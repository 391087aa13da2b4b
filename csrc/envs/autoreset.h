// The step of any environment: dynamics, time limit, episode statistics and the three autoreset modes.
#pragma once

#include <cstdint>

#include "../envs.h"

namespace fastrl::FASTRL_ISA {
namespace {

constexpr int64_t kBlock = 128;  // envs stepped at a time, so that their rows stay in the first-level cache

// body(i) for each i of [begin, end) whose flag is 1; begin is a multiple of 8, flags are padded with zeros
// to one.
template <class Body>
inline void for_each_set(const uint8_t* flags, int64_t begin, int64_t end, Body body) {
  for (int64_t base = begin; base < end; base += 8) {
    uint64_t word;
    __builtin_memcpy(&word, flags + base, sizeof word);
    for (; word != 0; word &= word - 1) body(base + __builtin_ctzll(word) / 8);
  }
}

// Row k of the state, or behind it of the cache.
template <class Real>
inline Real* row(const EnvBatch& batch, int64_t k) {
  return static_cast<Real*>(batch.state) + k * batch.stride;
}

template <class Env>
void start_episode(const EnvBatch& batch, int64_t i, const double* bounds) {
  Env::reset(batch, i, bounds);
  batch.elapsed[i] = 0;
  batch.running_return[i] = 0;
  batch.needs_reset[i] = 0;
}

template <class Env>
void reset_env(const EnvBatch& batch, int64_t i, const double* bounds) {
  start_episode<Env>(batch, i, bounds);
  Env::observe(batch, i, i + 1);
  batch.reward[i] = 0;
  batch.terminated[i] = batch.truncated[i] = 0;
}

template <class Env>
inline int64_t obs_size(const EnvBatch&) {
  return Env::kObsSize;
}

// Keeps what the autoreset of env i is about to overwrite.
template <class Env>
void keep_final(const EnvBatch& batch, int64_t i) {
  const int64_t size = obs_size<Env>(batch);
  for (int64_t k = 0; k < size; ++k) batch.final_obs[i * size + k] = batch.obs[i * size + k];
  for (int64_t k = 0; k < batch.discrete_size; ++k)
    batch.final_discrete[k * batch.stride + i] = batch.discrete[k * batch.stride + i];
  if (batch.final_prob != nullptr) batch.final_prob[i] = batch.prob[i];
}

// Advances the counters; needs_reset becomes terminated | truncated.
inline void count_steps(const EnvBatch& batch, int64_t begin, int64_t end) {
  const int64_t last = batch.max_episode_steps - 1;
  int64_t* __restrict elapsed = batch.elapsed;
  double* __restrict running_return = batch.running_return;
  uint8_t* __restrict truncated = batch.truncated;
  uint8_t* __restrict needs_reset = batch.needs_reset;
  for (int64_t i = begin; i < end; ++i) running_return[i] += batch.reward[i];
  for (int64_t i = begin; i < end; ++i) {
    const int64_t left = last - elapsed[i]++;
    truncated[i] = static_cast<uint64_t>(left - 1) >> 63;  // left <= 0, in instructions that SSE2 has
  }
  for (int64_t i = begin; i < end; ++i) needs_reset[i] = batch.terminated[i] | truncated[i];
}

template <class Env>
void step_env(const EnvBatch& batch, const void* action, int64_t first, int64_t last) {
  for (int64_t begin = first; begin < last; begin += kBlock) {
    const int64_t end = begin + kBlock < last ? begin + kBlock : last;
    Env::step(batch, action, begin, end);
    if (batch.autoreset == Autoreset::next_step) {
      // the step of an ended episode only resets it; elapsed = -1 makes count_steps set it to 0
      for_each_set(batch.needs_reset, begin, end, [&](int64_t i) {
        start_episode<Env>(batch, i, Env::kBounds);
        batch.elapsed[i] = -1;
        batch.reward[i] = 0;
        batch.terminated[i] = 0;
      });
    }
    count_steps(batch, begin, end);
    Env::observe(batch, begin, end);
    for_each_set(batch.needs_reset, begin, end, [&](int64_t i) {
      batch.episode_return[i] = batch.running_return[i];
      batch.episode_length[i] = batch.elapsed[i];
      if (batch.autoreset == Autoreset::same_step) {
        keep_final<Env>(batch, i);
        start_episode<Env>(batch, i, Env::kBounds);
        Env::observe(batch, i, i + 1);
      }
    });
  }
}

template <class Env>
constexpr EnvKernel env_row(const char* name) {
  return {name,
          sizeof(typename Env::Real),
          Env::kStateSize,
          Env::kCacheSize,
          Env::kObsSize,
          Env::kNumActions,
          Env::kActionSize,
          {Env::kBounds[0], Env::kBounds[1]},
          kBlock,
          step_env<Env>,
          reset_env<Env>};
}

template <class Env>
constexpr EnvKernel discrete_env_row(const char* name) {
  EnvKernel kernel = env_row<Env>(name);
  kernel.discrete_size = Env::kDiscreteSize;
  kernel.has_prob = Env::kHasProb;
  kernel.whole_reset_prob = Env::kWholeResetProb;
  kernel.needs_table = Env::kNeedsTable;
  kernel.valid = Env::valid;
  return kernel;
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
