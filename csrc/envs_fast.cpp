// The table of fast environments: the exact ones in float32, and those without arithmetic as they are.
#include "envs.h"
#include "envs/acrobot.h"
#include "envs/blackjack.h"
#include "envs/cartpole.h"
#include "envs/fast.h"
#include "envs/mountain_car.h"
#include "envs/pendulum.h"
#include "envs/tabular.h"
#include "envs/taxi.h"

namespace fastrl::FASTRL_ISA {
namespace {

constexpr EnvKernel kKernels[] = {
    env_row<Acrobot<Fast>>("Acrobot"),
    env_row<CartPole<Fast>>("CartPole"),
    env_row<MountainCar<Fast>>("MountainCar"),
    env_row<MountainCarContinuous<Fast>>("MountainCarContinuous"),
    env_row<Pendulum<Fast>>("Pendulum"),
    discrete_env_row<Tabular>("Tabular"),
    discrete_env_row<Taxi>("Taxi"),
    discrete_env_row<Blackjack>("Blackjack"),
};

}  // namespace

extern const EnvsTable envs_fast_table;
const EnvsTable envs_fast_table = {kKernels, sizeof kKernels / sizeof kKernels[0]};

}  // namespace fastrl::FASTRL_ISA
