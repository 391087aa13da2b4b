"""What all wrappers share: which environments begin an episode, in each autoreset mode, and their rows."""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import concatenate, create_empty_array
from numpy.typing import NDArray

from fastrl.envs.foreign import Step, autoreset_mode
from fastrl.kernels._check import describe

Bools = NDArray[np.bool_]


@dataclass(slots=True)
class Transition:
    """One step of all environments, for a wrapper to change."""

    obs: Any
    reward: NDArray[np.float64]
    terminated: Bools
    truncated: Bools
    info: dict[str, Any]
    done: Bools
    """[N]: the episode ended in this step."""
    began: Bools
    """[N]: ``obs`` is the first of an episode: with NEXT_STEP where this step only reset, with SAME_STEP
    where ``done``, with DISABLED nowhere.
    """
    valid: Bools | None
    """[N]: False where this step only reset; None: nowhere."""

    @property
    def result(self) -> Step:
        """As ``step`` returns it."""
        return self.obs, self.reward, self.terminated, self.truncated, self.info


class EpisodeWrapper(gymnasium.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """A vector wrapper that knows the ends of episodes in every autoreset mode.

    Takes any ``gymnasium.vector.VectorEnv``. ``reset`` takes ``reset_mask``, and ``options`` is not changed.
    Rewards come as float64. Where an environment raises, the wrapper is as before. Pickling and
    ``copy.deepcopy`` work as far as they do for the environment; ``get_state`` where it has that.

    Args:
        env: the environment.

    Raises:
        TypeError: not a vector environment.
        ValueError: its metadata does not say its autoreset mode.
    """

    _state: tuple[str, ...] = ()  # attributes of a subclass that steps change: arrays, or with state()

    def __init__(self, env: gymnasium.vector.VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self.mode = autoreset_mode(env)
        self.metadata = {**env.metadata, "autoreset_mode": self.mode}
        self._started = False
        self._ended = np.zeros(env.num_envs, np.bool_)  # and not reset since, except with SAME_STEP

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As in the environment, whose other ``options`` it gets.

        Raises:
            TypeError, ValueError: ``options["reset_mask"]`` is not bool [N] with a True; nothing changed.
            ResetNeeded: a mask before the first reset.
        """
        began = np.ones(self.num_envs, np.bool_)
        if options is not None:
            options = dict(options)  # some take things out of it
            if "reset_mask" in options:
                began = self._mask(options["reset_mask"])
        obs, info = self.env.reset(seed=seed, options=options)
        self._started = True
        self._ended = self._ended & ~began
        return self._begin(obs, info, began)

    def step(self, actions: Any) -> Step:
        """One step of every environment.

        Raises:
            ResetNeeded: before the first reset, or, with DISABLED, where an episode is over.
        """
        self._require_ready()
        taken = self._taken(actions)
        obs, reward, terminated, truncated, info = self.env.step(actions)
        reward, terminated, truncated = signals(reward, terminated, truncated)
        done = terminated | truncated
        began, valid = done, None
        if self.mode is AutoresetMode.NEXT_STEP:
            began, valid = self._ended, ~self._ended
            done = done & valid
        elif self.mode is AutoresetMode.DISABLED:
            began = np.zeros_like(done)
        step = Transition(obs, reward, terminated, truncated, info, done, began, valid)
        self._change(step, taken)
        self._ended = step.done
        return step.result

    def get_state(self) -> dict[str, Any]:
        """The environment's ``get_state()`` and the wrapper's own, in arrays; later steps do not change it.

        Raises:
            AttributeError: the environment has no ``get_state``.
        """
        return {"env": self._env_with("get_state").get_state(), "wrapper": self._own_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continues where an equal object's ``get_state`` was called.

        Raises:
            AttributeError: the environment has no ``set_state``.
            TypeError, ValueError: not a state of this wrapper and environment; nothing changed.
        """
        env, before = self._env_with("set_state"), self._own_state()
        own = state.get("wrapper") if isinstance(state, dict) else None
        if not isinstance(own, dict) or set(own) != set(before):
            raise ValueError(f"{self._name} set_state: state must be what get_state of its like returned")
        try:
            self._load_own_state(own)
            env.set_state(state["env"])
        except Exception:
            self._load_own_state(before)
            raise

    def _own_state(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in ("_started", "_ended", *self._state)}
        return {
            name: value.state() if hasattr(value, "state") else np.array(value)
            for name, value in values.items()
            if value is not None
        }

    def _load_own_state(self, own: dict[str, Any]) -> None:
        for name, value in own.items():
            present = getattr(self, name)
            if hasattr(present, "load_state"):
                present.load_state(value)
            elif np.shape(value) == np.shape(present):
                setattr(self, name, np.array(value))
            else:
                wanted, got = list(np.shape(present)), list(np.shape(value))
                raise ValueError(f"{self._name} set_state: {name} must be {wanted}, got {got}")

    def _begin(self, obs: Any, info: dict[str, Any], began: Bools) -> tuple[Any, dict[str, Any]]:
        """What ``reset`` returns; ``began`` [N] were reset."""
        return obs, info

    def _taken(self, actions: Any) -> Any:
        """What ``_change`` is told of the actions; it may refuse them before the environment sees them."""
        return actions

    def _change(self, step: Transition, taken: Any) -> None:
        """Changes a step in place."""

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _env_with(self, method: str) -> Any:
        if not hasattr(self.env, method):
            raise AttributeError(f"{self._name}: env must have {method}, got {type(self.env).__name__}")
        return self.env

    def _mask(self, mask: Any) -> Bools:
        wanted = f"{self._name} reset: reset_mask must be bool [{self.num_envs}]"
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"{wanted}, got {describe(mask)}")
        if mask.shape != (self.num_envs,):
            raise ValueError(f"{wanted}, got {describe(mask)}")
        if not mask.any():
            raise ValueError(f"{wanted} with at least one True, got none")
        if not self._started:
            raise ResetNeeded(f"{self._name} reset: the first reset takes no reset_mask")
        return mask.copy()

    def _require_ready(self) -> None:
        if not self._started:
            raise ResetNeeded(f"{self._name} step: call reset first")
        if self.mode is AutoresetMode.DISABLED and self._ended.any():
            raise ResetNeeded(
                f"{self._name} step: the episode of env {int(self._ended.argmax())} is over; "
                "reset it with options={'reset_mask': mask}"
            )

    def _finals(self, info: dict[str, Any], envs: NDArray[np.intp]) -> Any:
        """Final observations of some environments as a batch, with SAME_STEP."""
        if "final_obs" not in info:
            raise ValueError(
                f"{self._name} step: info of a SAME_STEP env must have 'final_obs', got {[*info]}"
            )
        space = self.env.single_observation_space
        finals = [info["final_obs"][env] for env in envs]
        empty: Any = create_empty_array(space, len(finals))
        return concatenate(space, finals, empty)

    def _with_finals(
        self, info: dict[str, Any], envs: NDArray[np.intp], finals: Any, kept: NDArray[np.intp] | None = None
    ) -> dict[str, Any]:
        """``info`` with final observations of some environments, and those that it has of ``kept`` ones."""
        final_obs = np.full(self.num_envs, None, object)
        for env in () if kept is None else kept:
            final_obs[env] = info["final_obs"][env]
        for env, final in zip(envs, finals, strict=True):
            final_obs[env] = final
        ended = np.array([final is not None for final in final_obs])  # ALE's has no mask
        return {**info, "final_obs": final_obs, "_final_obs": ended}

    def _reset_some(self, mask: Bools) -> tuple[Any, dict[str, Any]]:
        """Resets environments between steps, which the caller of the wrapper does not see."""
        obs, info = self.env.reset(options={"reset_mask": mask.copy()})
        return obs, info


def replaced(base: Any, other: Any, mask: Bools) -> Any:
    """Observations ``base`` with the rows of ``other`` where ``mask``: arrays, dicts, tuples of them."""
    if isinstance(base, dict):
        return {key: replaced(base[key], other[key], mask) for key in base}
    if isinstance(base, tuple):
        return tuple(replaced(a, b, mask) for a, b in zip(base, other, strict=True))
    rows = np.array(base)
    rows[mask] = np.asarray(other)[mask]
    return rows


def replaced_info(base: dict[str, Any], other: dict[str, Any], mask: Bools) -> dict[str, Any]:
    """Infos ``base`` with the rows of ``other`` where ``mask``; either may have keys that the other lacks."""
    info = {key: _replaced_value(base.get(key), other.get(key), mask) for key in {**base, **other}}
    sent_by_none = {key for key in info if f"_{key}" in info and not info[f"_{key}"].any()}
    return {key: value for key, value in info.items() if key.removeprefix("_") not in sent_by_none}


def _replaced_value(base: Any, other: Any, mask: Bools) -> Any:
    known = other if base is None else base
    if isinstance(known, dict):
        return replaced_info(base or {}, other or {}, mask)
    if np.ndim(known) == 0:  # of no single environment
        return known
    blank = np.full_like(known, None) if np.asarray(known).dtype == object else np.zeros_like(known)
    return replaced(blank if base is None else base, blank if other is None else other, mask)


def signals(reward: Any, terminated: Any, truncated: Any) -> tuple[NDArray[np.float64], Bools, Bools]:
    """Rewards and flags in their dtypes."""
    return (
        np.asarray(reward, np.float64),
        np.asarray(terminated, np.bool_),
        np.asarray(truncated, np.bool_),
    )
