#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "dispatch.h"
#include "returns_arguments.h"

namespace fastrl {

FASTRL_DISPATCH(ReturnsTable, returns)

namespace {

using py::handle;

template <class Real>
const ReturnsOf<Real>& table() {
  if constexpr (sizeof(Real) == 4) return returns().f32;
  if constexpr (sizeof(Real) == 8) return returns().f64;
}

py::object gae(handle reward, handle value, handle next_value, handle terminated, handle truncated,
               handle mask, handle out, handle gamma, handle lam) {
  const auto arrays = {reward, value, next_value, terminated, truncated, mask};
  return checked("gae", reward, arrays, out, {gamma, lam}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const double g = in_unit(gamma), l = in_unit(lam);
    const bool after_last = is_row(next_value);
    require(!after_last || (truncated.is_none() && mask.is_none()));
    Gae<Real> op{matrix<Real>(reward, shape),
                 matrix<Real>(value, shape),
                 after_last ? row<Real>(next_value, shape) : matrix<Real>(next_value, shape),
                 flags(terminated, shape),
                 flags(truncated.is_none() ? terminated : truncated, shape),
                 Real(g),
                 Real(g * l)};
    const Call<Real> call{shape, flags_or_none(mask, shape)};
    Output<Real> y(out, shape, {arrays});
    call.run([&] {
      if (!after_last) return call.scan(table<Real>().gae, op, y.view, 0, shape.steps);
      call.scan(table<Real>().gae, op, y.view, shape.steps - 1, shape.steps);
      op.next_value = {op.value.data + op.value.t, op.value.t, op.value.b};
      call.scan(table<Real>().gae, op, y.view, 0, shape.steps - 1);
    });
    return y.finish();
  });
}

py::object td_lambda(handle reward, handle next_value, handle terminated, handle truncated, handle mask,
                     handle out, handle gamma, handle lam) {
  const auto arrays = {reward, next_value, terminated, truncated, mask};
  return checked("td_lambda", reward, arrays, out, {gamma, lam}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const auto run = [&](const auto& scan, auto g, auto l) {
      const TdLambda<Real, decltype(g)> op{matrix<Real>(reward, shape),
                                           matrix<Real>(next_value, shape),
                                           flags(terminated, shape),
                                           flags(truncated.is_none() ? terminated : truncated, shape),
                                           g,
                                           l};
      const Call<Real> call{shape, flags_or_none(mask, shape)};
      Output<Real> y(out, shape, {arrays, {gamma, lam}});
      call.run([&] { call.scan(scan, op, y.view, 0, shape.steps); });
      return y.finish();
    };
    if (!is_array(gamma) && !is_array(lam))
      return run(table<Real>().td_lambda, Constant<Real>{Real(in_unit(gamma))},
                 Constant<Real>{Real(in_unit(lam))});
    std::vector<Real> rows[2];
    const auto g = factors(gamma, shape, rows[0]), l = factors(lam, shape, rows[1]);
    return run(table<Real>().td_lambda_array, g, l);
  });
}

py::object discounted(handle reward, handle terminated, handle truncated, handle next_value, handle mask,
                      handle out, handle gamma) {
  const auto arrays = {reward, terminated, truncated, next_value, mask};
  return checked("discounted", reward, arrays, out, {gamma}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const bool after_last = is_row(next_value), none = next_value.is_none();
    require(!after_last || (truncated.is_none() && mask.is_none()));
    const auto rewards = matrix<Real>(reward, shape);
    const auto values = none         ? rewards
                        : after_last ? row<Real>(next_value, shape)
                                     : matrix<Real>(next_value, shape);
    const auto run = [&](const auto& plain, const auto& with_values, auto g) {
      const auto ended = flags(terminated, shape);
      const auto cut = flags(truncated.is_none() ? terminated : truncated, shape);
      const Discounted<Real, decltype(g), false> op{rewards, values, ended, cut, g};
      const Discounted<Real, decltype(g), true> valued{rewards, values, ended, cut, g};
      const Call<Real> call{shape, flags_or_none(mask, shape)};
      Output<Real> y(out, shape, {arrays, {gamma}});
      const int64_t middle = none ? shape.steps : after_last ? shape.steps - 1 : 0;
      call.run([&] {
        if (middle < shape.steps) call.scan(with_values, valued, y.view, middle, shape.steps);
        if (middle > 0) call.scan(plain, op, y.view, 0, middle);
      });
      return y.finish();
    };
    const auto& of = table<Real>();
    if (!is_array(gamma))
      return run(of.discounted, of.discounted_values, Constant<Real>{Real(in_unit(gamma))});
    return run(of.discounted_array, of.discounted_array_values, matrix<Real>(gamma, shape));
  });
}

py::object n_step(handle reward, handle next_value, handle terminated, handle truncated, handle mask,
                  handle out, handle gamma, handle n) {
  const auto arrays = {reward, next_value, terminated, truncated, mask};
  return checked("n_step", reward, arrays, out, {gamma, n}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const double g = in_unit(gamma);
    const int64_t window = std::min(at_least_one(n), std::max<int64_t>(shape.steps, 1));
    std::vector<Real> power(window + 1), scratch(window < shape.steps ? window * kNStepColumns : 0);
    double product = 1;
    for (Real& x : power) {
      x = Real(product);
      // an infinite reward stays infinite, however far away
      if (x == 0 && g > 0) x = std::numeric_limits<Real>::denorm_min();
      product *= g;
    }
    const NStep<Real> op{matrix<Real>(reward, shape),
                         matrix<Real>(next_value, shape),
                         flags(terminated, shape),
                         flags(truncated.is_none() ? terminated : truncated, shape),
                         power.data(),
                         scratch.data(),
                         window};
    const Call<Real> call{shape, flags_or_none(mask, shape)};
    Output<Real> y(out, shape, {arrays});
    call.run([&] { call.scan(table<Real>().n_step, op, y.view, 0, shape.steps); });
    return y.finish();
  });
}

py::object vtrace(handle log_rho, handle reward, handle value, handle next_value, handle terminated,
                  handle truncated, handle mask, handle out, handle gamma, handle lam, handle rho_bar,
                  handle c_bar, handle pg_rho_bar) {
  const auto arrays = {log_rho, reward, value, next_value, terminated, truncated, mask};
  const auto options = {gamma, lam, rho_bar, c_bar, pg_rho_bar};
  return checked("vtrace", log_rho, arrays, out, options, [&](auto real, Shape shape) -> py::object {
    using Real = decltype(real);
    const double g = in_unit(gamma), l = in_unit(lam);
    VTrace<Real> op{matrix<Real>(log_rho, shape),
                    matrix<Real>(reward, shape),
                    matrix<Real>(value, shape),
                    matrix<Real>(next_value, shape),
                    flags(terminated, shape),
                    flags(truncated.is_none() ? terminated : truncated, shape),
                    {nullptr, 0, 1},
                    Real(g),
                    Real(g * l),
                    Real(positive(rho_bar)),
                    Real(positive(c_bar)),
                    Real(positive(pg_rho_bar))};
    const Call<Real> call{shape, flags_or_none(mask, shape)};
    const auto [first, other] = pair_or_none(out);
    Output<Real> target(first, shape, {arrays}), advantage(other, shape, {arrays});
    if (!out.is_none()) require(!share_memory(first, other));
    op.pg_advantage = advantage.view;
    call.run([&] { call.scan(table<Real>().vtrace, op, target.view, 0, shape.steps); });
    return py::make_tuple(target.finish(), advantage.finish());
  });
}

py::object retrace(handle log_rho, handle reward, handle q, handle next_value, handle terminated,
                   handle truncated, handle mask, handle out, handle gamma, handle lam) {
  const auto arrays = {log_rho, reward, q, next_value, terminated, truncated, mask};
  return checked("retrace", log_rho, arrays, out, {gamma, lam}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const double g = in_unit(gamma), l = in_unit(lam);
    const Retrace<Real> op{matrix<Real>(log_rho, shape),
                           matrix<Real>(reward, shape),
                           matrix<Real>(q, shape),
                           matrix<Real>(next_value, shape),
                           flags(terminated, shape),
                           flags(truncated.is_none() ? terminated : truncated, shape),
                           Real(g),
                           Real(g * l)};
    const Call<Real> call{shape, flags_or_none(mask, shape)};
    Output<Real> y(out, shape, {arrays});
    call.run([&] { call.scan(table<Real>().retrace, op, y.view, 0, shape.steps); });
    return y.finish();
  });
}

py::object q_lambda(handle reward, handle next_value, handle greedy, handle terminated, handle truncated,
                    handle mask, handle out, handle gamma, handle lam) {
  const auto arrays = {reward, next_value, greedy, terminated, truncated, mask};
  return checked("q_lambda", reward, arrays, out, {gamma, lam}, [&](auto real, Shape shape) {
    using Real = decltype(real);
    const QLambda<Real> op{matrix<Real>(reward, shape),
                           matrix<Real>(next_value, shape),
                           flags(greedy, shape),
                           flags(terminated, shape),
                           flags(truncated.is_none() ? terminated : truncated, shape),
                           Real(in_unit(gamma)),
                           Real(in_unit(lam))};
    const Call<Real> call{shape, flags_or_none(mask, shape)};
    Output<Real> y(out, shape, {arrays});
    call.run([&] { call.scan(table<Real>().q_lambda, op, y.view, 0, shape.steps); });
    return y.finish();
  });
}

}  // namespace

void register_returns(py::module_& m) {
  m.def("gae", &gae);
  m.def("td_lambda", &td_lambda);
  m.def("discounted", &discounted);
  m.def("n_step", &n_step);
  m.def("vtrace", &vtrace);
  m.def("retrace", &retrace);
  m.def("q_lambda", &q_lambda);
}

}  // namespace fastrl
