#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "sum_tree.h"

namespace py = pybind11;

namespace fastrl {
namespace {

// The elements of an array [n] without gaps, or null: then fastrl.kernels.replay says what is wrong or brings
// the argument into this form.
template <class T>
T* plain(py::handle x, int64_t* n) {
  if (!py::isinstance<py::array_t<T>>(x)) return nullptr;
  const auto array = py::reinterpret_borrow<py::array>(x);
  constexpr int kFlags = int{py::array::c_style} | int{py::detail::npy_api::NPY_ARRAY_ALIGNED_};
  if (array.ndim() != 1 || (array.flags() & kFlags) != kFlags) return nullptr;
  *n = array.shape(0);
  return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class T>
T* plain_out(py::handle x, int64_t n) {
  int64_t size = 0;
  T* data = plain<T>(x, &size);
  return data != nullptr && size == n && py::reinterpret_borrow<py::array>(x).writeable() ? data : nullptr;
}

// Finite and at least 0; NaN for what is no such number.
double amount(py::handle x) {
  const double value = PyFloat_AsDouble(x.ptr());
  if (PyErr_Occurred()) PyErr_Clear();  // and value is -1
  return value >= 0 && std::isfinite(value) ? value : std::nan("");
}

bool is_leaf(double x) { return x >= 0 && x <= kLargestLeaf; }

bool overlap(const void* a, int64_t a_bytes, const void* b, int64_t b_bytes) {
  const auto x = reinterpret_cast<uintptr_t>(a), y = reinterpret_cast<uintptr_t>(b);
  return x < y + static_cast<uintptr_t>(b_bytes) && y < x + static_cast<uintptr_t>(a_bytes);
}

enum class Normalize { none, batch, buffer, unknown };

Normalize normalize_of(py::handle x) {
  if (x.is_none()) return Normalize::none;
  if (!PyUnicode_Check(x.ptr())) return Normalize::unknown;
  if (PyUnicode_CompareWithASCIIString(x.ptr(), "batch") == 0) return Normalize::batch;
  if (PyUnicode_CompareWithASCIIString(x.ptr(), "buffer") == 0) return Normalize::buffer;
  return Normalize::unknown;
}

// What fastrl.kernels.SumTree calls. The methods that take arrays return false or None, and have changed
// nothing, where an argument will not do. The interpreter's lock is held throughout: it guards the tree.
class PrioritizedTree {
 public:
  PrioritizedTree(int64_t capacity, double alpha, double eps, uint64_t seed)
      : tree_(capacity), alpha_(alpha), eps_(eps), seed_(seed) {}

  bool update(py::handle index, py::handle priority) {
    int64_t n = 0, size = 0;
    const int64_t* at = plain<int64_t>(index, &n);
    if (at == nullptr || !in_range(at, n)) return false;
    leaf_.resize(std::max(leaf_.size(), static_cast<size_t>(n)));
    double largest = largest_;
    if (const float* p = plain<float>(priority, &size)) {
      if (size != n || !to_leaves(p, n, eps_, alpha_, leaf_.data(), &largest)) return false;
    } else if (const double* q = plain<double>(priority, &size)) {
      if (size != n || !to_leaves(q, n, eps_, alpha_, leaf_.data(), &largest)) return false;
    } else {
      return false;
    }
    if (n == 0) return true;
    tree_.set(at, leaf_.data(), n);
    largest_ = largest;
    return true;
  }

  bool set_leaves(py::handle index, py::handle leaf) {
    int64_t n = 0, size = 0;
    const int64_t* at = plain<int64_t>(index, &n);
    const double* from = plain<double>(leaf, &size);
    if (at == nullptr || from == nullptr || n != size || !in_range(at, n) ||
        !std::all_of(from, from + n, is_leaf))
      return false;
    tree_.set(at, from, n);
    return true;
  }

  // (index, weight), new or `out`.
  py::object sample(py::handle batch_size, py::handle beta, py::handle stratified, py::handle normalize,
                    py::handle out) {
    if (!PyLong_CheckExact(batch_size.ptr())) return py::none();
    const int64_t n = PyLong_AsLongLong(batch_size.ptr());
    if (PyErr_Occurred()) PyErr_Clear();  // and n is -1
    const int in_strata = PyObject_IsTrue(stratified.ptr());
    if (in_strata < 0) throw py::error_already_set();
    const Normalize how = normalize_of(normalize);
    const double exponent = amount(beta), total = tree_.total();
    if (n < 0 || n >= int64_t{1} << 33 || how == Normalize::unknown || std::isnan(exponent) ||
        (total <= 0 && n > 0))
      return py::none();
    py::object result;
    if (out.is_none()) {
      result = py::make_tuple(py::array_t<int64_t>(n), py::array_t<float>(n));
    } else if (PyTuple_CheckExact(out.ptr()) && PyTuple_GET_SIZE(out.ptr()) == 2) {
      result = py::reinterpret_borrow<py::object>(out);
    } else {
      return py::none();
    }
    auto* index = plain_out<int64_t>(PyTuple_GET_ITEM(result.ptr(), 0), n);
    auto* weight = plain_out<float>(PyTuple_GET_ITEM(result.ptr(), 1), n);
    if (index == nullptr || weight == nullptr || overlap(index, 8 * n, weight, 4 * n)) return py::none();
    if (n == 0) return result;
    leaf_.resize(std::max(leaf_.size(), static_cast<size_t>(n)));
    tree_.sample(seed_, counter_++, n, in_strata != 0, index, leaf_.data());
    double reference = 0;
    if (how == Normalize::batch) reference = *std::min_element(leaf_.data(), leaf_.data() + n);
    if (how == Normalize::buffer) reference = tree_.min();
    if (how == Normalize::none) reference = total / static_cast<double>(tree_.count());
    importance_weights(leaf_.data(), n, exponent, reference, weight);
    return result;
  }

  py::object find(py::handle mass) {
    int64_t n = 0;
    const double* at = plain<double>(mass, &n);
    const double total = tree_.total();
    const auto inside = [total](double x) { return x >= 0 && x <= total; };
    if (at == nullptr || (total <= 0 && n > 0) || !std::all_of(at, at + n, inside)) return py::none();
    py::array_t<int64_t> index(n);
    leaf_.resize(std::max(leaf_.size(), static_cast<size_t>(n)));
    if (n > 0) tree_.find(at, n, index.mutable_data(), leaf_.data());
    return index;
  }

  py::object get(py::handle index) const {
    int64_t n = 0;
    const int64_t* at = plain<int64_t>(index, &n);
    if (at == nullptr || !in_range(at, n)) return py::none();
    py::array_t<double> leaf(n);
    double* to = leaf.mutable_data();
    for (int64_t i = 0; i < n; ++i) to[i] = tree_.get(at[i]);
    return leaf;
  }

  double sum(int64_t first, int64_t last) const {
    return in_span(first, last) ? tree_.sum(first, last) : NAN;
  }
  double min(int64_t first, int64_t last) const {
    return in_span(first, last) ? tree_.min(first, last) : NAN;
  }

  py::array_t<double> leaves() const { return py::array_t<double>(tree_.capacity(), tree_.leaves()); }

  bool load(py::handle leaf, double largest, uint64_t seed, uint64_t counter) {
    int64_t n = 0;
    const double* from = plain<double>(leaf, &n);
    if (from == nullptr || n != tree_.capacity() || !std::all_of(from, from + n, is_leaf)) return false;
    tree_.assign(from);
    largest_ = largest;
    seed_ = seed;
    counter_ = counter;
    return true;
  }

  const SumTree& tree() const { return tree_; }
  double largest() const { return largest_; }
  uint64_t seed() const { return seed_; }
  uint64_t counter() const { return counter_; }

 private:
  bool in_range(const int64_t* index, int64_t n) const {
    const auto end = static_cast<uint64_t>(tree_.capacity());
    bool all = true;
    for (int64_t i = 0; i < n; ++i) all &= static_cast<uint64_t>(index[i]) < end;
    return all;
  }
  bool in_span(int64_t first, int64_t last) const {
    return first >= 0 && first <= last && last <= tree_.capacity();
  }

  SumTree tree_;
  double alpha_, eps_, largest_ = 0;
  uint64_t seed_, counter_ = 0;
  std::vector<double> leaf_;
};

}  // namespace

void register_sum_tree(py::module_& m) {
  py::class_<PrioritizedTree>(m, "SumTree", "What fastrl.kernels.SumTree calls; see csrc/sum_tree.h.")
      .def(py::init<int64_t, double, double, uint64_t>(), py::arg("capacity"), py::arg("alpha"),
           py::arg("eps"), py::arg("seed"))
      .def("update", &PrioritizedTree::update)
      .def("set_leaves", &PrioritizedTree::set_leaves)
      .def("sample", &PrioritizedTree::sample)
      .def("find", &PrioritizedTree::find)
      .def("get", &PrioritizedTree::get)
      .def("sum", &PrioritizedTree::sum)
      .def("min", &PrioritizedTree::min)
      .def("leaves", &PrioritizedTree::leaves)
      .def("load", &PrioritizedTree::load)
      .def_property_readonly("total", [](const PrioritizedTree& x) { return x.tree().total(); })
      .def_property_readonly("count", [](const PrioritizedTree& x) { return x.tree().count(); })
      .def_property_readonly("largest", &PrioritizedTree::largest)
      .def_property_readonly("seed", &PrioritizedTree::seed)
      .def_property_readonly("counter", &PrioritizedTree::counter);
}

}  // namespace fastrl
