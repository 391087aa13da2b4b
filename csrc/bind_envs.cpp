#include <pybind11/pybind11.h>

namespace fastrl {

void register_envs(pybind11::module_& /*m*/) {}

}  // namespace fastrl
