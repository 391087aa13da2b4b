// Sweeps over a finite Markov decision process. Its pairs of state and action are the rows of a matrix of
// weights (probability times discount), in compressed rows or dense.
#pragma once

#include <cstdint>

namespace fastrl {

enum class Layout : int { int32 = 0, int64 = 1, dense = 2 };

struct Model {
  Layout layout;
  int64_t num_states, num_pairs;
  const int64_t* pair_offset;  // [S + 1]
  const void* offset;          // [L + 1], int32 or int64; null: dense
  const void* next_state;      // [K]
  const double* weight;        // [K], or [L, S]
  const double* reward;        // [L]
  const uint8_t* terminal;     // [S], or null
};

// Least and greatest change of a value by a sweep, and how many states changed their action.
struct Change {
  double low, high;
  int64_t switched;
};

// next = T value.
struct Backup {
  const Model* model;
  const double* value;  // [S]
  double gamma;
  double* next;  // [S]
  int32_t*
      choice;  // [S]: index among the state's pairs of the greedy one; keeps its own on a tie. -1: none yet
  double* q;   // [L], or null
};

// The rows of a policy in the order of sweeps, solved for the state's own value:
// v(order[i]) = reward[i] + sum over k in [slot[i], slot[i + 1]) of weight[k] * v(to[k]).
struct SolvedRows {
  const int64_t* slot;
  int32_t* to;
  double *weight, *reward;
};

// In place and in this order: v(s) = max_a, with what an action returns to s itself solved for.
struct GaussSeidel {
  const Model* model;
  double gamma;
  double* value;
  const int32_t* order;
  const SolvedRows* rows;  // of what the sweep chooses; or null
};

// Of states in this order: change[i] = T v - v.
struct Residual {
  const Model* model;
  double gamma;
  const double* value;
  const int32_t* order;
  double* change;
};

struct TabularTable {
  void (*backup[3])(const Backup&, int64_t begin, int64_t end, Change&);
  double (*gauss_seidel[3])(const GaussSeidel&, int64_t begin, int64_t end);  // greatest |change|
  double (*relax_in_place)(const SolvedRows&, const int32_t* order, int64_t size, double* value);
  void (*residual[3])(const Residual&, int64_t begin, int64_t end, Change&);
  void (*expect[3])(const Model&, const double* value, int64_t begin, int64_t end, double* out);  // pairs
  void (*transposed[3])(const Model&, const double* mass, double gamma,
                        double* out);  // out += gamma W^T mass
};

const TabularTable& tabular();

}  // namespace fastrl
