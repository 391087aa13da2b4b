#include "normalize.h"

#include <cmath>

namespace fastrl {
namespace FASTRL_ISA {
namespace {

constexpr double kEpsilon = 1e-8;

int64_t rows_a_tile(int64_t columns) { return columns < kNormalizeTile ? kNormalizeTile / columns : 1; }

// Calls body(begin, n) for tiles of whole rows, n elements from begin on.
template <class Body>
void for_tiles(int64_t rows, int64_t columns, Body body) {
  const int64_t width = rows_a_tile(columns) * columns, total = rows * columns;
  int64_t begin = 0;
  for (; begin + width <= total; begin += width) body(begin, width);
  if (begin < total) body(begin, total - begin);
}

// Repeats the first row of a tile.
void fill_tile(double* tile, int64_t columns) {
  const int64_t width = rows_a_tile(columns) * columns;
  for (int64_t j = columns; j < width; ++j) tile[j] = tile[j - columns];
}

// The mean of term(x, place in the tile) over rows, by column.
template <class T, class Term>
void mean_of(const T* x, int64_t rows, int64_t columns, double* tile, Term term) {
  const int64_t width = rows_a_tile(columns) * columns;
  for (int64_t j = 0; j < width; ++j) tile[j] = 0;
  for_tiles(rows, columns, [=](int64_t begin, int64_t n) {
    for (int64_t j = 0; j < n; ++j) tile[j] += term(x[begin + j], j);
  });
  for (int64_t j = columns; j < width; ++j) tile[j % columns] += tile[j];
  for (int64_t j = 0; j < columns; ++j) tile[j] /= static_cast<double>(rows);
}

void merge(const Moments& moments, int64_t count, const double* mean, const double* var) {
  const int64_t total = *moments.count + count;
  const double share = static_cast<double>(count) / static_cast<double>(total);
  for (int64_t j = 0; j < moments.columns; ++j) {
    if (*moments.count == 0) {
      moments.mean[j] = mean[j];
      moments.var[j] = var[j];
      continue;
    }
    const double delta = mean[j] - moments.mean[j];
    moments.mean[j] += delta * share;
    moments.var[j] = moments.var[j] * (1 - share) + var[j] * share + delta * delta * share * (1 - share);
  }
  *moments.count = total;
}

template <class T>
int64_t update(const Moments& moments, const T* x, int64_t rows, double* scratch) {
  if (rows == 0) return -1;
  const int64_t columns = moments.columns;
  double* mean = scratch;
  double* var = scratch + moments_scratch(columns) / 2;
  mean_of(x, rows, columns, mean, [](double value, int64_t) { return value; });
  fill_tile(mean, columns);
  mean_of(x, rows, columns, var, [mean](double value, int64_t j) {
    const double distance = value - mean[j];
    return distance * distance;
  });
  for (int64_t j = 0; j < columns; ++j)
    if (var[j] - var[j] != 0) return j;  // NaN or infinite
  merge(moments, rows, mean, var);
  return -1;
}

float clipped(double x, double clip) {
  const double above = x < -clip ? -clip : x;
  return static_cast<float>(above > clip ? clip : above);
}

template <class T>
void normalize(const Moments& moments, const T* x, int64_t rows, double clip, float* out, double* scratch) {
  const int64_t columns = moments.columns;
  double* mean = scratch;
  double* std = scratch + moments_scratch(columns) / 2;
  for (int64_t j = 0; j < columns; ++j) {
    mean[j] = moments.mean[j];
    std[j] = std::sqrt(moments.var[j] + kEpsilon);
  }
  fill_tile(mean, columns);
  fill_tile(std, columns);
  for_tiles(rows, columns, [=](int64_t begin, int64_t n) {
    for (int64_t j = 0; j < n; ++j) out[begin + j] = clipped((x[begin + j] - mean[j]) / std[j], clip);
  });
}

bool update_returns(const Returns& returns, const double* reward, const uint8_t* done, const uint8_t* valid,
                    double* scratch) {
  double* next = scratch + moments_scratch(1);  // of the valid envs, one after the other
  const auto takes_part = [valid](int64_t i) { return valid == nullptr || valid[i] != 0; };
  int64_t n = 0;
  for (int64_t i = 0; i < returns.envs; ++i)
    if (takes_part(i)) next[n++] = returns.running[i] * returns.gamma + reward[i];
  if (update(returns.moments, next, n, scratch) >= 0) return false;
  n = 0;
  for (int64_t i = 0; i < returns.envs; ++i) {
    if (!takes_part(i)) continue;
    returns.running[i] = done[i] ? 0 : next[n];
    ++n;
  }
  return true;
}

void scale(const Moments& moments, const double* reward, int64_t n, double clip, float* out) {
  const double std = std::sqrt(*moments.var + kEpsilon);
  for (int64_t i = 0; i < n; ++i) out[i] = clipped(reward[i] / std, clip);
}

}  // namespace

extern const NormalizeTable normalize_table;
const NormalizeTable normalize_table = {update<float>,     update<double>, merge, normalize<float>,
                                        normalize<double>, update_returns, scale};

}  // namespace FASTRL_ISA
}  // namespace fastrl
