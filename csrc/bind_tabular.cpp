#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "array.h"
#include "components.h"
#include "dispatch.h"
#include "end_components.h"
#include "outcomes.h"
#include "planner.h"
#include "prioritized.h"

namespace py = pybind11;

namespace fastrl {

FASTRL_DISPATCH(TabularTable, tabular)
FASTRL_DISPATCH(PolicyTable, policy_sweeps)

namespace {

constexpr const char* kOp = "Bellman";

using ChangeTuple = py::typing::Tuple<double, double, int64_t>;
using RangeTuple = py::typing::Tuple<double, double>;

void interrupted() {
  const py::gil_scoped_acquire acquire;
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

int64_t positive(int64_t threads) {
  if (threads < 1) reject(kOp, "num_threads", "at least 1");
  return threads;
}

// A model whose arrays belong to the caller; they must not change.
class Bellman : public Checked {
 public:
  Bellman(const py::object& pair_offset, const py::object& offset, const py::object& next_state,
          const py::object& weight, const py::object& reward, const py::object& terminal, int64_t threads)
      : keep_{pair_offset, offset, next_state, weight, reward, terminal} {
    const py::ssize_t states = array_of<const int64_t>(pair_offset, kOp, "pair_offset", 1).shape(0) - 1;
    const py::ssize_t pairs = array_of<const double>(reward, kOp, "reward", 1).shape(0);
    if (states < 1) reject(kOp, "pair_offset", "of at least one state");
    model.num_states = states;
    model.num_pairs = pairs;
    model.pair_offset = data_of<const int64_t>(pair_offset, kOp, "pair_offset", {states + 1});
    model.reward = data_of<const double>(reward, kOp, "reward", {pairs});
    model.terminal =
        terminal.is_none() ? nullptr : data_of<const uint8_t>(terminal, kOp, "terminal", {states});
    if (offset.is_none()) {
      model.layout = Layout::dense;
      model.offset = model.next_state = nullptr;
      model.weight = data_of<const double>(weight, kOp, "weight", {pairs, states});
    } else if (py::isinstance<py::array_t<int32_t>>(offset)) {
      take<int32_t>(Layout::int32);
    } else {
      take<int64_t>(Layout::int64);
    }
    positive(threads);
    const py::gil_scoped_release release;
    mass = inspect(model, threads);
  }

  ChangeTuple sweep(py::handle value, double gamma, py::handle next, py::handle choice, py::handle q,
                    int64_t threads) const {
    const auto n = static_cast<py::ssize_t>(model.num_states);
    const Backup what{&model,
                      data_of<const double>(value, kOp, "value", {n}),
                      gamma,
                      data_of<double>(next, kOp, "next_value", {n}),
                      data_of<int32_t>(choice, kOp, "choice", {n}),
                      q.is_none() ? nullptr : data_of<double>(q, kOp, "q", {model.num_pairs})};
    for (py::ssize_t s = 0; s < n; ++s) require_choice(s, what.choice[s]);
    Change change;
    {
      const py::gil_scoped_release release;
      change = backup(*this, what, positive(threads));
    }
    return py::make_tuple(change.low, change.high, change.switched);
  }

  py::array_t<double> expect(py::handle value) const {
    const auto* v = data_of<const double>(value, kOp, "value", {model.num_states});
    py::array_t<double> out(model.num_pairs);
    double* to = out.mutable_data();
    const py::gil_scoped_release release;
    tabular().expect[static_cast<int>(model.layout)](model, v, 0, model.num_pairs, to);
    return out;
  }

  void add_transposed(py::handle mass_of_pairs, double gamma, py::handle out) const {
    const auto* from = data_of<const double>(mass_of_pairs, kOp, "mass", {model.num_pairs});
    auto* to = data_of<double>(out, kOp, "out", {model.num_states});
    const py::gil_scoped_release release;
    tabular().transposed[static_cast<int>(model.layout)](model, from, gamma, to);
  }

  py::typing::Tuple<int64_t, double, bool> solve_components(py::handle value, double gamma, double tolerance,
                                                            int64_t max_sweeps, bool pessimistic) const {
    auto* v = data_of<double>(value, kOp, "value", {model.num_states});
    Solved solved;
    {
      const py::gil_scoped_release release;
      solved = fastrl::solve_components(*this, {gamma, tolerance, max_sweeps, pessimistic}, v, interrupted);
    }
    return py::make_tuple(solved.components, solved.sweeps, solved.converged);
  }

  template <Solved (*sweep)(const Checked&, const Effort&, double*, const Interrupted&)>
  py::typing::Tuple<double, bool> in_place(py::handle value, double gamma, double tolerance,
                                           int64_t max_sweeps) const {
    auto* v = data_of<double>(value, kOp, "value", {model.num_states});
    Solved solved;
    {
      const py::gil_scoped_release release;
      solved = sweep(*this, {gamma, tolerance, max_sweeps, false}, v, interrupted);
    }
    return py::make_tuple(solved.sweeps, solved.converged);
  }

  py::array_t<int32_t> components_of() const {
    Components found;
    {
      const py::gil_scoped_release release;
      found = components(model);
    }
    return of_states(found.of);
  }

  py::array_t<int32_t> end_components(py::handle kept) const {
    auto* pairs = data_of<uint8_t>(kept, kOp, "kept", {model.num_pairs});
    std::vector<int32_t> found;
    {
      const py::gil_scoped_release release;
      found = fastrl::end_components(model, pairs);
    }
    return of_states(found);
  }

  py::array_t<int32_t> toward(py::handle target, py::handle kept) const {
    const auto* to = data_of<const uint8_t>(target, kOp, "target", {model.num_states});
    const auto* pairs = data_of<const uint8_t>(kept, kOp, "kept", {model.num_pairs});
    std::vector<int32_t> found;
    {
      const py::gil_scoped_release release;
      found = fastrl::toward(model, to, pairs);
    }
    return of_states(found);
  }

  void require_choice(int64_t s, int32_t choice) const {
    if (choice < -1 || choice >= model.pair_offset[s + 1] - model.pair_offset[s])
      reject(kOp, "choice", "indices among the state's pairs, or -1");
  }

 private:
  static py::array_t<int32_t> of_states(const std::vector<int32_t>& found) {
    return py::array_t<int32_t>(static_cast<py::ssize_t>(found.size()), found.data());
  }

  template <class Index>
  void take(Layout layout) {
    model.layout = layout;
    model.offset = data_of<const Index>(keep_[1], kOp, "offset", {model.num_pairs + 1});
    const py::ssize_t entries = array_of<const double>(keep_[3], kOp, "weight", 1).shape(0);
    model.next_state = data_of<const Index>(keep_[2], kOp, "next_state", {entries});
    model.weight = data_of<const double>(keep_[3], kOp, "weight", {entries});
    if (static_cast<const Index*>(model.offset)[model.num_pairs] != entries)
      reject(kOp, "offset", "as long in all as there are weights");
  }

  std::vector<py::object> keep_;
};

py::array_t<int64_t> draw(const py::object& offset, const py::object& probability, py::handle pair,
                          py::handle uniform) {
  constexpr const char* op = "draw_outcomes";
  const py::ssize_t size = array_of<const int64_t>(pair, op, "pair", 1).shape(0);
  const auto* of = data_of<const int64_t>(pair, op, "pair", {size});
  const auto* u = data_of<const double>(uniform, op, "uniform", {size});
  Rows rows{Layout::dense, 0, 0, 0, nullptr, nullptr};
  if (offset.is_none()) {
    std::tie(rows.probability, rows.num_pairs) = rows_of<const double>(
        probability, op, "probability", array_of<const double>(probability, op, "probability", 2).shape(1));
    rows.num_states = py::reinterpret_borrow<py::array>(probability).shape(1);
    rows.entries = rows.num_pairs * rows.num_states;
  } else {
    const bool narrow = py::isinstance<py::array_t<int32_t>>(offset);
    const py::array begins = narrow ? array_of<const int32_t>(offset, op, "offset", 1)
                                    : array_of<const int64_t>(offset, op, "offset", 1);
    rows.layout = narrow ? Layout::int32 : Layout::int64;
    rows.num_pairs = begins.shape(0) - 1;
    if (narrow)
      rows.offset = data_of<const int32_t>(offset, op, "offset", {begins.shape(0)});
    else
      rows.offset = data_of<const int64_t>(offset, op, "offset", {begins.shape(0)});
    rows.entries = array_of<const double>(probability, op, "probability", 1).shape(0);
    rows.probability = data_of<const double>(probability, op, "probability", {rows.entries});
  }
  py::array_t<int64_t> out(size);
  int64_t* to = out.mutable_data();
  int64_t drawn = 0;
  {
    const py::gil_scoped_release release;
    drawn = draw_outcomes(rows, of, u, size, to);
  }
  if (drawn < size) reject(op, "pair", "indices of pairs that have an outcome");
  return out;
}

// A planner with the model that it reads.
class BoundIterator {
 public:
  BoundIterator(const py::object& of, double gamma, py::handle value, int64_t threads)
      : of_(of), iterator_(make(of.cast<const Bellman&>(), gamma, value, threads)) {}

  ChangeTuple improve() {
    Change change;
    {
      const py::gil_scoped_release release;
      change = iterator_.improve();
    }
    return py::make_tuple(change.low, change.high, change.switched);
  }

  py::typing::Tuple<int64_t, double> evaluate(double reduction, int64_t most) {
    PolicyIterator::Evaluated done;
    {
      const py::gil_scoped_release release;
      done = iterator_.evaluate(reduction, most, interrupted);
    }
    return py::make_tuple(done.sweeps, done.reduced);
  }

  double size() const { return iterator_.size(); }
  void accept() { iterator_.accept(); }

  py::array_t<double> value() const { return py::array_t<double>(states(), iterator_.value()); }
  py::array_t<double> next_value() const { return py::array_t<double>(states(), iterator_.next()); }
  py::array_t<int32_t> choice() const { return py::array_t<int32_t>(states(), iterator_.choice()); }

 private:
  static PolicyIterator make(const Bellman& of, double gamma, py::handle value, int64_t threads) {
    const auto n = static_cast<py::ssize_t>(of.model.num_states);
    const auto* v = value.is_none() ? nullptr : data_of<const double>(value, kOp, "value", {n});
    const py::gil_scoped_release release;
    return {of, gamma, v, positive(threads)};
  }

  py::ssize_t states() const { return static_cast<py::ssize_t>(of_.cast<const Bellman&>().model.num_states); }

  py::object of_;
  PolicyIterator iterator_;
};

}  // namespace

void register_tabular(py::module_& m) {
  m.def("draw_outcomes", &draw, py::arg("offset"), py::arg("probability"), py::arg("pair"),
        py::arg("uniform"),
        "[N]: which of all outcomes each pair has, by inversion of a uniform number for each.");
  py::class_<Bellman>(m, "Bellman", "Sweeps over a finite MDP's arrays, which it keeps and does not copy.")
      .def(py::init<const py::object&, const py::object&, const py::object&, const py::object&,
                    const py::object&, const py::object&, int64_t>(),
           py::arg("pair_offset"), py::arg("offset"), py::arg("next_state"), py::arg("weight"),
           py::arg("reward"), py::arg("terminal"), py::arg("num_threads") = 1)
      .def("backup", &Bellman::sweep, py::arg("value"), py::arg("gamma"), py::arg("next_value"),
           py::arg("choice"), py::arg("q"), py::arg("num_threads") = 1,
           "next_value = T value; least and greatest change, and how many choices changed.")
      .def("expect", &Bellman::expect, py::arg("value"), "[L]: sum of weight times value over each row.")
      .def("add_transposed", &Bellman::add_transposed, py::arg("mass"), py::arg("gamma"), py::arg("out"),
           "out [S] += gamma * weight^T mass [L], without terminal states' pairs.")
      .def_property_readonly(
          "mass", [](const Bellman& b) -> RangeTuple { return py::make_tuple(b.mass.low, b.mass.high); },
          "Least and greatest weight that a pair gives to states that are not terminal.")
      .def_property_readonly(
          "longest", [](const Bellman& b) { return b.mass.longest; },
          "Additions that a pair's sum takes one after the other, at most.")
      .def("solve_components", &Bellman::solve_components, py::arg("value"), py::arg("gamma"),
           py::arg("tolerance"), py::arg("max_sweeps"), py::arg("pessimistic"),
           "Improves value in place, strongly connected parts after those they lead to; components, sweeps "
           "and "
           "whether each changed by less than the tolerance.")
      .def("gauss_seidel", &Bellman::in_place<gauss_seidel>, py::arg("value"), py::arg("gamma"),
           py::arg("tolerance"), py::arg("max_sweeps"),
           "Sweeps value in place, states in order, until a sweep changes none by more than the tolerance; "
           "sweeps and whether one did.")
      .def("prioritized_sweeping", &Bellman::in_place<prioritized_sweeping>, py::arg("value"),
           py::arg("gamma"), py::arg("tolerance"), py::arg("max_sweeps"),
           "Backs value up in place, the state with the greatest Bellman error next, until none can exceed "
           "the "
           "tolerance; backups as sweeps, and whether none can.")
      .def("components", &Bellman::components_of,
           "[S]: the strongly connected component of each state; a component leads to none with a greater "
           "number.")
      .def("end_components", &Bellman::end_components, py::arg("kept"),
           "[S]: the maximal end component of the pairs kept [L] that each state is in, or -1; kept becomes "
           "the "
           "pairs inside them.")
      .def("toward", &Bellman::toward, py::arg("target"), py::arg("kept"),
           "[S]: the state's pair, among those kept [L], that may lead a step nearer to target [S]; or -1.")
      .def_property_readonly(
          "reward_range",
          [](const Bellman& b) -> RangeTuple {
            return py::make_tuple(b.mass.reward_low, b.mass.reward_high);
          },
          "Least and greatest reward of states that are not terminal.");
  py::class_<BoundIterator>(m, "PolicyIterator", "Modified policy iteration, a step at a time.")
      .def(py::init<const py::object&, double, py::handle, int64_t>(), py::arg("bellman"), py::arg("gamma"),
           py::arg("value"), py::arg("num_threads"))
      .def("improve", &BoundIterator::improve,
           "next_value = T value; least and greatest change, and how many choices changed.")
      .def("evaluate", &BoundIterator::evaluate, py::arg("reduction"), py::arg("most"),
           "Sweeps of the greedy policy until the spread of changes is this times improve()'s; sweeps, "
           "spread.")
      .def("accept", &BoundIterator::accept, "value = next_value, moved by what all changes share.")
      .def_property_readonly("size", &BoundIterator::size, "Greatest absolute value.")
      .def_property_readonly("value", &BoundIterator::value)
      .def_property_readonly("next_value", &BoundIterator::next_value)
      .def_property_readonly("choice", &BoundIterator::choice);
}

}  // namespace fastrl
