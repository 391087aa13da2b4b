// An environment that a user wrote, compiled to functions over records: the same step, time limit and
// autoreset modes as the built-in ones. The state holds a record of `words` int64 an env, one after the
// other.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

struct User {
  static constexpr double kBounds[kEnvBounds] = {0, 0};

  static int64_t* record(const EnvBatch& batch, int64_t i) {
    return static_cast<int64_t*>(batch.state) + i * batch.user->words;
  }

  // The lowest env of all threads' stays, and what failed first of it.
  static void fail(const EnvBatch& batch, int64_t env, UserFailure what) {
    const int64_t failure = env * kUserFailures + static_cast<int64_t>(what);
    int64_t known = __atomic_load_n(batch.failed, __ATOMIC_RELAXED);
    while ((known < 0 || failure < known) &&
           !__atomic_compare_exchange_n(batch.failed, &known, failure, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
    }
  }

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    const UserKernel& user = *batch.user;
    const int64_t bytes = user.action_size == 0 ? 8 : 4 * user.action_size;
    const int64_t failed =
        user.step(record(batch, begin), static_cast<const char*>(action) + begin * bytes,
                  batch.needs_reset + begin, batch.reward + begin, batch.terminated + begin, end - begin);
    if (failed >= 0) fail(batch, begin + failed, UserFailure::step);
  }

  // An episode's numbers are a function of one draw from the env's generator and of a counter.
  static void reset(const EnvBatch& batch, int64_t i, const double*) {
    int64_t* const own = record(batch, i);
    own[0] = static_cast<int64_t>(pcg64_next(batch.rng[i]));
    own[1] = 0;
    if (batch.user->reset(own) >= 0) fail(batch, i, UserFailure::reset);
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const UserKernel& user = *batch.user;
    void* const obs = user.discrete_size > 0 ? static_cast<void*>(batch.discrete + begin)
                                             : static_cast<void*>(batch.obs + begin * user.obs_size);
    const int64_t failed = user.observe(record(batch, begin), obs, end - begin);
    if (failed >= 0) fail(batch, begin + failed, UserFailure::observe);
  }
};

template <>
inline int64_t obs_size<User>(const EnvBatch& batch) {
  return batch.user->obs_size;
}

// Threads share smaller parts than of built-in environments, as a step may take long.
inline EnvKernel user_kernel(const UserKernel& user) {
  EnvKernel kernel{user.name,     sizeof(int64_t),  user.words,       0,
                   user.obs_size, user.num_actions, user.action_size, {0, 0},
                   kBlock / 4,    step_env<User>,   reset_env<User>};
  kernel.discrete_size = user.discrete_size;
  return kernel;
}

}  // namespace
}  // namespace fastrl::FASTRL_ISA
