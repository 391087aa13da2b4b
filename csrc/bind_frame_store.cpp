// The frame store alone, for tests: in use it is a column of the replay buffer.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "array.h"
#include "frame_store.h"

namespace py = pybind11;

namespace fastrl {

namespace {

constexpr const char* kOp = "frame_store";

FrameStore::Layout layout_of(int64_t num_envs, int64_t steps, const std::vector<int64_t>& shape,
                             int64_t item_bytes, const py::object& stack_axis) {
  if (num_envs < 1 || steps < 1 || item_bytes < 1)
    reject(kOp, "num_envs, steps and item_bytes", "at least 1");
  FrameStore::Layout layout{num_envs, steps, 1, item_bytes, item_bytes, false};
  for (const int64_t n : shape) {
    if (n < 1) reject(kOp, "shape", "without axes of length 0");
    layout.frame_bytes *= n;
  }
  if (stack_axis.is_none()) return layout;
  const auto axis = stack_axis.cast<int64_t>();
  if (shape.empty() || (axis != 0 && axis != -1)) reject(kOp, "stack_axis", "None, 0 or -1");
  layout.stack_last = axis == -1;
  layout.stack = layout.stack_last ? shape.back() : shape.front();
  if (layout.stack > FrameStore::kMostFrames) reject(kOp, "stack", "at most 128 frames");
  layout.frame_bytes /= layout.stack;
  return layout;
}

class Frames {
 public:
  Frames(int64_t num_envs, int64_t steps, const std::vector<int64_t>& shape, int64_t item_bytes,
         const py::object& stack_axis)
      : store_(layout_of(num_envs, steps, shape, item_bytes, stack_axis)) {}

  void add(py::handle obs, py::handle next_obs) {
    const py::array from = rows_in(obs, "obs", false);
    const int64_t n = from.nbytes() / store_.obs_bytes(), bytes = store_.obs_bytes();
    const auto* x = static_cast<const char*>(from.data());
    const char* y = nullptr;
    if (n % store_.layout().num_envs != 0) reject(kOp, "obs", "whole steps");
    if (!next_obs.is_none()) {
      const py::array next = rows_in(next_obs, "next_obs", false);
      if (next.nbytes() != from.nbytes()) reject(kOp, "next_obs", "of as many rows as obs");
      y = static_cast<const char*>(next.data());
    }
    for (int64_t done = 0; done < n;) {
      const int64_t count = std::min(n - done, store_.rows() - head_);
      store_.prepare(count, x + done * bytes, y == nullptr ? nullptr : y + done * bytes);
      store_.commit(head_, count, 0);
      head_ = (head_ + count) % store_.rows();
      done += count;
    }
  }

  void gather(py::handle rows, py::handle last, py::handle obs, py::handle next_obs) const {
    const int64_t n = array_of<const int64_t>(rows, kOp, "rows", 1).shape(0);
    const auto* i = data_of<const int64_t>(rows, kOp, "rows", {n});
    const auto* j = last.is_none() ? i : data_of<const int64_t>(last, kOp, "last", {n});
    for (int64_t b = 0; b < n; ++b) {
      if (i[b] < 0 || i[b] >= store_.rows() || j[b] < 0 || j[b] >= store_.rows())
        reject(kOp, "rows", "indices of rows");
      if (!store_.holds(i[b]) || (!next_obs.is_none() && !store_.holds_next(j[b])))
        reject(kOp, "rows", "written");
    }
    store_.gather(i, j, n, out(obs, "obs", n), out(next_obs, "next_obs", n));
  }

  void clear() {
    store_.clear();
    head_ = 0;
  }

  int64_t nbytes() const { return store_.nbytes(); }

 private:
  py::array rows_in(py::handle x, const char* name, bool writeable) const {
    if (!py::isinstance<py::array>(x)) reject(kOp, name, "a NumPy array");
    auto array = py::reinterpret_borrow<py::array>(x);
    if ((array.flags() & py::array::c_style) == 0) reject(kOp, name, "C-contiguous");
    if (array.nbytes() % store_.obs_bytes() != 0) reject(kOp, name, "whole observations");
    if (writeable && !array.writeable()) reject(kOp, name, "writeable");
    return array;
  }

  char* out(py::handle x, const char* name, int64_t n) const {
    if (x.is_none()) return nullptr;
    const py::array array = rows_in(x, name, true);
    if (array.nbytes() != n * store_.obs_bytes()) reject(kOp, name, "of as many rows as asked for");
    return static_cast<char*>(const_cast<void*>(array.data()));
  }

  FrameStore store_;
  int64_t head_ = 0;
};

}  // namespace

void register_frame_store(py::module_& m) {
  py::class_<Frames>(m, "FrameStore")
      .def(py::init<int64_t, int64_t, std::vector<int64_t>, int64_t, py::object>(), py::arg("num_envs"),
           py::arg("steps"), py::arg("shape"), py::arg("item_bytes"), py::arg("stack_axis"))
      .def("add", &Frames::add, py::arg("obs"), py::arg("next_obs"))
      .def("gather", &Frames::gather, py::arg("rows"), py::arg("last"), py::arg("obs"), py::arg("next_obs"))
      .def("clear", &Frames::clear)
      .def_property_readonly("nbytes", &Frames::nbytes);
}

}  // namespace fastrl
