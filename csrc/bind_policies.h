// Policies out of NumPy arguments, for the families that take them.
#pragma once

#include <string>
#include <vector>

#include "array.h"
#include "distributions.h"

namespace fastrl {

// [actions], the same in every row.
template <class T>
Strided<T> view_for_all_rows(pybind11::handle x, const char* op, const char* name, int64_t actions) {
  const Strided<T> column = view<T>(x, op, name, {actions});
  return {column.data, 0, column.row};
}

inline bool is_vector(pybind11::handle x) {
  return pybind11::isinstance<pybind11::array>(x) &&
         pybind11::reinterpret_borrow<pybind11::array>(x).ndim() == 1;
}

// [batch, actions], or [actions] for all rows.
template <class T>
Strided<T> view_of_rows(pybind11::handle x, const char* op, const char* name, int64_t batch,
                        int64_t actions) {
  if (is_vector(x)) return view_for_all_rows<T>(x, op, name, actions);
  return view<T>(x, op, name, {batch, actions});
}

inline Gaussian gaussian_of(pybind11::handle mean, pybind11::handle log_std, const char* op) {
  const pybind11::array array = array_of<const float>(mean, op, "mean", 2);
  const int64_t batch = array.shape(0), actions = array.shape(1);
  if (actions < 1) reject(op, "mean", "of at least one action");
  return {batch, actions, view_of<const float>(array),
          view_of_rows<const float>(log_std, op, "log_std", batch, actions)};
}

// `sizes` must outlive the result; empty, there is one choice.
inline Categorical categorical_of(int64_t batch, int64_t actions, Strided<const float> logits,
                                  pybind11::handle action_mask, const std::vector<int64_t>& sizes,
                                  const char* op) {
  Categorical policy = {batch, actions, logits,
                        view<const uint8_t>(action_mask, op, "action_mask", {batch, actions}, true)};
  if (sizes.empty()) return policy;
  int64_t left = actions;
  for (const int64_t size : sizes) {
    if (size < 1 || size > left) reject(op, "sizes", "positive and add up to the number of logits");
    left -= size;
  }
  if (left != 0) reject(op, "sizes", "positive and add up to the number of logits");
  policy.components = static_cast<int64_t>(sizes.size());
  policy.sizes = sizes.data();
  return policy;
}

// [batch], or [batch, components] where sizes were given.
template <class T>
Strided<T> view_of_choices(pybind11::handle x, const Categorical& policy, const char* op, const char* name,
                           bool optional = false) {
  if (policy.sizes == nullptr) return view<T>(x, op, name, {policy.batch}, optional);
  return view<T>(x, op, name, {policy.batch, policy.components}, optional);
}

template <class Work>
auto without_gil(bool takes_long, Work work) {
  if (!takes_long) return work();
  pybind11::gil_scoped_release release;
  return work();
}

}  // namespace fastrl
