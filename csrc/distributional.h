// Value distributions over atoms or quantiles: projections, losses with gradients, expectations, targets.
#pragma once

#include <cstdint>

#include "strided.h"

namespace fastrl {

// The values z of a distribution's atoms, increasing, two at least.
struct Atoms {
  const double* z;
  int64_t n;
  bool uniform;  // z[0] + i * (z[n - 1] - z[0]) / (n - 1), but for rounding
};

// Rows [batch, rows, n] whose last axis is contiguous. Strides count elements.
template <class T>
struct Blocks {
  T* data;
  int64_t batch, row;
};

// reward + discount * z; without discounts, gamma * z unless terminated, and without flags gamma * z.
template <class Real>
struct Bellman {
  Strided<const Real> reward, discount;
  Strided<const uint8_t> terminated;
  double gamma;
};

template <class Real>
struct C51Projection {
  int64_t batch;
  Atoms source, target;
  Strided<const Real> probs;
  Bellman<Real> bellman;
  Strided<Real> out;
};

struct C51Problem {
  int64_t batch, actions, next_actions;
  Atoms atoms;
  Blocks<const float> logits, next_logits, selector;
  Strided<const int64_t> action;  // data null: actions is 1
  Bellman<float> bellman;
  bool kl;
  double scale;
  float* loss;      // [batch]
  float* d_logits;  // [batch, actions, atoms]
};

struct QuantileHuberProblem {
  int64_t batch, quantiles, targets;
  Strided<const float> theta, target, tau;
  double kappa;
  double weight;   // of the sum over pairs
  double scale;    // of the gradient
  float* loss;     // [batch]
  float* d_theta;  // [batch, quantiles]
};

struct DistributionalTable {
  void (*c51_project_f32)(const C51Projection<float>& problem);
  void (*c51_project_f64)(const C51Projection<double>& problem);
  // The first row whose action is out of range: then nothing is written. Else -1.
  int64_t (*c51_loss)(const C51Problem& problem);
  void (*quantile_huber)(const QuantileHuberProblem& problem);
  void (*expectation)(int64_t rows, const Atoms& atoms, Strided<const float> x, bool logits, float* out);
  void (*hl_gauss)(int64_t rows, const Atoms& atoms, Strided<const float> x, double sigma, float* out);
  void (*two_hot)(int64_t rows, const Atoms& atoms, Strided<const float> x, float* out);
};

const DistributionalTable& distributional();

}  // namespace fastrl
