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

// The changes of all parts of [0, n), which `part` notes.
template <class Part>
Change over(int64_t n, int64_t chunk, int64_t threads, const Part& part) {
  Change all = kNone;
  std::mutex mutex;
  parallel_for(n, chunk, threads, [&](int64_t begin, int64_t end) {
    Change own = kNone;
    part(begin, end, own);
    const std::lock_guard<std::mutex> lock(mutex);
    all = {std::min(all.low, own.low), std::max(all.high, own.high), all.switched + own.switched};
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

  std::vector<double> open(static_cast<size_t>(m.num_states), 1.0);
  for (int64_t s = 0; s < m.num_states; ++s)
    if (m.terminal != nullptr && m.terminal[s]) open[static_cast<size_t>(s)] = 0;
  std::vector<double> sums(static_cast<size_t>(m.num_pairs));
  tabular().expect[static_cast<int>(m.layout)](m, open.data(), 0, m.num_pairs, sums.data());
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
  return over(m.num_states, chunk_of(m.num_states, entries_of(m)), threads,
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
  for (size_t s = 0; s < n; ++s) {
    const bool ends = of.model.terminal != nullptr && of.model.terminal[s];
    value_[s] = value == nullptr || ends ? 0.0 : value[s];
    choice_[s] = choice == nullptr ? -1 : choice[s];
    size_ = std::max(size_, std::abs(value_[s]));
  }
  std::fill_n(gap_.get(), of.model.num_pairs, -1.0f);
  make_rows();
}

// As many slots for a state as its longest row needs.
void PolicyIterator::make_rows() {
  const Model& m = of_.model;
  slot_.reset(new int64_t[static_cast<size_t>(m.num_states) + 1]);
  slot_[0] = 0;
  for (int64_t s = 0; s < m.num_states; ++s) slot_[s + 1] = slot_[s] + longest_row(m, s);
  const auto slots = static_cast<size_t>(slot_[m.num_states]);
  weight_.reset(new float[slots]);
  if (m.layout != Layout::dense) to_.reset(new int32_t[slots]);
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
  for (int64_t s = 0; s < n; ++s) {
    const bool ends = terminal != nullptr && terminal[s];
    delta_[s] = ends ? 0.0f : static_cast<float>((next_[s] - value_[s] - middle) / scale);
    sum_[s] = delta_[s];
  }
  const int64_t chunk = chunk_of(n, slot_[n]);
  Evaluated done{0, 1};
  Change last = kNone;
  double before_last = 0;  // what the changes of the sweep before had in common
  auto checked = Clock::now();
  while (done.sweeps < most && done.reduced > reduction) {
    const Relax relax{&rows_,       terminal,   static_cast<float>(gamma_),
                      delta_.get(), sum_.get(), sum_next_.get()};
    before_last = (last.low + last.high) / 2;
    last = over(n, chunk, threads_, [&](int64_t begin, int64_t end, Change& change) {
      tabular().relax(relax, begin, end, change);
    });
    sum_.swap(sum_next_);
    ++done.sweeps;
    const double before = done.reduced;
    done.reduced = (last.high - last.low) * scale / spread;
    if (done.reduced < 1e-5 || (done.reduced < 1e-3 && done.reduced > 0.98 * before)) break;  // float32
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
  move(sum_.get(), scale, shift);
  return done;
}

void PolicyIterator::move(const float* by, double scale, double shift) {
  const uint8_t* terminal = of_.model.terminal;
  double low = kInfinity, high = -kInfinity;
  size_ = 0;
  for (int64_t s = 0; s < of_.model.num_states; ++s) {
    if (terminal != nullptr && terminal[s]) continue;
    const double change = by[s] * scale + shift;
    low = std::min(low, change);
    high = std::max(high, change);
    value_[s] += change;
    size_ = std::max(size_, std::abs(value_[s]));
  }
  drift(low, high);
}

void PolicyIterator::accept() {
  const uint8_t* terminal = of_.model.terminal;
  const double shift = stochastic() ? gamma_ / (1 - gamma_) * (change_.low + change_.high) / 2 : 0.0;
  double low = kInfinity, high = -kInfinity;
  size_ = 0;
  for (int64_t s = 0; s < of_.model.num_states; ++s) {
    if (terminal != nullptr && terminal[s]) continue;
    const double next = next_[s] + shift;
    low = std::min(low, next - value_[s]);
    high = std::max(high, next - value_[s]);
    value_[s] = next;
    size_ = std::max(size_, std::abs(next));
  }
  drift(low, high);
}

// After values have changed by low to high, two of one state's actions cannot have drifted further apart.
void PolicyIterator::drift(double low, double high) {
  if (!stochastic()) {
    low = std::min(low, 0.0);
    high = std::max(high, 0.0);
  }
  const double sums_differ = 1e-7 * std::max(std::abs(low), std::abs(high));
  moved_ += gamma_ * (of_.mass.high * (high - low) + sums_differ) + 1e-13 * size_;
  zero_ = false;
}

}  // namespace fastrl
