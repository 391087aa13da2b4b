// The extension fastrl._core: registers each family, nothing else.
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <string>

#include "dispatch.h"

namespace py = pybind11;

namespace fastrl {
void register_returns(py::module_& m);
void register_losses(py::module_& m);
void register_distributions(py::module_& m);
void register_network(py::module_& m);
void register_normalize(py::module_& m);
void register_frames(py::module_& m);
void register_frame_store(py::module_& m);
void register_replay(py::module_& m);
void register_sum_tree(py::module_& m);
void register_distributional(py::module_& m);
void register_transition_table(py::module_& m);
void register_envs(py::module_& m);
void register_rollout(py::module_& m);
void register_tabular(py::module_& m);
}  // namespace fastrl

PYBIND11_MODULE(_core, m) {
  using namespace fastrl;
  m.doc() = "Compiled kernels of fastrl. Private: import fastrl.kernels instead.";
  m.def("isa", [] { return std::string(isa_name(isa())); }, "Name of the instruction set in use.");
  m.def(
      "set_isa",
      [](const std::string& name) {
        Isa which;
        if (!isa_from_name(name.c_str(), &which))
          throw std::invalid_argument("set_isa: name must be baseline, avx2 or avx512, got " + name);
        set_isa(which);
      },
      py::arg("name"), "Use another instruction set (for tests).");
  m.def(
      "isa_supported",
      [](const std::string& name) {
        Isa which;
        return isa_from_name(name.c_str(), &which) && isa_supported(which);
      },
      py::arg("name"), "Whether this processor can run the named instruction set.");
  register_returns(m);
  register_losses(m);
  register_distributions(m);
  register_network(m);
  register_normalize(m);
  register_frames(m);
  register_frame_store(m);
  register_replay(m);
  register_sum_tree(m);
  register_distributional(m);
  register_transition_table(m);
  register_envs(m);
  register_rollout(m);
  register_tabular(m);
}
