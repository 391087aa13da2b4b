// Calls every family's kernels once, for bench/counts.py to count their instructions under valgrind. Prints
// what they depend on, then a name for each call of `counted`, in order.
#include <gnu/libc-version.h>

#include <cstdio>
#include <functional>
#include <vector>

#include "area_weights.h"
#include "dispatch.h"
#include "distributional.h"
#include "distributions.h"
#include "envs.h"
#include "losses.h"
#include "network_plan.h"
#include "normalizers.h"
#include "policy_sweeps.h"
#include "replay.h"
#include "returns.h"
#include "sum_tree.h"
#include "tabular.h"

namespace fastrl {
FASTRL_DISPATCH(ReturnsTable, returns)
FASTRL_DISPATCH(EnvsTable, envs)
FASTRL_DISPATCH(EnvsTable, envs_fast)
FASTRL_DISPATCH(LossesTable, losses)
FASTRL_DISPATCH(DistributionalTable, distributional)
FASTRL_DISPATCH(DistributionsTable, distributions)
FASTRL_DISPATCH(NetworkTable, network)
FASTRL_DISPATCH(NormalizeTable, normalize)
FASTRL_DISPATCH(FramesTable, frames)
FASTRL_DISPATCH(TabularTable, tabular)
FASTRL_DISPATCH(PolicyTable, policy_sweeps)
}  // namespace fastrl

// Callgrind collects inside this function alone.
extern "C" __attribute__((noinline)) void counted(const std::function<void()>& kernel) { kernel(); }

namespace {

using namespace fastrl;
using Floats = std::vector<float>;

void count(const char* name, const std::function<void()>& kernel) {
  std::puts(name);
  kernel();  // buffers grow here
  counted(kernel);
}

// Uniform in [-1, 1), the same on every machine.
template <class T = float>
std::vector<T> random(int64_t n) {
  static uint32_t state = 1;
  std::vector<T> values(static_cast<size_t>(n));
  for (T& x : values) {
    state = state * 1664525u + 1013904223u;
    x = static_cast<T>(static_cast<int32_t>(state) * 0x1p-31);
  }
  return values;
}

// An actor and a critic of two tanh layers of 64, as in PPO on CartPole.
void count_network() {
  const int tanh = static_cast<int>(Activation::tanh);
  const NetworkPlan net(4,
                        {{4, 64, -1, -1, tanh},
                         {64, 64, 0, -1, tanh},
                         {64, 2, 1, 0, 0},
                         {4, 64, -1, -1, tanh},
                         {64, 64, 3, -1, tanh},
                         {64, 1, 4, 2, 0}},
                        {});
  const int64_t batch = 256, size = net.plan.params;
  Floats params = random(size), x = random(batch * 4), dy = random(batch * 3), y(batch * 3);
  Floats tape(net.plan.tape * batch), grad(size), m = random(size), v(size, 1.0f), target = random(size);
  const AdamStep step{1e-3f, 0.9f, 0.999f, 1e-5f, 0.1f, 0.001f, 1.0f};
  count("network forward 8", [&] { net.forward(params.data(), x.data(), 8, y.data(), nullptr); });
  count("network forward 256", [&] { net.forward(params.data(), x.data(), batch, y.data(), tape.data()); });
  count("network backward 256",
        [&] { net.backward(params.data(), x.data(), batch, dy.data(), tape.data(), grad.data(), nullptr); });
  count("network sum_squares", [&] { network().sum_squares(grad.data(), size); });
  count("network adam", [&] { network().adam(params.data(), grad.data(), m.data(), v.data(), size, step); });
  count("network polyak", [&] { network().polyak(target.data(), params.data(), size, 0.005f); });
}

void count_returns() {
  const int64_t steps = 128, batch = 256, size = steps * batch;
  const auto a = random(size), b = random(size), c = random(size), d = random(size);
  const auto wide = random<double>(size);
  std::vector<uint8_t> terminated(size), truncated(size);
  for (int64_t i = 0; i < size; i += 97) terminated[i] = 1;
  for (int64_t i = 0; i < size; i += 101) truncated[i] = 1;
  const auto view = [&](const auto& x) {
    return View<const typename std::decay_t<decltype(x)>::value_type>{x.data(), batch, 1};
  };
  const auto flags = view(terminated), cut = view(truncated);
  Floats out(size), other(size);
  std::vector<double> wide_out(size);
  const Span all{0, steps, steps, batch};
  const View<float> y{out.data(), batch, 1};
  const Constant<float> gamma{0.99f}, lam{0.95f};
  const auto& f32 = returns().f32;
  const Gae<float> gae{view(a), view(b), view(c), flags, cut, 0.99f, 0.94f};
  count("returns gae_f32", [&] { f32.gae.plain(gae, y, all); });
  const Gae<double> gae_f64{view(wide), view(wide), view(wide), flags, cut, 0.99, 0.94};
  count("returns gae_f64", [&] { returns().f64.gae.plain(gae_f64, {wide_out.data(), batch, 1}, all); });
  const TdLambda<float, Constant<float>> td_lambda{view(a), view(b), flags, cut, gamma, lam};
  count("returns td_lambda_f32", [&] { f32.td_lambda.plain(td_lambda, y, all); });
  count("returns td_lambda_f32 masked", [&] { f32.td_lambda.masked({td_lambda, flags}, y, all); });
  const Discounted<float, Constant<float>, false> discounted{view(a), view(a), flags, cut, gamma};
  count("returns discounted_f32", [&] { f32.discounted.plain(discounted, y, all); });
  const View<float> advantage{other.data(), batch, 1};
  const VTrace<float> vtrace{view(a),   view(b), view(c), view(d), flags, cut,
                             advantage, 0.99f,   0.94f,   1.0f,    1.0f,  1.0f};
  count("returns vtrace_f32", [&] { f32.vtrace.plain(vtrace, y, all); });
  const Retrace<float> retrace{view(a), view(b), view(c), view(d), flags, cut, 0.99f, 0.94f};
  count("returns retrace_f32", [&] { f32.retrace.plain(retrace, y, all); });
  const QLambda<float> q_lambda{view(a), view(b), flags, flags, cut, 0.99f, 0.95f};
  count("returns q_lambda_f32", [&] { f32.q_lambda.plain(q_lambda, y, all); });
  const Floats power{1.0f, 0.99f, 0.9801f, 0.9703f, 0.9606f, 0.951f};
  Floats scratch(5 * kNStepColumns);
  const NStep<float> n_step{view(a), view(b), flags, cut, power.data(), scratch.data(), 5};
  count("returns n_step_f32", [&] { f32.n_step.plain(n_step, y, all); });
}

void count_losses_and_distributions() {
  const int64_t batch = 256, actions = 2;
  const Floats logits = random(batch * actions), value = random(batch), old_log_prob = random(batch);
  const Floats advantage = random(batch), return_ = random(batch);
  std::vector<int64_t> action(batch);
  for (int64_t i = 0; i < batch; ++i) action[i] = i % actions;
  Floats d_logits(batch * actions), d_value(batch), log_prob(batch), normalized(batch);
  double stats[kPPOStats] = {};
  const Categorical policy{batch, actions, {logits.data(), actions, 1}, {nullptr, 0, 0}};
  const auto column = [](const Floats& x) { return Strided<const float>{x.data(), 1, 0}; };
  const PPOBatch data{batch,           column(value),  column(old_log_prob), column(advantage),
                      column(return_), {nullptr, 0, 0}};
  const PPOResult result{{nullptr, 0, 0}, {d_value.data(), 1, 0}, 1.0 / batch, stats};
  const PPOConfig config{0.2, 0.5, 0.01, 0.0, 0.0};
  count("losses ppo_categorical 256", [&] {
    losses().ppo_categorical(config, policy, {action.data(), 1, 0}, data, {d_logits.data(), actions, 1},
                             result);
  });
  const Floats mean = random(batch * actions), raw = random(batch * actions), log_std(actions);
  Floats d_mean(batch * actions), d_log_std(actions), drawn_raw(batch * actions);
  const Gaussian gaussian{batch, actions, {mean.data(), actions, 1}, {log_std.data(), 0, 1}};
  const GaussianGradient gradient{{d_mean.data(), actions, 1}, {d_log_std.data(), 0, 1}, true};
  count("losses ppo_gaussian 256",
        [&] { losses().ppo_gaussian(config, gaussian, {raw.data(), actions, 1}, data, gradient, result); });
  count("distributions gaussian_sample 256", [&] {
    distributions().gaussian_sample(gaussian, {nullptr, 0, 0}, 1, 2, {drawn_raw.data(), actions, 1},
                                    {log_prob.data(), 1, 0});
  });
  count("losses normalize_advantage 256",
        [&] { losses().normalize_advantage(batch, column(advantage), {normalized.data(), 1, 0}); });
  std::vector<int64_t> drawn(batch);
  count("distributions categorical_sample 256", [&] {
    distributions().categorical_sample(policy, {nullptr, 0, 0}, 1, 2, {drawn.data(), 1, 0},
                                       {log_prob.data(), 1, 0});
  });
  count("distributions categorical_log_prob 256", [&] {
    distributions().categorical_log_prob(policy, {action.data(), 1, 0}, {log_prob.data(), 1, 0});
  });
  count("distributions categorical_entropy 256",
        [&] { distributions().categorical_entropy(policy, {log_prob.data(), 1, 0}); });
}

// 500 states in a ring, six actions that go up to three states on.
struct Ring {
  static constexpr int64_t kStates = 500, kActions = 6, kWidth = 3;
  std::vector<Outcome> outcome;
  Start start{1.0, 0};
  TransitionTable table{};

  Ring() {
    for (int64_t pair = 0; pair < kStates * kActions; ++pair)
      for (int64_t k = 0; k < kWidth; ++k) {
        const auto next = static_cast<int32_t>((pair / kActions + k) % kStates);
        outcome.push_back({(k + 1) / 3.0, 1 / 3.0, -1.0, next, next == kStates - 1});
      }
    table = {kStates, kActions, kWidth, outcome.data(), 1, &start, nullptr, 1};
  }
};

// 51 atoms of 6 actions as on Atari, and QR-DQN's 200 quantiles.
void count_distributional() {
  const int64_t batch = 64, actions = 6, n = 51, quantiles = 200;
  std::vector<double> z;
  for (int64_t i = 0; i < n; ++i) z.push_back(-10 + 0.4 * static_cast<double>(i));
  const Atoms atoms{z.data(), n, true};
  Floats probs = random(batch * n), out(static_cast<size_t>(batch * n));
  for (float& p : probs) p = (p + 1) / n;
  const Floats reward = random(batch), logits = random(batch * actions * n),
               next = random(batch * actions * n);
  const Bellman<float> bellman{{reward.data(), 1, 0}, {nullptr, 0, 0}, {nullptr, 0, 0}, 0.99};
  count("distributional c51_project 64", [&] {
    distributional().c51_project_f32(
        {batch, atoms, atoms, {probs.data(), n, 1}, bellman, {out.data(), n, 1}});
  });
  const std::vector<int64_t> action(static_cast<size_t>(batch), 3);
  Floats loss(static_cast<size_t>(batch)), gradient(static_cast<size_t>(batch * actions * n));
  const Blocks<const float> now{logits.data(), actions * n, n}, after{next.data(), actions * n, n};
  count("distributional c51_loss 64", [&] {
    distributional().c51_loss({batch,
                               actions,
                               actions,
                               atoms,
                               now,
                               after,
                               after,
                               {action.data(), 1, 0},
                               bellman,
                               false,
                               1.0,
                               loss.data(),
                               gradient.data()});
  });
  const Floats values = random(batch);
  count("distributional hl_gauss 64",
        [&] { distributional().hl_gauss(batch, atoms, {values.data(), 1, 0}, 0.3, out.data()); });
  count("distributional two_hot 64",
        [&] { distributional().two_hot(batch, atoms, {values.data(), 1, 0}, out.data()); });
  const Floats theta = random(batch * quantiles), target = random(batch * quantiles), tau = random(quantiles);
  Floats slope(static_cast<size_t>(batch * quantiles));
  count("distributional quantile_huber 64", [&] {
    distributional().quantile_huber({batch,
                                     quantiles,
                                     quantiles,
                                     {theta.data(), quantiles, 1},
                                     {target.data(), quantiles, 1},
                                     {tau.data(), 0, 1},
                                     1.0,
                                     1.0 / quantiles,
                                     1.0,
                                     loss.data(),
                                     slope.data()});
  });
}

// A step of 256 environments with observations of four numbers.
// A screen of ALE's, and the stacks of 64 environments of 17 floats.
void count_frames() {
  const int64_t height = 210, width = 160, size = 84;
  const std::vector<uint8_t> screen(static_cast<size_t>(height * width * 3), 100);
  const OwnedAreaWeights down(height, size), across(width, size);
  std::vector<float> scratch(static_cast<size_t>(resize_scratch(across.view()) / 4 + 1));
  std::vector<uint8_t> out(static_cast<size_t>(size * size));
  const Images colours{screen.data(), 0, width * 3, 3, 1}, grey{screen.data(), 0, width, 1, 0};
  const GrayscaleResize rgb{1, 3, colours, {}, down.view(), across.view()};
  const GrayscaleResize two{1, 1, grey, grey, down.view(), across.view()};
  count("frames grayscale_resize rgb", [&] { frames().grayscale_resize(rgb, out.data(), scratch.data()); });
  count("frames grayscale_resize of two",
        [&] { frames().grayscale_resize(two, out.data(), scratch.data()); });
  const int64_t envs = 64, slots = 16, bytes = 17 * 4, stack = 4;
  std::vector<uint8_t> data(static_cast<size_t>(envs * slots * bytes)), begin(static_cast<size_t>(envs)),
      stacks(static_cast<size_t>(envs * stack * bytes));
  const FrameRing ring{envs, slots, bytes, stack, data.data()};
  const FramePush push{5, screen.data(), begin.data(), nullptr, false, stacks.data()};
  count("frames push 64", [&] { frames().push(ring, push); });
}

void count_normalizers() {
  const int64_t batch = 256, columns = 4;
  const Floats x = random(batch * columns);
  const auto reward = random<double>(batch);
  const std::vector<uint8_t> done(batch);
  int64_t count_obs = 0, count_returns = 0;
  std::vector<double> mean(columns), var(columns, 1.0), returns(batch);
  double return_mean = 0.0, return_var = 1.0;
  RunningMeanStd obs({columns, &count_obs, mean.data(), var.data()}, 10.0);
  ReturnNormalizer rewards({batch, returns.data(), 0.99, {1, &count_returns, &return_mean, &return_var}},
                           10.0);
  Floats out(batch * columns);
  count("normalize update 256", [&] { obs.update(x.data(), batch); });
  count("normalize obs 256", [&] { obs.normalize(x.data(), batch, out.data()); });
  count("normalize update_returns 256", [&] { rewards.update(reward.data(), done.data(), nullptr); });
  count("normalize reward 256", [&] { rewards.normalize(reward.data(), batch, out.data()); });
}

// Random items of 2^16; two batch sizes.
void count_sum_tree() {
  const int64_t capacity = 1 << 16;
  SumTree tree(capacity);
  tree.fill(0, capacity, 1.0);
  for (const int64_t batch : {32, 1024}) {
    const std::string size = std::to_string(batch);
    std::vector<int64_t> index, drawn(batch);
    for (const float x : random(batch)) index.push_back(static_cast<int64_t>((x + 1) * 0.5 * (capacity - 1)));
    Floats priority = random(batch), weight(batch);
    for (float& x : priority) x += 1.5f;
    std::vector<double> leaf(batch);
    double largest = 0;
    count(("sum_tree leaves " + size).c_str(),
          [&] { to_leaves(priority.data(), batch, 1e-6, 0.6, leaf.data(), &largest); });
    count(("sum_tree set " + size).c_str(), [&] { tree.set(index.data(), leaf.data(), batch); });
    count(("sum_tree sample " + size).c_str(),
          [&] { tree.sample(1, 2, batch, true, drawn.data(), leaf.data()); });
    count(("sum_tree weights " + size).c_str(),
          [&] { importance_weights(leaf.data(), batch, 0.4, 0.5, weight.data()); });
  }
}

// 64 steps of every environment; about one episode of CartPole in two ends.
// A prioritized buffer of transitions as CartPole's, 3-step returns.
void count_replay() {
  using At = ReplayField::At;
  const int64_t steps = 1 << 14, streams = 8, rows = 1024, batch = 256;
  std::vector<ReplayField> fields(5);
  const int64_t bytes[] = {16, 16, 8, 4, 1};  // obs, next_obs, act, rew, done
  for (size_t f = 0; f < fields.size(); ++f) fields[f].bytes = bytes[f];
  fields[1].at = fields[4].at = At::last;
  fields[3].at = At::sum;
  const ReplayPriorities priorities{0.6, 1e-4, false};
  Replay replay({steps, streams, 3, 0.99, 1}, fields, {}, &priorities);
  std::vector<std::vector<char>> values;
  std::vector<char*> data;
  for (const int64_t size : bytes) {
    values.emplace_back(static_cast<size_t>(size * rows));
    data.push_back(values.back().data());
  }
  const std::vector<uint8_t> flags(static_cast<size_t>(rows));
  Floats weight(static_cast<size_t>(batch)), discount(static_cast<size_t>(batch));
  std::vector<int64_t> index(static_cast<size_t>(batch));
  for (int64_t done = 0; done < replay.capacity(); done += rows)
    replay.add(rows, data.data(), flags.data(), nullptr, 0);
  count("replay add 8", [&] { replay.add(streams, data.data(), flags.data(), nullptr, 0); });
  count("replay add 1024", [&] { replay.add(rows, data.data(), flags.data(), nullptr, 0); });
  count("replay draw 256",
        [&] { replay.draw(batch, {true, WeightScale::batch, 0.4}, index.data(), weight.data()); });
  count("replay gather 256", [&] { replay.gather(index.data(), batch, data.data(), discount.data()); });
}

void count_envs(EnvMode mode, const EnvsTable& table) {
  const int64_t n = 64;
  const Ring ring;
  for (int64_t kernel = 0; kernel < table.size; ++kernel) {
    const bool discrete = table.kernel[kernel].action_size == 0;
    const double option = table.kernel[kernel].name == std::string("Pendulum") ? 10.0 : 0.0;  // gravity
    const TransitionTable* table_needed = table.kernel[kernel].needs_table ? &ring.table : nullptr;
    VecEnv env(mode, kernel, n, 500, Autoreset::same_step, &option, 1, table_needed);
    for (uint32_t i = 0; i < n; ++i) env.seed(i, &i, 1);
    env.reset(nullptr, env.kernel().bounds);
    std::vector<int64_t> choice(n);
    for (int64_t i = 0; i < n; ++i) choice[i] = env.num_actions() > 0 ? i % env.num_actions() : 0;
    const Floats push = random(n * std::max<int64_t>(env.action_size(), 1));
    const std::string name =
        std::string("envs ") + env.kernel().name + (mode == EnvMode::fast ? " fast" : "");
    count(name.c_str(), [&] {
      for (int i = 0; i < 64; ++i) discrete ? env.step(choice.data()) : env.step(push.data());
    });
  }
}

// 1024 states of 4 actions with 5 outcomes each, anywhere.
void count_tabular() {
  const int64_t states = 1024, actions = 4, outcomes = 5, pairs = states * actions;
  std::vector<int64_t> pair_offset, slot, block_slot;
  for (int64_t s = 0; s <= states; ++s) {
    pair_offset.push_back(s * actions);
    slot.push_back(s * outcomes);
    if (s % kRowLanes == 0) block_slot.push_back(s * outcomes);
  }
  std::vector<int32_t> offset, next_state, order;
  for (int64_t l = 0; l <= pairs; ++l) offset.push_back(static_cast<int32_t>(l * outcomes));
  for (const double x : random<double>(pairs * outcomes))
    next_state.push_back(static_cast<int32_t>((x + 1) / 2 * static_cast<double>(states)));
  for (int32_t s = 0; s < states; ++s) order.push_back(s);
  const std::vector<double> weight(next_state.size(), 0.2), reward = random<double>(pairs);
  const Model model{Layout::int32,      states,        pairs,
                    pair_offset.data(), offset.data(), next_state.data(),
                    weight.data(),      reward.data(), nullptr};
  std::vector<double> value = random<double>(states), next(value), of_pairs(static_cast<size_t>(pairs));
  std::vector<double> solved(slot.back()), solved_reward(static_cast<size_t>(states));
  std::vector<int32_t> choice(static_cast<size_t>(states), 0), to(slot.back() + kSlotsAhead);
  Floats nearest(static_cast<size_t>(states)), small(slot.back()), delta = random(states), sum = delta;
  Floats sum_next(delta);
  std::vector<double> exact(slot.back()), reward_of(static_cast<size_t>(states));
  const PolicyRows rows{states,       kRowShift,    block_slot.data(), to.data(),
                        small.data(), exact.data(), reward_of.data()};
  const SolvedRows solved_rows{slot.data(), to.data(), solved.data(), solved_reward.data()};
  Change change{0, 0, 0};
  const TabularTable& table = tabular();
  const PolicyTable& policy = policy_sweeps();
  const Backup all{&model, value.data(), 0.99, next.data(), choice.data(), nullptr};
  count("tabular backup 1024", [&] { table.backup[0](all, 0, states, change); });
  const Improve first{&model, nullptr, nullptr, 0.99, next.data(), choice.data(), nearest.data(), 0, &rows};
  Improve later = first;
  later.value = value.data();
  count("tabular improve 1024 at first", [&] {
    choice.assign(choice.size(), -1);
    nearest.assign(nearest.size(), -1.0f);
    policy.improve[0](first, 0, states, change);
  });
  count("tabular improve 1024", [&] {
    nearest.assign(nearest.size(), -1.0f);
    policy.improve[0](later, 0, states, change);
  });
  nearest.assign(nearest.size(), 1.0f);
  count("tabular improve 1024 of one action", [&] { policy.improve[0](later, 0, states, change); });
  const Relax relax{&rows, nullptr, 0.99f, delta.data(), sum.data(), sum_next.data()};
  count("tabular relax 1024", [&] { policy.relax(relax, 0, states, change); });
  count("tabular settle 1024", [&] { policy.settle(relax, order.data(), states, sum_next.data()); });
  const GaussSeidel in_place{&model, 0.99, value.data(), order.data(), &solved_rows};
  count("tabular gauss_seidel 1024", [&] { table.gauss_seidel[0](in_place, 0, states); });
  count("tabular relax_in_place 1024",
        [&] { table.relax_in_place(solved_rows, order.data(), states, value.data()); });
  const Residual residual{&model, 0.99, value.data(), order.data(), next.data()};
  count("tabular residual 1024", [&] { table.residual[0](residual, 0, states, change); });
  count("tabular expect 1024", [&] { table.expect[0](model, value.data(), 0, pairs, of_pairs.data()); });
}

}  // namespace

int main() {
#ifdef __clang__
  const char* compiler = __VERSION__;
#else
  const char* compiler = "GCC " __VERSION__;
#endif
  std::printf("%s, glibc %s\n", compiler, gnu_get_libc_version());
  count_network();
  count_returns();
  count_losses_and_distributions();
  count_normalizers();
  count_frames();
  count_sum_tree();
  count_replay();
  count_distributional();
  count_tabular();
  count_envs(EnvMode::exact, envs());
  count_envs(EnvMode::fast, envs_fast());
}
