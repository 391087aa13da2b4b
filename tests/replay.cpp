// A replay buffer between threads, without Python: `.ci/threads` compiles this with sanitizers and runs it
// for so many seconds as it is told. One thread writes, three draw, two change priorities; no transition may
// be torn.
#include "replay.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

namespace {

using namespace fastrl;

constexpr int64_t kSteps = 1021, kStreams = 3, kMost = 48, kBatch = 64, kColumns = 100;
#ifdef FASTRL_PLANT_RACE
constexpr bool kPlanted = true;  // who draws is outside the lock
#else
constexpr bool kPlanted = false;
#endif

void require(bool ok, const char* what) {
  if (ok) return;
  std::fprintf(stderr, "replay: %s\n", what);
  std::_Exit(1);
}

// Rows of a number in three ways: in the record, in a column of its own, and its successor.
struct Rows {
  explicit Rows(int64_t n) : small(n), wide(n * kColumns), next(n) {}
  void write(int64_t first) {
    for (size_t i = 0; i < small.size(); ++i) {
      small[i] = static_cast<double>(first) + static_cast<double>(i);
      next[i] = small[i] + 1;
      for (int64_t c = 0; c < kColumns; ++c) wide[i * kColumns + static_cast<size_t>(c)] = small[i];
    }
  }
  void check() const {
    for (size_t i = 0; i < small.size(); ++i) {
      require(next[i] == small[i] + 1, "a row is of one piece");
      for (int64_t c = 0; c < kColumns; ++c)
        require(wide[i * kColumns + static_cast<size_t>(c)] == small[i], "a column is of its row");
    }
  }
  std::vector<char*> fields() {
    return {reinterpret_cast<char*>(small.data()), reinterpret_cast<char*>(wide.data()),
            reinterpret_cast<char*>(next.data())};
  }
  std::vector<double> small, wide, next;
};

class Shared {
 public:
  explicit Shared(bool prioritized) {
    std::vector<ReplayField> fields(3);
    fields[0].bytes = fields[2].bytes = sizeof(double);
    fields[1].bytes = kColumns * static_cast<int64_t>(sizeof(double));
    const ReplayPriorities priorities{0.6, 1e-4, true};
    replay_ = std::make_unique<Replay>(ReplayOptions{kSteps, kStreams, 1, 1, 7}, fields,
                                       std::vector<std::unique_ptr<FieldStore>>{},
                                       prioritized ? &priorities : nullptr);
  }

  void add(int64_t step) {
    const int64_t n = kStreams * (1 + step % (kMost / kStreams));
    Rows rows(n);
    rows.write(added_);
    const std::vector<char*> fields = rows.fields();
    const std::vector<const char*> from(fields.begin(), fields.end());
    const std::vector<uint8_t> flags(static_cast<size_t>(n), step % 5 == 0 ? kTerminated : 0);
    const Writing lock(lock_);
    replay_->add(n, from.data(), flags.data(), nullptr, 0);
    if (step % 7 == 0) replay_->end_episode(step % kStreams);
    added_ += n;
  }

  void sample() {
    Rows rows(kBatch);
    const std::vector<char*> fields = rows.fields();
    std::vector<int64_t> row(kBatch);
    std::vector<float> weight(kBatch);
    {
      std::optional<Drawing> inside;
      if (!kPlanted) inside.emplace(lock_);
      if (replay_->stored() == 0) return;
      if (replay_->prioritized())
        require(replay_->draw(kBatch, {true, WeightScale::buffer, 0.4}, row.data(), weight.data()), "a draw");
      else
        replay_->draw(kBatch, true, row.data());
      if (inside) inside->finish_drawing();
      replay_->gather(row.data(), kBatch, fields.data(), nullptr);
    }
    if (!kPlanted) rows.check();
  }

  void update(int64_t step) {
    int64_t row[2];
    const double priority[2] = {static_cast<double>(step % 11), 0.5};
    double leaf[2], largest = 0;
    require(replay_->to_leaves(priority, 2, leaf, &largest), "valid priorities");
    const Updating lock(lock_);
    if (replay_->stored() == 0) return;
    row[0] = step % replay_->stored();
    row[1] = step * 7 % replay_->stored();
    replay_->set_leaves(row, leaf, 2, largest, nullptr);
  }

 private:
  ReplayLock lock_;
  std::unique_ptr<Replay> replay_;
  int64_t added_ = 0;  // the writer's
};

void run(bool prioritized, double seconds) {
  Shared shared(prioritized);
  std::atomic<bool> stop{false};
  std::atomic<int64_t> batches{0}, updates{0};
  int64_t steps = 0;
  std::vector<std::thread> threads;
  threads.emplace_back([&] {
    while (!stop.load()) shared.add(steps++);
  });
  for (int i = 0; i < (prioritized ? 2 : 0); ++i)
    threads.emplace_back([&] {
      while (!stop.load()) shared.update(updates++);
    });
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      while (!stop.load()) {
        shared.sample();
        ++batches;
      }
    });
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  stop = true;
  for (std::thread& thread : threads) thread.join();
  require(steps > 10 && (updates > 10 || !prioritized) && batches > 10, "nobody starves");
  std::printf("replay: %lld steps, %lld batches, %lld updates\n", static_cast<long long>(steps),
              static_cast<long long>(batches.load()), static_cast<long long>(updates.load()));
}

}  // namespace

int main(int count, char** arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 60;
  run(false, seconds / 2);
  run(true, seconds / 2);
  std::puts("replay: all well");
}
