// Blackjack of Sutton and Barto (2018, example 5.1) as Gymnasium's BlackjackEnv computes it, cards drawn from
// an infinite deck. Option 0: natural, option 1: sab.
#pragma once

#include <cstdint>

#include "autoreset.h"

namespace fastrl::FASTRL_ISA {
namespace {

struct Blackjack {
  using Real = int64_t;
  enum { kSum, kAce, kNatural, kShown, kHidden, kSuit, kFace };  // rows; the last two are only drawn
  static constexpr int64_t kStateSize = 7, kCacheSize = 0, kObsSize = 0;
  static constexpr int64_t kDiscreteSize = 3;  // the player's sum, the dealer's shown card, a usable ace
  static constexpr int64_t kNumActions = 2, kActionSize = 0;
  static constexpr bool kHasProb = false, kNeedsTable = false;
  static constexpr bool kWholeResetProb = false;
  static constexpr double kBounds[kEnvBounds] = {0, 0};

  static void step(const EnvBatch& batch, const void* action, int64_t begin, int64_t end) {
    const int64_t* chosen = static_cast<const int64_t*>(action);
    for (int64_t i = begin; i < end; ++i) {
      if (batch.needs_reset[i]) continue;
      if (chosen[i] != 0) {
        hit(batch, i);
      } else {
        batch.reward[i] = stick(batch, i);
        batch.terminated[i] = 1;
      }
    }
  }

  static void reset(const EnvBatch& batch, int64_t i, const double*) {
    Pcg64& rng = batch.rng[i];
    const int64_t shown = draw(rng), hidden = draw(rng);
    const int64_t first = draw(rng), second = draw(rng);
    at(batch, kShown, i) = shown;
    at(batch, kHidden, i) = hidden;
    at(batch, kSum, i) = first + second;
    at(batch, kAce, i) = first == 1 || second == 1;
    at(batch, kNatural, i) = natural(first, second);
    at(batch, kSuit, i) = pcg64_below(rng, 4);
    at(batch, kFace, i) = shown == 10 ? pcg64_below(rng, 3) : 0;
  }

  static void observe(const EnvBatch& batch, int64_t begin, int64_t end) {
    const int64_t stride = batch.stride;
    const int64_t* __restrict sum = row<int64_t>(batch, kSum);
    const int64_t* __restrict ace = row<int64_t>(batch, kAce);
    const int64_t* __restrict shown = row<int64_t>(batch, kShown);
    int64_t* __restrict discrete = batch.discrete;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t usable = ace[i] & (sum[i] <= 11);
      discrete[i] = sum[i] + 10 * usable;
      discrete[stride + i] = shown[i];
      discrete[2 * stride + i] = usable;
    }
  }

  static bool valid(const EnvBatch& batch, int64_t i) {
    const auto within = [&](int64_t k, int64_t low, int64_t high) {
      return at(batch, k, i) >= low && at(batch, k, i) <= high;
    };
    return within(kSum, 0, 31) && within(kAce, 0, 1) && within(kNatural, 0, 1) && within(kShown, 0, 10) &&
           within(kHidden, 0, 10) && within(kSuit, 0, 3) && within(kFace, 0, 2);
  }

 private:
  static int64_t& at(const EnvBatch& batch, int64_t k, int64_t i) { return row<int64_t>(batch, k)[i]; }

  static int64_t draw(Pcg64& rng) {
    const int64_t card = pcg64_below(rng, 13) + 1;
    return card < 10 ? card : 10;
  }

  static bool natural(int64_t a, int64_t b) { return a * b == 10 && a + b == 11; }

  static int64_t best_sum(int64_t sum, bool ace) { return ace && sum <= 11 ? sum + 10 : sum; }

  static void hit(const EnvBatch& batch, int64_t i) {
    const int64_t card = draw(batch.rng[i]);
    const int64_t sum = at(batch, kSum, i) += card;
    at(batch, kAce, i) |= card == 1;
    at(batch, kNatural, i) = 0;
    batch.terminated[i] = sum > 21;
    batch.reward[i] = sum > 21 ? -1 : 0;
  }

  static double stick(const EnvBatch& batch, int64_t i) {
    const int64_t shown = at(batch, kShown, i), hidden = at(batch, kHidden, i);
    const int64_t player = best_sum(at(batch, kSum, i), at(batch, kAce, i) != 0);
    int64_t sum = shown + hidden;
    bool ace = shown == 1 || hidden == 1;
    while (best_sum(sum, ace) < 17) {
      const int64_t card = draw(batch.rng[i]);
      sum += card;
      ace |= card == 1;
    }
    const int64_t dealer = sum > 21 ? 0 : best_sum(sum, ace);
    const double reward = static_cast<double>(player > dealer) - static_cast<double>(player < dealer);
    const bool player_natural = at(batch, kNatural, i) != 0;
    if (batch.option[1] != 0) return player_natural && !natural(shown, hidden) ? 1.0 : reward;
    return batch.option[0] != 0 && player_natural && reward == 1.0 ? 1.5 : reward;
  }
};

}  // namespace
}  // namespace fastrl::FASTRL_ISA
