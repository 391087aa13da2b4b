// An array of one or two axes as the kernels see it.
#pragma once

#include <cstdint>

namespace fastrl {

// Strides are counted in elements. A null `data` stands for an argument that was not given.
template <class T>
struct Strided {
  T* data;
  int64_t row;
  int64_t column;
};

}  // namespace fastrl
