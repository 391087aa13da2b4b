"""The only training loop: batches to updates, with logs, evaluations, checkpoints and clean interruption."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastrl import checkpoint
from fastrl.evaluate import evaluate

if TYPE_CHECKING:
    from fastrl.algorithms.base import Algorithm, Callback

LOG_ROWS = 500
"""About how many rows a run's logs get."""


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM arrived; the batch under way was finished and, with a run folder, logged and
    checkpointed.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


def train(
    agent: "Algorithm",
    *,
    callback: "Callback | None" = None,
    progress: bool = False,
    log_dir: Path | None = None,
    eval_interval: int | None = None,
    eval_episodes: int = 20,
    checkpoint_interval: int | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Update ``agent`` with batches of its source until ``agent.total_timesteps``; see
    :meth:`Algorithm.learn`.

    ``stop``, if given, ends the run as a signal does: it is how runs in threads are interrupted.

    Raises:
        ValueError: an interval or number of episodes < 1, or evaluations of what cannot be made again.
    """
    run = _Run(agent, log_dir, eval_interval, eval_episodes, checkpoint_interval)
    agent.source.on_step = getattr(callback, "on_step", None)
    with ExitStack() as stack:
        stack.callback(setattr, agent.source, "on_step", None)
        caught = stack.enter_context(signals())
        stack.enter_context(run)
        display = None
        if progress:
            from fastrl.display import Display

            title = f"{agent.name()} on {agent.env_id}"
            shown = Display(agent.total_timesteps, title, initial_step=agent.num_timesteps)
            display = stack.enter_context(shown)
        while agent.num_timesteps < agent.total_timesteps:
            metrics = run.iterate()
            if display is not None:
                display.update(agent.num_timesteps, metrics, run.seconds)
            if caught or (stop is not None and stop.is_set()):
                run.interrupt()
                raise Interrupted(caught[0] if caught else signal.SIGINT)
            if callback is not None and callable(callback) and callback(agent, metrics) is False:
                break
        run.finish()


class _Run:
    """One run's counters and its folder."""

    def __init__(
        self,
        agent: "Algorithm",
        log_dir: Path | None,
        eval_interval: int | None,
        eval_episodes: int,
        checkpoint_interval: int | None,
    ) -> None:
        require_counts(eval_interval, eval_episodes, checkpoint_interval)
        if eval_interval is not None and agent.env_source is None:
            raise ValueError(
                f"learn: eval_interval must be None: nothing known makes environments as {agent.env_id} again"
            )
        agent.intervals = {
            "eval_interval": eval_interval,
            "eval_episodes": eval_episodes,
            "checkpoint_interval": checkpoint_interval,
        }
        self.agent = agent
        self.log_dir = log_dir
        self.eval_episodes = eval_episodes
        tenth = max(1, agent.total_timesteps // 10)
        self.eval_interval = eval_interval or (tenth if log_dir and agent.env_source is not None else 0)
        self.checkpoint_interval = checkpoint_interval or tenth
        self.log_interval = max(1, agent.total_timesteps // LOG_ROWS)
        self.seconds = {"env": 0.0, "policy": 0.0, "update": 0.0}
        """Time spent by phase since the run began."""

    def __enter__(self) -> "_Run":
        agent = self.agent
        self.started = time.perf_counter() - agent.seconds
        self.logged = self.saved = self.evaluated = agent.num_timesteps
        self.metrics: dict[str, float] = {}
        self.logger = None
        if self.log_dir is not None:
            from fastrl.logging import RunLogger
            from fastrl.runs import write_settings

            self.logger = RunLogger(self.log_dir, resume_step=agent.num_timesteps or None)
            write_settings(self.log_dir, agent.name(), agent.env_id, asdict(agent.config))
            if checkpoint.latest(self.log_dir) is None:
                self.save()
        return self

    def __exit__(self, *_: object) -> None:
        if self.logger is not None:
            self.logger.close()

    def iterate(self) -> dict[str, float]:
        """One batch: collect, update, then what is due of evaluation, log and checkpoint."""
        agent = self.agent
        batch = agent.source.next()
        start = time.perf_counter()
        # environments in NEXT_STEP mode may all have done nothing but reset themselves
        metrics = agent.update(batch) if batch.samples else {}
        for name, value in metrics.items():
            if not np.isfinite(value):
                raise FloatingPointError(f"{name} is {value} after step {agent.num_timesteps}")
        self.seconds["update"] += time.perf_counter() - start
        for phase, seconds in batch.seconds.items():
            self.seconds[phase] += seconds
        agent.num_timesteps += agent.source.steps
        agent.episodes.extend(zip(batch.episode_return, batch.episode_length, strict=True))
        step = agent.num_timesteps
        metrics |= self._summary()
        if self.eval_interval and step // self.eval_interval > self.evaluated // self.eval_interval:
            metrics |= self._evaluate()
        self.metrics = metrics
        if step // self.log_interval > self.logged // self.log_interval:
            self._log()
        if self.log_dir and step // self.checkpoint_interval > self.saved // self.checkpoint_interval:
            self.save()
        return metrics

    def save(self) -> None:
        """Write a checkpoint of this moment, if there is a run folder."""
        if self.log_dir is None:
            return
        if self.saved == self.agent.num_timesteps and checkpoint.latest(self.log_dir):
            return
        checkpoint.write(
            self.log_dir,
            self.agent.num_timesteps,
            self.agent.checkpoint_state(),
            algorithm=self.agent.name(),
        )
        self.saved = self.agent.num_timesteps

    def finish(self) -> None:
        """Evaluate, log and checkpoint the last batch, if that is not done."""
        if self.eval_interval and self.evaluated != self.agent.num_timesteps:
            self.metrics |= self._evaluate()
        self.interrupt()

    def interrupt(self) -> None:
        """Log and checkpoint the last batch, if that is not done."""
        if self.logged != self.agent.num_timesteps:
            self._log()
        self.save()

    def _summary(self) -> dict[str, float]:
        agent = self.agent
        agent.seconds = time.perf_counter() - self.started
        metrics = {
            "time/seconds": agent.seconds,
            "time/steps_per_second": agent.num_timesteps / agent.seconds,
        }
        if agent.episodes:
            returns, lengths = zip(*agent.episodes, strict=True)
            metrics["rollout/ep_rew_mean"] = float(np.mean(returns))
            metrics["rollout/ep_len_mean"] = float(np.mean(lengths))
        return metrics

    def _evaluate(self) -> dict[str, float]:
        agent = self.agent
        result = evaluate(agent, self.eval_episodes)
        self.evaluated = agent.num_timesteps
        if agent.best_evaluation is None or result.mean >= agent.best_evaluation:
            agent.best_evaluation = result.mean
            if self.log_dir is not None:
                self.saved = -1  # the state has a new best evaluation
                self.save()
                checkpoint.mark_best(self.log_dir, agent.num_timesteps)
        return {"eval/mean_reward": result.mean, "eval/std_reward": result.std}

    def _log(self) -> None:
        if self.logger is None:
            return
        total = sum(self.seconds.values()) or 1.0
        shares = {f"time/{phase}_share": seconds / total for phase, seconds in self.seconds.items()}
        self.logger.log(self.agent.num_timesteps, self.metrics | shares)
        self.logged = self.agent.num_timesteps


def require_counts(
    eval_interval: int | None, eval_episodes: int | None, checkpoint_interval: int | None, threads: int = 1
) -> None:
    """Raise ValueError unless all that are given are >= 1."""
    for name, value in (
        ("eval_interval", eval_interval),
        ("eval_episodes", eval_episodes),
        ("checkpoint_interval", checkpoint_interval),
        ("threads", threads),
    ):
        if value is not None and value < 1:
            raise ValueError(f"learn: {name} must be >= 1, got {value}")


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list that SIGINT and SIGTERM append to while the context lasts; outside the main thread it stays
    empty.
    """
    caught: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return

    def remember(signum: int, _: object) -> None:
        if caught:  # a second one does not wait for the batch
            raise KeyboardInterrupt
        caught.append(signum)

    before = {signum: signal.signal(signum, remember) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
