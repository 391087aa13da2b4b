"""fastrl's planners, as bench_planners.py runs the others'."""

from dataclasses import replace

import _protocol
from _solving import main, tiny

from fastrl.tabular import MDP, solve


def load(file):
    if file is not None:
        return MDP.load(file)
    arrays = tiny()
    rows = (arrays["probability"], arrays["next_state"], arrays["offset"].astype("int32"))
    return MDP.from_pairs(
        rows, arrays["reward"], state=arrays["state"], action=arrays["action"], num_states=2
    )


def planner(method):
    def make(mdp, gamma, eps, threads):
        fresh = replace(mdp)  # what a first solution makes of the arrays is part of every one

        def run():
            found = solve(fresh, gamma, method=method, eps=eps, num_threads=threads)
            return found.value, found.iterations

        return run

    return make


METHODS = ("auto", "value_iteration")
main({f"fastrl {method}": planner(method) for method in METHODS}, load, _protocol.versions("numpy"))
