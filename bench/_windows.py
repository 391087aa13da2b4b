"""How every contestant of bench_envs.py is timed, in this process or in one with packages of its own."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

HERE = Path(__file__).parent


def draw(space: gymnasium.Space[Any], num_envs: int, steps: int) -> list[np.ndarray]:
    """Random actions of every env, the same at each call."""
    random = np.random.default_rng(0)
    if isinstance(space, gymnasium.spaces.Discrete):
        return list(random.integers(0, space.n, (steps, num_envs)))
    assert isinstance(space, gymnasium.spaces.Box)
    shape = (steps, num_envs, *space.shape)
    return list(random.uniform(space.low, space.high, shape).astype(space.dtype))


class Stepper:
    """Steps a contestant with the same actions over and over.

    Args:
        step: called with an action at a time.
        actions: its arguments, in turn.
        env_steps: of one call.
        cores: that this thread, and with it threads and processes it starts later, may use.
        close: frees the contestant.
        pids: of processes that step for this one.
    """

    def __init__(
        self,
        step: Callable[[Any], Any],
        actions: Sequence[Any],
        env_steps: int,
        cores: Sequence[int],
        close: Callable[[], Any] = lambda: None,
        pids: Sequence[int] = (),
    ) -> None:
        self.close = close
        self._step, self._actions = step, itertools.cycle(actions)
        self._env_steps, self._cores, self._pids = env_steps, cores, pids
        self._calls = 1  # between two looks at the clock

    def window(self, seconds: float) -> tuple[float, float]:
        """Env-steps a second over at least this long, and processor microseconds of one."""
        os.sched_setaffinity(0, self._cores)
        step, calls = self._step, 0
        cpu, start = self._cpu(), time.perf_counter()
        now = start
        while now - start < seconds:
            for action in itertools.islice(self._actions, self._calls):
                step(action)
            calls += self._calls
            before, now = now, time.perf_counter()
            if now - before < seconds / 20:
                self._calls *= 2
        env_steps = calls * self._env_steps
        return env_steps / (now - start), (self._cpu() - cpu) / env_steps * 1e6

    def _cpu(self) -> float:
        others = (Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in self._pids)
        return time.process_time() + sum(map(int, others)) / 1e9


Contestants = dict[str, Stepper]
Trace = dict[str, Any]
"""``limit``, the steps of an episode at most or None, and transitions: ``obs``, ``action``, ``next_obs``, ``reward``,
``terminated``, a row each."""


def serve(
    versions: dict[str, str], make: Callable[[str, int], Contestants], trace: Callable[[str, int], Trace]
) -> None:
    """Answers a :class:`Peer`, line by line of JSON, until it ends.

    Args:
        versions: of the packages that matter.
        make: the contestants for an environment and a number of envs, none if the package has none.
        trace: transitions of an environment over some steps.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what packages print is no answer
    contestants: Contestants = {}
    for line in sys.stdin:
        question, *given = json.loads(line)
        answer: Any
        if question == "make":
            for contestant in contestants.values():
                contestant.close()
            contestants = make(*given)
            answer = list(contestants)
        elif question == "window":
            answer = contestants[given[0]].window(given[1])
        else:
            answer = versions if question == "versions" else trace(*given)
        print(json.dumps(answer), file=answers)


class Peer:
    """A process of a peer's own environment, whose windows are taken here in turn with others'."""

    def __init__(self, name: str, python: Path, cores: Sequence[int]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [python, HERE / "peers" / f"{name}_envs.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(HERE)},
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, *question: Any) -> Any:
        """The answer of :func:`serve`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            pass  # then there is no answer either
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.name}: failed at {question}, exit status {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
