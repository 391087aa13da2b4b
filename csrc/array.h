// NumPy arguments without pybind11's conversions, which cost 100 ns an array: a handle is checked and becomes
// a view. The public functions check with better messages; these keep a direct call from touching foreign
// memory.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "strided.h"

namespace fastrl {

[[noreturn]] inline void reject(const char* op, const char* name, const char* rule) {
  throw std::invalid_argument(std::string(op) + ": " + name + " must be " + rule);
}

inline bool is_aligned(const pybind11::array& array) {
  return (array.flags() & pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
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
  if (!is_aligned(array)) reject(op, name, "aligned in memory");
  if (!std::is_const_v<T> && !array.writeable()) reject(op, name, "writeable");
  return array;
}

inline std::string shown(const pybind11::ssize_t* shape, size_t axes) {
  std::string text;
  for (size_t i = 0; i < axes; ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return "[" + text + "]";
}

// As many axes as `shape` has are checked already.
inline void require_shape(const pybind11::array& array, const char* op, const char* name,
                          std::initializer_list<pybind11::ssize_t> shape) {
  if (std::equal(shape.begin(), shape.end(), array.shape())) return;
  const std::string rule = shown(shape.begin(), shape.size()) + ", got ";
  reject(op, name, (rule + shown(array.shape(), shape.size())).c_str());
}

// The elements of an array of this shape and without gaps.
template <class T>
T* data_of(pybind11::handle x, const char* op, const char* name,
           std::initializer_list<pybind11::ssize_t> shape) {
  const pybind11::array array = array_of<T>(x, op, name, static_cast<int>(shape.size()));
  require_shape(array, op, name, shape);
  if ((array.flags() & pybind11::array::c_style) == 0) reject(op, name, "C-contiguous");
  return static_cast<T*>(const_cast<void*>(array.data()));
}

// The elements of rows without gaps, and how many rows there are.
template <class T>
std::pair<T*, int64_t> rows_of(pybind11::handle x, const char* op, const char* name,
                               pybind11::ssize_t columns) {
  const pybind11::ssize_t rows = array_of<T>(x, op, name, 2).shape(0);
  return {data_of<T>(x, op, name, {rows, columns}), rows};
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
  require_shape(array, op, name, shape);
  return view_of<T>(array);
}

}  // namespace fastrl
