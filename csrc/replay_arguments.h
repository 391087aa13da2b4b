// Rows of named fields from and to Python: what bind_replay.cpp needs besides the ring. The usual arguments,
// arrays without gaps of the field's own dtype and Python's numbers, are taken as they are; whatever else
// goes by kernels/replay/_convert.py, which converts it or says what is wrong.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "recycled.h"

namespace fastrl {

namespace py = pybind11;

struct NamedField {
  py::str name;
  py::dtype dtype;
  char kind;                       // NumPy's
  int64_t itemsize, bytes;         // of an element, of a row
  std::vector<Py_intptr_t> shape;  // of a row
};

inline py::str interned(const char* name) {
  return py::reinterpret_steal<py::str>(PyUnicode_InternFromString(name));
}

// What numpy's scalars are, looked up once.
struct ScalarTypes {
  py::handle boolean, int32, int64, float32;
  static const ScalarTypes& get() {
    static const ScalarTypes types = [] {
      const auto numpy = py::module_::import("numpy");
      const auto type = [&](const char* name) { return py::object(numpy.attr(name)).release(); };
      return ScalarTypes{type("bool_"), type("int32"), type("int64"), type("float32")};
    }();
    return types;
  }
};

inline py::object converter(const char* name) {
  return py::module_::import("fastrl.kernels.replay._convert").attr(name);
}

inline std::string described(py::handle x) {
  return py::str(py::module_::import("fastrl.kernels._check").attr("describe")(x));
}

// An integer from Python, in [low, end).
inline int64_t integer(const char* op, const char* name, py::handle x, int64_t low, int64_t end) {
  int overflow = 0;
  int64_t value = 0;
  if (PyLong_CheckExact(x.ptr())) {
    value = PyLong_AsLongLongAndOverflow(x.ptr(), &overflow);
  } else {
    const auto index =
        py::reinterpret_steal<py::object>(PyIndex_Check(x.ptr()) ? PyNumber_Index(x.ptr()) : nullptr);
    if (!index) {
      PyErr_Clear();
      throw py::type_error(std::string(op) + ": " + name + " must be an integer, got " + described(x));
    }
    value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  }
  if (overflow == 0 && value >= low && value < end) return value;
  throw py::value_error(std::string(op) + ": " + name + " must be in [" + std::to_string(low) + ", " +
                        (end == int64_t{1} << 31 ? "2^31" : std::to_string(end)) + "), got " +
                        std::string(py::str(x)));
}

// beta of a draw.
inline double exponent(const char* op, py::handle x) {
  const double beta = PyFloat_AsDouble(x.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::type_error(std::string(op) + ": beta must be a number, got " + described(x));
  }
  if (!(beta >= 0) || beta > std::numeric_limits<double>::max())
    throw py::value_error(std::string(op) + ": beta must be finite and >= 0, got " + std::string(py::str(x)));
  return beta;
}

// "float32 [n, 4, 84]"
inline std::string wanted(const NamedField& field, const std::string& rows) {
  std::string text = std::string(py::str(field.dtype)) + " [" + rows;
  for (const Py_intptr_t extent : field.shape) text += ", " + std::to_string(extent);
  return text + "]";
}

template <class Integer>
bool put_integer(int64_t value, char* to) {
  if (value < static_cast<int64_t>(std::numeric_limits<Integer>::min())) return false;
  if (value > 0 && static_cast<uint64_t>(value) > static_cast<uint64_t>(std::numeric_limits<Integer>::max()))
    return false;
  const auto element = static_cast<Integer>(value);
  std::memcpy(to, &element, sizeof element);
  return true;
}

inline bool put_real(const NamedField& field, double value, char* to) {
  if (field.itemsize == 8) {
    std::memcpy(to, &value, sizeof value);
    return true;
  }
  const auto single = static_cast<float>(value);
  std::memcpy(to, &single, sizeof single);
  return field.itemsize == 4;
}

// Writes a number as the field's dtype; false: not a number that this does.
inline bool put_number(const NamedField& field, PyObject* x, char* to) {
  const ScalarTypes& types = ScalarTypes::get();
  const py::handle type(reinterpret_cast<PyObject*>(Py_TYPE(x)));
  if (PyFloat_Check(x)) return field.kind == 'f' && put_real(field, PyFloat_AS_DOUBLE(x), to);
  if (type.is(types.float32)) return field.kind == 'f' && put_real(field, PyFloat_AsDouble(x), to);
  int64_t value;
  if (type.is(types.boolean)) {
    value = PyObject_IsTrue(x);
  } else if (PyLong_Check(x) || type.is(types.int64) || type.is(types.int32)) {
    int overflow = 0;
    const auto index = py::reinterpret_steal<py::object>(PyNumber_Index(x));
    value = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) return false;
  } else {
    return false;
  }
  if (field.kind == 'f') return put_real(field, static_cast<double>(value), to);
  if (field.kind == 'b') {
    *to = static_cast<char>(value);
    return value == 0 || value == 1;
  }
  const bool is_signed = field.kind == 'i';
  if (!is_signed && field.kind != 'u') return false;
  switch (field.itemsize) {
    case 1:
      return is_signed ? put_integer<int8_t>(value, to) : put_integer<uint8_t>(value, to);
    case 2:
      return is_signed ? put_integer<int16_t>(value, to) : put_integer<uint16_t>(value, to);
    case 4:
      return is_signed ? put_integer<int32_t>(value, to) : put_integer<uint32_t>(value, to);
    default:
      return is_signed ? put_integer<int64_t>(value, to) : put_integer<uint64_t>(value, to);
  }
}

// An array without gaps of this very dtype.
inline bool is_plain(py::handle x, const py::dtype& dtype, bool aligned = false) {
  if (!py::isinstance<py::array>(x)) return false;
  const auto* array = py::detail::array_proxy(x.ptr());
  const int wanted = py::array::c_style | (aligned ? int{py::detail::npy_api::NPY_ARRAY_ALIGNED_} : 0);
  if ((array->flags & wanted) != wanted) return false;
  return array->descr == dtype.ptr() ||  // that of an unpickled array is a copy
         py::detail::npy_api::get().PyArray_EquivTypes_(array->descr, dtype.ptr());
}

// The values of one argument, alive as long as this.
struct Values {
  const char* data = nullptr;
  int64_t rows = 0;
  bool leading = false;  // has an axis of rows
  py::object owner;
  char number[8];
};

// What `x` holds of this field. Flat: any shape of so many elements, else [n, *shape] or [*shape].
inline void read_values(const char* op, const NamedField& field, py::handle x, bool flat, Values& values) {
  const int64_t elements = field.bytes / field.itemsize;
  if ((field.shape.empty() || (flat && elements == 1)) && put_number(field, x.ptr(), values.number)) {
    values.data = values.number;
    values.rows = 1;
    return;
  }
  values.owner = is_plain(x, field.dtype) ? py::reinterpret_borrow<py::object>(x)
                                          : converter("rows")(op, field.name, x, field.dtype);
  const auto* array = py::detail::array_proxy(values.owner.ptr());
  const auto axes = static_cast<size_t>(array->nd), row_axes = field.shape.size();
  values.data = array->data;
  if (flat) {
    int64_t size = 1;
    for (size_t i = 0; i < axes; ++i) size *= array->dimensions[i];
    values.rows = elements == 0 ? 0 : size / elements;
    values.leading = axes > row_axes;
    if (elements != 0 && size % elements == 0) return;
  } else if (axes == row_axes || axes == row_axes + 1) {
    values.leading = axes > row_axes;
    values.rows = values.leading ? array->dimensions[0] : 1;
    if (std::equal(field.shape.begin(), field.shape.end(), array->dimensions + (values.leading ? 1 : 0)))
      return;
  }
  throw py::value_error(std::string(op) + ": " + std::string(field.name) + " must be " + wanted(field, "n") +
                        " or one row, got " + described(values.owner));
}

// An array of n rows for a batch: new, or the caller's.
inline py::object new_rows(const NamedField& field, int64_t n) {
  Py_intptr_t shape[33] = {static_cast<Py_intptr_t>(n)};
  std::copy(field.shape.begin(), field.shape.end(), shape + 1);
  const auto& numpy = py::detail::npy_api::get();
  if (field.bytes > 0 && n > std::numeric_limits<int64_t>::max() / field.bytes) throw std::bad_alloc();
  const auto bytes = static_cast<size_t>(n * field.bytes);
  const auto array_on = [&](void* memory, int flags) {
    Py_INCREF(field.dtype.ptr());  // stolen
    auto array = py::reinterpret_steal<py::object>(numpy.PyArray_NewFromDescr_(
        numpy.PyArray_Type_, field.dtype.ptr(), static_cast<int>(field.shape.size() + 1), shape, nullptr,
        memory, flags, nullptr));
    if (!array) throw py::error_already_set();
    return array;
  };
  if (bytes < Recycled::kLeast) return array_on(nullptr, 0);
  struct Owned {
    void* memory;
    size_t bytes;
    ~Owned() { Recycled::instance().give(memory, bytes); }
  };
  auto* const owned = new Owned{Recycled::instance().take(bytes), bytes};
  const py::capsule owner(owned, [](void* x) { delete static_cast<Owned*>(x); });
  using Api = py::detail::npy_api;
  auto array = array_on(owned->memory,
                        Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_ | Api::NPY_ARRAY_WRITEABLE_);
  if (numpy.PyArray_SetBaseObject_(array.ptr(), owner.inc_ref().ptr()) != 0) throw py::error_already_set();
  return array;
}

inline py::object callers_rows(const char* op, const NamedField& field, py::handle x, int64_t n) {
  py::object array = py::isinstance<py::array>(x) ? py::reinterpret_borrow<py::object>(x)
                                                  : converter("view_of_tensor")(op, field.name, x);
  const auto* proxy = py::detail::array_proxy(array.ptr());
  const bool fits = is_plain(array, field.dtype, true) &&
                    static_cast<size_t>(proxy->nd) == field.shape.size() + 1 && proxy->dimensions[0] == n &&
                    std::equal(field.shape.begin(), field.shape.end(), proxy->dimensions + 1);
  if (!fits || !py::reinterpret_borrow<py::array>(array).writeable())
    throw py::value_error(std::string(op) + ": out[" + std::string(py::repr(field.name)) +
                          "] must be a C-contiguous, aligned, writeable " + wanted(field, std::to_string(n)) +
                          (fits ? ", got a read-only array" : ", got " + described(x)));
  return array;
}

}  // namespace fastrl
