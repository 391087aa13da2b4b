// Taxi of Dietterich (2000) as Gymnasium's TaxiEnv computes it: a transition table and, if option 2 is set, a
// passenger who in some episodes (their probability is option 3) changes the destination at the first move
// with them aboard.
#pragma once

#include <cstdint>

#include "tabular.h"

namespace fastrl::FASTRL_ISA {
namespace {

struct Taxi {
  using Real = int64_t;
  static constexpr int64_t kStateSize = 2;  // ((y * 5 + x) * 5 + passenger) * 4 + destination; to be fickle
  static constexpr int64_t kCacheSize = 0, kObsSize = 0, kDiscreteSize = 1;
  static constexpr int64_t kNumActions = 6, kActionSize = 0;
  static constexpr bool kHasProb = true, kNeedsTable = true;
  static constexpr bool kWholeResetProb = false;
  static constexpr double kBounds[kEnvBounds] = {0, 0};

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    constexpr int64_t kDestinations = 4, kPlaces = 5, kAboard = 4;
    if (batch.option[2] == 0) return Tabular::step(batch, action, begin, end);
    int64_t before[kBlock];
    int64_t* state = row<int64_t>(batch, 0) + begin;
    int64_t* fickle = row<int64_t>(batch, 1) + begin;
    for (int64_t i = 0; i < end - begin; ++i) before[i] = state[i];
    Tabular::step(batch, action, begin, end);
    for (int64_t i = 0; i < end - begin; ++i) {
      const bool aboard = before[i] / kDestinations % kPlaces == kAboard;
      const bool moved = before[i] / (kDestinations * kPlaces) != state[i] / (kDestinations * kPlaces);
      if (!fickle[i] || !aboard || !moved || batch.needs_reset[begin + i]) continue;
      fickle[i] = 0;
      const int64_t old = before[i] % kDestinations;
      const int64_t other = pcg64_below(batch.rng[begin + i], kDestinations - 1);
      state[i] += other + (other >= old) - state[i] % kDestinations;
    }
  }

  static void reset(const EnvBatch& batch, int64_t i, const double* bounds) {
    Tabular::reset(batch, i, bounds);
    row<int64_t>(batch, 1)[i] = batch.option[2] != 0 && pcg64_double(batch.rng[i]) < batch.option[3];
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    Tabular::observe(batch, begin, end);
  }

  static bool valid(const EnvBatch& batch, int64_t i) { return Tabular::valid(batch, i); }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
