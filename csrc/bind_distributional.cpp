#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <vector>

#include "aliasing.h"
#include "array.h"
#include "bind_policies.h"
#include "bind_support.h"
#include "dispatch.h"
#include "distributional.h"
#include "new_array.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(DistributionalTable, distributional)

namespace {

constexpr int64_t kReleaseGil = 8192;  // atoms or pairs, some microseconds

// The family's checks in Python say better what is wrong, and take as long as a small kernel: they run only
// where one here has failed.
template <class Work>
py::object explained(const char* check, const py::Args<py::object>& arguments, const Work& work) {
  try {
    return work();
  } catch (const std::exception&) {
    py::module_::import("fastrl.kernels.distributional._check").attr(check)(*arguments);
    throw;
  }
}

template <class Real>
Bellman<Real> bellman_of(py::handle reward, py::handle discount, py::handle terminated, py::handle gamma,
                         py::ssize_t batch, const char* op) {
  Bellman<Real> bellman{view<const Real>(reward, op, "reward", {batch}),
                        view<const Real>(discount, op, "discount", {batch}, true),
                        view<const uint8_t>(terminated, op, "terminated", {batch}, true), 1.0};
  if (discount.is_none() == gamma.is_none() || (!discount.is_none() && !terminated.is_none()))
    reject(op, "discount", "given, or gamma, not both");
  if (!gamma.is_none()) {
    bellman.gamma = number(gamma, op, "gamma");
    if (!(bellman.gamma >= 0 && bellman.gamma <= 1)) reject(op, "gamma", "in [0, 1]");
  }
  return bellman;
}

py::object matrix_for(py::handle out, py::ssize_t rows, py::ssize_t columns, bool wide) {
  if (!out.is_none()) return py::reinterpret_borrow<py::object>(out);
  return py::reinterpret_steal<py::object>(wide ? new_array<double>(rows, columns)
                                                : new_array<float>(rows, columns));
}

// Raises unless what is written to is apart from all that is read.
void require_apart(const char* op, py::handle out, std::initializer_list<py::handle> inputs) {
  const auto written = py::reinterpret_borrow<py::array>(out);
  for (py::handle x : inputs)
    if (!x.is_none() && share_memory(py::reinterpret_borrow<py::array>(x), written))
      reject(op, "out", "apart from the inputs");
}

// The same of a loss and its gradient, and apart from each other.
void require_apart(const char* op, py::handle loss, py::handle gradient,
                   std::initializer_list<py::handle> inputs) {
  require_apart(op, loss, inputs);
  require_apart(op, gradient, inputs);
  require_apart(op, gradient, {loss});
}

template <class Real>
py::object c51_project_of(py::handle probs, py::handle reward, py::handle discount, py::handle terminated,
                          py::handle gamma, py::handle support, py::handle v_min, py::handle v_max,
                          py::handle target_support, py::handle out) {
  const char* op = "c51_project";
  const py::array p = array_of<const Real>(probs, op, "probs", 2);
  const py::ssize_t batch = p.shape(0), n = p.shape(1);
  constexpr bool exact = std::is_same_v<Real, double>;
  const Support source(support, v_min, v_max, n, op, "support", exact);
  const auto bellman = bellman_of<Real>(reward, discount, terminated, gamma, batch, op);
  const auto run = [&](const Support& target) {
    const py::ssize_t m = target.atoms().n;
    py::object result = matrix_for(out, batch, m, exact);
    const auto written = view<Real>(result, op, "out", {batch, m});
    if (!out.is_none() && repeats_elements(batch, written.row, m, written.column))
      reject(op, "out", "an array that holds each element once");
    const C51Projection<Real> problem{batch,   source.atoms(), target.atoms(), view_of<const Real>(p),
                                      bellman, written};
    if (!out.is_none())
      require_apart(op, out, {probs, reward, discount, terminated, support, target_support});
    without_gil(batch * n >= kReleaseGil, [&] {
      if constexpr (exact)
        distributional().c51_project_f64(problem);
      else
        distributional().c51_project_f32(problem);
    });
    return result;
  };
  if (target_support.is_none()) return run(source);
  return run(Support(target_support, py::none(), py::none(), -1, op, "target_support", exact));
}

py::object c51_project(const py::Args<py::object>& args) {
  return explained("require_projection", args, [&] {
    if (args.size() != 10) throw std::invalid_argument("c51_project: takes 10 arguments");
    if (py::isinstance<py::array_t<double>>(args[0]))
      return c51_project_of<double>(args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7],
                                    args[8], args[9]);
    return c51_project_of<float>(args[0], args[1], args[2], args[3], args[4], args[5], args[6], args[7],
                                 args[8], args[9]);
  });
}

// [B, A, N], or [B, N] as of one action; null if the last axis has gaps.
Blocks<const float> blocks_of(const py::array& x) {
  constexpr py::ssize_t size = sizeof(float);
  const py::ssize_t last = x.ndim() - 1;
  if (x.shape(last) > 1 && x.strides(last) != size) return {nullptr, 0, 0};
  return {static_cast<const float*>(x.data()), x.strides(0) / size, last == 2 ? x.strides(1) / size : 0};
}

// An array [B, A, N] or [B, N] whose last axis has no gaps: a copy if it must be.
py::array rows_without_gaps(py::handle x, const char* op, const char* name) {
  const int ndim =
      py::isinstance<py::array>(x) ? static_cast<int>(py::reinterpret_borrow<py::array>(x).ndim()) : 0;
  if (ndim != 2 && ndim != 3) reject(op, name, "[B, A, N] or [B, N]");
  py::array array = array_of<const float>(x, op, name, ndim);
  if (array.size() == 0 || blocks_of(array).data != nullptr) return array;
  return py::module_::import("numpy").attr("ascontiguousarray")(array);
}

double scale_of(py::handle scale, py::ssize_t batch, const char* op) {
  if (scale.is_none()) return 1.0 / static_cast<double>(batch > 0 ? batch : 1);
  const double value = number(scale, op, "scale");
  if (!(value >= 1e-20 && value <= 1e20)) reject(op, "scale", "from 1e-20 to 1e20");
  return value;
}

py::object c51_loss_of(const py::Args<py::object>& args) {
  const char* op = "c51_loss";
  const py::handle action = args[1], kl = args[11], scale = args[12];
  const py::array logits = rows_without_gaps(args[0], op, "logits");
  const py::array next_logits = rows_without_gaps(args[2], op, "next_logits");
  const py::array selector =
      args[10].is_none() ? next_logits : rows_without_gaps(args[10], op, "next_selector");
  const bool several = logits.ndim() == 3, several_next = next_logits.ndim() == 3;
  const py::ssize_t batch = logits.shape(0), n = logits.shape(logits.ndim() - 1);
  if (several == action.is_none()) reject(op, "action", "given with logits [B, A, N], and only then");
  if (next_logits.shape(0) != batch || next_logits.shape(next_logits.ndim() - 1) != n)
    reject(op, "next_logits", "of the same batch and atoms as logits");
  if (selector.ndim() != next_logits.ndim() ||
      !std::equal(selector.shape(), selector.shape() + selector.ndim(), next_logits.shape()))
    reject(op, "next_selector", "of the shape of next_logits");
  const py::ssize_t actions = several ? logits.shape(1) : 1, next = several_next ? next_logits.shape(1) : 1;
  if (next == 0 || actions == 0) reject(op, "logits", "of at least one action");
  const Support support(args[7], args[8], args[9], n, op, "support");
  const auto bellman = bellman_of<float>(args[3], args[4], args[5], args[6], batch, op);
  const auto chosen = view<const int64_t>(action, op, "action", {batch}, true);
  py::object loss, d_logits;
  if (args[13].is_none()) {
    loss = py::reinterpret_steal<py::object>(new_array<float>(batch));
    d_logits = several ? py::object(py::array_t<float>({batch, actions, n}))
                       : py::reinterpret_steal<py::object>(new_array<float>(batch, n));
  } else {
    const auto out = args[13].cast<py::sequence>();
    if (out.size() != 2) reject(op, "out", "a pair (loss, d_logits)");
    loss = out[0], d_logits = out[1];
  }
  float* d = several ? data_of<float>(d_logits, op, "d_logits", {batch, actions, n})
                     : data_of<float>(d_logits, op, "d_logits", {batch, n});
  float* losses = data_of<float>(loss, op, "loss", {batch});
  if (!args[13].is_none())
    require_apart(op, loss, d_logits, {logits, action, next_logits, args[3], args[4], args[5], selector});
  const C51Problem problem{batch,
                           actions,
                           next,
                           support.atoms(),
                           blocks_of(logits),
                           blocks_of(next_logits),
                           blocks_of(selector),
                           chosen,
                           bellman,
                           flag(kl, op, "kl"),
                           scale_of(scale, batch, op),
                           losses,
                           d};
  const int64_t illegal =
      without_gil(batch * n * (next + 2) >= kReleaseGil, [&] { return distributional().c51_loss(problem); });
  if (illegal >= 0)
    throw py::value_error(std::string(op) + ": action must be in [0, " + std::to_string(actions) + "), got " +
                          std::to_string(chosen.data[illegal * chosen.row]) + " in row " +
                          std::to_string(illegal));
  return py::make_tuple(loss, d_logits);
}

py::object c51_loss(const py::Args<py::object>& args) {
  return explained("require_c51_loss", args, [&] {
    if (args.size() != 14) throw std::invalid_argument("c51_loss: takes 14 arguments");
    return c51_loss_of(args);
  });
}

py::object quantile_huber_of(const py::Args<py::object>& args) {
  const char* op = "quantile_huber";
  const py::handle taus = args[2], out = args[6];
  const py::array quantiles = array_of<const float>(args[0], op, "quantiles", 2);
  const py::array targets = array_of<const float>(args[1], op, "targets", 2);
  const py::ssize_t batch = quantiles.shape(0), n = quantiles.shape(1), m = targets.shape(1);
  require_shape(targets, op, "targets", {batch, m});
  if (n == 0 || m == 0) reject(op, "quantiles", "of at least one quantile");
  const double kappa = number(args[3], op, "kappa"), weight = args[4].cast<double>();
  if (!(kappa == 0 || kappa >= 1e-30)) reject(op, "kappa", "0 or at least 1e-30");
  std::vector<float> midpoints;
  Strided<const float> tau;
  if (taus.is_none()) {
    midpoints.resize(static_cast<size_t>(n));
    for (size_t i = 0; i < midpoints.size(); ++i)
      midpoints[i] = static_cast<float>((static_cast<double>(i) + 0.5) / static_cast<double>(n));
    tau = {midpoints.data(), 0, 1};
  } else if (py::isinstance<py::array>(taus) && py::reinterpret_borrow<py::array>(taus).ndim() == 1) {
    tau = view_for_all_rows<const float>(taus, op, "taus", n);
  } else {
    tau = view<const float>(taus, op, "taus", {batch, n});
  }
  py::object loss, gradient;
  if (out.is_none()) {
    loss = py::reinterpret_steal<py::object>(new_array<float>(batch));
    gradient = py::reinterpret_steal<py::object>(new_array<float>(batch, n));
  } else {
    const auto pair = out.cast<py::sequence>();
    if (pair.size() != 2) reject(op, "out", "a pair (loss, d_quantiles)");
    loss = pair[0], gradient = pair[1];
  }
  const QuantileHuberProblem problem{batch,
                                     n,
                                     m,
                                     view_of<const float>(quantiles),
                                     view_of<const float>(targets),
                                     tau,
                                     kappa,
                                     weight,
                                     scale_of(args[5], batch, op),
                                     data_of<float>(loss, op, "loss", {batch}),
                                     data_of<float>(gradient, op, "d_quantiles", {batch, n})};
  if (!out.is_none()) require_apart(op, loss, gradient, {quantiles, targets, taus});
  without_gil(batch * n * m >= kReleaseGil, [&] { distributional().quantile_huber(problem); });
  return py::make_tuple(loss, gradient);
}

py::object quantile_huber(const py::Args<py::object>& args) {
  return explained("require_quantile_huber", args, [&] {
    if (args.size() != 7) throw std::invalid_argument("quantile_huber: takes 7 arguments");
    return quantile_huber_of(args);
  });
}

py::object expectation(const py::Args<py::object>& args) {
  return explained("require_expectation", args, [&] {
    const char* op = "expectation";
    if (args.size() != 5) throw std::invalid_argument("expectation: takes 5 arguments");
    const py::array x = array_of<const float>(args[0], op, "x", 2);
    const py::ssize_t rows = x.shape(0);
    const Support support(args[1], args[2], args[3], x.shape(1), op, "support");
    const bool logits = flag(args[4], op, "logits");
    auto result = py::reinterpret_steal<py::object>(new_array<float>(rows));
    auto* out = static_cast<float*>(contents(result.ptr()));
    without_gil(x.size() >= kReleaseGil, [&] {
      distributional().expectation(rows, support.atoms(), view_of<const float>(x), logits, out);
    });
    return result;
  });
}

py::object hl_gauss(const py::Args<py::object>& args) {
  return explained("require_hl_gauss", args, [&] {
    const char* op = "hl_gauss";
    if (args.size() != 6) throw std::invalid_argument("hl_gauss: takes 6 arguments");
    const py::array x = array_of<const float>(args[0], op, "x", 1);
    const py::ssize_t rows = x.shape(0), n = atoms_of(args[4], op);
    const Support support(args[1], args[2], args[3], n, op, "support");
    const double sigma = number(args[5], op, "sigma");
    if (!(sigma > 0 && std::isfinite(sigma))) reject(op, "sigma", "> 0 and finite");
    auto result = py::reinterpret_steal<py::object>(new_array<float>(rows, support.atoms().n));
    auto* out = static_cast<float*>(contents(result.ptr()));
    without_gil(rows * support.atoms().n >= kReleaseGil / 8, [&] {
      distributional().hl_gauss(rows, support.atoms(), view_of<const float>(x), sigma, out);
    });
    return result;
  });
}

py::object two_hot(const py::Args<py::object>& args) {
  return explained("require_two_hot", args, [&] {
    const char* op = "two_hot";
    if (args.size() != 5) throw std::invalid_argument("two_hot: takes 5 arguments");
    const py::array x = array_of<const float>(args[0], op, "x", 1);
    const py::ssize_t rows = x.shape(0);
    const Support support(args[1], args[2], args[3], atoms_of(args[4], op), op, "support");
    auto result = py::reinterpret_steal<py::object>(new_array<float>(rows, support.atoms().n));
    auto* out = static_cast<float*>(contents(result.ptr()));
    without_gil(rows * support.atoms().n >= kReleaseGil,
                [&] { distributional().two_hot(rows, support.atoms(), view_of<const float>(x), out); });
    return result;
  });
}

}  // namespace

void register_distributional(py::module_& m) {
  m.def("c51_project", &c51_project);
  m.def("c51_loss", &c51_loss);
  m.def("quantile_huber", &quantile_huber);
  m.def("expectation", &expectation);
  m.def("hl_gauss", &hl_gauss);
  m.def("two_hot", &two_hot);
}

}  // namespace fastrl
