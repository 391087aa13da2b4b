#include "sum_tree_kernels.h"

#include <cstdint>

#include "philox.h"
#include "vecmath64.h"

namespace fastrl::FASTRL_ISA {

namespace {

constexpr int N = kDoubles;
constexpr int64_t kBlock = 64;  // descents in flight: while one line is fetched, others are searched
constexpr double kInfinity = __builtin_inf();

#define SHUFFLE __builtin_shufflevector

// x[k] = the k-th doubles of N lines of eight.
FASTRL_INLINE void load_columns(const double* const* line, vdouble* x) {
#if defined(__AVX512F__)
  vdouble a[8], b[8];
  for (int i = 0; i < 8; i += 2) {
    const vdouble even = load(line[i]), odd = load(line[i + 1]);
    a[i] = SHUFFLE(even, odd, 0, 8, 2, 10, 4, 12, 6, 14);
    a[i + 1] = SHUFFLE(even, odd, 1, 9, 3, 11, 5, 13, 7, 15);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int j = i; j < i + 2; ++j) {
      b[j] = SHUFFLE(a[j], a[j + 2], 0, 1, 4, 5, 8, 9, 12, 13);  // columns j and j + 4 of lines i to i + 3
      b[j + 2] = SHUFFLE(a[j], a[j + 2], 2, 3, 6, 7, 10, 11, 14, 15);  // columns j + 2 and j + 6
    }
  }
  for (int j = 0; j < 4; ++j) {
    x[j] = SHUFFLE(b[j], b[j + 4], 0, 1, 4, 5, 8, 9, 12, 13);
    x[j + 4] = SHUFFLE(b[j], b[j + 4], 2, 3, 6, 7, 10, 11, 14, 15);
  }
#elif defined(__AVX2__)
  for (int half = 0; half < 8; half += 4) {
    const vdouble r0 = load(line[0] + half), r1 = load(line[1] + half);
    const vdouble r2 = load(line[2] + half), r3 = load(line[3] + half);
    const vdouble a0 = SHUFFLE(r0, r1, 0, 4, 2, 6), a1 = SHUFFLE(r0, r1, 1, 5, 3, 7);
    const vdouble a2 = SHUFFLE(r2, r3, 0, 4, 2, 6), a3 = SHUFFLE(r2, r3, 1, 5, 3, 7);
    x[half] = SHUFFLE(a0, a2, 0, 1, 4, 5);
    x[half + 1] = SHUFFLE(a1, a3, 0, 1, 4, 5);
    x[half + 2] = SHUFFLE(a0, a2, 2, 3, 6, 7);
    x[half + 3] = SHUFFLE(a1, a3, 2, 3, 6, 7);
  }
#else
  for (int pair = 0; pair < 8; pair += 2) {
    const vdouble a = load(line[0] + pair), b = load(line[1] + pair);
    x[pair] = SHUFFLE(a, b, 0, 2);
    x[pair + 1] = SHUFFLE(a, b, 1, 3);
  }
#endif
}

// Sum and least of N lines of one level into the level above.
FASTRL_INLINE void refresh_lines(const TreeLevels& tree, int level, const int64_t* number) {
  const double* line[N];
  const int64_t stride = tree_stride(level);
  for (int i = 0; i < N; ++i) line[i] = tree.level[level] + number[i] * stride;
  vdouble x[8];
  load_columns(line, x);
  vdouble sum = x[0];
  for (int k = 1; k < 8; ++k) sum += x[k];
  if (level > 0) {
    for (int i = 0; i < N; ++i) line[i] += kTreeFan;
    load_columns(line, x);
  }
  vdouble least = broadcast(kInfinity);
  for (int k = 0; k < 8; ++k) {
    const vdouble y = x[k] == 0.0 ? broadcast(kInfinity) : x[k];
    least = y < least ? y : least;
  }
  least = least == kInfinity ? vdouble{} : least;
  double* above = tree.level[level + 1];
  for (int i = 0; i < N; ++i) {
    double* to =
        above + (number[i] >> 3) * tree_stride(1) + (number[i] & 7);  // of numbers that are not negative
    to[0] = sum[i];
    to[kTreeFan] = least[i];
  }
}

// Lines [first, last) of a level; the last group may overlap the one before it: the same numbers, computed
// twice.
void refresh_run(const TreeLevels& tree, int level, int64_t first, int64_t last) {
  int64_t number[N];
  for (int64_t begin = first; begin < last; begin += N) {
    for (int i = 0; i < N; ++i) number[i] = begin + i < last ? begin + i : last - 1;
    refresh_lines(tree, level, number);
  }
}

void refresh(const TreeLevels& tree, const int64_t* leaf, int64_t n) {
  int shift = 3;
  for (int level = 0; level + 1 < tree.depth; ++level, shift += 3) {
    if (tree.lines[level] <= n) {
      refresh_run(tree, level, 0, tree.lines[level]);
      continue;
    }
    const double* above = tree.level[level + 1];
    int64_t number[N];
    for (int64_t begin = 0; begin < n; begin += N) {
      for (int i = 0; i < N; ++i) number[i] = leaf[begin + i < n ? begin + i : n - 1] >> shift;
      for (int i = 0; level == 0 && i < N; ++i) {
        const int64_t ahead = begin + i + 2 * N;
        if (ahead >= n) break;
        const double* to = above + (leaf[ahead] >> (shift + 3)) * tree_stride(1);
        __builtin_prefetch(to, 1);
        __builtin_prefetch(to + kTreeFan, 1);
      }
      refresh_lines(tree, level, number);
    }
  }
}

void refresh_range(const TreeLevels& tree, int64_t first, int64_t last) {
  for (int level = 0; level + 1 < tree.depth; ++level) {
    first /= kTreeFan;
    last = (last - 1) / kTreeFan + 1;
    refresh_run(tree, level, first, last);
  }
}

// The largest double below x > 0.
FASTRL_INLINE vdouble below(vdouble x) { return (vdouble)((vlong)x - 1); }

struct Descent {
  alignas(64) double mass[kBlock];
  alignas(64) int64_t node[kBlock];
  alignas(64) double value[kBlock];
};

// One level down: of the eight children x, the first whose running sum is over the mass. A node of 0 adds
// nothing to that sum, so it is never the one.
FASTRL_INLINE void choose(const vdouble* x, Descent& d, int64_t at) {
  const vdouble mass = load(d.mass + at);
  vdouble running = x[0], before = {}, value = x[0];
  vlong child = {};
  for (int k = 0; k < 7; ++k) {
    const vlong passed = running <= mass;
    child -= passed;
    before = passed ? running : before;
    value = passed ? x[k + 1] : value;
    running += x[k + 1];
  }
  const vdouble rest = mass - before, largest = below(value);
  store(d.mass + at, rest < largest ? rest : largest);  // rounding must not carry it past its node
  store(d.node + at, load(d.node + at) * kTreeFan + child);
  store(d.value + at, value);
}

// d.mass in [0, total); `count` of them, filled up to a multiple of N.
void descend(const TreeLevels& tree, Descent& d, int64_t count) {
  const int top = tree.depth - 1;
  vdouble x[8];
  for (int k = 0; k < 8; ++k) x[k] = broadcast(tree.level[top][k]);
  for (int64_t at = 0; at < count; at += N) {
    store(d.node + at, vlong{});
    choose(x, d, at);
  }
  for (int level = top - 1; level >= 0; --level) {
    const double* lines = tree.level[level];
    const int64_t stride = tree_stride(level);
    if (level < 2) {
      for (int64_t i = 0; i < count; ++i) __builtin_prefetch(lines + d.node[i] * stride);
    }
    for (int64_t at = 0; at < count; at += N) {
      const double* line[N];
      for (int i = 0; i < N; ++i) line[i] = lines + d.node[at + i] * stride;
      load_columns(line, x);
      choose(x, d, at);
    }
  }
}

double total_of(const TreeLevels& tree) {
  const double* line = tree.level[tree.depth - 1];
  double total = line[0];
  for (int k = 1; k < kTreeFan; ++k) total += line[k];
  return total;
}

double predecessor(double x) {
  int64_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  --bits;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// Descents from masses given block by block: fill(mass, first, count), with room for kBlock.
template <class Fill>
void search(const TreeLevels& tree, int64_t n, int64_t* index, double* value, Fill fill) {
  const double largest = predecessor(total_of(tree));
  Descent d;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t count = n - first < kBlock ? n - first : kBlock;
    fill(d.mass, first, count);
    for (int64_t i = 0; i < count; ++i) d.mass[i] = d.mass[i] < largest ? d.mass[i] : largest;
    const int64_t padded = (count + N - 1) / N * N;
    for (int64_t i = count; i < padded; ++i) d.mass[i] = d.mass[0];
    descend(tree, d, padded);
    __builtin_memcpy(index + first, d.node, static_cast<uint64_t>(count) * sizeof *index);
    __builtin_memcpy(value + first, d.value, static_cast<uint64_t>(count) * sizeof *value);
  }
}

void find(const TreeLevels& tree, const double* mass, int64_t n, int64_t* index, double* value) {
  search(tree, n, index, value, [mass](double* to, int64_t first, int64_t count) {
    __builtin_memcpy(to, mass + first, static_cast<uint64_t>(count) * sizeof *to);
  });
}

// In [0, 1), of 52 bits.
double uniform(uint32_t high, uint32_t low) {
  const uint64_t bits = uint64_t{0x3ff} << 52 | uint64_t{high} << 20 | low >> 12;
  double x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x - 1.0;
}

// Draws first, first + 1, ... of a block: two from each Philox block, whose rounds are taken side by side.
void uniforms(const TreeDraws& draws, int64_t first, double* u) {
  constexpr int kCalls = kBlock / 2;
  uint32_t c0[kCalls], c1[kCalls], c2[kCalls], c3[kCalls];
  for (int j = 0; j < kCalls; ++j) {
    c0[j] = static_cast<uint32_t>(draws.counter);
    c1[j] = static_cast<uint32_t>(draws.counter >> 32);
    c2[j] = static_cast<uint32_t>(first / 2) + static_cast<uint32_t>(j);
    c3[j] = kTreeStream;
  }
  uint32_t key0 = static_cast<uint32_t>(draws.seed), key1 = static_cast<uint32_t>(draws.seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round, philox_next_key(key0, key1)) {
    for (int j = 0; j < kCalls; ++j) philox_round(c0[j], c1[j], c2[j], c3[j], key0, key1);
  }
  for (int j = 0; j < kCalls; ++j) {
    u[2 * j] = uniform(c0[j], c1[j]);
    u[2 * j + 1] = uniform(c2[j], c3[j]);
  }
}

void sample(const TreeLevels& tree, const TreeDraws& draws, int64_t* index, double* value) {
  const double total = total_of(tree);
  const double part = 1.0 / static_cast<double>(draws.count);
  search(tree, draws.count, index, value, [&](double* mass, int64_t first, int64_t count) {
    uniforms(draws, first, mass);
    if (draws.stratified) {
      for (int64_t i = 0; i < count; ++i) mass[i] = (static_cast<double>(first + i) + mass[i]) * part * total;
    } else {
      for (int64_t i = 0; i < count; ++i) mass[i] *= total;
    }
  });
}

FASTRL_INLINE vdouble load_doubles(const double* p) { return load(p); }
FASTRL_INLINE vdouble load_doubles(const float* p) {
  typedef float Floats __attribute__((vector_size(N * 4)));
  Floats x;
  __builtin_memcpy(&x, p, sizeof x);
  return __builtin_convertvector(x, vdouble);
}
FASTRL_INLINE void store_as(double* p, vdouble x) { store(p, x); }
FASTRL_INLINE void store_as(float* p, vdouble x) {
  typedef float Floats __attribute__((vector_size(N * 4)));
  const Floats y = __builtin_convertvector(x, Floats);
  __builtin_memcpy(p, &y, sizeof y);
}

// to = f(from), by vectors of doubles; those of a last, shorter one are filled up with its first.
template <class To, class From, class F>
FASTRL_INLINE void map(const From* from, int64_t n, To* to, F f) {
  int64_t i = 0;
  for (; i + N <= n; i += N) store_as(to + i, f(load_doubles(from + i)));
  if (i == n) return;
  From rest[N];
  To result[N];
  for (int64_t k = 0; k < N; ++k) rest[k] = from[i + k < n ? i + k : i];
  store_as(result, f(load_doubles(rest)));
  for (int64_t k = 0; i + k < n; ++k) to[i + k] = result[k];
}

void weights(const double* value, int64_t n, double beta, double reference, float* weight) {
  map(value, n, weight, [=](vdouble x) { return vpow(x / reference, -beta); });
}

template <class Real>
bool leaves(const Real* priority, int64_t n, double eps, double alpha, double* leaf, double* largest) {
  vlong good = ~vlong{};
  vdouble high = broadcast(*largest);
  map(priority, n, leaf, [&](vdouble p) {
    good &= (p >= 0.0) & (p < kInfinity);
    high = p > high ? p : high;
    const vdouble base = p + eps;
    const vdouble y = alpha == 1.0 ? base : vpow(base, alpha);
    const vdouble result = base == 0.0 ? vdouble{} : y;
    good &= result <= kLargestLeaf;
    return result;
  });
  bool all = true;
  for (int i = 0; i < N; ++i) {
    all = all && good[i] != 0;
    if (high[i] > *largest) *largest = high[i];
  }
  return all;
}

}  // namespace

extern const SumTreeTable sum_tree_kernels_table;
const SumTreeTable sum_tree_kernels_table = {refresh, refresh_range, find,          sample,
                                             weights, leaves<float>, leaves<double>};

}  // namespace fastrl::FASTRL_ISA
