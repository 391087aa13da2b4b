#include "tabular.h"

#include <cstdint>

namespace fastrl::FASTRL_ISA {

namespace {

constexpr double kInfinity = __builtin_inf();
constexpr int64_t kMaxGaps = 64;  // actions of a state, for some of them to be skipped
// From this many states on, values and rows come from far away, and are asked for some states ahead.
constexpr int64_t kFar = 32768;
constexpr int64_t kRowsAhead = 24, kValuesAhead = 12;

template <class Index>
struct Compressed {
  explicit Compressed(const Model& m)
      : offset(static_cast<const Index*>(m.offset)),
        next(static_cast<const Index*>(m.next_state)),
        weight(m.weight) {}

  double dot(int64_t pair, const double* v) const {
    double sum = 0;
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) sum += weight[k] * v[next[k]];
    return sum;
  }

  void fetch_row(int64_t pair) const {
    const int64_t k = offset[pair];
    __builtin_prefetch(next + k);
    __builtin_prefetch(weight + k);
    __builtin_prefetch(weight + k + 8);
  }

  void fetch_values(int64_t pair, const double* v) const {
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) __builtin_prefetch(v + next[k]);
  }

  double dot_apart(int64_t pair, int64_t s, const double* v, double& own) const {
    double sum = 0, self = 0;
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) {
      const double w = weight[k];
      self += next[k] == s ? w : 0.0;
      sum += next[k] == s ? 0.0 : w * v[next[k]];
    }
    own = self;
    return sum;
  }

  void gather(int64_t pair, int64_t s, const PolicyRows& rows) const {
    int64_t at = rows.slot[s];
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k, ++at) {
      rows.to[at] = static_cast<int32_t>(next[k]);
      rows.weight[at] = static_cast<float>(weight[k]);
    }
    for (; at < rows.slot[s + 1]; ++at) {
      rows.to[at] = static_cast<int32_t>(s);
      rows.weight[at] = 0;
    }
  }

  void gather_solved(int64_t pair, int64_t i, int64_t s, double scale, const SolvedRows& rows) const {
    int64_t at = rows.slot[i];
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k, ++at) {
      rows.to[at] = static_cast<int32_t>(next[k]);
      rows.weight[at] = next[k] == s ? 0.0 : weight[k] * scale;
    }
    for (; at < rows.slot[i + 1]; ++at) {
      rows.to[at] = static_cast<int32_t>(s);
      rows.weight[at] = 0;
    }
  }

  // NOLINTNEXTLINE(readability-non-const-parameter): written through
  void scatter(int64_t pair, double mass, double* out) const {
    for (int64_t k = offset[pair], end = offset[pair + 1]; k < end; ++k) out[next[k]] += weight[k] * mass;
  }

  const Index *offset, *next;
  const double* weight;
};

struct Dense {
  typedef double Vec __attribute__((vector_size(64)));

  explicit Dense(const Model& m) : states(m.num_states), weight(m.weight) {}

  // 32 partial sums, whatever the registers: the same bits everywhere.
  double dot(int64_t pair, const double* v) const {
    const double* row = weight + pair * states;
    Vec sums[4] = {};
    int64_t k = 0;
    for (; k + 32 <= states; k += 32) {
      for (int i = 0; i < 4; ++i) {
        Vec w, x;
        __builtin_memcpy(&w, row + k + 8 * i, sizeof w);
        __builtin_memcpy(&x, v + k + 8 * i, sizeof x);
        sums[i] += w * x;
      }
    }
    double rest = 0;
    for (; k < states; ++k) rest += row[k] * v[k];
    const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    return (((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]))) + rest;
  }

  void fetch_row(int64_t) const {}  // streams
  void fetch_values(int64_t, const double*) const {}

  double dot_apart(int64_t pair, int64_t s, const double* v, double& own) const {
    own = weight[pair * states + s];
    return dot(pair, v) - own * v[s];
  }

  void gather(int64_t pair, int64_t s, const PolicyRows& rows) const {
    const double* row = weight + pair * states;
    float* to = rows.weight + rows.slot[s];
    for (int64_t k = 0; k < states; ++k) to[k] = static_cast<float>(row[k]);
  }

  void gather_solved(int64_t pair, int64_t i, int64_t s, double scale, const SolvedRows& rows) const {
    for (int64_t k = 0, at = rows.slot[i]; k < states; ++k, ++at) {
      rows.to[at] = static_cast<int32_t>(k);
      rows.weight[at] = k == s ? 0.0 : weight[pair * states + k] * scale;
    }
  }

  void scatter(int64_t pair, double mass, double* out) const {
    for (int64_t k = 0; k < states; ++k) out[k] += weight[pair * states + k] * mass;
  }

  int64_t states;
  const double* weight;
};

bool is_terminal(const Model& m, int64_t s) { return m.terminal != nullptr && m.terminal[s]; }

void note(Change& c, double change) {
  c.low = change < c.low ? change : c.low;
  c.high = change > c.high ? change : c.high;
}

template <class Rows>
struct Greedy {
  const Backup& b;
  const Rows& rows;

  double q(int64_t pair) const {
    if (b.value == nullptr) return b.model->reward[pair];
    return b.model->reward[pair] + b.gamma * rows.dot(pair, b.value);
  }

  // Among pairs [first, last), the incumbent first. Returns the best one's index.
  int64_t choose(int64_t first, int64_t last, int64_t incumbent, double& top) const {
    double of[kMaxGaps];
    const bool gaps = b.gap != nullptr && last - first <= kMaxGaps;
    int64_t best = first + (incumbent < 0 ? 0 : incumbent);
    const int64_t begun = best;
    top = q(best);
    if (gaps) of[best - first] = top;
    if (b.q != nullptr) b.q[best] = top;
    uint64_t seen = 0;
    for (int64_t l = first; l < last; ++l) {
      if (l == begun) continue;
      if (gaps && b.gap[l] > b.moved) continue;
      const double x = q(l);
      if (b.q != nullptr) b.q[l] = x;
      if (gaps) {
        of[l - first] = x;
        seen |= uint64_t{1} << (l - first);
      }
      if (x > top) {
        top = x;
        best = l;
      }
    }
    if (gaps) {
      seen |= uint64_t{1} << (begun - first);
      for (int64_t l = first; l < last; ++l) {
        if (seen >> (l - first) & 1) {
          const double known = top - of[l - first] + b.moved;
          b.gap[l] = static_cast<float>(known * (1 - 1e-6));  // rounds down
        }
      }
    }
    return best - first;
  }
};

// What a state's greedy choice so far will read.
template <class Rows>
void fetch_ahead(const Backup& b, const Rows& rows, int64_t s, int64_t end) {
  const int64_t far = s + kRowsAhead, near = s + kValuesAhead;
  if (far < end && b.choice[far] >= 0) rows.fetch_row(b.model->pair_offset[far] + b.choice[far]);
  if (near < end && b.choice[near] >= 0)
    rows.fetch_values(b.model->pair_offset[near] + b.choice[near], b.value);
}

template <class Rows>
void backup(const Backup& b, int64_t begin, int64_t end, Change& change) {
  const Rows rows(*b.model);
  const Greedy<Rows> greedy{b, rows};
  const bool ahead = b.value != nullptr && b.model->num_states >= kFar;
  Change c = change;
  for (int64_t s = begin; s < end; ++s) {
    if (ahead) fetch_ahead(b, rows, s, end);
    if (is_terminal(*b.model, s)) {
      b.next[s] = 0;
      continue;
    }
    const int64_t first = b.model->pair_offset[s];
    double top;
    const int64_t best = greedy.choose(first, b.model->pair_offset[s + 1], b.choice[s], top);
    b.next[s] = top;
    note(c, b.value == nullptr ? top : top - b.value[s]);
    if (best != b.choice[s]) {
      ++c.switched;
      b.choice[s] = static_cast<int32_t>(best);
      if (b.rows != nullptr) rows.gather(first + best, s, *b.rows);
    }
  }
  change = c;
}

template <bool ahead>
float gathered(const PolicyRows& rows, int64_t s, const float* v) {
  float sum = 0;
  for (int64_t k = rows.slot[s], end = rows.slot[s + 1]; k < end; ++k) {
    if (ahead) __builtin_prefetch(v + rows.to[k + kSlotsAhead]);
    sum += rows.weight[k] * v[rows.to[k]];
  }
  return sum;
}

float streamed(const PolicyRows& rows, int64_t s, const float* v) {
  typedef float Vec __attribute__((vector_size(64)));
  const float* row = rows.weight + rows.slot[s];
  const int64_t n = rows.slot[s + 1] - rows.slot[s];
  Vec sums[4] = {};
  int64_t k = 0;
  for (; k + 64 <= n; k += 64) {
    for (int i = 0; i < 4; ++i) {
      Vec w, x;
      __builtin_memcpy(&w, row + k + 16 * i, sizeof w);
      __builtin_memcpy(&x, v + k + 16 * i, sizeof x);
      sums[i] += w * x;
    }
  }
  float rest = 0;
  for (; k < n; ++k) rest += row[k] * v[k];
  const Vec sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  float lanes[16];
  __builtin_memcpy(lanes, &sum, sizeof lanes);
  for (int half = 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0] + rest;
}

template <float (*dot)(const PolicyRows&, int64_t, const float*)>
void relax_by(const Relax& r, int64_t begin, int64_t end, Change& change) {
  float low = static_cast<float>(change.low), high = static_cast<float>(change.high);
  for (int64_t s = begin; s < end; ++s) {
    if (r.terminal != nullptr && r.terminal[s]) {
      r.next[s] = 0;
      continue;
    }
    const float next = r.delta[s] + r.gamma * dot(*r.rows, s, r.value);
    const float d = next - r.value[s];
    low = d < low ? d : low;
    high = d > high ? d : high;
    r.next[s] = next;
  }
  change.low = low;
  change.high = high;
}

void relax(const Relax& r, int64_t begin, int64_t end, Change& change) {
  if (r.rows->to == nullptr)
    relax_by<streamed>(r, begin, end, change);
  else if (r.rows->num_states >= kFar)
    relax_by<gathered<true>>(r, begin, end, change);
  else
    relax_by<gathered<false>>(r, begin, end, change);
}

float settle(const Relax& r, const int32_t* states, int64_t size, float* value) {
  float greatest = 0;
  for (int64_t i = 0; i < size; ++i) {
    const int64_t s = states[i];
    const float next = r.delta[s] + r.gamma * gathered<false>(*r.rows, s, value);
    const float change = next > value[s] ? next - value[s] : value[s] - next;
    greatest = change > greatest ? change : greatest;
    value[s] = next;
  }
  return greatest;
}

template <class Rows>
double gauss_seidel(const GaussSeidel& g, int64_t begin, int64_t end) {
  const Model& m = *g.model;
  const Rows rows(m);
  double greatest = 0;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t s = g.order[i];
    if (is_terminal(m, s)) continue;
    double top = -kInfinity, top_leaves = 1;
    int64_t best = m.pair_offset[s];
    for (int64_t l = best; l < m.pair_offset[s + 1]; ++l) {
      double own;
      const double apart = m.reward[l] + g.gamma * rows.dot_apart(l, s, g.value, own);
      const double leaves = 1 - g.gamma * own;
      const double x = leaves > 1e-12     ? apart / leaves
                       : m.reward[l] == 0 ? g.value[s]
                       : m.reward[l] < 0  ? -kInfinity
                                          : kInfinity;
      if (x > top) {
        top = x;
        top_leaves = leaves;
        best = l;
      }
    }
    if (g.rows != nullptr) {
      const bool stays = top_leaves <= 1e-12;
      rows.gather_solved(best, i, s, stays ? 0.0 : g.gamma / top_leaves, *g.rows);
      g.rows->reward[i] = stays ? top : m.reward[best] / top_leaves;
    }
    const double change = top > g.value[s] ? top - g.value[s] : g.value[s] - top;
    greatest = change > greatest ? change : greatest;
    g.value[s] = top;
  }
  return greatest;
}

double relax_in_place(const SolvedRows& rows, const int32_t* order, int64_t size, double* value) {
  double greatest = 0;
  int64_t k = 0;
  for (int64_t i = 0; i < size; ++i) {
    double sum = rows.reward[i];
    for (const int64_t end = rows.slot[i + 1]; k < end; ++k) sum += rows.weight[k] * value[rows.to[k]];
    const int64_t s = order[i];
    const double change = sum > value[s] ? sum - value[s] : value[s] - sum;
    greatest = change > greatest ? change : greatest;
    value[s] = sum;
  }
  return greatest;
}

template <class Rows>
void residual(const Residual& r, int64_t begin, int64_t end, Change& change) {
  const Model& m = *r.model;
  const Rows rows(m);
  Change c = change;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t s = r.order[i];
    double top = -kInfinity;
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) {
      const double x = m.reward[l] + r.gamma * rows.dot(l, r.value);
      top = x > top ? x : top;
    }
    r.change[i] = is_terminal(m, s) ? 0 : top - r.value[s];
    note(c, r.change[i]);
  }
  change = c;
}

template <class Rows>
void expect(const Model& m, const double* value, int64_t begin, int64_t end, double* out) {
  const Rows rows(m);
  for (int64_t l = begin; l < end; ++l) out[l] = rows.dot(l, value);
}

template <class Rows>
void transposed(const Model& m, const double* mass, double gamma, double* out) {
  const Rows rows(m);
  for (int64_t s = 0; s < m.num_states; ++s) {
    if (is_terminal(m, s)) continue;
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l)
      if (mass[l] != 0) rows.scatter(l, gamma * mass[l], out);
  }
}

}  // namespace

extern const TabularTable tabular_table;
const TabularTable tabular_table = {
    {backup<Compressed<int32_t>>, backup<Compressed<int64_t>>, backup<Dense>},
    relax,
    settle,
    {gauss_seidel<Compressed<int32_t>>, gauss_seidel<Compressed<int64_t>>, gauss_seidel<Dense>},
    relax_in_place,
    {residual<Compressed<int32_t>>, residual<Compressed<int64_t>>, residual<Dense>},
    {expect<Compressed<int32_t>>, expect<Compressed<int64_t>>, expect<Dense>},
    {transposed<Compressed<int32_t>>, transposed<Compressed<int64_t>>, transposed<Dense>},
};

}  // namespace fastrl::FASTRL_ISA
