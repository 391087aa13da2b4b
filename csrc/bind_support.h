// The atoms of value distributions, and numbers, out of arguments of Python.
#pragma once

#include <pybind11/numpy.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "array.h"
#include "distributional.h"

namespace fastrl {

inline double number(pybind11::handle x, const char* op, const char* name) {
  const bool plain = PyFloat_Check(x.ptr()) || PyLong_Check(x.ptr());
  if (!plain && !pybind11::isinstance(x, pybind11::module_::import("numpy").attr("number")))
    reject(op, name, "a number");
  const double value = PyFloat_AsDouble(x.ptr());
  if (!PyErr_Occurred()) return value;
  PyErr_Clear();
  reject(op, name, "a number");
}

inline bool flag(pybind11::handle x, const char* op, const char* name) {
  if (PyBool_Check(x.ptr())) return x.ptr() == Py_True;
  if (!pybind11::isinstance(x, pybind11::module_::import("numpy").attr("bool_")))
    reject(op, name, "True or False");
  return x.cast<bool>();
}

inline double finite(pybind11::handle x, const char* op, const char* name) {
  const double value = number(x, op, name);
  if (!std::isfinite(value)) reject(op, name, "finite");
  return value;
}

inline bool close_to_uniform(const std::vector<double>& z, double epsilon) {
  const double last = static_cast<double>(z.size() - 1), step = (z.back() - z.front()) / last;
  const double tolerance = 4 * epsilon * std::fmax(std::fabs(z.front()), std::fabs(z.back()));
  for (size_t i = 1; i + 1 < z.size(); ++i)
    if (!(std::fabs(z[i] - (z.front() + static_cast<double>(i) * step)) <= tolerance)) return false;
  return tolerance < 0.01 * step;
}

// The atoms of a support, an array or n from v_min to v_max. `exact` does not take atoms for evenly spaced
// that are only so but for float32's rounding.
class Support {
 public:
  Support(pybind11::handle support, pybind11::handle v_min, pybind11::handle v_max, pybind11::ssize_t n,
          const char* op, const char* name, bool exact = false) {
    if (support.is_none()) {
      const double low = finite(v_min, op, "v_min"), high = finite(v_max, op, "v_max");
      if (n < 2) reject(op, name, "of at least 2 atoms");
      if (n > int64_t{1} << 31) reject(op, name, "of at most 2^31 atoms");
      const double step = (high - low) / static_cast<double>(n - 1);
      z_.resize(static_cast<size_t>(n));
      for (pybind11::ssize_t i = 0; i < n; ++i)
        z_[static_cast<size_t>(i)] = low + static_cast<double>(i) * step;
      z_.back() = high;
      uniform_ = true;
    } else {
      if (!v_min.is_none() || !v_max.is_none()) reject(op, name, "given, or v_min and v_max, not both");
      if (pybind11::isinstance<pybind11::array_t<double>>(support))
        read<double>(support, op, name, true);
      else
        read<float>(support, op, name, exact);
      if (n >= 0 && static_cast<pybind11::ssize_t>(z_.size()) != n)
        reject(op, name, "of as many atoms as probs");
    }
    for (size_t i = 0; i < z_.size(); ++i)
      if (!std::isfinite(z_[i]) || (i > 0 && !(z_[i - 1] < z_[i]))) reject(op, name, "finite and increasing");
    if (z_.size() < 2) reject(op, name, "of at least 2 atoms");
  }

  Atoms atoms() const { return {z_.data(), static_cast<int64_t>(z_.size()), uniform_}; }

 private:
  template <class Real>
  void read(pybind11::handle support, const char* op, const char* name, bool exact) {
    const pybind11::array array = array_of<const Real>(support, op, name, 1);
    const auto x = view_of<const Real>(array);
    z_.resize(static_cast<size_t>(array.shape(0)));
    for (size_t i = 0; i < z_.size(); ++i) z_[i] = x.data[static_cast<int64_t>(i) * x.row];
    if (z_.size() > 1)
      uniform_ = close_to_uniform(
          z_, exact ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon());
  }

  std::vector<double> z_;
  bool uniform_ = false;
};

// -1 of None. bool, too, is an integer to Python.
inline pybind11::ssize_t atoms_of(pybind11::handle atoms, const char* op) {
  if (atoms.is_none()) return -1;
  if (PyBool_Check(atoms.ptr()) || !PyIndex_Check(atoms.ptr())) reject(op, "atoms", "an integer");
  const auto n = atoms.cast<pybind11::ssize_t>();
  if (n < 2) reject(op, "atoms", "at least 2");
  return n;
}

}  // namespace fastrl
