#include "tabular.h"

#include <cstdint>

#include "model_rows.h"

namespace fastrl::FASTRL_ISA {

namespace {

constexpr double kInfinity = __builtin_inf();

template <class Rows>
void backup(const Backup& b, int64_t begin, int64_t end, Change& change) {
  const Model& m = *b.model;
  const Rows rows(m);
  const auto q = [&](int64_t pair) {
    const double x = m.reward[pair] + b.gamma * rows.dot(pair, b.value);
    if (b.q != nullptr) b.q[pair] = x;
    return x;
  };
  Change c = change;
  for (int64_t s = begin; s < end; ++s) {
    if (is_terminal(m, s)) {
      b.next[s] = 0;
      continue;
    }
    const int64_t first = m.pair_offset[s];
    const int64_t begun = first + (b.choice[s] < 0 ? 0 : b.choice[s]);
    int64_t best = begun;
    double top = q(begun);
    for (int64_t l = first; l < m.pair_offset[s + 1]; ++l) {
      if (l == begun) continue;
      const double x = q(l);
      if (x > top) {
        top = x;
        best = l;
      }
    }
    b.next[s] = top;
    note(c, top - b.value[s]);
    if (best - first != b.choice[s]) {
      ++c.switched;
      b.choice[s] = static_cast<int32_t>(best - first);
    }
  }
  change = c;
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
    {gauss_seidel<Compressed<int32_t>>, gauss_seidel<Compressed<int64_t>>, gauss_seidel<Dense>},
    relax_in_place,
    {residual<Compressed<int32_t>>, residual<Compressed<int64_t>>, residual<Dense>},
    {expect<Compressed<int32_t>>, expect<Compressed<int64_t>>, expect<Dense>},
    {transposed<Compressed<int32_t>>, transposed<Compressed<int64_t>>, transposed<Dense>},
};

}  // namespace fastrl::FASTRL_ISA
