"""What tests of wrappers share: an environment made for them, and the comparison of two vector environments."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from fastrl.envs.conformance import difference

NOISE = np.random.default_rng(0).random(9973 + 3000)


class Toy(gymnasium.Env):  # type: ignore[type-arg]
    """Everything follows from ``index`` and the actions since the last reset; episodes last a dozen steps.

    Terminations, truncations, and both at once.
    """

    def __init__(self, index: int, observation_space: Any = None, action_space: Any = None) -> None:
        self.index = index
        self.observation_space = observation_space or spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = action_space or spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.place, self.age = 100 * self.index, 0
        return self._obs(), {"age": 0}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = (31 * self.place + int(np.sum(np.asarray(action) * 1000)) + self.age) % 9973
        self.age += 1
        chance, reward, sends_info = NOISE[self.place : self.place + 3].tolist()
        terminated, truncated = chance < 0.07, 0.05 < chance < 0.12
        return self._obs(), reward - 0.5, terminated, truncated, {"age": self.age} if sends_info < 0.8 else {}

    def _obs(self) -> Any:
        space = self.observation_space
        if isinstance(space, spaces.Discrete):
            return np.int64(int(NOISE[self.place] * int(space.n)) + space.start)
        noise = NOISE[self.place : self.place + int(np.prod(space.shape))].reshape(space.shape)
        return (noise * 256 if space.dtype == np.uint8 else 3 * noise - 1.5).astype(space.dtype)


def assert_equal(ours: Any, theirs: Any) -> None:
    """Same types, dtypes, shapes, keys and bytes, in nested results."""
    found = difference(ours, theirs)
    assert found is None, found


def same_run(
    ours: Any,
    theirs: Any,
    steps: int = 700,
    *,
    info: bool = True,
    compare: Callable[[Any, Any], None] = assert_equal,
) -> dict[str, int]:
    """The same random actions and resets to both; counts the ends of episodes."""
    mode, num_envs = ours.metadata["autoreset_mode"], ours.num_envs
    random = np.random.default_rng(0)
    ours.action_space.seed(0)
    seen = {"terminated": 0, "truncated": 0, "both": 0, "resets": 0}
    stepped = 5 if info else 4
    compare(ours.reset(seed=3)[: 1 + info], theirs.reset(seed=3)[: 1 + info])
    for step in range(steps):
        actions = ours.action_space.sample()
        result, expected = ours.step(actions), theirs.step(actions)
        compare(result[:stepped], expected[:stepped])
        if not info and "final_obs" in expected[4]:
            compare(result[4]["final_obs"], expected[4]["final_obs"])
            compare(result[4]["_final_obs"], expected[4]["_final_obs"])
        _, _, terminated, truncated, _ = expected
        done = terminated | truncated
        seen["terminated"] += int(terminated.sum())
        seen["truncated"] += int(truncated.sum())
        seen["both"] += int((terminated & truncated).sum())
        mask = done.copy() if mode is AutoresetMode.DISABLED else np.zeros(num_envs, np.bool_)
        if step % 29 == 28:
            mask |= random.random(num_envs) < 0.5
        if mask.any():
            seen["resets"] += 1
            options = {"reset_mask": mask}
            compare(ours.reset(options=options)[0], theirs.reset(options=dict(options))[0])
            assert options == {"reset_mask": mask}
    return seen


@pytest.fixture(params=list(AutoresetMode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> AutoresetMode:
    assert isinstance(request.param, AutoresetMode)
    return request.param


@pytest.fixture
def toys(mode: AutoresetMode) -> Callable[..., SyncVectorEnv]:
    """``toys(wrapper, num_envs=5, **spaces)``: environments side by side, each wrapped alone."""

    def make(wrapper: Callable[[Any], Any] | None = None, num_envs: int = 5, **options: Any) -> SyncVectorEnv:
        functions = [lambda i=i: (wrapper or (lambda env: env))(Toy(i, **options)) for i in range(num_envs)]
        return SyncVectorEnv(functions, autoreset_mode=mode)

    return make


@pytest.fixture
def run() -> Callable[..., dict[str, int]]:
    """``same_run``."""
    return same_run


@pytest.fixture
def equal() -> Callable[[Any, Any], None]:
    """``assert_equal``."""
    return assert_equal
