// The priorities of a replay buffer: leaves of its tree.
#include <algorithm>

#include "replay.h"

namespace fastrl {

namespace {

constexpr int64_t kBlock = 64;  // leaves set together

}  // namespace

double Replay::max_priority() const { return max_priority_; }

double Replay::new_leaf() {
  double leaf = largest_ == nullptr ? 0 : largest_->get(tree_->leaves()), unused = 0;
  if (leaf > 0) return leaf;
  const double priority = largest_ == nullptr ? max_priority_ : 1;
  fastrl::to_leaves(&priority, 1, priorities_.eps, priorities_.alpha, &leaf, &unused);
  return leaf;
}

template <class Row, class Change>
void Replay::change_leaves(int64_t n, Row row, Change change) {
  if (largest_ != nullptr)
    for (int64_t i = 0; i < n; ++i) largest_->before(row(i), tree_->get(row(i)));
  change();
  if (largest_ != nullptr)
    for (int64_t i = 0; i < n; ++i) largest_->after(row(i), tree_->get(row(i)));
}

void Replay::write_leaves(int64_t n, const double* leaf, double common) {
  const auto place = [&](int64_t i) { return next_ + i; };
  change_leaves(n, place, [&] {
    if (leaf == nullptr) return tree_->fill(next_, n, common);
    int64_t row[kBlock];
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t m = std::min(kBlock, n - begin);
      for (int64_t i = 0; i < m; ++i) row[i] = place(begin + i);
      tree_->set(row, leaf + begin, m);
    }
  });
}

void Replay::mark_starts(double leaf) {
  change_leaves(
      options_.streams, [&](int64_t i) { return next_ + i; },
      [&] { tree_->fill(next_, options_.streams, 0); });
  begun_.clear();
  starts_->add_step(next_ / options_.streams, flags_.data(), begun_);
  const std::vector<double> leaves(begun_.size(), leaf);
  const auto count = static_cast<int64_t>(begun_.size());
  change_leaves(
      count, [&](int64_t i) { return begun_[static_cast<size_t>(i)]; },
      [&] { tree_->set(begun_.data(), leaves.data(), count); });
}

void Replay::set_leaves(const int64_t* row, const double* leaf, int64_t n, double largest,
                        const double* priority, int64_t since) {
  std::vector<int64_t> kept;
  std::vector<double> values;
  if (starts_ != nullptr || since != kAnyTime) {
    // rows that were overwritten since they were drawn may begin nothing now
    const auto begins = [&](int64_t r) {
      return starts_ == nullptr || (flags_[static_cast<size_t>(r)] & kStart) != 0;
    };
    const auto written = [&](int64_t r) { return added_ - (next_ - r + (r < next_ ? 0 : capacity_)); };
    largest = 0;
    for (int64_t i = 0; i < n; ++i) {
      if (!begins(row[i]) || written(row[i]) >= since) continue;
      kept.push_back(row[i]);
      values.push_back(leaf[i]);
      largest = std::max(largest, priority[i]);
    }
    n = static_cast<int64_t>(kept.size());
    row = kept.data();
    leaf = values.data();
  }
  change_leaves(n, [&](int64_t i) { return row[i]; }, [&] { tree_->set(row, leaf, n); });
  max_priority_ = std::max(max_priority_, largest);
}

bool Replay::valid_priority(double priority) const {
  double leaf = 0, largest = 0;
  return tree_ == nullptr || to_leaves(&priority, 1, &leaf, &largest);
}

bool Replay::to_leaves(const float* priority, int64_t n, double* leaf, double* largest) const {
  return fastrl::to_leaves(priority, n, priorities_.eps, priorities_.alpha, leaf, largest);
}

bool Replay::to_leaves(const double* priority, int64_t n, double* leaf, double* largest) const {
  return fastrl::to_leaves(priority, n, priorities_.eps, priorities_.alpha, leaf, largest);
}

void Replay::clear_leaves() {
  change_leaves(stored_, [](int64_t i) { return i; }, [&] { tree_->fill(0, stored_, 0); });
}

}  // namespace fastrl
