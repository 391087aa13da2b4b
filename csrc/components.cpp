#include "components.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "edges.h"
#include "tarjan.h"

namespace fastrl {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

constexpr int kPolicySweeps = 20;  // of the greedy policy, after one over all actions

constexpr int kClosedSweeps = 200;  // before a closed component is treated as an open one

// One component at a time, by Gauss-Seidel sweeps that begin where it is left; one that is never left by
// sweeps over all its states at once, after which they share what their changes have in common.
template <class Edges>
class Solver {
 public:
  Solver(const Checked& of, const Effort& effort, double* value, const Edges& edges, Components parts,
         const Interrupted& interrupted)
      : of_(of),
        m_(of.model),
        effort_(effort),
        value_(value),
        edges_(edges),
        parts_(std::move(parts)),
        interrupted_(interrupted),
        backups_left_(static_cast<double>(effort.max_sweeps) * static_cast<double>(of.model.num_states)),
        mean_actions_(static_cast<double>(of.model.num_pairs) / static_cast<double>(of.model.num_states)) {}

  Solved run() {
    const double all = backups_left_;
    const auto count = static_cast<int64_t>(parts_.start.size()) - 1;
    bool converged = true;
    for (int64_t c = 0; c < count; ++c) {
      const int64_t begin = parts_.start[static_cast<size_t>(c)],
                    end = parts_.start[static_cast<size_t>(c) + 1];
      if (end - begin == 1)
        sweep(begin, end);
      else
        converged &= solve(begin, end);
      if (backups_left_ <= 0 && c + 1 < count) return {count, sweeps(all), false};
      if (c % 1024 == 0) pause();
    }
    return {count, sweeps(all), converged};
  }

 private:
  using Clock = std::chrono::steady_clock;

  double sweeps(double all) const { return (all - backups_left_) / static_cast<double>(m_.num_states); }

  double sweep(int64_t begin, int64_t end, const SolvedRows* rows = nullptr) {
    backups_left_ -= static_cast<double>(end - begin);
    const GaussSeidel what{&m_, effort_.gamma, value_, parts_.order.data() + begin, rows};
    return tabular().gauss_seidel[static_cast<int>(m_.layout)](what, 0, end - begin);
  }

  void pause() {
    if (Clock::now() - checked_ < std::chrono::milliseconds(50)) return;
    interrupted_();
    checked_ = Clock::now();
  }

  bool solve(int64_t begin, int64_t end) {
    const bool left = order_from_exits(begin, end);
    if (!left && effort_.gamma < 1) return solve_closed(begin, end);
    if (effort_.pessimistic) begin_low(begin, end);
    return solve_open(begin, end);
  }

  bool solve_open(int64_t begin, int64_t end) {
    const int64_t size = end - begin;
    if (size < 32) {
      for (int done = 1; backups_left_ > 0; ++done) {
        if (sweep(begin, end) <= tolerance(begin, end)) return true;
        if (done % 64 == 0) pause();
      }
      return false;
    }
    const OwnedRows rows = make_rows(begin, end);
    const SolvedRows view{rows.slot.get(), rows.to.get(), rows.weight.get(), rows.reward.get()};
    const int32_t* order = parts_.order.data() + begin;
    while (backups_left_ > 0) {
      const double change = sweep(begin, end, &view);
      if (change <= tolerance(begin, end)) return true;
      for (int i = 0; i < kPolicySweeps; ++i) {
        const double then = tabular().relax_in_place(view, order, size, value_);
        backups_left_ -= static_cast<double>(size) / mean_actions_;
        pause();
        if (then <= effort_.tolerance / 2 || then < 0.1 * change) break;
      }
    }
    return false;
  }

  // Below a few units in the last place sweeps change nothing for the better.
  double tolerance(int64_t begin, int64_t end) const {
    double size = 0;
    for (int64_t i = begin; i < end; ++i)
      size = std::max(size, std::abs(value_[parts_.order[static_cast<size_t>(i)]]));
    return std::max(effort_.tolerance, 4e-16 * size);
  }

  struct OwnedRows {
    std::unique_ptr<int64_t[]> slot;
    std::unique_ptr<int32_t[]> to;
    std::unique_ptr<double[]> weight, reward;
  };

  // As many slots for a state as its longest row needs.
  OwnedRows make_rows(int64_t begin, int64_t end) const {
    const auto size = static_cast<size_t>(end - begin);
    OwnedRows rows;
    rows.slot.reset(new int64_t[size + 1]);
    rows.slot[0] = 0;
    for (size_t i = 0; i < size; ++i)
      rows.slot[i + 1] = rows.slot[i] + longest_row(m_, parts_.order[static_cast<size_t>(begin) + i]);
    const auto slots = static_cast<size_t>(rows.slot[size]);
    rows.to.reset(new int32_t[slots]);
    rows.weight.reset(new double[slots]);
    rows.reward.reset(new double[size]);
    return rows;
  }

  // The least that its values can be: what its worst reward for ever is worth, or where it leads to.
  void begin_low(int64_t begin, int64_t end) {
    double reward = kInfinity, after = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t s = parts_.order[static_cast<size_t>(i)];
      for (int64_t l = m_.pair_offset[s]; l < m_.pair_offset[s + 1]; ++l)
        reward = std::min(reward, m_.reward[l]);
      for (int64_t k = edges_.begin(s); k < edges_.end(s); ++k) {
        const int64_t next = edges_.next(k);
        if (edges_.weight(k) != 0 &&
            parts_.of[static_cast<size_t>(next)] != parts_.of[static_cast<size_t>(s)])
          after = std::min(after, value_[next]);
      }
    }
    const double horizon =
        effort_.gamma < 1 ? 1 / (1 - effort_.gamma) : 10.0 * static_cast<double>(end - begin);
    const double least = std::min(std::min(reward, 0.0) * horizon, after);
    for (int64_t i = begin; i < end; ++i) value_[parts_.order[static_cast<size_t>(i)]] = least;
  }

  // Sorts the component's states by how many steps they are from leaving it, at best. Returns whether one
  // can.
  bool order_from_exits(int64_t begin, int64_t end) {
    const auto size = static_cast<size_t>(end - begin);
    int32_t* order = parts_.order.data() + begin;
    if (place_.empty()) place_.resize(static_cast<size_t>(m_.num_states));
    for (size_t i = 0; i < size; ++i) place_[static_cast<size_t>(order[i])] = static_cast<int32_t>(i);
    const int32_t component = parts_.of[static_cast<size_t>(order[0])];
    const auto inside = [&](int64_t next) { return parts_.of[static_cast<size_t>(next)] == component; };
    std::vector<int64_t> start(size + 1, 0);
    std::vector<uint8_t> exits(size, 0);
    least_mass_ = of_.mass.high;
    for (size_t i = 0; i < size; ++i) {
      double weight = 0;
      for (int64_t k = edges_.begin(order[i]); k < edges_.end(order[i]); ++k) {
        if (edges_.weight(k) == 0) continue;
        weight += edges_.weight(k);
        if (inside(edges_.next(k)))
          ++start[static_cast<size_t>(place_[static_cast<size_t>(edges_.next(k))]) + 1];
        else
          exits[i] = 1;
      }
      const auto actions = static_cast<double>(m_.pair_offset[order[i] + 1] - m_.pair_offset[order[i]]);
      if (weight < actions * (1 - 1e-7)) exits[i] = 1;
      least_mass_ = std::min(least_mass_, weight - (actions - 1) * of_.mass.high);
    }
    if (std::find(exits.begin(), exits.end(), 1) == exits.end()) return false;
    for (size_t i = 0; i < size; ++i) start[i + 1] += start[i];
    std::vector<int32_t> from(static_cast<size_t>(start[size]));
    std::vector<int64_t> at(start.begin(), start.end() - 1);
    for (size_t i = 0; i < size; ++i)
      for (int64_t k = edges_.begin(order[i]); k < edges_.end(order[i]); ++k)
        if (edges_.weight(k) != 0 && inside(edges_.next(k))) {
          const auto to = static_cast<size_t>(place_[static_cast<size_t>(edges_.next(k))]);
          from[static_cast<size_t>(at[to]++)] = static_cast<int32_t>(i);
        }
    std::vector<int32_t> queue;
    queue.reserve(size);
    for (size_t i = 0; i < size; ++i)
      if (exits[i]) queue.push_back(static_cast<int32_t>(i));
    for (size_t head = 0; head < queue.size(); ++head) {
      const auto to = static_cast<size_t>(queue[head]);
      for (int64_t k = start[to]; k < start[to + 1]; ++k) {
        const int32_t i = from[static_cast<size_t>(k)];
        if (exits[static_cast<size_t>(i)]) continue;
        exits[static_cast<size_t>(i)] = 1;
        queue.push_back(i);
      }
    }
    const std::vector<int32_t> states(order, order + size);
    for (size_t i = 0; i < size; ++i) order[i] = states[static_cast<size_t>(queue[i])];
    return true;
  }

  bool solve_closed(int64_t begin, int64_t end) {
    const auto size = static_cast<size_t>(end - begin);
    const double gamma = effort_.gamma;
    const int32_t* order = parts_.order.data() + begin;
    const double kept = gamma * least_mass_;  // of a shift after a step, at least: never to shift too far
    std::vector<double> change(size);
    const Residual what{&m_, gamma, value_, order, change.data()};
    double before = kInfinity, step = 1;
    for (int tries = 0; tries < kClosedSweeps && backups_left_ > 0; ++tries) {
      Change c{kInfinity, -kInfinity, 0};
      tabular().residual[static_cast<int>(m_.layout)](what, 0, end - begin, c);
      backups_left_ -= static_cast<double>(size);
      const double spread = c.high - c.low, middle = (c.low + c.high) / 2;
      if (spread > 0.8 * before) step = 0.5;  // what goes round in circles must be damped
      const double shift = middle * (1 / (1 - kept) - step);
      for (size_t i = 0; i < size; ++i) value_[order[i]] += step * change[i] + shift;
      if (spread <= effort_.tolerance) return true;
      before = spread;
      pause();
    }
    return solve_open(begin, end);  // mixes too slowly: as it is without shifts
  }

  const Checked& of_;
  const Model& m_;
  const Effort effort_;
  double* value_;
  const Edges& edges_;
  Components parts_;
  const Interrupted& interrupted_;
  double backups_left_;
  double mean_actions_;
  double least_mass_ = 1;  // of the component in hand: a row's sum is at least this
  std::vector<int32_t> place_;
  Clock::time_point checked_ = Clock::now();
};

}  // namespace

Components components(const Model& m) {
  return with_edges(m, [&](const auto& edges) { return tarjan(m, edges); });
}

// NOLINTBEGIN(readability-non-const-parameter): written by what they are handed to
Solved solve_components(const Checked& of, const Effort& effort, double* value,
                        const Interrupted& interrupted) {
  return with_edges(of.model, [&](const auto& edges) {
    return Solver(of, effort, value, edges, tarjan(of.model, edges), interrupted).run();
  });
}

Solved gauss_seidel(const Checked& of, const Effort& effort, double* value, const Interrupted& interrupted) {
  // NOLINTEND(readability-non-const-parameter)
  using Clock = std::chrono::steady_clock;
  std::vector<int32_t> order(static_cast<size_t>(of.model.num_states));
  std::iota(order.begin(), order.end(), 0);
  const GaussSeidel what{&of.model, effort.gamma, value, order.data(), nullptr};
  Solved solved{1, 0, false};
  auto checked = Clock::now();
  while (!solved.converged && solved.sweeps < static_cast<double>(effort.max_sweeps)) {
    const double change =
        tabular().gauss_seidel[static_cast<int>(of.model.layout)](what, 0, of.model.num_states);
    solved.sweeps += 1;
    solved.converged = change <= effort.tolerance;
    if (Clock::now() - checked > std::chrono::milliseconds(50)) {
      interrupted();
      checked = Clock::now();
    }
  }
  return solved;
}

}  // namespace fastrl
