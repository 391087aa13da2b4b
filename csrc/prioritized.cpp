#include "prioritized.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "edges.h"

namespace fastrl {

namespace {

// Each state's predecessors, and how far at most their Bellman errors move when its value moves by 1.
struct Predecessors {
  std::vector<int64_t> start;  // [S + 1]
  std::vector<int32_t> state;
  std::vector<float> factor;  // gamma times the greatest weight of any action, rounded up
};

template <class Edges>
Predecessors predecessors(const Model& m, const Edges& edges, double gamma) {
  const auto n = static_cast<size_t>(m.num_states);
  Predecessors found;
  std::vector<int64_t>& start = found.start;
  start.assign(n + 1, 0);
  std::vector<int64_t> seen(n, -1);  // the last state that leads here
  for (int64_t s = 0; s < m.num_states; ++s)
    for (int64_t k = edges.begin(s), end = edges.end(s); k < end; ++k) {
      const auto next = static_cast<size_t>(edges.next(k));
      if (edges.weight(k) == 0 || seen[next] == s) continue;
      seen[next] = s;
      ++start[next + 1];
    }
  std::partial_sum(start.begin(), start.end(), start.begin());
  found.state.resize(static_cast<size_t>(start[n]));
  found.factor.resize(static_cast<size_t>(start[n]));
  std::vector<int64_t> free(start.begin(), start.end() - 1);
  // Two actions of a state share an entry; within one action, an outcome that is told twice adds up.
  std::vector<double> sum(n, 0);
  for (int64_t s = 0; s < m.num_states; ++s) {
    if (is_terminal(m, s)) continue;
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) {
      const int64_t begin = edges.pair_begin(l), end = edges.pair_begin(l + 1);
      for (int64_t k = begin; k < end; ++k) sum[static_cast<size_t>(edges.next(k))] += edges.weight(k);
      for (int64_t k = begin; k < end; ++k) {
        const auto next = static_cast<size_t>(edges.next(k));
        const double weight = std::exchange(sum[next], 0);
        if (weight == 0) continue;
        auto at = static_cast<size_t>(free[next]);
        if (at > static_cast<size_t>(start[next]) && found.state[at - 1] == s)
          --at;
        else
          ++free[next];
        found.state[at] = static_cast<int32_t>(s);
        const auto factor = static_cast<float>(gamma * weight * (1 + 1e-6));
        found.factor[at] = std::max(found.factor[at], factor);
      }
    }
  }
  return found;
}

// States by priority, the greatest on top.
class Heap {
 public:
  explicit Heap(std::vector<double> priority)
      : priority_(std::move(priority)), states_(priority_.size()), place_(priority_.size()) {
    std::iota(states_.begin(), states_.end(), 0);
    std::iota(place_.begin(), place_.end(), 0);
    for (size_t i = states_.size() / 2; i-- > 0;) down(i);
  }

  int32_t top() const { return states_[0]; }
  double greatest() const { return priority_[static_cast<size_t>(states_[0])]; }

  void settle_top() {
    priority_[static_cast<size_t>(states_[0])] = 0;
    down(0);
  }

  void raise(int32_t state, double by) {
    priority_[static_cast<size_t>(state)] += by;
    size_t i = place_[static_cast<size_t>(state)];
    for (; i > 0 && priority(i) > priority((i - 1) / 2); i = (i - 1) / 2) exchange(i, (i - 1) / 2);
  }

 private:
  double priority(size_t i) const { return priority_[static_cast<size_t>(states_[i])]; }

  void exchange(size_t i, size_t j) {
    std::swap(states_[i], states_[j]);
    place_[static_cast<size_t>(states_[i])] = i;
    place_[static_cast<size_t>(states_[j])] = j;
  }

  void down(size_t i) {
    for (size_t child; (child = 2 * i + 1) < states_.size(); i = child) {
      if (child + 1 < states_.size() && priority(child + 1) > priority(child)) ++child;
      if (!(priority(child) > priority(i))) return;
      exchange(i, child);
    }
  }

  std::vector<double> priority_;
  std::vector<int32_t> states_;
  std::vector<size_t> place_;
};

template <class Edges>
Solved sweep(const Checked& of, const Effort& effort, double* value, const Edges& edges,
             const Interrupted& interrupted) {
  using Clock = std::chrono::steady_clock;
  const Model& m = of.model;
  const auto layout = static_cast<int>(m.layout);
  const auto n = static_cast<size_t>(m.num_states);
  const Predecessors before = predecessors(m, edges, effort.gamma);
  std::vector<int32_t> all(n);
  std::iota(all.begin(), all.end(), 0);
  std::vector<double> error(n);
  Change unused{0, 0, 0};
  tabular().residual[layout]({&m, effort.gamma, value, all.data(), error.data()}, 0, m.num_states, unused);
  double size = 0;
  for (size_t s = 0; s < n; ++s) {
    error[s] = std::abs(error[s]);
    size = std::max(size, std::abs(value[s]));
  }
  Heap heap(std::move(error));
  const double most = static_cast<double>(effort.max_sweeps) * static_cast<double>(m.num_states);
  double backups = static_cast<double>(m.num_states);
  auto checked = Clock::now();
  // Below a few units in the last place backups change nothing for the better.
  while (heap.greatest() > std::max(effort.tolerance, 4e-16 * size)) {
    if (backups >= most) return {1, backups / static_cast<double>(m.num_states), false};
    const int32_t s = heap.top();
    heap.settle_top();
    const double change = tabular().gauss_seidel[layout]({&m, effort.gamma, value, &s, nullptr}, 0, 1);
    backups += 1;
    const double now = std::abs(value[s]);
    if (!std::isfinite(now))  // a total reward that is not finite
      return {1, backups / static_cast<double>(m.num_states), false};
    size = std::max(size, now);
    if (change > 0)
      for (int64_t k = before.start[static_cast<size_t>(s)]; k < before.start[static_cast<size_t>(s) + 1];
           ++k) {
        const int32_t from = before.state[static_cast<size_t>(k)];
        // Solved for its own value, the state has no error left.
        if (from != s) heap.raise(from, static_cast<double>(before.factor[static_cast<size_t>(k)]) * change);
      }
    if (static_cast<int64_t>(backups) % 4096 == 0 && Clock::now() - checked > std::chrono::milliseconds(50)) {
      interrupted();
      checked = Clock::now();
    }
  }
  return {1, backups / static_cast<double>(m.num_states), true};
}

}  // namespace

Solved prioritized_sweeping(const Checked& of, const Effort& effort, double* value,
                            const Interrupted& interrupted) {
  return with_edges(of.model,
                    [&](const auto& edges) { return sweep(of, effort, value, edges, interrupted); });
}

}  // namespace fastrl
