// Seeds of environments, from Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace fastrl {

// One int or None an env. A range stays one: a list of a million seeds would take half as much memory as
// their environments.
class Seeds : public pybind11::sequence {
  PYBIND11_OBJECT_DEFAULT(Seeds, sequence, PySequence_Check)
};

// Python's int, as SeedSequence splits it.
inline std::vector<uint32_t> entropy_words(const pybind11::int_& number) {
  const unsigned long long small = PyLong_AsUnsignedLongLong(number.ptr());
  if (PyErr_Occurred() == nullptr) {
    std::vector<uint32_t> out{static_cast<uint32_t>(small)};
    if (small >> 32 != 0) out.push_back(static_cast<uint32_t>(small >> 32));
    return out;
  }
  PyErr_Clear();
  const auto bits = number.attr("bit_length")().cast<size_t>();
  const size_t words = bits == 0 ? 1 : (bits + 31) / 32;
  const auto bytes = number.attr("to_bytes")(words * 4, "little").cast<std::string>();
  std::vector<uint32_t> out(words);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

}  // namespace fastrl

template <>
struct pybind11::detail::handle_type_name<fastrl::Seeds> {
  static constexpr auto name = const_name("collections.abc.Sequence[int | None]");
};
