"""Frames drawn by Gymnasium's own renderers from the state of a compiled environment."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.envs.registration import load_env_creator
from numpy.typing import NDArray

from fastrl.kernels.envs import CompiledEnv

Frame = NDArray[np.uint8] | str | None


def render_modes(row: CompiledEnv) -> list[str]:
    """The render modes of an environment alone; a vector environment has all but ``human``."""
    return ["human", "ansi", "rgb_array"] if row.text else ["human", "rgb_array"]


class Renderer:
    """Draws states with Gymnasium's class for the environment; imports pygame at the first frame.

    Args:
        row: the environment.
        render_mode: one of :func:`render_modes`.
        num_envs: N.
        options: the environment's arguments.
    """

    def __init__(self, row: CompiledEnv, render_mode: str, num_envs: int, options: Mapping[str, Any]) -> None:
        look = {"desc": list(options["desc"])} if "desc" in options else {}
        self._env: Any = load_env_creator(row.gymnasium_class)(render_mode=render_mode, **look)
        self._row = row
        self._heading = [0] * num_envs  # of each taxi when it was last drawn in this episode

    def restarted(self, envs: NDArray[np.bool_]) -> None:
        """Tells that an episode began in these envs [N]."""
        for env in np.flatnonzero(envs):
            self._heading[env] = 0

    def frame(self, env: int, state: NDArray[Any], action: Any) -> Frame:
        """The frame of ``state`` [state_size] of an env: uint8 [height, width, 3], or text; None if ``human``
        shows it.

        ``action`` is the one that led there, None after a reset.
        """
        row = self._row
        if row.drawn_state == "cards":
            self._deal(*state.tolist())
        else:
            setattr(self._env, row.drawn_state, state if row.drawn_state == "state" else int(state[0]))
        if row.drawn_action is not None:
            last = action
            if action is not None and row.action_high:
                last = np.clip(action[0], -row.action_high[0], row.action_high[0])
            setattr(self._env, row.drawn_action, last)
        self._env.taxi_orientation = self._heading[env]
        frame: Frame = self._env.render()
        self._heading[env] = self._env.taxi_orientation
        return frame

    def close(self) -> None:
        """Frees the drawing surface."""
        self._env.close()

    def _deal(
        self, total: int, ace: int, _natural: int, shown: int, hidden: int, suit: int, face: int
    ) -> None:
        self._env.player = [1, total - 1] if ace else [total]
        self._env.dealer = [shown, hidden]
        self._env.dealer_top_card_suit = "CDHS"[suit]
        self._env.dealer_top_card_value_str = {1: "A", 10: "JQK"[face]}.get(shown, str(shown))
