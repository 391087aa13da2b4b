"""Planners of QuantEcon, MDPSolver, MDPToolbox, Storm, and a loop over SciPy's sparse product."""

import tempfile
from pathlib import Path

import _protocol
import numpy as np
from _solving import main, tiny
from scipy.sparse import csr_matrix


def load(file):
    if file is None:
        return tiny()
    with np.load(file) as arrays:
        return dict(arrays)


def matrix(arrays):
    """[L, S]."""
    if arrays["probability"].ndim == 2:
        return arrays["probability"]
    shape = (len(arrays["state"]), int(arrays["state"][-1]) + 1)
    return csr_matrix((arrays["probability"], arrays["next_state"], arrays["offset"]), shape=shape)


def quantecon(method):
    def make(arrays, gamma, eps, threads):
        from quantecon.markov import DiscreteDP

        P, reward = matrix(arrays), arrays["reward"]
        if isinstance(P, np.ndarray):  # its form of all states and actions is the fast one
            shape = (P.shape[1], P.shape[0] // P.shape[1])
            model = DiscreteDP(reward.reshape(shape), P.reshape(*shape, -1), gamma)
        else:
            model = DiscreteDP(reward, P, gamma, arrays["state"], arrays["action"])

        def solve():
            found = model.solve(method=method, epsilon=eps, max_iter=10**7)
            return found.v, int(found.num_iter)

        return solve

    return make


def mdpsolver(algorithm, update="standard"):
    def make(arrays, gamma, eps, threads):
        from mdpsolver import model

        counts = np.bincount(arrays["state"])
        edges = np.cumsum(counts)[:-1]
        rewards = [x.tolist() for x in np.split(arrays["reward"], edges)]
        mdp = model()
        if arrays["probability"].ndim == 2:
            dense = [x.tolist() for x in np.split(arrays["probability"], edges)]
            mdp.mdp(discount=gamma, rewards=rewards, tranMatWithZeros=dense)
        else:
            probability, column = [], []
            first = np.concatenate([[0], np.cumsum(counts)])
            offset = arrays["offset"].tolist()
            flat, columns = arrays["probability"].tolist(), arrays["next_state"].tolist()
            for s in range(len(counts)):
                pairs = range(first[s], first[s + 1])
                probability.append([flat[offset[pair] : offset[pair + 1]] for pair in pairs])
                column.append([columns[offset[pair] : offset[pair + 1]] for pair in pairs])
            mdp.mdp(discount=gamma, rewards=rewards, tranMatProbs=probability, tranMatColumns=column)

        def solve():
            # Gauss-Seidel never returns with its threads.
            parallel = update == "standard" and threads > 1
            mdp.solve(algorithm=algorithm, update=update, tolerance=eps, parallel=parallel)
            return mdp.getValueVector(), None

        return solve

    return make


def mdptoolbox(name):
    """Its constructors compute part of the solution, and are timed with it."""

    def make(arrays, gamma, eps, threads):
        import mdptoolbox.mdp

        P, state, action = matrix(arrays), arrays["state"], arrays["action"]
        states, actions = int(state[-1]) + 1, int(action.max()) + 1
        pair = np.repeat(np.searchsorted(state, np.arange(states))[:, None], actions, axis=1)
        pair[state, action] = np.arange(len(state))  # an action that a state lacks is its first one
        reward = arrays["reward"][pair]
        if isinstance(P, np.ndarray):
            each = np.ascontiguousarray(P.reshape(states, actions, states).transpose(1, 0, 2))
        else:
            each = [P[pair[:, a]] for a in range(actions)]

        def solve():
            model = getattr(mdptoolbox.mdp, name)(each, reward, gamma, epsilon=eps, max_iter=10**6)
            model.run()
            return model.V, model.iter

        return solve

    return make


def stormpy(arrays, gamma, eps, threads):
    import stormpy

    states = int(arrays["state"][-1]) + 1
    first = np.searchsorted(arrays["state"], np.arange(states + 1))
    reward, offset = arrays["reward"].tolist(), arrays["offset"].tolist()
    flat, columns = arrays["probability"].tolist(), arrays["next_state"].tolist()
    lines = ["@type: MDP", "@parameters", "", "@reward_models", "r", "@nr_states", str(states)]
    lines += ["@nr_choices", str(len(reward)), "@model"]
    for s in range(states):
        lines.append(f"state {s} init" if s == 0 else f"state {s}")
        for a, pair in enumerate(range(first[s], first[s + 1])):
            lines.append(f"\taction {a} [{reward[pair]!r}]")
            entries = range(offset[pair], offset[pair + 1])
            lines += [f"\t\t{columns[entry]} : {flat[entry]!r}" for entry in entries]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.drn"
        file.write_text("\n".join(lines) + "\n")
        model = stormpy.build_model_from_drn(str(file))
    (formula,) = stormpy.parse_properties(f'R{{"r"}}max=? [ Cdiscount={gamma!r} ]')
    environment = stormpy.environments.default(model)
    settings = environment.solver().min_max()
    settings.method = stormpy.environments.MinMaxMethod.VALUE_ITERATION
    settings.precision = stormpy.Rational(eps)
    settings.relative_termination_criterion = False

    def solve():
        found = stormpy.model_checking(model, formula, only_initial_states=False, environment=environment)
        return [found.get_value(s) for s in range(states)], None

    return solve


def scipy(arrays, gamma, eps, threads):
    """Value iteration as it is written in a course: one product a sweep, until no value changes much."""
    P, reward = matrix(arrays), arrays["reward"]
    begins = np.searchsorted(arrays["state"], np.arange(P.shape[1]))

    def solve():
        value, iterations = np.zeros(P.shape[1]), 0
        while True:
            new = np.maximum.reduceat(reward + gamma * (P @ value), begins)
            iterations += 1
            change = np.abs(new - value).max()
            value = new
            if change <= eps * (1 - gamma) / gamma:
                return value, iterations

    return solve


PLANNERS = {
    "quantecon mpi": quantecon("mpi"),
    "quantecon pi": quantecon("pi"),
    "quantecon vi": quantecon("vi"),
    "mdpsolver mpi": mdpsolver("mpi"),
    "mdpsolver vi": mdpsolver("vi"),
    "mdpsolver pi": mdpsolver("pi"),
    "mdpsolver mpi gs": mdpsolver("mpi", "gs"),
    "mdptoolbox mpi": mdptoolbox("PolicyIterationModified"),
    "mdptoolbox vi": mdptoolbox("ValueIteration"),
    "stormpy vi": stormpy,
    "scipy vi": scipy,
}
PACKAGES = ("quantecon", "mdpsolver", "pymdptoolbox-roi", "stormpy", "numpy", "scipy", "numba")

if __name__ == "__main__":
    main(PLANNERS, load, _protocol.versions(*PACKAGES))
