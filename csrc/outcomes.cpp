#include "outcomes.h"

namespace fastrl {

namespace {

struct Span {
  int64_t begin, end;
};

template <class Index>
Span span_in(const Rows& rows, int64_t pair) {
  const auto* offset = static_cast<const Index*>(rows.offset);
  return {offset[pair], offset[pair + 1]};
}

Span span_of(const Rows& rows, int64_t pair) {
  if (rows.layout == Layout::dense) return {pair * rows.num_states, (pair + 1) * rows.num_states};
  return rows.layout == Layout::int32 ? span_in<int32_t>(rows, pair) : span_in<int64_t>(rows, pair);
}

// A sum for each row: one over many rows would lose what is unlikely.
int64_t draw(const double* probability, Span span, double uniform) {
  double total = 0;
  for (int64_t k = span.begin; k < span.end; ++k) total += probability[k];
  const double wanted = uniform * total;
  double sum = 0;
  int64_t last = -1;  // rounding may pass them all
  for (int64_t k = span.begin; k < span.end; ++k) {
    if (!(probability[k] > 0)) continue;
    last = k;
    sum += probability[k];
    if (sum > wanted) break;
  }
  return last;
}

}  // namespace

int64_t draw_outcomes(const Rows& rows, const int64_t* pair, const double* uniform, int64_t size,
                      int64_t* out) {
  for (int64_t i = 0; i < size; ++i) {
    if (pair[i] < 0 || pair[i] >= rows.num_pairs) return i;
    const Span span = span_of(rows, pair[i]);
    if (span.begin < 0 || span.end > rows.entries) return i;
    out[i] = draw(rows.probability, span, uniform[i]);
    if (out[i] < 0) return i;
  }
  return size;
}

}  // namespace fastrl
