// A whole on-policy rollout in one call: the one place that joins environments, networks and distributions.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "distributions.h"
#include "envs.h"
#include "network_plan.h"

namespace py = pybind11;

namespace fastrl {
namespace {

template <typename T>
using Array = py::array_t<T, py::array::c_style>;
using Clock = std::chrono::steady_clock;
using ActTuple = py::typing::Tuple<Array<int64_t>, Array<float>, Array<float>>;
using CollectTuple = py::typing::Tuple<Array<double>, Array<int64_t>, double, double>;

double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

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

// Raised as FloatingPointError: what it names is where to look.
struct NotFinite : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Draws an action in every row and gives its log-probability and the value, of a network whose columns are
// one logit an action, then the value; y is room for them. Returns the first row whose logits are not finite,
// else -1.
int64_t act(const NetworkPlan& net, const float* params, const float* obs, int64_t n, float* y, uint64_t seed,
            uint64_t counter, int64_t* action, float* log_prob, float* value) {
  const int64_t width = net.plan.out;
  net.forward(params, obs, n, y, nullptr);
  for (int64_t i = 0; i < n; ++i) value[i] = y[i * width + width - 1];
  const Categorical policy{n, width - 1, {y, width, 1}, {nullptr, 0, 0}};
  return distributions().categorical_sample(policy, {nullptr, 0, 0}, seed, counter, {action, 1, 0},
                                            {log_prob, 1, 0});
}

ActTuple act_on(const NetworkPlan& net, const Array<float>& params, const Array<float>& obs, uint64_t seed,
                uint64_t counter) {
  if (params.ndim() != 1 || params.shape(0) != net.plan.params || obs.ndim() != 2 ||
      obs.shape(1) != net.plan.in)
    throw std::invalid_argument("act: params must be float32 [" + std::to_string(net.plan.params) +
                                "] and obs float32 [N, " + std::to_string(net.plan.in) + "]");
  const int64_t n = obs.shape(0);
  Array<int64_t> action(n);
  Array<float> log_prob(n), value(n);
  thread_local FloatBuffer y;
  const int64_t bad = act(net, params.data(), obs.data(), n, y.at_least(n * net.plan.out), seed, counter,
                          action.mutable_data(), log_prob.mutable_data(), value.mutable_data());
  if (bad >= 0) throw NotFinite("the policy's output is not finite in row " + std::to_string(bad));
  return py::make_tuple(action, log_prob, value);
}

// Collects num_steps steps of every env with actions drawn from a categorical policy. The arrays are [T, N,
// ...] and belong to the caller; each collect overwrites them.
class Rollout {
 public:
  Rollout(VecEnv& env, const NetworkPlan& net, Array<float> obs, Array<int64_t> action, Array<float> log_prob,
          Array<float> value, Array<float> next_value, Array<float> reward, Array<bool> terminated,
          Array<bool> truncated)
      : env_(env),
        net_(net),
        keep_{obs, action, log_prob, value, next_value, reward, terminated, truncated},
        obs_(obs.mutable_data()),
        action_(action.mutable_data()),
        log_prob_(log_prob.mutable_data()),
        value_(value.mutable_data()),
        next_value_(next_value.mutable_data()),
        reward_(reward.mutable_data()),
        terminated_(reinterpret_cast<uint8_t*>(terminated.mutable_data())),
        truncated_(reinterpret_cast<uint8_t*>(truncated.mutable_data())),
        n_(env.num_envs()),
        d_(env.obs_size()),
        a_(env.num_actions()) {
    const auto check = [](bool ok, const char* what) {
      if (!ok) throw std::invalid_argument(std::string("Rollout: ") + what);
    };
    check(a_ > 0, "the environment must have discrete actions");
    check(net.plan.in == d_, "the network's inputs must be the environment's observations");
    check(net.plan.out == a_ + 1, "the network's outputs must be one logit an action, then the value");
    check(obs.ndim() == 3 && obs.shape(1) == n_ && obs.shape(2) == d_, "obs must be float32 [T, N, D]");
    t_ = obs.shape(0);
    for (size_t i = 1; i < keep_.size(); ++i)
      check(keep_[i].ndim() == 2 && keep_[i].shape(0) == t_ && keep_[i].shape(1) == n_,
            "arrays must be [T, N]");
    y_.resize(static_cast<size_t>(n_ * (a_ + 1)));
  }

  // Draw t of env n comes from (seed, counter + t, n). Returns the finished episodes' returns and lengths,
  // and the seconds spent in the environment and in the policy.
  CollectTuple collect(const Array<float>& params, uint64_t seed, uint64_t counter) {
    if (params.ndim() != 1 || params.shape(0) != net_.plan.params)
      throw std::invalid_argument("Rollout: params must be float32 [" + std::to_string(net_.plan.params) +
                                  "]");
    const float* p = params.data();
    {
      py::gil_scoped_release release;
      run(p, seed, counter);
    }
    Array<double> returns(static_cast<py::ssize_t>(returns_.size()), returns_.data());
    Array<int64_t> lengths(static_cast<py::ssize_t>(lengths_.size()), lengths_.data());
    return py::make_tuple(returns, lengths, env_seconds_, policy_seconds_);
  }

 private:
  void run(const float* params, uint64_t seed, uint64_t counter) {
    returns_.clear();
    lengths_.clear();
    final_obs_.clear();
    final_rows_.clear();
    env_seconds_ = policy_seconds_ = 0.0;
    auto now = Clock::now();
    auto checked = now;
    for (int64_t t = 0; t < t_; ++t) {
      policy(params, t, seed, counter + static_cast<uint64_t>(t));
      const auto acted = Clock::now();
      step(t, counter + static_cast<uint64_t>(t));
      const auto stepped = Clock::now();
      policy_seconds_ += seconds(acted - now);
      env_seconds_ += seconds(stepped - acted);
      now = stepped;
      if (now - checked > std::chrono::milliseconds(50)) {
        checked = now;
        py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      }
    }
    bootstrap(params);
    policy_seconds_ += seconds(Clock::now() - now);
  }

  void policy(const float* params, int64_t t, uint64_t seed, uint64_t counter) {
    float* obs = obs_ + t * n_ * d_;
    std::memcpy(obs, env_.obs(), static_cast<size_t>(n_ * d_) * sizeof(float));
    const int64_t bad = act(net_, params, obs, n_, y_.data(), seed, counter, action_ + t * n_,
                            log_prob_ + t * n_, value_ + t * n_);
    if (bad >= 0) fail("the policy's output", bad, counter);
  }

  void step(int64_t t, uint64_t counter) {
    env_.step(action_ + t * n_);
    const double* reward = env_.reward();
    float* stored = reward_ + t * n_;
    for (int64_t i = 0; i < n_; ++i) stored[i] = static_cast<float>(reward[i]);
    if (const int64_t bad = first_not_finite(stored, n_); bad >= 0) fail("the reward", bad, counter);
    if (const int64_t bad = first_not_finite(env_.obs(), n_ * d_); bad >= 0)
      fail("the observation", bad / d_, counter);
    const uint8_t* terminated = env_.terminated();
    const uint8_t* truncated = env_.truncated();
    std::memcpy(terminated_ + t * n_, terminated, static_cast<size_t>(n_));
    std::memcpy(truncated_ + t * n_, truncated, static_cast<size_t>(n_));
    for (int64_t i = 0; i < n_; ++i) {
      if (!(terminated[i] | truncated[i])) continue;
      returns_.push_back(env_.episode_return()[i]);
      lengths_.push_back(env_.episode_length()[i]);
      if (terminated[i]) continue;
      const float* last = env_.final_obs() + i * d_;
      if (first_not_finite(last, d_) >= 0) fail("the final observation", i, counter);
      final_obs_.insert(final_obs_.end(), last, last + d_);
      final_rows_.push_back(t * n_ + i);
    }
  }

  // The value of the observation that truly came next: of the final one where an episode was truncated.
  void bootstrap(const float* params) {
    const int64_t width = a_ + 1;
    std::memcpy(next_value_, value_ + n_, static_cast<size_t>((t_ - 1) * n_) * sizeof(float));
    net_.forward(params, env_.obs(), n_, y_.data(), nullptr);
    for (int64_t i = 0; i < n_; ++i) next_value_[(t_ - 1) * n_ + i] = y_[static_cast<size_t>(i * width + a_)];
    const int64_t finals = static_cast<int64_t>(final_rows_.size());
    for (int64_t start = 0; start < finals; start += n_) {
      const int64_t count = std::min(n_, finals - start);
      net_.forward(params, final_obs_.data() + start * d_, count, y_.data(), nullptr);
      for (int64_t i = 0; i < count; ++i)
        next_value_[final_rows_[static_cast<size_t>(start + i)]] = y_[static_cast<size_t>(i * width + a_)];
    }
  }

  [[noreturn]] void fail(const char* what, int64_t env, uint64_t counter) const {
    throw NotFinite(std::string(what) + " is not finite at step " + std::to_string(counter) + ", env " +
                    std::to_string(env));
  }

  VecEnv& env_;
  const NetworkPlan& net_;
  std::vector<py::array> keep_;
  float* obs_;
  int64_t* action_;
  float *log_prob_, *value_, *next_value_, *reward_;
  uint8_t *terminated_, *truncated_;
  int64_t t_, n_, d_, a_;
  std::vector<float> y_;
  std::vector<float> final_obs_;
  std::vector<int64_t> final_rows_;
  std::vector<double> returns_;
  std::vector<int64_t> lengths_;
  double env_seconds_ = 0.0, policy_seconds_ = 0.0;
};

}  // namespace

void register_rollout(py::module_& m) {
  py::register_exception<NotFinite>(m, "NotFinite", PyExc_FloatingPointError);
  py::class_<Rollout>(m, "Rollout",
                      "Collects on-policy rollouts of a compiled environment and a native network.")
      .def(py::init<VecEnv&, const NetworkPlan&, Array<float>, Array<int64_t>, Array<float>, Array<float>,
                    Array<float>, Array<float>, Array<bool>, Array<bool>>(),
           py::arg("env"), py::arg("network"), py::arg("obs").noconvert(), py::arg("action").noconvert(),
           py::arg("log_prob").noconvert(), py::arg("value").noconvert(), py::arg("next_value").noconvert(),
           py::arg("reward").noconvert(), py::arg("terminated").noconvert(), py::arg("truncated").noconvert(),
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
      .def("collect", &Rollout::collect, py::arg("params").noconvert(), py::arg("seed"), py::arg("counter"));
  m.def("act", act_on, py::arg("network"), py::arg("params").noconvert(), py::arg("obs").noconvert(),
        py::arg("seed"), py::arg("counter"),
        "Actions, their log-probabilities, and values of a categorical actor-critic.");
}

}  // namespace fastrl
