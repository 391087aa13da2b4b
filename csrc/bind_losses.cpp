#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "bind_policies.h"
#include "dispatch.h"
#include "losses.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(LossesTable, losses)

namespace {

constexpr int64_t kReleaseGil = 2048;  // logits, some microseconds

// What every PPO loss is made of: made once, called once a minibatch.
class PPO {
 protected:
  PPO(const char* op, double clip_coef, double vf_coef, double ent_coef, double kl_coef,
      std::optional<double> clip_value)
      : op_(op),
        config_{clip_coef, vf_coef, ent_coef, kl_coef, clip_value.value_or(0.0)},
        clips_value_(clip_value.has_value()) {}

  PPOBatch batch_of(py::ssize_t batch, Strided<const float> value, py::handle old_log_prob,
                    py::handle advantage, py::handle return_, py::handle old_value) const {
    if (clips_value_ == old_value.is_none())
      reject(op_, "old_value", "given where clip_value is, and only there");
    return {batch,
            value,
            view<const float>(old_log_prob, op_, "old_log_prob", {batch}),
            view<const float>(advantage, op_, "advantage", {batch}),
            view<const float>(return_, op_, "return_", {batch}),
            view<const float>(old_value, op_, "old_value", {batch}, true)};
  }

  PPOResult result_of(py::ssize_t batch, Strided<float> loss, Strided<float> d_value, py::handle stats,
                      std::optional<double> scale) const {
    const auto sums = view<double>(stats, op_, "stats", {kPPOStats}, true);
    if (sums.data != nullptr && sums.row != 1) reject(op_, "stats", "contiguous");
    return {loss, d_value, scale.value_or(batch > 0 ? 1.0 / static_cast<double>(batch) : 1.0), sums.data};
  }

  const char* op_;
  PPOConfig config_;
  bool clips_value_;
};

template <class T>
Strided<T> columns_from(Strided<T> x, int64_t column) {
  return {x.data + column * x.column, x.row, x.column};
}

class PPOCategorical : PPO {
 public:
  PPOCategorical(double clip_coef, double vf_coef, double ent_coef, double kl_coef,
                 std::optional<double> clip_value)
      : PPO("ppo_categorical", clip_coef, vf_coef, ent_coef, kl_coef, clip_value) {}
  PPOCategorical(std::vector<int64_t> sizes, double clip_coef, double vf_coef, double ent_coef,
                 double kl_coef, std::optional<double> clip_value)
      : PPO("ppo_multi_categorical", clip_coef, vf_coef, ent_coef, kl_coef, clip_value),
        sizes_(std::move(sizes)) {
    if (sizes_.empty()) reject(op_, "sizes", "of at least one component");
  }

  // y [B, A + 1]: a row of logits, then the value. dy gets the gradient in the same layout.
  void joint(py::handle y, py::handle dy, py::handle action, py::handle old_log_prob, py::handle advantage,
             py::handle return_, py::handle stats, py::handle old_value, py::handle action_mask,
             std::optional<double> scale) const {
    const py::array array = array_of<const float>(y, op_, "y", 2);
    const py::ssize_t batch = array.shape(0), columns = array.shape(1);
    if (columns < 2) reject(op_, "y", "at least one logit and the value wide");
    const auto in = view_of<const float>(array);
    const auto out = view<float>(dy, op_, "dy", {batch, columns});
    run(batch, columns - 1, in, action, action_mask,
        batch_of(batch, columns_from(in, columns - 1), old_log_prob, advantage, return_, old_value), out,
        result_of(batch, {nullptr, 0, 0}, columns_from(out, columns - 1), stats, scale));
  }

  void split(py::handle logits, py::handle value, py::handle action, py::handle old_log_prob,
             py::handle advantage, py::handle return_, py::handle loss, py::handle d_logits,
             py::handle d_value, py::handle stats, py::handle old_value, py::handle action_mask,
             std::optional<double> scale) const {
    const py::array array = array_of<const float>(logits, op_, "logits", 2);
    const py::ssize_t batch = array.shape(0), actions = array.shape(1);
    if (actions < 1) reject(op_, "logits", "of at least one action");
    run(batch, actions, view_of<const float>(array), action, action_mask,
        batch_of(batch, view<const float>(value, op_, "value", {batch}), old_log_prob, advantage, return_,
                 old_value),
        view<float>(d_logits, op_, "d_logits", {batch, actions}),
        result_of(batch, view<float>(loss, op_, "loss", {batch}),
                  view<float>(d_value, op_, "d_value", {batch}), stats, scale));
  }

 private:
  void run(py::ssize_t batch, py::ssize_t actions, Strided<const float> logits, py::handle action,
           py::handle action_mask, const PPOBatch& in, Strided<float> d_logits,
           const PPOResult& result) const {
    const Categorical policy = categorical_of(batch, actions, logits, action_mask, sizes_, op_);
    const auto chosen = view_of_choices<const int64_t>(action, policy, op_, "action");
    const Illegal bad = without_gil(batch * actions >= kReleaseGil, [&] {
      return losses().ppo_categorical(config_, policy, chosen, in, d_logits, result);
    });
    if (bad.row < 0) return;
    std::string message = std::string(op_) + ": action must be in [0, " +
                          std::to_string(component_size(policy, bad.component)) + ") and unmasked, got " +
                          std::to_string(chosen.data[bad.row * chosen.row + bad.component * chosen.column]) +
                          " in row " + std::to_string(bad.row);
    if (!sizes_.empty()) message += ", component " + std::to_string(bad.component);
    throw std::invalid_argument(message);
  }

  std::vector<int64_t> sizes_;  // empty: one choice, of any number of actions
};

// Another name for Python, constructed with sizes.
struct PPOMultiCategorical : PPOCategorical {
  using PPOCategorical::PPOCategorical;
};

class PPOGaussian : PPO {
 public:
  PPOGaussian(double clip_coef, double vf_coef, double ent_coef, double kl_coef,
              std::optional<double> clip_value)
      : PPO("ppo_gaussian", clip_coef, vf_coef, ent_coef, kl_coef, clip_value) {}

  // y [B, A + 1]: means, then the value, with log_std [A]; or without it y [B, 2 A + 1]: means, log_stds,
  // value.
  void joint(py::handle y, py::handle dy, py::handle log_std, py::handle d_log_std, py::handle action,
             py::handle old_log_prob, py::handle advantage, py::handle return_, py::handle stats,
             py::handle old_value, std::optional<double> scale) const {
    const py::array array = array_of<const float>(y, op_, "y", 2);
    const py::ssize_t batch = array.shape(0), last = array.shape(1) - 1;
    const bool shared = !log_std.is_none();
    const py::ssize_t actions = shared ? last : last / 2;
    if (actions < 1 || (!shared && last % 2 != 0))
      reject(op_, "y", "[B, A + 1] with log_std, or [B, 2 A + 1] without");
    if (shared == d_log_std.is_none()) reject(op_, "d_log_std", "given where log_std is, and only there");
    const auto in = view_of<const float>(array);
    const auto out = view<float>(dy, op_, "dy", {batch, last + 1});
    run({batch, actions, in,
         shared ? view_for_all_rows<const float>(log_std, op_, "log_std", actions)
                : columns_from(in, actions)},
        action, batch_of(batch, columns_from(in, last), old_log_prob, advantage, return_, old_value),
        {out,
         shared ? view_for_all_rows<float>(d_log_std, op_, "d_log_std", actions) : columns_from(out, actions),
         shared},
        result_of(batch, {nullptr, 0, 0}, columns_from(out, last), stats, scale));
  }

  void split(py::handle mean, py::handle log_std, py::handle value, py::handle action,
             py::handle old_log_prob, py::handle advantage, py::handle return_, py::handle loss,
             py::handle d_mean, py::handle d_log_std, py::handle d_value, py::handle stats,
             py::handle old_value, std::optional<double> scale) const {
    const Gaussian policy = gaussian_of(mean, log_std, op_);
    const py::ssize_t batch = policy.batch, actions = policy.actions;
    const bool shared = is_vector(log_std);
    run(policy, action,
        batch_of(batch, view<const float>(value, op_, "value", {batch}), old_log_prob, advantage, return_,
                 old_value),
        {view<float>(d_mean, op_, "d_mean", {batch, actions}),
         shared ? view_for_all_rows<float>(d_log_std, op_, "d_log_std", actions)
                : view<float>(d_log_std, op_, "d_log_std", {batch, actions}),
         shared},
        result_of(batch, view<float>(loss, op_, "loss", {batch}),
                  view<float>(d_value, op_, "d_value", {batch}), stats, scale));
  }

 private:
  void run(const Gaussian& policy, py::handle action, const PPOBatch& in, const GaussianGradient& gradient,
           const PPOResult& result) const {
    const auto chosen = view<const float>(action, op_, "action", {policy.batch, policy.actions});
    without_gil(policy.batch * policy.actions >= kReleaseGil,
                [&] { losses().ppo_gaussian(config_, policy, chosen, in, gradient, result); });
  }
};

void normalize_advantage(py::handle advantage, py::handle out) {
  const char* op = "normalize_advantage";
  const py::array array = array_of<const float>(advantage, op, "advantage", 1);
  const py::ssize_t batch = array.shape(0);
  const auto result = view<float>(out, op, "out", {batch});
  losses().normalize_advantage(batch, view_of<const float>(array), result);
}

template <class... Before, class Loss, class... Names>
void define_init(py::class_<Loss>& loss, const Names&... names) {
  loss.def(py::init<Before..., double, double, double, double, std::optional<double>>(), names...,
           py::kw_only(), py::arg("clip_coef"), py::arg("vf_coef") = 0.5, py::arg("ent_coef") = 0.0,
           py::arg("kl_coef") = 0.0, py::arg("clip_value") = py::none());
}

template <class Loss>
void define_categorical(py::class_<Loss>& loss) {
  loss.def("__call__", &Loss::joint, py::arg("y"), py::arg("dy"), py::arg("action"), py::arg("old_log_prob"),
           py::arg("advantage"), py::arg("return_"), py::arg("stats") = py::none(),
           py::arg("old_value") = py::none(), py::arg("action_mask") = py::none(),
           py::arg("scale") = py::none(),
           "From y [B, A + 1], logits and then the value, writes the gradient into dy and adds to stats.");
  loss.def("split", &Loss::split, py::arg("logits"), py::arg("value"), py::arg("action"),
           py::arg("old_log_prob"), py::arg("advantage"), py::arg("return_"), py::arg("loss"),
           py::arg("d_logits"), py::arg("d_value"), py::arg("stats") = py::none(),
           py::arg("old_value") = py::none(), py::arg("action_mask") = py::none(),
           py::arg("scale") = py::none(), "The same with logits and value apart, and the loss per sample.");
}

}  // namespace

void register_losses(py::module_& m) {
  py::class_<PPOCategorical> categorical(m, "PPOCategorical",
                                         "PPO's loss and gradient with given coefficients.");
  define_init(categorical);
  define_categorical(categorical);
  py::class_<PPOMultiCategorical> multi(m, "PPOMultiCategorical", "PPOCategorical of several choices.");
  define_init<std::vector<int64_t>>(multi, py::arg("sizes"));
  define_categorical(multi);
  py::class_<PPOGaussian> gaussian(m, "PPOGaussian", "PPO's loss and gradient of a Gaussian policy.");
  define_init(gaussian);
  gaussian.def(
      "__call__", &PPOGaussian::joint, py::arg("y"), py::arg("dy"), py::arg("log_std"), py::arg("d_log_std"),
      py::arg("action"), py::arg("old_log_prob"), py::arg("advantage"), py::arg("return_"),
      py::arg("stats") = py::none(), py::arg("old_value") = py::none(), py::arg("scale") = py::none(),
      "From y [B, A + 1], means and then the value, and log_std [A], writes the gradient into dy and "
      "adds to d_log_std and stats. With log_std None y is [B, 2 A + 1]: means, log_stds, value.");
  gaussian.def("split", &PPOGaussian::split, py::arg("mean"), py::arg("log_std"), py::arg("value"),
               py::arg("action"), py::arg("old_log_prob"), py::arg("advantage"), py::arg("return_"),
               py::arg("loss"), py::arg("d_mean"), py::arg("d_log_std"), py::arg("d_value"),
               py::arg("stats") = py::none(), py::arg("old_value") = py::none(),
               py::arg("scale") = py::none(),
               "The same with the columns apart, and the loss per sample; d_log_std [A] is added to.");
  m.def("normalize_advantage", normalize_advantage, py::arg("advantage"), py::arg("out"),
        "Writes the advantage with mean 0 and standard deviation 1.");
}

}  // namespace fastrl
