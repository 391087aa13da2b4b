#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "dispatch.h"
#include "returns.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(ReturnsTable, returns)

namespace {

constexpr int64_t kReleaseGil = 8192;  // elements: some microseconds of work

struct Shape {
  int64_t steps, batch;
};

template <class Error>
[[noreturn]] void fail(const char* op, const char* name, const char* fact) {
  throw Error((std::string(op) + ": " + name + " " + fact).c_str());
}

// The view of an array [T, B], or of [B] as that row at every step. The public functions check before, with
// better messages (all but alignment); here it keeps any other caller inside the arrays.
template <class T, class Stored = T>
View<const Stored> input(const char* op, const char* name, py::handle x, Shape shape) {
  if (!py::isinstance<py::array_t<T>>(x))
    fail<py::type_error>(op, name, "must be an array of the op's dtype");
  const auto array = py::reinterpret_borrow<py::array>(x);
  const auto ndim = array.ndim();
  if (ndim < 1 || ndim > 2 || array.shape(ndim - 1) != shape.batch ||
      array.shape(0) != (ndim == 2 ? shape.steps : shape.batch))
    fail<py::value_error>(op, name, "must have the op's shape");
  if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0)
    fail<py::value_error>(op, name, "must be aligned to its dtype, pass a copy");
  constexpr int64_t kItem = sizeof(T);
  return {static_cast<const Stored*>(array.data()), ndim == 2 ? array.strides(0) / kItem : 0,
          array.strides(ndim - 1) / kItem};
}

template <class T>
View<T> output(const char* op, py::handle x, Shape shape) {
  const auto view = input<T>(op, "out", x, shape);
  if (!py::reinterpret_borrow<py::array>(x).writeable())
    fail<py::value_error>(op, "out", "must be writeable");
  if ((shape.steps > 1 && view.t == 0) || (shape.batch > 1 && view.b == 0))
    fail<py::value_error>(op, "out", "must not repeat elements");
  return {const_cast<T*>(view.data), view.t, view.b};
}

// Whether the two may share memory: by the range of their addresses, as numpy.may_share_memory does.
template <class T, class U>
bool overlap(const View<T>& x, const View<U>& y, Shape shape) {
  const auto range = [&](const auto& view) {
    const int64_t t = view.t * (shape.steps - 1), b = view.b * (shape.batch - 1);
    const auto low = view.data + (t < 0 ? t : 0) + (b < 0 ? b : 0),
               high = view.data + (t > 0 ? t : 0) + (b > 0 ? b : 0);
    return std::make_pair(reinterpret_cast<uintptr_t>(low), reinterpret_cast<uintptr_t>(high + 1));
  };
  const auto [x_low, x_high] = range(x);
  const auto [y_low, y_high] = range(y);
  return x_low < y_high && y_low < x_high;
}

template <class Real>
void gae(py::handle reward, py::handle value, py::handle next_value, py::handle terminated,
         py::handle truncated, py::handle out, double gamma, double lam, Shape shape,
         void (*scan)(const Gae<Real>&, const View<Real>&, const Span&)) {
  Gae<Real> op{input<Real>("gae", "reward", reward, shape),
               input<Real>("gae", "value", value, shape),
               input<Real>("gae", "next_value", next_value, shape),
               input<bool, uint8_t>("gae", "terminated", terminated, shape),
               input<bool, uint8_t>("gae", "truncated", truncated.is_none() ? terminated : truncated, shape),
               Real(gamma),
               Real(gamma * lam)};
  auto y = output<Real>("gae", out, shape);
  if (shape.steps == 0 || shape.batch == 0) return;

  py::object apart;  // a result that must not overwrite inputs still to be read
  if (overlap(y, op.reward, shape) || overlap(y, op.value, shape) || overlap(y, op.next_value, shape) ||
      overlap(y, op.terminated, shape) || overlap(y, op.truncated, shape)) {
    apart = py::array_t<Real>({shape.steps, shape.batch});
    y = output<Real>("gae", apart, shape);
  }
  const bool after_last = py::reinterpret_borrow<py::array>(next_value).ndim() == 1;
  const auto run = [&] {
    Span span{0, shape.steps, shape.steps, shape.batch};
    if (after_last) {
      span.first = shape.steps - 1;
      scan(op, y, span);
      span = {0, shape.steps - 1, shape.steps, shape.batch};
      op.next_value = {op.value.data + op.value.t, op.value.t, op.value.b};
    }
    scan(op, y, span);
  };
  if (shape.steps * shape.batch < kReleaseGil) {
    run();
  } else {
    py::gil_scoped_release release;
    run();
  }
  if (apart) out.attr("__setitem__")(py::ellipsis(), apart);
}

}  // namespace

void register_returns(py::module_& m) {
  m.def("gae", [](py::handle reward, py::handle value, py::handle next_value, py::handle terminated,
                  py::handle truncated, py::handle out, double gamma, double lam) {
    if (!py::isinstance<py::array>(out) || py::reinterpret_borrow<py::array>(out).ndim() != 2)
      fail<py::type_error>("gae", "out", "must be an array [T, B]");
    const auto array = py::reinterpret_borrow<py::array>(out);
    const Shape shape{array.shape(0), array.shape(1)};
    if (py::isinstance<py::array_t<float>>(out))
      gae<float>(reward, value, next_value, terminated, truncated, out, gamma, lam, shape, returns().gae_f32);
    else
      gae<double>(reward, value, next_value, terminated, truncated, out, gamma, lam, shape,
                  returns().gae_f64);
  });
}

}  // namespace fastrl
