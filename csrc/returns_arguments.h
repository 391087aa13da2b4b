// The returns family's arguments as NumPy arrays and numbers. What will not do throws Refused; the family's
// checks in Python then say what is wrong: they take as long as a small kernel, so they run only then.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "aliasing.h"
#include "returns.h"

namespace fastrl {

namespace {

namespace py = pybind11;

constexpr int64_t kReleaseGil = 8192;  // elements: some microseconds of work

struct Shape {
  int64_t steps, batch;
};

struct Refused {};

using Handles = std::initializer_list<py::handle>;

void require(bool condition) {
  if (!condition) throw Refused();
}

bool is_array(py::handle x) {
  return py::isinstance<py::array>(x) && py::reinterpret_borrow<py::array>(x).ndim() > 0;
}

bool is_row(py::handle x) { return is_array(x) && py::reinterpret_borrow<py::array>(x).ndim() == 1; }

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

View<const uint8_t> flags(py::handle x, Shape shape) { return matrix<bool, uint8_t>(x, shape); }

std::optional<View<const uint8_t>> flags_or_none(py::handle x, Shape shape) {
  if (x.is_none()) return std::nullopt;
  return flags(x, shape);
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
  require(!repeats_elements(shape.steps, view.t, shape.batch, view.b));
  return {const_cast<T*>(view.data), view.t, view.b};
}

// NaN where it is no number.
double number(py::handle x) {
  const double value = PyFloat_AsDouble(x.ptr());
  if (!PyErr_Occurred()) return value;
  PyErr_Clear();
  throw Refused();
}

double in_unit(py::handle x) {
  const double value = number(x);
  require(value >= 0 && value <= 1);
  return value;
}

double positive(py::handle x) {
  const double value = number(x);
  require(value > 0);
  return value;
}

int64_t at_least_one(py::handle x) {
  require(!py::isinstance<py::array>(x));
  const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(x.ptr()));
  int overflow = 0;
  const int64_t value = index ? PyLong_AsLongLongAndOverflow(index.ptr(), &overflow) : -1;
  if (PyErr_Occurred()) PyErr_Clear();
  require(value >= 1 || overflow > 0);
  return overflow > 0 ? std::numeric_limits<int64_t>::max() : value;
}

// An array [T, B], or a number as one; `memory` keeps it.
template <class Real>
View<const Real> factors(py::handle x, Shape shape, std::vector<Real>& memory) {
  if (is_array(x)) return matrix<Real>(x, shape);
  memory.assign(shape.batch, Real(in_unit(x)));
  return {memory.data(), 0, 1};
}

std::pair<py::object, py::object> pair_or_none(py::handle x) {
  if (x.is_none()) return {py::none(), py::none()};
  require(py::isinstance<py::tuple>(x) || py::isinstance<py::list>(x));
  const auto pair = py::reinterpret_borrow<py::sequence>(x);
  require(pair.size() == 2);
  return {pair[0], pair[1]};
}

// What the ops of a call share.
template <class Real>
struct Call {
  Shape shape;
  std::optional<View<const uint8_t>> valid;

  template <class Op>
  void scan(const Scans<Op, Real>& scans, const Op& op, const View<Real>& out, int64_t first,
            int64_t last) const {
    const Span span{first, last, shape.steps, shape.batch};
    if (valid) return scans.masked({op, *valid}, out, span);
    scans.plain(op, out, span);
  }

  template <class Run>
  void run(Run run) const {
    if (shape.steps == 0 || shape.batch == 0) return;
    if (shape.steps * shape.batch < kReleaseGil) return run();
    py::gil_scoped_release release;
    run();
  }
};

// `out`, or a new array. Where it shares memory with an input still to be read, the result is written apart
// and copied.
template <class Real>
class Output {
 public:
  View<Real> view;

  // `inputs` may hold numbers and None as well.
  Output(py::handle out, Shape shape, std::initializer_list<Handles> inputs)
      : result_(out.is_none() ? py::object(py::array_t<Real>({shape.steps, shape.batch}))
                              : py::reinterpret_borrow<py::object>(out)) {
    view = output<Real>(result_, shape);
    if (out.is_none()) return;
    bool shares = false;
    for (const Handles list : inputs)
      for (const py::handle x : list)
        shares |= is_array(x) && share_memory(result_, py::reinterpret_borrow<py::array>(x));
    if (!shares) return;
    apart_ = py::array_t<Real>({shape.steps, shape.batch});
    view = output<Real>(apart_, shape);
  }

  py::object finish() {
    if (apart_) result_[py::ellipsis()] = apart_;
    return result_;
  }

 private:
  py::object result_, apart_;
};

// run(Real(), shape) for the dtype and shape of `first`; a refusal becomes the message of the checks in
// Python.
template <class Run>
py::object checked(const char* op, py::handle first, Handles arrays, py::handle out, Handles options,
                   Run run) {
  const auto shape_of = [](const py::array& array) {
    require(array.ndim() == 2);
    return Shape{array.shape(0), array.shape(1)};
  };
  try {
    if (py::isinstance<py::array_t<double>>(first)) return run(double(), shape_of(array_of<double>(first)));
    return run(float(), shape_of(array_of<float>(first)));
  } catch (const Refused&) {
    const auto list = [](Handles handles) {
      py::list items;
      for (const py::handle x : handles) items.append(x);
      return items;
    };
    py::module_::import("fastrl.kernels.returns._check")
        .attr("require")(op, list(arrays), out, list(options));
    throw py::value_error(std::string(op) + ": refused its arguments");
  }
}

}  // namespace

}  // namespace fastrl
