"""Several seeds of one run in one process: threads, since the kernels release the GIL."""

import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fastrl import loop
from fastrl.algorithms.base import Algorithm, Metrics


def learn_seeds(
    agents: Sequence[Algorithm],
    folders: Sequence[Path | None],
    *,
    threads: int = 2,
    progress: bool = False,
    **arguments: Any,
) -> None:
    """Train each agent to its own total, ``threads`` at a time; each result equals that of a run alone.

    Args:
        agents: usually the same algorithm with several seeds.
        folders: a run folder, or None, for each.
        threads: how many train at a time.
        progress: whether to show a bar for each.
        arguments: ``eval_interval``, ``eval_episodes`` and ``checkpoint_interval`` as in ``Algorithm.learn``.

    Raises:
        ValueError: ``threads`` < 1. Whatever the first failing run raises, after the others have stopped.
        KeyboardInterrupt: on SIGINT or SIGTERM, after all runs have checkpointed.
    """
    if threads < 1:
        raise ValueError(f"learn_seeds: threads must be >= 1, got {threads}")
    stop = threading.Event()
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[mean]}"),
        TimeRemainingColumn(),
    )
    with loop.signals() as caught, bars if progress else nullcontext():

        def run(agent: Algorithm, folder: Path | None) -> None:
            name = f"seed {agent.config.seed}"
            task = bars.add_task(name, total=agent.total_timesteps, mean="")

            def show(agent: Algorithm, metrics: Metrics) -> None:
                mean = metrics.get("rollout/ep_rew_mean", float("nan"))
                bars.update(task, completed=agent.num_timesteps, mean=f"return {mean:6.1f}")

            loop.train(agent, callback=show, progress=False, log_dir=folder, stop=stop, **arguments)

        with ThreadPoolExecutor(threads, thread_name_prefix="seed") as pool:
            futures = [pool.submit(run, *pair) for pair in zip(agents, folders, strict=True)]
            try:
                pending = set(futures)
                while pending:
                    done, pending = wait(pending, timeout=0.1, return_when=FIRST_EXCEPTION)
                    for future in done:
                        future.result()
                    if caught:
                        raise loop.Interrupted(caught[0])
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
