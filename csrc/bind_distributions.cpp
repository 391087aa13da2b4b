#include <pybind11/pybind11.h>

#include <string>

#include "array.h"
#include "dispatch.h"
#include "distributions.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(DistributionsTable, distributions)

namespace {

constexpr int64_t kReleaseGil = 4096;  // logits, some microseconds

Categorical categorical(py::handle logits, py::handle action_mask, const char* op) {
  const py::array array = array_of<const float>(logits, op, "logits", 2);
  const int64_t batch = array.shape(0), actions = array.shape(1);
  if (actions < 1) reject(op, "logits", "of at least one action");
  return {batch, actions, view_of<const float>(array),
          view<const uint8_t>(action_mask, op, "action_mask", {batch, actions}, true)};
}

template <class Work>
auto without_gil(const Categorical& policy, Work work) {
  if (policy.batch * policy.actions < kReleaseGil) return work();
  py::gil_scoped_release release;
  return work();
}

void reject_row(const char* op, const char* what, int64_t row) {
  if (row >= 0) throw std::invalid_argument(std::string(op) + ": " + what + " in row " + std::to_string(row));
}

void sample(py::handle logits, py::handle action, py::handle log_prob, uint64_t seed, uint64_t counter,
            py::handle uniform, py::handle action_mask) {
  const char* op = "categorical_sample";
  const Categorical policy = categorical(logits, action_mask, op);
  const auto u = view<const float>(uniform, op, "uniform", {policy.batch}, true);
  const auto out_action = view<int64_t>(action, op, "action", {policy.batch});
  const auto out_log_prob = view<float>(log_prob, op, "log_prob", {policy.batch});
  const int64_t bad = without_gil(policy, [&] {
    return distributions().categorical_sample(policy, u, seed, counter, out_action, out_log_prob);
  });
  reject_row(op, "no action can be drawn (a NaN or +inf logit, no legal action, or uniform outside [0, 1))",
             bad);
}

void mode(py::handle logits, py::handle action, py::handle action_mask) {
  const char* op = "categorical_mode";
  const Categorical policy = categorical(logits, action_mask, op);
  const auto out = view<int64_t>(action, op, "action", {policy.batch});
  const int64_t bad = without_gil(policy, [&] { return distributions().categorical_mode(policy, out); });
  reject_row(op, "no action is the best (a NaN logit or no legal action)", bad);
}

void log_prob(py::handle logits, py::handle action, py::handle log_prob, py::handle action_mask) {
  const char* op = "categorical_log_prob";
  const Categorical policy = categorical(logits, action_mask, op);
  const auto chosen = view<const int64_t>(action, op, "action", {policy.batch});
  const auto out = view<float>(log_prob, op, "log_prob", {policy.batch});
  const Categorical unmasked = {policy.batch, policy.actions, policy.logits, {nullptr, 0, 0}};
  reject_row(op, "action is out of range", first_illegal(unmasked, chosen));
  without_gil(policy, [&] { distributions().categorical_log_prob(policy, chosen, out); });
}

void entropy(py::handle logits, py::handle entropy, py::handle action_mask) {
  const char* op = "categorical_entropy";
  const Categorical policy = categorical(logits, action_mask, op);
  const auto out = view<float>(entropy, op, "entropy", {policy.batch});
  without_gil(policy, [&] { distributions().categorical_entropy(policy, out); });
}

}  // namespace

void register_distributions(py::module_& m) {
  m.def("categorical_sample", sample, py::arg("logits"), py::arg("action"), py::arg("log_prob"),
        py::arg("seed"), py::arg("counter"), py::arg("uniform") = py::none(),
        py::arg("action_mask") = py::none(), "Draws action and writes it with its log-probability.");
  m.def("categorical_mode", mode, py::arg("logits"), py::arg("action"), py::arg("action_mask") = py::none(),
        "Writes the most probable action.");
  m.def("categorical_log_prob", log_prob, py::arg("logits"), py::arg("action"), py::arg("log_prob"),
        py::arg("action_mask") = py::none(), "Writes the log-probability of action.");
  m.def("categorical_entropy", entropy, py::arg("logits"), py::arg("entropy"),
        py::arg("action_mask") = py::none(), "Writes the entropy.");
}

}  // namespace fastrl
