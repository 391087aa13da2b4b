// Modified policy iteration: a sweep over all actions, then sweeps over the greedy policy's rows alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tabular.h"

namespace fastrl {

using Interrupted = std::function<void()>;  // throws if the user wants to stop; called every 50 ms or so

// What holds of a model whatever the values are.
struct Mass {
  double low, high;  // weight that a pair gives to states that are not terminal, in all
  double reward_low, reward_high;
  int64_t longest;  // additions that a row's sum takes one after the other, at most
};

struct Checked {
  Model model;
  Mass mass;
};

// Sums of the rows; throws std::invalid_argument unless offsets ascend and states are in range.
Mass inspect(const Model& model);

// Outcomes of a state's pairs, at most; 0 of a terminal state.
int64_t longest_row(const Model& model, int64_t state);

Change backup(const Checked& of, const Backup& what, int64_t threads);

class PolicyIterator {
 public:
  // `value` [S]: where to begin; null: zeros. `choice` [S]: a policy to begin with, or null.
  PolicyIterator(const Checked& of, double gamma, const double* value, const int32_t* choice,
                 int64_t threads);

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
  template <class T>
  using Array = std::unique_ptr<T[]>;

  // A shift of all values is kept: nothing ends.
  bool stochastic() const { return of_.mass.low > 1 - 1e-7; }
  void make_rows();
  float usual_change() const;
  bool settle(double threshold);
  template <class Next>
  void move(const Next& next);
  void drift(double low, double high);

  const Checked& of_;
  double gamma_;
  int64_t threads_;
  Array<double> value_, next_;
  Array<int32_t> choice_;
  Array<float> gap_;
  Array<float> delta_, sum_, sum_next_;
  Array<int64_t> slot_;
  Array<int32_t> to_;
  Array<float> weight_;
  std::vector<int32_t> unsettled_;
  PolicyRows rows_{};
  Change change_{};
  double moved_ = 0, size_ = 0;
  bool zero_ = false;  // value is 0 everywhere
};

}  // namespace fastrl
