// The kernels of csrc/sum_tree.h, compiled once per instruction set: the same bits on each.
#pragma once

#include <cstdint>

namespace fastrl {

constexpr int kTreeFan = 8;        // children of a node: as many doubles as a cache line holds
constexpr int kTreeMaxDepth = 21;  // 8^21 leaves = 2^63

// Nodes in lines of eight siblings. level[0] are the leaves; a line above is eight sums and then eight minima
// of the lines below it: the least leaf that is not 0, or 0 if all are. A line is 64 bytes at such an
// address.
struct TreeLevels {
  double* level[kTreeMaxDepth];
  int64_t lines[kTreeMaxDepth];  // the last level has one
  int depth;
};

// Doubles from one line of a level to the next.
static constexpr int64_t tree_stride(int level) { return level == 0 ? kTreeFan : 2 * kTreeFan; }

// What a draw needs, besides the tree: draw i of a call is a function of (seed, counter, i).
struct TreeDraws {
  uint64_t seed, counter;
  int64_t count;
  bool stratified;
};

struct SumTreeTable {
  // Recomputes the ancestors of these leaves, or of the leaves [first, last), last > first.
  void (*refresh)(const TreeLevels&, const int64_t* leaf, int64_t n);
  void (*refresh_range)(const TreeLevels&, int64_t first, int64_t last);
  // The leaf under which each mass of [0, total) falls, and its value; total > 0.
  void (*find)(const TreeLevels&, const double* mass, int64_t n, int64_t* index, double* value);
  void (*sample)(const TreeLevels&, const TreeDraws&, int64_t* index, double* value);
  // (value / reference)^-beta
  void (*weights)(const double* value, int64_t n, double beta, double reference, float* weight);
  // (p + eps)^alpha, and 0 for p + eps = 0; the largest p so far in *largest. False if a p is negative or not
  // finite, or a leaf is over kLargestLeaf.
  bool (*leaves_f32)(const float* priority, int64_t n, double eps, double alpha, double* leaf,
                     double* largest);
  bool (*leaves_f64)(const double* priority, int64_t n, double eps, double alpha, double* leaf,
                     double* largest);
};

// Of a tree: sums of 2^63 such leaves are finite.
constexpr double kLargestLeaf = 0x1p960;

const SumTreeTable& sum_tree_kernels();

}  // namespace fastrl
