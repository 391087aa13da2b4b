// The table of compiled environments; adding one is its header and its row.
#include "envs.h"

#include "envs/autoreset.h"
#include "envs/cartpole.h"

namespace fastrl::FASTRL_ISA {
namespace {

static_assert(kBlock <= kSincosMax, "a block's angles go through one call of sincos");

constexpr EnvKernel kKernels[] = {
    env_row<CartPole>("CartPole"),
};

}  // namespace

extern const EnvsTable envs_table;
const EnvsTable envs_table = {kKernels, sizeof kKernels / sizeof kKernels[0]};

}  // namespace fastrl::FASTRL_ISA
