"""Clipped, scaled and shaped rewards; potentials leave the optimal policy alone, other bonuses do not."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

from fastrl.envs.wrappers import ClipReward, FrameStack, PotentialShaping, ScaleReward, SignReward

SIMPLE = {
    "clip": (lambda env: ClipReward(env, -0.5, 0.25), lambda r: min(max(r, -0.5), 0.25)),
    "floor": (lambda env: ClipReward(env, 0.5), lambda r: max(r, 0.5)),
    "sign": (SignReward, np.sign),
    "scale": (lambda env: ScaleReward(env, -2.5), lambda r: r * -2.5),
}


class Reward(gymnasium.Wrapper):  # type: ignore[type-arg]
    """One environment's rewards by a function."""

    def __init__(self, env: Any, function: Any) -> None:
        super().__init__(env)
        self.function = function

    def step(self, action: Any) -> Any:
        obs, reward, *rest = self.env.step(action)
        return obs, self.function(reward), *rest


@pytest.mark.parametrize("kind", SIMPLE)
def test_equal_to_each_alone(toys: Any, run: Any, kind: str) -> None:
    ours, function = SIMPLE[kind]
    run(ours(toys()), toys(lambda env: Reward(env, function)), 200)


def test_clip_is_gymnasiums(toys: Any, run: Any) -> None:
    run(ClipReward(toys(), -0.1, 0.3), gymnasium.wrappers.vector.ClipReward(toys(), -0.1, 0.3), 100)


def potential(obs: Any) -> Any:
    return np.sin(np.asarray(obs, np.float64).reshape(len(obs), -1)).sum(1)


class Shaped(gymnasium.Wrapper):  # type: ignore[type-arg]
    """The definition, for one environment."""

    def __init__(self, env: Any, gamma: float) -> None:
        super().__init__(env)
        self.gamma = gamma

    def reset(self, **kwargs: Any) -> Any:
        self.obs, info = self.env.reset(**kwargs)
        return self.obs, info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, *rest = self.env.step(action)
        led_to = 0.0 if terminated else potential(obs[None])[0]
        shaped = reward + (self.gamma * led_to - potential(self.obs[None])[0])
        self.obs = obs
        return obs, shaped, terminated, *rest


def test_shaping_is_the_definition(toys: Any, run: Any) -> None:
    """Terminated, truncated and both, in every mode and with partial resets."""
    seen = run(PotentialShaping(toys(), potential, 0.9), toys(lambda env: Shaped(env, 0.9)), 500)
    assert min(seen.values()) > 5


def same_rewards(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, tuple) and len(theirs) == 5:
        np.testing.assert_array_equal(ours[1], theirs[1])


def test_shaping_of_discrete_and_dict_observations(toys: Any, run: Any) -> None:
    space = spaces.Discrete(7, start=2)
    table = np.random.default_rng(0).normal(size=7)
    make = {"observation_space": space}
    theirs = PotentialShaping(toys(**make), lambda obs: table[obs - 2], 0.9)
    run(PotentialShaping(toys(**make), table, 0.9), theirs, 100)
    stacked = PotentialShaping(
        FrameStack(toys(), 2, actions="raw"), lambda obs: potential(obs["observation"][:, -1]), 0.9
    )
    plain = PotentialShaping(toys(), potential, 0.9)
    run(stacked, plain, 100, compare=same_rewards)


@given(st.integers(0, 2**32), st.floats(0, 1), st.lists(st.sampled_from("..tuTU"), min_size=1, max_size=30))
@settings(max_examples=50)
def test_bonuses_of_an_episode_sum_to_the_potential_it_began_with(
    seed: int, gamma: float, ends: list[str]
) -> None:
    """Σ γ^t F_t = γ^T Φ(s_T) - Φ(s_0) where truncated, and -Φ(s_0) where terminated."""
    random = np.random.default_rng(seed)
    phi = random.normal(size=len(ends) + 1)
    env = PotentialShaping(Chain(len(ends), ends), phi, gamma)
    env.reset()
    total, start, length = 0.0, 0, 0
    for t, end in enumerate(ends):
        _, reward, *_ = env.step(np.zeros(1, np.int64))
        total += gamma**length * reward[0]
        length += 1
        if end != ".":
            expected = (0 if end in "tT" else gamma**length * phi[t + 1]) - phi[start]
            np.testing.assert_allclose(total, expected, atol=1e-12)
            total, start, length = 0.0, t + 1, 0
            env.reset(options={"reset_mask": np.ones(1, np.bool_)})


class Chain(gymnasium.vector.VectorEnv):  # type: ignore[type-arg]
    """One environment that walks along a line and is told where its episodes end; a reset leaves it there."""

    def __init__(self, length: int, ends: list[str]) -> None:
        self.num_envs, self.ends, self.place = 1, ends, 0
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = spaces.Discrete(length + 1)
        self.single_action_space = spaces.Discrete(1)
        self.observation_space = spaces.MultiDiscrete([length + 1])
        self.action_space = spaces.MultiDiscrete([1])

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.array([self.place]), {}

    def step(self, actions: Any) -> Any:
        end = self.ends[self.place]
        self.place += 1
        flags = np.array([end in "tT"]), np.array([end in "uU"])
        return np.array([self.place]), np.zeros(1), *flags, {}


class Transitions(gymnasium.vector.VectorEnv):  # type: ignore[type-arg]
    """Every transition (s, a, s') of a finite MDP, an environment each."""

    def __init__(self, reward: np.ndarray, terminal: np.ndarray) -> None:
        states, actions, _ = reward.shape
        self.num_envs = reward.size
        self.metadata = {"autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = spaces.Discrete(states)
        self.single_action_space = spaces.Discrete(actions)
        self.observation_space = spaces.MultiDiscrete([states] * self.num_envs)
        self.action_space = spaces.MultiDiscrete([actions] * self.num_envs)
        self.begin, _, self.end = (x.ravel() for x in np.indices(reward.shape))
        self.reward, self.terminal = reward, terminal

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.begin, {}

    def step(self, actions: Any) -> Any:
        terminated = self.terminal[self.end]
        return self.end, self.reward.ravel(), terminated, np.zeros_like(terminated), {}


def random_mdp(seed: int) -> tuple[Any, Any, Any]:
    random = np.random.default_rng(seed)
    states, actions = 7, 3
    transition = random.dirichlet(np.full(states, 0.3), (states, actions))
    reward = random.normal(size=(states, actions, states))
    terminal = np.arange(states) >= states - 2
    return transition, reward, terminal


def optimal(transition: Any, reward: Any, terminal: Any, gamma: float) -> Any:
    """Action values by value iteration."""
    q = np.zeros(reward.shape[:2])
    for _ in range(2000):
        q = (transition * (reward + gamma * np.where(terminal, 0, q.max(1)))).sum(2)
    return q


def shaped(env: Any) -> Any:
    env.reset()
    rewards: np.ndarray = env.step(np.zeros(env.num_envs, np.int64))[1]
    return rewards.reshape(env.env.reward.shape)


@pytest.mark.parametrize("seed", range(8))
def test_the_optimal_policy_stays(seed: int) -> None:
    """Ng, Harada & Russell 1999, Theorem 1: Q'(s, a) = Q(s, a) - Φ(s), also where Φ(terminal) is not given as 0."""
    gamma = 0.95
    transition, reward, terminal = random_mdp(seed)
    phi = 5 * np.random.default_rng(100 + seed).normal(size=len(reward))
    before = optimal(transition, reward, terminal, gamma)
    after = optimal(
        transition, shaped(PotentialShaping(Transitions(reward, terminal), phi, gamma)), terminal, gamma
    )
    np.testing.assert_allclose(after, before - phi[:, None], atol=1e-10)
    np.testing.assert_array_equal(after.argmax(1), before.argmax(1))


def test_a_bonus_that_is_no_potential_changes_it() -> None:
    gamma = 0.95
    changed = {"arrival": 0, "another discount": 0, "terminal": 0}
    for seed in range(8):
        transition, reward, terminal = random_mdp(seed)
        phi = 5 * np.random.default_rng(100 + seed).normal(size=len(reward))
        best = optimal(transition, reward, terminal, gamma).argmax(1)[~terminal]
        others = {
            "arrival": reward + gamma * phi,
            "another discount": shaped(PotentialShaping(Transitions(reward, terminal), phi, 0.5)),
            "terminal": reward + gamma * phi - phi[:, None, None],  # Φ(terminal) is not 0
        }
        for name, other in others.items():
            changed[name] += (optimal(transition, other, terminal, gamma).argmax(1)[~terminal] != best).any()
    assert min(changed.values()) > 2, changed


def test_errors(toys: Any) -> None:
    for low, high in ((1.0, 0.5), (None, None), (np.nan, 1.0)):
        with pytest.raises(
            ValueError, match="ClipReward: min_reward must be <= max_reward, one of them given"
        ):
            ClipReward(toys(), low, high)
    for scale in (0.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="ScaleReward: scale must be finite and not 0"):
            ScaleReward(toys(), scale)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\], got -1"):
        PotentialShaping(toys(), potential, -1)
    with pytest.raises(TypeError, match="an array as potential needs Discrete observations, got Box"):
        PotentialShaping(toys(), np.zeros(3))
    with pytest.raises(ValueError, match=r"potential must be \[4\], got float64 \[3\]"):
        PotentialShaping(toys(observation_space=spaces.Discrete(4)), np.zeros(3))
    with pytest.raises(ValueError, match=r"potential must return \[5\], got float64 \[\]"):
        PotentialShaping(toys(), lambda obs: 0.0).reset()
    with pytest.raises(ValueError, match="potential must be finite, got nan in row 0"):
        PotentialShaping(toys(), lambda obs: np.full(len(obs), np.nan)).reset()
