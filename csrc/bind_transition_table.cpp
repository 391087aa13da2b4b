#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "transition_table.h"

namespace py = pybind11;

namespace fastrl {
namespace {

template <class Element>
using Array = py::array_t<Element, py::array::c_style>;

void require(bool holds, const char* rule) {
  if (!holds) throw std::invalid_argument(std::string("TransitionTable: ") + rule);
}

// FNV-1a.
template <class Element>
void mix(uint64_t& hash, const std::vector<Element>& items) {
  std::vector<unsigned char> bytes(items.size() * sizeof(Element));
  if (!bytes.empty()) std::memcpy(bytes.data(), items.data(), bytes.size());
  for (const unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211u;
}

// Owns the arrays of the table that it is.
class OwnedTable : public TransitionTable {
 public:
  OwnedTable(int64_t actions, const Array<int64_t>& offset, const Array<int64_t>& next_state,
             const Array<double>& reward, const Array<double>& probability, const Array<bool>& terminated,
             const Array<double>& initial, const std::optional<Array<int8_t>>& mask)
      : TransitionTable{} {
    const int64_t states = initial.size(), outcomes_given = next_state.size();
    require(actions >= 1 && states >= 1 && states < std::numeric_limits<int32_t>::max() / actions,
            "there must be actions and states");
    require(offset.size() == states * actions + 1 && offset.at(0) == 0 &&
                offset.at(states * actions) == outcomes_given,
            "offset must be [num_states * num_actions + 1]");
    require(reward.size() == outcomes_given && probability.size() == outcomes_given &&
                terminated.size() == outcomes_given,
            "outcomes must have the same number of next states, rewards, probabilities and flags");
    for (int64_t pair = 0; pair < states * actions; ++pair) {
      require(offset.at(pair) < offset.at(pair + 1) && offset.at(pair + 1) <= outcomes_given,
              "each state and action must have an outcome");
      width = std::max(width, offset.at(pair + 1) - offset.at(pair));
    }
    outcomes_.resize(static_cast<size_t>(states * actions * width));
    for (int64_t pair = 0; pair < states * actions; ++pair) {
      double sum = 0;  // as NumPy's cumsum
      Outcome* row = outcomes_.data() + pair * width;
      for (int64_t k = 0; k < width; ++k) {
        const int64_t from = std::min(offset.at(pair) + k, offset.at(pair + 1) - 1);
        const bool beyond = offset.at(pair) + k > from;
        require(next_state.at(from) >= 0 && next_state.at(from) < states, "next states must be states");
        require(probability.at(from) >= 0, "probabilities must be >= 0");
        if (!beyond) sum += probability.at(from);
        row[k] = {sum, probability.at(from), reward.at(from), static_cast<int32_t>(next_state.at(from)),
                  static_cast<int32_t>(terminated.at(from))};
      }
    }
    double sum = 0;
    for (int64_t s = 0; s < states; ++s) {
      require(initial.at(s) >= 0, "initial probabilities must be >= 0");
      sum += initial.at(s);
      if (initial.at(s) > 0) starts_.push_back({sum, s});
    }
    if (mask) {
      require(mask->size() == states * actions, "action_mask must be [num_states, num_actions]");
      mask_.assign(mask->data(), mask->data() + mask->size());
    }
    num_states = states;
    num_actions = actions;
    outcome = outcomes_.data();
    num_starts = static_cast<int64_t>(starts_.size());
    start = starts_.data();
    action_mask = mask ? mask_.data() : nullptr;
    uint64_t hash = 14695981039346656037u;
    mix(hash, outcomes_);
    mix(hash, starts_);
    fingerprint = hash | 1;
  }

 private:
  std::vector<Outcome> outcomes_;
  std::vector<Start> starts_;
  std::vector<int8_t> mask_;
};

}  // namespace

void register_transition_table(py::module_& m) {
  py::class_<TransitionTable, std::shared_ptr<TransitionTable>>(
      m, "TransitionTable", "A finite MDP for stepping; see csrc/transition_table.h.")
      .def(py::init([](int64_t num_actions, const Array<int64_t>& offset, const Array<int64_t>& next_state,
                       const Array<double>& reward, const Array<double>& probability,
                       const Array<bool>& terminated, const Array<double>& initial,
                       const std::optional<Array<int8_t>>& action_mask) {
             return std::shared_ptr<TransitionTable>(std::make_shared<OwnedTable>(
                 num_actions, offset, next_state, reward, probability, terminated, initial, action_mask));
           }),
           py::arg("num_actions"), py::arg("offset"), py::arg("next_state"), py::arg("reward"),
           py::arg("probability"), py::arg("terminated"), py::arg("initial"),
           py::arg("action_mask") = py::none());
}

}  // namespace fastrl
