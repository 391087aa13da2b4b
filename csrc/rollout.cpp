// A whole on-policy rollout in one call: the one place that joins environments, networks and distributions.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
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
using ActTuple = py::typing::Tuple<py::array, Array<float>, Array<float>>;
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

// An actor-critic network and what its columns mean: one logit an action, or the means of Gaussian actions
// and, unless log_std is given, their log standard deviations; the value is the last.
struct Policy {
  const NetworkPlan& net;
  const float* params;
  bool gaussian;
  int64_t actions;  // logits, or floats of an action
  const float* log_std;
};

// Draws an action in every row and gives its log-probability and the value; y is room for the network's
// output. Returns the first row whose output is not finite, else -1.
int64_t act(const Policy& policy, const float* obs, int64_t n, float* y, uint64_t seed, uint64_t counter,
            void* action, float* log_prob, float* value) {
  const int64_t width = policy.net.plan.out, actions = policy.actions;
  policy.net.forward(policy.params, obs, n, y, nullptr);
  for (int64_t i = 0; i < n; ++i) value[i] = y[i * width + width - 1];
  if (policy.gaussian) {
    Gaussian gaussian{n, actions, {y, width, 1}, {y + actions, width, 1}};
    if (policy.log_std != nullptr) gaussian.log_std = {policy.log_std, 0, 1};
    return distributions().gaussian_sample(gaussian, {nullptr, 0, 0}, seed, counter,
                                           {static_cast<float*>(action), actions, 1}, {log_prob, 1, 0});
  }
  const Categorical categorical{n, actions, {y, width, 1}, {nullptr, 0, 0}};
  return distributions().categorical_sample(categorical, {nullptr, 0, 0}, seed, counter,
                                            {static_cast<int64_t*>(action), 1, 0}, {log_prob, 1, 0});
}

using LogStd = std::optional<Array<float>>;

Policy policy_of(const NetworkPlan& net, const Array<float>& params, const LogStd& log_std, bool gaussian) {
  const int64_t columns = net.plan.out - 1;
  const int64_t actions = gaussian && !log_std ? columns / 2 : columns;
  if (params.ndim() != 1 || params.shape(0) != net.plan.params)
    throw std::invalid_argument("policy: params must be float32 [" + std::to_string(net.plan.params) + "]");
  if (log_std && (log_std->ndim() != 1 || log_std->shape(0) != actions))
    throw std::invalid_argument("policy: log_std must be float32 [" + std::to_string(actions) + "]");
  return {net, params.data(), gaussian, actions, log_std ? log_std->data() : nullptr};
}

ActTuple act_on(const NetworkPlan& net, const Array<float>& params, const Array<float>& obs, uint64_t seed,
                uint64_t counter, const LogStd& log_std, bool gaussian) {
  const Policy policy = policy_of(net, params, log_std, gaussian);
  if (obs.ndim() != 2 || obs.shape(1) != net.plan.in)
    throw std::invalid_argument("act: obs must be float32 [N, " + std::to_string(net.plan.in) + "]");
  const int64_t n = obs.shape(0);
  py::array action = gaussian ? py::array(Array<float>({n, policy.actions})) : py::array(Array<int64_t>(n));
  Array<float> log_prob(n), value(n);
  thread_local FloatBuffer y;
  const int64_t bad = act(policy, obs.data(), n, y.at_least(n * net.plan.out), seed, counter,
                          action.mutable_data(), log_prob.mutable_data(), value.mutable_data());
  if (bad >= 0) throw NotFinite("the policy's output is not finite in row " + std::to_string(bad));
  return py::make_tuple(action, log_prob, value);
}

// Collects num_steps steps of every env. The arrays are [T, N, ...] and belong to the caller; each collect
// overwrites them. Actions are int64 [T, N] of a categorical policy, or float32 [T, N, A] of a Gaussian one;
// with bounds, low and high [A], the environment gets the squashed action.
class Rollout {
 public:
  Rollout(VecEnv& env, const NetworkPlan& net, Array<float> obs, py::array action, Array<float> log_prob,
          Array<float> value, Array<float> next_value, Array<float> reward, Array<bool> terminated,
          Array<bool> truncated, LogStd low, LogStd high)
      : env_(env),
        net_(net),
        keep_{obs, action, log_prob, value, next_value, reward, terminated, truncated},
        low_(std::move(low)),
        high_(std::move(high)),
        gaussian_(env.action_size() > 0),
        obs_(obs.mutable_data()),
        log_prob_(log_prob.mutable_data()),
        value_(value.mutable_data()),
        next_value_(next_value.mutable_data()),
        reward_(reward.mutable_data()),
        terminated_(reinterpret_cast<uint8_t*>(terminated.mutable_data())),
        truncated_(reinterpret_cast<uint8_t*>(truncated.mutable_data())),
        n_(env.num_envs()),
        d_(env.obs_size()),
        a_(gaussian_ ? env.action_size() : env.num_actions()) {
    const auto check = [](bool ok, const char* what) {
      if (!ok) throw std::invalid_argument(std::string("Rollout: ") + what);
    };
    const int64_t columns = net.plan.out - 1;
    check(net.plan.in == d_, "the network's inputs must be the environment's observations");
    check(columns == a_ || (gaussian_ && columns == 2 * a_),
          "the network's outputs must be those of the environment's actions, then the value");
    check(obs.ndim() == 3 && obs.shape(0) >= 1 && obs.shape(1) == n_ && obs.shape(2) == d_,
          "obs must be float32 [T, N, D]");
    t_ = obs.shape(0);
    if (gaussian_) {
      check(Array<float>::check_(action) && action.ndim() == 3 && action.shape(0) == t_ &&
                action.shape(1) == n_ && action.shape(2) == a_,
            "action must be float32 [T, N, A]");
      step_bytes_ = n_ * a_ * static_cast<int64_t>(sizeof(float));
    } else {
      check(Array<int64_t>::check_(action) && action.ndim() == 2 && action.shape(0) == t_ &&
                action.shape(1) == n_,
            "action must be int64 [T, N]");
      step_bytes_ = n_ * static_cast<int64_t>(sizeof(int64_t));
    }
    action_ = static_cast<char*>(action.mutable_data());
    for (size_t i = 2; i < keep_.size(); ++i)
      check(keep_[i].ndim() == 2 && keep_[i].shape(0) == t_ && keep_[i].shape(1) == n_,
            "arrays must be [T, N]");
    check(low_.has_value() == high_.has_value(), "low and high go together");
    for (const LogStd* bound : {&low_, &high_})
      check(!*bound || ((*bound)->ndim() == 1 && (*bound)->shape(0) == a_), "bounds must be float32 [A]");
    y_.resize(static_cast<size_t>(n_ * net.plan.out));
    squashed_.resize(low_ ? static_cast<size_t>(n_ * a_) : 0);
  }

  // Draw t of env n comes from (seed, counter + t, n). Returns the finished episodes' returns and lengths,
  // and the seconds spent in the environment and in the policy.
  CollectTuple collect(const Array<float>& params, uint64_t seed, uint64_t counter, const LogStd& log_std) {
    const Policy policy = policy_of(net_, params, log_std, gaussian_);
    if (policy.actions != a_) throw std::invalid_argument("Rollout: log_std must be given to such a network");
    if (!env_.started()) throw std::invalid_argument("Rollout: reset the environment first");
    {
      py::gil_scoped_release release;
      run(policy, seed, counter);
    }
    Array<double> returns(static_cast<py::ssize_t>(returns_.size()), returns_.data());
    Array<int64_t> lengths(static_cast<py::ssize_t>(lengths_.size()), lengths_.data());
    return py::make_tuple(returns, lengths, env_seconds_, policy_seconds_);
  }

 private:
  void run(const Policy& policy, uint64_t seed, uint64_t counter) {
    returns_.clear();
    lengths_.clear();
    final_obs_.clear();
    final_rows_.clear();
    env_seconds_ = policy_seconds_ = 0.0;
    auto now = Clock::now();
    auto checked = now;
    for (int64_t t = 0; t < t_; ++t) {
      draw(policy, t, seed, counter + static_cast<uint64_t>(t));
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
    bootstrap(policy.params);
    policy_seconds_ += seconds(Clock::now() - now);
  }

  void draw(const Policy& policy, int64_t t, uint64_t seed, uint64_t counter) {
    float* obs = obs_ + t * n_ * d_;
    std::memcpy(obs, env_.obs(), static_cast<size_t>(n_ * d_) * sizeof(float));
    const int64_t bad = act(policy, obs, n_, y_.data(), seed, counter, action_ + t * step_bytes_,
                            log_prob_ + t * n_, value_ + t * n_);
    if (bad >= 0) fail("the policy's output", bad, counter);
  }

  void step(int64_t t, uint64_t counter) {
    const void* action = action_ + t * step_bytes_;
    if (low_) {
      distributions().squash(n_, a_, {static_cast<const float*>(action), a_, 1}, {low_->data(), 0, 1},
                             {high_->data(), 0, 1}, {squashed_.data(), a_, 1});
      action = squashed_.data();
    }
    if (const int64_t failed = env_.step_unchecked(action); failed >= 0)
      throw std::runtime_error("the environment failed at step " + std::to_string(counter) + ", env " +
                               std::to_string(failed));
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
    const int64_t width = net_.plan.out;
    std::memcpy(next_value_, value_ + n_, static_cast<size_t>((t_ - 1) * n_) * sizeof(float));
    net_.forward(params, env_.obs(), n_, y_.data(), nullptr);
    for (int64_t i = 0; i < n_; ++i)
      next_value_[(t_ - 1) * n_ + i] = y_[static_cast<size_t>(i * width + width - 1)];
    const int64_t finals = static_cast<int64_t>(final_rows_.size());
    for (int64_t start = 0; start < finals; start += n_) {
      const int64_t count = std::min(n_, finals - start);
      net_.forward(params, final_obs_.data() + start * d_, count, y_.data(), nullptr);
      for (int64_t i = 0; i < count; ++i)
        next_value_[final_rows_[static_cast<size_t>(start + i)]] =
            y_[static_cast<size_t>(i * width + width - 1)];
    }
  }

  [[noreturn]] void fail(const char* what, int64_t env, uint64_t counter) const {
    throw NotFinite(std::string(what) + " is not finite at step " + std::to_string(counter) + ", env " +
                    std::to_string(env));
  }

  VecEnv& env_;
  const NetworkPlan& net_;
  std::vector<py::array> keep_;
  LogStd low_, high_;
  bool gaussian_;
  float* obs_;
  char* action_ = nullptr;
  int64_t step_bytes_ = 0;
  float *log_prob_, *value_, *next_value_, *reward_;
  uint8_t *terminated_, *truncated_;
  int64_t t_, n_, d_, a_;
  std::vector<float> y_, squashed_;
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
      .def(py::init<VecEnv&, const NetworkPlan&, Array<float>, py::array, Array<float>, Array<float>,
                    Array<float>, Array<float>, Array<bool>, Array<bool>, LogStd, LogStd>(),
           py::arg("env"), py::arg("network"), py::arg("obs").noconvert(), py::arg("action").noconvert(),
           py::arg("log_prob").noconvert(), py::arg("value").noconvert(), py::arg("next_value").noconvert(),
           py::arg("reward").noconvert(), py::arg("terminated").noconvert(), py::arg("truncated").noconvert(),
           py::arg("low").noconvert() = py::none(), py::arg("high").noconvert() = py::none(),
           py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
      .def("collect", &Rollout::collect, py::arg("params").noconvert(), py::arg("seed"), py::arg("counter"),
           py::arg("log_std").noconvert() = py::none());
  m.def("act", act_on, py::arg("network"), py::arg("params").noconvert(), py::arg("obs").noconvert(),
        py::arg("seed"), py::arg("counter"), py::arg("log_std").noconvert() = py::none(),
        py::arg("gaussian") = false, "Actions, their log-probabilities, and values of an actor-critic.");
}

}  // namespace fastrl
