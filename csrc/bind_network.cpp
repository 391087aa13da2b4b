#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "dispatch.h"
#include "network_plan.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(NetworkTable, network)

namespace {

using Array = py::array_t<float, py::array::c_style>;
constexpr int64_t kReleaseWork = 20000;  // multiply-adds above which giving up the GIL pays

[[noreturn]] void fail(const std::string& what) { throw std::invalid_argument("network: " + what); }

const float* vector_of(const Array& x, int64_t n, const char* name) {
  if (x.ndim() != 1 || x.shape(0) != n)
    fail(std::string(name) + " must be float32 [" + std::to_string(n) + "]");
  return x.data();
}

int64_t rows_of(const Array& x, int64_t columns, const char* name) {
  if (x.ndim() != 2 || x.shape(1) != columns)
    fail(std::string(name) + " must be float32 [B, " + std::to_string(columns) + "]");
  return x.shape(0);
}

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

void run_forward(const NetworkPlan& net, const Array& params, const Array& x, Array& y, Tape* tape) {
  const float* p = vector_of(params, net.plan.params, "params");
  const int64_t batch = rows_of(x, net.plan.in, "x");
  if (rows_of(y, net.plan.out, "y") != batch) fail("y must have as many rows as x");
  const float* in = x.data();
  float* out = y.mutable_data();
  float* values = nullptr;
  if (tape != nullptr) {
    values = tape->values.at_least(net.plan.tape * batch);
    tape->x = x;
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

std::unique_ptr<Tape> forward(const NetworkPlan& net, const Array& params, const Array& x, Array& y) {
  auto tape = std::make_unique<Tape>();
  run_forward(net, params, x, y, tape.get());
  return tape;
}

void infer(const NetworkPlan& net, const Array& params, const Array& x, Array& y) {
  run_forward(net, params, x, y, nullptr);
}

void backward(const NetworkPlan& net, const Array& params, const Tape& tape, const Array& dy,
              std::optional<Array> grad, std::optional<Array> dx) {
  if (tape.plan != &net) fail("the tape is of another network");
  const float* p = vector_of(params, net.plan.params, "params");
  const int64_t batch = tape.batch;
  if (rows_of(dy, net.plan.out, "dy") != batch) fail("dy must have as many rows as the tape's input");
  const float* d = dy.data();
  float* g = nullptr;
  float* dxp = nullptr;
  if (grad) {
    vector_of(*grad, net.plan.params, "grad");
    g = grad->mutable_data();
  }
  if (dx) {
    if (rows_of(*dx, net.plan.in, "dx") != batch) fail("dx must have as many rows as the tape's input");
    dxp = dx->mutable_data();
  }
  const auto run = [&] { net.backward(p, tape.x_data, batch, d, tape.values.data(), g, dxp); };
  if (batch * net.work < kReleaseWork) {
    run();
  } else {
    py::gil_scoped_release release;
    run();
  }
}

// Returns the gradient's global norm before clipping. A non-finite norm changes nothing.
double adam_step(Array& params, const Array& grad, Array& m, Array& v, int64_t t, double lr, double beta1,
                 double beta2, double eps, double max_norm) {
  const int64_t n = params.ndim() == 1 ? params.shape(0) : -1;
  if (n < 0) fail("params must be float32 [n]");
  const float* g = vector_of(grad, n, "grad");
  vector_of(m, n, "m");
  vector_of(v, n, "v");
  if (t < 1) fail("t must be >= 1, got " + std::to_string(t));
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
  network().adam(params.mutable_data(), g, m.mutable_data(), v.mutable_data(), n, step);
  return norm;
}

void polyak(Array& target, const Array& params, double tau) {
  if (params.ndim() != 1) fail("params must be float32 [n]");
  vector_of(target, params.shape(0), "target");
  network().polyak(target.mutable_data(), params.data(), params.shape(0), static_cast<float>(tau));
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
      .def("forward", forward, py::arg("params").noconvert(), py::arg("x").noconvert(),
           py::arg("y").noconvert())
      .def("infer", infer, py::arg("params").noconvert(), py::arg("x").noconvert(), py::arg("y").noconvert())
      .def("backward", backward, py::arg("params").noconvert(), py::arg("tape"), py::arg("dy").noconvert(),
           py::arg("grad").noconvert() = py::none(), py::arg("dx").noconvert() = py::none());
  m.def("adam_step", adam_step, py::arg("params").noconvert(), py::arg("grad").noconvert(),
        py::arg("m").noconvert(), py::arg("v").noconvert(), py::arg("t"), py::arg("lr"), py::arg("beta1"),
        py::arg("beta2"), py::arg("eps"), py::arg("max_norm"));
  m.def("polyak", polyak, py::arg("target").noconvert(), py::arg("params").noconvert(), py::arg("tau"));
}

}  // namespace fastrl
