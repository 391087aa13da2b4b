"""Planners: optimal values and policies of finite MDPs, with certified bounds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.kernels._check import require_choice
from fastrl.kernels.tabular import PolicyIterator
from fastrl.tabular._process import of_policy, probabilities
from fastrl.tabular._run import Callback, Run, Stopped, first_value
from fastrl.tabular.bounds import Bounds, certify, error_of, margins, middle
from fastrl.tabular.evaluation import evaluate_process
from fastrl.tabular.solution import Solution
from fastrl.tabular.total import Total

if TYPE_CHECKING:
    from fastrl.tabular.mdp import MDP

Floats = NDArray[np.float64]
MAX_ITER = 100_000
STALE = 10
"""Iterations without progress, where it is rounding that is left, until it is given up."""
PATIENCE = 30
"""Sweeps of a policy that should divide the spread of changes by ten, for states to be well mixed."""


def solve(
    mdp: "MDP",
    gamma: float,
    *,
    method: str = "auto",
    eps: float = 1e-6,
    max_iter: int = MAX_ITER,
    value: Any = None,
    policy: Any = None,
    num_threads: int = 1,
    callback: Callback | None = None,
) -> Solution:
    """Optimal values V* within ``eps``, with bounds that hold whatever happened, and a greedy policy.

    Methods:

    - ``"auto"``: modified policy iteration while it contracts quickly, as it does where states mix; else
      ``"topological"``. With γ = 1, ``"topological"`` for some sweeps, then ``"policy_iteration"``.
    - ``"value_iteration"``: sweeps over all actions; stops by the span of changes and moves all values by
      what these have in common.
    - ``"modified_policy_iteration"``: sweeps over all actions, and between them sweeps of the greedy policy
      until the span has fallen tenfold or more.
    - ``"policy_iteration"``: Howard's: the policy is evaluated exactly before it is improved.
    - ``"gauss_seidel"``: value iteration in place, states in their order, self-loops solved exactly.
    - ``"topological"``: strongly connected components, each after those it leads to, by Gauss-Seidel sweeps
      that begin at its exits, with sweeps of the greedy policy between.
    - ``"prioritized_sweeping"``: in place, and next is the state whose Bellman error may be the greatest; its
      predecessors' errors grow by what it changed. Pays where changes reach few states: with a ``value`` of
      almost the same process, or rewards in few places. Where states mix it loses to all of the above; lists
      of predecessors take 8 bytes for each pair of a state and one that may follow it.

    Args:
        mdp: the process.
        gamma: γ in [0, 1]. 1 is total reward, the supremum over all policies, whether they end or not. What
            can go on for ever decides: rewards of 0 are worth 0, so that a policy may stay for that; rewards
            that add up to -∞ are avoided, and if from some state they cannot be, that is an error; rewards
            that add up to +∞, or go up and down and settle nowhere, are an error.
        method: see above.
        eps: how far ``value`` may be from V*, in units of reward.
        max_iter: sweeps over all actions of all states, at most.
        value: float64 [S], to begin with.
        policy: to begin with its values: actions [S], or probabilities [L] or [S, A].
        num_threads: threads at most; sweeps in place use one.
        callback: called with an ``Iteration`` after each; planning stops early if it returns True.

    Returns:
        Values, bounds, policy, q, trace. If iterations ran out, what was proven until then, ``converged``
        False and a warning.

    Raises:
        TypeError, ValueError: arguments that are not such; γ = 1 though some state's best total is not a
            finite number.

    Source: Puterman 1994, Markov Decision Processes, sections 6.3 to 6.6 and 7.2; Dai, Mausam, Weld and
    Goldsmith 2011, Topological value iteration algorithms; Moore and Atkeson 1993, Prioritized sweeping.
    """
    require_choice("solve", "method", method, ["auto", *_PLANNERS])
    run = Run(mdp, gamma, eps, max_iter, num_threads, callback)
    start = first_value(mdp, value)
    if policy is not None:
        given = probabilities("solve", mdp, policy)
        if start is not None:
            raise ValueError("solve: value and policy must not both be given")
        process = of_policy(mdp, given)
        start = evaluate_process(process, run.gamma, max(eps, 1e-9)).value
        if not np.isfinite(start).all():
            raise run.overflow()
    if mdp.terminal is not None and mdp.terminal.all():
        nothing = np.zeros(mdp.num_states)
        return run.solution(nothing, nothing.copy(), np.full(mdp.num_states, -1, np.int32), method)
    if run.total:
        return _total(run, start, method)
    return _PLANNERS.get(method, _auto)(run, start)


def _total(run: Run, start: Floats | None, method: str) -> Solution:
    total = Total(run.mdp)
    run.of = total.of
    label, sweeps = {
        "auto": ("auto: topological Gauss-Seidel, policy iteration", total.auto),
        "value_iteration": ("value iteration", total.value_iteration),
        "modified_policy_iteration": ("modified policy iteration", total.modified_policy_iteration),
        "policy_iteration": ("policy iteration", total.policy_iteration),
        "gauss_seidel": ("Gauss-Seidel", _in_order),
        "topological": ("topological Gauss-Seidel", _by_component),
        "prioritized_sweeping": ("prioritized sweeping", _by_priority),
    }[method]
    value = total.first_value(start)
    return _sweeping(run, value, total.certify, run.eps / 10, start is None, sweeps, label)


def _auto(run: Run, start: Floats | None) -> Solution:
    iterator = PolicyIterator(run.of, run.gamma, start, run.num_threads)
    solution = _improving(run, iterator, _adaptive, "auto: modified policy iteration", give_up=True)
    if solution is not None:
        return solution
    del iterator
    return _topological(run, start, "auto: topological Gauss-Seidel")


Evaluate = Callable[[Run, PolicyIterator, float, int], bool]


def _adaptive(run: Run, iterator: PolicyIterator, target: float, switched: int) -> bool:
    """As deep as the policy deserves: once it hardly changes, to where the next sweep can prove eps. Returns
    whether that went quickly.
    """
    settled = switched * 50 < run.mdp.num_states
    wanted = target if switched == 0 else max(target, 0.03 if settled else 0.1)
    sweeps, reduced = iterator.evaluate(wanted, PATIENCE)
    return bool(sweeps < PATIENCE or reduced <= 0.1)


def _accept(_run: Run, iterator: PolicyIterator, _target: float, _switched: int) -> bool:
    iterator.accept()
    return True


def _improving(
    run: Run, iterator: PolicyIterator, evaluate: Evaluate, method: str, *, give_up: bool = False
) -> Solution | None:
    """Improves and evaluates until the bounds are close; None if it gave up because that takes long."""
    errors = [np.inf] * 4
    while True:
        low, high, switched = iterator.improve()
        run.iterations += 1
        found = margins(run.of, low, high, run.gamma, iterator.size)
        error = found.error
        if give_up and np.isnan(error):
            return None
        errors.append(error)
        try:
            run.note(error, switched)
        except Stopped:
            break
        if error <= run.eps or (run.stale >= STALE and run.is_rounding(error, iterator.size)):
            break
        if give_up and error > 0.5 * errors[-5] and not run.is_rounding(error, iterator.size):
            return None
        quick = evaluate(run, iterator, 0.5 * run.eps / error, switched)
        if give_up and not quick and not run.is_rounding(error, iterator.size):
            return None
    return run.solution(*found.around(iterator.next_value), iterator.choice, method)


def _value_iteration(run: Run, start: Floats | None) -> Solution:
    iterator = PolicyIterator(run.of, run.gamma, start, run.num_threads)
    solution = _improving(run, iterator, _accept, "value iteration")
    assert solution is not None
    return solution


def _modified_policy_iteration(run: Run, start: Floats | None) -> Solution:
    iterator = PolicyIterator(run.of, run.gamma, start, run.num_threads)
    solution = _improving(run, iterator, _adaptive, "modified policy iteration")
    assert solution is not None
    return solution


def _policy_iteration(run: Run, start: Floats | None) -> Solution:
    mdp = run.mdp
    value = np.zeros(mdp.num_states) if start is None else start
    choice = np.full(mdp.num_states, -1, np.int32)
    next_value = np.empty(mdp.num_states)
    previous = np.inf
    while True:
        low, high, switched = run.of.backup(value, run.gamma, next_value, choice, None, run.num_threads)
        run.iterations += 1
        found = margins(run.of, low, high, run.gamma, float(np.abs(value).max()))
        error = found.error
        try:
            run.note(error, switched)
        except Stopped:
            break
        if error <= run.eps:
            break
        if switched == 0 and error > 0.5 * previous:  # the rounding of the evaluation is what is left
            return _topological(run, value, "policy iteration, polished by Gauss-Seidel")
        previous = error
        taken = np.zeros(mdp.num_pairs)
        alive = choice >= 0
        taken[mdp.pair_offset[:-1][alive] + choice[alive]] = 1
        value = evaluate_process(of_policy(mdp, taken), run.gamma, run.eps / 4, value).value
    return run.solution(*found.around(next_value), choice, "policy iteration")


Sweeps = Callable[[Run, Floats, float, bool], float]
"""Improves values in place, to a tolerance, perhaps from the least they can be; sweeps done."""


def _by_component(run: Run, value: Floats, tolerance: float, pessimistic: bool) -> float:
    left = max(1, run.left)
    return float(run.of.solve_components(value, run.gamma, tolerance, left, pessimistic)[1])


def _in_order(run: Run, value: Floats, tolerance: float, _pessimistic: bool) -> float:
    return float(run.of.gauss_seidel(value, run.gamma, tolerance, max(1, run.left))[0])


def _by_priority(run: Run, value: Floats, tolerance: float, _pessimistic: bool) -> float:
    return float(run.of.prioritized_sweeping(value, run.gamma, tolerance, max(1, run.left))[0])


def _gauss_seidel(run: Run, start: Floats | None) -> Solution:
    return _discounted(run, start, _in_order, "Gauss-Seidel")


def _prioritized_sweeping(run: Run, start: Floats | None) -> Solution:
    return _discounted(run, start, _by_priority, "prioritized sweeping")


def _topological(run: Run, start: Floats | None, method: str = "topological Gauss-Seidel") -> Solution:
    return _discounted(run, start, _by_component, method)


def _discounted(run: Run, start: Floats | None, sweeps: Sweeps, method: str) -> Solution:
    value = np.zeros(run.mdp.num_states) if start is None else start.copy()
    return _sweeping(run, value, _certifier(run), _tolerance(run), start is None, sweeps, method)


def _certifier(run: Run) -> Callable[[Floats], Bounds]:
    return lambda value: certify(run.of, value, run.gamma, run.num_threads)


def _tolerance(run: Run) -> float:
    """Of a sweep's changes, such that the closing sweep can be expected to prove eps."""
    factor = run.gamma * run.of.mass[1]
    return 0.3 * run.eps * (1 - factor) / max(factor, 1e-3)


def _sweeping(
    run: Run,
    value: Floats,
    certified: Callable[[Floats], Bounds],
    tolerance: float,
    pessimistic: bool,
    sweeps: Sweeps,
    method: str,
) -> Solution:
    """Sweeps in place and a closing one that proves bounds, with less tolerance each time."""
    choice = np.full(run.mdp.num_states, -1, np.int32)
    for _ in range(12):
        done = sweeps(run, value, tolerance, pessimistic)
        if not np.isfinite(value).all():
            raise run.overflow()
        lower, upper, chosen = certified(value)
        if np.isnan(lower).any() or np.isnan(upper).any():
            raise run.overflow()
        run.iterations += done + 1
        switched = int((choice != chosen).sum())
        choice = chosen
        error = error_of(middle(lower, upper), lower, upper)
        try:
            run.note(error, switched)
        except Stopped:
            break
        if error <= run.eps or (run.stale > 1 and run.is_rounding(error, float(np.abs(value).max()))):
            break
        pessimistic = False
        tolerance /= 16
    return run.solution(lower, upper, choice, method)


_PLANNERS: dict[str, Callable[[Run, Floats | None], Solution]] = {
    "value_iteration": _value_iteration,
    "modified_policy_iteration": _modified_policy_iteration,
    "policy_iteration": _policy_iteration,
    "gauss_seidel": _gauss_seidel,
    "topological": _topological,
    "prioritized_sweeping": _prioritized_sweeping,
}
