#include "env_infos.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "new_array.h"

namespace py = pybind11;

namespace fastrl {
namespace {

using Flags = std::vector<uint8_t>;

// A key of infos and that of its mask.
struct Key {
  PyObject *name, *mask;
};

Key key(const char* name, const char* mask) {
  return {PyUnicode_InternFromString(name), PyUnicode_InternFromString(mask)};
}

py::object owned(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(object);
}

template <class Element>
Element* data(const py::object& array) {
  return static_cast<Element*>(contents(array.ptr()));
}

// Sets infos[key] and its mask: flags [N], or all envs.
void put(py::dict& infos, const Key& key, const py::object& value, int64_t n, const Flags* flags) {
  const py::object mask = owned(new_array<bool>(n));
  if (flags == nullptr)
    std::memset(contents(mask.ptr()), 1, static_cast<size_t>(n));
  else
    std::memcpy(contents(mask.ptr()), flags->data(), static_cast<size_t>(n));
  if (PyDict_SetItem(infos.ptr(), key.name, value.ptr()) != 0 ||
      PyDict_SetItem(infos.ptr(), key.mask, mask.ptr()) != 0)
    throw py::error_already_set();
}

// Probabilities, and the action masks of states [N], of all envs or of those with a flag; the others are 0.
void put_transitions(py::dict& infos, const VecEnv& env, const double* prob, const int64_t* state,
                     const Flags* flags) {
  static const Key prob_key = key("prob", "_prob"), mask_key = key("action_mask", "_action_mask");
  const EnvBatch& batch = env.batch();
  const int64_t n = batch.num_envs;
  const auto told = [flags](int64_t i) { return flags == nullptr || (*flags)[static_cast<size_t>(i)] != 0; };
  // an array of Gymnasium's takes the type of the first value, which after a reset may be the integer 1
  const bool whole = flags == nullptr && env.kernel().whole_reset_prob && batch.elapsed[0] == 0;
  const py::object probs = owned(whole ? new_array<int64_t>(n) : new_array<double>(n));
  if (whole)
    std::copy_n(prob, n, data<int64_t>(probs));
  else
    for (int64_t i = 0; i < n; ++i) data<double>(probs)[i] = told(i) ? prob[i] : 0.0;
  put(infos, prob_key, probs, n, flags);
  if (batch.table == nullptr || batch.table->action_mask == nullptr) return;
  const auto actions = static_cast<size_t>(batch.table->num_actions);
  const py::object masks = owned(new_array<int8_t>(n, batch.table->num_actions));
  auto* row = data<int8_t>(masks);
  for (int64_t i = 0; i < n; ++i, row += actions) {
    if (told(i))
      std::memcpy(row, batch.table->action_mask + state[i] * batch.table->num_actions, actions);
    else
      std::memset(row, 0, actions);
  }
  put(infos, mask_key, masks, n, flags);
}

// The last observation of an env: float32 [obs_size], an int, or a tuple of int.
py::object final_observation(const VecEnv& env, int64_t i) {
  const EnvBatch& batch = env.batch();
  if (batch.discrete_size == 0) {
    py::object row = owned(new_array<float>(env.obs_size()));
    std::copy_n(batch.final_obs + i * env.obs_size(), env.obs_size(), data<float>(row));
    return row;
  }
  const auto part = [&](int64_t k) {
    return owned(PyLong_FromLongLong(batch.final_discrete[k * batch.stride + i]));
  };
  if (batch.discrete_size == 1) return part(0);
  py::object parts = owned(PyTuple_New(batch.discrete_size));
  for (int64_t k = 0; k < batch.discrete_size; ++k) PyTuple_SET_ITEM(parts.ptr(), k, part(k).release().ptr());
  return parts;
}

void put_finals(py::dict& infos, const VecEnv& env, const Flags& done) {
  static const Key obs_key = key("final_obs", "_final_obs"), info_key = key("final_info", "_final_info");
  const EnvBatch& batch = env.batch();
  const int64_t n = batch.num_envs;
  const py::object obs = owned(new_array<PyObject*>(n));
  auto* items = data<PyObject*>(obs);
  for (int64_t i = 0; i < n; ++i) items[i] = Py_NewRef(Py_None);
  for (int64_t i = 0; i < n; ++i) {
    if (done[static_cast<size_t>(i)] == 0) continue;
    Py_DECREF(items[i]);
    items[i] = nullptr;  // which NumPy takes for None, should the next line fail
    items[i] = final_observation(env, i).release().ptr();
  }
  put(infos, obs_key, obs, n, &done);
  py::dict info;
  if (env.kernel().has_prob) put_transitions(info, env, batch.final_prob, batch.final_discrete, &done);
  put(infos, info_key, info, n, &done);
}

}  // namespace

py::dict transition_infos(const VecEnv& env) {
  py::dict infos;
  if (env.kernel().has_prob) put_transitions(infos, env, env.batch().prob, env.batch().discrete, nullptr);
  return infos;
}

py::dict step_infos(const VecEnv& env) {
  const EnvBatch& batch = env.batch();
  py::dict infos;
  bool any = false;
  Flags done;
  if (batch.autoreset == Autoreset::same_step) {
    done.resize(static_cast<size_t>(batch.num_envs));
    for (size_t i = 0; i < done.size(); ++i) any |= (done[i] = batch.terminated[i] | batch.truncated[i]) != 0;
  }
  // a key stands where the first env that has it put it
  if (any && done[0] != 0) put_finals(infos, env, done);
  if (env.kernel().has_prob) put_transitions(infos, env, batch.prob, batch.discrete, nullptr);
  if (any && done[0] == 0) put_finals(infos, env, done);
  return infos;
}

}  // namespace fastrl
