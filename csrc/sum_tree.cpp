#include "sum_tree.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "dispatch.h"

namespace fastrl {

FASTRL_DISPATCH(SumTreeTable, sum_tree_kernels)

namespace {

constexpr int64_t kPage = 4096;

// As the kernels add the children of a node.
double sum_of(const double* x, int64_t n) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) total += x[i];
  return total;
}

int64_t count_of(const double* x, int64_t n) { return n - std::count(x, x + n, 0.0); }

// The least that is not 0, and 0 if all are.
double min_of(const double* x, int64_t n) {
  double least = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] != 0 && (least == 0 || x[i] < least)) least = x[i];
  }
  return least;
}

double least(double a, double b) { return a == 0 || (b != 0 && b < a) ? b : a; }

// Calls f(level, first, last) for runs of siblings that together cover the leaves [first, last).
template <class F>
void runs(int depth, int64_t first, int64_t last, F f) {
  for (int level = 0; first < last; ++level) {
    if (level == depth - 1) return f(level, first, last);
    const int64_t up = (first + kTreeFan - 1) / kTreeFan, down = last / kTreeFan;
    if (up > down) return f(level, first, last);  // within one line
    if (first < up * kTreeFan) f(level, first, up * kTreeFan);
    if (down * kTreeFan < last) f(level, down * kTreeFan, last);
    first = up;
    last = down;
  }
}

double or_infinity(double least) { return least == 0 ? std::numeric_limits<double>::infinity() : least; }

}  // namespace

void SumTree::Release::operator()(void* memory) const { std::free(memory); }

SumTree::SumTree(int64_t capacity) : levels_{}, capacity_(capacity) {
  if (capacity > std::numeric_limits<int64_t>::max() / 64) throw std::bad_alloc();
  int64_t lines = (capacity + kTreeFan - 1) / kTreeFan, doubles = 0;
  for (int level = 0;; ++level) {
    levels_.lines[level] = lines;
    levels_.depth = level + 1;
    doubles += lines * tree_stride(level);
    if (lines == 1) break;
    lines = (lines + kTreeFan - 1) / kTreeFan;
  }
  // calloc's zeros cost no memory before they are written
  memory_.reset(std::calloc(static_cast<size_t>(doubles + kPage / 8), sizeof(double)));
  if (memory_ == nullptr) throw std::bad_alloc();
  auto* const bytes = static_cast<char*>(memory_.get());
  const auto past = static_cast<int64_t>(reinterpret_cast<uintptr_t>(bytes) % kPage);
  auto* next = reinterpret_cast<double*>(bytes + (past == 0 ? 0 : kPage - past));
  for (int level = 0; level < levels_.depth; ++level) {
    levels_.level[level] = next;
    next += levels_.lines[level] * tree_stride(level);
  }
}

void SumTree::set(const int64_t* index, const double* value, int64_t n) {
  double* leaf = levels_.level[0];
  constexpr int64_t kAhead = 16;
  for (int64_t i = 0; i < std::min(n, kAhead); ++i) __builtin_prefetch(leaf + index[i], 1);
  for (int64_t i = 0; i < n; ++i) {
    if (i + kAhead < n) __builtin_prefetch(leaf + index[i + kAhead], 1);
    double& at = leaf[index[i]];
    count_ += (value[i] != 0) - (at != 0);
    at = value[i];
  }
  sum_tree_kernels().refresh(levels_, index, n);
}

void SumTree::fill(int64_t first, int64_t n, double value) {
  if (n == 0) return;
  double* leaf = levels_.level[0] + first;
  count_ += (value != 0 ? n : 0) - count_of(leaf, n);
  std::fill_n(leaf, n, value);
  sum_tree_kernels().refresh_range(levels_, first, first + n);
}

void SumTree::assign(const double* value) {
  std::memcpy(levels_.level[0], value, static_cast<size_t>(capacity_) * sizeof(double));
  count_ = count_of(value, capacity_);
  sum_tree_kernels().refresh_range(levels_, 0, capacity_);
}

double SumTree::total() const { return sum_of(levels_.level[levels_.depth - 1], kTreeFan); }

double SumTree::min() const {
  const int top = levels_.depth - 1;
  return or_infinity(min_of(levels_.level[top] + (top == 0 ? 0 : kTreeFan), kTreeFan));
}

double SumTree::sum(int64_t first, int64_t last) const {
  double total = 0;
  runs(levels_.depth, first, last, [&](int level, int64_t from, int64_t to) {
    const double* line = levels_.level[level] + from / kTreeFan * tree_stride(level);
    total += sum_of(line + from % kTreeFan, to - from);
  });
  return total;
}

double SumTree::min(int64_t first, int64_t last) const {
  double found = 0;
  runs(levels_.depth, first, last, [&](int level, int64_t from, int64_t to) {
    const double* line =
        levels_.level[level] + from / kTreeFan * tree_stride(level) + (level == 0 ? 0 : kTreeFan);
    found = least(found, min_of(line + from % kTreeFan, to - from));
  });
  return or_infinity(found);
}

void SumTree::sample(uint64_t seed, uint64_t counter, int64_t n, bool stratified, int64_t* index,
                     double* value) const {
  sum_tree_kernels().sample(levels_, {seed, counter, n, stratified}, index, value);
}

void SumTree::find(const double* mass, int64_t n, int64_t* index, double* value) const {
  sum_tree_kernels().find(levels_, mass, n, index, value);
}

void importance_weights(const double* value, int64_t n, double beta, double reference, float* weight) {
  sum_tree_kernels().weights(value, n, beta, reference, weight);
}

bool to_leaves(const float* priority, int64_t n, double eps, double alpha, double* leaf, double* largest) {
  return sum_tree_kernels().leaves_f32(priority, n, eps, alpha, leaf, largest);
}

bool to_leaves(const double* priority, int64_t n, double eps, double alpha, double* leaf, double* largest) {
  return sum_tree_kernels().leaves_f64(priority, n, eps, alpha, leaf, largest);
}

}  // namespace fastrl
