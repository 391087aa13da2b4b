// Normalisers of observations and rewards over statistics that their owner keeps, with the scratch that the
// kernels need.
#pragma once

#include <vector>

#include "normalize.h"

namespace fastrl {

class RunningMeanStd {
 public:
  RunningMeanStd(const Moments& moments, double clip)
      : moments_(moments), clip_(clip), scratch_(static_cast<size_t>(moments_scratch(moments.columns))) {}

  int64_t columns() const { return moments_.columns; }

  // As NormalizeTable says.
  int64_t update(const float* x, int64_t rows) {
    return fastrl::normalize().update_f32(moments_, x, rows, scratch_.data());
  }
  int64_t update(const double* x, int64_t rows) {
    return fastrl::normalize().update_f64(moments_, x, rows, scratch_.data());
  }
  void normalize(const float* x, int64_t rows, float* out) {
    fastrl::normalize().normalize_f32(moments_, x, rows, clip_, out, scratch_.data());
  }
  void normalize(const double* x, int64_t rows, float* out) {
    fastrl::normalize().normalize_f64(moments_, x, rows, clip_, out, scratch_.data());
  }
  void merge(int64_t count, const double* mean, const double* var) {
    fastrl::normalize().merge(moments_, count, mean, var);
  }

 private:
  Moments moments_;
  double clip_;
  std::vector<double> scratch_;
};

class ReturnNormalizer {
 public:
  ReturnNormalizer(const Returns& returns, double clip)
      : returns_(returns), clip_(clip), scratch_(static_cast<size_t>(returns_scratch(returns.envs))) {}

  int64_t envs() const { return returns_.envs; }

  bool update(const double* reward, const uint8_t* done, const uint8_t* valid) {
    return fastrl::normalize().update_returns(returns_, reward, done, valid, scratch_.data());
  }
  void normalize(const double* reward, int64_t n, float* out) const {
    fastrl::normalize().scale(returns_.moments, reward, n, clip_, out);
  }

 private:
  Returns returns_;
  double clip_;
  std::vector<double> scratch_;
};

}  // namespace fastrl
