#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "array.h"
#include "dispatch.h"
#include "envs.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(EnvsTable, envs)
FASTRL_DISPATCH(EnvsTable, envs_fast)

namespace {

constexpr int64_t kReleaseGil = 1024;  // envs whose step takes longer than handing the GIL over

template <class Action>
using Actions = py::array_t<Action, py::array::c_style>;
using Bounds = std::array<double, kEnvBounds>;
using Mask = py::array_t<bool, py::array::c_style>;

// The first env that cannot step, or -1; -2: not a plain array of the environment's actions.
template <bool Checked, class Action>
int64_t step_with(VecEnv& env, PyObject* arg) {
  if (!py::isinstance<Actions<Action>>(arg)) return -2;
  const auto actions = py::reinterpret_borrow<Actions<Action>>(arg);
  if (!is_aligned(actions)) return -2;
  const int64_t columns = env.action_size();
  const bool fits = columns == 0 ? actions.ndim() == 1 : actions.ndim() == 2 && actions.shape(1) == columns;
  if (!fits || actions.shape(0) != env.num_envs()) return -2;
  const Action* action = actions.data();
  const auto step = [&env, action] { return Checked ? env.step(action) : env.step_unchecked(action); };
  if (env.num_envs() < kReleaseGil) return step();
  py::gil_scoped_release release;
  return step();
}

// step(actions) takes the array by the C API: pybind11's own arguments would cost more than a small step.
// None: done. -1: not a plain int64 [N] or float32 [N, action_size] array, or never reset. Else the first env
// that cannot step.
template <bool Checked>
PyObject* step(PyObject* self, PyObject* arg) {
  VecEnv& env = py::cast<VecEnv&>(py::handle(self));
  if (!env.started()) return PyLong_FromLong(-1);
  const int64_t blocked =
      env.action_size() == 0 ? step_with<Checked, int64_t>(env, arg) : step_with<Checked, float>(env, arg);
  if (blocked == -1) Py_RETURN_NONE;
  return PyLong_FromLongLong(blocked < 0 ? -1 : blocked);
}

// A new array [rows] or [rows, columns] with these contents; null with an exception set.
template <class Element>
PyObject* fresh(const void* data, int64_t rows, int64_t columns = 0) {
  const auto& numpy = py::detail::npy_api::get();
  Py_intptr_t shape[] = {static_cast<Py_intptr_t>(rows), static_cast<Py_intptr_t>(columns)};
  PyObject* array = numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, py::dtype::of<Element>().release().ptr(),
                                                columns == 0 ? 1 : 2, shape, nullptr, nullptr, 0, nullptr);
  if (array != nullptr)
    std::memcpy(py::detail::array_proxy(array)->data, data,
                static_cast<size_t>(rows * (columns == 0 ? 1 : columns)) * sizeof(Element));
  return array;
}

// outputs(infos): what Gymnasium's step returns, in fresh arrays.
PyObject* outputs(PyObject* self, PyObject* infos) {
  VecEnv& env = py::cast<VecEnv&>(py::handle(self));
  const int64_t n = env.num_envs();
  PyObject* result = PyTuple_New(5);
  if (result == nullptr) return nullptr;
  const auto put = [result](int k, PyObject* item) {
    PyTuple_SET_ITEM(result, k, item);
    return item != nullptr;
  };
  if (put(0, fresh<float>(env.obs(), n, env.obs_size())) && put(1, fresh<double>(env.reward(), n)) &&
      put(2, fresh<bool>(env.terminated(), n)) && put(3, fresh<bool>(env.truncated(), n)) &&
      put(4, Py_NewRef(infos)))
    return result;
  Py_DECREF(result);
  return nullptr;
}

void add_method(py::class_<VecEnv>& cls, const char* name, PyCFunction function, const char* doc) {
  auto* method = new PyMethodDef{name, function, METH_O, doc};  // must outlive the type, which is never freed
  auto* type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  cls.attr(name) = py::reinterpret_steal<py::object>(PyDescr_NewMethod(type, method));
}

std::unique_ptr<VecEnv> make(const std::string& kernel, bool fast, int64_t num_envs,
                             int64_t max_episode_steps, const std::string& autoreset,
                             const std::vector<double>& options) {
  const EnvsTable& table = fast ? envs_fast() : envs();
  int64_t index = 0;
  while (index < table.size && kernel != table.kernel[index].name) ++index;
  if (index == table.size) throw std::invalid_argument("VecEnv: no compiled environment is called " + kernel);
  if (num_envs < 1 || max_episode_steps < 1 || options.size() > kEnvOptions)
    throw std::invalid_argument("VecEnv: num_envs and max_episode_steps must be >= 1, options at most 4");
  Autoreset mode;
  if (autoreset == "NextStep")
    mode = Autoreset::next_step;
  else if (autoreset == "SameStep")
    mode = Autoreset::same_step;
  else if (autoreset == "Disabled")
    mode = Autoreset::disabled;
  else
    throw std::invalid_argument("VecEnv: autoreset must be NextStep, SameStep or Disabled, got " + autoreset);
  return std::make_unique<VecEnv>(fast ? EnvMode::fast : EnvMode::exact, index, num_envs, max_episode_steps,
                                  mode, options.data(), static_cast<int64_t>(options.size()));
}

// Python's int, as SeedSequence splits it.
std::vector<uint32_t> entropy_words(const py::int_& number) {
  const auto bits = number.attr("bit_length")().cast<size_t>();
  const size_t words = bits == 0 ? 1 : (bits + 31) / 32;
  const auto bytes = number.attr("to_bytes")(words * 4, "little").cast<std::string>();
  std::vector<uint32_t> out(words);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

void seed(VecEnv& env, const std::vector<std::optional<py::int_>>& seeds) {
  if (static_cast<int64_t>(seeds.size()) != env.num_envs())
    throw std::invalid_argument("VecEnv.seed: one seed or None for each env");
  std::vector<std::vector<uint32_t>> entropies;  // all of them before the first takes effect
  entropies.reserve(seeds.size());
  for (const auto& number : seeds)
    entropies.push_back(number ? entropy_words(*number) : std::vector<uint32_t>{});
  for (size_t i = 0; i < entropies.size(); ++i)
    if (!entropies[i].empty())
      env.seed(static_cast<int64_t>(i), entropies[i].data(), static_cast<int64_t>(entropies[i].size()));
}

void reset(VecEnv& env, const std::optional<Mask>& mask, const Bounds& bounds) {
  if (mask && (mask->ndim() != 1 || mask->shape(0) != env.num_envs()))
    throw std::invalid_argument("VecEnv.reset: mask must be bool [N]");
  if (mask && !env.started()) throw std::invalid_argument("VecEnv.reset: the first reset takes no mask");
  for (int64_t i = 0; i < env.num_envs(); ++i)
    if (!(mask && !mask->at(i)) && env.batch().rng[i].increment == 0)
      throw std::invalid_argument("VecEnv.reset: seed each env first");
  env.reset(mask ? reinterpret_cast<const uint8_t*>(mask->data()) : nullptr, bounds.data());
}

Pcg64& rng_of(VecEnv& env, int64_t i) {
  if (i < 0 || i >= env.num_envs()) throw py::index_error("VecEnv: no such env");
  return env.batch().rng[i];
}

py::bytes get_rng(VecEnv& env, int64_t i) {
  return py::bytes(reinterpret_cast<const char*>(&rng_of(env, i)), sizeof(Pcg64));
}

void set_rng(VecEnv& env, int64_t i, const py::bytes& given) {
  const std::string bytes = given;
  if (bytes.size() != sizeof(Pcg64)) throw std::invalid_argument("VecEnv.set_rng: bytes must be 32");
  std::memcpy(&rng_of(env, i), bytes.data(), bytes.size());
}

py::array_t<uint8_t> get_state(const VecEnv& env) {
  py::array_t<uint8_t> out(env.state_size());
  env.get_state(out.mutable_data());
  return out;
}

bool set_state(VecEnv& env, const py::array_t<uint8_t, py::array::c_style>& bytes) {
  return bytes.size() == env.state_size() && env.set_state(bytes.data());
}

// A view of the object's memory that keeps the object alive.
template <class Element, class Memory>
py::array_t<Element> view(const py::object& self, Memory* data, std::vector<py::ssize_t> shape) {
  return py::array_t<Element>(std::move(shape), reinterpret_cast<Element*>(data), self);
}

}  // namespace

void register_envs(py::module_& m) {
  py::class_<VecEnv> cls(m, "VecEnv", "N copies of a compiled environment; see csrc/envs.h.");
  cls.def(py::init(&make), py::arg("kernel"), py::arg("fast"), py::arg("num_envs"),
          py::arg("max_episode_steps"), py::arg("autoreset"), py::arg("options"))
      .def_property_readonly("num_envs", &VecEnv::num_envs)
      .def_property_readonly("obs_size", &VecEnv::obs_size)
      .def_property_readonly("num_actions", &VecEnv::num_actions)
      .def_property_readonly("action_size", &VecEnv::action_size)
      .def_property_readonly(
          "bounds", [](const VecEnv& env) { return Bounds{env.kernel().bounds[0], env.kernel().bounds[1]}; })
      .def_property_readonly("started", &VecEnv::started)
      .def("seed", &seed, py::arg("seeds"), "Seeds each env whose entry is not None.")
      .def("reset", &reset, py::arg("mask"), py::arg("bounds"))
      .def("get_rng", &get_rng, py::arg("env"), "State and increment of the env's PCG64, 16 bytes each.")
      .def("set_rng", &set_rng, py::arg("env"), py::arg("bytes"))
      .def("get_state", &get_state)
      .def("set_state", &set_state, py::arg("bytes"),
           "False, and no change, for the state of another environment.");
  add_method(cls, "step", step<true>,
             "step(self: object, actions: object) -> int | None\n\nNone if all envs stepped. -1: not int64 "
             "[N] or float32 [N, action_size], or never reset; else the first env that cannot step. Then "
             "nothing changed.");
  add_method(
      cls, "step_unchecked", step<false>,
      "step_unchecked(self: object, actions: object) -> int | None\n\nstep, whatever the actions are.");
  add_method(cls, "outputs", outputs,
             "outputs(self: object, infos: dict[str, typing.Any]) -> tuple[typing.Any, ...]\n\nobservation, "
             "reward, terminated, truncated in "
             "new arrays, "
             "infos.");

  const auto per_env = [&cls](const char* name, auto view_of) {
    cls.def_property_readonly(
        name, [view_of](const py::object& self) { return view_of(self, self.cast<VecEnv&>()); });
  };
  per_env("obs", [](const py::object& self, VecEnv& env) {
    return view<float>(self, env.obs(), {env.num_envs(), env.obs_size()});
  });
  per_env("final_obs", [](const py::object& self, VecEnv& env) {
    return view<float>(self, env.final_obs(), {env.num_envs(), env.obs_size()});
  });
  per_env("reward", [](const py::object& self, VecEnv& env) {
    return view<double>(self, env.reward(), {env.num_envs()});
  });
  per_env("terminated", [](const py::object& self, VecEnv& env) {
    return view<bool>(self, env.terminated(), {env.num_envs()});
  });
  per_env("truncated", [](const py::object& self, VecEnv& env) {
    return view<bool>(self, env.truncated(), {env.num_envs()});
  });
  per_env("needs_reset", [](const py::object& self, VecEnv& env) {
    return view<bool>(self, env.batch().needs_reset, {env.num_envs()});
  });
  per_env("elapsed", [](const py::object& self, VecEnv& env) {
    return view<int64_t>(self, env.batch().elapsed, {env.num_envs()});
  });
  per_env("episode_return", [](const py::object& self, VecEnv& env) {
    return view<double>(self, env.episode_return(), {env.num_envs()});
  });
  per_env("episode_length", [](const py::object& self, VecEnv& env) {
    return view<int64_t>(self, env.episode_length(), {env.num_envs()});
  });
  per_env("state", [](const py::object& self, VecEnv& env) -> py::array {
    const std::vector<py::ssize_t> shape{env.kernel().state_size, env.batch().stride};
    if (env.kernel().real_size == sizeof(float)) return view<float>(self, env.batch().state, shape);
    return view<double>(self, env.batch().state, shape);
  });
}

}  // namespace fastrl
