"""Whether a vector environment keeps Gymnasium's contract, told by one that does."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode

Maker = Callable[[AutoresetMode], gymnasium.vector.VectorEnv[Any, Any, Any]]


def check_vector_env(
    make: Maker, reference: Maker, *, modes: Iterable[AutoresetMode] = tuple(AutoresetMode), steps: int = 300
) -> None:
    """Runs a vector environment beside one that is right, and raises where they first differ.

    Compared bit for bit, with types, dtypes, shapes and keys: attributes; observations, rewards, flags and
    infos of resets with every kind of seed, of random steps and of resets by mask. Besides, nothing
    that was returned may change later, ``options`` may not be modified, and a closed environment must say so.

    Args:
        make: makes the environment that is checked, in an autoreset mode; must return copies.
        reference: makes what it must equal, as a rule ``SyncVectorEnv`` over the environment.
        modes: autoreset modes to check.
        steps: random steps in each mode. Episodes must end within them for autoreset to be checked.

    Raises:
        AssertionError: names the mode, the call and the first difference.
    """
    for mode in modes:
        checked, right = make(mode), reference(mode)
        try:
            _Pair(checked, right, mode).run(steps)
        finally:
            right.close()
            checked.close()
        _require_closed(f"{mode.value}: reset", checked.reset)
        _require_closed(f"{mode.value}: step", partial(checked.step, right.action_space.sample()))


def _require_closed(name: str, call: Callable[[], Any]) -> None:
    rule = f"{name} after close must raise ClosedEnvironmentError"
    try:
        call()
    except ClosedEnvironmentError:
        return
    except Exception as error:
        raise AssertionError(f"{rule}, it raised {error!r}") from error
    raise AssertionError(f"{rule}, it ran")


class _Pair:
    def __init__(self, checked: Any, right: Any, mode: AutoresetMode) -> None:
        self.checked = checked
        self.right = right
        self.mode = mode
        self.history: list[tuple[str, Any, Any]] = []
        """What was returned last, and a deep copy made then."""
        self.done = np.zeros(right.num_envs, bool)

    def run(self, steps: int) -> None:
        n = self.right.num_envs
        random = np.random.default_rng(0)
        self.right.action_space.seed(0)
        names = [
            "num_envs",
            "single_observation_space",
            "single_action_space",
            "observation_space",
            "action_space",
        ]
        for name in [*names, "render_mode"]:
            self.compare(name, getattr(self.checked, name), getattr(self.right, name))
        for key in ("autoreset_mode", "render_fps"):
            self.compare(f"metadata[{key!r}]", self.checked.metadata.get(key), self.right.metadata.get(key))
        for seed in (3, None, [7] * n, [None if i % 2 else 2**40 + i for i in range(n)], 11):
            self.reset(f"reset(seed={seed})", seed)
            for _ in range(3):
                self.step("the steps after it")
        for step in range(steps):
            if self.mode is AutoresetMode.DISABLED and self.done.any():
                self.reset(f"reset of finished envs at step {step}", None, self.done)
            if step % 20 == 19:
                mask = random.random(n) < 0.4
                mask[step % n] = True
                seed = [None, step, list(range(n))][step // 20 % 3]
                self.reset(f"reset(seed={seed}) by mask at step {step}", seed, mask | self.finished())
            self.step(f"step {step}")

    def finished(self) -> Any:
        return self.done if self.mode is AutoresetMode.DISABLED else np.zeros_like(self.done)

    def reset(self, call: str, seed: Any, mask: Any = None) -> None:
        options, theirs = (
            ({"reset_mask": mask.copy()}, {"reset_mask": mask.copy()}) if mask is not None else (None,) * 2
        )
        result = self.checked.reset(seed=seed, options=options)
        self.compare(call, result, self.right.reset(seed=seed, options=theirs))
        if options is not None:
            self.compare(f"options given to {call}, later,", options, {"reset_mask": mask})
        self.done = self.done & ~mask if mask is not None else np.zeros_like(self.done)
        self.remember(call, result)

    def step(self, call: str) -> None:
        if self.mode is AutoresetMode.DISABLED and self.done.any():
            self.reset(f"reset before {call}", None, self.done)
        actions = self.right.action_space.sample()
        result = self.checked.step(actions)
        self.compare(call, result, self.right.step(actions))
        self.done = result[2] | result[3]
        self.remember(call, result)

    def remember(self, call: str, result: Any) -> None:
        self.history = self.history[-3:]
        for earlier, live, kept in self.history:
            self.compare(f"result of {earlier}, after {call},", live, kept)
        self.history.append((call, result, _copy(result)))

    def compare(self, call: str, got: Any, expected: Any) -> None:
        found = difference(got, expected)
        if found is not None:
            raise AssertionError(f"{self.mode.value}: {call}: {found}")


def difference(got: Any, expected: Any, where: str = "value") -> str | None:
    """The first difference of two nested results, None if there is none: type, dtype, shape, keys, bytes."""
    if isinstance(expected, np.ndarray) and isinstance(got, np.ndarray):
        if (got.dtype, got.shape) != (expected.dtype, expected.shape):
            return (
                f"{where} must be {expected.dtype} {list(expected.shape)}, got {got.dtype} {list(got.shape)}"
            )
        if expected.dtype == object:
            return _first(
                difference(a, b, f"{where}[{i}]")
                for i, (a, b) in enumerate(zip(got.flat, expected.flat, strict=True))
            )
        return None if got.tobytes() == expected.tobytes() else f"{where} must be {expected}, got {got}"
    if type(got) is not type(expected):
        return f"{where} must be a {type(expected).__name__}, got {type(got).__name__} {got!r}"
    if isinstance(expected, dict):
        if got.keys() != expected.keys():
            return f"keys of {where} must be {list(expected)}, got {list(got)}"
        return _first(difference(got[key], expected[key], f"{where}[{key!r}]") for key in expected)
    if isinstance(expected, tuple | list):
        if len(got) != len(expected):
            return f"{where} must have {len(expected)} items, got {len(got)}"
        return _first(
            difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(got, expected, strict=True))
        )
    same = got == expected or (got != got and expected != expected)  # NaN
    return None if same else f"{where} must be {expected!r}, got {got!r}"


def _first(found: Iterable[str | None]) -> str | None:
    return next((one for one in found if one is not None), None)


def _copy(tree: Any) -> Any:
    if isinstance(tree, np.ndarray) and tree.dtype != object:
        return tree.copy()
    if isinstance(tree, dict):
        return {key: _copy(value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_copy(value) for value in tree)
    return tree
