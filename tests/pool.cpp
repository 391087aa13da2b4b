// The thread pool without Python: `.ci/threads` compiles this with sanitizers and runs it.
#include "pool.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <thread>
#include <vector>

#include "dispatch.h"
#include "envs.h"

namespace fastrl {
FASTRL_DISPATCH(EnvsTable, envs)
FASTRL_DISPATCH(EnvsTable, envs_fast)
}  // namespace fastrl

namespace {

using namespace fastrl;
using State = std::vector<uint8_t>;

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "pool: %s\n", what);
  std::_Exit(1);
}

// Slow enough that threads are worth waking.
void work(int64_t* counts, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i)
    for (volatile int k = 0; k < 200; k = k + 1) counts[i] += k == 0;
}

void test_each_index_once(int64_t n, int64_t chunk, int64_t threads) {
  std::vector<int64_t> counts(static_cast<size_t>(n));
  for (int round = 1; round <= 5; ++round) {
    parallel_for(n, chunk, threads, [&](int64_t begin, int64_t end) {
      require(begin % chunk == 0 && begin < end, "a part begins at a multiple of the chunk");
      work(counts.data(), begin, end);
    });
    for (const int64_t count : counts) require(count == round, "every index once");
  }
}

// The first error arrives, and the pool goes on.
void test_exception() {
  for (int round = 0; round < 5; ++round) {
    bool caught = false;
    try {
      std::vector<int64_t> counts(4000);
      parallel_for(4000, 10, 3, [&](int64_t begin, int64_t end) {
        work(counts.data(), begin, end);
        if (begin >= 2000) throw std::runtime_error("planned");
      });
    } catch (const std::runtime_error& error) {
      caught = std::strcmp(error.what(), "planned") == 0;
    }
    require(caught, "an exception of a part leaves the loop");
  }
}

void test_nested() {
  std::vector<int64_t> counts(4000);
  parallel_for(40, 1, 3, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      parallel_for(100, 10, 3, [&](int64_t a, int64_t b) { work(counts.data() + 100 * i, a, b); });
  });
  for (const int64_t count : counts) require(count == 1, "every index of nested loops once");
}

State stepped(int64_t threads, int steps) {
  const int64_t n = 5003;
  const double option = 0;
  VecEnv env(EnvMode::exact, 0, n, 9, Autoreset::same_step, &option, 1, nullptr, threads);
  for (uint32_t i = 0; i < n; ++i) env.seed(i, &i, 1);
  env.reset(nullptr, env.kernel().bounds);
  std::vector<int64_t> action(static_cast<size_t>(n));
  for (int t = 0; t < steps; ++t) {
    for (int64_t i = 0; i < n; ++i) action[static_cast<size_t>(i)] = (i + t) % env.num_actions();
    require(env.step(action.data()) == -1, "a valid action steps");
  }
  State state(static_cast<size_t>(env.state_size()));
  env.get_state(state.data());
  return state;
}

void test_callers(const std::function<void()>& body) {
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) callers.emplace_back(body);
  for (std::thread& caller : callers) caller.join();
}

void test_fork(const State& expected) {
  const pid_t child = fork();
  if (child == 0) {
#ifdef __SANITIZE_THREAD__  // takes a thread of the child for its parent's at the same address, and gives up
    constexpr int64_t threads = 1;
#else
    constexpr int64_t threads = 3;
#endif
    require(stepped(threads, 20) == expected, "a child of fork steps alike");
    std::_Exit(0);
  }
  int status = 1;
  require(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0,
          "the child ends well");
}

}  // namespace

int main() {
  for (const int64_t threads : {1, 2, 3, 8})
    for (const int64_t n : {0, 1, 9, 10, 1000, 20011}) test_each_index_once(n, 10, threads);
  test_exception();
  test_nested();
  const State expected = stepped(1, 20);
  test_callers([&] { require(stepped(3, 20) == expected, "threads do not change a bit"); });
  test_callers([] { test_each_index_once(3000, 16, 3); });
  test_fork(expected);
  test_callers([&] { test_fork(expected); });  // while others loop
#ifdef FASTRL_PLANT_RACE
  int64_t sum = 0;
  parallel_for(4000, 10, 3, [&](int64_t begin, int64_t end) {
    std::vector<int64_t> counts(4000);
    work(counts.data(), begin, end);
    sum += end - begin;
  });
  require(sum > 0, "a sum");
#endif
  std::puts("pool: all well");
}
