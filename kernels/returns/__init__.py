"""Returns and advantages over a rollout, y_t = a_t + b_t · y_{t+1}: time-major [T, B], after-step flags.

What the ops have in common: a flag selects, it does not multiply by 0, so what follows a finished episode
does not leak into it, not even NaN; elsewhere NaN and infinity propagate as the equation is written. The
arithmetic is in the first array's dtype. Any strides give the same numbers, contiguous rows are the fastest.
T = 0 or B = 0 gives an empty result.
"""

from fastrl.kernels.returns import layouts
from fastrl.kernels.returns.action_values import q_lambda, retrace
from fastrl.kernels.returns.advantages import gae, vtrace
from fastrl.kernels.returns.sums import discounted, n_step, td_lambda

__all__ = ["discounted", "gae", "layouts", "n_step", "q_lambda", "retrace", "td_lambda", "vtrace"]
