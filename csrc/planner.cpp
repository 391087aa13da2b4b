#include "planner.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <numeric>

#include "over.h"

namespace fastrl {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr Change kNone = {kInfinity, -kInfinity, 0};

constexpr int64_t kSettleShare = 16;  // at most this part of the states is settled alone
constexpr int64_t kSettleSweeps = 4;  // and no more work done on it than that of so many sweeps

constexpr int64_t kMostPadding = 3;  // slots of rows side by side may be so many times those they need

}  // namespace

struct Needed {
  int64_t slots;
};

static void add(Needed& all, const Needed& own) { all.slots += own.slots; }

static void add(Moved& all, const Moved& own) {
  all = {std::min(all.low, own.low), std::max(all.high, own.high), std::max(all.size, own.size)};
}

PolicyIterator::PolicyIterator(const Checked& of, double gamma, const double* value, int64_t threads)
    : of_(of),
      gamma_(gamma),
      threads_(threads),
      padded_((of.model.num_states + kRowLanes - 1) / kRowLanes * kRowLanes),
      value_(padded_),
      next_(padded_),
      choice_(padded_),
      nearest_(padded_),
      delta_(padded_),
      sum_(padded_),
      sum_next_(padded_),
      zero_(value == nullptr) {
  const Model& m = of.model;
  if (m.terminal != nullptr || padded_ != m.num_states) idle_ = Pages<uint8_t>(padded_);
  const auto fill = [&](int64_t begin, int64_t end, Moved& all) {
    for (int64_t s = begin; s < end; ++s) {
      const bool idle = s >= m.num_states || (m.terminal != nullptr && m.terminal[s]);
      if (idle_.get() != nullptr) idle_[s] = idle;
      value_[s] = value == nullptr || idle ? 0.0 : value[s];
      next_[s] = 0;
      choice_[s] = -1;
      nearest_[s] = -1;
      all.size = std::max(all.size, std::abs(value_[s]));
    }
  };
  size_ = over(Moved{0, 0, 0}, padded_, kBlock, threads, fill).size;
  make_rows();
}

// As many slots for a state as its longest row needs; side by side, as many as its longest neighbour's.
void PolicyIterator::make_rows() {
  const Model& m = of_.model;
  if (m.layout == Layout::dense) {
    slots_ = m.num_states * m.num_states;
    weight_ = Pages<float>(slots_);
    reward_ = Pages<double>(padded_);
    rows_ = {m.num_states, 0, nullptr, nullptr, weight_.get(), nullptr, reward_.get()};
    return;
  }
  const int64_t n = m.num_states, blocks = padded_ / kRowLanes;
  Pages<int64_t> own(n);
  slot_ = Pages<int64_t>(blocks + 1);
  slot_[0] = 0;
  const auto measure = [&](int64_t begin, int64_t end, Needed& needed) {
    for (int64_t s = begin; s < end; ++s) needed.slots += own[s] = longest_row(m, s);
    for (int64_t s = begin; s < end; s += kRowLanes)
      slot_[s / kRowLanes + 1] = kRowLanes * *std::max_element(&own[s], &own[std::min(s + kRowLanes, end)]);
  };
  const int64_t needed = over(Needed{0}, n, kBlock, threads_, measure).slots;
  std::partial_sum(&slot_[0], &slot_[blocks + 1], &slot_[0]);
  int shift = kRowShift;
  if (slot_[blocks] > kMostPadding * (needed + n)) {
    shift = 0;
    slot_ = Pages<int64_t>(n + 1);
    slot_[0] = 0;
    std::partial_sum(&own[0], &own[n], &slot_[1]);
  }
  slots_ = slot_[shift == 0 ? n : blocks];
  to_ = Pages<int32_t>(slots_ + kSlotsAhead);
  weight_ = Pages<float>(slots_);
  exact_ = Pages<double>(slots_);
  reward_ = Pages<double>(padded_);
  std::fill_n(&to_[slots_], kSlotsAhead, 0);
  rows_ = {n, shift, slot_.get(), to_.get(), weight_.get(), exact_.get(), reward_.get()};
  if (idle_.get() == nullptr || shift == 0) return;
  for (int64_t s = 0; s < padded_; ++s) {
    if (!idle_[s]) continue;
    reward_[s] = 0;
    for (int64_t k = slot_[s >> shift] + s % kRowLanes; k < slot_[(s >> shift) + 1]; k += kRowLanes) {
      to_[k] = 0;
      weight_[k] = 0;
      exact_[k] = 0;
    }
  }
}

Change PolicyIterator::improve() {
  const Improve what{&of_.model,     idle_.get(), zero_ ? nullptr : value_.get(),
                     gamma_,         next_.get(), choice_.get(),
                     nearest_.get(), moved_,      &rows_};
  const auto sweep = policy_sweeps().improve[static_cast<int>(of_.model.layout)];
  const int64_t n = of_.model.num_states;
  change_ = over(kNone, n, chunk_of(n, entries_of(of_.model)), threads_,
                 [&](int64_t begin, int64_t end, Change& change) { sweep(what, begin, end, change); });
  return change_;
}

PolicyIterator::Evaluated PolicyIterator::evaluate(double reduction, int64_t most,
                                                   const Interrupted& interrupted) {
  using Clock = std::chrono::steady_clock;
  const int64_t n = of_.model.num_states;
  const double middle = stochastic() ? (change_.low + change_.high) / 2 : 0.0;
  const double spread = change_.high - change_.low;
  const double greatest = std::max(std::abs(change_.low - middle), std::abs(change_.high - middle));
  if (!std::isfinite(greatest) || !std::isfinite(1 / greatest)) {
    accept();
    return {0, 0};
  }
  const double scale = greatest;
  const Begin from{idle_.get(), next_.get(), value_.get(), middle, 1 / scale, delta_.get(), sum_.get()};
  parallel_for(padded_, kBlock, threads_,
               [&](int64_t begin, int64_t end) { policy_sweeps().begin(from, begin, end); });
  const int64_t chunk = chunk_of(n, slots_);
  Evaluated done{0, 1};
  Change last = kNone;
  double before_last = 0;  // what the changes of the sweep before had in common
  auto checked = Clock::now();
  int64_t steady = 0;  // sweeps since some states were settled
  while (done.sweeps < most && done.reduced > reduction) {
    const Relax relax{&rows_,       idle_.get(), static_cast<float>(gamma_),
                      delta_.get(), sum_.get(),  sum_next_.get()};
    before_last = (last.low + last.high) / 2;
    last = over(kNone, n, chunk, threads_, [&](int64_t begin, int64_t end, Change& change) {
      policy_sweeps().relax(relax, begin, end, change);
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
  // What the last changes have in common goes on: by kept() a sweep if nothing ends, else as it did last.
  double shift = stochastic() ? middle / (1 - kept()) : 0.0;
  if (done.sweeps > 0) {
    const double common = (last.low + last.high) / 2;
    double rate = kept();
    if (!stochastic())
      rate = done.reduced * spread < 0.4 * std::abs(common) * scale ? common / before_last : 0;
    if (rate > 0 && rate < 1) shift += rate / (1 - rate) * common * scale;
  }
  advance(sum_.get(), scale, shift);
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
  const auto shift = static_cast<float>(middle * kept() / (1 - kept()));
  if (shift != 0)
    parallel_for(n, kBlock, threads_, [&](int64_t begin, int64_t end) {
      for (int64_t s = begin; s < end; ++s) sum_[s] += shift;
    });
  const Relax relax{&rows_, nullptr, static_cast<float>(gamma_), delta_.get(), nullptr, nullptr};
  const int64_t rounds = std::min<int64_t>(kSettleSweeps * n / size, 256);
  for (int64_t i = 0; i < rounds; ++i)
    if (policy_sweeps().settle(relax, unsettled_.data(), size, sum_.get()) <= limit) break;
  return true;
}

void PolicyIterator::accept() {
  advance(nullptr, 1, stochastic() ? kept() / (1 - kept()) * (change_.low + change_.high) / 2 : 0.0);
}

void PolicyIterator::advance(const float* sum, double scale, double shift) {
  const Advance how{idle_.get(), sum, next_.get(), scale, shift, value_.get()};
  const Moved moved =
      over(Moved{kInfinity, -kInfinity, 0}, padded_, kBlock, threads_,
           [&](int64_t begin, int64_t end, Moved& all) { policy_sweeps().advance(how, begin, end, all); });
  size_ = moved.size;
  drift(moved.low, moved.high);
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
