// Owner of a network's Plan, and of the scratch that its kernels need.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "network.h"

namespace fastrl {

// Grows, is never initialised, and starts on a cache line.
class FloatBuffer {
 public:
  FloatBuffer() = default;
  float* at_least(int64_t n) {
    if (n > capacity_) {
      const size_t bytes = (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64;
      void* fresh = std::aligned_alloc(64, bytes);
      if (fresh == nullptr) throw std::bad_alloc();
      data_.reset(static_cast<float*>(fresh));
      capacity_ = n;
    }
    return data_.get();
  }
  const float* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  std::unique_ptr<float, Free> data_;
  int64_t capacity_ = 0;
};

// in, out, source layer or -1, first output column or -1, activation
using LayerSpec = std::tuple<int64_t, int64_t, int64_t, int64_t, int>;
// value layer, advantage layer, first output column, actions, atoms
using DuelingSpec = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t>;

class NetworkPlan {
 public:
  NetworkPlan(int64_t inputs, const std::vector<LayerSpec>& layers,
              const std::vector<DuelingSpec>& duelings) {
    const auto check = [](bool ok, const std::string& what) {
      if (!ok) throw std::invalid_argument("network: " + what);
    };
    check(inputs > 0, "inputs must be > 0, got " + std::to_string(inputs));
    check(!layers.empty() && layers.size() <= 64, "1 to 64 layers, got " + std::to_string(layers.size()));
    int64_t params = 0, tape = 0, outputs = 0;
    for (const auto& [in, out, source, column, activation] : layers) {
      const int64_t index = static_cast<int64_t>(layers_.size());
      check(in > 0 && out > 0, "layer widths must be > 0");
      check(source >= -1 && source < index, "a layer reads the input or an earlier layer");
      check(in == (source < 0 ? inputs : layers_[source].out), "a layer's width must match what it reads");
      check(activation >= 0 && activation <= 3, "unknown activation");
      Layer layer{in,
                  out,
                  padded(in),
                  padded(out),
                  params,
                  params + in * out,
                  source,
                  column,
                  tape,
                  0,
                  static_cast<Activation>(activation)};
      params += (in + 1) * out;
      tape += layer.out_ld;
      if (layer.activation == Activation::silu) {
        layer.pre = tape;
        tape += layer.out_ld;
      }
      if (column >= 0) outputs = std::max(outputs, column + out);
      forward_scratch_ += layer.out == layer.out_ld ? 0 : (in + 1) * layer.out_ld;
      backward_scratch_ += out * layer.in_ld + (in + 1) * layer.out_ld;
      work += in * out;
      layers_.push_back(layer);
    }
    for (const auto& [value, advantage, column, actions, atoms] : duelings) {
      const int64_t n = static_cast<int64_t>(layers_.size());
      check(value >= 0 && value < n && advantage >= 0 && advantage < n, "dueling heads name layers");
      check(layers_[value].out == atoms && layers_[advantage].out == actions * atoms, "dueling widths");
      duelings_.push_back({value, advantage, column, actions, atoms});
      outputs = std::max(outputs, column + actions * atoms);
    }
    forward_scratch_ += kRowBlock * tape;
    backward_scratch_ += kRowBlock * (tape + padded(inputs));
    plan = {layers_.data(),
            static_cast<int64_t>(layers_.size()),
            duelings_.data(),
            static_cast<int64_t>(duelings_.size()),
            inputs,
            outputs,
            tape,
            params};
  }
  NetworkPlan(const NetworkPlan&) = delete;
  NetworkPlan& operator=(const NetworkPlan&) = delete;

  void forward(const float* params, const float* x, int64_t batch, float* y, float* tape) const {
    network().forward(plan, params, x, plan.in, batch, y, plan.out, tape, scratch(forward_scratch_));
  }
  void backward(const float* params, const float* x, int64_t batch, const float* dy, const float* tape,
                float* grad, float* dx) const {
    network().backward(plan, params, x, plan.in, batch, dy, plan.out, tape, grad, dx, plan.in,
                       scratch(backward_scratch_));
  }

  Plan plan{};
  int64_t work = 0;  // multiply-adds of a row's forward pass

 private:
  static float* scratch(int64_t n) {
    thread_local FloatBuffer buffer;
    return buffer.at_least(n);
  }
  std::vector<Layer> layers_;
  std::vector<Dueling> duelings_;
  int64_t forward_scratch_ = 0, backward_scratch_ = 0;
};

}  // namespace fastrl
