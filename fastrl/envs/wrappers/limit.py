"""A limit of steps an episode for a vector environment that has none."""

import operator
from copy import deepcopy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import iterate

from fastrl.envs.foreign import Step
from fastrl.envs.wrappers.base import Bools, EpisodeWrapper, Transition, replaced, replaced_info
from fastrl.kernels._check import require_positive


class TimeLimit(EpisodeWrapper):
    """Truncates episodes at a number of steps, as ``gymnasium.wrappers.TimeLimit`` does for one environment.

    ``truncated`` is set where an episode also terminates in that step. The environment knows nothing of the
    limit: truncated environments are reset by ``reset_mask``, which it must take. With NEXT_STEP they are
    stepped once more in vain if others go on: only a stochastic one can tell.

    Args:
        env: any vector environment.
        max_episode_steps: at least 1.

    Raises:
        TypeError, ValueError: a limit that cannot be.

    Source: Pardo et al. 2018, Time Limits in Reinforcement Learning.
    """

    _state = ("_elapsed", "_cut")

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any], max_episode_steps: int) -> None:
        super().__init__(env)
        self.max_episode_steps = operator.index(max_episode_steps)
        require_positive("TimeLimit", "max_episode_steps", self.max_episode_steps)
        self._elapsed = np.zeros(env.num_envs, np.int64)
        self._cut = np.zeros(env.num_envs, np.bool_)  # truncated here, and not reset since

    def step(self, actions: Any) -> Step:
        """One step of every environment.

        Raises:
            ResetNeeded: before the first reset, or, with DISABLED, where an episode is over.
        """
        if self.mode is AutoresetMode.NEXT_STEP and self._cut.all():
            obs, info = self._reset_some(self._cut)
            self._begin(obs, info, self._cut)
            self._ended = np.zeros_like(self._ended)
            no = np.zeros((2, self.num_envs), np.bool_)
            return obs, np.zeros(self.num_envs), no[0], no[1], info
        return super().step(actions)

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        self._elapsed = np.where(began, 0, self._elapsed)
        self._cut = self._cut & ~began
        return obs, info

    def _change(self, step: Transition, taken: Any) -> None:
        # the environment may hand out its own arrays, which a reset changes
        step.reward, step.terminated = step.reward.copy(), step.terminated.copy()
        if self._cut.any():  # with NEXT_STEP: their step was in vain
            step.truncated = step.truncated & ~self._cut
            first, first_info = self._reset_some(self._cut)
            step.obs = replaced(step.obs, first, self._cut)
            step.info = replaced_info(step.info, first_info, self._cut)
            step.reward[self._cut] = 0
            step.terminated[self._cut] = False
        elapsed = self._elapsed + 1
        if step.valid is not None:
            elapsed = np.where(step.valid, elapsed, 0)
        late = elapsed >= self.max_episode_steps
        cut = late & ~step.done
        step.truncated = step.truncated | late
        step.done = step.done | late
        if self.mode is AutoresetMode.SAME_STEP:
            if cut.any():
                self._reset_now(step, cut)
            elapsed = np.where(step.done, 0, elapsed)
            cut = np.zeros_like(cut)
        self._elapsed, self._cut = elapsed, cut

    def _reset_now(self, step: Transition, cut: Bools) -> None:
        """Begins the next episodes of environments that were cut, with SAME_STEP."""
        rows = list(iterate(self.observation_space, step.obs))
        envs, others = np.flatnonzero(cut), np.flatnonzero(step.done & ~cut)
        info = self._with_finals(step.info, envs, [deepcopy(rows[env]) for env in envs], others)
        final = {"final_info": info.pop("final_info", {}), "_final_info": info.pop("_final_info", cut)}
        last = {key: value for key, value in info.items() if key not in ("final_obs", "_final_obs")}
        final = replaced_info(final, {"final_info": last, "_final_info": cut}, cut)
        first, first_info = self._reset_some(cut)
        step.obs = replaced(step.obs, first, cut)
        ends = {"final_obs": info["final_obs"], "_final_obs": info["_final_obs"], **final}
        step.info = {**replaced_info(last, first_info, cut), **ends}
