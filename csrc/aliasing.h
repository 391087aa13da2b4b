// Whether memory that is written to holds an element twice, or is also read: as kernels/_check.py has it.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <utility>

namespace fastrl {

// Of n x m elements, whose strides may be counted in bytes as well.
inline bool repeats_elements(int64_t n, int64_t stride_n, int64_t m, int64_t stride_m) {
  if (n == 0 || m == 0) return false;
  const int64_t i = std::abs(stride_n), j = std::abs(stride_m), common = std::gcd(i, j);
  if (common == 0) return n > 1 || m > 1;
  // two elements meet first where i * (j / common) = j * (i / common)
  return j / common < n && i / common < m;
}

// Whether the two may share memory: by the range of their addresses, as numpy.may_share_memory does.
inline bool share_memory(const pybind11::array& x, const pybind11::array& y) {
  const auto range = [](const pybind11::array& array) {
    auto low = reinterpret_cast<intptr_t>(array.data()), high = low + array.itemsize();
    for (pybind11::ssize_t axis = 0; axis < array.ndim(); ++axis) {
      const pybind11::ssize_t reach = (array.shape(axis) - 1) * array.strides(axis);
      (reach < 0 ? low : high) += reach;
    }
    return std::make_pair(low, high);
  };
  if (x.size() == 0 || y.size() == 0) return false;
  const auto a = range(x), b = range(y);
  return a.first < b.second && b.first < a.second;
}

}  // namespace fastrl
