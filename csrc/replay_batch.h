// The arrays of a batch: new ones, or the caller's.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "new_array.h"
#include "replay_arguments.h"
#include "scratch.h"

namespace fastrl {

// A buffer's fields, and what it returns besides them.
struct NamedFields {
  std::vector<NamedField> field;
  NamedField indexes = plain("indexes", py::dtype::of<int64_t>());
  NamedField weights = plain("weights", py::dtype::of<float>());
  NamedField discount = plain("discount", py::dtype::of<float>());
  NamedField mask = plain("mask", py::dtype::of<bool>());
  NamedField is_first = plain("is_first", py::dtype::of<bool>());

  static NamedField plain(const char* name, const py::dtype& dtype) {
    return {interned(name), dtype, dtype.kind(), dtype.itemsize(), dtype.itemsize(), {}};
  }

  [[noreturn]] void refuse(const char* op, const py::dict& given, const char* what = "fields must be ",
                           const std::string& besides = "") const {
    std::string names, got;
    for (const NamedField& one : field) names += (names.empty() ? "" : ", ") + std::string(one.name);
    for (const auto& item : given) got += (got.empty() ? "" : ", ") + std::string(py::str(item.first));
    throw py::value_error(std::string(op) + ": " + what + names + besides + ", got " +
                          (got.empty() ? "none" : got));
  }

  // The value given for a field.
  py::handle in(const char* op, const py::dict& given, const NamedField& one) const {
    PyObject* x = PyDict_GetItemWithError(given.ptr(), one.name.ptr());
    if (x == nullptr) refuse(op, given);
    return x;
  }

  // Where the rows of each field lie, all equally many; `values` keeps them alive.
  std::vector<const char*> read(const char* op, const py::dict& given, bool flat,
                                std::vector<Values>& values) const {
    const size_t count = field.size();
    if (given.size() != count) refuse(op, given);
    values.resize(count);
    std::vector<const char*> data(count);
    for (size_t f = 0; f < count; ++f) {
      const NamedField& one = field[f];
      const py::handle x = in(op, given, one);
      read_values(op, one, x, flat, values[f]);
      data[f] = values[f].data;
      if (values[f].rows != values[0].rows || (!flat && values[f].leading != values[0].leading))
        throw py::value_error(std::string(op) + ": " + std::string(one.name) + " must have as many rows as " +
                              std::string(field[0].name) + ", " + std::to_string(values[0].rows) +
                              (values[0].leading ? "" : " without an axis") + ", got " + described(x));
    }
    return data;
  }
};

// n rows, or n sequences of `length` rows, their steps first.
class Batch {
 public:
  Batch(const NamedFields& fields, const char* op, int64_t n, py::handle out, bool weighted, bool discounted,
        int64_t length = 0)
      : fields_(fields), op_(op), rows_(n), fresh_(out.is_none()), drawn_(fresh_ || n < 0 ? 0 : n) {
    const std::string name(op);
    if (n < 0) throw py::value_error(name + ": batch_size must be >= 0, got " + std::to_string(n));
    if (!fresh_ && !py::isinstance<py::dict>(out))
      throw py::type_error(name + ": out must be a dict of arrays or tensors, got " + described(out));
    result = fresh_ ? py::dict() : py::reinterpret_borrow<py::dict>(out);
    std::vector<const NamedField*> besides;
    if (length > 0) besides.insert(besides.end(), {&fields.mask, &fields.is_first});
    besides.push_back(&fields.indexes);
    if (weighted) besides.push_back(&fields.weights);
    if (discounted) besides.push_back(&fields.discount);
    if (!fresh_ && result.size() != fields.field.size() + besides.size()) refuse(besides);
    field.reserve(fields.field.size());
    const auto step = [&](const NamedField& one) {
      return length > 0 ? place(side_by_side(one, n), length) : place(one, n);
    };
    for (const NamedField& one : fields.field) field.push_back(step(one));
    if (length > 0) {
      mask = reinterpret_cast<bool*>(step(fields.mask));
      is_first = reinterpret_cast<bool*>(step(fields.is_first));
    }
    indexes_ = reinterpret_cast<int64_t*>(place(fields.indexes, n));
    index = fresh_ ? indexes_ : drawn_.data();
    if (weighted) weight = reinterpret_cast<float*>(place(fields.weights, n));
    if (discounted) discount = reinterpret_cast<float*>(place(fields.discount, n));
    if (!fresh_) require_apart();
  }

  // The result, with what was written to `index`.
  py::dict finished() {
    if (!fresh_) std::copy(index, index + rows_, indexes_);
    return result;
  }

  py::dict result;
  std::vector<char*> field;  // where each field's rows go
  int64_t* index = nullptr;  // not the caller's memory, which other threads may change before rows are read
  float *weight = nullptr, *discount = nullptr;
  bool *mask = nullptr, *is_first = nullptr;  // of sequences

 private:
  struct Taken {
    py::str name;
    py::object array;
    uintptr_t begin, end;
  };

  [[noreturn]] void refuse(const std::vector<const NamedField*>& besides) const {
    std::string names;
    for (const NamedField* one : besides) names += ", " + std::string(one->name);
    fields_.refuse(op_, result, "out must have ", names);
  }

  // A field of which each row is n rows.
  static NamedField side_by_side(NamedField field, int64_t n) {
    field.shape.insert(field.shape.begin(), static_cast<Py_intptr_t>(n));
    field.bytes *= n;
    return field;
  }

  char* place(const NamedField& one, int64_t rows) {
    if (fresh_) {
      const py::object array = new_rows(one, rows);
      if (PyDict_SetItem(result.ptr(), one.name.ptr(), array.ptr()) != 0) throw py::error_already_set();
      return static_cast<char*>(contents(array.ptr()));
    }
    PyObject* x = PyDict_GetItemWithError(result.ptr(), one.name.ptr());
    if (x == nullptr) throw py::value_error(std::string(op_) + ": out must have " + std::string(one.name));
    py::object array = callers_rows(op_, one, x, rows);
    char* data = static_cast<char*>(contents(array.ptr()));
    const auto begin = reinterpret_cast<uintptr_t>(data);
    taken_.push_back({one.name, std::move(array), begin, begin + static_cast<uintptr_t>(rows * one.bytes)});
    return data;
  }

  void require_apart() const {
    for (const Taken& a : taken_) {
      for (const Taken& b : taken_) {
        if (&a != &b && a.begin < b.end && b.begin < a.end)
          throw py::value_error(std::string(op_) + ": out must be arrays apart, got " + std::string(a.name) +
                                " and " + std::string(b.name) + " that share memory");
      }
    }
  }

  const NamedFields& fields_;
  const char* op_;
  int64_t rows_;
  bool fresh_;
  Scratch<int64_t> drawn_;
  int64_t* indexes_ = nullptr;
  std::vector<Taken> taken_;
};

}  // namespace fastrl
