// Rows of equal size, from or to scattered places.
#pragma once

#include <cstdint>
#include <cstring>

namespace fastrl {
namespace copying {

// A constant size becomes one or two moves.
template <int64_t kBytes>
void gather(const char* base, int64_t stride, const int64_t* row, int64_t n, char* out) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(out + i * kBytes, base + row[i] * stride, kBytes);
}

template <int64_t kBytes>
void scatter(const char* from, int64_t n, char* to, int64_t stride) {
  for (int64_t i = 0; i < n; ++i) std::memcpy(to + i * stride, from + i * kBytes, kBytes);
}

}  // namespace copying

// out[i] = row[i] of the rows at base, `stride` bytes apart.
inline void gather_rows(const char* base, int64_t stride, int64_t bytes, const int64_t* row, int64_t n,
                        char* out) {
  switch (bytes) {
    case 1:
      return copying::gather<1>(base, stride, row, n, out);
    case 2:
      return copying::gather<2>(base, stride, row, n, out);
    case 4:
      return copying::gather<4>(base, stride, row, n, out);
    case 8:
      return copying::gather<8>(base, stride, row, n, out);
    case 12:
      return copying::gather<12>(base, stride, row, n, out);
    case 16:
      return copying::gather<16>(base, stride, row, n, out);
    case 24:
      return copying::gather<24>(base, stride, row, n, out);
    case 32:
      return copying::gather<32>(base, stride, row, n, out);
    case 64:
      return copying::gather<64>(base, stride, row, n, out);
    default:
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(out + i * bytes, base + row[i] * stride, static_cast<size_t>(bytes));
  }
}

// n rows without gaps to places `stride` bytes apart.
inline void scatter_rows(const char* from, int64_t bytes, int64_t n, char* to, int64_t stride) {
  if (stride == bytes) {
    std::memcpy(to, from, static_cast<size_t>(n * bytes));
    return;
  }
  switch (bytes) {
    case 1:
      return copying::scatter<1>(from, n, to, stride);
    case 4:
      return copying::scatter<4>(from, n, to, stride);
    case 8:
      return copying::scatter<8>(from, n, to, stride);
    case 16:
      return copying::scatter<16>(from, n, to, stride);
    case 32:
      return copying::scatter<32>(from, n, to, stride);
    default:
      for (int64_t i = 0; i < n; ++i)
        std::memcpy(to + i * stride, from + i * bytes, static_cast<size_t>(bytes));
  }
}

}  // namespace fastrl
