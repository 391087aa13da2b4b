// What may follow a state of a model, whatever its layout.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl {

inline bool is_terminal(const Model& m, int64_t s) { return m.terminal != nullptr && m.terminal[s]; }

// What may follow a state: entries [begin(s), end(s)), all its actions' together;
// of one pair, [pair_begin(l), pair_begin(l + 1)).
template <class Index>
struct CompressedEdges {
  explicit CompressedEdges(const Model& m)
      : model(m),
        offset(static_cast<const Index*>(m.offset)),
        next_state(static_cast<const Index*>(m.next_state)) {}
  int64_t begin(int64_t s) const { return is_terminal(model, s) ? 0 : offset[model.pair_offset[s]]; }
  int64_t end(int64_t s) const { return is_terminal(model, s) ? 0 : offset[model.pair_offset[s + 1]]; }
  int64_t pair_begin(int64_t pair) const { return offset[pair]; }
  int64_t next(int64_t k) const { return next_state[k]; }
  double weight(int64_t k) const { return model.weight[k]; }

  const Model& model;
  const Index *offset, *next_state;
};

struct DenseEdges {
  explicit DenseEdges(const Model& m) : model(m) {}
  int64_t begin(int64_t s) const {
    return is_terminal(model, s) ? 0 : model.pair_offset[s] * model.num_states;
  }
  int64_t end(int64_t s) const {
    return is_terminal(model, s) ? 0 : model.pair_offset[s + 1] * model.num_states;
  }
  int64_t pair_begin(int64_t pair) const { return pair * model.num_states; }
  int64_t next(int64_t k) const { return k % model.num_states; }
  double weight(int64_t k) const { return model.weight[k]; }

  const Model& model;
};

template <class Visit>
auto with_edges(const Model& m, const Visit& visit) {
  switch (m.layout) {
    case Layout::int32:
      return visit(CompressedEdges<int32_t>(m));
    case Layout::int64:
      return visit(CompressedEdges<int64_t>(m));
    default:
      return visit(DenseEdges(m));
  }
}

}  // namespace fastrl
