"""Wrapped compiled environments keep Gymnasium's contract: as each of Gymnasium's, wrapped alone."""

from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from gymnasium import wrappers as alone
from gymnasium.vector import SyncVectorEnv

from fastrl.envs import VectorEnv, check_vector_env
from fastrl.envs.wrappers import ClipReward, FrameSkip, FrameStack, ScaleReward, TimeLimit

PAIRS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "stack": (lambda env: FrameStack(env, 3), lambda env: alone.FrameStackObservation(env, 3)),
    "limit": (lambda env: TimeLimit(env, 12), lambda env: alone.TimeLimit(env, 12)),
    "clip": (lambda env: ClipReward(env, 0.0, 0.5), lambda env: alone.ClipReward(env, 0.0, 0.5)),
    "several": (
        lambda env: FrameStack(TimeLimit(ScaleReward(FrameSkip(env, 1), 3.0), 9), 2, padding="zero"),
        lambda env: alone.FrameStackObservation(
            alone.TimeLimit(alone.TransformReward(env, lambda r: 3.0 * r), 9), 2, padding_type="zero"
        ),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.filterwarnings("ignore:.*out of bounds")
def test_contract(pair: str) -> None:
    ours, theirs = PAIRS[pair]

    def single() -> Any:
        return theirs(gymnasium.make("CartPole-v1"))

    check_vector_env(
        lambda mode: ours(VectorEnv("CartPole-v1", 4, autoreset_mode=mode)),
        lambda mode: SyncVectorEnv([single] * 4, autoreset_mode=mode),
    )
