"""Learning curves: the right lines, labels and files, no pyplot, errors that say what is missing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastrl import plotting
from fastrl.logging import LogError, RunLogger
from fastrl.plotting import learning_curve
from fastrl.statistics import bootstrap_interval, iqm


def make_run(path: Path, returns: list[float], every: int = 1000) -> Path:
    log = RunLogger(path, tensorboard=False)
    for i, value in enumerate(returns):
        log.log(i * every, {"rollout/ep_rew_mean": value, "time/seconds": 60.0 * i})
    log.close()
    return path


def test_one_run_becomes_a_png(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [float("nan"), *np.linspace(0, 500, 50)])
    out = learning_curve([run], tmp_path / "plots" / "curve.png", title="PPO on CartPole-v1", threshold=475)
    assert out == tmp_path / "plots" / "curve.png"
    data = out.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(data[16:20], "big") == 1050


def test_svg_names_axes_units_title_and_is_reproducible(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", list(np.linspace(0, 500, 50)))
    one = learning_curve([run], tmp_path / "one.svg", title="PPO on CartPole-v1", threshold=475).read_text()
    for text in ("PPO on CartPole-v1", "environment steps (thousands)", "episode return", "threshold 475"):
        assert text in one
    other = learning_curve([run], tmp_path / "two.svg", title="PPO on CartPole-v1", threshold=475).read_text()
    assert one == other
    timed = learning_curve([run], tmp_path / "time.svg", x="time").read_text()
    assert "wall-clock time (minutes)" in timed
    assert "%PDF" in learning_curve([run], tmp_path / "curve.pdf").read_bytes()[:8].decode()


def test_one_run_is_shown_raw_and_smoothed() -> None:
    xs, ys = np.arange(60.0), np.arange(60.0) ** 2
    axes = plotting._figure({"": [(xs, ys)]}, "steps", "loss", None, None, None).axes[0]
    raw, smooth = axes.lines
    np.testing.assert_array_equal(raw.get_ydata(), ys)
    expected = [ys[max(0, i - 1) : i + 2].mean() for i in range(60)]  # 60 // 20 = 3 rows, centred
    np.testing.assert_allclose(smooth.get_ydata(), expected)
    assert axes.get_xlabel() == "environment steps"
    assert axes.get_ylabel() == "loss"


def test_seeds_are_summed_up_by_iqm_and_interval_up_to_the_shortest() -> None:
    rng = np.random.default_rng(0)
    curves = [(np.arange(n) * 1e5, rng.normal(size=n).cumsum()) for n in (41, 45, 51, 47, 43)]
    axes = plotting._figure({"": curves}, "steps", "rollout/ep_rew_mean", None, None, None).axes[0]
    *seeds, middle = axes.lines
    assert len(seeds) == 5
    assert axes.get_xlabel() == "environment steps (millions)"
    grid = np.asarray(middle.get_xdata())
    assert (grid[0], grid[-1]) == (0, pytest.approx(4.0))
    at_end = [np.interp(4e6, xs, ys) for xs, ys in curves]
    assert np.asarray(middle.get_ydata())[-1] == pytest.approx(iqm(at_end))
    band = axes.collections[0].get_paths()[0].vertices
    at_grid_end = band[np.isclose(band[:, 0], 4.0), 1]
    low, high = bootstrap_interval(at_end)
    assert (at_grid_end.min(), at_grid_end.max()) == pytest.approx((low, high))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [1.0, 2.0])
    with pytest.raises(ValueError, match="has no column train/loss; it has step, rollout/ep_rew_mean"):
        learning_curve([run], tmp_path / "x.png", y="train/loss")
    with pytest.raises(ValueError, match=r"out must end in \.png, \.svg or \.pdf, got x\.gif"):
        learning_curve([run], tmp_path / "x.gif")
    with pytest.raises(ValueError, match="x must be steps or time, got epochs"):
        learning_curve([run], tmp_path / "x.png", x="epochs")
    with pytest.raises(ValueError, match="must name at least one run"):
        learning_curve([], tmp_path / "x.png")
    with pytest.raises(LogError, match="cannot read"):
        learning_curve([tmp_path], tmp_path / "x.png")
    with pytest.raises(ValueError, match="has no finite value of rollout/ep_rew_mean yet"):
        learning_curve([make_run(tmp_path / "nan", [float("nan")])], tmp_path / "x.png")
    far = make_run(tmp_path / "far", [1.0])
    near = RunLogger(tmp_path / "near", tensorboard=False)
    near.log(5, {"rollout/ep_rew_mean": 1.0})
    near.close()
    with pytest.raises(ValueError, match="share no range of x"):
        learning_curve([far, tmp_path / "near"], tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_matplotlib_comes_late_and_pyplot_never(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [1.0, 2.0, 3.0])
    script = """if True:
        import sys, fastrl.plotting
        assert "matplotlib" not in sys.modules
        fastrl.plotting.learning_curve([sys.argv[1]], sys.argv[2])
        assert "matplotlib.pyplot" not in sys.modules
    """
    command = [sys.executable, "-W", "error", "-c", script, str(run), str(tmp_path / "curve.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
