"""The command line, run in this process: what each command does, and one clear error for each mistake."""

import json
import signal

import gymnasium
import pytest

from fastrl import checkpoint, loop
from fastrl.cli import main, parse_seeds
from fastrl.cli.train import _resumable
from fastrl.evaluate import evaluate
from fastrl.loop import Interrupted

SMALL = ["--num-envs", "4", "--num-steps", "16", "--minibatch-size", "32", "--hidden", "16"]
TINY = [*SMALL, "--total-timesteps", "640", "--no-progress"]


@pytest.fixture
def train(tmp_path, capsys):
    def run(*flags):
        assert main(["train", "ppo", "CartPole-v1", *TINY, "--runs", str(tmp_path / "runs"), *flags]) == 0
        (folder,) = (tmp_path / "runs").iterdir()
        return folder, capsys.readouterr().out

    return run


def test_train_prints_folder_and_leaves_everything_in_it(train):
    folder, out = train("--seed", "3")
    assert f"run folder: {folder}" in out
    assert "mean return" in out
    assert "over 100 episodes, deterministic" in out
    assert (folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert f"checkpoint: {folder / 'checkpoints'}" in out
    config = json.loads((folder / "config.json").read_text())
    assert config["algorithm"] == "PPO"
    assert config["env"] == "CartPole-v1"
    assert config["seed"] == 3
    assert config["hidden"] == [16]
    assert folder.name.startswith("ppo-CartPole-v1-seed3-")


def test_config_file_and_flags(train, tmp_path, capsys):
    first, _ = train("--gamma", "0.9")
    saved = tmp_path / "config.json"
    (first / "config.json").rename(saved)
    assert main(["train", "ppo", "CartPole-v1", "--config", str(saved), "--seed", "8", "--no-progress",
                 "--runs", str(tmp_path / "second")]) == 0  # fmt: skip
    (second,) = (tmp_path / "second").iterdir()
    config = json.loads((second / "config.json").read_text())
    assert (config["gamma"], config["seed"], config["num_envs"]) == (0.9, 8, 4)
    toml = tmp_path / "config.toml"
    toml.write_text("gamma = 0.8\nhidden = [8, 8]\n")
    flags = ["--config", str(toml), *TINY[:6], *TINY[8:], "--runs", str(tmp_path / "third")]
    assert main(["train", "ppo", "CartPole-v1", *flags]) == 0
    (third,) = (tmp_path / "third").iterdir()
    config = json.loads((third / "config.json").read_text())
    assert (config["gamma"], config["hidden"]) == (0.8, [8, 8])


def test_a_run_in_which_no_episode_ends_has_no_learning_curve(tmp_path, capsys):
    argv = ["train", "ppo", "MountainCar-v0", *TINY, "--no-preset", "--runs", str(tmp_path)]
    assert main(argv) == 0  # 160 steps of each environment; episodes have 200
    out = capsys.readouterr().out
    assert "learning curve: none, as no training episode ended" in out
    assert "checkpoint: " in out


def test_no_preset_in_either_spelling(train):
    _, out = train("--no_preset")
    assert "preset:" not in out


class Boom(gymnasium.Env):
    """Raises at its third step."""

    observation_space, action_space = gymnasium.spaces.Discrete(2), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        if self.t == 3:
            raise RuntimeError("boom")
        return 0, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        ("0", "environment 0 raised RuntimeError in step, at step 2: boom"),
        ("2", "WorkerVectorEnv step 3: env 0, in worker 0, raised RuntimeError: boom"),
    ],
)
def test_an_environment_that_raises_is_one_error(workers, message, tmp_path, capsys):
    gymnasium.register("Boom-v0", Boom)
    try:
        assert (
            main(["train", "ppo", "Boom-v0", *TINY, "--num-workers", workers, "--runs", str(tmp_path)]) == 2
        )
    finally:
        del gymnasium.registry["Boom-v0"]
    assert capsys.readouterr().err.startswith(f"fastrl: error: {message}")


def test_interrupted_seeds_say_how_each_goes_on(tmp_path, capsys):
    paths = [tmp_path / f"seed{n}" for n in range(3)]
    for path in paths[:2]:  # the third had not begun
        checkpoint.write(path, 0, {}, algorithm="PPO")
    with pytest.raises(Interrupted), _resumable(paths):
        raise Interrupted(signal.SIGINT)
    out = capsys.readouterr().out
    assert [f"resume with: fastrl resume {path}\n" in out for path in paths] == [True, True, False]


def test_seeds_train_in_one_process(train):
    folder, out = train("--seeds", "0..2")
    assert sorted(path.name for path in folder.iterdir()) == ["learning_curve.png", "seed0", "seed1", "seed2"]
    assert checkpoint.read(folder / "seed2").step == 640
    assert all(f"seed{seed}: mean return" in out for seed in range(3))


def test_eval(train, capsys):
    folder, _ = train()
    assert main(["eval", str(folder), "--episodes", "7"]) == 0
    assert "PPO on CartPole-v1 after 640 steps: mean return" in capsys.readouterr().out
    assert main(["eval", str(folder), "--best", "--episodes", "7", "--stochastic"]) == 0
    assert "over 7 episodes" in capsys.readouterr().out


def test_resume(train, capsys):
    folder, _ = train()
    assert main(["resume", str(folder)]) == 0
    assert "--total-timesteps N trains further" in capsys.readouterr().out
    assert main(["resume", str(folder), "--total-timesteps", "1280", "--no-progress"]) == 0
    assert checkpoint.read(folder).step == 1280


def test_resume_keeps_the_intervals_of_the_run(train, monkeypatch):
    """Once it evaluated and checkpointed at a tenth of the run, whatever ``fastrl train`` had been told."""
    flags = {"eval_interval": 192, "eval_episodes": 3, "checkpoint_interval": 320}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    folder, _ = train(*words)
    evaluations = []
    monkeypatch.setattr(
        loop,
        "evaluate",
        lambda agent, episodes: evaluations.append((agent.num_timesteps, episodes)) or evaluate(agent, 1),
    )
    on = ["resume", str(folder), "--no-progress", "--total-timesteps"]
    assert main([*on, "1280"]) == 0
    assert evaluations == [(768, 3), (960, 3), (1152, 3), (1280, 3)]
    evaluations.clear()
    assert main([*on, "1920", "--eval-interval", "320", "--eval-episodes", "2"]) == 0
    assert evaluations == [(1600, 2), (1920, 2)]
    kept = checkpoint.read(folder).state["intervals"]
    assert kept == flags | {"eval_interval": 320, "eval_episodes": 2}  # of the flags as well


def test_runs_of_before_there_were_intervals_resume_with_the_defaults(train, capsys):
    folder, _ = train()
    saved = checkpoint.read(folder)
    older = {name: value for name, value in saved.state.items() if name != "intervals"}
    checkpoint.write(folder, saved.step, older, algorithm="PPO")
    assert main(["resume", str(folder), "--total-timesteps", "704", "--no-progress"]) == 0
    defaults = {"eval_interval": None, "eval_episodes": 20, "checkpoint_interval": None}
    assert checkpoint.read(folder).state["intervals"] == defaults


@pytest.mark.parametrize("flag", ["--eval-interval", "--eval-episodes", "--checkpoint-interval"])
def test_resume_refuses_intervals_below_one(flag, tmp_path, capsys):
    assert main(["resume", str(tmp_path), flag, "0"]) == 2
    name = flag.removeprefix("--").replace("-", "_")
    assert capsys.readouterr().err == f"fastrl: error: learn: {name} must be >= 1, got 0\n"


def test_list_and_help(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "ppo" in out
    assert "CartPole-v1 (version 1)" in out
    assert "CartPole-v1" in out
    for argv in ([], ["--help"], ["train"], ["train", "--help"]):
        main(argv)
        assert "fastrl train" in capsys.readouterr().out
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == "0.1.0"
    with pytest.raises(SystemExit) as stop:
        main(["train", "ppo", "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    for flag in ("--total-timesteps", "--num-envs", "--gae-lambda", "--clip-coef", "--target-kl", "--config"):
        assert flag in out
    assert "(default: 0.95)" in out
    assert "usage: fastrl train ppo [-h] [OPTIONS] ENV" in out
    assert "PPO options" in out
    assert "--eval-interval STEPS" in out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "pppo", "CartPole-v1"], "algorithm must be one of ppo, got 'pppo'"),
        (["train", "ppo", "NoSuchEnv-v1"], "NoSuchEnv"),
        (["train", "ppo", "CartPole-v1", "--seeds", "3..1"], "seeds must be as 0..9 or 1,2,5"),
        (["train", "ppo", "CartPole-v1", "--config", "/nowhere.json"], "/nowhere.json"),
        (
            ["trian"],
            "command must be one of train, resume, eval, plot, video, export, solve, list, doctor, got 'trian'",
        ),
        (["train", "ppo", "CartPole-v1", "--eval-interval", "-5"], "eval_interval must be >= 1, got -5"),
        (["train", "ppo", "CartPole-v1", "--eval-episodes", "0"], "eval_episodes must be >= 1, got 0"),
        (["train", "ppo", "CartPole-v1", "--checkpoint-interval", "0"], "checkpoint_interval must be >= 1"),
        (["train", "ppo", "CartPole-v1", "--seeds", "0,1", "--threads", "0"], "threads must be >= 1, got 0"),
        (["eval", "/nowhere"], "/nowhere"),
        (["resume", "/nowhere"], "/nowhere"),
    ],
)
def test_one_clear_error(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("fastrl: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_flags(capsys):
    for argv, message in (
        (["train", "ppo", "CartPole-v1", "--gama", "0.9"], "--gama"),
        (["train", "ppo", "CartPole-v1", "--gamma", "high"], "gamma"),
        (["train", "ppo", "CartPole-v1", "--gamma", "2"], "gamma must be in [0, 1], got 2.0"),
        (["train", "ppo", "CartPole-v1", "--minibatch-size", "9999"], "minibatch_size must be <="),
        (["train", "ppo", "CartPole-v1", "--seed", "-3"], "seed must be >= 0, got -3"),
        (["train", "ppo"], "ENV"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        assert message.lower() in capsys.readouterr().err.lower()


def test_bad_config_files(tmp_path, capsys):
    bad = tmp_path / "bad.json"
    for text, message in (
        ("{", "is neither JSON nor TOML"),
        ('{"gama": 1}', "unknown fields gama"),
        ('{"gamma": 2}', "gamma must be in [0, 1], got 2"),
        ('{"hidden": 64}', "hidden must be a sequence of int, got 64"),
        ("[1, 2]", "must hold fields by name, got list"),
    ):
        bad.write_text(text)
        assert main(["train", "ppo", "CartPole-v1", "--config", str(bad)]) == 2
        assert message in capsys.readouterr().err


def test_corrupt_checkpoint(train, capsys):
    folder, _ = train()
    for path in (folder / "checkpoints").glob("*/tensors.safetensors"):
        path.write_bytes(path.read_bytes()[:-10])
    assert main(["eval", str(folder)]) == 2
    assert "tensors.safetensors" in capsys.readouterr().err


def test_parse_seeds():
    assert parse_seeds("0..3") == [0, 1, 2, 3]
    assert parse_seeds("5") == [5]
    assert parse_seeds("1,9,4") == [1, 9, 4]
    for text in ("", "a", "1,1", "3..2", "-1", "1..", "1,,2"):
        with pytest.raises(ValueError, match="seeds must be as"):
            parse_seeds(text)
