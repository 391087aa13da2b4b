#include <pybind11/pybind11.h>

#include <cstdint>

#include "array.h"
#include "dispatch.h"
#include "normalizers.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(NormalizeTable, normalize)

namespace {

constexpr const char* kOp = "normalize";

Moments moments_of(py::handle count, py::handle mean, py::handle var) {
  const int64_t columns = array_of<double>(mean, kOp, "mean", 1).shape(0);
  if (columns < 1) reject(kOp, "mean", "of at least one column");
  return {columns, data_of<int64_t>(count, kOp, "count", {1}), data_of<double>(mean, kOp, "mean", {columns}),
          data_of<double>(var, kOp, "var", {columns})};
}

Returns returns_of(py::handle running, double gamma, py::handle count, py::handle mean, py::handle var) {
  const int64_t envs = array_of<double>(running, kOp, "running", 1).shape(0);
  const Moments moments = moments_of(count, mean, var);
  if (moments.columns != 1) reject(kOp, "mean", "of one column");
  return {envs, data_of<double>(running, kOp, "running", {envs}), gamma, moments};
}

// Calls work with the rows of x, float32 or float64.
template <class Work>
auto with_rows(py::handle x, int64_t columns, Work work) {
  if (py::isinstance<py::array_t<float>>(x)) {
    const auto [data, rows] = rows_of<const float>(x, kOp, "x", columns);
    return work(data, rows);
  }
  const auto [data, rows] = rows_of<const double>(x, kOp, "x", columns);
  return work(data, rows);
}

int64_t update(RunningMeanStd& self, py::handle x) {
  return with_rows(x, self.columns(), [&](auto data, int64_t rows) { return self.update(data, rows); });
}

void merge(RunningMeanStd& self, int64_t count, py::handle mean, py::handle var) {
  if (count < 1) reject(kOp, "count", ">= 1");
  self.merge(count, data_of<const double>(mean, kOp, "mean", {self.columns()}),
             data_of<const double>(var, kOp, "var", {self.columns()}));
}

void normalize_rows(RunningMeanStd& self, py::handle x, py::handle out) {
  with_rows(x, self.columns(), [&](auto data, int64_t rows) {
    self.normalize(data, rows, data_of<float>(out, kOp, "out", {rows, self.columns()}));
  });
}

bool update_returns(ReturnNormalizer& self, py::handle reward, py::handle done, py::handle valid) {
  return self.update(data_of<const double>(reward, kOp, "reward", {self.envs()}),
                     data_of<const uint8_t>(done, kOp, "done", {self.envs()}),
                     valid.is_none() ? nullptr : data_of<const uint8_t>(valid, kOp, "valid", {self.envs()}));
}

void scale(const ReturnNormalizer& self, py::handle reward, py::handle out) {
  const int64_t n = array_of<const double>(reward, kOp, "reward", 1).shape(0);
  self.normalize(data_of<const double>(reward, kOp, "reward", {n}), n, data_of<float>(out, kOp, "out", {n}));
}

}  // namespace

void register_normalize(py::module_& m) {
  py::class_<RunningMeanStd>(m, "RunningMeanStd",
                             "Views of statistics: count int64 [1], mean and var float64 [columns].")
      .def(py::init([](py::handle count, py::handle mean, py::handle var, double clip) {
             return RunningMeanStd(moments_of(count, mean, var), clip);
           }),
           py::arg("count"), py::arg("mean"), py::arg("var"), py::arg("clip"), py::keep_alive<1, 2>(),
           py::keep_alive<1, 3>(), py::keep_alive<1, 4>())
      .def("update", update, py::arg("x"),
           "Takes in x [rows, columns]; the first column whose variance is not finite, and no change, or -1.")
      .def("merge", merge, py::arg("count"), py::arg("mean"), py::arg("var"))
      .def("normalize", normalize_rows, py::arg("x"), py::arg("out"));
  py::class_<ReturnNormalizer>(m, "ReturnNormalizer",
                               "Views of running returns, float64 [envs], and of the statistics of them all.")
      .def(py::init([](py::handle running, double gamma, py::handle count, py::handle mean, py::handle var,
                       double clip) {
             return ReturnNormalizer(returns_of(running, gamma, count, mean, var), clip);
           }),
           py::arg("running"), py::arg("gamma"), py::arg("count"), py::arg("mean"), py::arg("var"),
           py::arg("clip"), py::keep_alive<1, 2>(), py::keep_alive<1, 4>(), py::keep_alive<1, 5>(),
           py::keep_alive<1, 6>())
      .def("update", update_returns, py::arg("reward"), py::arg("done"), py::arg("valid") = py::none(),
           "Takes in one step; False, and no change, if the variance is not finite.")
      .def("normalize", scale, py::arg("reward"), py::arg("out"));
}

}  // namespace fastrl
