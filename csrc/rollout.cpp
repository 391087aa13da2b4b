#include <pybind11/pybind11.h>

namespace fastrl {

void register_rollout(pybind11::module_& /*m*/) {}

}  // namespace fastrl
