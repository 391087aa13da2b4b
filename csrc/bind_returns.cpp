#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>

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

// Thrown where an argument will not do. The family's checks in Python then say what is wrong: they take as
// long as a small kernel, so they run only then.
struct Refused {};

void require(bool condition) {
  if (!condition) throw Refused();
}

template <class T>
py::array array_of(py::handle x) {
  require(py::isinstance<py::array_t<T>>(x));
  auto array = py::reinterpret_borrow<py::array>(x);
  require(array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_);
  return array;
}

template <class T, class Stored = T>
View<const Stored> matrix(py::handle x, Shape shape) {
  const auto array = array_of<T>(x);
  require(array.ndim() == 2 && array.shape(0) == shape.steps && array.shape(1) == shape.batch);
  constexpr int64_t kItem = sizeof(T);
  return {static_cast<const Stored*>(array.data()), array.strides(0) / kItem, array.strides(1) / kItem};
}

// An array [B] as the same row at every step.
template <class T>
View<const T> row(py::handle x, Shape shape) {
  const auto array = array_of<T>(x);
  require(array.ndim() == 1 && array.shape(0) == shape.batch);
  return {static_cast<const T*>(array.data()), 0, array.strides(0) / int64_t(sizeof(T))};
}

template <class T>
View<T> output(py::handle x, Shape shape) {
  const auto view = matrix<T>(x, shape);
  require(py::reinterpret_borrow<py::array>(x).writeable());
  require((shape.steps <= 1 || shape.batch == 0 || view.t != 0) &&
          (shape.batch <= 1 || shape.steps == 0 || view.b != 0));
  return {const_cast<T*>(view.data), view.t, view.b};
}

double in_unit(py::handle x) {
  const double value = PyFloat_AsDouble(x.ptr());
  if (PyErr_Occurred()) PyErr_Clear();  // and value is -1
  require(value >= 0 && value <= 1);
  return value;
}

// Whether the two may share memory: by the range of their addresses, as numpy.may_share_memory does.
template <class T, class U>
bool overlap(const View<T>& x, const View<U>& y, Shape shape) {
  const auto low = [&](const auto& view) {
    return reinterpret_cast<uintptr_t>(view.data + std::min<int64_t>(view.t, 0) * (shape.steps - 1) +
                                       std::min<int64_t>(view.b, 0) * (shape.batch - 1));
  };
  const auto high = [&](const auto& view) {
    return reinterpret_cast<uintptr_t>(view.data + std::max<int64_t>(view.t, 0) * (shape.steps - 1) +
                                       std::max<int64_t>(view.b, 0) * (shape.batch - 1) + 1);
  };
  return low(x) < high(y) && low(y) < high(x);
}

template <class Real, class Scan>
py::object gae_of(py::handle reward, py::handle value, py::handle next_value, py::handle terminated,
                  py::handle truncated, py::handle out, double gamma, double lam, Scan scan) {
  const auto first = array_of<Real>(reward);
  require(first.ndim() == 2);
  const Shape shape{first.shape(0), first.shape(1)};
  const bool after_last =
      py::isinstance<py::array>(next_value) && py::reinterpret_borrow<py::array>(next_value).ndim() == 1;
  require(!after_last || truncated.is_none());
  Gae<Real> op{matrix<Real>(reward, shape),
               matrix<Real>(value, shape),
               after_last ? row<Real>(next_value, shape) : matrix<Real>(next_value, shape),
               matrix<bool, uint8_t>(terminated, shape),
               matrix<bool, uint8_t>(truncated.is_none() ? terminated : truncated, shape),
               Real(gamma),
               Real(gamma * lam)};
  auto result = out.is_none() ? py::object(py::array_t<Real>({shape.steps, shape.batch}))
                              : py::reinterpret_borrow<py::object>(out);
  auto y = output<Real>(result, shape);
  if (shape.steps == 0 || shape.batch == 0) return result;

  py::object apart;  // a result that must not overwrite inputs still to be read
  if (overlap(y, op.reward, shape) || overlap(y, op.value, shape) || overlap(y, op.next_value, shape) ||
      overlap(y, op.terminated, shape) || overlap(y, op.truncated, shape)) {
    apart = py::array_t<Real>({shape.steps, shape.batch});
    y = output<Real>(apart, shape);
  }
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
  if (apart) result[py::ellipsis()] = apart;
  return result;
}

py::object gae(py::handle reward, py::handle value, py::handle next_value, py::handle terminated,
               py::handle truncated, py::handle out, py::handle gamma, py::handle lam) {
  try {
    const double g = in_unit(gamma), l = in_unit(lam);
    if (py::isinstance<py::array_t<double>>(reward))
      return gae_of<double>(reward, value, next_value, terminated, truncated, out, g, l, returns().gae_f64);
    return gae_of<float>(reward, value, next_value, terminated, truncated, out, g, l, returns().gae_f32);
  } catch (const Refused&) {
    py::module_::import("fastrl.kernels.returns._check")
        .attr("require_gae")(reward, value, next_value, terminated, truncated, out, gamma, lam);
    throw py::value_error("gae: refused its arguments");
  }
}

}  // namespace

void register_returns(py::module_& m) { m.def("gae", &gae); }

}  // namespace fastrl
