// The policy and the rollout out of Python's objects: the one place that joins families.
#include "rollout.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <numeric>
#include <optional>

#include "array.h"

namespace py = pybind11;

namespace fastrl {
namespace {

template <class T>
using Array = py::array_t<T>;
using ActTuple = py::typing::Tuple<py::array, Array<float>, Array<float>>;
using CollectTuple = py::typing::Tuple<Array<double>, Array<int64_t>, double, double>;
using Sizes = std::vector<int64_t>;

// `sizes` must outlive the result; empty, there is one choice.
Policy policy_of(const char* op, const NetworkPlan& net, py::handle params, py::handle log_std, bool gaussian,
                 const Sizes& sizes) {
  const int64_t columns = net.plan.out - 1;
  const int64_t actions = gaussian && log_std.is_none() ? columns / 2 : columns;
  if (!sizes.empty() && (gaussian || *std::min_element(sizes.begin(), sizes.end()) < 1 ||
                         std::accumulate(sizes.begin(), sizes.end(), int64_t{0}) != columns))
    reject(op, "sizes", "positive and add up to the number of logits");
  return {net,
          data_of<const float>(params, op, "params", {net.plan.params}),
          gaussian,
          actions,
          log_std.is_none() ? nullptr : data_of<const float>(log_std, op, "log_std", {actions}),
          sizes.empty() ? 1 : static_cast<int64_t>(sizes.size()),
          sizes.empty() ? nullptr : sizes.data()};
}

ActTuple act_on(const NetworkPlan& net, py::handle params, py::handle obs, uint64_t seed, uint64_t counter,
                py::handle log_std, bool gaussian, const Sizes& sizes) {
  const char* op = "act";
  const Policy policy = policy_of(op, net, params, log_std, gaussian, sizes);
  const auto [x, n] = rows_of<const float>(obs, op, "obs", net.plan.in);
  py::array action;
  if (gaussian)
    action = Array<float>({n, policy.actions});
  else if (sizes.empty())
    action = Array<int64_t>(n);
  else
    action = Array<int64_t>({n, policy.components});
  Array<float> log_prob(n), value(n);
  thread_local FloatBuffer y;
  const int64_t bad = act(policy, x, n, y.at_least(n * policy.width()), seed, counter, action.mutable_data(),
                          log_prob.mutable_data(), value.mutable_data());
  if (bad >= 0) throw NotFinite("the policy's output is not finite in row " + std::to_string(bad));
  return py::make_tuple(action, log_prob, value);
}

// Keeps the arrays, which belong to the caller; each collect overwrites them.
class BoundRollout {
 public:
  BoundRollout(VecEnv& env, const NetworkPlan& net, const py::object& obs, const py::object& action,
               const py::object& log_prob, const py::object& value, const py::object& next_value,
               const py::object& reward, const py::object& terminated, const py::object& truncated,
               const py::object& low, const py::object& high, bool squash)
      : env_(env),
        net_(net),
        keep_{obs, action, log_prob, value, next_value, reward, terminated, truncated, low, high},
        rollout_(make(env, net, keep_, squash)) {}

  CollectTuple collect(py::handle params, uint64_t seed, uint64_t counter, py::handle log_std, bool gaussian,
                       const Sizes& sizes, std::optional<RunningMeanStd*> obs_normalizer,
                       std::optional<ReturnNormalizer*> reward_normalizer) {
    const Policy policy = policy_of(kOp, net_, params, log_std, gaussian, sizes);
    const bool fits = env_.action_size() > 0
                          ? policy.gaussian && policy.actions == env_.action_size()
                          : !policy.gaussian && sizes.empty() && policy.actions == env_.num_actions();
    if (!fits) reject(kOp, "policy", "of the environment's actions");
    const Normalizers normalizers{obs_normalizer.value_or(nullptr), reward_normalizer.value_or(nullptr)};
    if (normalizers.obs != nullptr && normalizers.obs->columns() != env_.obs_size())
      reject(kOp, "obs_normalizer", "of the environment's observations");
    if (normalizers.reward != nullptr && normalizers.reward->envs() != env_.num_envs())
      reject(kOp, "reward_normalizer", "of as many environments");
    if (!env_.started()) throw std::invalid_argument("Rollout: reset the environment first");
    {
      py::gil_scoped_release release;
      rollout_.collect(policy, normalizers, seed, counter, [] {
        const py::gil_scoped_acquire acquire;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      });
    }
    const auto& returns = rollout_.returns;
    const auto& lengths = rollout_.lengths;
    return py::make_tuple(Array<double>(static_cast<py::ssize_t>(returns.size()), returns.data()),
                          Array<int64_t>(static_cast<py::ssize_t>(lengths.size()), lengths.data()),
                          rollout_.env_seconds, rollout_.policy_seconds);
  }

 private:
  static constexpr const char* kOp = "Rollout";

  static Rollout make(VecEnv& env, const NetworkPlan& net, const std::vector<py::object>& arrays,
                      bool squash) {
    const int64_t n = env.num_envs(), d = env.obs_size(), a = env.action_size();
    if (net.plan.in != d) reject(kOp, "network", "a reader of the environment's observations");
    const py::ssize_t t = array_of<float>(arrays[0], kOp, "obs", 3).shape(0);
    if (t < 1) reject(kOp, "obs", "of at least one step");
    RolloutArrays to{};
    to.steps = t;
    to.obs = data_of<float>(arrays[0], kOp, "obs", {t, n, d});
    to.action = a > 0 ? static_cast<void*>(data_of<float>(arrays[1], kOp, "action", {t, n, a}))
                      : data_of<int64_t>(arrays[1], kOp, "action", {t, n});
    to.log_prob = data_of<float>(arrays[2], kOp, "log_prob", {t, n});
    to.value = data_of<float>(arrays[3], kOp, "value", {t, n});
    to.next_value = data_of<float>(arrays[4], kOp, "next_value", {t, n});
    to.reward = data_of<float>(arrays[5], kOp, "reward", {t, n});
    to.terminated = mask_of(arrays[6], "terminated", t, n);
    to.truncated = mask_of(arrays[7], "truncated", t, n);
    if (arrays[8].is_none() != arrays[9].is_none()) reject(kOp, "high", "given where low is, and only there");
    if (arrays[8].is_none()) return {env, to, nullptr, nullptr, false};
    return {env, to, data_of<const float>(arrays[8], kOp, "low", {a}),
            data_of<const float>(arrays[9], kOp, "high", {a}), squash};
  }

  static uint8_t* mask_of(py::handle x, const char* name, py::ssize_t t, py::ssize_t n) {
    return reinterpret_cast<uint8_t*>(data_of<bool>(x, kOp, name, {t, n}));
  }

  VecEnv& env_;
  const NetworkPlan& net_;
  const std::vector<py::object> keep_;
  Rollout rollout_;
};

}  // namespace

void register_rollout(py::module_& m) {
  py::register_exception<NotFinite>(m, "NotFinite", PyExc_FloatingPointError);
  const auto none = [](const char* name) { return py::arg(name) = py::none(); };
  py::class_<BoundRollout>(m, "Rollout",
                           "Collects on-policy rollouts of a compiled environment and a native network.")
      .def(py::init<VecEnv&, const NetworkPlan&, py::object, py::object, py::object, py::object, py::object,
                    py::object, py::object, py::object, py::object, py::object, bool>(),
           py::arg("env"), py::arg("network"), py::arg("obs"), py::arg("action"), py::arg("log_prob"),
           py::arg("value"), py::arg("next_value"), py::arg("reward"), py::arg("terminated"),
           py::arg("truncated"), none("low"), none("high"), py::arg("squash") = false, py::keep_alive<1, 2>(),
           py::keep_alive<1, 3>())
      .def("collect", &BoundRollout::collect, py::arg("params"), py::arg("seed"), py::arg("counter"),
           none("log_std"), py::arg("gaussian") = false, py::arg("sizes") = Sizes{}, none("obs_normalizer"),
           none("reward_normalizer"),
           "Returns and lengths of the episodes that finished, and the seconds spent in environment and "
           "policy.");
  m.def("act", act_on, py::arg("network"), py::arg("params"), py::arg("obs"), py::arg("seed"),
        py::arg("counter"), none("log_std"), py::arg("gaussian") = false, py::arg("sizes") = Sizes{},
        "Actions, their log-probabilities, and values of an actor-critic.");
}

}  // namespace fastrl
