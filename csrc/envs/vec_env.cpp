#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>

#include "../envs.h"
#include "../pool.h"
#define FASTRL_ISA any
#include "user.h"

namespace fastrl {

namespace {

struct StateHeader {
  char name[40];
  uint64_t layout;  // raised when the arena's order changes
  int64_t num_envs;
  EnvMode mode;
  uint64_t table;  // its fingerprint
  int64_t started;
};

constexpr int64_t kAlign = 64;
constexpr int64_t kMaxLanes = 16;  // rows hold whole vectors of float32

int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

uint8_t* allocate(int64_t bytes) {
  void* memory = std::aligned_alloc(kAlign, static_cast<size_t>(bytes));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<uint8_t*>(memory);
}

// Gives each array of the batch its place after the header; returns the bytes they take.
int64_t lay_out(EnvBatch& b, const EnvKernel& kernel, uint8_t* arena) {
  int64_t used = aligned(sizeof(StateHeader));
  const auto place = [&](auto*& array, int64_t per_env) {
    using Element = std::remove_reference_t<decltype(*array)>;
    if (arena != nullptr) array = reinterpret_cast<Element*>(arena + used);
    used += aligned(b.stride * per_env * static_cast<int64_t>(sizeof(Element)));
  };
  uint8_t* state = nullptr;
  place(state, (kernel.state_size + kernel.cache_size) * kernel.real_size);
  b.state = state;
  place(b.rng, 1);
  place(b.elapsed, 1);
  place(b.running_return, 1);
  place(b.needs_reset, 1);
  place(b.obs, kernel.obs_size);
  place(b.final_obs, kernel.obs_size);
  place(b.discrete, kernel.discrete_size);
  place(b.final_discrete, kernel.discrete_size);
  if (kernel.has_prob) {
    place(b.prob, 1);
    place(b.final_prob, 1);
  }
  place(b.reward, 1);
  place(b.terminated, 1);
  place(b.truncated, 1);
  place(b.episode_return, 1);
  place(b.episode_length, 1);
  return used;
}

}  // namespace

VecEnv::VecEnv(EnvMode mode, int64_t kernel, int64_t num_envs, int64_t max_episode_steps, Autoreset autoreset,
               const double* options, int64_t num_options, const TransitionTable* table, int64_t num_threads)
    : mode_(mode), kernel_(kernel), num_threads_(num_threads) {
  batch_.num_envs = num_envs;
  batch_.max_episode_steps = max_episode_steps;
  batch_.autoreset = autoreset;
  batch_.table = table;
  for (int64_t i = 0; i < num_options; ++i) batch_.option[i] = options[i];
  allocate_arrays(table == nullptr ? 0 : table->fingerprint);
}

VecEnv::VecEnv(const UserKernel& user, int64_t num_envs, int64_t max_episode_steps, Autoreset autoreset,
               int64_t num_threads)
    : user_(user), user_kernel_(any::user_kernel(user_)), num_threads_(num_threads) {
  batch_.num_envs = num_envs;
  batch_.max_episode_steps = max_episode_steps;
  batch_.autoreset = autoreset;
  batch_.user = &user_;
  allocate_arrays(0);
}

void VecEnv::allocate_arrays(uint64_t table) {
  batch_.stride = (batch_.num_envs + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
  batch_.discrete_size = kernel().discrete_size;
  batch_.failed = &failed_;
  arena_size_ = lay_out(batch_, kernel(), nullptr);
  arena_ = allocate(arena_size_);
  std::memset(arena_, 0, static_cast<size_t>(arena_size_));
  lay_out(batch_, kernel(), arena_);
  StateHeader header{};
  std::strncpy(header.name, kernel().name, sizeof header.name - 1);
  header.layout = 3;
  header.num_envs = batch_.num_envs;
  header.mode = mode_;
  header.table = table;
  std::memcpy(arena_, &header, sizeof header);
}

VecEnv::~VecEnv() { std::free(arena_); }

int64_t VecEnv::num_envs() const { return batch_.num_envs; }
int64_t VecEnv::obs_size() const { return kernel().obs_size; }
int64_t VecEnv::num_actions() const {
  return batch_.table == nullptr ? kernel().num_actions : batch_.table->num_actions;
}
int64_t VecEnv::action_size() const { return kernel().action_size; }
int64_t VecEnv::num_threads() const { return num_threads_; }
const EnvKernel& VecEnv::kernel() const {
  if (kernel_ < 0) return user_kernel_;
  return (mode_ == EnvMode::fast ? envs_fast() : envs()).kernel[kernel_];
}
const EnvBatch& VecEnv::batch() const { return batch_; }

float* VecEnv::obs() { return batch_.obs; }
double* VecEnv::reward() { return batch_.reward; }
uint8_t* VecEnv::terminated() { return batch_.terminated; }
uint8_t* VecEnv::truncated() { return batch_.truncated; }
float* VecEnv::final_obs() { return batch_.final_obs; }
double* VecEnv::episode_return() { return batch_.episode_return; }
int64_t* VecEnv::episode_length() { return batch_.episode_length; }

void VecEnv::seed(int64_t env, const uint32_t* entropy, int64_t words) {
  batch_.rng[env] = pcg64_seed(entropy, words);
}

void VecEnv::reset(const uint8_t* mask, const double* bounds) {
  const EnvKernel& env = kernel();
  failed_ = -1;
  parallel_for(batch_.num_envs, env.block, num_threads_, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      if (mask == nullptr || mask[i]) env.reset(batch_, i, bounds);
  });
  reinterpret_cast<StateHeader*>(arena_)->started = failed_ < 0;
}

int64_t VecEnv::failed() const { return failed_ < 0 ? -1 : failed_ / kUserFailures; }
UserFailure VecEnv::failure() const { return static_cast<UserFailure>(failed_ % kUserFailures); }

bool VecEnv::started() const { return reinterpret_cast<const StateHeader*>(arena_)->started != 0; }

int64_t VecEnv::step(const int64_t* action) { return step_valid(action); }
int64_t VecEnv::step(const float* action) { return step_valid(action); }

template <class Action>
int64_t VecEnv::step_valid(const Action* action) {
  const int64_t n = batch_.num_envs;
  const int64_t invalid = num_threads_ == 1 ? first_invalid(action, 0, n) : first_invalid_of_parts(action);
  return invalid >= 0 ? invalid : step_unchecked(action);
}

template <class Action>
int64_t VecEnv::first_invalid_of_parts(const Action* action) const {
  std::atomic<int64_t> invalid{batch_.num_envs};
  parallel_for(batch_.num_envs, kernel().block, num_threads_, [&](int64_t begin, int64_t end) {
    const int64_t found = first_invalid(action, begin, end);
    int64_t known = invalid.load(std::memory_order_relaxed);
    while (found >= 0 && found < known && !invalid.compare_exchange_weak(known, found)) {
    }
  });
  return invalid < batch_.num_envs ? invalid.load() : -1;
}

int64_t VecEnv::step_unchecked(const void* action) {
  const int64_t blocked = first_blocked();
  if (blocked >= 0) return blocked;
  const EnvKernel& env = kernel();
  failed_ = -1;
  parallel_for(batch_.num_envs, env.block, num_threads_,
               [&](int64_t begin, int64_t end) { env.step(batch_, action, begin, end); });
  if (failed_ >= 0) reinterpret_cast<StateHeader*>(arena_)->started = 0;
  return failed();
}

int64_t VecEnv::first_blocked() const {
  if (batch_.autoreset != Autoreset::disabled) return -1;
  const void* found = std::memchr(batch_.needs_reset, 1, static_cast<size_t>(batch_.num_envs));
  return found == nullptr ? -1 : static_cast<const uint8_t*>(found) - batch_.needs_reset;
}

int64_t VecEnv::first_invalid(const int64_t* action, int64_t begin, int64_t end) const {
  const int64_t largest = num_actions() - 1;
  uint64_t signs = 0;  // top bit: an action, or its distance to the largest one, was negative
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t unsigned_action = static_cast<uint64_t>(action[i]);
    signs |= unsigned_action | (static_cast<uint64_t>(largest) - unsigned_action);
  }
  if (signs >> 63 == 0) return -1;
  for (int64_t i = begin; i < end; ++i)
    if ((action[i] < 0 || action[i] > largest) && !ignores_action(i)) return i;
  return -1;
}

int64_t VecEnv::first_invalid(const float* action, int64_t begin, int64_t end) const {
  const int64_t size = action_size();
  bool finite = true;
  for (int64_t k = begin * size; k < end * size; ++k) finite &= action[k] - action[k] == 0.0f;
  if (finite) return -1;
  for (int64_t k = begin * size; k < end * size; ++k)
    if (!std::isfinite(action[k]) && !ignores_action(k / size)) return k / size;
  return -1;
}

bool VecEnv::ignores_action(int64_t env) const {  // the step will only reset it
  return batch_.autoreset == Autoreset::next_step && batch_.needs_reset[env];
}

int64_t VecEnv::state_size() const { return arena_size_; }

void VecEnv::get_state(uint8_t* out) const { std::memcpy(out, arena_, static_cast<size_t>(arena_size_)); }

bool VecEnv::set_state(const uint8_t* bytes) {
  StateHeader given, own;
  std::memcpy(&given, bytes, sizeof given);
  std::memcpy(&own, arena_, sizeof own);
  own.started = given.started;
  if (std::memcmp(&given, &own, sizeof own) != 0) return false;
  if (kernel().valid != nullptr && !valid(bytes)) return false;
  std::memcpy(arena_, bytes, static_cast<size_t>(arena_size_));
  return true;
}

bool VecEnv::valid(const uint8_t* bytes) const {
  const std::unique_ptr<uint8_t, decltype(&std::free)> copy(allocate(arena_size_), &std::free);
  std::memcpy(copy.get(), bytes, static_cast<size_t>(arena_size_));
  EnvBatch given = batch_;
  lay_out(given, kernel(), copy.get());
  for (int64_t i = 0; i < given.num_envs; ++i)
    if (!kernel().valid(given, i)) return false;
  return true;
}

}  // namespace fastrl
