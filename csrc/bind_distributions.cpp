#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <vector>

#include "array.h"
#include "bind_policies.h"
#include "dispatch.h"
#include "distributions.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(DistributionsTable, distributions)

namespace {

constexpr int64_t kReleaseGil = 4096;  // logits, some microseconds

using Sizes = std::optional<std::vector<int64_t>>;

// A call's name, its policy, and whether it takes long.
struct Call {
  Call(const char* single, const char* multi, py::handle logits, py::handle action_mask, const Sizes& sizes)
      : op(sizes ? multi : single) {
    static const std::vector<int64_t> one;
    const py::array array = array_of<const float>(logits, op, "logits", 2);
    if (array.shape(1) < 1) reject(op, "logits", "of at least one action");
    if (sizes && sizes->empty()) reject(op, "sizes", "of at least one component");
    policy = categorical_of(array.shape(0), array.shape(1), view_of<const float>(array), action_mask,
                            sizes ? *sizes : one, op);
  }
  bool takes_long() const { return policy.batch * policy.actions >= kReleaseGil; }

  const char* op;
  Categorical policy;
};

void reject_row(const char* op, const char* what, int64_t row) {
  if (row >= 0) throw std::invalid_argument(std::string(op) + ": " + what + " in row " + std::to_string(row));
}

void sample(py::handle logits, py::handle action, py::handle log_prob, uint64_t seed, uint64_t counter,
            py::handle uniform, py::handle action_mask, const Sizes& sizes) {
  const Call call("categorical_sample", "multi_categorical_sample", logits, action_mask, sizes);
  const Categorical& policy = call.policy;
  const auto u = view_of_choices<const float>(uniform, policy, call.op, "uniform", true);
  const auto out_action = view_of_choices<int64_t>(action, policy, call.op, "action");
  const auto out_log_prob = view<float>(log_prob, call.op, "log_prob", {policy.batch});
  const int64_t bad = without_gil(call.takes_long(), [&] {
    return distributions().categorical_sample(policy, u, seed, counter, out_action, out_log_prob);
  });
  reject_row(call.op,
             "no action can be drawn (a NaN or +inf logit, no legal action, or uniform outside [0, 1))", bad);
}

void mode(py::handle logits, py::handle action, py::handle action_mask, const Sizes& sizes) {
  const Call call("categorical_mode", "multi_categorical_mode", logits, action_mask, sizes);
  const auto out = view_of_choices<int64_t>(action, call.policy, call.op, "action");
  const int64_t bad =
      without_gil(call.takes_long(), [&] { return distributions().categorical_mode(call.policy, out); });
  reject_row(call.op, "no action is the best (a NaN logit or no legal action)", bad);
}

void log_prob(py::handle logits, py::handle action, py::handle log_prob, py::handle action_mask,
              const Sizes& sizes) {
  const Call call("categorical_log_prob", "multi_categorical_log_prob", logits, action_mask, sizes);
  const Categorical& policy = call.policy;
  const auto chosen = view_of_choices<const int64_t>(action, policy, call.op, "action");
  const auto out = view<float>(log_prob, call.op, "log_prob", {policy.batch});
  Categorical unmasked = policy;
  unmasked.mask.data = nullptr;
  reject_row(call.op, "action is out of range", first_illegal(unmasked, chosen).row);
  without_gil(call.takes_long(), [&] { distributions().categorical_log_prob(policy, chosen, out); });
}

void entropy(py::handle logits, py::handle entropy, py::handle action_mask, const Sizes& sizes) {
  const Call call("categorical_entropy", "multi_categorical_entropy", logits, action_mask, sizes);
  const auto out = view<float>(entropy, call.op, "entropy", {call.policy.batch});
  without_gil(call.takes_long(), [&] { distributions().categorical_entropy(call.policy, out); });
}

bool takes_long(const Gaussian& policy) { return policy.batch * policy.actions >= kReleaseGil; }

void gaussian_sample(py::handle mean, py::handle log_std, py::handle action, py::handle log_prob,
                     uint64_t seed, uint64_t counter, py::handle noise) {
  const char* op = "gaussian_sample";
  const Gaussian policy = gaussian_of(mean, log_std, op);
  const auto z = view<const float>(noise, op, "noise", {policy.batch, policy.actions}, true);
  const auto out_action = view<float>(action, op, "action", {policy.batch, policy.actions});
  const auto out_log_prob = view<float>(log_prob, op, "log_prob", {policy.batch});
  const int64_t bad = without_gil(takes_long(policy), [&] {
    return distributions().gaussian_sample(policy, z, seed, counter, out_action, out_log_prob);
  });
  reject_row(op, "action or log_prob is not finite", bad);
}

void gaussian_log_prob(py::handle mean, py::handle log_std, py::handle action, py::handle log_prob,
                       bool squashed) {
  const char* op = squashed ? "squashed_gaussian_log_prob" : "gaussian_log_prob";
  const Gaussian policy = gaussian_of(mean, log_std, op);
  const auto x = view<const float>(action, op, squashed ? "u" : "action", {policy.batch, policy.actions});
  const auto out = view<float>(log_prob, op, "log_prob", {policy.batch});
  const auto run = squashed ? distributions().squashed_gaussian_log_prob : distributions().gaussian_log_prob;
  without_gil(takes_long(policy), [&] { run(policy, x, out); });
}

void gaussian_entropy(py::handle log_std, py::handle entropy) {
  const char* op = "gaussian_entropy";
  const py::array array = array_of<const float>(log_std, op, "log_std", 2);
  const auto x = view_of<const float>(array);
  const Gaussian policy = {array.shape(0), array.shape(1), x, x};
  const auto out = view<float>(entropy, op, "entropy", {policy.batch});
  without_gil(takes_long(policy), [&] { distributions().gaussian_entropy(policy, out); });
}

void squash(py::handle u, py::handle low, py::handle high, py::handle action) {
  const char* op = "squash";
  const py::array array = array_of<const float>(u, op, "u", 2);
  const int64_t batch = array.shape(0), actions = array.shape(1);
  const auto least = view_of_rows<const float>(low, op, "low", batch, actions);
  const auto most = view_of_rows<const float>(high, op, "high", batch, actions);
  const auto out = view<float>(action, op, "action", {batch, actions});
  without_gil(batch * actions >= kReleaseGil,
              [&] { distributions().squash(batch, actions, view_of<const float>(array), least, most, out); });
}

}  // namespace

void register_distributions(py::module_& m) {
  m.def("categorical_sample", sample, py::arg("logits"), py::arg("action"), py::arg("log_prob"),
        py::arg("seed"), py::arg("counter"), py::arg("uniform") = py::none(),
        py::arg("action_mask") = py::none(), py::arg("sizes") = py::none(),
        "Draws action and writes it with its log-probability.");
  m.def("categorical_mode", mode, py::arg("logits"), py::arg("action"), py::arg("action_mask") = py::none(),
        py::arg("sizes") = py::none(), "Writes the most probable action.");
  m.def("categorical_log_prob", log_prob, py::arg("logits"), py::arg("action"), py::arg("log_prob"),
        py::arg("action_mask") = py::none(), py::arg("sizes") = py::none(),
        "Writes the log-probability of action.");
  m.def("categorical_entropy", entropy, py::arg("logits"), py::arg("entropy"),
        py::arg("action_mask") = py::none(), py::arg("sizes") = py::none(), "Writes the entropy.");
  m.def("gaussian_sample", gaussian_sample, py::arg("mean"), py::arg("log_std"), py::arg("action"),
        py::arg("log_prob"), py::arg("seed"), py::arg("counter"), py::arg("noise") = py::none(),
        "Draws action and writes it with its log-probability.");
  m.def("gaussian_log_prob", gaussian_log_prob, py::arg("mean"), py::arg("log_std"), py::arg("action"),
        py::arg("log_prob"), py::arg("squashed") = false,
        "Writes the log-probability of action, or with squashed of its tanh.");
  m.def("gaussian_entropy", gaussian_entropy, py::arg("log_std"), py::arg("entropy"), "Writes the entropy.");
  m.def("squash", squash, py::arg("u"), py::arg("low"), py::arg("high"), py::arg("action"),
        "Writes tanh(u), scaled to [low, high].");
}

}  // namespace fastrl
