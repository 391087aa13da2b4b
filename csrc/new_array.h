// NumPy arrays made by the C API, as pybind11's constructors would cost more than a small step.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>

namespace fastrl {

// A new array [rows] or [rows, columns], not written; null with an exception set.
template <class Element>
PyObject* new_array(int64_t rows, int64_t columns = 0) {
  const auto& numpy = pybind11::detail::npy_api::get();
  Py_intptr_t shape[] = {static_cast<Py_intptr_t>(rows), static_cast<Py_intptr_t>(columns)};
  return numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, pybind11::dtype::of<Element>().release().ptr(),
                                     columns == 0 ? 1 : 2, shape, nullptr, nullptr, 0, nullptr);
}

inline void* contents(PyObject* array) { return pybind11::detail::array_proxy(array)->data; }

}  // namespace fastrl
