// Modified policy iteration: a sweep over all actions, then sweeps over the greedy policy's rows alone.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "checked.h"
#include "pages.h"
#include "policy_sweeps.h"

namespace fastrl {

using Interrupted = std::function<void()>;  // throws if the user wants to stop; called every 50 ms or so

class PolicyIterator {
 public:
  // `value` [S]: where to begin; null: zeros.
  PolicyIterator(const Checked& of, double gamma, const double* value, int64_t threads);

  // next = T value; the change from value to next.
  Change improve();

  // value = what the greedy policy's sweeps make of it, until one sweep's changes spread over `reduction`
  // times what improve()'s did, or `most` sweeps. Returns the sweeps and the spread reached, relative.
  struct Evaluated {
    int64_t sweeps;
    double reduced;
  };
  Evaluated evaluate(double reduction, int64_t most, const Interrupted& interrupted);

  // value = next, moved by what the changes have in common.
  void accept();

  const double* value() const { return value_.get(); }
  const double* next() const { return next_.get(); }
  double size() const { return size_; }  // greatest |value|
  const int32_t* choice() const { return choice_.get(); }

 private:
  // A shift of all values is kept: nothing ends.
  bool stochastic() const { return of_.mass.low > 1 - 1e-7; }
  // What is left of such a shift after a step, at least: never to shift too far.
  double kept() const { return gamma_ * of_.mass.low; }
  void make_rows();
  float usual_change() const;
  bool settle(double threshold);
  void advance(const float* sum, double scale, double shift);
  void drift(double low, double high);

  const Checked& of_;
  double gamma_;
  int64_t threads_;
  int64_t padded_;     // states, up to a multiple of kRowLanes
  int64_t slots_ = 0;  // of the policy's rows
  Pages<double> value_, next_;
  Pages<int32_t> choice_;
  Pages<uint8_t> idle_;  // terminal states, and those beyond the last; empty: none
  Pages<float> nearest_, delta_, sum_, sum_next_;
  Pages<int64_t> slot_;
  Pages<int32_t> to_;
  Pages<float> weight_;
  Pages<double> exact_, reward_;
  std::vector<int32_t> unsettled_;
  PolicyRows rows_{};
  Change change_{};
  double moved_ = 0, size_ = 0;
  bool zero_ = false;  // value is 0 everywhere
};

}  // namespace fastrl
