// Running mean and variance by column, in float64, and what they normalise. The sums have a fixed order:
// results do not depend on the instruction set.
#pragma once

#include <cstdint>

namespace fastrl {

// Statistics in their owner's memory.
struct Moments {
  int64_t columns;
  int64_t* count;      // rows seen
  double *mean, *var;  // [columns], of the population
};

// Discounted returns of the running episodes, and the moments of all they ever were.
struct Returns {
  int64_t envs;
  double* running;  // [envs]
  double gamma;
  Moments moments;  // of one column
};

constexpr int64_t kNormalizeTile = 16;  // columns that are walked together: narrow rows several at a time

// Doubles that the functions need for their own use.
static inline int64_t moments_scratch(int64_t columns) {
  return 2 * (columns < kNormalizeTile ? kNormalizeTile : columns);
}
static inline int64_t returns_scratch(int64_t envs) { return envs + moments_scratch(1); }

struct NormalizeTable {
  // Takes in x [rows, columns]. Returns the first column whose variance is not finite: then nothing changed;
  // else -1.
  int64_t (*update_f32)(const Moments& moments, const float* x, int64_t rows, double* scratch);
  int64_t (*update_f64)(const Moments& moments, const double* x, int64_t rows, double* scratch);
  // Takes in what others saw: `mean` and `var` [columns] of `count` rows (Chan, Golub and LeVeque 1979, 2.1).
  void (*merge)(const Moments& moments, int64_t count, const double* mean, const double* var);
  // out = (x - mean) / sqrt(var + 1e-8), clipped to [-clip, clip], of x [rows, columns].
  void (*normalize_f32)(const Moments& moments, const float* x, int64_t rows, double clip, float* out,
                        double* scratch);
  void (*normalize_f64)(const Moments& moments, const double* x, int64_t rows, double clip, float* out,
                        double* scratch);

  // R = gamma R + reward, which the moments take in; then R = 0 where done. Rows that are not `valid` (null:
  // all are) took no step: they are left as they are. Returns false if the variance is not finite: then
  // nothing changed.
  bool (*update_returns)(const Returns& returns, const double* reward, const uint8_t* done,
                         const uint8_t* valid, double* scratch);
  // out = reward / sqrt(var + 1e-8), clipped to [-clip, clip].
  void (*scale)(const Moments& moments, const double* reward, int64_t n, double clip, float* out);
};

const NormalizeTable& normalize();

}  // namespace fastrl
