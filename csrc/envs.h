// Vector environments: many copies of one environment, stepped together.
//
// An environment is a struct of static functions in envs/<name>.h and a row of the tables in envs.cpp, which
// computes in float64 with Gymnasium's bits, and envs_fast.cpp, which computes in float32 within tolerances.
// Its state has the env last, so that a step is a vectorised loop over envs; a step gets every array of the
// batch, so it may draw from the envs' generators as well.
#pragma once

#include <cstdint>

#include "seeding.h"
#include "transition_table.h"

namespace fastrl {

enum class Autoreset : int64_t { next_step, same_step, disabled };

constexpr int kEnvOptions = 4, kEnvBounds = 2;

// An environment that a user wrote: compiled functions over records of `words` int64 an env, the first two
// the key and the counter of the episode's random numbers. They return -1, or the first record with which the
// environment raised or gave a number that is not finite.
struct UserKernel {
  char name[40];
  int64_t words, obs_size, discrete_size, num_actions,
      action_size;  // as EnvKernel's; discrete_size is at most 1
  int64_t (*reset)(int64_t* record);
  int64_t (*step)(int64_t* records, const void* action, const uint8_t* skip, double* reward,
                  uint8_t* terminated, int64_t n);
  int64_t (*observe)(int64_t* records, void* obs, int64_t n);
};

enum class UserFailure : int64_t { step, reset, observe };  // in the order in which they come
constexpr int64_t kUserFailures = 3;

struct EnvBatch {
  int64_t num_envs;
  int64_t stride;
  int64_t max_episode_steps;
  Autoreset autoreset;
  double option[kEnvOptions];    // constructor arguments of the environment, by its own meaning
  const TransitionTable* table;  // of tabular environments, else null
  const UserKernel* user;        // of a user's environment, else null
  int64_t* failed;               // env * kUserFailures + what, of the first env that failed; or -1
  void* state;                   // the kernel's numbers [state_size + cache_size, stride]
  Pcg64* rng;                    // [N], as the rest
  int64_t* elapsed;              // steps of the running episode
  double* running_return;
  uint8_t* needs_reset;  // the last step ended the episode and nothing reset it since
  float* obs;            // [N, obs_size]
  float* final_obs;      // [N, obs_size], same_step: rows that ended hold the terminal observation
  int64_t discrete_size;
  int64_t* discrete;        // [discrete_size, stride]: observations of Discrete spaces
  int64_t* final_discrete;  // likewise, as final_obs
  double* prob;             // of the last transition; 1 after a reset
  double* final_prob;
  double* reward;  // float64, as Gymnasium's SyncVectorEnv
  uint8_t* terminated;
  uint8_t* truncated;
  double* episode_return;  // of the episodes that ended in the last step
  int64_t* episode_length;
};

struct EnvKernel {
  const char* name;
  int64_t real_size;                         // bytes of a number of the state: float64, float32 or int64
  int64_t state_size, cache_size, obs_size;  // cache: rows that follow from the state
  int64_t num_actions;                       // 0: continuous
  int64_t action_size;                       // floats an env; 0: discrete
  double bounds[kEnvBounds];                 // of the initial state's draw, by the environment's own meaning
  int64_t block;                             // envs that are stepped together; ranges begin at its multiples
  // the envs of a range; the actions are valid
  void (*step)(const EnvBatch&, const void* action, int64_t begin, int64_t end);
  void (*reset)(const EnvBatch&, int64_t env, const double* bounds);  // starts an episode
  // Environments with Discrete observations; their state is int64, their obs_size is 0.
  int64_t discrete_size = 0;
  bool has_prob = false;          // infos tell the transition's probability
  bool whole_reset_prob = false;  // which Gymnasium's gives as an integer after a reset
  bool needs_table = false;       // which says how many actions there are
  bool (*valid)(const EnvBatch&, int64_t env) = nullptr;  // whether a state from outside can be stepped
};

struct EnvsTable {
  const EnvKernel* kernel;
  int64_t size;
};
const EnvsTable& envs();
const EnvsTable& envs_fast();

enum class EnvMode : int64_t { exact, fast };

// One environment, N times. Owns every array; an object serves one thread at a time, and lets those of the
// pool take part in its work. It holds no locks, so it survives fork.
class VecEnv {
 public:
  // `kernel` indexes the mode's table; at most kEnvOptions options; max_episode_steps and num_threads >= 1.
  // Results do not depend on num_threads. A transition table, given if the kernel needs one, must live as
  // long.
  VecEnv(EnvMode mode, int64_t kernel, int64_t num_envs, int64_t max_episode_steps, Autoreset autoreset,
         const double* options, int64_t num_options, const TransitionTable* table = nullptr,
         int64_t num_threads = 1);
  // A user's environment, whose functions must live as long.
  VecEnv(const UserKernel& user, int64_t num_envs, int64_t max_episode_steps, Autoreset autoreset,
         int64_t num_threads);
  ~VecEnv();
  VecEnv(const VecEnv&) = delete;
  VecEnv& operator=(const VecEnv&) = delete;

  int64_t num_envs() const;
  int64_t obs_size() const;     // floats an env
  int64_t num_actions() const;  // 0: continuous
  int64_t action_size() const;  // floats an env; 0: discrete
  int64_t num_threads() const;
  const EnvKernel& kernel() const;
  const EnvBatch& batch() const;

  // Seeds env i's generator as PCG64(SeedSequence(n)); see pcg64_seed.
  void seed(int64_t env, const uint32_t* entropy, int64_t words);
  // Starts an episode in every env, or where mask is nonzero, its initial state drawn within bounds
  // [kEnvBounds] (the kernel's, as a rule). Every env must have been seeded, and all be reset once before a
  // mask is used.
  void reset(const uint8_t* mask, const double* bounds);
  bool started() const;         // whether reset was called, and no env failed since
  int64_t failed() const;       // the first env that failed in the last step or reset; -1: none
  UserFailure failure() const;  // what of it failed

  // One step of all envs, once reset, with the object's autoreset mode. Actions are int64 [N], or float
  // [N, action_size] of continuous environments, which clip them. Returns -1, or the first env that cannot
  // step (its action is out of range or not finite; or its episode is over and autoreset is disabled): then
  // nothing changed; or the first env of a user's that failed: then all must be reset.
  int64_t step(const int64_t* action);
  int64_t step(const float* action);
  // The same without looking at the actions. Invalid ones have an unspecified, memory-safe effect.
  int64_t step_unchecked(const void* action);

  // Outputs of the last step or reset.
  float* obs();      // [N, obs_size]
  double* reward();  // [N], as the rest
  uint8_t* terminated();
  uint8_t* truncated();
  float* final_obs();         // [N, obs_size], same_step: valid where terminated | truncated
  double* episode_return();   // valid where terminated | truncated
  int64_t* episode_length();  // likewise

  // Everything that a continued run needs: physics, generators, counters, flags, outputs. set_state refuses
  // (false) bytes of another environment, transition table or number of envs.
  int64_t state_size() const;  // bytes
  void get_state(uint8_t* out) const;
  bool set_state(const uint8_t* bytes);

 private:
  int64_t first_blocked() const;
  bool ignores_action(int64_t env) const;
  bool valid(const uint8_t* bytes) const;  // the states in bytes of get_state
  int64_t first_invalid(const int64_t* action, int64_t begin, int64_t end) const;
  int64_t first_invalid(const float* action, int64_t begin, int64_t end) const;
  template <class Action>
  int64_t first_invalid_of_parts(const Action* action) const;
  template <class Action>
  int64_t step_valid(const Action* action);

  void allocate_arrays(uint64_t table);

  EnvMode mode_ = EnvMode::exact;
  int64_t kernel_ = -1;  // a user's environment
  UserKernel user_{};
  EnvKernel user_kernel_{};
  int64_t failed_ = -1;
  int64_t num_threads_;
  EnvBatch batch_{};
  uint8_t* arena_;  // every array of the batch, after a header
  int64_t arena_size_;
};

}  // namespace fastrl
