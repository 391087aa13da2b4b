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

// Rows [first, last) of the output, filled from the last to the first. Row `last` holds what follows, unless
// `last` is `steps`: nothing follows the end.
struct Span {
  int64_t first, last, steps, batch;
};

template <class Real>
struct Gae {
  View<const Real> reward, value, next_value;
  View<const uint8_t> terminated, truncated;
  Real gamma, decay;  // decay = gamma * lambda
};

// `out` overlaps no input.
struct ReturnsTable {
  void (*gae_f32)(const Gae<float>&, const View<float>& out, const Span&);
  void (*gae_f64)(const Gae<double>&, const View<double>& out, const Span&);
};

const ReturnsTable& returns();

}  // namespace fastrl
