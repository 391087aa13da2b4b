// Row numbers from Python, and columns of a saved state.
#pragma once

#include <algorithm>
#include <string>

#include "new_array.h"
#include "replay_arguments.h"

namespace fastrl {

struct Rows {
  Rows(const char* op, py::handle indexes) {
    const bool plain =
        is_plain(indexes, py::dtype::of<int64_t>(), true) && py::detail::array_proxy(indexes.ptr())->nd == 1;
    array = plain ? py::reinterpret_borrow<py::object>(indexes) : converter("indexes")(op, indexes);
    row = static_cast<const int64_t*>(contents(array.ptr()));
    count = py::detail::array_proxy(array.ptr())->dimensions[0];
  }

  bool within(int64_t stored) const {
    uint64_t largest = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, static_cast<uint64_t>(row[i]));
    return count == 0 || largest < static_cast<uint64_t>(stored);
  }

  [[noreturn]] void refuse(const char* op, int64_t stored) const {
    const auto* bad = std::find_if(row, row + count, [&](int64_t r) { return r < 0 || r >= stored; });
    throw py::index_error(std::string(op) + ": indexes must be in [0, " + std::to_string(stored) +
                          "), the rows stored, got " + std::to_string(*bad) + " at " +
                          std::to_string(bad - row));
  }

  py::object array;
  const int64_t* row;
  int64_t count;
};

template <class Element>
const Element* column(py::handle x, int64_t n, const char* name) {
  const py::dtype dtype = py::dtype::of<Element>();
  // An unpickled array has a copy of the dtype.
  const py::dtype own = py::isinstance<py::array>(x) ? py::reinterpret_borrow<py::array>(x).dtype() : dtype;
  if (!own.equal(dtype) || !is_plain(x, own, true) || py::detail::array_proxy(x.ptr())->nd != 1 ||
      py::detail::array_proxy(x.ptr())->dimensions[0] != n)
    throw py::value_error(std::string("load_state: ") + name + " must be " + std::string(py::str(dtype)) +
                          " [" + std::to_string(n) + "], got " + described(x));
  return static_cast<const Element*>(contents(x.ptr()));
}

}  // namespace fastrl
