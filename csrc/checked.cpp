#include "checked.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "over.h"

namespace fastrl {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

bool ends(const Model& m, int64_t s) { return m.terminal != nullptr && m.terminal[s]; }

template <class Index>
int64_t length_in(const Model& m, int64_t pair) {
  const auto* offset = static_cast<const Index*>(m.offset);
  return static_cast<int64_t>(offset[pair + 1]) - offset[pair];
}

int64_t row_length(const Model& m, int64_t pair) {
  return m.layout == Layout::int32 ? length_in<int32_t>(m, pair) : length_in<int64_t>(m, pair);
}

void require(bool holds, const char* rule) {
  if (!holds) throw std::invalid_argument(std::string("Bellman: ") + rule);
}

struct Facts {
  Mass mass;
  bool in_range;
};

void add(Facts& all, const Facts& own) {
  all.mass.low = std::min(all.mass.low, own.mass.low);
  all.mass.high = std::max(all.mass.high, own.mass.high);
  all.mass.reward_low = std::min(all.mass.reward_low, own.mass.reward_low);
  all.mass.reward_high = std::max(all.mass.reward_high, own.mass.reward_high);
  all.mass.longest = std::max(all.mass.longest, own.mass.longest);
  all.in_range = all.in_range && own.in_range;
}

void note_pair(const Model& m, int64_t pair, double sum, Mass& mass) {
  mass.low = std::min(mass.low, sum);
  mass.high = std::max(mass.high, sum);
  mass.reward_low = std::min(mass.reward_low, m.reward[pair]);
  mass.reward_high = std::max(mass.reward_high, m.reward[pair]);
}

template <class Index>
void require_offsets(const Model& m) {
  const auto* offset = static_cast<const Index*>(m.offset);
  require(offset[0] == 0, "offset must begin with 0");
  bool ascends = true;
  for (int64_t l = 0; l < m.num_pairs; ++l) ascends &= offset[l] <= offset[l + 1];
  require(ascends, "offset must not descend");
}

template <class Index>
void inspect_rows(const Model& m, int64_t begin, int64_t end, Facts& facts) {
  const auto* offset = static_cast<const Index*>(m.offset);
  const auto* next = static_cast<const Index*>(m.next_state);
  for (int64_t s = begin; s < end; ++s) {
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) {
      bool good = true;
      double sum = 0;
      for (int64_t k = offset[l], to = offset[l + 1]; k < to; ++k) {
        good &= next[k] >= 0 && next[k] < m.num_states;
        sum += m.weight[k];
      }
      facts.in_range &= good;
      if (m.terminal != nullptr && good) {
        sum = 0;
        for (int64_t k = offset[l], to = offset[l + 1]; k < to; ++k)
          if (!m.terminal[next[k]]) sum += m.weight[k];
      }
      facts.mass.longest = std::max<int64_t>(facts.mass.longest, offset[l + 1] - offset[l]);
      if (!ends(m, s)) note_pair(m, l, sum, facts.mass);
    }
  }
}

// `open` [S]: 0 of terminal states, else 1.
void inspect_dense(const Model& m, const double* open, double* sums, int64_t begin, int64_t end,
                   Facts& facts) {
  const auto expect = tabular().expect[static_cast<int>(Layout::dense)];
  expect(m, open, m.pair_offset[begin], m.pair_offset[end], sums);
  for (int64_t s = begin; s < end; ++s)
    for (int64_t l = m.pair_offset[s]; !ends(m, s) && l < m.pair_offset[s + 1]; ++l)
      note_pair(m, l, sums[l], facts.mass);
}

}  // namespace

int64_t entries_of(const Model& m) {
  if (m.layout == Layout::dense) return m.num_pairs * m.num_states;
  return m.layout == Layout::int32 ? static_cast<const int32_t*>(m.offset)[m.num_pairs]
                                   : static_cast<const int64_t*>(m.offset)[m.num_pairs];
}

int64_t longest_row(const Model& m, int64_t s) {
  if (ends(m, s)) return 0;
  if (m.layout == Layout::dense) return m.num_states;
  int64_t most = 0;
  for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) most = std::max(most, row_length(m, l));
  return most;
}

Mass inspect(const Model& m, int64_t threads) {
  require(m.num_states < std::numeric_limits<int32_t>::max(), "there must be fewer than 2^31 states");
  require(m.pair_offset[0] == 0 && m.pair_offset[m.num_states] == m.num_pairs,
          "pair_offset must go from 0 to L");
  for (int64_t s = 0; s < m.num_states; ++s) {
    require(m.pair_offset[s] + (ends(m, s) ? 0 : 1) <= m.pair_offset[s + 1],
            "pair_offset must ascend but at terminal states");
    require(m.pair_offset[s + 1] - m.pair_offset[s] < std::numeric_limits<int32_t>::max(),
            "a state must have fewer than 2^31 actions");
  }
  std::vector<double> open, sums;
  // Of dense rows as model_rows.h adds them: 32 sums side by side, and the rest.
  const int64_t longest =
      m.layout == Layout::dense ? std::max(m.num_states / 32 + 6, m.num_states % 32) + 1 : 0;
  if (m.layout == Layout::int32) require_offsets<int32_t>(m);
  if (m.layout == Layout::int64) require_offsets<int64_t>(m);
  if (m.layout == Layout::dense) {
    open.assign(static_cast<size_t>(m.num_states), 1.0);
    sums.resize(static_cast<size_t>(m.num_pairs));
    for (int64_t s = 0; s < m.num_states; ++s)
      if (ends(m, s)) open[static_cast<size_t>(s)] = 0;
  }
  const Facts none{{kInfinity, 0, kInfinity, -kInfinity, longest}, true};
  const auto part = [&](int64_t begin, int64_t end, Facts& facts) {
    if (m.layout == Layout::int32) inspect_rows<int32_t>(m, begin, end, facts);
    if (m.layout == Layout::int64) inspect_rows<int64_t>(m, begin, end, facts);
    if (m.layout == Layout::dense) inspect_dense(m, open.data(), sums.data(), begin, end, facts);
  };
  const Facts all = over(none, m.num_states, chunk_of(m.num_states, entries_of(m)), threads, part);
  require(all.in_range, "next_state must be in [0, S)");
  if (all.mass.low > all.mass.high) return {0, 0, 0, 0, all.mass.longest};  // all states are terminal
  return all.mass;
}

Change backup(const Checked& of, const Backup& what, int64_t threads) {
  const Model& m = of.model;
  const auto sweep = tabular().backup[static_cast<int>(m.layout)];
  return over(Change{kInfinity, -kInfinity, 0}, m.num_states, chunk_of(m.num_states, entries_of(m)), threads,
              [&](int64_t begin, int64_t end, Change& change) { sweep(what, begin, end, change); });
}

}  // namespace fastrl
