// The table of exact environments; adding one is its header and its row.
#include "envs.h"

#include "envs/acrobot.h"
#include "envs/blackjack.h"
#include "envs/cartpole.h"
#include "envs/exact.h"
#include "envs/mountain_car.h"
#include "envs/pendulum.h"
#include "envs/tabular.h"
#include "envs/taxi.h"

namespace fastrl::FASTRL_ISA {
namespace {

static_assert(kBlock <= kLibmMax, "a block goes through one call of each function");

constexpr EnvKernel kKernels[] = {
    env_row<Acrobot<Exact>>("Acrobot"),
    env_row<CartPole<Exact>>("CartPole"),
    env_row<MountainCar<Exact>>("MountainCar"),
    env_row<MountainCarContinuous<Exact>>("MountainCarContinuous"),
    env_row<Pendulum<Exact>>("Pendulum"),
    discrete_env_row<Tabular>("Tabular"),
    discrete_env_row<Taxi>("Taxi"),
    discrete_env_row<Blackjack>("Blackjack"),
};

}  // namespace

extern const EnvsTable envs_table;
const EnvsTable envs_table = {kKernels, sizeof kKernels / sizeof kKernels[0]};

}  // namespace fastrl::FASTRL_ISA
