// NumPy arguments without pybind11's conversions, which cost 100 ns an array: a handle is checked and becomes
// a view. The public functions check with better messages; these keep a direct call from touching foreign
// memory.
#pragma once

#include <pybind11/numpy.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "strided.h"

namespace fastrl {

[[noreturn]] inline void reject(const char* op, const char* name, const char* rule) {
  throw std::invalid_argument(std::string(op) + ": " + name + " must be " + rule);
}

// The array behind `x`, of dtype T (uint8_t stands for bool, a mask) and with as many axes as wanted.
template <class T>
pybind11::array array_of(pybind11::handle x, const char* op, const char* name, int ndim) {
  namespace py = pybind11;
  using Element = std::conditional_t<std::is_same_v<T, const uint8_t>, bool, std::remove_const_t<T>>;
  if (!py::isinstance<py::array>(x)) reject(op, name, "a NumPy array");
  auto array = py::reinterpret_borrow<py::array>(x);
  const py::dtype dtype = array.dtype();
  if (dtype.normalized_num() != py::dtype::num_of<Element>() || dtype.byteorder() == '>')
    reject(op, name, "of the dtype its docstring says");
  if (array.ndim() != ndim) reject(op, name, "of the number of axes its docstring says");
  if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) reject(op, name, "aligned in memory");
  if (!std::is_const_v<T> && !array.writeable()) reject(op, name, "writeable");
  return array;
}

template <class T>
Strided<T> view_of(const pybind11::array& array) {
  constexpr int64_t size = sizeof(T);
  return {static_cast<T*>(const_cast<void*>(array.data())), array.strides(0) / size,
          array.ndim() > 1 ? array.strides(1) / size : 0};
}

// The view of `x` after checking dtype and shape; of None, if that is allowed, the view that stands for
// nothing.
template <class T>
Strided<T> view(pybind11::handle x, const char* op, const char* name,
                std::initializer_list<pybind11::ssize_t> shape, bool optional = false) {
  if (optional && x.is_none()) return {nullptr, 0, 0};
  const pybind11::array array = array_of<T>(x, op, name, static_cast<int>(shape.size()));
  int axis = 0;
  for (const pybind11::ssize_t length : shape)
    if (array.shape(axis++) != length) reject(op, name, "of a shape that fits the other arguments");
  return view_of<T>(array);
}

}  // namespace fastrl
