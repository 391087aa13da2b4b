// Strongly connected components of whatever edges there are.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "components.h"

namespace fastrl {

// Tarjan 1972, without recursion: a component may be as deep as there are states.
template <class Edges>
Components tarjan(const Model& m, const Edges& edges) {
  const auto n = static_cast<size_t>(m.num_states);
  struct Frame {
    int32_t state;
    int64_t k;
  };
  constexpr int32_t kNew = -1, kDone = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> low(n, kNew), index(n, kNew), stack;
  std::vector<Frame> path;
  Components found;
  found.of.assign(n, 0);
  found.order.reserve(n);
  found.start.push_back(0);
  int32_t visited = 0;
  for (size_t root = 0; root < n; ++root) {
    if (index[root] != kNew) continue;
    const auto enter = [&](int32_t s) {
      index[static_cast<size_t>(s)] = low[static_cast<size_t>(s)] = visited++;
      stack.push_back(s);
      path.push_back({s, edges.begin(s)});
    };
    enter(static_cast<int32_t>(root));
    while (!path.empty()) {
      Frame& frame = path.back();
      const auto s = static_cast<size_t>(frame.state);
      const int64_t end = edges.end(frame.state);
      bool entered = false;
      while (frame.k < end) {
        const int64_t k = frame.k++;
        if (edges.weight(k) == 0) continue;
        const auto next = static_cast<size_t>(edges.next(k));
        if (index[next] == kNew) {
          enter(static_cast<int32_t>(next));
          entered = true;
          break;
        }
        low[s] = std::min(low[s], low[next]);  // kDone of a finished component
      }
      if (entered) continue;
      path.pop_back();
      if (!path.empty()) {
        int32_t& above = low[static_cast<size_t>(path.back().state)];
        above = std::min(above, low[s]);
      }
      if (low[s] != index[s]) continue;
      const auto component = static_cast<int32_t>(found.start.size() - 1);
      for (;;) {
        const int32_t member = stack.back();
        stack.pop_back();
        found.of[static_cast<size_t>(member)] = component;
        low[static_cast<size_t>(member)] = kDone;
        found.order.push_back(member);
        if (member == static_cast<int32_t>(s)) break;
      }
      found.start.push_back(static_cast<int64_t>(found.order.size()));
    }
  }
  return found;
}

}  // namespace fastrl
