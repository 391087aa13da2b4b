#include "end_components.h"

#include <numeric>

#include "edges.h"
#include "tarjan.h"

namespace fastrl {

namespace {

// The pairs that may lead to each state, a pair once for each of its outcomes there.
struct Leading {
  std::vector<int64_t> start;  // [S + 1]
  std::vector<int64_t> pair;
};

template <class Edges>
Leading leading(const Model& m, const Edges& edges, const uint8_t* kept) {
  const auto n = static_cast<size_t>(m.num_states);
  Leading found;
  found.start.assign(n + 1, 0);
  const auto each = [&](const auto& visit) {
    for (int64_t l = 0; l < m.num_pairs; ++l)
      for (int64_t k = edges.pair_begin(l); kept[l] && k < edges.pair_begin(l + 1); ++k)
        if (edges.weight(k) != 0) visit(l, static_cast<size_t>(edges.next(k)));
  };
  each([&](int64_t, size_t next) { ++found.start[next + 1]; });
  std::partial_sum(found.start.begin(), found.start.end(), found.start.begin());
  found.pair.resize(static_cast<size_t>(found.start[n]));
  std::vector<int64_t> free(found.start.begin(), found.start.end() - 1);
  each([&](int64_t l, size_t next) { found.pair[static_cast<size_t>(free[next]++)] = l; });
  return found;
}

std::vector<int32_t> states_of_pairs(const Model& m) {
  std::vector<int32_t> state(static_cast<size_t>(m.num_pairs));
  for (int64_t s = 0; s < m.num_states; ++s)
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l)
      state[static_cast<size_t>(l)] = static_cast<int32_t>(s);
  return state;
}

// The edges of some pairs.
template <class Edges>
struct Kept {
  int64_t begin(int64_t s) const { return edges.begin(s); }
  int64_t end(int64_t s) const { return edges.end(s); }
  int64_t next(int64_t k) const { return edges.next(k); }
  double weight(int64_t k) const { return live[static_cast<size_t>(k)] ? edges.weight(k) : 0.0; }

  const Edges& edges;
  const std::vector<uint8_t>& live;  // of the outcomes
};

template <class Edges>
std::vector<int32_t> decompose(const Model& m, const Edges& edges, uint8_t* kept) {
  const auto n = static_cast<size_t>(m.num_states);
  const std::vector<int32_t> state = states_of_pairs(m);
  for (int64_t l = 0; l < m.num_pairs; ++l)
    if (is_terminal(m, state[static_cast<size_t>(l)])) kept[l] = 0;
  const Leading before = leading(m, edges, kept);
  std::vector<uint8_t> live(static_cast<size_t>(edges.pair_begin(m.num_pairs)), 0);
  std::vector<int64_t> pairs(n, 0);
  for (int64_t l = 0; l < m.num_pairs; ++l) {
    if (!kept[l]) continue;
    ++pairs[static_cast<size_t>(state[static_cast<size_t>(l)])];
    std::fill(live.begin() + edges.pair_begin(l), live.begin() + edges.pair_begin(l + 1), uint8_t{1});
  }
  std::vector<int32_t> idle;  // states that have lost their pairs, whose predecessors are not looked at yet
  const auto drop = [&](int64_t l) {
    kept[l] = 0;
    std::fill(live.begin() + edges.pair_begin(l), live.begin() + edges.pair_begin(l + 1), uint8_t{0});
    const int32_t s = state[static_cast<size_t>(l)];
    if (--pairs[static_cast<size_t>(s)] == 0) idle.push_back(s);
  };
  for (int64_t s = 0; s < m.num_states; ++s)
    if (pairs[static_cast<size_t>(s)] == 0) idle.push_back(static_cast<int32_t>(s));
  for (;;) {
    while (!idle.empty()) {
      const auto s = static_cast<size_t>(idle.back());
      idle.pop_back();
      for (int64_t i = before.start[s]; i < before.start[s + 1]; ++i) {
        const int64_t l = before.pair[static_cast<size_t>(i)];
        if (kept[l]) drop(l);
      }
    }
    bool changed = false;
    const Components parts = tarjan(m, Kept<Edges>{edges, live});
    for (int64_t l = 0; l < m.num_pairs; ++l) {
      const int32_t own = parts.of[static_cast<size_t>(state[static_cast<size_t>(l)])];
      for (int64_t k = edges.pair_begin(l); kept[l] && k < edges.pair_begin(l + 1); ++k)
        if (edges.weight(k) != 0 && parts.of[static_cast<size_t>(edges.next(k))] != own) {
          drop(l);
          changed = true;
        }
    }
    if (changed) continue;
    std::vector<int32_t> number(parts.start.size(), -1), found(n, -1);
    int32_t count = 0;
    for (size_t s = 0; s < n; ++s) {
      if (pairs[s] == 0) continue;
      int32_t& own = number[static_cast<size_t>(parts.of[s])];
      if (own < 0) own = count++;
      found[s] = own;
    }
    return found;
  }
}

template <class Edges>
std::vector<int32_t> nearer(const Model& m, const Edges& edges, const uint8_t* target, const uint8_t* kept) {
  const auto n = static_cast<size_t>(m.num_states);
  const Leading before = leading(m, edges, kept);
  const std::vector<int32_t> state = states_of_pairs(m);
  std::vector<int32_t> choice(n, -1), queue;
  for (size_t s = 0; s < n; ++s)
    if (target[s]) queue.push_back(static_cast<int32_t>(s));
  for (size_t head = 0; head < queue.size(); ++head) {
    const auto to = static_cast<size_t>(queue[head]);
    for (int64_t i = before.start[to]; i < before.start[to + 1]; ++i) {
      const int64_t l = before.pair[static_cast<size_t>(i)];
      const auto s = static_cast<size_t>(state[static_cast<size_t>(l)]);
      if (target[s] || choice[s] >= 0) continue;
      choice[s] = static_cast<int32_t>(l - m.pair_offset[s]);
      queue.push_back(static_cast<int32_t>(s));
    }
  }
  return choice;
}

}  // namespace

std::vector<int32_t> end_components(const Model& m, uint8_t* kept) {
  return with_edges(m, [&](const auto& edges) { return decompose(m, edges, kept); });
}

std::vector<int32_t> toward(const Model& m, const uint8_t* target, const uint8_t* kept) {
  return with_edges(m, [&](const auto& edges) { return nearer(m, edges, target, kept); });
}

}  // namespace fastrl
