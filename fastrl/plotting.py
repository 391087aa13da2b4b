"""Learning curves from the ``progress.csv`` of runs. matplotlib is imported on first use, without pyplot."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastrl.logging import read_csv
from fastrl.statistics import bootstrap_interval, iqm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]

ACCENT, MUTED = "#2563eb", "#94a3b8"
_COLOURS = (ACCENT, "#ea580c", "#16a34a", "#9333ea", "#0891b2", "#ca8a04", "#db2777", "#475569")
_DASHES = ("solid", "dashed", "dotted")
_POINTS = 200
_COLUMNS = {"steps": "step", "time": "time/seconds"}
_UNITS = {
    "steps": ("environment steps", ((1e6, " (millions)"), (1e3, " (thousands)"), (1.0, ""))),
    "time": ("wall-clock time", ((3600.0, " (hours)"), (60.0, " (minutes)"), (1.0, " (seconds)"))),
}
_LABELS = {
    "rollout/ep_rew_mean": "episode return (mean of the last episodes)",
    "rollout/ep_len_mean": "episode length (steps, mean of the last episodes)",
    "eval/mean_reward": "evaluation return",
    "time/steps_per_second": "environment steps per second",
}


def learning_curve(
    runs: Sequence[Path | str] | Mapping[str, Sequence[Path | str]],
    out: Path | str,
    *,
    x: str = "steps",
    y: str = "rollout/ep_rew_mean",
    smooth: int | None = None,
    title: str | None = None,
    threshold: float | None = None,
) -> Path:
    """Draw the learning curve of one run, of several seeds of one experiment, or of several experiments, to a
    PNG, SVG or PDF file.

    One run: its values, and their centred moving average. Several: thin lines of each, their interquartile
    mean and its 95 % bootstrap interval over seeds, as far as the shortest run goes. Several experiments: the
    same without the thin lines, a colour each.

    Args:
        runs: run folders; of several experiments, those of each under its label (see ``group_runs``).
        out: the file; its suffix is the format. Missing folders are made.
        x: ``"steps"``, or ``"time"`` for column ``time/seconds`` (seconds).
        y: a column of ``progress.csv``.
        smooth: rows that the moving average goes over; default: a twentieth of a single run, else 1.
        title: above the plot.
        threshold: draw a dashed line here, as the return at which the task counts as solved.

    Raises:
        ValueError: no runs, no such column or format, no values, or runs that share no range of x.
        LogError: a run has no readable ``progress.csv``.
    """
    out = Path(out)
    if out.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"plot: out must end in .png, .svg or .pdf, got {out.name}")
    if x not in _COLUMNS:
        raise ValueError(f"plot: x must be steps or time, got {x}")
    if smooth is not None and smooth < 1:
        raise ValueError(f"plot: smooth must be >= 1, got {smooth}")
    groups = runs if isinstance(runs, Mapping) else {"": runs}
    if not groups or not all(groups.values()):
        raise ValueError("plot: runs must name at least one run folder")
    tables = {Path(run): read_csv(run) for group in groups.values() for run in group}
    _require_columns(tables, (_COLUMNS[x], y))
    curves = {
        label: [_curve(Path(run), tables[Path(run)], _COLUMNS[x], y) for run in group]
        for label, group in groups.items()
    }
    figure = _figure(curves, x, y, smooth, title, threshold)
    out.parent.mkdir(parents=True, exist_ok=True)
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "fastrl"}):
        figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


def _require_columns(tables: Mapping[Path, Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    shared = [name for name in next(iter(tables.values())) if all(name in table for table in tables.values())]
    whose = "it has" if len(tables) == 1 else "all runs have"
    for run, table in tables.items():
        for column in columns:
            if column not in table:
                raise ValueError(f"plot: {run} has no column {column}; {whose} {', '.join(shared)}")


def _curve(run: Path, table: Mapping[str, NDArray[Any]], x: str, y: str) -> Curve:
    shown = np.isfinite(table[x]) & np.isfinite(table[y])
    if not shown.any():
        raise ValueError(f"plot: {run} has no finite value of {y} yet")
    return table[x][shown].astype(np.float64), table[y][shown]


def _figure(
    groups: Mapping[str, list[Curve]],
    x: str,
    y: str,
    smooth: int | None,
    title: str | None,
    threshold: float | None,
) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    name, units = _UNITS[x]
    end = max(xs[-1] for curves in groups.values() for xs, _ in curves)
    scale, unit = next((scale, unit) for scale, unit in units if end >= 2 * scale or scale == 1)
    for i, (label, curves) in enumerate(groups.items()):
        scaled = [(xs / scale, ys) for xs, ys in curves]
        if len(groups) > 1:
            _draw_group(axes, scaled, smooth, label, i)
        elif len(scaled) == 1:
            _draw_run(axes, *scaled[0], smooth)
        else:
            _draw_seeds(axes, scaled, smooth)
    if threshold is not None:
        axes.axhline(
            threshold, color="black", linewidth=1, linestyle=(0, (4, 3)), label=f"threshold {threshold:g}"
        )
    axes.set_xlabel(name + unit)
    axes.set_ylabel(_LABELS.get(y, y))
    if title:
        axes.set_title(title, loc="left", fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.margins(x=0.01)
    if len(groups) == 1:
        axes.legend(frameon=False, loc="best")
    else:
        _legend_below(figure, axes, any(len(curves) > 1 for curves in groups.values()))
    return figure


def _legend_below(figure: "Figure", axes: "Axes", seeds: bool) -> None:
    """Labels of experiments are long: they get a line or more each, and the figure the height for them."""
    handles, labels = axes.get_legend_handles_labels()
    wrapped = [textwrap.fill(label, 80) for label in labels]
    figure.set_figheight(figure.get_figheight() + 0.19 * (1 + "\n".join(wrapped).count("\n") + 1))
    figure.legend(
        handles,
        wrapped,
        frameon=False,
        loc="outside lower left",
        title="interquartile mean and 95 % bootstrap interval" if seeds else None,
        alignment="left",
        fontsize="small",
        title_fontsize="small",
    )


def _draw_run(axes: "Axes", xs: NDArray[np.float64], ys: NDArray[np.float64], smooth: int | None) -> None:
    window = smooth or _window(ys)
    axes.plot(xs, ys, color=ACCENT, alpha=0.3, linewidth=0.8, label="logged")
    axes.plot(xs, _smoothed(ys, window), color=ACCENT, linewidth=1.8, label=f"mean of {window} rows")


def _draw_seeds(axes: "Axes", curves: list[Curve], smooth: int | None) -> None:
    for i, (xs, ys) in enumerate(curves):
        axes.plot(xs, ys, color=MUTED, alpha=0.6, linewidth=0.7, label="each seed" if i == 0 else None)
    grid, middle, low, high = _summary(curves, smooth)
    axes.fill_between(grid, low, high, color=ACCENT, alpha=0.2, linewidth=0, label="95 % bootstrap interval")
    label = f"interquartile mean of {len(curves)} seeds"
    axes.plot(grid, middle, color=ACCENT, linewidth=1.8, label=label)


def _draw_group(axes: "Axes", curves: list[Curve], smooth: int | None, label: str, index: int) -> None:
    colour, dashes = _COLOURS[index % len(_COLOURS)], _DASHES[index // len(_COLOURS) % len(_DASHES)]
    if len(curves) == 1:
        grid, ys = curves[0]
        middle = _smoothed(ys, smooth or _window(ys))
    else:
        grid, middle, low, high = _summary(curves, smooth)
        axes.fill_between(grid, low, high, color=colour, alpha=0.2, linewidth=0)
        label = f"{label} ({len(curves)} seeds)"
    axes.plot(grid, middle, color=colour, linestyle=dashes, linewidth=1.8, label=label)


def _summary(curves: list[Curve], smooth: int | None) -> tuple[NDArray[np.float64], ...]:
    """Common grid, interquartile mean over the curves, lower and upper end of its interval."""
    begin, end = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
    if begin > end:
        raise ValueError("plot: the runs share no range of x")
    grid = np.linspace(begin, end, _POINTS)
    values = np.array([np.interp(grid, xs, _smoothed(ys, smooth or 1)) for xs, ys in curves])
    low, high = np.array([bootstrap_interval(column) for column in values.T]).T
    return grid, iqm(values, axis=0), low, high


def _window(ys: NDArray[np.float64]) -> int:
    return max(1, len(ys) // 20)


def _smoothed(ys: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Centred moving average; near the ends, over the part of the window that exists."""
    sums = np.concatenate([[0.0], np.cumsum(ys)])
    index = np.arange(len(ys))
    begin = np.maximum(0, index - window // 2)
    end = np.minimum(len(ys), index + (window + 1) // 2)
    means: NDArray[np.float64] = (sums[end] - sums[begin]) / (end - begin)
    return means
