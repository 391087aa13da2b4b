"""Planners at work: how much memory they take, and that they can be interrupted."""

import subprocess
import sys
import textwrap
import warnings
from dataclasses import replace

import numpy as np
import pytest
from _memory import in_a_fresh_process, needs_proc, peak_of
from _planners import METHODS

from fastrl.tabular import solve, zoo


@needs_proc
@pytest.mark.parametrize("method", METHODS)
def test_memory_is_at_most_half_as_much_again_as_the_process(method):
    assert in_a_fresh_process(memory_of_a_solve, method) <= 1.5


def memory_of_a_solve(method):
    garnet = zoo.garnet(100_000, 4, 5)
    with warnings.catch_warnings(action="ignore"):  # that it stops early
        return peak_of(lambda: solve(garnet, 0.99, method=method, max_iter=20)) / garnet.nbytes


@needs_proc
@pytest.mark.parametrize("free", [0, 0.5])
def test_memory_without_discount(free):
    assert in_a_fresh_process(memory_without_discount, free) <= 1.5


def memory_without_discount(free):
    """Costs, some of them 0, until one state is found: cycles without reward are folded, which is a copy."""
    garnet = zoo.garnet(100_000, 4, 5)
    reward = np.where(np.random.default_rng(0).random(garnet.num_pairs) < free, 0, -abs(garnet.reward) - 1)
    ending = replace(garnet, reward=reward, terminal=np.arange(garnet.num_states) == 7)
    return peak_of(lambda: solve(ending, 1.0, eps=1e-3)) / garnet.nbytes


LONG = textwrap.dedent("""
    import os, signal, sys, threading
    import numpy as np
    from fastrl.tabular import MDP, average_reward, evaluate, occupancy, solve, zoo

    method, gamma = sys.argv[1], float(sys.argv[2])
    if method == "small component":
        mdp = MDP.from_outcomes([0, 0, 1], [0, 0, 0], [1, 2, 0], np.ones(3), np.array([1 - 1e-10, 1e-10, 1]), terminal=[2])
        method = "topological"
    elif gamma == 1:
        mdp = zoo.random_walk(20_001)  # takes the square of that many steps
    else:
        n = 20_000
        s = np.arange(n)
        to = np.stack([(s + 1) % n, (s + 2) % n], axis=1).ravel()
        reward = np.repeat(np.random.default_rng(0).normal(size=n), 2)
        mdp = MDP.from_outcomes(np.repeat(s, 2), np.zeros(2 * n, int), to, reward, np.full(2 * n, 0.5))
    policy, endless = np.zeros(mdp.num_states, int), 10**11
    call = {
        "evaluate iterative": lambda: evaluate(mdp, policy, gamma, method="iterative", eps=1e-12),
        "occupancy": lambda: occupancy(mdp, policy, gamma, initial=9999, method="iterative", max_iter=endless),
        "average reward": lambda: average_reward(mdp, max_iter=endless),
    }.get(method, lambda: solve(mdp, gamma, method=method, eps=1e-12, max_iter=endless))
    try:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        call()
    except KeyboardInterrupt:
        print("interrupted")
""")


@pytest.mark.parametrize(
    ("method", "gamma"),
    [
        *((method, 1 - 1e-9) for method in METHODS),
        *((method, 1.0) for method in METHODS),
        ("small component", 1.0),
        ("evaluate iterative", 1 - 1e-9),
        ("evaluate iterative", 1.0),
        ("occupancy", 1 - 1e-9),
        ("average reward", 0.5),
    ],
)
def test_an_interrupt_ends_it(method, gamma):
    """None of these would end by itself for minutes."""
    run = [sys.executable, "-W", "ignore", "-c", LONG, method, str(gamma)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "interrupted\n"
