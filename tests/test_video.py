"""Videos: the episodes that evaluate plays, whole files in the right format, errors that name the package."""

import gymnasium
import numpy as np
import pytest
from PIL import Image, ImageSequence

import fastrl
from fastrl import extras, video
from fastrl.cli import main
from fastrl.envs import VectorEnv
from fastrl.envs.examples import Catch
from fastrl.envs.wrappers import ScaleReward
from fastrl.evaluate import evaluate
from fastrl.video import record

pytest.importorskip("pygame")


@pytest.fixture(scope="module")
def agent():
    return fastrl.PPO("CartPole-v1", num_envs=2, num_steps=16, minibatch_size=32, hidden=(8,)).learn(64)


@pytest.fixture
def no_encoder(monkeypatch):
    monkeypatch.setattr(video, "has_encoder", lambda: False)


def test_gif_of_each_episode(agent, tmp_path, no_encoder):
    files, returns = record(agent, tmp_path / "out", episodes=2, seed=5)
    assert [file.name for file in files] == ["CartPole-v1-64-episode0.gif", "CartPole-v1-64-episode1.gif"]
    assert sorted((tmp_path / "out").iterdir()) == files
    np.testing.assert_array_equal(returns, evaluate(agent, 2, seed=5).episode_return)
    for file, episode_return in zip(files, returns, strict=True):
        with Image.open(file) as image:
            assert image.size == (600, 400)
            shown = sum(frame.info["duration"] for frame in ImageSequence.Iterator(image))
            assert shown == 20 * (episode_return + 1)  # ms; equal frames are stored once


def test_mp4_of_each_episode(agent, tmp_path):
    pytest.importorskip("moviepy")
    import imageio_ffmpeg

    files, returns = record(agent, tmp_path, episodes=2, seed=5)
    assert [file.name for file in files] == ["CartPole-v1-64-episode0.mp4", "CartPole-v1-64-episode1.mp4"]
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(files[1])
    assert frames == pytest.approx(returns[1] + 1, abs=1)  # moviepy rounds the clip's length
    assert seconds == pytest.approx(frames / 50, abs=0.05)
    record(agent, tmp_path, episodes=1, seed=6)
    assert sorted(tmp_path.iterdir()) == files


def test_a_gymnasium_environment(tmp_path, no_encoder):
    env = gymnasium.make_vec(
        "MountainCar-v0", 1, vectorization_mode="sync", vector_kwargs={"autoreset_mode": "SameStep"}
    )
    agent = fastrl.PPO(env, num_steps=8, minibatch_size=8, hidden=(8,))
    files, returns = record(agent, tmp_path, episodes=1)
    assert files[0].name == "MountainCar-v0-0-episode0.gif"
    np.testing.assert_array_equal(returns, evaluate(agent, 1).episode_return)


SMALL = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8, "hidden": (8,)}


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        ("CartPole-v1", {"max_episode_steps": 7, "mode": "fast", "num_threads": 2, "validate": False}),
        ("CartPole-v1", {"sutton_barto_reward": True, "autoreset_mode": "Disabled"}),
        ("FrozenLake-v1", {"desc": ["SFF", "FHG"], "max_episode_steps": 30}),  # of 6 states, not 16
    ],
    ids=str,
)
def test_a_compiled_environment_keeps_its_options(env_id, options, tmp_path, capsys, no_encoder):
    """Once the videos were of the environment that the id alone makes."""
    agent = fastrl.PPO(VectorEnv(env_id, 2, **options), **SMALL)
    expected = evaluate(agent, 2).episode_return
    np.testing.assert_array_equal(record(agent, tmp_path, episodes=2)[1], expected)
    run = agent.save(tmp_path / "agent")
    assert main(["video", str(run), "--episodes", "2", "--out", str(tmp_path / "out")]) == 0
    shown = [float(line.split("return ")[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    assert shown == expected.tolist()


def short(render_mode=None):
    return gymnasium.make("CartPole-v1", max_episode_steps=5, render_mode=render_mode)


@pytest.mark.parametrize("make", [short, lambda **options: short(**options), lambda: short("rgb_array")])
def test_what_a_function_makes_is_what_is_drawn(make, tmp_path, no_encoder):
    agent = fastrl.PPO(make, **SMALL)
    np.testing.assert_array_equal(record(agent, tmp_path, episodes=2)[1], [5, 5])


def test_a_function_that_makes_what_its_id_does_needs_no_render_mode(tmp_path, no_encoder):
    agent = fastrl.PPO(lambda: gymnasium.make("CartPole-v1"), **SMALL)
    np.testing.assert_array_equal(record(agent, tmp_path, episodes=1)[1], evaluate(agent, 1).episode_return)


def test_what_is_not_made_to_be_drawn_must_be_given(tmp_path, no_encoder):
    """Not silently replaced by the environment without wrappers and arguments."""
    silent = fastrl.PPO(lambda: short(), **SMALL)
    message = (
        r"draws no frames: its render modes are \['human', 'rgb_array'\], and .* no argument render_mode"
    )
    with pytest.raises(ValueError, match=message):
        record(silent, tmp_path)
    wrapped = fastrl.PPO(ScaleReward(VectorEnv("CartPole-v1", 2), 0.1), **SMALL)
    users = fastrl.PPO(Catch, **SMALL)
    for agent in (wrapped, users):
        with pytest.raises(ValueError, match=f"video: env must be given: nothing known .* {agent.env_id}"):
            record(agent, tmp_path)
    for agent in (silent, wrapped):
        np.testing.assert_array_equal(record(agent, tmp_path, episodes=1, env=short)[1], [5])


def test_command(agent, tmp_path, capsys, no_encoder):
    run = agent.save(tmp_path / "agent")
    assert main(["video", str(run), "--episodes", "1", "--out", str(tmp_path / "out"), "--seed", "5"]) == 0
    out = capsys.readouterr().out
    (made,) = (tmp_path / "out").iterdir()
    assert f"{made}: return " in out
    assert "pip install moviepy" in out
    assert main(["video", str(run), "--episodes", "0"]) == 2
    assert "episodes must be >= 1, got 0" in capsys.readouterr().err
    assert main(["video", str(run), "--best"]) == 2
    assert "has no best checkpoint" in capsys.readouterr().err


def test_what_cannot_be_drawn_is_said(agent, tmp_path, no_encoder, monkeypatch):
    monkeypatch.setattr(agent, "env_id", "NoSuchEnv-v0")
    with pytest.raises(ValueError, match="NoSuchEnv-v0 cannot be drawn"):
        record(agent, tmp_path)
    monkeypatch.setattr(agent, "env_id", "CartPole-v1")
    find = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "pygame" else find(name))
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    with pytest.raises(extras.MissingExtraError, match=r"pygame-ce.* \(extra \[video\]\): pip install"):
        record(agent, tmp_path)
    assert list(tmp_path.iterdir()) == []
