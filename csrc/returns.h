// Returns of the form y_t = a_t + b_t * y_{t+1}, over arrays [T, B].
#pragma once

#include <cstdint>

namespace fastrl {

// An array [T, B]. Strides count elements and may have any sign; an input's may be 0 (a repeated row or
// column).
template <class T>
struct View {
  T* data;
  int64_t t, b;
};

// The same number everywhere, where an op could also read an array.
template <class Real>
struct Constant {
  Real value;
};

// Rows [first, last) of the output, filled from the last to the first. Row `last` holds what follows, unless
// `last` is `steps`: nothing follows the end.
struct Span {
  int64_t first, last, steps, batch;
};

// The ops: what each reads. `each` hands every array to f.
template <class Real>
struct Gae {
  View<const Real> reward, value, next_value;
  View<const uint8_t> terminated, truncated;
  Real gamma, decay;  // decay = gamma * lambda

  template <class F>
  void each(F f) const {
    f(reward), f(value), f(next_value), f(terminated), f(truncated);
  }
};

// Factor is Constant<Real> or View<const Real>, for gamma and lambda.
template <class Real, class Factor>
struct TdLambda {
  View<const Real> reward, next_value;
  View<const uint8_t> terminated, truncated;
  Factor gamma, lam;

  template <class F>
  void each(F f) const {
    f(reward), f(next_value), f(terminated), f(truncated), f(gamma), f(lam);
  }
};

// With next_value: what follows an end that is no termination. Without: nothing follows one.
template <class Real, class Factor, bool kValues>
struct Discounted {
  View<const Real> reward, next_value;
  View<const uint8_t> terminated, truncated;
  Factor gamma;

  template <class F>
  void each(F f) const {
    f(reward), f(terminated), f(truncated), f(gamma);
    if constexpr (kValues) f(next_value);
  }
};

// With `ratios`, log_rho holds their exp already.
template <class Real, bool ratios = false>
struct VTrace {
  static constexpr bool kRatios = ratios;
  View<const Real> log_rho, reward, value, next_value;
  View<const uint8_t> terminated, truncated;
  View<Real> pg_advantage;  // a second output
  Real gamma, decay, rho_bar, c_bar, pg_rho_bar;

  template <class F>
  void each(F f) const {
    f(log_rho), f(reward), f(value), f(next_value), f(terminated), f(truncated);
  }
};

template <class Real, bool ratios = false>
struct Retrace {
  static constexpr bool kRatios = ratios;
  View<const Real> log_rho, reward, q, next_value;
  View<const uint8_t> terminated, truncated;
  Real gamma, decay;

  template <class F>
  void each(F f) const {
    f(log_rho), f(reward), f(q), f(next_value), f(terminated), f(truncated);
  }
};

template <class Real>
struct QLambda {
  View<const Real> reward, next_value;
  View<const uint8_t> greedy, terminated, truncated;
  Real gamma, lam;

  template <class F>
  void each(F f) const {
    f(reward), f(next_value), f(greedy), f(terminated), f(truncated);
  }
};

template <class Real>
struct NStep {
  View<const Real> reward, next_value;
  View<const uint8_t> terminated, truncated;
  const Real* power;  // [n + 1]: powers of gamma, above 0 if gamma is
  Real* scratch;      // [n, kNStepColumns]
  int64_t n;          // at most T

  template <class F>
  void each(F f) const {
    f(reward), f(next_value), f(terminated), f(truncated);
  }
};
constexpr int64_t kNStepColumns = 16;

// An op over padded sequences: a step that is not valid gives 0, and the step before it is a last one.
template <class Op>
struct Masked {
  Op op;
  View<const uint8_t> valid;

  template <class F>
  void each(F f) const {
    op.each(f), f(valid);
  }
};

template <class Op, class Real>
struct Scans {
  void (*plain)(const Op&, const View<Real>& out, const Span&);
  void (*masked)(const Masked<Op>&, const View<Real>& out, const Span&);
};

// Outputs overlap neither an input nor each other.
template <class Real>
struct ReturnsOf {
  template <class Op>
  using Scan = Scans<Op, Real>;
  using Array = View<const Real>;

  Scan<Gae<Real>> gae;
  Scan<TdLambda<Real, Constant<Real>>> td_lambda;
  Scan<TdLambda<Real, Array>> td_lambda_array;
  Scan<Discounted<Real, Constant<Real>, false>> discounted;
  Scan<Discounted<Real, Constant<Real>, true>> discounted_values;
  Scan<Discounted<Real, Array, false>> discounted_array;
  Scan<Discounted<Real, Array, true>> discounted_array_values;
  Scan<VTrace<Real>> vtrace;
  Scan<Retrace<Real>> retrace;
  Scan<QLambda<Real>> q_lambda;
  Scan<NStep<Real>> n_step;  // the span is everything
};

struct ReturnsTable {
  ReturnsOf<float> f32;
  ReturnsOf<double> f64;
};

const ReturnsTable& returns();

}  // namespace fastrl
