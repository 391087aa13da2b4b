"""``fastrl plot``: which runs make one curve, what the figure says, errors that name the folder."""

import itertools
import json

import numpy as np
import pytest

import fastrl
from fastrl import loop
from fastrl.cli import main
from fastrl.logging import RunLogger
from fastrl.plotting import _figure
from fastrl.runs import find_runs, group_runs


def make_run(path, *, seed=0, slope=1.0, config=True, metric="rollout/ep_rew_mean", **fields):
    log = RunLogger(path, tensorboard=False)
    for i in range(20):
        log.log(i * 1000, {metric: slope * i + seed, "time/seconds": 60.0 * i})
    log.close()
    if config:
        settings = {"algorithm": "PPO", "env": "CartPole-v1", "version": "1", "seed": seed, "gamma": 0.99}
        (path / "config.json").write_text(json.dumps(settings | fields))
    return path


def plot(capsys, *words):
    assert main(["plot", *map(str, words)]) == 0
    return capsys.readouterr().out


def test_runs_group_by_what_is_no_seed(tmp_path):
    near = [make_run(tmp_path / f"near{seed}", seed=seed) for seed in range(3)]
    far = make_run(tmp_path / "far", gamma=0.9, version="2")
    bare = make_run(tmp_path / "bare", config=False)
    groups = group_runs([*near, far, bare])
    assert groups == {
        "PPO CartPole-v1 gamma=0.99": near,
        "PPO CartPole-v1 gamma=0.9": [far],
        str(bare): [bare],
    }
    assert group_runs(near) == {"": near}
    assert list(group_runs([*near, far])) == ["gamma=0.99", "gamma=0.9"]


def test_a_repeated_seed_counts_once(tmp_path, capsys):
    old, new = (make_run(tmp_path / name, seed=4) for name in ("old", "new"))
    other = make_run(tmp_path / "other", seed=5)
    assert group_runs([old, other, new]) == {"": [new, other]}
    out = plot(capsys, old, other, new, "--out", tmp_path / "x.svg")
    assert "left out, as later runs repeat their seeds: 1" in out


def test_a_folder_of_seeds_counts_as_its_seeds(tmp_path):
    runs = [make_run(tmp_path / f"seed{seed}", seed=seed) for seed in (0, 2, 10)]
    (tmp_path / "seed3").mkdir()
    (tmp_path / "seeds").mkdir()
    assert find_runs([tmp_path]) == runs
    assert find_runs([tmp_path, tmp_path / "seed2"]) == runs


def test_several_groups_in_one_figure(tmp_path, capsys):
    for seed in range(3):
        make_run(tmp_path / "a" / f"seed{seed}", seed=seed)
    make_run(tmp_path / "b", gamma=0.9)
    out = tmp_path / "plots" / "curves.svg"
    printed = plot(capsys, tmp_path / "a", tmp_path / "b", "--out", out, "--smooth", "3")
    assert f"gamma=0.99: 3 runs\ngamma=0.9: 1 run\nlearning curves: {out}\n" == printed
    text = out.read_text()
    for words in (
        "PPO on CartPole-v1",
        "gamma=0.99 (3 seeds)",
        "gamma=0.9<",
        "threshold 475",
        "interquartile mean and 95 % bootstrap interval",
    ):
        assert words in text
    plot(capsys, tmp_path / "a", "--out", out, "--x", "time")
    text = out.read_text()
    assert "interquartile mean of 3 seeds" in text
    assert "wall-clock time (minutes)" in text
    make_run(tmp_path / "c", env="Acrobot-v1")
    plot(capsys, tmp_path / "b", tmp_path / "c", "--out", out)
    assert "threshold" not in out.read_text()


def test_time_is_a_column_of_real_runs(tmp_path, capsys, monkeypatch):
    clock = itertools.count()  # of a real one the runs may share no time
    monkeypatch.setattr(loop.time, "perf_counter", lambda: next(clock))
    small = {"num_envs": 4, "num_steps": 16, "minibatch_size": 32, "hidden": (8,), "total_timesteps": 640}
    for seed in range(2):
        fastrl.PPO("CartPole-v1", **small, seed=seed).learn(log_dir=tmp_path / f"run{seed}")
    out = plot(capsys, tmp_path / "run0", tmp_path / "run1", "--out", tmp_path / "x.svg", "--x", "time")
    assert "2 runs" in out


def test_default_file_and_formats(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run")
    plot(capsys, "run")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    plot(capsys, "run", "--out", "curves.pdf", "--y", "time/seconds")
    assert (tmp_path / "curves.pdf").read_bytes().startswith(b"%PDF")


def test_what_is_wrong_is_named(tmp_path, capsys):
    run, other = make_run(tmp_path / "run"), make_run(tmp_path / "other", metric="loss", gamma=0.9)
    damaged = make_run(tmp_path / "damaged")
    (damaged / "config.json").write_text("{")
    out = ["--out", str(tmp_path / "x.png")]
    for words, message in (
        ([str(tmp_path)], f"{tmp_path} is no run: it has no progress.csv, nor seed0, seed1"),
        ([], "must name at least one run"),
        (
            [str(run), str(other)],
            f"{other} has no column rollout/ep_rew_mean; all runs have step, time/seconds",
        ),
        ([str(run), "--y", "loss"], "has no column loss; it has step, rollout/ep_rew_mean"),
        ([str(run), "--smooth", "0"], "smooth must be >= 1, got 0"),
        ([str(run), "--out", "x.gif"], "out must end in .png, .svg or .pdf"),
        ([str(damaged)], "config.json is damaged"),
    ):
        assert main(["plot", *out, *words]) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(("smooth", "swing"), [(1, 1.0), (5, 0.2)])
def test_smooth_reaches_single_runs_and_means(smooth, swing):
    curve = (np.arange(21.0), np.arange(21) % 2 * 1.0)  # a zigzag of height 1
    axes = _figure({"one": [curve], "three": [curve] * 3}, "steps", "loss", smooth, None, None).axes[0]
    for line in axes.lines:
        inside = line.get_ydata()[len(line.get_ydata()) // 4 : -len(line.get_ydata()) // 4]
        assert np.ptp(inside) == pytest.approx(swing, abs=0.1)
