#include "policy_sweeps.h"

#include <cstdint>

#include "policy_rows.h"

namespace fastrl::FASTRL_ISA {

namespace {

// From this many states on, values come from far away, and are asked for some states ahead.
constexpr int64_t kFar = 32768;

// The best of a state's actions, and what it and the next best are worth.
struct Best {
  int64_t action;
  double top, second;
};

// Of q [size]; `kept` stays on a tie, -1: the first does.
Best best_of(const double* q, int64_t size, int64_t kept) {
  const int64_t begun = kept < 0 ? 0 : kept;
  double top = q[begun], second = -__builtin_inf();
  for (int64_t a = 0; a < size; ++a) {
    const double x = a == begun ? -__builtin_inf() : q[a], less = x < top ? x : top;
    second = second > less ? second : less;
    top = x > top ? x : top;
  }
  int64_t best = begun;
  if (q[begun] < top)
    for (best = 0; q[best] < top; ++best) {
    }
  return {best, top, second};
}

// A float no greater than x >= 0, whose own range is wider at both ends.
inline float not_above(double x) {
  return x > 3e38 ? 3e38f : x < 1e-37 ? 0.0f : static_cast<float>(x * (1 - 1e-6));
}

template <class Rows>
struct Sweep {
  const Improve& b;
  const Rows rows;
  int64_t changed = 0;
  double low[kLanes], high[kLanes];

  Sweep(const Improve& what, const Change& change) : b(what), rows(*what.model) {
    for (int i = 0; i < kLanes; ++i) {
      low[i] = change.low;
      high[i] = change.high;
    }
  }

  void evaluate(int64_t first, int64_t last, double* q) const {
    if (b.value != nullptr) return rows.evaluate(first, last, b, q);
    for (int64_t l = first; l < last; ++l) q[l - first] = b.model->reward[l];
  }

  // A state of more actions than are compared together.
  Best best_of_many(int64_t first, int64_t last, int64_t kept) const {
    double q[kMostPairs];
    Best all{-1, -__builtin_inf(), -__builtin_inf()};
    for (int64_t l = first; l < last; l += kMostPairs) {
      const int64_t size = last - l < kMostPairs ? last - l : kMostPairs, before = l - first;
      evaluate(l, l + size, q);
      const bool has_kept = kept >= before && kept < before + size;
      const Best part = best_of(q, size, has_kept ? kept - before : -1);
      const double less = part.top < all.top ? part.top : all.top;
      all.second = less > all.second ? less : all.second;
      all.second = part.second > all.second ? part.second : all.second;
      const bool stays = before + part.action == kept && part.top == all.top;
      if (part.top > all.top || stays || all.action < 0) {
        all.action = before + part.action;
        all.top = part.top;
      }
    }
    return all;
  }

  // True if the policy changes in the state.
  bool take(int64_t s, const Best& best) {
    b.nearest[s] = not_above(best.top - best.second + b.moved);
    b.next[s] = best.top;
    if (best.action == b.choice[s]) return false;
    ++changed;
    b.choice[s] = static_cast<int32_t>(best.action);
    rows.fetch_row(b.model->pair_offset[s] + best.action);
    return true;
  }

  // Which of the states [from, to), all looked at, switch: these are marked.
  void compare(int64_t from, int64_t to, bool* switched) {
    const int64_t* first = b.model->pair_offset;
    if (first[to] - first[from] > kMostPairs) {
      for (int64_t s = from; s < to; ++s) {
        if (first[s + 1] - first[s] > kMostPairs)
          switched[s - from] = take(s, best_of_many(first[s], first[s + 1], b.choice[s]));
        else
          compare(s, s + 1, switched + (s - from));
      }
      return;
    }
    double q[kMostPairs];
    evaluate(first[from], first[to], q);
    for (int64_t s = from; s < to; ++s)
      switched[s - from] =
          take(s, best_of(q + (first[s] - first[from]), first[s + 1] - first[s], b.choice[s]));
  }

  void one(int64_t s) {
    const int64_t pair = b.model->pair_offset[s] + b.choice[s];
    evaluate(pair, pair + 1, b.next + s);
  }

  // kLanes states at most.
  void block(int64_t from, int64_t to) {
    bool looked_at[kLanes + 1] = {}, switched[kLanes] = {};
    bool others = false;
    for (int64_t s = from; s < to; ++s) {
      const bool near = !(b.nearest[s] > b.moved), idle = is_idle(b.idle, s);
      looked_at[s - from] = near && !idle;
      others |= !near && !idle;
    }
    if (Rows::kPacked && others) keep(b, from, b.next + from);
    for (int64_t s = from; s < to;) {
      int64_t end = s;
      while (looked_at[end - from]) ++end;
      if (s < end) compare(s, end, switched + (s - from));
      for (s = end; s < to && !looked_at[s - from]; ++s) {
        if (is_idle(b.idle, s))
          b.next[s] = 0;
        else if (!Rows::kPacked)
          one(s);
      }
    }
    for (int i = 0; i < kLanes; ++i) {
      const double d = b.value == nullptr ? b.next[from + i] : b.next[from + i] - b.value[from + i];
      const bool counts = !is_idle(b.idle, from + i);
      low[i] = counts && d < low[i] ? d : low[i];
      high[i] = counts && d > high[i] ? d : high[i];
    }
    for (int64_t s = from; s < to; ++s) {
      if (!switched[s - from]) continue;
      const int64_t pair = b.model->pair_offset[s] + b.choice[s];
      rows.gather(pair, s, *b.rows);
      b.rows->reward[s] = b.model->reward[pair];
    }
  }
};

template <class Rows>
void improve(const Improve& b, int64_t begin, int64_t end, Change& change) {
  Sweep<Rows> sweep(b, change);
  for (int64_t s = begin; s < end; s += kRowLanes) sweep.block(s, end - s < kRowLanes ? end : s + kRowLanes);
  change.switched += sweep.changed;
  for (int i = 0; i < kLanes; ++i) note(change, sweep.low[i], sweep.high[i]);
}

template <bool ahead>
float gathered(const PolicyRows& rows, int64_t s, const float* v) {
  const int64_t block = s >> rows.shift, stride = int64_t{1} << rows.shift;
  float sum = 0;
  for (int64_t k = rows.slot[block] + (s & (stride - 1)); k < rows.slot[block + 1]; k += stride) {
    if (ahead) __builtin_prefetch(v + rows.to[k + 32]);
    sum += rows.weight[k] * v[rows.to[k]];
  }
  return sum;
}

float streamed(const PolicyRows& rows, int64_t s, const float* v) {
  typedef float Vec __attribute__((vector_size(64)));
  const int64_t n = rows.num_states;
  const float* row = rows.weight + s * n;
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
void relax_each(const Relax& r, int64_t begin, int64_t end, Change& change) {
  float low = static_cast<float>(change.low), high = static_cast<float>(change.high);
  for (int64_t s = begin; s < end; ++s) {
    if (is_idle(r.idle, s)) {
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

#ifdef __AVX512F__

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint8_t Bytes __attribute__((vector_size(16)));

void relax_side_by_side(const Relax& r, int64_t begin, int64_t end, Change& change) {
  const PolicyRows& rows = *r.rows;
  Floats low = Floats{} + static_cast<float>(change.low), high = Floats{} + static_cast<float>(change.high);
  for (int64_t s = begin; s < end; s += kRowLanes) {
    Floats sum = {}, delta, value;
    for (int64_t k = rows.slot[s / kRowLanes], to = rows.slot[s / kRowLanes + 1]; k < to; k += kRowLanes) {
      Floats x, w;
      for (int i = 0; i < kLanes; ++i) x[i] = r.value[rows.to[k + i]];
      __builtin_memcpy(&w, rows.weight + k, sizeof w);
      sum += w * x;
    }
    __builtin_memcpy(&delta, r.delta + s, sizeof delta);
    __builtin_memcpy(&value, r.value + s, sizeof value);
    const Floats next = delta + r.gamma * sum, d = next - value;
    __builtin_memcpy(r.next + s, &next, sizeof next);
    if (r.idle == nullptr) {
      low = d < low ? d : low;
      high = d > high ? d : high;
    } else {
      Bytes idle;
      __builtin_memcpy(&idle, r.idle + s, sizeof idle);
      const Ints counts = __builtin_convertvector(idle, Ints) == 0;
      low = (d < low) & counts ? d : low;
      high = (d > high) & counts ? d : high;
    }
  }
  for (int i = 0; i < kLanes; ++i) note(change, low[i], high[i]);
}

#else

void relax_side_by_side(const Relax& r, int64_t begin, int64_t end, Change& change) {
  const PolicyRows& rows = *r.rows;
  float low[kLanes], high[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    low[i] = static_cast<float>(change.low);
    high[i] = static_cast<float>(change.high);
  }
  for (int64_t s = begin; s < end; s += kRowLanes) {
    float sum[kLanes] = {};
    for (int64_t k = rows.slot[s / kRowLanes], to = rows.slot[s / kRowLanes + 1]; k < to; k += kRowLanes) {
      for (int i = 0; i < kLanes; ++i) __builtin_prefetch(r.value + rows.to[k + 5 * kRowLanes + i]);
      for (int i = 0; i < kLanes; ++i) sum[i] += rows.weight[k + i] * r.value[rows.to[k + i]];
    }
    for (int i = 0; i < kLanes; ++i) {
      const float next = r.delta[s + i] + r.gamma * sum[i], d = next - r.value[s + i];
      r.next[s + i] = next;
      const bool counts = !is_idle(r.idle, s + i);
      low[i] = counts && d < low[i] ? d : low[i];
      high[i] = counts && d > high[i] ? d : high[i];
    }
  }
  for (int i = 0; i < kLanes; ++i) note(change, low[i], high[i]);
}

#endif

void relax(const Relax& r, int64_t begin, int64_t end, Change& change) {
  if (r.rows->to == nullptr)
    relax_each<streamed>(r, begin, end, change);
  else if (r.rows->shift != 0)
    relax_side_by_side(r, begin, end, change);
  else if (r.rows->num_states >= kFar)
    relax_each<gathered<true>>(r, begin, end, change);
  else
    relax_each<gathered<false>>(r, begin, end, change);
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

void begin(const Begin& b, int64_t from, int64_t to) {
  for (int64_t s = from; s < to; ++s) {
    const auto delta = static_cast<float>((b.next[s] - b.value[s] - b.middle) * b.scale);
    b.delta[s] = b.sum[s] = is_idle(b.idle, s) ? 0.0f : delta;
  }
}

void advance(const Advance& a, int64_t from, int64_t to, Moved& moved) {
  double low[kLanes], high[kLanes], size[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    low[i] = moved.low;
    high[i] = moved.high;
    size[i] = moved.size;
  }
  for (int64_t s = from; s < to; s += kRowLanes) {
    for (int i = 0; i < kLanes; ++i) {
      const double before = a.value[s + i];
      const double next =
          a.sum == nullptr ? a.next[s + i] + a.shift : before + (a.sum[s + i] * a.scale + a.shift);
      const bool counts = !is_idle(a.idle, s + i);
      const double x = counts ? next : before, d = x - before, magnitude = x < 0 ? -x : x;
      low[i] = counts && d < low[i] ? d : low[i];
      high[i] = counts && d > high[i] ? d : high[i];
      size[i] = magnitude > size[i] ? magnitude : size[i];
      a.value[s + i] = x;
    }
  }
  for (int i = 0; i < kLanes; ++i) {
    moved.low = low[i] < moved.low ? low[i] : moved.low;
    moved.high = high[i] > moved.high ? high[i] : moved.high;
    moved.size = size[i] > moved.size ? size[i] : moved.size;
  }
}

}  // namespace

extern const PolicyTable policy_sweeps_table;
const PolicyTable policy_sweeps_table = {
    {improve<PackedRows<int32_t>>, improve<PackedRows<int64_t>>, improve<DenseRows>},
    relax,
    settle,
    begin,
    advance,
};

}  // namespace fastrl::FASTRL_ISA
