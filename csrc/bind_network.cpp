#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "array.h"
#include "dispatch.h"
#include "network_plan.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(NetworkTable, network)

namespace {

constexpr int64_t kReleaseWork = 20000;  // multiply-adds above which giving up the GIL pays
constexpr const char* kOp = "network";

// Tapes are made and dropped at every update: their memory is kept, or the system would hand out fresh pages.
class BufferPool {
 public:
  FloatBuffer take() {
    if (free_.empty()) return {};
    FloatBuffer buffer = std::move(free_.back());
    free_.pop_back();
    return buffer;
  }
  void give(FloatBuffer buffer) {
    if (free_.size() < 4) free_.push_back(std::move(buffer));
  }
  static BufferPool& local() {
    thread_local BufferPool pool;
    return pool;
  }

 private:
  std::vector<FloatBuffer> free_;
};

// What a forward pass leaves for the backward one. It keeps the input alive, not a copy of it.
struct Tape {
  Tape() : values(BufferPool::local().take()) {}
  Tape(Tape&&) = default;
  ~Tape() { BufferPool::local().give(std::move(values)); }
  FloatBuffer values;
  py::object x;
  const float* x_data = nullptr;
  int64_t batch = 0;
  const NetworkPlan* plan = nullptr;
};

void run_forward(const NetworkPlan& net, py::handle params, py::handle x, py::handle y, Tape* tape) {
  const float* p = data_of<const float>(params, kOp, "params", {net.plan.params});
  const auto rows = rows_of<const float>(x, kOp, "x", net.plan.in);
  const float* in = rows.first;
  const int64_t batch = rows.second;
  float* out = data_of<float>(y, kOp, "y", {batch, net.plan.out});
  float* values = nullptr;
  if (tape != nullptr) {
    values = tape->values.at_least(net.plan.tape * batch);
    tape->x = py::reinterpret_borrow<py::object>(x);
    tape->x_data = in;
    tape->batch = batch;
    tape->plan = &net;
  }
  const auto run = [&] { net.forward(p, in, batch, out, values); };
  if (batch * net.work < kReleaseWork) {
    run();
  } else {
    py::gil_scoped_release release;
    run();
  }
}

std::unique_ptr<Tape> forward(const NetworkPlan& net, py::handle params, py::handle x, py::handle y) {
  auto tape = std::make_unique<Tape>();
  run_forward(net, params, x, y, tape.get());
  return tape;
}

void infer(const NetworkPlan& net, py::handle params, py::handle x, py::handle y) {
  run_forward(net, params, x, y, nullptr);
}

void backward(const NetworkPlan& net, py::handle params, const Tape& tape, py::handle dy, py::handle grad,
              py::handle dx) {
  if (tape.plan != &net) reject(kOp, "tape", "of this network");
  const int64_t batch = tape.batch;
  const float* p = data_of<const float>(params, kOp, "params", {net.plan.params});
  const float* d = data_of<const float>(dy, kOp, "dy", {batch, net.plan.out});
  float* g = grad.is_none() ? nullptr : data_of<float>(grad, kOp, "grad", {net.plan.params});
  float* dxp = dx.is_none() ? nullptr : data_of<float>(dx, kOp, "dx", {batch, net.plan.in});
  const auto run = [&] { net.backward(p, tape.x_data, batch, d, tape.values.data(), g, dxp); };
  if (batch * net.work < kReleaseWork) {
    run();
  } else {
    py::gil_scoped_release release;
    run();
  }
}

// Returns the gradient's global norm before clipping. A non-finite norm changes nothing.
double adam_step(py::handle params, py::handle grad, py::handle m, py::handle v, int64_t t, double lr,
                 double beta1, double beta2, double eps, double max_norm) {
  const char* op = "adam_step";
  const int64_t n = array_of<float>(params, op, "params", 1).shape(0);
  float* p = data_of<float>(params, op, "params", {n});
  const float* g = data_of<const float>(grad, op, "grad", {n});
  float* first = data_of<float>(m, op, "m", {n});
  float* second = data_of<float>(v, op, "v", {n});
  if (t < 1) reject(op, "t", ">= 1");
  const double norm = std::sqrt(network().sum_squares(g, n));
  if (!std::isfinite(norm)) return norm;
  AdamStep step;
  step.lr = static_cast<float>(lr);
  step.beta1 = static_cast<float>(beta1);
  step.beta2 = static_cast<float>(beta2);
  step.eps = static_cast<float>(eps);
  step.correction1 = static_cast<float>(1.0 - std::pow(beta1, static_cast<double>(t)));
  step.correction2 = static_cast<float>(1.0 - std::pow(beta2, static_cast<double>(t)));
  const double scale = max_norm / (norm + 1e-6);  // as torch.nn.utils.clip_grad_norm_
  step.scale = scale < 1.0 ? static_cast<float>(scale) : 1.0f;
  network().adam(p, g, first, second, n, step);
  return norm;
}

void polyak(py::handle target, py::handle params, double tau) {
  const char* op = "polyak";
  const int64_t n = array_of<const float>(params, op, "params", 1).shape(0);
  const float* p = data_of<const float>(params, op, "params", {n});
  network().polyak(data_of<float>(target, op, "target", {n}), p, n, static_cast<float>(tau));
}

}  // namespace

void register_network(py::module_& m) {
  const py::class_<Tape> tape(m, "Tape", "Activations a forward pass keeps for its backward pass.");
  py::class_<NetworkPlan>(m, "Network", "A forest of dense layers over one flat parameter vector.")
      .def(py::init<int64_t, const std::vector<LayerSpec>&, const std::vector<DuelingSpec>&>(),
           py::arg("inputs"), py::arg("layers"), py::arg("duelings"))
      .def_property_readonly("inputs", [](const NetworkPlan& n) { return n.plan.in; })
      .def_property_readonly("outputs", [](const NetworkPlan& n) { return n.plan.out; })
      .def_property_readonly("size", [](const NetworkPlan& n) { return n.plan.params; })
      .def("forward", forward, py::arg("params"), py::arg("x"), py::arg("y"))
      .def("infer", infer, py::arg("params"), py::arg("x"), py::arg("y"))
      .def("backward", backward, py::arg("params"), py::arg("tape"), py::arg("dy"),
           py::arg("grad") = py::none(), py::arg("dx") = py::none());
  m.def("adam_step", adam_step, py::arg("params"), py::arg("grad"), py::arg("m"), py::arg("v"), py::arg("t"),
        py::arg("lr"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"), py::arg("max_norm"));
  m.def("polyak", polyak, py::arg("target"), py::arg("params"), py::arg("tau"));
}

}  // namespace fastrl
