"""What one worker runs: its share of the environments, as ``SyncVectorEnv`` runs all of them."""

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from numpy.typing import NDArray

from fastrl.envs.workers.shared import Buffers, tree_map

Infos = list[tuple[int, dict[str, Any]]]
"""Infos that are not empty, each with the number of its env, in the order in which they are merged."""


class Chunk:
    """Environments ``first`` and following, stepped in turn; results go to shared buffers.

    Args:
        first: number of the first.
        mode: autoreset mode.
    """

    def __init__(self, first: int, mode: AutoresetMode) -> None:
        self.first = first
        self.mode = mode
        self.envs: list[gymnasium.Env[Any, Any]] = []
        self.current = 0
        """The env that runs, or ran last, counted from ``first``."""

    def build(self, makers: Sequence[Callable[[], Any]]) -> dict[str, Any]:
        """Make the envs; returns spaces, metadata, render mode and name of the first.

        Raises:
            ValueError: another env has other spaces.
        """
        for self.current, maker in enumerate(makers):  # for an error to be of this env
            self.envs.append(maker())
        env = self.envs[0]
        for self.current, other in enumerate(self.envs):  # noqa: B020
            for name in ("observation_space", "action_space"):
                mine, its = getattr(env, name), getattr(other, name)
                if mine != its:
                    raise ValueError(f"every env must have the same {name}, {mine}, got {its}")
        self._obs: list[Any] = [None] * len(self.envs)
        self._ended = [False] * len(self.envs)
        return {
            "observation_space": env.observation_space,
            "action_space": env.action_space,
            "metadata": dict(env.metadata),
            "render_mode": env.render_mode,
            "name": env.spec.id if env.spec is not None else type(env.unwrapped).__name__,
        }

    def attach(self, buffers: Buffers) -> None:
        """Write results to these buffers, the parts of these envs, from now on."""
        self._buffers = buffers
        self._space = self.envs[0].observation_space
        self._actions_space = batch_space(self.envs[0].action_space, len(self.envs))

    def reset(
        self,
        seeds: Sequence[int | None],
        options: dict[str, Any] | None,
        mask: NDArray[Any] | None,
    ) -> Infos:
        """Reset all envs, or those of a mask."""
        infos: Infos = []
        for self.current, env in enumerate(self.envs):  # noqa: B020
            i = self.current
            if mask is not None and not mask[i]:
                continue
            self._buffers.terminated[i] = self._buffers.truncated[i] = self._ended[i] = False
            self._obs[i], info = env.reset(seed=seeds[i], options=options)
            self._add(infos, info)
        self._publish()
        return infos

    def step(self, given: Iterable[Any] | None = None) -> Infos:
        """Step every env with the actions in the buffers, or with those given, one an env."""
        obs, buffers, ended = self._obs, self._buffers, self._ended
        if given is None:  # copied: an env may keep its action, and the buffer is written again
            actions = buffers.actions
            if isinstance(actions, np.ndarray):
                given = actions.copy()
            else:
                given = iterate(self._actions_space, tree_map(np.copy, actions))
        reward, terminated, truncated = buffers.reward, buffers.terminated, buffers.truncated
        next_step, same_step = self.mode is AutoresetMode.NEXT_STEP, self.mode is AutoresetMode.SAME_STEP
        infos: Infos = []
        for i, (env, action) in enumerate(zip(self.envs, given, strict=True)):
            self.current = i
            if next_step and ended[i]:
                obs[i], info = env.reset()
                reward[i], terminated[i], truncated[i], ended[i] = 0.0, False, False, False
            else:
                obs[i], reward[i], over, cut, info = env.step(action)
                terminated[i], truncated[i] = over, cut
                ended[i] = over or cut
                if same_step and ended[i]:
                    self._add(infos, {"final_obs": obs[i], "final_info": info})
                    obs[i], info = env.reset()
            if info:
                self._add(infos, info)
        self._publish()
        return infos

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Attribute ``name`` of each env, called if it can be."""
        results = []
        for self.current, env in enumerate(self.envs):  # noqa: B020
            found = env.get_wrapper_attr(name)
            results.append(found(*args, **kwargs) if callable(found) else found)
        return results

    def set(self, name: str, values: Sequence[Any]) -> None:
        """Set attribute ``name`` of each env."""
        for self.current, (env, value) in enumerate(zip(self.envs, values, strict=True)):  # noqa: B020
            env.set_wrapper_attr(name, value)

    def close(self) -> None:
        """Close the envs; an error is printed, for nobody waits for the answer."""
        for env in self.envs:
            try:
                env.close()
            except Exception:
                traceback.print_exc()

    def _add(self, infos: Infos, info: dict[str, Any]) -> None:
        if info:
            infos.append((self.first + self.current, info))

    def _publish(self) -> None:
        out = self._buffers.obs
        if isinstance(out, np.ndarray):
            shape, dtype = out.shape[1:], out.dtype
            if all(isinstance(x, np.ndarray) and x.dtype == dtype and x.shape == shape for x in self._obs):
                for i, obs in enumerate(self._obs):
                    out[i] = obs
                return
        try:
            concatenate(self._space, self._obs, out)
        except Exception:
            one: Any = create_empty_array(self._space)
            for self.current, obs in enumerate(self._obs):  # noqa: B020  # whose is it?
                concatenate(self._space, [obs], one)
            raise
