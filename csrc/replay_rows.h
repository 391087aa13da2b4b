// Row numbers from Python, and columns of a saved state; copies of them.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "new_array.h"
#include "replay_arguments.h"
#include "scratch.h"

namespace fastrl {

// A copy, so that what was checked is what is used: other threads run meanwhile.
class Rows {
 public:
  Rows(const char* op, py::handle indexes) : Rows(plain(op, indexes)) {}

  bool within(int64_t stored) const {
    uint64_t largest = 0;
    for (int64_t i = 0; i < count_; ++i) largest = std::max(largest, static_cast<uint64_t>(data()[i]));
    return count_ == 0 || largest < static_cast<uint64_t>(stored);
  }

  [[noreturn]] void refuse(const char* op, int64_t stored) const {
    const auto* bad = std::find_if(data(), data() + count_, [&](int64_t r) { return r < 0 || r >= stored; });
    throw py::index_error(std::string(op) + ": indexes must be in [0, " + std::to_string(stored) +
                          "), the rows stored, got " + std::to_string(*bad) + " at " +
                          std::to_string(bad - data()));
  }

  const int64_t* data() const { return rows_.data(); }
  int64_t count() const { return count_; }

 private:
  static py::object plain(const char* op, py::handle indexes) {
    const bool as_is =
        is_plain(indexes, py::dtype::of<int64_t>(), true) && py::detail::array_proxy(indexes.ptr())->nd == 1;
    return as_is ? py::reinterpret_borrow<py::object>(indexes) : converter("indexes")(op, indexes);
  }

  explicit Rows(const py::object& array)
      : count_(py::detail::array_proxy(array.ptr())->dimensions[0]), rows_(count_) {
    const auto* from = static_cast<const int64_t*>(contents(array.ptr()));
    std::copy(from, from + count_, rows_.data());
  }

  int64_t count_;
  Scratch<int64_t> rows_;
};

// A copy of a saved column.
template <class Element>
std::vector<Element> column(py::handle x, int64_t n, const char* name) {
  const py::dtype dtype = py::dtype::of<Element>();
  if (!is_plain(x, dtype, true) || py::detail::array_proxy(x.ptr())->nd != 1 ||
      py::detail::array_proxy(x.ptr())->dimensions[0] != n)
    throw py::value_error(std::string("load_state: ") + name + " must be " + std::string(py::str(dtype)) +
                          " [" + std::to_string(n) + "], got " + described(x));
  const auto* from = static_cast<const Element*>(contents(x.ptr()));
  return {from, from + n};
}

}  // namespace fastrl
