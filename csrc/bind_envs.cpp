#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "array.h"
#include "dispatch.h"
#include "env_infos.h"
#include "envs.h"
#include "new_array.h"
#include "pool.h"
#include "seeds.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(EnvsTable, envs)
FASTRL_DISPATCH(EnvsTable, envs_fast)

namespace {

constexpr int64_t kReleaseGil = 1024;    // envs whose step takes longer than handing the GIL over
constexpr int64_t kReleaseGilUser = 32;  // of a user's, that may be slower
constexpr int64_t kCopied = 2048;        // envs whose outputs a thread copies at a time

template <class Action>
using Actions = py::array_t<Action, py::array::c_style>;
using Bounds = std::array<double, kEnvBounds>;
using Mask = py::array_t<bool, py::array::c_style>;

// As py::gil_scoped_release, but a thread that asks for the GIL after the interpreter's end may unwind
// through it, as Python up to 3.13 makes it do.
struct GilReleased {
  PyThreadState* saved = PyEval_SaveThread();
  ~GilReleased() noexcept(false) { PyEval_RestoreThread(saved); }
};

// body(), and others may run Python meanwhile if there are many envs.
template <class Body>
auto with_gil_released(const VecEnv& env, const Body& body) {
  if (env.num_envs() < (env.batch().user == nullptr ? kReleaseGil : kReleaseGilUser)) return body();
  const GilReleased released;
  return body();
}

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
  return with_gil_released(
      env, [&env, action] { return Checked ? env.step(action) : env.step_unchecked(action); });
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

// What a step returns as the observation, not written: float32 [N, obs_size], int64 [N], or a tuple of int64
// [N].
PyObject* empty_observation(VecEnv& env) {
  const int64_t n = env.num_envs(), parts = env.batch().discrete_size;
  if (parts == 0) return new_array<float>(n, env.obs_size());
  if (parts == 1) return new_array<int64_t>(n);
  PyObject* result = PyTuple_New(parts);
  for (int64_t k = 0; result != nullptr && k < parts; ++k) {
    PyObject* part = new_array<int64_t>(n);
    if (part == nullptr) Py_CLEAR(result);
    if (part != nullptr) PyTuple_SET_ITEM(result, k, part);
  }
  return result;
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
  if (!(put(0, empty_observation(env)) && put(1, new_array<double>(n)) && put(2, new_array<bool>(n)) &&
        put(3, new_array<bool>(n)) && put(4, Py_NewRef(infos)))) {
    Py_DECREF(result);
    return nullptr;
  }
  const EnvBatch& batch = env.batch();
  const int64_t parts = batch.discrete_size;
  PyObject* const obs = PyTuple_GET_ITEM(result, 0);
  const auto copy = [](PyObject* to, const auto* from, int64_t begin, int64_t end, int64_t columns = 1) {
    std::memcpy(static_cast<char*>(contents(to)) + begin * columns * static_cast<int64_t>(sizeof *from),
                from + begin * columns, static_cast<size_t>((end - begin) * columns) * sizeof *from);
  };
  const auto copy_all = [&](int64_t begin, int64_t end) {
    if (parts == 0) copy(obs, batch.obs, begin, end, env.obs_size());
    for (int64_t k = 0; k < parts; ++k)
      copy(parts == 1 ? obs : PyTuple_GET_ITEM(obs, k), batch.discrete + k * batch.stride, begin, end);
    copy(PyTuple_GET_ITEM(result, 1), batch.reward, begin, end);
    copy(PyTuple_GET_ITEM(result, 2), batch.terminated, begin, end);
    copy(PyTuple_GET_ITEM(result, 3), batch.truncated, begin, end);
  };
  with_gil_released(env, [&] { parallel_for(n, kCopied, env.num_threads(), copy_all); });
  return result;
}

// infos() and step_infos(); see env_infos.h.
template <py::dict (*Infos)(const VecEnv&)>
PyObject* infos(PyObject* self, PyObject*) {
  try {
    return Infos(py::cast<const VecEnv&>(py::handle(self))).release().ptr();
  } catch (py::error_already_set& error) {
    error.restore();
    return nullptr;
  }
}

void add_method(py::class_<VecEnv>& cls, const char* name, PyCFunction function, const char* doc,
                int flags = METH_O) {
  auto* method = new PyMethodDef{name, function, flags, doc};  // must outlive the type, which is never freed
  auto* type = reinterpret_cast<PyTypeObject*>(cls.ptr());
  cls.attr(name) = py::reinterpret_steal<py::object>(PyDescr_NewMethod(type, method));
}

Autoreset autoreset_of(const std::string& name) {
  if (name == "NextStep") return Autoreset::next_step;
  if (name == "SameStep") return Autoreset::same_step;
  if (name == "Disabled") return Autoreset::disabled;
  throw std::invalid_argument("VecEnv: autoreset must be NextStep, SameStep or Disabled, got " + name);
}

// A user's environment; addresses are those of its functions reset, step and observe, which the owner keeps.
std::unique_ptr<VecEnv> make_user(const std::string& name, const std::array<int64_t, 5>& sizes,
                                  const std::array<uintptr_t, 3>& addresses, const py::object& /* owner */,
                                  int64_t num_envs, int64_t max_episode_steps, const std::string& autoreset,
                                  int64_t num_threads) {
  UserKernel user{};
  std::strncpy(user.name, name.c_str(), sizeof user.name - 1);
  user.words = sizes[0];
  user.obs_size = sizes[1];
  user.discrete_size = sizes[2];
  user.num_actions = sizes[3];
  user.action_size = sizes[4];
  const bool one_obs =
      (user.obs_size > 0 && user.discrete_size == 0) || (user.obs_size == 0 && user.discrete_size == 1);
  const bool one_action = (user.num_actions > 0) != (user.action_size > 0);
  if (user.words < 2 || !one_obs || !one_action || num_envs < 1 || max_episode_steps < 1 || num_threads < 1)
    throw std::invalid_argument(
        "VecEnv: sizes of a user's environment, num_envs, max_episode_steps and num_threads "
        "must be positive");
  // NOLINTBEGIN(performance-no-int-to-ptr): Numba gives the addresses of its functions as integers
  user.reset = reinterpret_cast<decltype(user.reset)>(addresses[0]);
  user.step = reinterpret_cast<decltype(user.step)>(addresses[1]);
  user.observe = reinterpret_cast<decltype(user.observe)>(addresses[2]);
  // NOLINTEND(performance-no-int-to-ptr)
  return std::make_unique<VecEnv>(user, num_envs, max_episode_steps, autoreset_of(autoreset), num_threads);
}

std::unique_ptr<VecEnv> make(const std::string& kernel, bool fast, int64_t num_envs,
                             int64_t max_episode_steps, const std::string& autoreset,
                             const std::vector<double>& options, std::optional<const TransitionTable*> given,
                             int64_t num_threads) {
  const TransitionTable* transitions = given.value_or(nullptr);
  const EnvsTable& table = fast ? envs_fast() : envs();
  int64_t index = 0;
  while (index < table.size && kernel != table.kernel[index].name) ++index;
  if (index == table.size) throw std::invalid_argument("VecEnv: no compiled environment is called " + kernel);
  if (num_envs < 1 || max_episode_steps < 1 || num_threads < 1 || options.size() > kEnvOptions)
    throw std::invalid_argument(
        "VecEnv: num_envs, max_episode_steps and num_threads must be >= 1, options at most 4");
  const EnvKernel& found = table.kernel[index];
  if (found.needs_table != (transitions != nullptr) ||
      (transitions != nullptr && found.num_actions > 0 && found.num_actions != transitions->num_actions))
    throw std::invalid_argument("VecEnv: table must be given to tabular environments and fit them");
  return std::make_unique<VecEnv>(fast ? EnvMode::fast : EnvMode::exact, index, num_envs, max_episode_steps,
                                  autoreset_of(autoreset), options.data(),
                                  static_cast<int64_t>(options.size()), transitions, num_threads);
}

void seed(VecEnv& env, const Seeds& seeds) {
  if (static_cast<int64_t>(seeds.size()) != env.num_envs())
    throw std::invalid_argument("VecEnv.seed: one seed or None for each env");
  const auto for_each = [&seeds](const auto& use) {
    int64_t i = 0;
    for (const py::object number : seeds) {
      if (!number.is_none()) use(i, entropy_words(number.cast<py::int_>()));
      ++i;
    }
  };
  for_each([](int64_t, const std::vector<uint32_t>&) {});  // raises before the first takes effect
  for_each([&env](int64_t i, const std::vector<uint32_t>& entropy) {
    env.seed(i, entropy.data(), static_cast<int64_t>(entropy.size()));
  });
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
  char bytes[sizeof(Pcg64)] = {};
  const Pcg64& rng = rng_of(env, i);
  std::memcpy(bytes, &rng, offsetof(Pcg64, half) + sizeof rng.half);
  return py::bytes(bytes, sizeof bytes);
}

void set_rng(VecEnv& env, int64_t i, const py::bytes& given) {
  const std::string bytes = given;
  if (bytes.size() != sizeof(Pcg64)) throw std::invalid_argument("VecEnv.set_rng: bytes must be get_rng's");
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

py::array_t<int64_t> discrete_view(const py::object& self, const VecEnv& env, int64_t* data) {
  const auto stride = static_cast<py::ssize_t>(env.batch().stride * sizeof(int64_t));
  return py::array_t<int64_t>({env.batch().discrete_size, env.num_envs()}, {stride, py::ssize_t{8}}, data,
                              self);
}

}  // namespace

void register_envs(py::module_& m) {
  py::class_<VecEnv> cls(m, "VecEnv", "N copies of a compiled environment; see csrc/envs.h.");
  cls.def(py::init(&make), py::arg("kernel"), py::arg("fast"), py::arg("num_envs"),
          py::arg("max_episode_steps"), py::arg("autoreset"), py::arg("options"),
          py::arg("table") = py::none(), py::arg("num_threads") = 1, py::keep_alive<1, 8>())
      .def(py::init(&make_user), py::arg("name"), py::arg("sizes"), py::arg("addresses"), py::arg("owner"),
           py::arg("num_envs"), py::arg("max_episode_steps"), py::arg("autoreset"), py::arg("num_threads"),
           py::keep_alive<1, 5>())
      .def_property_readonly("failed", &VecEnv::failed)
      .def_property_readonly("failure",
                             [](const VecEnv& env) {
                               constexpr const char* kNames[kUserFailures] = {"step", "reset", "observe"};
                               return kNames[static_cast<size_t>(env.failure())];
                             })
      .def_property_readonly("num_envs", &VecEnv::num_envs)
      .def_property_readonly("obs_size", &VecEnv::obs_size)
      .def_property_readonly("num_actions", &VecEnv::num_actions)
      .def_property_readonly("action_size", &VecEnv::action_size)
      .def_property_readonly("num_threads", &VecEnv::num_threads)
      .def_property_readonly(
          "bounds", [](const VecEnv& env) { return Bounds{env.kernel().bounds[0], env.kernel().bounds[1]}; })
      .def_property_readonly("started", &VecEnv::started)
      .def_property_readonly("num_states",
                             [](const VecEnv& env) {
                               const TransitionTable* table = env.batch().table;
                               return table == nullptr ? 0 : table->num_states;
                             })
      .def_property_readonly("has_prob", [](const VecEnv& env) { return env.kernel().has_prob; })
      .def_property_readonly("whole_reset_prob",
                             [](const VecEnv& env) { return env.kernel().whole_reset_prob; })
      .def("seed", &seed, py::arg("seeds"), "Seeds each env whose entry is not None.")
      .def("reset", &reset, py::arg("mask"), py::arg("bounds"))
      .def("get_rng", &get_rng, py::arg("env"),
           "The env's PCG64: state and increment, 16 bytes each, has_uint32 and uinteger, 4 each, 8 unused.")
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

  add_method(
      cls, "infos", infos<transition_infos>,
      "infos(self: object) -> dict[str, typing.Any]\n\nGymnasium's infos of every env's last transition or "
      "reset.",
      METH_NOARGS);
  add_method(cls, "step_infos", infos<step_infos>,
             "step_infos(self: object) -> dict[str, typing.Any]\n\nGymnasium's infos of a step, final ones "
             "included.",
             METH_NOARGS);

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
  per_env("discrete",
          [](const py::object& self, VecEnv& env) { return discrete_view(self, env, env.batch().discrete); });
  per_env("final_discrete", [](const py::object& self, VecEnv& env) {
    return discrete_view(self, env, env.batch().final_discrete);
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
  per_env("prob", [](const py::object& self, VecEnv& env) {
    if (!env.kernel().has_prob) throw py::attribute_error("VecEnv: this environment tells no probabilities");
    return view<double>(self, env.batch().prob, {env.num_envs()});
  });
  per_env("final_prob", [](const py::object& self, VecEnv& env) {
    if (!env.kernel().has_prob) throw py::attribute_error("VecEnv: this environment tells no probabilities");
    return view<double>(self, env.batch().final_prob, {env.num_envs()});
  });
  per_env("state", [](const py::object& self, VecEnv& env) -> py::array {
    if (env.batch().user != nullptr)
      return view<int64_t>(self, env.batch().state, {env.num_envs(), env.kernel().state_size});
    const std::vector<py::ssize_t> shape{env.kernel().state_size, env.batch().stride};
    if (env.kernel().discrete_size > 0) return view<int64_t>(self, env.batch().state, shape);
    if (env.kernel().real_size == sizeof(float)) return view<float>(self, env.batch().state, shape);
    return view<double>(self, env.batch().state, shape);
  });
}

}  // namespace fastrl
