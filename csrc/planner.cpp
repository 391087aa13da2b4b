#include "planner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "pool.h"

namespace fastrl {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Change kNone = {kInfinity, -kInfinity, 0};

constexpr int64_t kBlock = 16384;  // states of a loop that does little for each

constexpr int64_t kSettleShare = 16;  // at most this part of the states is settled alone
constexpr int64_t kSettleSweeps = 4;  // and no more work done on it than that of so many sweeps

// States of a chunk: some tens of microseconds.
int64_t chunk_of(int64_t states, int64_t entries) {
  const int64_t worth = 16384 * std::max<int64_t>(states, 1) / std::max<int64_t>(entries, 1);
  return std::clamp<int64_t>(worth, 1, std::max<int64_t>(states, 1));
}

int64_t entries_of(const Model& m) {
  if (m.layout == Layout::dense) return m.num_pairs * m.num_states;
  return m.layout == Layout::int32 ? static_cast<const int32_t*>(m.offset)[m.num_pairs]
                                   : static_cast<const int64_t*>(m.offset)[m.num_pairs];
}

template <class Index>
int64_t length_in(const Model& m, int64_t pair) {
  const auto* offset = static_cast<const Index*>(m.offset);
  return static_cast<int64_t>(offset[pair + 1]) - offset[pair];
}

int64_t row_length(const Model& m, int64_t pair) {
  return m.layout == Layout::int32 ? length_in<int32_t>(m, pair) : length_in<int64_t>(m, pair);
}

struct Moved {
  double low, high, size;  // least and greatest change, greatest |value|
};

void add(Change& all, const Change& own) {
  all = {std::min(all.low, own.low), std::max(all.high, own.high), all.switched + own.switched};
}

void add(Moved& all, const Moved& own) {
  all = {std::min(all.low, own.low), std::max(all.high, own.high), std::max(all.size, own.size)};
}

// What `part` notes of all parts of [0, n).
template <class Facts, class Part>
Facts over(const Facts& none, int64_t n, int64_t chunk, int64_t threads, const Part& part) {
  Facts all = none;
  std::mutex mutex;
  parallel_for(n, chunk, threads, [&](int64_t begin, int64_t end) {
    Facts own = none;
    part(begin, end, own);
    const std::lock_guard<std::mutex> lock(mutex);
    add(all, own);
  });
  return all;
}

void require(bool holds, const char* rule) {
  if (!holds) throw std::invalid_argument(std::string("Bellman: ") + rule);
}

template <class Index>
void require_rows(const Model& m) {
  const auto* offset = static_cast<const Index*>(m.offset);
  const auto* next = static_cast<const Index*>(m.next_state);
  require(offset[0] == 0, "offset must begin with 0");
  bool good = true;
  for (int64_t l = 0; l < m.num_pairs; ++l) good &= offset[l] <= offset[l + 1];
  require(good, "offset must not descend");
  for (int64_t k = 0; k < offset[m.num_pairs]; ++k) good &= next[k] >= 0 && next[k] < m.num_states;
  require(good, "next_state must be in [0, S)");
}

bool ends(const Model& m, int64_t s) { return m.terminal != nullptr && m.terminal[s]; }

// What pairs give to states that are not terminal.
template <class Index>
void add_up(const Model& m, double* sums) {
  const auto* offset = static_cast<const Index*>(m.offset);
  const auto* next = static_cast<const Index*>(m.next_state);
  for (int64_t l = 0; l < m.num_pairs; ++l) {
    double sum = 0;
    for (int64_t k = offset[l], end = offset[l + 1]; k < end; ++k)
      if (!ends(m, next[k])) sum += m.weight[k];
    sums[l] = sum;
  }
}

void add_up_dense(const Model& m, double* sums) {
  std::vector<double> open(static_cast<size_t>(m.num_states), 1.0);
  for (int64_t s = 0; s < m.num_states; ++s)
    if (ends(m, s)) open[static_cast<size_t>(s)] = 0;
  tabular().expect[static_cast<int>(m.layout)](m, open.data(), 0, m.num_pairs, sums);
}

}  // namespace

int64_t longest_row(const Model& m, int64_t s) {
  if (m.terminal != nullptr && m.terminal[s]) return 0;
  if (m.layout == Layout::dense) return m.num_states;
  int64_t most = 0;
  for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) most = std::max(most, row_length(m, l));
  return most;
}

Mass inspect(const Model& m) {
  require(m.num_states < std::numeric_limits<int32_t>::max(), "there must be fewer than 2^31 states");
  require(m.pair_offset[0] == 0 && m.pair_offset[m.num_states] == m.num_pairs,
          "pair_offset must go from 0 to L");
  for (int64_t s = 0; s < m.num_states; ++s) {
    const bool idle = m.terminal != nullptr && m.terminal[s];
    require(m.pair_offset[s] + (idle ? 0 : 1) <= m.pair_offset[s + 1],
            "pair_offset must ascend but at terminal states");
    require(m.pair_offset[s + 1] - m.pair_offset[s] < std::numeric_limits<int32_t>::max(),
            "a state must have fewer than 2^31 actions");
  }
  if (m.layout == Layout::int32) require_rows<int32_t>(m);
  if (m.layout == Layout::int64) require_rows<int64_t>(m);

  std::vector<double> sums(static_cast<size_t>(m.num_pairs));
  if (m.layout == Layout::int32)
    add_up<int32_t>(m, sums.data());
  else if (m.layout == Layout::int64)
    add_up<int64_t>(m, sums.data());
  else
    add_up_dense(m, sums.data());
  // Of dense rows as tabular.cpp adds them: 32 sums side by side, and the rest.
  const int64_t dense = std::max(m.num_states / 32 + 6, m.num_states % 32) + 1;
  Mass mass{kInfinity, 0, kInfinity, -kInfinity, dense};
  if (m.layout != Layout::dense) {
    mass.longest = 0;
    for (int64_t l = 0; l < m.num_pairs; ++l) mass.longest = std::max(mass.longest, row_length(m, l));
  }
  for (int64_t s = 0; s < m.num_states; ++s) {
    if (m.terminal != nullptr && m.terminal[s]) continue;
    for (int64_t l = m.pair_offset[s]; l < m.pair_offset[s + 1]; ++l) {
      mass.low = std::min(mass.low, sums[static_cast<size_t>(l)]);
      mass.high = std::max(mass.high, sums[static_cast<size_t>(l)]);
      mass.reward_low = std::min(mass.reward_low, m.reward[l]);
      mass.reward_high = std::max(mass.reward_high, m.reward[l]);
    }
  }
  if (mass.low > mass.high) mass = {0, 0, 0, 0, mass.longest};  // all states are terminal
  return mass;
}

Change backup(const Checked& of, const Backup& what, int64_t threads) {
  const Model& m = of.model;
  const auto sweep = tabular().backup[static_cast<int>(m.layout)];
  return over(kNone, m.num_states, chunk_of(m.num_states, entries_of(m)), threads,
              [&](int64_t begin, int64_t end, Change& change) { sweep(what, begin, end, change); });
}

PolicyIterator::PolicyIterator(const Checked& of, double gamma, const double* value, const int32_t* choice,
                               int64_t threads)
    : of_(of), gamma_(gamma), threads_(threads), zero_(value == nullptr) {
  const auto n = static_cast<size_t>(of.model.num_states);
  value_.reset(new double[n]);
  next_.reset(new double[n]);
  choice_.reset(new int32_t[n]);
  gap_.reset(new float[static_cast<size_t>(of.model.num_pairs)]);
  delta_.reset(new float[n]);
  sum_.reset(new float[n]);
  sum_next_.reset(new float[n]);
  const Moved none{0, 0, 0};
  const auto fill = [&](int64_t begin, int64_t end, Moved& all) {
    for (int64_t s = begin; s < end; ++s) {
      const bool ends = of.model.terminal != nullptr && of.model.terminal[s];
      value_[s] = value == nullptr || ends ? 0.0 : value[s];
      choice_[s] = choice == nullptr ? -1 : choice[s];
      all.size = std::max(all.size, std::abs(value_[s]));
    }
    const int64_t* pair = of.model.pair_offset;
    std::fill(gap_.get() + pair[begin], gap_.get() + pair[end], -1.0f);
  };
  size_ = over(none, of.model.num_states, kBlock, threads, fill).size;
  make_rows();
}

// As many slots for a state as its longest row needs.
void PolicyIterator::make_rows() {
  const Model& m = of_.model;
  slot_.reset(new int64_t[static_cast<size_t>(m.num_states) + 1]);
  slot_[0] = 0;
  parallel_for(m.num_states, kBlock, threads_, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) slot_[s + 1] = longest_row(m, s);
  });
  for (int64_t s = 0; s < m.num_states; ++s) slot_[s + 1] += slot_[s];
  const auto slots = static_cast<size_t>(slot_[m.num_states]);
  weight_.reset(new float[slots]);
  if (m.layout != Layout::dense) {
    to_.reset(new int32_t[slots + kSlotsAhead]);
    std::fill_n(to_.get() + slots, kSlotsAhead, 0);
  }
  rows_ = {m.num_states, slot_.get(), to_.get(), weight_.get()};
}

Change PolicyIterator::improve() {
  const Backup what{&of_.model,    zero_ ? nullptr : value_.get(),
                    gamma_,        next_.get(),
                    choice_.get(), nullptr,
                    gap_.get(),    moved_,
                    &rows_};
  change_ = backup(of_, what, threads_);
  return change_;
}

PolicyIterator::Evaluated PolicyIterator::evaluate(double reduction, int64_t most,
                                                   const Interrupted& interrupted) {
  using Clock = std::chrono::steady_clock;
  const int64_t n = of_.model.num_states;
  const double middle = stochastic() ? (change_.low + change_.high) / 2 : 0.0;
  const double spread = change_.high - change_.low;
  const double greatest = std::max(std::abs(change_.low - middle), std::abs(change_.high - middle));
  if (!(greatest > 0) || !std::isfinite(greatest)) {
    accept();
    return {0, 0};
  }
  const double scale = greatest;
  const uint8_t* terminal = of_.model.terminal;
  parallel_for(n, kBlock, threads_, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const bool ends = terminal != nullptr && terminal[s];
      delta_[s] = ends ? 0.0f : static_cast<float>((next_[s] - value_[s] - middle) / scale);
      sum_[s] = delta_[s];
    }
  });
  const int64_t chunk = chunk_of(n, slot_[n]);
  Evaluated done{0, 1};
  Change last = kNone;
  double before_last = 0;  // what the changes of the sweep before had in common
  auto checked = Clock::now();
  int64_t steady = 0;  // sweeps since some states were settled
  while (done.sweeps < most && done.reduced > reduction) {
    const Relax relax{&rows_,       terminal,   static_cast<float>(gamma_),
                      delta_.get(), sum_.get(), sum_next_.get()};
    before_last = (last.low + last.high) / 2;
    last = over(kNone, n, chunk, threads_, [&](int64_t begin, int64_t end, Change& change) {
      tabular().relax(relax, begin, end, change);
    });
    sum_.swap(sum_next_);
    ++done.sweeps;
    const double before = done.reduced;
    done.reduced = (last.high - last.low) * scale / spread;
    if (done.reduced < 1e-5 || (done.reduced < 1e-3 && done.reduced > 0.98 * before)) break;  // float32
    if (++steady >= 3 && done.reduced > 0.65 * before && done.reduced > reduction &&
        settle(0.05 * reduction * spread / scale))
      steady = 0;
    if (Clock::now() - checked > std::chrono::milliseconds(50)) {
      interrupted();
      checked = Clock::now();
    }
  }
  // What the last changes have in common goes on: by gamma a sweep if nothing ends, else as it did last.
  double shift = stochastic() ? middle / (1 - gamma_) : 0.0;
  if (done.sweeps > 0) {
    const double common = (last.low + last.high) / 2;
    double rate = gamma_;
    if (!stochastic())
      rate = done.reduced * spread < 0.4 * std::abs(common) * scale ? common / before_last : 0;
    if (rate > 0 && rate < 1) shift += rate / (1 - rate) * common * scale;
  }
  move([&](int64_t s) { return value_[s] + (sum_[s] * scale + shift); });
  return done;
}

// The median of the last changes of some states all over.
float PolicyIterator::usual_change() const {
  const int64_t step = of_.model.num_states / 1024 + 1;
  std::vector<float> changes;
  for (int64_t s = 0; s < of_.model.num_states; s += step) changes.push_back(sum_[s] - sum_next_[s]);
  const auto middle = changes.begin() + static_cast<std::ptrdiff_t>(changes.size() / 2);
  std::nth_element(changes.begin(), middle, changes.end());
  return *middle;
}

// Where few states still change much, as those do that mostly lead back to themselves: sweeps over these
// alone, in place. False if there are many.
bool PolicyIterator::settle(double threshold) {
  if (of_.model.layout == Layout::dense) return false;
  const int64_t n = of_.model.num_states, most = n / kSettleShare;
  const float middle = stochastic() ? usual_change() : 0.0f;
  const auto limit = static_cast<float>(threshold);
  std::vector<std::vector<int32_t>> found(static_cast<size_t>((n + kBlock - 1) / kBlock));
  parallel_for(n, kBlock, threads_, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      const float change = sum_[s] - sum_next_[s] - middle;
      if (change > limit || change < -limit)
        found[static_cast<size_t>(s / kBlock)].push_back(static_cast<int32_t>(s));
    }
  });
  unsettled_.clear();
  for (const auto& block : found) unsettled_.insert(unsettled_.end(), block.begin(), block.end());
  const auto size = static_cast<int64_t>(unsettled_.size());
  if (size == 0 || size > most) return false;
  // What all changes share goes on for ever: with it added, the others stand still.
  const auto shift = static_cast<float>(middle * gamma_ / (1 - gamma_));
  if (shift != 0)
    parallel_for(n, kBlock, threads_, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) sum_[s] += shift;
    });
  const Relax relax{&rows_, nullptr, static_cast<float>(gamma_), delta_.get(), nullptr, nullptr};
  const int64_t rounds = std::min<int64_t>(kSettleSweeps * n / size, 256);
  for (int64_t i = 0; i < rounds; ++i)
    if (tabular().settle(relax, unsettled_.data(), size, sum_.get()) <= limit) break;
  return true;
}

// value = next of each state that is not terminal.
template <class Next>
void PolicyIterator::move(const Next& next) {
  const uint8_t* terminal = of_.model.terminal;
  const Moved none{kInfinity, -kInfinity, 0};
  const Moved moved =
      over(none, of_.model.num_states, kBlock, threads_, [&](int64_t begin, int64_t end, Moved& all) {
        for (int64_t s = begin; s < end; ++s) {
          if (terminal != nullptr && terminal[s]) continue;
          const double x = next(s), change = x - value_[s];
          all.low = std::min(all.low, change);
          all.high = std::max(all.high, change);
          all.size = std::max(all.size, std::abs(x));
          value_[s] = x;
        }
      });
  size_ = moved.size;
  drift(moved.low, moved.high);
}

void PolicyIterator::accept() {
  const double shift = stochastic() ? gamma_ / (1 - gamma_) * (change_.low + change_.high) / 2 : 0.0;
  move([&](int64_t s) { return next_[s] + shift; });
}

// After values have changed by low to high, two of one state's actions cannot have drifted further apart.
void PolicyIterator::drift(double low, double high) {
  if (!stochastic()) {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
  }
  const double unit = 1.2e-16 * static_cast<double>(of_.mass.longest + 3);  // of a q's or a sum's rounding
  const double change = std::max(std::abs(low), std::abs(high));
  const double reward = std::max(std::abs(of_.mass.reward_low), std::abs(of_.mass.reward_high));
  const double sums_differ = (of_.mass.high - of_.mass.low + 2 * unit) * change;
  // Two q are rounded when a gap is measured, and two when it is used.
  moved_ += gamma_ * (of_.mass.high * (high - low) + sums_differ) + 4 * unit * (reward + size_ + change);
  zero_ = false;
}

}  // namespace fastrl
