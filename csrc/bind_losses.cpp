#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>

#include "array.h"
#include "dispatch.h"
#include "losses.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(LossesTable, losses)

namespace {

constexpr int64_t kReleaseGil = 2048;  // logits, some microseconds

// PPO's loss with its coefficients: made once, called once a minibatch.
class PPOCategorical {
 public:
  PPOCategorical(double clip_coef, double vf_coef, double ent_coef, double kl_coef,
                 std::optional<double> clip_value)
      : config_{clip_coef, vf_coef, ent_coef, kl_coef, clip_value.value_or(0.0)},
        clips_value_(clip_value.has_value()) {}

  // y [B, A + 1]: a row of logits, then the value. dy gets the gradient in the same layout.
  void joint(py::handle y, py::handle dy, py::handle action, py::handle old_log_prob, py::handle advantage,
             py::handle return_, py::handle stats, py::handle old_value, py::handle action_mask,
             std::optional<double> scale) const {
    const py::array array = array_of<const float>(y, kOp, "y", 2);
    const py::ssize_t batch = array.shape(0), columns = array.shape(1);
    if (columns < 2) reject(kOp, "y", "at least one logit and the value wide");
    const auto in = view_of<const float>(array);
    const auto out = view<float>(dy, kOp, "dy", {batch, columns});
    const int64_t actions = columns - 1;
    run(batch, actions, in, {in.data + actions * in.column, in.row, 0}, action, old_log_prob, advantage,
        return_, old_value, action_mask,
        {{nullptr, 0, 0}, out, {out.data + actions * out.column, out.row, 0}, 0.0, nullptr}, stats, scale);
  }

  void split(py::handle logits, py::handle value, py::handle action, py::handle old_log_prob,
             py::handle advantage, py::handle return_, py::handle loss, py::handle d_logits,
             py::handle d_value, py::handle stats, py::handle old_value, py::handle action_mask,
             std::optional<double> scale) const {
    const py::array array = array_of<const float>(logits, kOp, "logits", 2);
    const py::ssize_t batch = array.shape(0), actions = array.shape(1);
    if (actions < 1) reject(kOp, "logits", "of at least one action");
    run(batch, actions, view_of<const float>(array), view<const float>(value, kOp, "value", {batch}), action,
        old_log_prob, advantage, return_, old_value, action_mask,
        {view<float>(loss, kOp, "loss", {batch}), view<float>(d_logits, kOp, "d_logits", {batch, actions}),
         view<float>(d_value, kOp, "d_value", {batch}), 0.0, nullptr},
        stats, scale);
  }

 private:
  static constexpr const char* kOp = "ppo_categorical";

  void run(py::ssize_t batch, py::ssize_t actions, Strided<const float> logits, Strided<const float> value,
           py::handle action, py::handle old_log_prob, py::handle advantage, py::handle return_,
           py::handle old_value, py::handle action_mask, PPOResult result, py::handle stats,
           std::optional<double> scale) const {
    if (clips_value_ == old_value.is_none())
      reject(kOp, "old_value", "given where clip_value is, and only there");
    const PPOBatch in = {{batch, actions, logits,
                          view<const uint8_t>(action_mask, kOp, "action_mask", {batch, actions}, true)},
                         value,
                         view<const int64_t>(action, kOp, "action", {batch}),
                         view<const float>(old_log_prob, kOp, "old_log_prob", {batch}),
                         view<const float>(advantage, kOp, "advantage", {batch}),
                         view<const float>(return_, kOp, "return_", {batch}),
                         view<const float>(old_value, kOp, "old_value", {batch}, true)};
    const auto sums = view<double>(stats, kOp, "stats", {kPPOStats}, true);
    if (sums.data != nullptr && sums.row != 1) reject(kOp, "stats", "contiguous");
    result.stats = sums.data;
    result.scale = scale.value_or(batch > 0 ? 1.0 / static_cast<double>(batch) : 1.0);
    int64_t bad;
    if (batch * actions < kReleaseGil) {
      bad = losses().ppo_categorical(config_, in, result);
    } else {
      py::gil_scoped_release release;
      bad = losses().ppo_categorical(config_, in, result);
    }
    if (bad >= 0)
      throw std::invalid_argument(
          std::string(kOp) + ": action must be in [0, " + std::to_string(actions) + ") and unmasked, got " +
          std::to_string(in.action.data[bad * in.action.row]) + " in row " + std::to_string(bad));
  }

  PPOConfig config_;
  bool clips_value_;
};

void normalize_advantage(py::handle advantage, py::handle out) {
  const char* op = "normalize_advantage";
  const py::array array = array_of<const float>(advantage, op, "advantage", 1);
  const py::ssize_t batch = array.shape(0);
  const auto result = view<float>(out, op, "out", {batch});
  losses().normalize_advantage(batch, view_of<const float>(array), result);
}

}  // namespace

void register_losses(py::module_& m) {
  py::class_<PPOCategorical>(m, "PPOCategorical", "PPO's loss and gradient with given coefficients.")
      .def(py::init<double, double, double, double, std::optional<double>>(), py::kw_only(),
           py::arg("clip_coef"), py::arg("vf_coef") = 0.5, py::arg("ent_coef") = 0.0,
           py::arg("kl_coef") = 0.0, py::arg("clip_value") = py::none())
      .def("__call__", &PPOCategorical::joint, py::arg("y"), py::arg("dy"), py::arg("action"),
           py::arg("old_log_prob"), py::arg("advantage"), py::arg("return_"), py::arg("stats") = py::none(),
           py::arg("old_value") = py::none(), py::arg("action_mask") = py::none(),
           py::arg("scale") = py::none(),
           "From y [B, A + 1], logits and then the value, writes the gradient into dy and adds to stats.")
      .def("split", &PPOCategorical::split, py::arg("logits"), py::arg("value"), py::arg("action"),
           py::arg("old_log_prob"), py::arg("advantage"), py::arg("return_"), py::arg("loss"),
           py::arg("d_logits"), py::arg("d_value"), py::arg("stats") = py::none(),
           py::arg("old_value") = py::none(), py::arg("action_mask") = py::none(),
           py::arg("scale") = py::none(), "The same with logits and value apart, and the loss per sample.");
  m.def("normalize_advantage", normalize_advantage, py::arg("advantage"), py::arg("out"),
        "Writes the advantage with mean 0 and standard deviation 1.");
}

}  // namespace fastrl
