#include <pybind11/pybind11.h>

#include <cstdint>
#include <vector>

#include "area_weights.h"
#include "array.h"
#include "dispatch.h"
#include "frames.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(FramesTable, frames)

namespace {

constexpr int64_t kReleaseGil = 1 << 15;  // bytes: some microseconds of work

// uint8 images [N, height, width], or of three channels.
py::array images_of(py::handle x, const char* op, const char* name) {
  if (!py::isinstance<py::array_t<uint8_t>>(x)) reject(op, name, "uint8");
  auto array = py::reinterpret_borrow<py::array>(x);
  if (array.ndim() != 3 && !(array.ndim() == 4 && array.shape(3) == 3))
    reject(op, name, "[N, height, width] or [N, height, width, 3]");
  return array;
}

Images view_of_images(const py::array& x) {
  return {static_cast<const uint8_t*>(x.data()), x.strides(0), x.strides(1), x.strides(2),
          x.ndim() == 4 ? x.strides(3) : 0};
}

template <class Work>
void released(int64_t bytes, Work work) {
  if (bytes < kReleaseGil) return work();
  py::gil_scoped_release release;
  work();
}

uint8_t* bytes_out(py::handle x, const char* op, std::initializer_list<py::ssize_t> shape) {
  if (!py::isinstance<py::array_t<uint8_t>>(x)) reject(op, "out", "uint8");
  const auto array = py::reinterpret_borrow<py::array>(x);
  if (array.ndim() != static_cast<py::ssize_t>(shape.size())) reject(op, "out", "of the images' axes");
  require_shape(array, op, "out", shape);
  if ((array.flags() & py::array::c_style) == 0 || !array.writeable())
    reject(op, "out", "C-contiguous and writeable");
  return static_cast<uint8_t*>(const_cast<void*>(array.data()));
}

void grayscale_resize(py::handle frame, py::handle second, py::handle out, int64_t height, int64_t width) {
  constexpr const char* kOp = "grayscale_resize";
  const py::array first = images_of(frame, kOp, "frame");
  const int64_t images = first.shape(0), rows = first.shape(1), columns = first.shape(2);
  if (height < 1 || height > rows || width < 1 || width > columns)
    reject(kOp, "size", "at least 1 and at most the frame's");
  GrayscaleResize op{};
  op.images = images;
  op.channels = first.ndim() == 4 ? 3 : 1;
  op.frame = view_of_images(first);
  if (!second.is_none()) {
    const py::array other = images_of(second, kOp, "second");
    if (other.ndim() != first.ndim() ||
        !std::equal(first.shape(), first.shape() + first.ndim(), other.shape()))
      reject(kOp, "second", "of the frame's shape");
    op.second = view_of_images(other);
  }
  uint8_t* to = bytes_out(out, kOp, {images, height, width});
  if (images == 0) return;
  const OwnedAreaWeights down(rows, height), across(columns, width);
  op.down = down.view();
  op.across = across.view();
  std::vector<float> scratch(static_cast<size_t>(resize_scratch(op.across) / 4 + 1));
  released(images * rows * columns, [&] { frames().grayscale_resize(op, to, scratch.data()); });
}

void grayscale(py::handle frame, py::handle out) {
  constexpr const char* kOp = "grayscale";
  const py::array images = images_of(frame, kOp, "frame");
  if (images.ndim() != 4) reject(kOp, "frame", "[N, height, width, 3]");
  const int64_t n = images.shape(0), height = images.shape(1), width = images.shape(2);
  uint8_t* to = bytes_out(out, kOp, {n, height, width});
  released(n * height * width, [&] { frames().grayscale(view_of_images(images), n, height, width, to); });
}

const uint8_t* contiguous(const py::array& x, const char* op, const char* name, int64_t bytes) {
  if ((x.flags() & py::array::c_style) == 0 || x.nbytes() != bytes)
    reject(op, name, "C-contiguous and of the ring's frames");
  return static_cast<const uint8_t*>(x.data());
}

// Of any dtype: the public function has compared them.
void push_frames(py::handle ring, int64_t slot, py::handle frame, py::handle begin, int64_t size,
                 py::handle padding, bool only, py::handle out) {
  constexpr const char* kOp = "push_frames";
  const auto array = [](py::handle x, const char* name) {
    if (!py::isinstance<py::array>(x)) reject(kOp, name, "a NumPy array");
    return py::reinterpret_borrow<py::array>(x);
  };
  const py::array data = array(ring, "ring");
  if (data.ndim() < 2 || (data.flags() & py::array::c_style) == 0 || !data.writeable())
    reject(kOp, "ring", "[N, slots, ...], C-contiguous and writeable");
  const int64_t envs = data.shape(0), slots = data.shape(1);
  if (size < 1 || slot < size - 1 || slot >= slots) reject(kOp, "slot", "in [size - 1, slots)");
  const int64_t bytes = envs == 0 ? 0 : data.nbytes() / (envs * slots);
  const FrameRing to{envs, slots, bytes, size, static_cast<uint8_t*>(const_cast<void*>(data.data()))};
  FramePush push{};
  push.slot = slot;
  push.only = only;
  push.frame = contiguous(array(frame, "frame"), kOp, "frame", envs * bytes);
  if (!begin.is_none()) push.begin = data_of<const uint8_t>(begin, kOp, "begin", {envs});
  if (!padding.is_none()) push.padding = contiguous(array(padding, "padding"), kOp, "padding", bytes);
  if (!out.is_none()) {
    const py::array stacks = array(out, "out");
    if (!stacks.writeable()) reject(kOp, "out", "writeable");
    push.out = const_cast<uint8_t*>(contiguous(stacks, kOp, "out", envs * size * bytes));
  }
  released(envs * bytes, [&] { frames().push(to, push); });
}

}  // namespace

void register_frames(py::module_& m) {
  m.def("grayscale_resize", grayscale_resize, py::arg("frame"), py::arg("second"), py::arg("out"),
        py::arg("height"), py::arg("width"));
  m.def("grayscale", grayscale, py::arg("frame"), py::arg("out"));
  m.def("push_frames", push_frames, py::arg("ring"), py::arg("slot"), py::arg("frame"), py::arg("begin"),
        py::arg("size"), py::arg("padding"), py::arg("only"), py::arg("out"));
}

}  // namespace fastrl
