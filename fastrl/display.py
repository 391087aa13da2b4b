"""The live display of a training run: progress, speed, time left, return, where the time goes.

On a terminal rich redraws a few lines in place; elsewhere (a pipe, a log file) a plain line now and then.
"""

import math
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment

RETURN = "rollout/ep_rew_mean"
LENGTH = "rollout/ep_len_mean"
_COLOURS = ("green", "cyan", "magenta", "yellow", "blue")
_BAR = 24
_WINDOW = 5.0


class Display:
    """A context manager that shows a run; call ``update`` after every iteration.

    It draws at most 8 times a second, and seldomer where drawing is slow, so that it takes at most 0.5 % of
    the time; other calls of ``update`` return at once.
    """

    def __init__(
        self, total_timesteps: int, title: str, *, initial_step: int = 0, console: "Console | None" = None
    ) -> None:
        """Prepare the display of steps ``initial_step`` (of a resumed run) to ``total_timesteps``.

        Args:
            total_timesteps: where the run ends, >= 1.
            title: what runs, as ``"PPO on CartPole-v1"``.
            initial_step: where it starts; speed and time left count from there.
            console: rich's console to draw on; None takes stdout.
        """
        self._total = total_timesteps
        self._title = title
        self._console = console
        self._first = initial_step
        self._step = initial_step
        self._metrics: dict[str, float] = {}
        self._shares: dict[str, float] = {}

    def __enter__(self) -> Self:
        """Start the clock."""
        if self._console is None and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console()
        screen = self._console
        self._terminal = screen is not None and screen.is_terminal and not screen.is_dumb_terminal
        if self._terminal:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._start = time.perf_counter()
        self._history = deque([(self._start, self._first)])
        self._next_time = self._start + (0.0 if self._terminal else _WINDOW)
        self._next_step = self._first + self._tenth()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show the last state, even after an error."""
        if self._terminal or self._history[-1][1] != self._step:
            self._show(time.perf_counter())
        if self._terminal:
            self._live.stop()

    def update(
        self, step: int, metrics: Mapping[str, float] | None = None, shares: Mapping[str, float] | None = None
    ) -> None:
        """Take the state of the run, and show it if it is time to.

        Args:
            step: environment steps taken so far.
            metrics: ``rollout/ep_rew_mean`` and ``rollout/ep_len_mean`` are shown first, ``train/...`` as
                diagnostics, others not; what is left out keeps its last value.
            shares: seconds by phase, as ``{"env": 1.2, "policy": 0.7, "update": 2.0}``; shown in percent.
        """
        self._step = step
        if metrics:
            self._metrics.update(metrics)
        if shares:
            self._shares.update(shares)
        now = time.perf_counter()
        if now >= self._next_time or (step >= self._next_step and not self._terminal):
            self._show(now)

    def _show(self, now: float) -> None:
        self._history.append((now, self._step))
        while len(self._history) > 2 and now - self._history[1][0] >= _WINDOW:
            self._history.popleft()
        if self._terminal:
            self._live.update(_Drawing(self._lines(now)), refresh=True)
            after = time.perf_counter()
            self._next_time = after + max(1 / 8, 200 * (after - now))
        else:
            self._print(now)
            self._next_time = now + _WINDOW
            self._next_step = self._step - (self._step - self._first) % self._tenth() + self._tenth()

    def _tenth(self) -> float:
        return max(1.0, (self._total - self._first) / 10)

    def _speeds(self, now: float) -> tuple[float, float, str]:
        """Steps a second in the last seconds and in the whole run, and the time left."""
        then, step = self._history[0]
        recent = (self._step - step) / max(now - then, 1e-9)
        average = (self._step - self._first) / max(now - self._start, 1e-9)
        return recent, average, _duration(max(0, self._total - self._step) / recent) if recent > 0 else "?"

    def _print(self, now: float) -> None:
        recent, _, left = self._speeds(now)
        line = f"{self._title}  {self._step / self._total:4.0%}  {self._step:,} steps"
        line += f"  {recent:,.0f} steps/s  {left} left"
        line += "".join(f"  {name} {value:,.1f}" for name, value in self._returns())
        if self._console:
            self._console.print(line, highlight=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def _returns(self) -> list[tuple[str, float]]:
        names = (("return", RETURN), ("length", LENGTH))
        return [(name, self._metrics[key]) for name, key in names if key in self._metrics]

    def _lines(self, now: float) -> list[list[tuple[str, str]]]:
        """The panel: lines of (text, colour)."""
        recent, average, left = self._speeds(now)
        done = min(1.0, self._step / self._total)
        filled = round(done * _BAR)
        lines = [
            [(f"{'─' * 2} {self._title} {'─' * (_BAR * 2 - len(self._title))}", "bright_black")],
            [
                _label("steps"),
                ("━" * filled, "green"),
                ("━" * (_BAR - filled), "bright_black"),
                (f" {done:4.0%}  {self._step:,} of {self._total:,}", ""),
            ],
            [_label("speed"), (f"{recent:,.0f} steps/s  (average {average:,.0f})", "")],
            [_label("time"), (f"{_duration(now - self._start)}  ({left} left)", "")],
        ]
        lines += [[_label(name), (f"{value:,.1f}", "bold")] for name, value in self._returns()]
        if sum(self._shares.values()) > 0:
            lines.append(self._spent())
        losses = [
            f"{key.removeprefix('train/')} {value:.3g}"
            for key, value in self._metrics.items()
            if key.startswith("train/")
        ]
        for i in range(0, len(losses), 3):
            lines.append([_label("" if i else "update"), ("  ".join(losses[i : i + 3]), "")])
        return lines

    def _spent(self) -> list[tuple[str, str]]:
        total = sum(self._shares.values())
        ends = [round(end / total * _BAR) for end in accumulate(self._shares.values(), initial=0.0)]
        colours = [_COLOURS[i % len(_COLOURS)] for i in range(len(self._shares))]
        bar = [
            ("━" * (end - begin), colour)
            for (begin, end), colour in zip(pairwise(ends), colours, strict=True)
        ]
        legend = [
            (f"  {phase} {seconds / total:.0%}", colour)
            for (phase, seconds), colour in zip(self._shares.items(), colours, strict=True)
        ]
        return [_label("spent in"), *bar, *legend]


class _Drawing:
    """Lines as rich's segments: 30 times cheaper than its panels and tables."""

    def __init__(self, lines: list[list[tuple[str, str]]]) -> None:
        self._lines = lines

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Segment]":
        from rich.segment import Segment
        from rich.style import Style

        for line in self._lines:
            for text, colour in line:
                yield Segment(text, Style.parse(colour))
            yield Segment.line()


def _label(text: str) -> tuple[str, str]:
    return f"{text:<10}", "bright_black"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
