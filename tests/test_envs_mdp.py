"""The exact models of tabular environments: Gymnasium's own tables, and Blackjack's against play."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.envs import ScalarEnv, TabularModel, VectorEnv
from fastrl.kernels.envs.blackjack import blackjack

CASES: list[tuple[str, dict[str, Any]]] = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake8x8-v1", {"success_rate": 0.7, "reward_schedule": (5, -1, 0.25)}),
    ("FrozenLake-v1", {"desc": ["FSFH", "SFGF"]}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("Taxi-v4", {"is_rainy": True, "rainy_probability": 0.37}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
]


def assert_same_model(mdp: TabularModel, theirs: Any) -> None:
    """Every outcome in its place, to the last bit."""
    assert mdp.to_transitions() == theirs.P
    assert mdp.initial.tobytes() == theirs.initial_state_distrib.tobytes()
    assert (mdp.num_states, mdp.num_actions) == (theirs.observation_space.n, theirs.action_space.n)
    again = TabularModel.from_transitions(theirs.P, theirs.initial_state_distrib)
    for field in ("offset", "next_state", "reward", "probability", "terminated", "initial"):
        assert getattr(again, field).tobytes() == getattr(mdp, field).tobytes()


@pytest.mark.parametrize(("env_id", "kwargs"), CASES)
def test_equals_gymnasium(env_id: str, kwargs: dict[str, Any]) -> None:
    theirs = gymnasium.make(env_id, **kwargs).unwrapped
    assert_same_model(VectorEnv(env_id, 3, **kwargs).mdp(), theirs)
    assert_same_model(ScalarEnv(env_id, **kwargs).mdp(), theirs)


@settings(max_examples=40)
@given(
    st.integers(2, 6).flatmap(
        lambda width: st.lists(st.text("SFHG", min_size=width, max_size=width), min_size=1, max_size=6)
    ),
    st.booleans(),
    st.floats(0, 1),
)
def test_any_map(desc: list[str], is_slippery: bool, success_rate: float) -> None:
    if "S" not in "".join(desc):
        desc = [*desc[:-1], "S" + desc[-1][1:]]
    kwargs = {"desc": desc, "is_slippery": is_slippery, "success_rate": success_rate}
    assert_same_model(
        VectorEnv("FrozenLake-v1", **kwargs).mdp(), gymnasium.make("FrozenLake-v1", **kwargs).unwrapped
    )


def test_rows() -> None:
    mdp = VectorEnv("FrozenLake-v1", desc=generate_random_map(5, seed=1)).mdp()
    for s, a, p, n in zip(mdp.state, mdp.action, mdp.probability, mdp.next_state, strict=True):
        assert (p, n) in [outcome[:2] for outcome in mdp.to_transitions()[s][a]]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_no_model(env_id: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{env_id} mdp: the environment has no finite model"):
        VectorEnv(env_id).mdp()


def test_hidden_state() -> None:
    with pytest.raises(NotImplementedError, match="fickle_passenger=True the observation is no Markov state"):
        VectorEnv("Taxi-v4", fickle_passenger=True).mdp()


class TestBlackjack:
    @pytest.mark.parametrize("sab", [False, True])
    @pytest.mark.parametrize("natural", [False, True])
    def test_equals_play(self, sab: bool, natural: bool) -> None:
        """What random play meets: initial states, next states and rewards of each state and action."""
        mdp = VectorEnv("Blackjack-v1", sab=sab, natural=natural).mdp()
        n, steps = 4096, 250
        env = VectorEnv("Blackjack-v1", n, sab=sab, natural=natural, autoreset_mode="SameStep", copy=False)
        (player, dealer, ace), _ = env.reset(seed=3)
        starts = np.zeros(mdp.num_states)
        seen = np.zeros(len(mdp.reward))
        index = {
            (pair, int(mdp.next_state[k]), float(mdp.reward[k]), bool(mdp.terminated[k])): k
            for pair in range(len(mdp.offset) - 1)
            for k in range(mdp.offset[pair], mdp.offset[pair + 1])
        }

        def states() -> np.ndarray:
            return np.where(env.core.state[2, :n] == 1, 704 + dealer, (player * 11 + dealer) * 2 + ace)

        np.add.at(starts, states(), 1)
        random = np.random.default_rng(0)
        for _ in range(steps):
            before = states()
            action = random.integers(2, size=n)
            _, reward, terminated, _, _ = env.step(action)
            np.add.at(starts, states()[terminated], 1)
            last = np.array(env.core.final_discrete)
            final = np.where(action == 0, before, (last[0] * 11 + last[1]) * 2 + last[2])
            after = np.where(terminated, final, states())
            keys = zip(before * 2 + action, after, reward, terminated, strict=True)
            np.add.at(seen, [index[int(p), int(s), float(r), bool(t)] for p, s, r, t in keys], 1)
        tries = np.repeat(np.add.reduceat(seen, mdp.offset[:-1]), np.diff(mdp.offset))
        for expected, count, p in (
            (tries * mdp.probability, seen, mdp.probability),
            (starts.sum() * mdp.initial, starts, mdp.initial),
        ):
            deviation = np.sqrt(np.maximum(expected * (1 - p), 1))
            assert (abs(count - expected) / deviation).max() < 6
        assert (np.add.reduceat(mdp.probability, mdp.offset[:-1]) - 1 < 1e-15).all()
        assert abs(mdp.initial.sum() - 1) < 1e-15

    def test_known_values(self) -> None:
        """A dealer who shows a six busts in 42 % of the rounds; 21 by an ace and a ten is dealt in 4.73 %."""
        mdp = blackjack(natural=False, sab=False)
        twelve = (12 * 11 + 6) * 2
        row = slice(*mdp.offset[[twelve * 2, twelve * 2 + 1]])
        win = mdp.probability[row][mdp.reward[row] == 1.0].sum()
        assert abs(win - 0.4232) < 1e-4
        assert abs(mdp.initial[704:].sum() - 2 / 13 * 4 / 13) < 1e-15
