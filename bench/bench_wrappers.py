"""Time of environment wrappers beside Gymnasium's: ``python bench/bench_wrappers.py``.

All but the last case wrap environments that do nothing, so that the time is the wrapper's.
"""

import _harness

# isort: split
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import batch_space
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from gymnasium.wrappers import vector as theirs
from numpy.typing import NDArray

from fastrl.envs import wrappers as ours
from fastrl.kernels import grayscale_resize

IMAGE = spaces.Box(0, 255, (84, 84), np.uint8)
VECTOR = spaces.Box(-np.inf, np.inf, (17,), np.float32)


class Still(gymnasium.vector.VectorEnv):  # type: ignore[type-arg]
    """N environments that give the same observations again and again."""

    def __init__(self, space: Any, num_envs: int) -> None:
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}
        self.single_observation_space = space
        self.single_action_space = spaces.Discrete(2)
        self.observation_space = batch_space(space, num_envs)
        self.action_space = spaces.MultiDiscrete([2] * num_envs)
        self.observation_space.seed(0)
        self.obs = self.observation_space.sample()
        self.reward = np.random.default_rng(0).normal(size=num_envs)
        self.no = np.zeros(num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.obs, {}

    def step(self, actions: Any) -> Any:
        return self.obs, self.reward.copy(), self.no, self.no, {}


class StillAlone(gymnasium.Env):  # type: ignore[type-arg]
    """One of them."""

    def __init__(self, vector: Still, i: int) -> None:
        self.observation_space = vector.single_observation_space
        self.action_space = vector.single_action_space
        self.obs, self.reward = vector.obs[i], float(vector.reward[i])

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.obs, {}

    def step(self, action: Any) -> Any:
        return self.obs, self.reward, False, False, {}


def alone(space: Any, num_envs: int, wrapper: Callable[[Any], Any]) -> SyncVectorEnv:
    vector = Still(space, num_envs)
    return SyncVectorEnv([lambda i=i: wrapper(StillAlone(vector, i)) for i in range(num_envs)])


def stepper(env: Any) -> Callable[[], Any]:
    """Observations and rewards of a step."""
    env.reset(seed=0)
    actions = np.zeros(env.num_envs, np.int64)
    return lambda: env.step(actions)[:2]


def shifted(space: Any, num_envs: int) -> Callable[[], Any]:
    """The usual array of stacks, whose frames all move a place each step, and its copy."""
    env = Still(space, num_envs)
    stacks = np.stack([env.obs] * 4, axis=1)

    def run() -> Any:
        obs, reward, *_ = env.step(None)
        stacks[:, :-1] = stacks[:, 1:]
        stacks[:, -1] = obs
        return stacks.copy(), reward

    return run


def close(tolerance: float) -> Callable[[Any, Any], bool]:
    return lambda a, b: all(np.allclose(x, y, atol=tolerance) for x, y in zip(a, b, strict=True))


def cases() -> Iterator[_harness.Case]:
    for space, num_envs in ((IMAGE, 8), (VECTOR, 8), (VECTOR, 1024)):
        name = f"{num_envs} of {space.dtype} {list(space.shape)}"
        yield _harness.Case(
            name=f"FrameStack 4, {name}",
            ours=stepper(ours.FrameStack(Still(space, num_envs), 4)),
            peers={
                "ours, copy=False": stepper(ours.FrameStack(Still(space, num_envs), 4, copy=False)),
                "numpy, shifted": shifted(space, num_envs),
                "FrameStackObservation, sync": stepper(
                    alone(space, num_envs, lambda env: FrameStackObservation(env, 4))
                ),
            },
            agree=close(0),
        )
    for num_envs in (8, 1024):
        name = f"{num_envs} envs"
        yield _harness.Case(
            name=f"NormalizeObservation, {name}",
            ours=stepper(ours.NormalizeObservation(Still(VECTOR, num_envs))),
            peers={"Gymnasium": stepper(theirs.NormalizeObservation(Still(VECTOR, num_envs)))},
            agree=close(0.02),  # theirs begins with 1e-4 observations of mean 0
        )
        yield _harness.Case(
            name=f"NormalizeReward, {name}",
            ours=stepper(ours.NormalizeReward(Still(VECTOR, num_envs))),
            peers={"Gymnasium": stepper(theirs.NormalizeReward(Still(VECTOR, num_envs)))},
            agree=close(0.02),
        )
        yield _harness.Case(
            name=f"ClipReward, {name}",
            ours=stepper(ours.ClipReward(Still(VECTOR, num_envs), -0.5, 0.5)),
            peers={"Gymnasium": stepper(theirs.ClipReward(Still(VECTOR, num_envs), -0.5, 0.5))},
            agree=close(0),
        )
    yield from resizing()
    yield from atari()


def resizing() -> Iterator[_harness.Case]:
    cv2 = importlib.import_module("cv2")
    cv2.setNumThreads(1)
    grey, before = np.random.default_rng(0).integers(0, 256, (2, 8, 210, 160), np.uint8)
    out = np.empty((8, 84, 84), np.uint8)

    def opencv() -> NDArray[np.uint8]:
        frames = np.maximum(grey, before)
        return np.stack([cv2.resize(frame, (84, 84), interpolation=cv2.INTER_AREA) for frame in frames])

    yield _harness.Case(
        name="maximum of two and resize, 8 grey frames",
        ours=lambda: grayscale_resize(grey, before, out=out),
        peers={"OpenCV": opencv},
        agree=lambda a, b: bool((a == b).all()),
    )


def atari() -> Iterator[_harness.Case]:
    gymnasium.register_envs(importlib.import_module("ale_py"))

    def pong(obs_type: str) -> Any:
        return gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0, obs_type=obs_type)

    yield _harness.Case(
        name="Pong, skip 4, 84x84 grey, 4 envs",
        ours=stepper(ours.GrayscaleResize(SyncVectorEnv([lambda: pong("grayscale")] * 4), skip=4)),
        peers={
            "AtariPreprocessing, sync": stepper(
                SyncVectorEnv([lambda: AtariPreprocessing(pong("rgb"), noop_max=0)] * 4)
            )
        },
        agree=close(0),
    )


if __name__ == "__main__":
    _harness.main("wrappers", cases, ["gymnasium", "opencv-python-headless", "ale-py"])
