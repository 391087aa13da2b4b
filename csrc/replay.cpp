#include "replay.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "copy_rows.h"
#include "scratch.h"
#include "uniform_rows.h"

namespace fastrl {
namespace {

constexpr int64_t kInRecord = 256;  // bytes: fields up to these lie in the record
constexpr int64_t kLine = 64;
constexpr int64_t kLinesAhead = 4;  // of a column; what follows them the processor fetches by itself
constexpr int64_t kBlock = 64;      // rows gathered together, their records in the first-level cache
constexpr int64_t kHugePage = 1 << 21;

int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

}  // namespace

void Replay::Release::operator()(char* memory) const { std::free(memory); }

// Zeros that cost no memory before they are written.
Replay::Memory Replay::allocate(int64_t bytes) {
  if (bytes > std::numeric_limits<int64_t>::max() / 2) throw std::bad_alloc();
  Memory memory(static_cast<char*>(std::calloc(static_cast<size_t>(std::max<int64_t>(bytes, 1)), 1)));
  if (memory == nullptr) throw std::bad_alloc();
  bytes_ += bytes;
#ifdef MADV_HUGEPAGE
  // random rows of small pages would miss the page table's cache as well
  const int64_t address = reinterpret_cast<int64_t>(memory.get());
  const int64_t begin = rounded_up(address, kHugePage), end = (address + bytes) / kHugePage * kHugePage;
  if (begin < end) madvise(memory.get() + (begin - address), static_cast<size_t>(end - begin), MADV_HUGEPAGE);
#endif
  return memory;
}

Replay::Replay(const ReplayOptions& options, std::vector<ReplayField> fields,
               std::vector<std::unique_ptr<FieldStore>> stores, const ReplayPriorities* priorities)
    : options_(options),
      fields_(std::move(fields)),
      stores_(std::move(stores)),
      capacity_(options.steps * options.streams),
      flags_(static_cast<size_t>(capacity_)) {
  std::vector<ReplayField*> packed;
  pairs_.resize(stores_.size());
  for (ReplayField& field : fields_) {
    if (field.store >= 0) {
      Pair& pair = pairs_[static_cast<size_t>(field.store)];
      (field.is_following ? pair.following : pair.current) = static_cast<int>(&field - fields_.data());
      continue;
    }
    if (field.bytes <= kInRecord) {
      packed.push_back(&field);
      continue;
    }
    if (field.bytes > std::numeric_limits<int64_t>::max() / capacity_) throw std::bad_alloc();
    memory_.push_back(allocate(capacity_ * field.bytes));
    field.base = memory_.back().get();
    field.stride = field.bytes;
    regions_.push_back({field.base, field.stride, kLinesAhead});
  }
  if (!packed.empty()) {
    std::stable_sort(packed.begin(), packed.end(),
                     [](const ReplayField* a, const ReplayField* b) { return a->bytes > b->bytes; });
    int64_t record = 0;
    for (const ReplayField* field : packed) record += field->bytes;
    const int64_t stride = record < 8 ? record : rounded_up(record, 8);
    memory_.push_back(allocate(capacity_ * stride));
    char* base = memory_.back().get();
    regions_.push_back({base, stride, (stride + kLine - 1) / kLine});
    for (ReplayField* field : packed) {
      field->base = base;
      field->stride = stride;
      base += field->bytes;
    }
  }
  power_.resize(static_cast<size_t>(std::min(options_.window, options_.steps) + 1));  // no window is longer
  for (size_t k = 0; k < power_.size(); ++k) power_[k] = std::pow(options_.gamma, static_cast<double>(k));
  if (priorities == nullptr) return;
  priorities_ = *priorities;
  tree_ = std::make_unique<SumTree>(capacity_);
  if (priorities_.of_stored) largest_ = std::make_unique<LargestLeaf>(capacity_);
}

int64_t Replay::bytes() const {
  int64_t bytes = bytes_;
  for (const auto& store : stores_) bytes += store->nbytes();
  return bytes;
}

int64_t Replay::add(int64_t n, const char* const* field, const uint8_t* flags, const double* leaf,
                    double largest) {
  const int64_t first = next_;
  const double common = tree_ != nullptr && leaf == nullptr ? new_leaf() : 0;
  if (field != nullptr) prepare_stores(n, field);  // the only ones that may find no memory
  for (int64_t done = 0; done < n;) {
    int64_t rows = std::min(n - done, capacity_ - next_);
    const bool marks = starts_ != nullptr && leaf == nullptr;
    if (marks) rows = options_.streams;  // sequences that a step completes begin before the next is written
    write(next_, rows, field, done, flags + done);
    if (marks)
      mark_starts(common);
    else if (tree_ != nullptr)
      write_leaves(rows, leaf == nullptr ? nullptr : leaf + done, common);
    next_ = next_ + rows == capacity_ ? 0 : next_ + rows;
    added_ += rows;
    stored_ = std::min(capacity_, added_);
    done += rows;
  }
  if (leaf != nullptr) max_priority_ = std::max(max_priority_, largest);
  return first;
}

void Replay::keep_sequences(const SequenceStarts::Options& options) {
  starts_ = std::make_unique<SequenceStarts>(options);
}

void Replay::prepare_stores(int64_t n, const char* const* field) {
  const auto from = [&](int f) { return f < 0 ? nullptr : field[f]; };
  for (size_t s = 0; s < stores_.size(); ++s) {
    try {
      stores_[s]->prepare(n, from(pairs_[s].current), from(pairs_[s].following));
    } catch (...) {
      for (size_t prepared = 0; prepared < s; ++prepared) stores_[prepared]->drop();
      throw;
    }
  }
}

void Replay::write(int64_t first, int64_t n, const char* const* field, int64_t source, const uint8_t* flags) {
  if (field != nullptr) {
    for (const auto& store : stores_) store->commit(first, n, source);
    write_columns(first, n, field, source);
  }
  std::memcpy(flags_.data() + first, flags, static_cast<size_t>(n));
}

void Replay::write_columns(int64_t first, int64_t n, const char* const* field, int64_t source) {
  for (size_t f = 0; f < fields_.size(); ++f) {
    const ReplayField& to = fields_[f];
    if (to.store >= 0) continue;
    scatter_rows(field[f] + source * to.bytes, to.bytes, n, to.base + first * to.stride, to.stride);
  }
}

void Replay::put_rows(int64_t first, int64_t n, const char* const* field) {
  for (int64_t done = 0; done < n;) {
    const int64_t row = (first + done) % capacity_, rows = std::min(n - done, capacity_ - row);
    write_columns(row, rows, field, done);
    done += rows;
  }
}

void Replay::end_episode(int64_t stream) {
  if (stored_ == 0) return;
  const int64_t row = (next_ == 0 ? capacity_ : next_) - options_.streams + stream;
  uint8_t& flag = flags_[static_cast<size_t>(row)];
  if ((flag & kEnds) != 0) return;
  flag |= kTruncated;
  if (starts_ != nullptr) starts_->end_episode(stream);
}

void Replay::clear() {
  clear_rows();
  for (const auto& store : stores_) store->clear();
}

void Replay::clear_rows() {
  if (tree_ != nullptr) clear_leaves();
  stored_ = next_ = added_ = 0;
  if (starts_ != nullptr) starts_->clear();
  max_priority_ = 1;
}

void Replay::draw(int64_t n, bool replacement, int64_t* row) const {
  if (n == 0) return;
  const UniformDraws draws{options_.seed, counter_.fetch_add(1, std::memory_order_relaxed)};
  if (replacement)
    draws.with_replacement(n, static_cast<uint32_t>(stored_), row);
  else
    draws.without_replacement(n, static_cast<uint32_t>(stored_), row);
}

bool Replay::draw(int64_t n, const PriorityDraw& how, int64_t* row, float* weight) const {
  if (!(tree_->total() > 0)) return false;
  const uint64_t counter = counter_.fetch_add(1, std::memory_order_relaxed);
  Scratch<double> values(n);
  double* const value = values.data();
  tree_->sample(options_.seed, counter, n, how.stratified, row, value);
  if (weight == nullptr || n == 0) return true;
  double reference = 0;  // the leaf whose weight is 1
  switch (how.scale) {
    case WeightScale::batch:
      reference = *std::min_element(value, value + n);
      break;
    case WeightScale::buffer:
      reference = tree_->min();
      break;
    case WeightScale::uniform:
      reference = tree_->total() / static_cast<double>(tree_->count());
      break;
  }
  importance_weights(value, n, how.beta, reference, weight);
  return true;
}

void Replay::prefetch(const int64_t* row, int64_t n) const {
  for (const Region& region : regions_) {
    for (int64_t i = 0; i < n; ++i) {
      const char* at = region.base + row[i] * region.stride;
      for (int64_t line = 0; line < region.lines; ++line) __builtin_prefetch(at + line * kLine);
      __builtin_prefetch(at + region.stride - 1);
    }
  }
}

// The window of a row ends with its episode, with the newest row of its stream, or after n rows.
void Replay::windows(const int64_t* row, int64_t n, int64_t* last, int64_t* length) const {
  const int64_t streams = options_.streams;
  const int64_t newest = (next_ == 0 ? capacity_ : next_) - streams;  // of stream 0
  for (int64_t i = 0; i < n; ++i) {
    int64_t at = row[i], k = 1;
    while (k < options_.window && (flags_[static_cast<size_t>(at)] & kEnds) == 0 &&
           static_cast<uint64_t>(at - newest) >= static_cast<uint64_t>(streams)) {
      at += streams;
      if (at >= capacity_) at -= capacity_;
      ++k;
    }
    last[i] = at;
    length[i] = k;
  }
}

namespace {

template <class Element>
void sum_windows(const ReplayField& field, const int64_t* row, const int64_t* length, int64_t n,
                 int64_t streams, int64_t capacity, const double* power, char* out) {
  const int64_t columns = field.bytes / static_cast<int64_t>(sizeof(Element));
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < columns; ++c) {
      double total = 0;
      int64_t at = row[i];
      for (int64_t k = 0; k < length[i]; ++k) {
        Element x;
        std::memcpy(&x, field.base + at * field.stride + c * static_cast<int64_t>(sizeof x), sizeof x);
        total += power[k] * static_cast<double>(x);
        at += streams;
        if (at >= capacity) at -= capacity;
      }
      const auto result = static_cast<Element>(total);
      std::memcpy(out + (i * columns + c) * static_cast<int64_t>(sizeof result), &result, sizeof result);
    }
  }
}

}  // namespace

void Replay::sum(const ReplayField& field, const int64_t* row, const int64_t* length, int64_t n,
                 char* out) const {
  const auto sum = field.is_double ? sum_windows<double> : sum_windows<float>;
  sum(field, row, length, n, options_.streams, capacity_, power_.data(), out);
}

void Replay::gather(const int64_t* row, int64_t n, char* const* field, float* discount) const {
  copy(options_.window, row, n, field, discount);
}

void Replay::gather_steps(const int64_t* row, int64_t n, char* const* field) const {
  copy(1, row, n, field, nullptr);
}

void Replay::copy(int64_t window, const int64_t* row, int64_t n, char* const* field, float* discount) const {
  prefetch(row, std::min(n, kBlock));
  int64_t ends[kBlock], length[kBlock];
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t m = std::min(kBlock, n - begin), *from = row + begin, *last = from;
    if (begin + m < n) prefetch(from + m, std::min(kBlock, n - begin - m));
    if (window > 1) {
      windows(from, m, ends, length);
      prefetch(ends, m);
      last = ends;
    } else {
      std::fill_n(length, m, 1);
    }
    for (size_t f = 0; f < fields_.size(); ++f) {
      const ReplayField& source = fields_[f];
      if (field[f] == nullptr || source.store >= 0) continue;
      char* out = field[f] + begin * source.bytes;
      if (source.at == ReplayField::At::sum) {
        sum(source, from, length, m, out);
      } else {
        gather_rows(source.base, source.stride, source.bytes,
                    source.at == ReplayField::At::first ? from : last, m, out);
      }
    }
    for (size_t s = 0; s < stores_.size(); ++s) {
      const auto out = [&](int f) {
        return f < 0 || field[f] == nullptr ? nullptr
                                            : field[f] + begin * fields_[static_cast<size_t>(f)].bytes;
      };
      const auto rows = [&](int f) {
        return f >= 0 && fields_[static_cast<size_t>(f)].at == ReplayField::At::last ? last : from;
      };
      const auto [current, following] = pairs_[s];
      stores_[s]->gather(rows(current), rows(following), m, out(current), out(following));
    }
    if (discount == nullptr) continue;
    for (int64_t i = 0; i < m; ++i) {
      const bool terminated = (flags_[static_cast<size_t>(last[i])] & kTerminated) != 0;
      discount[begin + i] = terminated ? 0.0f : static_cast<float>(power_[static_cast<size_t>(length[i])]);
    }
  }
}

Replay::Position Replay::position() const { return {added_, options_.seed, counter(), max_priority_}; }

void Replay::restore(const Position& position, const uint8_t* flags, const double* leaf,
                     const char* const* field) {
  if (field == nullptr)
    clear_rows();
  else
    clear();
  const int64_t stored = std::min(capacity_, position.added);
  // written as they were added, oldest first: the ring's seam lies where it did
  next_ = (position.added - stored) % capacity_;
  added_ = position.added - stored;
  try {
    add(stored, field, flags, leaf, 0);
  } catch (...) {
    clear();
    throw;
  }
  max_priority_ = position.max_priority;
  options_.seed = position.seed;
  counter_.store(position.counter, std::memory_order_relaxed);
  if (starts_ != nullptr) starts_->resume(added_ / options_.streams, flags_.data());
}

}  // namespace fastrl
