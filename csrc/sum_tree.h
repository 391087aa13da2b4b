// A tree of sums over the priorities of prioritized replay (Schaul et al. 2016): draws in proportion to the
// leaves.
//
// Each node is the sum of its children, recomputed and never adjusted by differences, so that nothing drifts.
// A node has eight children, one cache line: 2^20 leaves are seven lines deep.
#pragma once

#include <cstdint>
#include <memory>

#include "sum_tree_kernels.h"

namespace fastrl {

// Not thread-safe: reading and sampling may run side by side, writing runs alone.
class SumTree {
 public:
  explicit SumTree(int64_t capacity);  // >= 1; all leaves are 0; std::bad_alloc

  int64_t capacity() const { return capacity_; }
  const double* leaves() const { return levels_.level[0]; }
  double get(int64_t i) const { return levels_.level[0][i]; }

  // Values in [0, kLargestLeaf], as the caller checked; of repeated indices the last counts.
  void set(const int64_t* index, const double* value, int64_t n);
  void fill(int64_t first, int64_t n, double value);
  void assign(const double* value);  // all leaves

  int64_t count() const { return count_; }  // leaves that are not 0
  double total() const;
  double min() const;  // over leaves that are not 0; inf if there are none
  double sum(int64_t first, int64_t last) const;
  double min(int64_t first, int64_t last) const;

  // Draws in proportion to the leaves, independent or one from each of n equal parts of the total, in order;
  // the index and the value of each. Leaves of 0 are never drawn; total() must be > 0.
  void sample(uint64_t seed, uint64_t counter, int64_t n, bool stratified, int64_t* index,
              double* value) const;
  // The leaf i with sum(0, i) <= mass < sum(0, i + 1), up to rounding, and never one of 0. mass in [0,
  // total()]: the total gives the last leaf that is not 0.
  void find(const double* mass, int64_t n, int64_t* index, double* value) const;

 private:
  struct Release {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Release> memory_;
  TreeLevels levels_;
  int64_t capacity_, count_ = 0;
};

// w = (value / reference)^-beta. The reference is the least value of the batch or of the tree, or total / N.
void importance_weights(const double* value, int64_t n, double beta, double reference, float* weight);

// Leaves (p + eps)^alpha, 0 for p + eps = 0. *largest becomes the largest p, if that is larger. False if a p
// is negative or not finite, or a leaf is over kLargestLeaf.
bool to_leaves(const float* priority, int64_t n, double eps, double alpha, double* leaf, double* largest);
bool to_leaves(const double* priority, int64_t n, double eps, double alpha, double* leaf, double* largest);

}  // namespace fastrl
